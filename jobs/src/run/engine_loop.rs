//! The loop that keeps the engine busy: rows in, finished rows out.

use crate::error::JobError;
use crate::journal::answer::FinishReason;
use crate::metrics::figures::EngineNotes;
use crate::prompt::tokenizer::Tokenizer;
use crate::row_error::{RowError, RowErrorKind};
use crate::run::answer_sink::AnswerSink;
use crate::run::cost_meter::CostMeter;
use crate::run::duplicates::{Duplicates, Turn};
use crate::run::open_documents::OpenDocuments;
use crate::run::progress::Counters;
use crate::run::request::{FailedRow, FeederResult, RequestKey, RowRequest, request_id, run_of_request};
use crate::run::row::{RowOutcome, RowResult};
use crate::structured::field_probabilities::FieldQuestions;
use crate::supervise::worker::Heartbeat;
use engine::Engine;
use engine::constraint::NoToken;
use engine::error::EngineError;
use engine::request::{Event, FinishReason as EngineReason, Request};
use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::sync::{Mutex, MutexGuard};
use std::time::Duration;

/// How often an idle engine looks for signals.
const IDLE: Duration = Duration::from_millis(50);

/// How often an idle engine looks for the next requests of documents.
const SHORT: Duration = Duration::from_millis(1);

/// Rows that start between two steps, at most.
const ROWS_AT_ONCE: usize = 1024;

/// Drives the engine.
pub struct EngineLoop<'a> {
    engine: &'a mut Engine,
    tokenizer: &'a Tokenizer,
    /// Notes the rows that start.
    sink: &'a Mutex<dyn AnswerSink>,
    /// Where rows go.
    out: SyncSender<RowOutcome>,
    duplicates: Duplicates,
    /// By the number of the run, which the engine's requests have in place of row and part.
    running: HashMap<u64, (RequestKey, RowResult)>,
    runs: u64,
    /// Runs that ask about the answers of another: a request that has ended may still be in a step under way.
    asking: HashMap<u64, u64>,
    /// A row that waits until it can run alone, and the one that does.
    waits_to_run_alone: Option<RowRequest>,
    alone: Option<u64>,
    /// Where the requests of documents come from that follow upon others.
    documents: Option<FollowUps<'a>>,
    meter: CostMeter,
    /// Where metrics are made of what the engine has done.
    notes: Option<&'a EngineNotes>,
    /// What progress is shown by.
    counters: Option<&'a Counters>,
    /// Whether the engine goes on to other rows afterwards.
    leaves_idle: bool,
}

/// The documents on their way, and their requests behind the first level.
pub struct FollowUps<'a> {
    pub open: &'a OpenDocuments<'a>,
    pub requests: Receiver<RowRequest>,
}

