//! The loop: scheduler, step, device, scheduler.
//!
//! The host runs one step ahead of the device: while a step runs, the next one is made and submitted,
//! with tokens that only the device knows. A row that ends is noticed one step late, at the price of one
//! wasted token.

mod capacity;
mod config;
mod layout;
mod stats;
mod step_costs;
mod step_times;

pub use capacity::Capacity;
pub use config::{EngineConfig, Types};
pub use stats::{Occupancy, Stats};
pub use step_costs::{StepCosts, StepLoad};
pub use step_times::{OpsTime, StepShape, StepTimes};

use crate::buffer::Dims;
use crate::device::{Device, DeviceError, Peaks, PlanId, Ticket};
use crate::error::EngineError;
use crate::models::Model;
use crate::plan::Plan;
use crate::request::{Event, FinishReason, Request, TokenLogprobs};
use crate::sampling::{masks, push_sample, push_score, push_targets};
use crate::scheduler::{Chunk, Limits, Scheduler};
use crate::step::{Sampled, Step, StepOutput, from_last};
use layout::Layout;
use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// A step that was submitted.
struct InFlight {
    ticket: Ticket,
    chunks: Vec<Chunk>,
    prefill: usize,
    /// What it would take at the rates to compare with.
    bound: Duration,
}

/// A loaded model on a device.
pub struct Engine {
    device: Box<dyn Device>,
    plan: Plan,
    compiled: PlanId,
    max_dims: Dims,
    types: Types,
    limits: Limits,
    vocab: usize,
    scheduler: Scheduler,
    /// Whether forced tokens are computed together.
    force_tokens: bool,
    in_flight: VecDeque<InFlight>,
    /// When the device was last seen to finish a step, or to get one while it had none.
    marked: Instant,
    stats: Stats,
    /// Of the step that was submitted last.
    occupancy: Occupancy,
    /// What steps are compared with.
    peaks: Option<Peaks>,
}

impl Engine {
    /// Compiles a model for a device and loads its weights.
    ///
    /// # Errors
    /// Options that do not fit, memory that does not suffice, files that cannot be read.
    pub fn new(
        model: &Model,
        mut device: Box<dyn Device>,
        config: &EngineConfig,
    ) -> Result<Engine, EngineError> {
        let Layout { decoder, limits, types, mut max_dims, rest: _ } =
            Layout::new(model, device.as_ref(), config)?;
        let compiled = compile(device.as_mut(), &decoder.plan, &mut max_dims, config)?;
        model.load(device.as_mut(), compiled, &decoder)?;
        Ok(Engine {
            device,
            compiled,
            max_dims,
            types: Types {
                activations: types.activations,
                kv: types.kv[0],
                weights: decoder.weight_formats(),
            },
            plan: decoder.plan,
            limits,
            vocab: model.config.vocab,
            scheduler: Scheduler::new(limits, max_dims.pages),
            force_tokens: config.force_tokens,
            in_flight: VecDeque::new(),
            marked: Instant::now(),
            stats: Stats::default(),
            occupancy: Occupancy::default(),
            peaks: None,
        })
    }

    /// The limits that the options resolved to.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// KV pages in all.
    pub fn pages(&self) -> usize {
        self.max_dims.pages
    }

    /// How full the step is that was submitted last; empty while the engine is idle. Between two steps, what has ended
    /// has made room that is not filled yet.
    pub fn occupancy(&self) -> Occupancy {
        if self.is_idle() { Occupancy::default() } else { self.occupancy }
    }

    /// The types that model, device and options resolved to.
    pub fn types(&self) -> &Types {
        &self.types
    }

    /// The device.
    pub fn device(&self) -> &dyn Device {
        self.device.as_ref()
    }

    /// What has been done so far.
    pub fn stats(&self) -> Stats {
        Stats {
            cached_tokens: self.scheduler.cached_tokens,
            preemptions: self.scheduler.preemptions,
            ..self.stats
        }
    }

    /// The scheduler, for tests that force preemptions.
    pub fn scheduler_mut(&mut self) -> &mut Scheduler {
        &mut self.scheduler
    }

