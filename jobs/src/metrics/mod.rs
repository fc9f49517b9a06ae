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
    /// Of workers that have ended.
    earlier: RunFigures,
    /// Of the worker that runs, if one has told anything.
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
        if let Some(now) = figures.run.microjoules {
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
        state.worker = Some(figures);
    }

    /// Keeps what a worker has done that has died; another one begins.
    pub fn restart(&self) {
        let Ok(mut state) = self.0.lock() else { return };
        state.restarts += 1;
        (state.energy, state.watts) = (None, None);
        if let Some(worker) = &mut state.worker {
            let run = std::mem::take(&mut worker.run);
            worker.end();
            state.earlier.add(&run);
        }
    }

    /// The figures in the format of Prometheus.
    fn text(&self) -> String {
        let Ok(state) = self.0.lock() else { return String::new() };
        let mut run = state.earlier.clone();
        let worker = state.worker.clone().unwrap_or_default();
        run.add(&worker.run);
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

    /// What this run has done goes on over a restart; what the job has is what the last worker says.
    #[test]
    fn a_restart_loses_nothing_and_counts_nothing_twice() {
        let metrics = Metrics::default();
        assert_eq!(value(&metrics.text(), "gristmill_rows_total"), Some(0.0));
        let run = |rows| RunFigures { rows, microjoules: Some(7_000_000), ..RunFigures::default() };
        let worker = |rows, finished| WorkerFigures {
            run: run(rows),
            finished,
            running: 3,
            kv_pages_used: 9,
            ..WorkerFigures::default()
        };
        metrics.tell(worker(10, 50));
        metrics.tell(worker(20, 60));
        let text = metrics.text();
        assert_eq!(
            (value(&text, "gristmill_rows_total"), value(&text, "gristmill_job_rows_finished")),
            (Some(20.0), Some(60.0))
        );
        metrics.restart();
        let text = metrics.text();
        assert_eq!(
            (value(&text, "gristmill_rows_total"), value(&text, "gristmill_requests_running")),
            (Some(20.0), Some(0.0))
        );
        // The last two rows were not committed, and are done again.
        metrics.tell(worker(5, 63));
        let text = metrics.text();
        assert_eq!(
            (value(&text, "gristmill_rows_total"), value(&text, "gristmill_job_rows_finished")),
            (Some(25.0), Some(63.0))
        );
        assert_eq!(
            (value(&text, "gristmill_energy_joules_total"), value(&text, "gristmill_worker_restarts_total")),
            (Some(14.0), Some(1.0))
        );
        assert!(text.ends_with("# EOF\n"));
    }
}
