//! Figures in the text format of Prometheus (OpenMetrics).

use crate::metrics::figures::{RunFigures, WorkerFigures};
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

/// What counters count.
const OF_RUN: &str = "since this command began, over restarts of its worker, as the journal has them";

/// The figures of a run and of the worker that was heard last.
pub fn text(run: &RunFigures, worker: &WorkerFigures, restarts: u64, watts: Option<f64>) -> String {
    let mut registry = Registry::with_prefix("gristmill");
    let counters = [
        ("rows", "Rows finished, errors among them", run.rows),
        ("shared_rows", "Rows that took the answer of another row of the same prompt", run.shared_rows),
        ("input_tokens", "Tokens of prompts of finished rows", run.input_tokens),
        ("generated_tokens", "Tokens generated for finished rows", run.generated_tokens),
        ("prefill_tokens", "Positions computed in steps with prompts", run.prefill_tokens),
        ("decode_tokens", "Positions computed in other steps", run.decode_tokens),
        ("cached_tokens", "Positions of prompts found in cached pages", run.cached_tokens),
        ("preemptions", "Sequences that lost their pages and were computed again", run.preemptions),
        ("steps", "Steps of the engine", run.steps),
    ];
    for (name, help, count) in counters {
        registry.register(name, format!("{help}; {OF_RUN}"), ConstCounter::new(count));
    }
    let help = "Restarts of the worker since this command began";
    registry.register("worker_restarts", help, ConstCounter::new(restarts));
    let errors = Family::<Vec<(String, String)>, Counter>::default();
    for (kind, count) in &run.errors {
        errors.get_or_create(&vec![("kind".into(), kind.clone())]).inc_by(*count);
    }
    registry.register("row_errors", format!("Rows finished with an error; {OF_RUN}"), errors);
    let gauges = [
        ("job_rows", "Rows of the job", worker.rows),
        ("job_rows_finished", "Rows of the job that are finished, by all of its starts", worker.job.rows),
        (
            "job_rows_failed",
            "Rows of the job that are finished with an error, by all of its starts",
            worker.job.errors.values().sum(),
        ),
        ("requests_running", "Requests that share the latest step", worker.running),
        ("requests_waiting", "Requests in the engine's queue now", worker.waiting),
        ("kv_pages", "KV pages of the engine", worker.kv_pages),
        ("kv_pages_used", "KV pages that requests hold in the latest step", worker.kv_pages_used),
    ];
    for (name, help, value) in gauges {
        registry.register(name, help, ConstGauge::new(value as i64));
    }
    if let Some(microjoules) = run.microjoules {
        let joules = ConstCounter::new(microjoules as f64 / 1e6);
        registry.register_with_unit("energy", format!("Energy measured; {OF_RUN}"), Unit::Joules, joules);
    }
    if let Some(watts) = watts {
        let help = "Mean power over the last seconds";
        registry.register_with_unit("power", help, Unit::Other("watts".into()), ConstGauge::new(watts));
    }
    let mut text = String::new();
    // A string takes all.
    let _ = encode(&mut text, &registry);
    text
}
