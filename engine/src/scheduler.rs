//! Which sequences advance in a step, and by how much: plain data in, plain data out.
//!
//! Continuous batching with a token budget: running sequences that decode come first, one token each;
//! the rest of the budget goes to prompts, in chunks. Waiting sequences are admitted in order of arrival
//! while there are enough pages for the projected need of all. When pages run out nevertheless, the
//! sequence admitted last is preempted and recomputed later; by the numeric contract its tokens stay
//! the same.

use crate::constraint::NoToken;
use crate::pages::PagePool;
use crate::request::{Request, Scores};
use crate::sequence::Sequence;
use std::collections::VecDeque;
use std::ops::Range;

/// The limits of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The maximum number of running sequences.
    pub seqs: usize,
    /// Tokens in a step.
    pub tokens: usize,
    /// Positions with logits in a step; at least `seqs`.
    pub outputs: usize,
    /// Logit adjustments in a step; at least those of one sequence.
    pub adjustments: usize,
    /// Tokens whose log-probabilities are asked for in a step; at least those of one position.
    pub targets: usize,
    /// Tokens in a KV page.
    pub page_size: usize,
    /// The longest sequence.
    pub max_len: usize,
    /// Whether cached pages are reused by their content.
    pub prefix_caching: bool,
    /// Whether masks are provided after a step was submitted, so that constrained rows need not wait for them.
    pub late_masks: bool,
}

/// A sequence's part in a step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chunk {
    /// The sequence's place in [`Scheduler::running`] when the step was made.
    pub index: usize,
    /// The sequence.
    pub id: u64,
    /// The first position to compute.
    pub start: usize,
    /// The number of positions.
    pub len: usize,
    /// Positions of the prompt, or of forced tokens, whose token's log-probability is wanted; the logits are those one
    /// before.
    pub score: Range<usize>,
    /// Whether the chunk is of forced tokens.
    pub forced: bool,
    /// The scores of the request that are asked for at positions of the chunk.
    pub asked: Range<usize>,
    /// The targets of those, all together.
    pub targets: usize,
    /// Whether a token is sampled after the last position.
    pub sample: bool,
}

/// The scheduler's state.
#[derive(Debug)]
pub struct Scheduler {
    limits: Limits,
    pool: PagePool,
    waiting: VecDeque<Sequence>,
    running: Vec<Sequence>,
    seq_slots: Vec<u32>,
    /// The mean length of finished answers, for projections; none until one has finished.
    mean_generated: Option<f64>,
    /// Preemptions so far.
    pub preemptions: u64,
    /// Prompt tokens that were found in cached pages.
    pub cached_tokens: u64,
}

impl Scheduler {
    /// A scheduler over `pages` free pages.
    pub fn new(limits: Limits, pages: usize) -> Scheduler {
        Scheduler {
            limits,
            pool: PagePool::new(pages),
            waiting: VecDeque::new(),
            running: Vec::new(),
            seq_slots: (0..limits.seqs as u32).rev().collect(),
            mean_generated: None,
            preemptions: 0,
            cached_tokens: 0,
        }
    }

    /// Queues a request.
    ///
    /// # Errors
    /// Why a request can never be served.
    pub fn add(&mut self, request: Request) -> Result<(), String> {
        let (n, max_len) = (request.prompt.len(), self.limits.max_len);
        if n == 0 {
            return Err("the prompt has no tokens".into());
        }
        if let Some(scores) = &request.scores {
            self.check_scores(scores, n)?;
            self.waiting.push_back(Sequence::new(request));
            return Ok(());
        }
        if n >= max_len {
            return Err(format!(
                "the prompt has {n} tokens, which leaves no room for an answer in max_model_len {max_len}"
            ));
        }
        let longest = max_len.min(n + request.params.max_tokens as usize);
        let needed = longest.div_ceil(self.limits.page_size);
        if needed > self.pool.count() {
            return Err(format!(
                "prompt and answer of up to {longest} tokens need {needed} KV pages; there are {}",
                self.pool.count()
            ));
        }
        self.waiting.push_back(Sequence::new(request));
        Ok(())
    }

