//! What an engine has done.

use std::time::Duration;

/// What the engine has done so far.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stats {
    /// Steps that are done.
    pub steps: u64,
    /// Positions computed in steps that computed prompts, recomputed ones and those of rows that decoded beside them
    /// among them.
    pub prefill_tokens: u64,
    /// Positions computed in steps that only decoded. The step after a row's last token is among them.
    pub decode_tokens: u64,
    /// Prompt positions found in pages instead.
    pub cached_tokens: u64,
    /// Sequences that lost their pages and were computed again.
    pub preemptions: u64,
    /// Time in steps that computed prompts (also where others decoded beside them).
    pub prefill_time: Duration,
    /// Time in steps that only decoded.
    pub decode_time: Duration,
    /// What steps that computed prompts would have taken at the rates that [`crate::Engine::compare_with`] was given.
    pub prefill_bound: Duration,
    /// The same of steps that only decoded.
    pub decode_bound: Duration,
    /// Time the host took to make steps and to take in their results.
    pub host_time: Duration,
    /// The peak of KV pages in use.
    pub peak_pages: usize,
    /// Sum over steps of the pages in use: divided by steps, the mean.
    pub page_steps: u64,
}

impl Stats {
    /// What was done since `before`; the peak is that of all.
    #[must_use]
    pub fn since(&self, before: &Stats) -> Stats {
        Stats {
            steps: self.steps - before.steps,
            prefill_tokens: self.prefill_tokens - before.prefill_tokens,
            decode_tokens: self.decode_tokens - before.decode_tokens,
            cached_tokens: self.cached_tokens - before.cached_tokens,
            preemptions: self.preemptions - before.preemptions,
            prefill_time: self.prefill_time - before.prefill_time,
            decode_time: self.decode_time - before.decode_time,
            prefill_bound: self.prefill_bound - before.prefill_bound,
            decode_bound: self.decode_bound - before.decode_bound,
            host_time: self.host_time - before.host_time,
            peak_pages: self.peak_pages,
            page_steps: self.page_steps - before.page_steps,
        }
    }
}

/// How full a step is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Occupancy {
    /// Sequences that share it.
    pub seqs: usize,
    /// KV pages in use.
    pub pages: usize,
}