    /// Queues a request.
    ///
    /// # Errors
    /// [`EngineError::Request`] if it can never be served.
    pub fn add(&mut self, request: Request) -> Result<(), EngineError> {
        request.params.check(self.vocab).map_err(EngineError::Request)?;
        if let Some(scores) = &request.scores {
            scores.check(request.prompt.len(), self.vocab).map_err(EngineError::Request)?;
        }
        if let Some(token) = request.prompt.iter().find(|&&t| t as usize >= self.vocab) {
            let why = format!("prompt token {token} is beyond the vocabulary of {}", self.vocab);
            return Err(EngineError::Request(why));
        }
        let p = &request.params;
        let history = if p.needs_history() { request.prompt.len() + p.max_tokens as usize } else { 0 };
        let named = history.min(self.vocab) + p.logit_bias.len() + p.bad_words.len() + p.stop_token_ids.len();
        if named > self.limits.adjustments {
            let why = format!(
                "the row's penalties, biases and bans name {named} tokens; at most {} fit",
                self.limits.adjustments
            );
            return Err(EngineError::Request(why));
        }
        self.scheduler.add(request).map_err(EngineError::Request)
    }

    /// Ends a request at the caller's wish (a stop string); nothing more is reported of it.
    pub fn stop(&mut self, id: u64) {
        self.scheduler.finish(id);
    }

    /// Requests that wait to be admitted.
    pub fn waiting(&self) -> usize {
        self.scheduler.waiting()
    }

    /// Requests that are being worked on.
    pub fn running(&self) -> usize {
        self.scheduler.running().len()
    }

    /// Whether all requests are finished.
    pub fn is_idle(&self) -> bool {
        self.scheduler.is_idle() && self.in_flight.is_empty()
    }

    /// Submits the next step, waits for the one before it, and reports what that has brought.
    ///
    /// # Errors
    /// [`EngineError::Device`]; the engine is of no use afterwards.
    pub fn step(&mut self) -> Result<Vec<Event>, EngineError> {
        let begun = Instant::now();
        let chunks = self.scheduler.schedule();
        let advanced = !chunks.is_empty();
        let mut late = None;
        if advanced {
            let (step, masked) = self.build(&chunks);
            let is_prefill = |c: &&Chunk| !c.forced && (c.len > 1 || !c.sample);
            let prefill = chunks.iter().filter(is_prefill).map(|c| c.len).sum();
            let bound = self.bound(&step);
            let ticket = self.device.submit(self.compiled, &step)?;
            late = (step.late_masks > 0).then_some(masked);
            if self.in_flight.is_empty() {
                self.marked = begun;
            }
            let pages = self.scheduler.pool().count() - self.scheduler.pool().free();
            self.occupancy = Occupancy { seqs: chunks.len(), pages };
            self.stats.peak_pages = self.stats.peak_pages.max(pages);
            self.stats.page_steps += pages as u64;
            self.in_flight.push_back(InFlight { ticket, chunks, prefill, bound });
        }
        self.stats.host_time += begun.elapsed();
        if advanced && self.in_flight.len() < 2 {
            self.provide(late)?;
            return Ok(Vec::new());
        }
        let Some(done) = self.in_flight.pop_front() else { return Ok(Vec::new()) };
        let output = self.device.wait(done.ticket)?;
        let waited = Instant::now();
        let time = waited - self.marked;
        self.marked = waited;
        self.stats.steps += 1;
        let tokens: usize = done.chunks.iter().map(|c| c.len).sum();
        let stats = &mut self.stats;
        // Tokens and time of the same steps, so that one over the other is a rate.
        let (all, took, bound) = match done.prefill {
            0 => (&mut stats.decode_tokens, &mut stats.decode_time, &mut stats.decode_bound),
            _ => (&mut stats.prefill_tokens, &mut stats.prefill_time, &mut stats.prefill_bound),
        };
        *all += tokens as u64;
        *took += time;
        *bound += done.bound;
        let events = self.take_in(&done.chunks, &output);
        self.provide(late)?;
        self.stats.host_time += waited.elapsed();
        Ok(events)
    }

    /// What a step would take at the rates to compare with; nothing without any.
    fn bound(&self, step: &Step) -> Duration {
        let Some(peaks) = &self.peaks else { return Duration::ZERO };
        let dims = Dims { pages: self.max_dims.pages, ..step.dims() };
        Duration::try_from_secs_f64(step_costs::bound(&self.plan, &dims, peaks)).unwrap_or_default()
    }

