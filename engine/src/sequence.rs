//! A request in the scheduler.

use crate::constraint::{Matcher, NoToken};
use crate::pages::{PageId, PrefixHash};
use crate::request::{Request, SamplingParams};
use crate::walk::Walk;
use std::collections::VecDeque;

/// A request with its known tokens and its computed positions.
#[derive(Debug)]
pub struct Sequence {
    /// The request's id.
    pub id: u64,
    /// How to choose its tokens.
    pub params: SamplingParams,
    /// The prompt, and the generated tokens that the host knows; of a scored sequence the tokens under way.
    pub tokens: Vec<u32>,
    /// The number of prompt tokens.
    pub prompt_len: usize,
    /// Tokens that its constraint forces: they follow the known ones, and their log-probabilities are not known yet.
    pub ahead: VecDeque<u32>,
    /// How many of those a submitted step reports.
    pub asked: usize,
    /// Tokens that a submitted step is sampling: the host does not know them yet.
    pub pending: usize,
    /// Leading positions whose keys and values are computed by submitted steps.
    pub computed: usize,
    /// The pages of those positions.
    pub pages: Vec<PageId>,
    /// Hashes of the full pages of known tokens, as far as they were needed.
    pub hashes: Vec<PrefixHash>,
    /// How many of the pages have been published.
    pub published: usize,
    /// Where the device keeps its last token, while it runs.
    pub seq_slot: u32,
    /// Prompt positions whose log-probabilities have been submitted.
    pub prompt_scored: usize,
    /// Follows the answer through the request's constraint.
    pub matcher: Option<Box<dyn Matcher>>,
    /// Why its constraint cannot go on. It ends when the token is there for which it had to.
    pub failed: Option<NoToken>,
    /// What a sequence has to do that is scored and generates nothing.
    pub walk: Option<Walk>,
}

impl Sequence {
    /// A sequence without computed positions.
    pub fn new(request: Request) -> Sequence {
        let walk = request.scores.map(|scores| Walk::new(request.prompt.len(), scores));
        // A scored sequence is not sampled: no parameter of that may hold it up.
        let params = if walk.is_some() { SamplingParams::default() } else { request.params };
        let constraint = request.constraint.filter(|_| walk.is_none());
        Sequence {
            id: request.id,
            params,
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            ahead: VecDeque::new(),
            asked: 0,
            pending: 0,
            computed: 0,
            pages: Vec::new(),
            hashes: Vec::new(),
            published: 0,
            seq_slot: 0,
            prompt_scored: 1,
            matcher: constraint.map(|constraint| constraint.matcher()),
            failed: None,
            walk,
        }
    }

    /// The number of tokens, known, forced or being sampled.
    pub fn len(&self) -> usize {
        self.known() + self.pending
    }

    /// The number of tokens that are known or forced.
    pub fn known(&self) -> usize {
        self.tokens.len() + self.ahead.len()
    }

    /// The token at a position, if it is known or forced.
    pub fn token(&self, position: usize) -> Option<u32> {
        let ahead = || self.ahead.get(position - self.tokens.len()).copied();
        self.tokens.get(position).copied().or_else(ahead)
    }

    /// The first position with a token whose report no step was asked for.
    pub fn unasked(&self) -> Option<usize> {
        (self.asked < self.ahead.len()).then(|| self.tokens.len() + self.asked)
    }

    /// The answer's tokens that are known or forced.
    pub fn answer(&self) -> Vec<u32> {
        self.tokens[self.prompt_len..].iter().chain(&self.ahead).copied().collect()
    }

    /// Whether there are no tokens; a request's prompt is never empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions to compute before the next token can be sampled.
    pub fn remaining(&self) -> usize {
        self.len() - self.computed
    }

    /// The number of generated tokens, known, forced or being sampled.
    pub fn generated(&self) -> usize {
        self.len() - self.prompt_len
    }

    /// Whether no further token will be sampled, whatever the tokens in flight are.
    pub fn is_full(&self, max_len: usize) -> bool {
        if let Some(walk) = &self.walk {
            return walk.is_submitted();
        }
        self.generated() >= self.params.max_tokens as usize || self.len() >= max_len
    }

    /// Takes over the tokens that must come next, of which the one that is being sampled is the first, as far as there is
    /// room for them.
    pub fn force(&mut self, max_len: usize) {
        let (p, known) = (&self.params, self.known());
        // What other rules forbid is found token by token.
        let free = self.failed.is_none() && p.bad_words.is_empty() && p.allowed_token_ids.is_none();
        let Some(matcher) = self.matcher.as_mut().filter(|_| free) else { return };
        let mut forced = matcher.forced();
        let end = forced.iter().position(|token| p.stop_token_ids.contains(token)).unwrap_or(forced.len());
        let room = (self.prompt_len + p.max_tokens as usize).min(max_len).saturating_sub(known);
        forced.truncate(end.min(room));
        if forced.is_empty() {
            return;
        }
        forced.iter().for_each(|&token| matcher.accept(token));
        self.pending -= 1;
        self.asked = self.ahead.len() + 1;
        self.ahead.extend(forced);
    }

    /// Whether the next step cannot be prepared before the last one's token is known.
    pub fn awaits_host(&self, late_masks: bool) -> bool {
        self.pending > 0 && (self.params.needs_history() || (self.matcher.is_some() && !late_masks))
    }

    /// Whether not all tokens are allowed next.
    pub fn is_masked(&self) -> bool {
        self.matcher.is_some() || self.params.allowed_token_ids.is_some()
    }

    /// Whether its next mask depends on a token that is being sampled.
    pub fn awaits_mask(&self) -> bool {
        self.matcher.is_some() && self.pending > 1
    }

    /// Lets a scored sequence go on with its next branch, once the tokens before it are submitted.
    pub fn turn(&mut self) {
        let Some((from, tokens)) = self.walk.as_mut().and_then(Walk::turn) else { return };
        self.tokens.truncate(from);
        self.tokens.extend(tokens);
        self.computed = self.computed.min(from);
    }

    /// Leading positions in pages that may be shared: those that keep what they hold.
    pub fn kept(&self) -> usize {
        let known = self.computed.min(self.tokens.len());
        self.walk.as_ref().map_or(known, |walk| known.min(walk.kept()))
    }

    /// Leading positions that need not be computed where their pages are cached: all but the last, whose logits give the
    /// next token.
    pub fn skippable(&self) -> usize {
        let known = (self.len() - 1).min(self.tokens.len());
        let known = self.unasked().map_or(known, |position| known.min(position - 1));
        self.walk.as_ref().map_or(known, |walk| known.min(walk.skippable()))
    }

    /// Adds the next token, forced or sampled.
    pub fn accept(&mut self, token: u32) {
        self.tokens.push(token);
        if let Some(forced) = self.ahead.pop_front() {
            debug_assert_eq!(forced, token);
            self.asked -= 1;
            return;
        }
        self.pending -= 1;
        if let Some(matcher) = &mut self.matcher {
            matcher.accept(token);
        }
    }

    /// Hashes of the first `pages` pages of the known tokens.
    pub fn hash_pages(&mut self, pages: usize, page_size: usize) -> &[PrefixHash] {
        while self.hashes.len() < pages {
            let at = self.hashes.len() * page_size;
            let before = self.hashes.last().copied();
            self.hashes.push(PrefixHash::after(before, &self.tokens[at..at + page_size]));
        }
        &self.hashes[..pages]
    }
}
