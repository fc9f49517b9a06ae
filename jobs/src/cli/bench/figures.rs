//! What a run of the benchmark measured.

use super::percentiles::Percentiles;
use crate::journal::costs::Energy;
use crate::options::engine::EngineOptions;
use crate::receipt::money::{Money, Prices, Work, amount};
use engine::{Engine, Stats};
use serde::Serialize;
use std::time::Duration;

/// What was measured.
pub struct Run {
    /// What warmed up before, which is in no other figure.
    pub warmup: Duration,
    /// Of the run alone.
    pub stats: Stats,
    pub step_times: Vec<Duration>,
    /// From the beginning to the last token of each request: all are given at once.
    pub latencies: Vec<Duration>,
    /// Or why it was not measured.
    pub energy: Result<Energy, String>,
    pub elapsed: Duration,
    pub first_token: Duration,
    pub requests: usize,
    pub prompt_tokens: u64,
    pub output_tokens: u64,
}

/// What `--output-json` holds. Times are in seconds.
#[derive(Debug, Serialize)]
pub struct Figures {
    pub elapsed_time: f64,
    pub num_requests: usize,
    pub total_num_tokens: u64,
    pub requests_per_second: f64,
    /// Prompt and generated tokens together, vLLM's name.
    pub tokens_per_second: f64,
    pub total_tokens_per_second: f64,
    pub output_tokens_per_second: f64,
    pub num_prompt_tokens: u64,
    pub num_output_tokens: u64,
    pub load_time: f64,
    /// Before the clock started.
    pub warmup_time: f64,
    pub time_to_first_token: f64,
    /// In steps that computed prompts, also where other rows decoded beside them.
    pub prefill_time: f64,
    pub prefill_tokens_per_second: f64,
    /// In steps that only decoded.
    pub decode_time: f64,
    pub decode_tokens_per_second: f64,
    pub cached_tokens: u64,
    pub preemptions: u64,
    pub kv_pages: usize,
    pub kv_peak_occupancy: f64,
    pub kv_mean_occupancy: f64,
    pub steps: u64,
    pub host_seconds_per_step: f64,
    pub step_time_percentiles_ms: Percentiles,
    /// From when all requests were given to the last token of each, TensorRT-LLM's name.
    pub request_latency_percentiles_ms: Percentiles,
    pub device: String,
    pub gemm: String,
    float32_matmul_precision: String,
    pub model: String,
    /// What was measured of the energy, or why not.
    pub energy: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// For each million tokens, of prompts and answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_per_million_tokens: Option<f64>,
    /// The mean power.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// Money for each million tokens, of prompts and answers together, if a price was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money_per_million_tokens: Option<f64>,
}

impl Figures {
    /// The figures of a run.
    pub fn new(
        engine: &Engine,
        run: &Run,
        load: Duration,
        model: String,
        args: &EngineOptions,
        price_per_hour: Option<f64>,
    ) -> Figures {
        let stats = run.stats;
        let Stats { steps, prefill_tokens, decode_tokens, prefill_time, decode_time, .. } = stats;
        let joules = run.energy.as_ref().ok().map(|energy| energy.microjoules as f64 / 1e6);
        let per = |count: f64| joules.filter(|_| count > 0.0).map(|joules| joules / count);
        let ms =
            |times: &[Duration]| Percentiles::of(times.iter().map(|time| 1e3 * time.as_secs_f64()).collect());
        let rate = |n: u64, time: Duration| if time.is_zero() { 0.0 } else { n as f64 / time.as_secs_f64() };
        let total = run.prompt_tokens + run.output_tokens;
        let pages = engine.pages().max(1) as f64;
        Figures {
            elapsed_time: run.elapsed.as_secs_f64(),
            num_requests: run.requests,
            total_num_tokens: total,
            requests_per_second: rate(run.requests as u64, run.elapsed),
            tokens_per_second: rate(total, run.elapsed),
            total_tokens_per_second: rate(total, run.elapsed),
            output_tokens_per_second: rate(run.output_tokens, run.elapsed),
            num_prompt_tokens: run.prompt_tokens,
            num_output_tokens: run.output_tokens,
            load_time: load.as_secs_f64(),
            warmup_time: run.warmup.as_secs_f64(),
            time_to_first_token: run.first_token.as_secs_f64(),
            prefill_time: prefill_time.as_secs_f64(),
            prefill_tokens_per_second: rate(prefill_tokens, prefill_time),
            decode_time: decode_time.as_secs_f64(),
            decode_tokens_per_second: rate(decode_tokens, decode_time),
            cached_tokens: stats.cached_tokens,
            preemptions: stats.preemptions,
            kv_pages: engine.pages(),
            kv_peak_occupancy: stats.peak_pages as f64 / pages,
            kv_mean_occupancy: stats.page_steps as f64 / steps.max(1) as f64 / pages,
            steps,
            host_seconds_per_step: stats.host_time.as_secs_f64() / steps.max(1) as f64,
            step_time_percentiles_ms: ms(&run.step_times),
            request_latency_percentiles_ms: ms(&run.latencies),
            energy: match &run.energy {
                Ok(energy) => energy.source.clone(),
                Err(why) => format!("not measured: {why}"),
            },
            joules,
            joules_per_million_tokens: per(total as f64 / 1e6),
            watts: per(run.elapsed.as_secs_f64()),
            device: engine.device().info().name.clone(),
            gemm: format!("{:?}", args.gemm).to_lowercase(),
            float32_matmul_precision: format!("{:?}", args.float32_matmul_precision).to_lowercase(),
            model,
            money_per_million_tokens: Money::of(
                Prices { per_hour: price_per_hour, elsewhere: None },
                &Work {
                    active_seconds: run.elapsed.as_secs_f64(),
                    answered_rows: run.requests as u64,
                    input_tokens: run.prompt_tokens,
                    generated_tokens: run.output_tokens,
                },
            )
            .per_million_tokens,
        }
    }

    /// The figures, in five lines, and one of money if there is a price.
    pub fn lines(&self) -> String {
        let requests = format!(
            "Throughput: {:.2} requests/s, {:.2} total tokens/s, {:.2} output tokens/s",
            self.requests_per_second, self.total_tokens_per_second, self.output_tokens_per_second
        );
        let parts = format!(
            "Prefill: {:.2} tokens/s in {:.2} s; decode: {:.2} tokens/s in {:.2} s\n\
             KV pages: {:.1} % at most; host: {:.3} ms a step",
            self.prefill_tokens_per_second,
            self.prefill_time,
            self.decode_tokens_per_second,
            self.decode_time,
            100.0 * self.kv_peak_occupancy,
            1000.0 * self.host_seconds_per_step
        );
        let money = self.money_per_million_tokens;
        let money = money.map(|money| format!("Money: {} for each million tokens\n", amount(money)));
        let step = self.step_time_percentiles_ms;
        let steps = format!(
            "Step: median {:.3} ms, 90 % up to {:.3}, 99 % up to {:.3}; warm-up, apart: {:.2} s",
            step.p50, step.p90, step.p99, self.warmup_time
        );
        let energy = match (self.joules, self.joules_per_million_tokens, self.watts) {
            (Some(joules), Some(tokens), Some(watts)) => {
                format!(
                    "{joules:.1} J, {tokens:.1} J for each million tokens, {watts:.1} W ({})",
                    self.energy
                )
            }
            _ => self.energy.clone(),
        };
        format!("{requests}\n{parts}\n{steps}\nEnergy: {energy}\n{}", money.unwrap_or_default())
    }
}