    /// Checks that a scored sequence fits.
    fn check_scores(&self, scores: &Scores, prompt: usize) -> Result<(), String> {
        let branches = scores.branches.iter().map(|branch| branch.from + branch.tokens.len());
        let longest = branches.fold(prompt, usize::max);
        if longest > self.limits.max_len {
            let max_len = self.limits.max_len;
            return Err(format!(
                "the prompt has {prompt} tokens, {longest} with its longest continuation; max_model_len is {max_len}"
            ));
        }
        let needed = longest.div_ceil(self.limits.page_size);
        if needed > self.pool.count() {
            let pages = self.pool.count();
            return Err(format!(
                "prompt and continuation of up to {longest} tokens need {needed} KV pages; there are {pages}"
            ));
        }
        let all = scores.prompt.iter().chain(scores.branches.iter().flat_map(|branch| &branch.scores));
        match all.map(|score| score.targets.len()).max() {
            Some(most) if most > self.limits.targets => {
                Err(format!("{most} targets at one position; at most {} fit a step", self.limits.targets))
            }
            _ => Ok(()),
        }
    }

    /// Sequences that wait for admission.
    pub fn waiting(&self) -> usize {
        self.waiting.len()
    }

    /// Sequences that run, oldest first.
    pub fn running(&self) -> &[Sequence] {
        &self.running
    }

    /// The pages.
    pub fn pool(&self) -> &PagePool {
        &self.pool
    }

    /// Whether nothing is left to schedule or to wait for.
    pub fn is_idle(&self) -> bool {
        self.waiting.is_empty() && self.running.is_empty()
    }

    /// Plans the next step. Empty if nothing can advance before a submitted step is done.
    pub fn schedule(&mut self) -> Vec<Chunk> {
        self.publish_pages();
        self.running.iter_mut().for_each(Sequence::turn);
        let mut chunks = Vec::new();
        let mut budget = self.limits;
        let decodes = |s: &Sequence| s.remaining() == 1 && s.walk.is_none();
        let (first, then): (Vec<u64>, Vec<u64>) = (
            self.running.iter().filter(|s| decodes(s)).map(|s| s.id).collect(),
            self.running.iter().filter(|s| !decodes(s)).map(|s| s.id).collect(),
        );
        for id in first.into_iter().chain(then) {
            self.advance(id, &mut budget, &mut chunks);
        }
        while chunks.len() < self.limits.seqs && budget.tokens > 0 && self.admit() {
            let Some(newest) = self.running.last() else { break };
            self.advance(newest.id, &mut budget, &mut chunks);
        }
        // Indexes shift when a sequence is preempted after another was planned.
        for chunk in &mut chunks {
            chunk.index = self.index(chunk.id).unwrap_or(usize::MAX);
        }
        for chunk in &chunks {
            let sequence = &mut self.running[chunk.index];
            sequence.computed = chunk.start + chunk.len;
            sequence.pending += usize::from(chunk.sample);
            if chunk.forced {
                sequence.asked += chunk.score.len();
            } else {
                sequence.prompt_scored = sequence.prompt_scored.max(chunk.score.end);
            }
            if let Some(walk) = &mut sequence.walk {
                walk.submit(&chunk.asked);
            }
        }
        chunks
    }

    fn index(&self, id: u64) -> Option<usize> {
        self.running.iter().position(|s| s.id == id)
    }

    /// Plans a chunk of one running sequence, as long as the budget and the pages allow.
    fn advance(&mut self, id: u64, budget: &mut Limits, chunks: &mut Vec<Chunk>) {
        // It may have been preempted for one before it.
        let Some(index) = self.index(id) else { return };
        let sequence = &self.running[index];
        let (full, unasked) = (sequence.is_full(self.limits.max_len), sequence.unasked());
        if sequence.awaits_host(self.limits.late_masks) || full && unasked.is_none() {
            return;
        }
        if sequence.walk.is_some() {
            return self.advance_scored(index, budget, chunks);
        }
        let start = sequence.computed;
        // The last token of all need not be computed.
        let mut len = (sequence.remaining() - usize::from(full)).min(budget.tokens);
        let scores = sequence.params.prompt_logprobs.is_some();
        if scores || unasked.is_some() {
            len = len.min(budget.outputs.saturating_sub(1));
        }
        let sample = len == sequence.remaining();
        let adjustments = if sample { max_adjustments(sequence) } else { 0 };
        if len == 0 || budget.outputs == 0 || adjustments > budget.adjustments {
            return;
        }
        let score = if let Some(position) = unasked {
            let end = (start + len + 1).min(sequence.known());
            position.min(end)..end
        } else if scores {
            let end = (start + len + 1).min(sequence.prompt_len);
            sequence.prompt_scored.min(end).max(start + 1).min(end)..end
        } else {
            0..0
        };
        if !self.grow(id, start + len, chunks) {
            return;
        }
        budget.tokens -= len;
        budget.outputs -= score.len() + usize::from(sample);
        budget.adjustments -= adjustments;
        let forced = unasked.is_some();
        chunks.push(Chunk { index: 0, id, start, len, score, forced, asked: 0..0, targets: 0, sample });
    }