impl<'a> EngineLoop<'a> {
    /// A loop that has not begun. With `share`, one run answers all rows of a prompt where that changes no answer.
    pub fn new(
        engine: &'a mut Engine,
        tokenizer: &'a Tokenizer,
        sink: &'a Mutex<dyn AnswerSink>,
        share: bool,
        documents: Option<FollowUps<'a>>,
        meter: CostMeter,
        out: SyncSender<RowOutcome>,
    ) -> EngineLoop<'a> {
        let duplicates = Duplicates::new(share && engine.device().info().breaks_contract.is_none());
        let running = HashMap::new();
        let (waits_to_run_alone, alone, runs) = (None, None, 0);
        EngineLoop {
            engine,
            tokenizer,
            sink,
            out,
            duplicates,
            running,
            runs,
            asking: HashMap::new(),
            waits_to_run_alone,
            alone,
            documents,
            meter,
            counters: None,
            notes: None,
            leaves_idle: false,
        }
    }

    /// Notes what the engine has done where metrics are made of it.
    #[must_use]
    pub fn noting(self, notes: &'a EngineNotes) -> EngineLoop<'a> {
        EngineLoop { notes: Some(notes), ..self }
    }

    /// The same that counts what rows take, to show how much is left. Requests of documents are no rows.
    #[must_use]
    pub fn counting(self, counters: &'a Counters) -> EngineLoop<'a> {
        EngineLoop { counters: Some(counters), ..self }
    }

    /// The same that takes rows that are given up out of the engine, which others use next.
    #[must_use]
    pub fn leaving_idle(self) -> EngineLoop<'a> {
        EngineLoop { leaves_idle: true, ..self }
    }

    /// Runs until all rows are answered, or until `stop` says so or nobody takes the rows; then unfinished rows are
    /// given up.
    ///
    /// # Errors
    /// What ended the job: of the input, the journal or the device.
    pub fn run(mut self, rows: &Receiver<FeederResult>, stop: impl FnMut() -> bool) -> Result<(), JobError> {
        let ended = self.run_all(rows, stop);
        // An engine that has failed is of no use to others.
        let ended = match ended {
            Err(error @ JobError::Engine(_)) => Err(error),
            ended if self.leaves_idle => ended.and(self.clear()),
            ended => ended,
        };
        // What ended the loop says more than what this may say.
        let noted = self.note_costs();
        ended.and(noted)
    }

    fn run_all(
        &mut self,
        rows: &Receiver<FeederResult>,
        mut stop: impl FnMut() -> bool,
    ) -> Result<(), JobError> {
        let mut more = true;
        let mut heartbeat = Heartbeat::default();
        loop {
            heartbeat.send();
            if self.meter.is_due() {
                self.note_costs()?;
            }
            if stop() {
                return Ok(());
            }
            self.admit_follow_ups()?;
            more = more && self.admit(rows)?;
            if self.engine.is_idle() {
                // Requests that follow are of documents that are open.
                let documents_done =
                    self.documents.as_ref().is_none_or(|documents| documents.open.are_none());
                if !more && self.waits_to_run_alone.is_none() && documents_done {
                    return Ok(());
                }
                if !more && self.documents.is_some() {
                    std::thread::sleep(SHORT);
                }
                continue;
            }
            for event in self.engine.step()? {
                self.take(event)?;
            }
            if let Some(counters) = self.counters {
                let stats = self.meter.stats(self.engine);
                let positions = stats.prefill_tokens + stats.decode_tokens + stats.cached_tokens;
                counters.positions.store(positions, Ordering::Relaxed);
            }
        }
    }

    /// Ends all that the engine still has, and takes in its last steps.
    fn clear(&mut self) -> Result<(), JobError> {
        let asking = self.asking.iter().map(|(asks, run)| (*asks, *run));
        let runs = self.running.keys().map(|run| (*run, *run)).chain(asking);
        for (id, run) in runs.collect::<Vec<_>>() {
            let completions = self.running.get(&run).map_or(0, |(_, result)| result.completions.len() as u32);
            (0..completions).for_each(|completion| self.engine.stop(request_id(id, completion)));
        }
        while !self.engine.is_idle() {
            // Their rows are nobody's any more.
            self.engine.step()?;
        }
        Ok(())
    }

    fn note_costs(&mut self) -> Result<(), JobError> {
        let figures = self.meter.figures(self.engine);
        self.notes.iter().for_each(|notes| notes.note(&figures, self.engine));
        self.lock()?.note_costs(figures);
        Ok(())
    }

    /// Takes the requests that follow upon others, before new rows: what is begun is to end.
    fn admit_follow_ups(&mut self) -> Result<(), JobError> {
        let full = self.engine.limits().seqs;
        while self.engine.waiting() < full && self.duplicates.have_room() {
            let Some(Ok(request)) = self.documents.as_ref().map(|documents| documents.requests.try_recv())
            else {
                break;
            };
            if request.alone {
                self.alone = Some(request.row);
            }
            self.start(request)?;
        }
        Ok(())
    }

    /// Fills the engine's queue. Returns whether more rows may come.
    fn admit(&mut self, rows: &Receiver<FeederResult>) -> Result<bool, JobError> {
        if self.engine.is_idle() {
            self.alone = None;
            if let Some(row) = self.waits_to_run_alone.take()
                && !self.start_alone(row)?
            {
                return Ok(true);
            }
        }
        // The queue need only fill the steps; what waits behind it stays with the feeder.
        let full = self.engine.limits().seqs;
        // Rows that share an answer do not wait in the engine.
        for taken in 0..ROWS_AT_ONCE {
            let room = self.engine.waiting() < full && self.duplicates.have_room();
            if self.waits_to_run_alone.is_some() || !room {
                break;
            }
            let fed = if taken == 0 && self.engine.is_idle() {
                let documents = self.documents.as_ref().is_some_and(|documents| !documents.open.are_none());
                rows.recv_timeout(if documents { SHORT } else { IDLE })
                    .map_err(|error| error == RecvTimeoutError::Disconnected)
            } else {
                rows.try_recv().map_err(|error| error == TryRecvError::Disconnected)
            };
            match fed {
                Err(closed) => return Ok(!closed),
                Ok(fed) => match self.count(fed?) {
                    Ok(row) if row.alone && self.alone != Some(row.row) => {
                        self.waits_to_run_alone = Some(row)
                    }
                    Ok(row) => self.start(row)?,
                    Err(FailedRow { row, error }) => self.send(RequestKey { row, part: None }, Err(error))?,
                },
            }
        }
        Ok(true)
    }

    /// Counts a row that is taken up.
    fn count(&self, fed: Result<RowRequest, FailedRow>) -> Result<RowRequest, FailedRow> {
        if let Some(counters) = self.counters {
            Counters::add(&counters.taken, 1);
        }
        fed
    }

    /// Starts a row that must run alone, once the journal has all others; until then it waits.
    fn start_alone(&mut self, row: RowRequest) -> Result<bool, JobError> {
        // Rows that the finisher has not appended would share the blame.
        if !self.lock()?.runs_nothing_but(row.row) {
            self.waits_to_run_alone = Some(row);
            std::thread::sleep(Duration::from_millis(1));
            return Ok(false);
        }
        self.lock()?.commit()?;
        self.alone = Some(row.row);
        self.start(row)?;
        Ok(true)
    }

    fn lock(&self) -> Result<MutexGuard<'a, dyn AnswerSink + 'static>, JobError> {
        self.sink.lock().map_err(|_| JobError::Internal("a thread ended while it wrote the journal".into()))
    }

    /// Gives a row to the engine, as one request for each completion.
    fn start(&mut self, request: RowRequest) -> Result<(), JobError> {
        let (row, key) = (request.row, request.key());
        match self.duplicates.take_up(&request) {
            Turn::Ends(result) => return self.send_shared(key, result),
            // One that waits is in flight as much as the one that runs: it is its prompt that runs.
            Turn::Waits => return self.lock()?.admit(&[row]),
            Turn::Runs => self.lock()?.admit(&[row])?,
        }
        let tokens = request.num_input_tokens();
        if let Some(counters) = self.counters {
            Counters::add(&counters.ran, 1);
            let completions = u64::from(request.sampling.n).max(1);
            Counters::add(&counters.ran_tokens, completions * u64::from(tokens));
        }
        self.runs += 1;
        let run = self.runs;
        self.running.insert(run, (key, RowResult::begin(&request)));
        for asked in request.requests(run) {
            match self.engine.add(asked) {
                Ok(()) => {}
                Err(EngineError::Request(why)) => {
                    let error = RowError::new(RowErrorKind::BadRequest, why);
                    return self.give_up(run, error.with_tokens(tokens));
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Sends a row on its way, and with it those that have waited for it.
    fn send(&mut self, key: RequestKey, result: Result<RowResult, RowError>) -> Result<(), JobError> {
        for other in self.duplicates.end(key, &result) {
            self.send_shared(other, result.clone())?;
        }
        // The finisher closes the channel only when it fails, and says why.
        let RequestKey { row, part } = key;
        let _ = self.out.send(RowOutcome { row, part, result, shared: false });
        Ok(())
    }

    fn send_shared(&self, key: RequestKey, result: Result<RowResult, RowError>) -> Result<(), JobError> {
        let RequestKey { row, part } = key;
        let _ = self.out.send(RowOutcome { row, part, result, shared: true });
        Ok(())
    }

    /// Ends a row with an error, all of its completions with it.
    fn give_up(&mut self, run: u64, error: RowError) -> Result<(), JobError> {
        let Some((key, result)) = self.running.remove(&run) else { return Ok(()) };
        let asks = self.take_asking(run);
        for (completion, generated) in (0..).zip(&result.completions) {
            if generated.reason.is_none() {
                self.engine.stop(request_id(run, completion));
            }
            if let Some(asks) = asks.filter(|_| generated.fields.is_some()) {
                self.engine.stop(request_id(asks, completion));
            }
        }
        self.send(key, Err(error))
    }

    /// The run that asks about the answers of a run, which has an end.
    fn take_asking(&mut self, run: u64) -> Option<u64> {
        let asks = self.asking.iter().find(|(_, of)| **of == run).map(|(asks, _)| *asks)?;
        self.asking.remove(&asks);
        Some(asks)
    }

    /// Takes in what the engine did.
    fn take(&mut self, event: Event) -> Result<(), JobError> {
        let (Event::Prompt { id, .. }
        | Event::Scores { id, .. }
        | Event::Token { id, .. }
        | Event::DeadEnd { id, .. }
        | Event::Finished { id, .. }) = &event;
        let (id, (run, completion)) = (*id, run_of_request(*id));
        let run = self.asking.get(&run).copied().unwrap_or(run);
        // Events of a row that was given up may still be under way.
        let Some((_, result)) = self.running.get_mut(&run) else { return Ok(()) };
        let tokens = result.num_input_tokens;
        let generated = &mut result.completions[completion];
        match event {
            Event::Prompt { logprobs, .. } => {
                if let Some(all) = &mut result.prompt_logprobs {
                    all.extend(logprobs.into_iter().map(Some));
                }
                Ok(())
            }
            Event::Scores { logprobs, .. } => {
                generated.scores.extend(logprobs);
                Ok(())
            }
            Event::Token { token, .. } => {
                if result.keep.tokens {
                    generated.token_logprobs.push(token.logprob);
                }
                if result.keep.alternatives {
                    generated.logprobs.push(token.top);
                }
                match generated.text.push(token.token, self.tokenizer) {
                    Ok(false) => Ok(()),
                    Ok(true) => {
                        generated.reason = Some(FinishReason::Stop);
                        self.engine.stop(id);
                        self.finish_if_done(run)
                    }
                    Err(why) => {
                        self.give_up(run, RowError::new(RowErrorKind::Tokenizer, why).with_tokens(tokens))
                    }
                }
            }
            Event::DeadEnd { why, .. } => {
                let kind = match why {
                    NoToken::DeadEnd(_) => RowErrorKind::DeadEnd,
                    NoToken::TooComplex(_) => RowErrorKind::TooComplex,
                    NoToken::Failed(_) => RowErrorKind::Internal,
                };
                let why = format!("after {} tokens: {why}", generated.text.tokens().len());
                self.give_up(run, RowError::new(kind, why).with_tokens(tokens))
            }
            Event::Finished { reason: EngineReason::NotFinite, .. } => {
                let why = match result.choices {
                    Some(_) => "the model's logits are not finite".to_string(),
                    None => {
                        let after = generated.text.tokens().len();
                        format!("the model's logits after {after} tokens are not finite")
                    }
                };
                self.give_up(run, RowError::new(RowErrorKind::NotFinite, why).with_tokens(tokens))
            }
            // Of the request about what was answered.
            Event::Finished { .. } if generated.fields.is_some() => {
                let scores = std::mem::take(&mut generated.scores);
                generated.field_probabilities =
                    generated.fields.take().map_or(Vec::new(), |fields| fields.probabilities(&scores));
                self.finish_if_done(run)
            }
            Event::Finished { reason, .. } => {
                let cut = reason == EngineReason::Length;
                generated.reason = Some(if cut { FinishReason::Length } else { FinishReason::Stop });
                self.finish_if_done(run)
            }
        }
    }

    fn finish_if_done(&mut self, run: u64) -> Result<(), JobError> {
        let Some((_, result)) = self.running.get_mut(&run) else { return Ok(()) };
        if result.completions.iter().any(|c| c.reason.is_none()) {
            return Ok(());
        }
        if let Some(prompt) = result.prompt.take() {
            let tokens = result.num_input_tokens;
            self.runs += 1;
            let asks = self.runs;
            self.asking.insert(asks, run);
            let asked = ask_fields(asks, result, &prompt);
            if let Err(why) = asked.and_then(|asked| {
                asked.into_iter().try_for_each(|r| self.engine.add(r).map_err(|error| error.to_string()))
            }) {
                return self.give_up(run, RowError::new(RowErrorKind::BadRequest, why).with_tokens(tokens));
            }
        }
        let open =
            |(_, result): &(RequestKey, RowResult)| result.completions.iter().any(|c| c.fields.is_some());
        if self.running.get(&run).is_none_or(open) {
            return Ok(());
        }
        self.take_asking(run);
        match self.running.remove(&run) {
            Some((key, result)) => self.send(key, Ok(result)),
            None => Ok(()),
        }
    }
}

/// The requests about the values of a row's answers.
fn ask_fields(run: u64, result: &mut RowResult, prompt: &[u32]) -> Result<Vec<Request>, String> {
    let Some(structure) = &result.structure else { return Ok(Vec::new()) };
    let Some(chosen) = structure.fields() else { return Ok(Vec::new()) };
    let mut requests = Vec::new();
    for (completion, generated) in (0..).zip(&mut result.completions) {
        // What is cut off is no answer.
        if generated.reason != Some(FinishReason::Stop) {
            continue;
        }
        let tokens = generated.text.tokens();
        let asked = FieldQuestions::new(structure, chosen, prompt.len(), tokens)?;
        match asked.request(request_id(run, completion), prompt, tokens) {
            Some(request) => {
                requests.push(request);
                generated.fields = Some(asked);
            }
            None => generated.field_probabilities = asked.probabilities(&[]),
        }
    }
    Ok(requests)
}
