//! The loop that keeps the engine busy: rows in, finished rows out.

use crate::error::JobError;
use crate::journal::Journal;
use crate::journal::answer::FinishReason;
use crate::prompt::RowError;
use crate::prompt::tokenizer::Tokenizer;
use crate::run::duplicates::{Duplicates, Turn};
use crate::run::feeder::Prepared;
use crate::run::row::{Ending, Generated, Ground, KeepLogprobs, Outcome};
use crate::run::sampling::Sampling;
use crate::supervise::worker::Heart;
use engine::Engine;
use engine::error::EngineError;
use engine::request::{Event, FinishReason as EngineReason, Request};
use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TryRecvError};
use std::time::Duration;

/// How often an idle engine looks for signals.
const IDLE: Duration = Duration::from_millis(50);

/// The most rows that are taken up between two steps.
const AT_ONCE: usize = 1024;

/// Drives the engine.
pub struct Grinder<'a> {
    /// The engine.
    pub engine: &'a mut Engine,
    /// How rows are answered.
    pub sampling: &'a Sampling,
    /// For stop strings.
    pub tokenizer: &'a Tokenizer,
    /// Notes the rows that are taken up.
    pub journal: &'a Mutex<Journal>,
    /// Which log-probabilities are kept.
    pub keep: KeepLogprobs,
    /// Where rows go.
    pub out: SyncSender<Outcome>,
    duplicates: Duplicates,
    running: HashMap<u64, Ground>,
    /// A row that waits until it can run alone, and whether it does.
    lonely: Option<Prepared>,
    alone: bool,
}