    /// Plans a chunk of a scored sequence.
    fn advance_scored(&mut self, index: usize, budget: &mut Limits, chunks: &mut Vec<Chunk>) {
        let sequence = &self.running[index];
        let Some(walk) = &sequence.walk else { return };
        let (id, start) = (sequence.id, sequence.computed);
        let wanted = sequence.remaining().min(budget.tokens);
        let (len, asked, targets) = walk.fit(start, wanted, budget.outputs, budget.targets);
        if len < wanted {
            // What does not fit goes first among the scored sequences of the next step: none behind it takes its place.
            budget.targets = targets;
        }
        if len == 0 || !self.grow(id, start + len, chunks) {
            return;
        }
        budget.tokens -= len;
        budget.outputs -= asked.len();
        budget.targets -= targets;
        let (score, forced) = (0..0, false);
        chunks.push(Chunk { index: 0, id, start, len, score, forced, asked, targets, sample: false });
    }

    /// Gives a sequence pages for `len` positions, and preempts the newest sequences if necessary.
    /// False if it was itself the newest.
    fn grow(&mut self, id: u64, len: usize, chunks: &[Chunk]) -> bool {
        let pages = len.div_ceil(self.limits.page_size);
        loop {
            let Some(index) = self.index(id) else { return false };
            if self.running[index].pages.len() >= pages {
                return true;
            }
            if let Some(page) = self.pool.allocate() {
                self.running[index].pages.push(page);
                continue;
            }
            // A sequence that this step already advances keeps its pages.
            let planned = |s: &Sequence| chunks.iter().any(|c| c.id == s.id);
            let Some(victim) = self.running.iter().rfind(|s| !planned(s)).map(|s| s.id) else { return false };
            self.preempt(victim);
        }
    }

    /// Frees the pages of a running sequence and puts it at the head of the queue.
    pub fn preempt(&mut self, id: u64) {
        let Some(index) = self.index(id) else { return };
        let mut sequence = self.running.remove(index);
        self.seq_slots.push(sequence.seq_slot);
        self.release(&mut sequence);
        self.preemptions += 1;
        self.waiting.push_front(sequence);
    }

    /// Frees the last page first, so that the start of a prefix stays cached the longest.
    fn release(&mut self, sequence: &mut Sequence) {
        sequence.pages.drain(..).rev().for_each(|page| self.pool.release(page));
        sequence.computed = 0;
        sequence.published = 0;
    }

    /// Admits the first waiting sequence if there are enough pages for the projected need of all.
    fn admit(&mut self) -> bool {
        let Some(sequence) = self.waiting.front_mut() else { return false };
        // A preempted sequence's last token may still be in flight.
        if self.running.len() >= self.limits.seqs || sequence.pending > 0 {
            return false;
        }
        sequence.turn();
        let page_size = self.limits.page_size;
        let mut cached_pages = Vec::new();
        if self.limits.prefix_caching && sequence.params.prompt_logprobs.is_none() {
            let full = sequence.skippable() / page_size;
            for &hash in sequence.hash_pages(full, page_size) {
                match self.pool.find(hash) {
                    Some(page) => cached_pages.push(page),
                    None => break,
                }
            }
        }
        let sequence = &self.waiting[0];
        let taken = cached_pages.iter().filter(|&&page| self.pool.is_free(page)).count();
        let needed = self.projected_pages(sequence) - cached_pages.len() + taken;
        let promised: usize =
            self.running.iter().map(|s| self.projected_pages(s).saturating_sub(s.pages.len())).sum();
        if needed + promised > self.pool.free() && !self.running.is_empty() {
            return false;
        }
        let Some(mut sequence) = self.waiting.pop_front() else { return false };
        let Some(seq_slot) = self.seq_slots.pop() else { return false };
        sequence.seq_slot = seq_slot;
        cached_pages.iter().for_each(|&page| self.pool.retain(page));
        sequence.computed = cached_pages.len() * page_size;
        sequence.published = cached_pages.len();
        self.cached_tokens += sequence.computed as u64;
        sequence.pages = cached_pages;
        self.running.push(sequence);
        true
    }

