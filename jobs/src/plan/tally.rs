//! Counts what the feeder makes of rows.

use crate::choices::requests::RowChoices;
use crate::options::documents::Method;
use crate::options::engine::EngineOptions;
use crate::plan::lengths::{Histogram, Span};
use crate::plan::sample::GroupTally;
use crate::row_error::RowErrorKind;
use crate::run::duplicates::digest;
use crate::run::request::{FailedRow, RowRequest};
use engine::forecast::{Forecast, Positions};
use engine::request::Request;
use serde::Serialize;
use std::collections::{BTreeMap, HashSet};
use std::ops::Range;

/// Rows of errors of one kind that are named.
const NAMED: usize = 5;

/// Rows that would be errors of one kind.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ErrorRows {
    pub rows: u64,
    /// The first of them.
    pub first: Vec<u64>,
}

/// Rows whose prompts leave no room for an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct TooLong {
    pub rows: u64,
    /// Tokens of the longest prompt among them, as far as they were counted.
    pub longest: u64,
}

/// What columns of choices ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AskedChoices {
    /// A row and a column each.
    pub asks: u64,
    /// Sequences that the engine walks: one for each row, or one for each ask.
    pub requests: u64,
    /// Ways back in these, to a label or to the prompt of another column.
    pub branches: u64,
    /// Tokens that all walks have together, before caching.
    pub walked_tokens: u64,
}

/// What documents ask.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct AskedDocuments {
    pub documents: u64,
    pub chunks: u64,
    /// Requests that follow upon answers: merges, or with `refine` all chunks but the first. With `refine` they can be more:
    /// an answer whose text has more tokens than were generated leaves less room, and chunks are cut again.
    pub follow_ups: Span,
}

/// A document whose first request has come.
pub struct OpenedDocument {
    pub chunks: u64,
    pub method: Method,
    /// Whether the last prompt of one that is cut is scored.
    pub scores: bool,
}

/// What was counted.
pub struct Tally {
    shares: bool,
    max_model_len: u64,
    forecast: Forecast,
    /// Digests of prompts, cut short.
    seen: HashSet<u64>,
    pub errors: BTreeMap<String, ErrorRows>,
    longest_error: u64,
    pub prompts: u64,
    /// Tokens of prompts, and of prompts with their longest answers.
    pub lengths: Histogram,
    pub reach: Histogram,
    pub shared_prompts: u64,
    pub shared_input_tokens: u64,
    pub positions: Positions,
    pub generated: Span,
    pub choices: Option<AskedChoices>,
    pub documents: Option<AskedDocuments>,
    /// By row group.
    pub groups: Vec<GroupTally>,
    ends: Vec<u64>,
}

impl Tally {
    /// Nothing so far, of rows in these ranges.
    pub fn new(engine: &EngineOptions, shares: bool, max_model_len: usize, ranges: &[Range<u64>]) -> Tally {
        Tally {
            shares,
            max_model_len: max_model_len as u64,
            forecast: Forecast::new(engine.block_size, engine.enable_prefix_caching.unwrap_or(true)),
            seen: HashSet::new(),
            errors: BTreeMap::new(),
            longest_error: 0,
            prompts: 0,
            lengths: Histogram::default(),
            reach: Histogram::default(),
            shared_prompts: 0,
            shared_input_tokens: 0,
            positions: Positions::default(),
            generated: Span::default(),
            choices: None,
            documents: None,
            groups: ranges.iter().map(|range| GroupTally::of(range.end - range.start)).collect(),
            ends: ranges.iter().map(|range| range.end).collect(),
        }
    }