    /// Hands in the masks of the step that was submitted last, where it waits for them: now every token before it is
    /// known.
    fn provide(&mut self, masked: Option<Vec<u64>>) -> Result<(), EngineError> {
        let Some(masked) = masked else { return Ok(()) };
        let masks = self.masks(&masked);
        let Some(step) = self.in_flight.back() else { return Ok(()) };
        Ok(self.device.provide(&step.ticket, &masks)?)
    }

    /// The masks of the next tokens of sequences. Those that must be followed by certain tokens go on with them.
    fn masks(&mut self, masked: &[u64]) -> Vec<u32> {
        let masks = masks(&mut self.scheduler, masked, self.vocab);
        if self.force_tokens {
            self.scheduler.force(masked);
        }
        masks
    }

    /// The device's inputs for these chunks, and the sequences that its masks are for.
    fn build(&mut self, chunks: &[Chunk]) -> (Step, Vec<u64>) {
        let (page_size, pages_per_seq) = (self.max_dims.page_size, self.max_dims.pages_per_seq);
        let mut step = Step { page_size, pages_per_seq, query_start: vec![0], ..Step::default() };
        let (mut masked, mut late) = (Vec::new(), false);
        step.mask_words = self.vocab.div_ceil(32);
        for chunk in chunks {
            let sequence = &self.scheduler.running()[chunk.index];
            let first = step.tokens.len();
            for position in chunk.start..chunk.start + chunk.len {
                step.tokens.push(sequence.token(position).unwrap_or(from_last(sequence.seq_slot)));
                step.positions.push(position as u32);
                let page = sequence.pages[position / page_size] as usize;
                step.kv_slots.push((page * page_size + position % page_size) as u32);
            }
            step.query_start.push(step.tokens.len() as u32);
            let used = sequence.pages.len();
            step.block_tables.extend_from_slice(&sequence.pages);
            step.block_tables.extend(std::iter::repeat_n(0, pages_per_seq - used));
            for position in chunk.score.clone() {
                let row = (first + position - 1 - chunk.start) as u32;
                let p = &sequence.params;
                let logprobs = if chunk.forced { p.logprobs } else { p.prompt_logprobs.unwrap_or(0) };
                let Some(token) = sequence.token(position) else { continue };
                push_score(&mut step, row, token, logprobs);
            }
            if let Some(walk) = &sequence.walk {
                for score in walk.scores(chunk.asked.clone()) {
                    push_targets(&mut step, (first + score.position - chunk.start) as u32, &score.targets);
                }
            }
            if chunk.sample {
                let last = step.tokens.len() as u32 - 1;
                let mask = sequence.is_masked().then(|| {
                    masked.push(sequence.id);
                    masked.len() as u32 - 1
                });
                push_sample(&mut step, last, sequence, chunk.start + chunk.len, mask);
                late |= sequence.awaits_mask();
            }
        }
        if late {
            step.late_masks = masked.len();
        } else {
            step.masks = self.masks(&masked);
        }
        (step, masked)
    }

    /// Takes in the outputs of a step, chunk by chunk.
    fn take_in(&mut self, chunks: &[Chunk], output: &StepOutput) -> Vec<Event> {
        let mut events = Vec::new();
        let mut sampled = output.sampled.iter();
        let mut targets = output.target_logprobs.as_slice();
        for chunk in chunks {
            let scored: Vec<&Sampled> = sampled.by_ref().take(chunk.score.len()).collect();
            // A row that only reports targets has chosen nothing.
            sampled.by_ref().take(chunk.asked.len()).for_each(drop);
            let reported;
            (reported, targets) = targets.split_at(chunk.targets.min(targets.len()));
            let token = if chunk.sample { sampled.next() } else { None };
            if chunk.forced {
                scored.iter().for_each(|token| self.take_token(chunk.id, token, &mut events));
            }
            let scored = if chunk.forced { Vec::new() } else { scored };
            let Some(sequence) = self.scheduler.sequence(chunk.id) else { continue };
            if !scored.is_empty() {
                let n = sequence.params.prompt_logprobs.unwrap_or(0);
                let logprobs = scored.iter().map(|s| logprobs(s, n)).collect();
                events.push(Event::Prompt { id: chunk.id, start: chunk.score.start, logprobs });
            }
            if scored.iter().any(|s| s.logprob.is_nan()) {
                self.end(chunk.id, FinishReason::NotFinite, None, &mut events);
            } else if let Some(token) = token {
                self.take_token(chunk.id, token, &mut events);
            } else if !chunk.asked.is_empty() {
                self.take_scores(chunk, reported, &mut events);
            }
        }
        events
    }

