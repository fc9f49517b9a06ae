//! Figures of a run while it goes on, as Prometheus reads them (`--metrics`).
//!
//! The supervisor serves them, so that the port stays what it is when a worker dies. A worker tells it what it has done, in
//! lines on its standard output, and opens no socket. Without a supervisor the process serves its own.

pub mod address;
pub mod figures;
mod server;
mod text;

use crate::error::JobError;
use crate::log::note;
use figures::{RunFigures, WorkerFigures};
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

/// Power is the mean over at least this time.
const POWER_OVER: Duration = Duration::from_secs(2);

/// The figures of a run, over all starts of its worker.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// What the job had when the first worker of this command began.
    before: Option<RunFigures>,
    /// Of the worker that was heard last, if one has told anything.
    worker: Option<WorkerFigures>,
    restarts: u64,
    /// When energy was looked at, and what it was.
    energy: Option<(Instant, u64)>,
    watts: Option<f64>,
}

impl PartialEq for Metrics {
    fn eq(&self, other: &Metrics) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Metrics {
    /// Serves figures at an address from now on, and prints where. They are empty until somebody tells them.
    ///
    /// # Errors
    /// [`JobError::Io`] if the address cannot be had.
    pub fn serve(address: SocketAddr) -> Result<Metrics, JobError> {
        let wrong = || JobError::io("serve metrics at", address.to_string());
        let listener = TcpListener::bind(address).map_err(wrong())?;
        let served = listener.local_addr().map_err(wrong())?;
        let metrics = Metrics::default();
        server::start(listener, metrics.clone()).map_err(wrong())?;
        let who = if served.ip().is_loopback() { "" } else { ", for all who reach this address" };
        note!("metrics: http://{served}/metrics{who}");
        Ok(metrics)
    }

    /// Takes what the worker has done since it began.
    pub fn tell(&self, figures: WorkerFigures) {
        let Ok(mut state) = self.0.lock() else { return };
        if let Some(now) = figures.microjoules {
            match state.energy {
                Some((then, before)) if now >= before => {
                    let passed = then.elapsed();
                    if passed >= POWER_OVER {
                        state.watts = Some((now - before) as f64 / 1e6 / passed.as_secs_f64());
                        state.energy = Some((Instant::now(), now));
                    }
                }
                _ => state.energy = Some((Instant::now(), now)),
            }
        }
        state.before.get_or_insert_with(|| figures.before.clone());
        state.worker = Some(figures);
    }

    /// Forgets what a worker did that has died; another one begins, and knows what is kept of it.
    pub fn restart(&self) {
        let Ok(mut state) = self.0.lock() else { return };
        state.restarts += 1;
        (state.energy, state.watts) = (None, None);
        state.worker.iter_mut().for_each(WorkerFigures::end);
    }

    /// The figures in the format of Prometheus.
    fn text(&self) -> String {
        let Ok(state) = self.0.lock() else { return String::new() };
        let worker = state.worker.clone().unwrap_or_default();
        let run = worker.job.since(state.before.as_ref().unwrap_or(&worker.job));
        text::text(&run, &worker, state.restarts, state.watts)
    }
}

/// Where a process that works on a job tells its figures.
#[derive(Clone, Debug, Default, PartialEq)]
pub enum MetricsTo {
    #[default]
    Nobody,
    Supervisor,
    Here(Metrics),
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str, name: &str) -> Option<f64> {
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// What this run has done is what the job has and had not, whatever a worker that has died said last.
    #[test]
    fn a_restart_loses_nothing_and_counts_nothing_twice() {
        let metrics = Metrics::default();
        let shown = |name: &str| value(&metrics.text(), &format!("gristmill_{name}"));
        assert_eq!(shown("rows_total"), Some(0.0));
        let job = |rows: u64| RunFigures {
            rows,
            microjoules: Some(1_000_000 * rows),
            errors: [("null prompt".into(), rows / 10)].into(),
            ..RunFigures::default()
        };
        let worker = |before, now| WorkerFigures {
            before: job(before),
            job: job(now),
            running: 3,
            kv_pages_used: 9,
            ..WorkerFigures::default()
        };
        metrics.tell(worker(40, 40));
        assert!(!metrics.text().contains("null prompt"));
        metrics.tell(worker(40, 60));
        assert_eq!((shown("rows_total"), shown("job_rows_finished")), (Some(20.0), Some(60.0)));
        metrics.restart();
        assert_eq!((shown("rows_total"), shown("requests_running")), (Some(20.0), Some(0.0)));
        // Five rows were committed after that was told.
        metrics.tell(worker(65, 65));
        assert_eq!((shown("rows_total"), shown("job_rows_finished")), (Some(25.0), Some(65.0)));
        metrics.tell(worker(65, 70));
        assert_eq!((shown("energy_joules_total"), shown("worker_restarts_total")), (Some(30.0), Some(1.0)));
        let text = metrics.text();
        assert!(text.contains("gristmill_row_errors_total{kind=\"null prompt\"} 3\n"), "{text}");
        assert!(text.ends_with("# EOF\n"));
    }
}