impl<'a> Grinder<'a> {
    /// A loop that has not begun. With `share`, one run answers all rows of a prompt where that changes no answer.
    pub fn new(
        engine: &'a mut Engine,
        sampling: &'a Sampling,
        tokenizer: &'a Tokenizer,
        journal: &'a Mutex<Journal>,
        keep: KeepLogprobs,
        share: bool,
        out: SyncSender<Outcome>,
    ) -> Grinder<'a> {
        let running = HashMap::new();
        let of_prompt =
            sampling.params.temperature == 0.0 && engine.device().info().breaks_contract.is_none();
        let duplicates = Duplicates::new(share && of_prompt);
        let (lonely, alone) = (None, false);
        Grinder { engine, sampling, tokenizer, journal, keep, out, duplicates, running, lonely, alone }
    }

    /// Runs until all rows are answered, or until `stop` says so or nobody takes the rows; then what is
    /// unfinished is given up.
    ///
    /// # Errors
    /// What ended the job: of the input, the journal or the device.
    pub fn run(
        mut self,
        rows: &Receiver<Result<Prepared, JobError>>,
        mut stop: impl FnMut() -> bool,
    ) -> Result<(), JobError> {
        let mut more = true;
        let mut heart = Heart::default();
        loop {
            heart.beat();
            if stop() {
                return Ok(());
            }
            more = more && self.admit(rows)?;
            if self.engine.is_idle() {
                if !more && self.lonely.is_none() {
                    return Ok(());
                }
                continue;
            }
            for event in self.engine.step()? {
                self.take(event)?;
            }
        }
    }

    /// Fills the engine's queue. Returns whether more rows may come.
    fn admit(&mut self, rows: &Receiver<Result<Prepared, JobError>>) -> Result<bool, JobError> {
        if self.engine.is_idle() {
            self.alone = false;
            if let Some(row) = self.lonely.take() {
                // Rows that the finisher has not appended would share the blame.
                if !self.lock()?.is_idle() {
                    self.lonely = Some(row);
                    std::thread::sleep(Duration::from_millis(1));
                    return Ok(true);
                }
                self.lock()?.commit()?;
                self.alone = true;
                self.start(row)?;
            }
        }
        // The queue need only fill the steps up; what waits behind it stays with the feeder.
        let full = self.engine.limits().seqs;
        // Rows that share an answer do not wait in the engine.
        for taken in 0..AT_ONCE {
            let queue = self.engine.waiting() < full && self.duplicates.have_room();
            if self.alone || self.lonely.is_some() || !queue {
                break;
            }
            let row = if taken == 0 && self.engine.is_idle() {
                match rows.recv_timeout(IDLE) {
                    Ok(row) => row?,
                    Err(RecvTimeoutError::Timeout) => return Ok(true),
                    Err(RecvTimeoutError::Disconnected) => return Ok(false),
                }
            } else {
                match rows.try_recv() {
                    Ok(row) => row?,
                    Err(TryRecvError::Empty) => return Ok(true),
                    Err(TryRecvError::Disconnected) => return Ok(false),
                }
            };
            if row.alone && row.prompt.is_ok() {
                self.lonely = Some(row);
            } else {
                self.start(row)?;
            }
        }
        Ok(true)
    }

    fn lock(&self) -> Result<std::sync::MutexGuard<'a, Journal>, JobError> {
        self.journal
            .lock()
            .map_err(|_| JobError::Internal("a thread ended while it wrote the journal".into()))
    }

    /// Gives a row to the engine, as one request for each completion.
    fn start(&mut self, row: Prepared) -> Result<(), JobError> {
        let number = row.row;
        let prompt = match row.prompt {
            Ok(prompt) => prompt,
            Err(error) => return self.send(number, Err(error)),
        };
        match self.duplicates.take_up(number, &prompt) {
            Turn::Ends(ending) => return self.send_shared(number, ending),
            // One that waits is in flight as much as the one that runs: it is its prompt that does.
            Turn::Waits => return self.lock()?.admit(&[number]),
            Turn::Runs => self.lock()?.admit(&[number])?,
        }
        let tokens = prompt.len() as u32;
        for completion in 0..self.sampling.n {
            let mut params = self.sampling.params(number, completion);
            params.prompt_logprobs = params.prompt_logprobs.filter(|_| completion == 0);
            let id = self.id(number, completion);
            match self.engine.add(Request::new(id, prompt.clone(), params)) {
                Ok(()) => {}
                Err(EngineError::Request(why)) => return self.give_up(number, tokens, "bad request", why),
                Err(error) => return Err(error.into()),
            }
            self.running.entry(number).or_insert_with(|| Ground {
                num_input_tokens: tokens,
                completions: (0..self.sampling.n).map(|_| Generated::default()).collect(),
                prompt_logprobs: self.sampling.params.prompt_logprobs.map(|_| vec![None]),
            });
        }
        Ok(())
    }

    fn id(&self, row: u64, completion: u32) -> u64 {
        row * u64::from(self.sampling.n) + u64::from(completion)
    }

    /// Sends a row on its way, and with it those that have waited for it.
    fn send(&mut self, row: u64, ending: Ending) -> Result<(), JobError> {
        for other in self.duplicates.end(row, &ending) {
            self.send_shared(other, ending.clone())?;
        }
        // A closed channel is the finisher's doing, and it says why.
        let _ = self.out.send(Outcome { row, ending, shared: false });
        Ok(())
    }

    fn send_shared(&self, row: u64, ending: Ending) -> Result<(), JobError> {
        let _ = self.out.send(Outcome { row, ending, shared: true });
        Ok(())
    }

    /// Ends a row with an error, all of its completions with it.
    fn give_up(&mut self, row: u64, tokens: u32, kind: &'static str, detail: String) -> Result<(), JobError> {
        if let Some(ground) = self.running.remove(&row) {
            for (k, completion) in ground.completions.iter().enumerate() {
                if completion.reason.is_none() {
                    self.engine.stop(self.id(row, k as u32));
                }
            }
        }
        self.send(row, Err(RowError { kind, detail, num_input_tokens: Some(tokens) }))
    }

    fn take(&mut self, event: Event) -> Result<(), JobError> {
        let (Event::Prompt { id, .. } | Event::Token { id, .. } | Event::Finished { id, .. }) = &event;
        let (id, n) = (*id, u64::from(self.sampling.n));
        let (row, completion) = (id / n, (id % n) as usize);
        // Events of a row that was given up may still be under way.
        let Some(ground) = self.running.get_mut(&row) else { return Ok(()) };
        let tokens = ground.num_input_tokens;
        let generated = &mut ground.completions[completion];
        match event {
            Event::Prompt { logprobs, .. } => {
                if let Some(all) = &mut ground.prompt_logprobs {
                    all.extend(logprobs.into_iter().map(Some));
                }
            }
            Event::Token { token, .. } => {
                if self.keep.tokens {
                    generated.token_logprobs.push(token.logprob);
                }
                if self.keep.alternatives {
                    generated.logprobs.push(token.top);
                }
                match generated.text.push(token.token, self.tokenizer, &self.sampling.text) {
                    Ok(false) => {}
                    Ok(true) => {
                        generated.reason = Some(FinishReason::Stop);
                        self.engine.stop(id);
                        return self.finish_if_done(row);
                    }
                    Err(why) => return self.give_up(row, tokens, "tokenizer error", why),
                }
            }
            Event::Finished { reason: EngineReason::NotFinite, .. } => {
                let why = format!(
                    "the model's logits after {} tokens are not finite",
                    generated.text.tokens().len()
                );
                return self.give_up(row, tokens, "not finite", why);
            }
            Event::Finished { reason, .. } => {
                let stop = reason == EngineReason::Stop;
                generated.reason = Some(if stop { FinishReason::Stop } else { FinishReason::Length });
                return self.finish_if_done(row);
            }
        }
        Ok(())
    }

    fn finish_if_done(&mut self, row: u64) -> Result<(), JobError> {
        let done = |ground: &Ground| ground.completions.iter().all(|c| c.reason.is_some());
        if !self.running.get(&row).is_some_and(done) {
            return Ok(());
        }
        match self.running.remove(&row) {
            Some(ground) => self.send(row, Ok(ground)),
            None => Ok(()),
        }
    }
}