    /// Takes in the log-probabilities that a chunk reports, and ends the sequence if they are its last.
    fn take_scores(&mut self, chunk: &Chunk, mut reported: &[f32], events: &mut Vec<Event>) {
        let Some(walk) = self.scheduler.sequence(chunk.id).and_then(|s| s.walk.as_ref()) else { return };
        let last = walk.ends_with(&chunk.asked);
        let mut logprobs = Vec::with_capacity(chunk.asked.len());
        for score in walk.scores(chunk.asked.clone()) {
            let (these, rest) = reported.split_at(score.targets.len().min(reported.len()));
            logprobs.push(these.to_vec());
            reported = rest;
        }
        if logprobs.iter().flatten().any(|logprob| logprob.is_nan()) {
            return self.end(chunk.id, FinishReason::NotFinite, None, events);
        }
        events.push(Event::Scores { id: chunk.id, logprobs });
        if last {
            self.end(chunk.id, FinishReason::Scored, None, events);
        }
    }

    /// Takes in a sampled token and ends the sequence if it is time.
    fn take_token(&mut self, id: u64, sampled: &Sampled, events: &mut Vec<Event>) {
        if let Some(why) = self.scheduler.take_failure(id) {
            self.scheduler.finish(id);
            return events.push(Event::DeadEnd { id, why });
        }
        if !self.scheduler.accept(id, sampled.token) {
            return;
        }
        let Some(sequence) = self.scheduler.sequence(id) else { return };
        let params = &sequence.params;
        let generated = sequence.tokens.len() - sequence.prompt_len;
        let full = generated >= params.max_tokens as usize || sequence.tokens.len() >= self.limits.max_len;
        let ended =
            sequence.ahead.is_empty() && sequence.matcher.as_ref().is_some_and(|matcher| matcher.is_ended());
        if sampled.logprob.is_nan() {
            self.end(id, FinishReason::NotFinite, None, events);
        } else if params.stop_token_ids.contains(&sampled.token) {
            self.end(id, FinishReason::Stop, Some(sampled.token), events);
        } else {
            events.push(Event::Token { id, token: logprobs(sampled, params.logprobs) });
            if ended {
                self.end(id, FinishReason::Stop, None, events);
            } else if full {
                self.end(id, FinishReason::Length, None, events);
            }
        }
    }

    fn end(&mut self, id: u64, reason: FinishReason, stop_token: Option<u32>, events: &mut Vec<Event>) {
        self.scheduler.finish(id);
        events.push(Event::Finished { id, reason, stop_token });
    }
}

fn logprobs(sampled: &Sampled, n: u32) -> TokenLogprobs {
    let top = sampled.top_tokens.iter().copied().zip(sampled.top_logprobs).take(n as usize);
    TokenLogprobs { token: sampled.token, logprob: sampled.logprob, top: top.collect() }
}

/// Compiles the plan, with fewer KV pages if the device has less memory than it said: another program may have taken
/// some, or it lies in pieces.
fn compile(
    device: &mut dyn Device,
    plan: &Plan,
    max_dims: &mut Dims,
    config: &EngineConfig,
) -> Result<PlanId, EngineError> {
    loop {
        let error = match device.compile(plan, max_dims) {
            Ok(plan) => return Ok(plan),
            Err(error) => error,
        };
        let fewer = max_dims.pages - max_dims.pages.div_ceil(8);
        // A number of bytes that was asked for is not made smaller without a word.
        let shrinks = config.kv_cache_bytes.is_none() && fewer >= max_dims.pages_per_seq;
        if !shrinks || !matches!(error, DeviceError::OutOfMemory { .. }) {
            return Err(error.into());
        }
        tracing::warn!("{error}; {fewer} KV pages in place of {}", max_dims.pages);
        max_dims.pages = fewer;
    }
}
