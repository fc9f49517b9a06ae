//! A row on its way to the engine.

use crate::choices::requests::RowChoices;
use crate::error::JobError;
use crate::journal::note::Part;
use crate::row_error::RowError;
use crate::run::sampling::Sampling;
use crate::structured::constraint::Structure;
use engine::constraint::Constraint;
use engine::request::Request;
use std::sync::Arc;

/// Bits of an engine request's id that number the completion; the number of the run stands above them.
const COMPLETION_BITS: u32 = 8;

/// A row as a request: what may differ from row to row is in here.
#[derive(Clone, Debug)]
pub struct RowRequest {
    pub row: u64,
    /// Which of the requests of a document it is.
    pub part: Option<Part>,
    /// Token ids, at least one.
    pub prompt: Vec<u32>,
    /// Most often that of the job.
    pub sampling: Arc<Sampling>,
    /// What the answer must match.
    pub structure: Option<Structure>,
    /// What is scored, if nothing is generated; `prompt` is then that of the first column.
    pub choices: Option<Arc<RowChoices>>,
    /// Whether it must run with no other row beside it.
    pub alone: bool,
}

/// A row that has no request, and why.
#[derive(Clone, Debug)]
pub struct FailedRow {
    pub row: u64,
    pub error: RowError,
}

/// What comes from the feeder: a row to run, one that has failed already, or the end of the job.
pub type FeederResult = Result<Result<RowRequest, FailedRow>, JobError>;

/// What a request is known by: its row, and which of a document's it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RequestKey {
    pub row: u64,
    pub part: Option<Part>,
}

impl RowRequest {
    pub fn key(&self) -> RequestKey {
        RequestKey { row: self.row, part: self.part }
    }

    /// The engine's requests for the row, which have this number among those that the engine runs.
    pub fn requests(&self, run: u64) -> Vec<Request> {
        match &self.choices {
            None => (0..self.sampling.n).map(|completion| self.completion(run, completion)).collect(),
            Some(choices) => {
                let number = |i: usize| choices.request(request_id(run, i as u32), i);
                (0..choices.count()).map(number).collect()
            }
        }
    }

    /// Tokens of the row's prompt, or of those of its columns.
    pub fn num_input_tokens(&self) -> u32 {
        self.choices.as_ref().map_or(self.prompt.len() as u32, |choices| choices.num_input_tokens)
    }

    /// The engine's request for one of the row's completions.
    fn completion(&self, run: u64, completion: u32) -> Request {
        let mut params = match self.part {
            Some(part) => self.sampling.params_of_part(self.row, part),
            None => self.sampling.params(self.row, completion),
        };
        // One of the completions computes the prompt for all.
        params.prompt_logprobs = params.prompt_logprobs.filter(|_| completion == 0);
        let structure = self.structure.clone();
        let constraint = structure.map(|structure| Arc::new(structure) as Arc<dyn Constraint>);
        let (id, prompt) = (request_id(run, completion), self.prompt.clone());
        Request { constraint, ..Request::new(id, prompt, params) }
    }
}

/// The id of the engine's request for a completion of a run.
pub fn request_id(run: u64, completion: u32) -> u64 {
    run << COMPLETION_BITS | u64::from(completion)
}

/// The run and the completion of a request's id.
pub fn run_of_request(id: u64) -> (u64, usize) {
    (id >> COMPLETION_BITS, (id & ((1 << COMPLETION_BITS) - 1)) as usize)
}