    /// The projected number of pages that a sequence will hold at its end.
    fn projected_pages(&self, sequence: &Sequence) -> usize {
        if let Some(walk) = &sequence.walk {
            return walk.longest().div_ceil(self.limits.page_size);
        }
        let max_tokens = sequence.params.max_tokens as usize;
        let likely = self.mean_generated.map_or(max_tokens, |mean| (mean * 1.25) as usize + 1);
        let answer = likely.min(max_tokens).max(sequence.generated() + 1);
        (sequence.prompt_len + answer).min(self.limits.max_len).div_ceil(self.limits.page_size)
    }

    /// Publishes full pages of known tokens, so that other sequences can reuse them.
    fn publish_pages(&mut self) {
        if !self.limits.prefix_caching {
            return;
        }
        let page_size = self.limits.page_size;
        for sequence in &mut self.running {
            let full = sequence.kept() / page_size;
            if full > sequence.published {
                let hashes = sequence.hash_pages(full, page_size).to_vec();
                let filled = sequence.pages.iter().zip(hashes);
                for (&page, hash) in filled.skip(sequence.published) {
                    self.pool.publish(page, hash);
                }
                sequence.published = full;
            }
        }
    }

    /// All sequences, running or waiting.
    pub fn sequences_mut(&mut self) -> impl Iterator<Item = &mut Sequence> {
        self.running.iter_mut().chain(&mut self.waiting)
    }

    /// The sequence, running or waiting.
    pub fn sequence(&self, id: u64) -> Option<&Sequence> {
        self.running.iter().chain(&self.waiting).find(|s| s.id == id)
    }

    /// Lets sequences whose next token is being sampled go on with all tokens that their constraints force.
    pub fn force(&mut self, ids: &[u64]) {
        let max_len = self.limits.max_len;
        self.sequences_mut().filter(|s| ids.contains(&s.id)).for_each(|s| s.force(max_len));
    }

    /// Why the constraint of a sequence cannot go on, if it cannot and every token before is reported.
    pub fn take_failure(&mut self, id: u64) -> Option<NoToken> {
        self.sequences_mut().find(|s| s.id == id && s.ahead.is_empty())?.failed.take()
    }

    /// Adds a sampled token. False if the sequence has already ended, so that the token is dropped.
    pub fn accept(&mut self, id: u64, token: u32) -> bool {
        let Some(sequence) = self.running.iter_mut().chain(&mut self.waiting).find(|s| s.id == id) else {
            return false;
        };
        sequence.accept(token);
        true
    }

    /// Ends a sequence and frees its pages. Submitted steps may still write them; steps take effect in
    /// order, so the next owner writes later.
    pub fn finish(&mut self, id: u64) {
        let ended = if let Some(index) = self.index(id) {
            let sequence = self.running.remove(index);
            self.seq_slots.push(sequence.seq_slot);
            Some(sequence)
        } else {
            let index = self.waiting.iter().position(|s| s.id == id);
            index.and_then(|i| self.waiting.remove(i))
        };
        let Some(mut sequence) = ended else { return };
        if sequence.walk.is_none() {
            let generated = (sequence.tokens.len() - sequence.prompt_len) as f64;
            let mean = self.mean_generated.unwrap_or(generated);
            self.mean_generated = Some(mean + (generated - mean) / 32.0);
        }
        self.release(&mut sequence);
    }

    /// Withdraws all cached pages, as if the cache were cold.
    pub fn forget_pages(&mut self) {
        self.pool.forget();
    }
}

/// The maximum number of adjustments for a sequence's next token: one for each distinct token that they name.
pub fn max_adjustments(sequence: &Sequence) -> usize {
    let p = &sequence.params;
    let history = if p.needs_history() { sequence.len() } else { 0 };
    let stops = if sequence.generated() < p.min_tokens as usize { p.stop_token_ids.len() } else { 0 };
    history + p.logit_bias.len() + p.bad_words.len() + stops
}
