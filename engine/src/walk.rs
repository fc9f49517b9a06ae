//! The way of a scored sequence through its tokens: the prompt, then branch after branch in its place.

use crate::request::{Branch, Score, Scores};
use std::collections::VecDeque;
use std::ops::Range;

/// What a scored sequence has to do.
#[derive(Debug)]
pub struct Walk {
    /// All that is asked for, in order.
    scores: Vec<Score>,
    /// The tokens of the branches that are still to come, and how many tokens each keeps.
    branches: VecDeque<(usize, Vec<u32>)>,
    /// The ends of the scores of the prompt and of each branch that is still to come, the one under way first.
    ends: VecDeque<usize>,
    /// The fewest tokens that the last `i + 1` branches keep.
    kept: Vec<usize>,
    /// Scores whose positions have been submitted.
    submitted: usize,
    /// Tokens of the sequence where it is longest.
    longest: usize,
}

impl Walk {
    /// The way of a sequence that begins with `prompt` tokens.
    pub fn new(prompt: usize, scores: Scores) -> Walk {
        let mut all = scores.prompt;
        let mut ends = VecDeque::from([all.len()]);
        let mut branches = VecDeque::new();
        let mut longest = prompt;
        for Branch { from, tokens, scores } in scores.branches {
            all.extend(scores);
            ends.push_back(all.len());
            longest = longest.max(from + tokens.len());
            branches.push_back((from, tokens));
        }
        let fewest = |least: &mut usize, branch: &(usize, Vec<u32>)| {
            *least = branch.0.min(*least);
            Some(*least)
        };
        let kept = branches.iter().rev().scan(usize::MAX, fewest).collect();
        Walk { scores: all, branches, ends, kept, submitted: 0, longest }
    }

    /// Tokens of the sequence where it is longest.
    pub fn longest(&self) -> usize {
        self.longest
    }

    /// The scores in a range.
    pub fn scores(&self, range: Range<usize>) -> &[Score] {
        &self.scores[range]
    }

    /// Whether everything has been submitted.
    pub fn is_submitted(&self) -> bool {
        self.submitted == self.scores.len()
    }

    /// Whether these are the last scores.
    pub fn ends_with(&self, range: &Range<usize>) -> bool {
        range.end == self.scores.len() && !range.is_empty()
    }

    /// Leading positions that no later branch overwrites: only these may lie in pages that other sequences read.
    pub fn kept(&self) -> usize {
        self.branches.len().checked_sub(1).map_or(usize::MAX, |last| self.kept[last])
    }

    /// Leading positions that need not be computed where their pages are cached.
    pub fn skippable(&self) -> usize {
        let next = self.scores.get(self.submitted).map_or(0, |score| score.position);
        next.min(self.kept())
    }

    /// Once the tokens under way are submitted whole: the next branch.
    pub fn turn(&mut self) -> Option<(usize, Vec<u32>)> {
        if self.ends.front().is_some_and(|&end| self.submitted < end) {
            return None;
        }
        let branch = self.branches.pop_front()?;
        self.ends.pop_front();
        Some(branch)
    }

    /// How many positions from `start` on to submit, at most `len`, with at most so many outputs and targets: the
    /// positions, the scores at them, and their targets. Ends before the first score that does not fit.
    pub fn fit(
        &self,
        start: usize,
        len: usize,
        outputs: usize,
        targets: usize,
    ) -> (usize, Range<usize>, usize) {
        let end = self.ends.front().copied().unwrap_or(0);
        let mut used = 0;
        for (i, score) in self.scores[self.submitted..end].iter().enumerate() {
            let asked = self.submitted..self.submitted + i;
            if score.position >= start + len {
                return (len, asked, used);
            }
            if i >= outputs || used + score.targets.len() > targets {
                return (score.position - start, asked, used);
            }
            used += score.targets.len();
        }
        (len, self.submitted..end, used)
    }

    /// Notes that scores have been submitted.
    pub fn submit(&mut self, range: &Range<usize>) {
        self.submitted = self.submitted.max(range.end);
    }
}
