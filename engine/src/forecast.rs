//! What requests would take: positions to compute, and positions whose pages would be found. No device is needed.

use crate::pages::PrefixHash;
use crate::request::Request;
use crate::sequence::Sequence;
use crate::walk::Walk;
use std::collections::HashSet;

/// Pages that are remembered, at most; twice as many while they change over. A cache of fewer pages finds no others.
const PAGES: usize = 1 << 20;

/// Positions of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Positions {
    /// To compute, of prompt and branches.
    pub computed: u64,
    /// Found in pages of requests before it.
    pub cached: u64,
}

/// Follows requests through the rule of cached pages, as if each began when all before it are done and no page were given
/// away soon: what a scheduler finds is no more. Tokens that are generated are not in it.
#[derive(Debug)]
pub struct Forecast {
    page_size: usize,
    prefix_caching: bool,
    /// Pages seen lately, and before.
    recent: HashSet<PrefixHash>,
    before: HashSet<PrefixHash>,
}

impl Forecast {
    /// Without any request, for pages of so many tokens, at least 1.
    pub fn new(page_size: usize, prefix_caching: bool) -> Forecast {
        Forecast { page_size, prefix_caching, recent: HashSet::new(), before: HashSet::new() }
    }

    /// Takes the next request, with at least one token in its prompt.
    pub fn take(&mut self, request: Request) -> Positions {
        let finds = self.prefix_caching && request.params.prompt_logprobs.is_none();
        // What a constraint forces is generated.
        let mut sequence = Sequence::new(Request { constraint: None, ..request });
        sequence.turn();
        let cached = if finds { self.find(&mut sequence) } else { 0 };
        sequence.computed = cached;
        let mut computed = 0;
        loop {
            let (start, len) = (sequence.computed, sequence.remaining());
            computed += len as u64;
            sequence.computed = sequence.len();
            let asked = sequence.walk.as_ref().map(|walk| walk.fit(start, len, usize::MAX, usize::MAX).1);
            if let (Some(walk), Some(asked)) = (&mut sequence.walk, asked) {
                walk.submit(&asked);
            }
            self.publish(&mut sequence);
            if sequence.walk.as_ref().is_none_or(Walk::is_submitted) {
                return Positions { computed, cached: cached as u64 };
            }
            sequence.turn();
        }
    }

    /// Leading positions whose pages have been seen.
    fn find(&mut self, sequence: &mut Sequence) -> usize {
        let full = sequence.skippable() / self.page_size;
        let hashes = sequence.hash_pages(full, self.page_size);
        let known = |hash: &&PrefixHash| self.recent.contains(hash) || self.before.contains(hash);
        hashes.iter().take_while(known).count() * self.page_size
    }

    fn publish(&mut self, sequence: &mut Sequence) {
        if !self.prefix_caching {
            return;
        }
        let full = sequence.kept() / self.page_size;
        for &hash in sequence.hash_pages(full, self.page_size) {
            self.recent.insert(hash);
            if self.recent.len() >= PAGES {
                self.before = std::mem::take(&mut self.recent);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::{Branch, SamplingParams, Score, Scores};

    fn prompt(tokens: &[u32], prompt_logprobs: Option<u32>) -> Request {
        Request::new(0, tokens.to_vec(), SamplingParams { prompt_logprobs, ..SamplingParams::default() })
    }

    #[test]
    fn full_pages_before_the_last_token_are_found() {
        let mut forecast = Forecast::new(4, true);
        let long: Vec<u32> = (0..12).collect();
        let take = |forecast: &mut Forecast, request| {
            let Positions { computed, cached } = forecast.take(request);
            (computed, cached)
        };
        assert_eq!(take(&mut forecast, prompt(&long, None)), (12, 0));
        // The last token is computed in any case, and so is its page.
        assert_eq!(take(&mut forecast, prompt(&long, None)), (4, 8));
        assert_eq!(take(&mut forecast, prompt(&long[..9], None)), (1, 8));
        assert_eq!(take(&mut forecast, prompt(&long[4..], None)), (8, 0));
        assert_eq!(take(&mut forecast, prompt(&long, Some(1))), (12, 0));
        assert_eq!(take(&mut Forecast::new(4, false), prompt(&long, None)), (12, 0));
    }

    #[test]
    fn a_walk_takes_its_branches_and_shares_what_none_goes_back_to() {
        let score = |position| Score { position, targets: vec![1] };
        // 6 tokens, back to the fifth for 2 more, back to the third for 4.
        let scores = Scores {
            prompt: vec![score(5)],
            branches: vec![
                Branch { from: 5, tokens: vec![70, 71], scores: vec![score(6)] },
                Branch { from: 3, tokens: vec![80, 81, 82, 83], scores: vec![score(6)] },
            ],
        };
        let request = || Request::score(0, (0..6).collect(), scores.clone());
        let mut forecast = Forecast::new(2, true);
        assert_eq!(forecast.take(request()), Positions { computed: 12, cached: 0 });
        // Only the first three positions are overwritten by no branch: one page of them is full.
        assert_eq!(forecast.take(request()), Positions { computed: 10, cached: 2 });
    }
}