    /// Takes a request; with the first one of a document come the document's chunks.
    pub fn take(&mut self, request: &RowRequest, document: Option<OpenedDocument>) {
        let tokens = u64::from(request.num_input_tokens());
        self.prompts += 1;
        self.lengths.add(tokens);
        let group = self.group(request.row);
        group.prompt_tokens += tokens;
        if let Some(document) = document {
            self.take_document(document, request);
        }
        self.take_choices(request.choices.as_deref());
        if request.choices.is_none() {
            let params = &request.sampling.params;
            let room = self.max_model_len.saturating_sub(tokens);
            let most = u64::from(params.max_tokens).min(room);
            let n = u64::from(request.sampling.n);
            self.generate(request.row, n * u64::from(params.min_tokens).min(most), n * most);
            self.reach.add(tokens + most);
        }
        let hash = digest(request);
        let hash = hash.as_bytes().first_chunk().map_or(0, |head| u64::from_le_bytes(*head));
        if !self.seen.insert(hash) && self.shares && request.sampling.is_greedy() {
            self.shared_prompts += 1;
            self.shared_input_tokens += tokens;
            return;
        }
        request.requests(0).into_iter().for_each(|request| self.compute(request));
    }

    /// Takes the row without content that the engine computes first.
    pub fn take_content_free(&mut self, row: &RowChoices) {
        (0..row.count()).for_each(|number| self.compute(row.request(0, number)));
    }

    /// Takes a row that has no request.
    pub fn fail(&mut self, failed: &FailedRow) {
        let kind = failed.error.kind;
        if kind == RowErrorKind::PromptTooLong {
            let tokens = failed.error.num_input_tokens.unwrap_or(0);
            self.longest_error = self.longest_error.max(u64::from(tokens));
        }
        self.group(failed.row).errors += 1;
        let errors = self.errors.entry(kind.text().to_string()).or_default();
        errors.rows += 1;
        // Rows of a window come in another order.
        let at = errors.first.partition_point(|&row| row < failed.row);
        errors.first.insert(at, failed.row);
        errors.first.truncate(NAMED);
    }

    pub fn distinct(&self) -> u64 {
        self.seen.len() as u64
    }

    pub fn too_long(&self) -> Option<TooLong> {
        let errors = self.errors.get(RowErrorKind::PromptTooLong.text())?;
        Some(TooLong { rows: errors.rows, longest: self.longest_error })
    }

    fn group(&mut self, row: u64) -> &mut GroupTally {
        let at = self.ends.partition_point(|&end| end <= row).min(self.groups.len() - 1);
        &mut self.groups[at]
    }

    fn compute(&mut self, request: Request) {
        let Positions { computed, cached } = self.forecast.take(request);
        self.positions.computed += computed;
        self.positions.cached += cached;
    }

    fn take_choices(&mut self, choices: Option<&RowChoices>) {
        let Some(choices) = choices else { return };
        self.reach.add(choices.longest() as u64);
        let asked = self.choices.get_or_insert_default();
        asked.asks += choices.columns.len() as u64;
        for number in 0..choices.count() {
            let request = choices.request(0, number);
            let branches = request.scores.map_or(Vec::new(), |scores| scores.branches);
            asked.requests += 1;
            asked.branches += branches.len() as u64;
            let behind: usize = branches.iter().map(|branch| branch.tokens.len()).sum();
            asked.walked_tokens += (request.prompt.len() + behind) as u64;
        }
    }

    fn take_document(&mut self, document: OpenedDocument, request: &RowRequest) {
        let OpenedDocument { chunks, method, scores } = document;
        let asked = self.documents.get_or_insert_default();
        asked.documents += 1;
        asked.chunks += chunks;
        // A merge makes one of at least two notes, and all become one.
        let (mut least, mut most) = match method {
            Method::Refine => (chunks - 1, chunks - 1),
            Method::MapReduce => (u64::from(chunks > 1), chunks - 1),
        };
        let scored = u64::from(scores && request.choices.is_none());
        if scored > 0 && method == Method::MapReduce {
            // The last prompt is scored: that of the merge, or one behind it.
            (least, most) = (1, most + 1);
        }
        asked.follow_ups.least += least;
        asked.follow_ups.most += most;
        (least, most) = (least.saturating_sub(scored), most.saturating_sub(scored));
        let max_tokens = u64::from(request.sampling.params.max_tokens);
        let min_tokens = u64::from(request.sampling.params.min_tokens);
        self.generate(request.row, least * min_tokens, most * max_tokens);
    }

    fn generate(&mut self, row: u64, least: u64, most: u64) {
        self.generated.least += least;
        self.generated.most += most;
        let group = &mut self.group(row).generated;
        group.least += least;
        group.most += most;
    }
}
