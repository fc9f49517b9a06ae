//! A row's prompts and labels as requests to the engine.
//!
//! Where the prompts of a row's columns have most of their tokens in common, one request walks them all: the engine
//! computes what they share once and goes back to it for each column. Else each is a request of its own, so that a long
//! question that stands first is found again in the pages of other rows.

use crate::choices::Choices;
use crate::choices::scores::ColumnScores;
use crate::choices::trie::Trie;
use engine::request::{Branch, Request, Score, Scores};
use std::sync::Arc;

/// The prompt of a column for a row, and its labels behind it.
#[derive(Clone, Debug, PartialEq)]
pub struct ColumnPrompt {
    pub tokens: Vec<u32>,
    pub trie: Arc<Trie>,
}

/// What the engine is asked for a row.
#[derive(Clone, Debug, PartialEq)]
pub struct RowChoices {
    pub columns: Vec<ColumnPrompt>,
    /// Whether one request asks for all columns.
    together: bool,
    /// The tokens that end an answer.
    ends: Arc<[u32]>,
    /// Tokens of the prompts; what they share counts once.
    pub num_input_tokens: u32,
}

impl RowChoices {
    /// Of the prompts of a row's columns, at least one, each of at least one token.
    pub fn new(columns: Vec<ColumnPrompt>, ends: Arc<[u32]>) -> RowChoices {
        let first = &columns[0].tokens;
        let others = columns[1..].iter().map(|column| &column.tokens);
        let mostly = |tokens: &Vec<u32>| 2 * common(first, tokens) >= tokens.len().min(first.len());
        let together = others.clone().all(mostly);
        let mut count = first.len();
        for (i, tokens) in others.enumerate() {
            let before = columns[..=i].iter().map(|column| common(&column.tokens, tokens));
            count += tokens.len() - before.max().unwrap_or(0);
        }
        RowChoices { columns, together, ends, num_input_tokens: count as u32 }
    }

    /// Requests of the row.
    pub fn count(&self) -> usize {
        if self.together { 1 } else { self.columns.len() }
    }

    /// Tokens of the longest prompt with its longest label.
    pub fn longest(&self) -> usize {
        self.columns.iter().map(|column| column.tokens.len() + column.trie.depth()).max().unwrap_or(0)
    }

    /// The engine's request of this number.
    pub fn request(&self, id: u64, number: usize) -> Request {
        let columns = if self.together { &self.columns[..] } else { &self.columns[number..=number] };
        let mut walk = Walk { tokens: Vec::new(), steps: Vec::new() };
        columns.iter().for_each(|column| walk.add(column, &self.ends));
        let mut steps = walk.steps.into_iter();
        let (prompt, scores) = steps.next().map(|first| (first.tokens, first.scores)).unwrap_or_default();
        Request::score(id, prompt, Scores { prompt: scores, branches: steps.collect() })
    }

    /// Everything that decides the scores, as bytes.
    pub fn bytes(&self) -> impl Iterator<Item = u8> {
        let of_column = |column: &ColumnPrompt| {
            let nodes = column
                .trie
                .nodes
                .iter()
                .flat_map(|n| [n.depth as u32, n.token, n.label.map_or(0, |l| l as u32 + 1)]);
            let lengths = [column.tokens.len() as u32, column.trie.nodes.len() as u32];
            lengths.into_iter().chain(column.tokens.iter().copied()).chain(nodes).collect::<Vec<_>>()
        };
        self.columns.iter().flat_map(of_column).flat_map(u32::to_le_bytes)
    }

    /// The labels' log-probabilities of each column, from what was reported of each request.
    pub fn label_logprobs<'a>(&self, reported: impl Iterator<Item = &'a [Vec<f32>]>) -> Vec<Vec<f64>> {
        let mut all: Vec<&[Vec<f32>]> = reported.collect();
        let mut rest = all.first().copied().unwrap_or_default();
        let mut columns = Vec::with_capacity(self.columns.len());
        for (i, column) in self.columns.iter().enumerate() {
            if !self.together {
                rest = std::mem::take(&mut all[i]);
            }
            let (own, later) = rest.split_at(column.trie.nodes.len().min(rest.len()));
            columns.push(column.trie.label_logprobs(own));
            rest = later;
        }
        columns
    }
}

impl Choices {
    /// The scores of a row's columns. `content_free` has the labels' log-probabilities of columns that are calibrated.
    pub fn scores(&self, labels: &[Vec<f64>], content_free: &[Option<Vec<f64>>]) -> Vec<ColumnScores> {
        let of = |(labels, free): (&Vec<f64>, &Option<Vec<f64>>)| ColumnScores::new(labels, free.as_deref());
        labels.iter().zip(content_free).map(of).collect()
    }
}

/// How many tokens two sequences have in common at their beginning.
fn common(a: &[u32], b: &[u32]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// A way through prompts and labels, each node of the tree once.
struct Walk {
    /// The tokens that the sequence has at its end so far.
    tokens: Vec<u32>,
    steps: Vec<Branch>,
}

impl Walk {
    /// Goes through a column's prompt and its labels.
    fn add(&mut self, column: &ColumnPrompt, ends: &[u32]) {
        let prompt = column.tokens.as_slice();
        // The last token is computed even if it is there: its logits are wanted.
        let mut from = common(&self.tokens, prompt).min(prompt.len() - 1);
        let mut tokens = prompt[from..].to_vec();
        let mut scores = Vec::new();
        for (i, node) in column.trie.nodes.iter().enumerate() {
            let position = prompt.len() + node.depth - 1;
            if i > 0 && position < from + tokens.len() {
                self.step(Branch {
                    from,
                    tokens: std::mem::take(&mut tokens),
                    scores: std::mem::take(&mut scores),
                });
                from = position;
            }
            if i > 0 {
                tokens.push(node.token);
            }
            let end = ends.iter().filter(|_| node.label.is_some());
            scores.push(Score { position, targets: node.next.iter().chain(end).copied().collect() });
        }
        self.step(Branch { from, tokens, scores });
    }

    fn step(&mut self, branch: Branch) {
        self.tokens.truncate(branch.from);
        self.tokens.extend(&branch.tokens);
        self.steps.push(branch);
    }
}

#[cfg(test)]
mod tests;
