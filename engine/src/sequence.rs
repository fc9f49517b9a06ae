//! A request in the scheduler.

use crate::constraint::Matcher;
use crate::pages::{PageId, PrefixHash};
use crate::request::{Request, SamplingParams};

/// A request with its known tokens and its computed positions.
#[derive(Debug)]
pub struct Sequence {
    /// The request's id.
    pub id: u64,
    /// How to choose its tokens.
    pub params: SamplingParams,
    /// The prompt, and the generated tokens that the host knows.
    pub tokens: Vec<u32>,
    /// The number of prompt tokens.
    pub prompt_len: usize,
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
}

impl Sequence {
    /// A sequence without computed positions.
    pub fn new(request: Request) -> Sequence {
        Sequence {
            id: request.id,
            params: request.params,
            prompt_len: request.prompt.len(),
            tokens: request.prompt,
            pending: 0,
            computed: 0,
            pages: Vec::new(),
            hashes: Vec::new(),
            published: 0,
            seq_slot: 0,
            prompt_scored: 1,
            matcher: request.constraint.map(|constraint| constraint.matcher()),
        }
    }

    /// The number of tokens, known or being sampled.
    pub fn len(&self) -> usize {
        self.tokens.len() + self.pending
    }

    /// Whether there are no tokens; a request's prompt is never empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Positions to compute before the next token can be sampled.
    pub fn remaining(&self) -> usize {
        self.len() - self.computed
    }

    /// The number of generated tokens, known or being sampled.
    pub fn generated(&self) -> usize {
        self.len() - self.prompt_len
    }

    /// Whether no further token will be sampled, whatever the tokens in flight are.
    pub fn is_full(&self, max_len: usize) -> bool {
        self.generated() >= self.params.max_tokens as usize || self.len() >= max_len
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

    /// Adds a sampled token.
    pub fn accept(&mut self, token: u32) {
        self.tokens.push(token);
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
