//! The thread that writes answers to the journal, a batch at a time.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::costs::MergePrices;
use crate::journal::database::Database;
use crate::journal::note::Note;
use crate::journal::schema;
use crate::journal::timeline::{Sample, Timeline};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// A batch is committed when its first answer is this old: what a kill can cost.
const AGE: Duration = Duration::from_secs(1);

/// The age for the second batch of a start; it doubles up to [`AGE`]. The first answer is committed at once, so
/// that a start which dies early still counts for what it has answered.
const EARLY: Duration = Duration::from_millis(10);

/// A batch of this number of answers is committed.
const BATCH: u64 = 10_000;

/// Answers that wait for the thread; a caller that is faster waits for it.
const QUEUE: usize = 1024;

enum Message {
    /// And whether it is that of another row of the same prompt, and how long the row took.
    Answer(Answer, bool, Option<Duration>),
    /// A note, and whether it took the answer to an equal prompt.
    Note(Note, bool),
    JobRows(u64),
    /// What the start has done, as JSON.
    Costs(String),
    Prices(MergePrices),
    Commit(SyncSender<()>),
}

/// The caller's side of the thread.
pub(crate) struct Writer {
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<Database, JobError>>>,
    path: PathBuf,
}

impl Writer {
    /// Starts the thread, and a line in the table `starts`.
    pub(crate) fn spawn(database: Database) -> Result<Self, JobError> {
        let path = database.path.clone();
        let batch = Batch::begin(database)?;
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || batch.run(&receiver));
        let thread = thread.map_err(JobError::io("start the writer of", &path))?;
        Ok(Writer { sender: Some(sender), thread: Some(thread), path })
    }

    pub(crate) fn append(
        &mut self,
        answer: Answer,
        shared: bool,
        took: Option<Duration>,
    ) -> Result<(), JobError> {
        self.send(Message::Answer(answer, shared, took))
    }

    pub(crate) fn append_note(&mut self, note: Note, shared: bool) -> Result<(), JobError> {
        self.send(Message::Note(note, shared))
    }

    pub(crate) fn note_rows(&mut self, rows: u64) -> Result<(), JobError> {
        self.send(Message::JobRows(rows))
    }

    /// Says nothing of a thread that has ended: why it has, is for those who have answers to append.
    pub(crate) fn note_costs(&mut self, figures: String) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(Message::Costs(figures));
        }
    }

    pub(crate) fn note_prices(&mut self, merge: MergePrices) -> Result<(), JobError> {
        self.send(Message::Prices(merge))
    }

    pub(crate) fn commit(&mut self) -> Result<(), JobError> {
        let (done, wait) = sync_channel(1);
        self.send(Message::Commit(done))?;
        // The thread drops its end if it fails.
        wait.recv().map_err(|_| self.failure())
    }

    /// Commits all answers and ends the thread. Gives the journal that it wrote to, if that has not been done before.
    pub(crate) fn end(&mut self) -> Result<Option<Database>, JobError> {
        drop(self.sender.take());
        match self.thread.take().map(JoinHandle::join) {
            None => Ok(None),
            Some(Ok(result)) => result.map(Some),
            Some(Err(_)) => Err(self.lost()),
        }
    }

    fn send(&mut self, message: Message) -> Result<(), JobError> {
        let sent = self.sender.as_ref().is_some_and(|sender| sender.send(message).is_ok());
        if sent { Ok(()) } else { Err(self.failure()) }
    }

    /// Why the thread has ended.
    fn failure(&mut self) -> JobError {
        match self.end() {
            Err(error) => error,
            Ok(_) => self.lost(),
        }
    }

    fn lost(&self) -> JobError {
        let source = std::io::Error::other("the thread that writes it has ended");
        JobError::Io { doing: "write", path: self.path.clone(), source }
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::error!("{error}");
        }
    }
}

/// The thread's side: the journal, and the answers of the open transaction.
struct Batch {
    database: Database,
    start: i64,
    /// The rows of all other starts, when this one began.
    others: i64,
    begun: Instant,
    /// When the first uncommitted answer came, if there is one.
    open: Option<Instant>,
    /// How old it may become.
    age: Duration,
    pending: u64,
    rows: u64,
    shared: u64,
    errors: u64,
    input_tokens: u64,
    generated_tokens: u64,
    /// Of rows that took another's answer.
    shared_tokens: u64,
    /// What the start has done, if that is not committed.
    costs: Option<String>,
    timeline: Timeline,
}

impl Batch {
    fn begin(database: Database) -> Result<Self, JobError> {
        database.create_costs()?;
        database.create_timelines()?;
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        let line = "INSERT INTO starts VALUES (NULL, ?, ?, ?, NULL, 0, 0, 0, 0, 0, 0)";
        let values = (env!("CARGO_PKG_VERSION"), std::process::id(), now as i64);
        database.connection.execute(line, values).map_err(schema::journal_error(&database.path))?;
        let start = database.connection.last_insert_rowid();
        Ok(Batch {
            start,
            others: rows_of_others(&database, start)?,
            database,
            begun: Instant::now(),
            open: None,
            age: Duration::ZERO,
            pending: 0,
            rows: 0,
            shared: 0,
            errors: 0,
            input_tokens: 0,
            generated_tokens: 0,
            shared_tokens: 0,
            costs: None,
            timeline: Timeline::default(),
        })
    }

    fn run(mut self, messages: &Receiver<Message>) -> Result<Database, JobError> {
        loop {
            let due = self.open.map(|open| self.age.saturating_sub(open.elapsed()));
            let message = match due {
                Some(wait) => messages.recv_timeout(wait),
                None => messages.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match message {
                Ok(Message::Answer(answer, shared, took)) => {
                    self.insert(&answer, shared)?;
                    took.into_iter().for_each(|took| self.timeline.note_row(answer.row, took));
                }
                Ok(Message::Note(note, shared)) => self.insert_note(&note, shared)?,
                Ok(Message::JobRows(rows)) => self.note_rows(rows)?,
                Ok(Message::Costs(figures)) => {
                    self.costs = Some(figures);
                    if self.open.is_none() {
                        // Not by `commit`: the first answer is still to be committed at once.
                        self.begin_transaction()?;
                        self.commit_tallies()?;
                    }
                }
                Ok(Message::Prices(merge)) => {
                    if self.open.is_some() {
                        self.commit()?;
                    }
                    self.database.note_prices(merge)?;
                }
                Ok(Message::Commit(done)) => {
                    self.commit()?;
                    let _ = done.send(());
                }
                Err(RecvTimeoutError::Timeout) => self.commit()?,
                Err(RecvTimeoutError::Disconnected) => {
                    self.commit()?;
                    self.keep_timeline(true)?;
                    return Ok(self.database);
                }
            }
            if self.pending >= BATCH || self.open.is_some_and(|open| open.elapsed() >= self.age) {
                self.commit()?;
            }
        }
    }

    fn note_rows(&mut self, rows: u64) -> Result<(), JobError> {
        let line = "UPDATE starts SET job_rows = ? WHERE start = ?";
        let updated = self.database.connection.execute(line, [rows as i64, self.start]);
        updated.map(drop).map_err(schema::journal_error(&self.database.path))
    }

    fn open(&mut self) -> Result<(), JobError> {
        if self.open.is_none() {
            self.begin_transaction()?;
            self.open = Some(Instant::now());
        }
        self.pending += 1;
        Ok(())
    }

    fn begin_transaction(&self) -> Result<(), JobError> {
        let begun = self.database.connection.execute_batch("BEGIN IMMEDIATE");
        begun.map_err(schema::journal_error(&self.database.path))
    }

    fn insert_note(&mut self, note: &Note, shared: bool) -> Result<(), JobError> {
        self.open()?;
        if shared {
            self.shared_tokens += tokens_of(&note.answer);
        }
        self.database.insert_note(note)
    }

    fn insert(&mut self, answer: &Answer, shared: bool) -> Result<(), JobError> {
        self.open()?;
        match self.database.insert(answer) {
            Err(JobError::DoubleAnswer { row }) => {
                // The rows before it are good.
                self.commit()?;
                let elsewhere = rows_of_others(&self.database, self.start)? != self.others;
                return Err(match elsewhere {
                    true => JobError::AnsweredElsewhere { row },
                    false => JobError::DoubleAnswer { row },
                });
            }
            other => _ = other?,
        }
        self.rows += 1;
        self.shared += u64::from(shared);
        self.errors += u64::from(answer.error.is_some());
        self.input_tokens += u64::from(answer.num_input_tokens.unwrap_or(0));
        self.generated_tokens += answer.num_generated_tokens();
        if shared {
            self.shared_tokens += tokens_of(answer);
        }
        Ok(())
    }

    fn commit(&mut self) -> Result<(), JobError> {
        if self.open.take().is_none() {
            return Ok(());
        }
        self.pending = 0;
        self.age = (self.age * 2).clamp(EARLY, AGE);
        self.commit_tallies()
    }

    /// Keeps what this start has finished so far, if it is time, or if the start ends.
    fn keep_timeline(&mut self, last: bool) -> Result<(), JobError> {
        let elapsed_ms = self.begun.elapsed().as_millis() as u64;
        let sample =
            Sample { elapsed_ms, rows: self.rows, tokens: self.input_tokens + self.generated_tokens };
        match self.timeline.note(sample, last) {
            true => self.database.keep_timeline(self.start, &self.timeline),
            false => Ok(()),
        }
    }

    /// Commits the open transaction, with what this start has done so far.
    fn commit_tallies(&mut self) -> Result<(), JobError> {
        if let Some(figures) = self.costs.take() {
            self.database.note_costs(self.start, self.shared_tokens, &figures)?;
        }
        self.keep_timeline(false)?;
        let line = "UPDATE starts SET elapsed_ms = ?, rows = ?, shared = ?, errors = ?, input_tokens = ?, \
                    generated_tokens = ? WHERE start = ?";
        let elapsed = self.begun.elapsed().as_millis() as i64;
        let tallies = [self.rows, self.shared, self.errors, self.input_tokens, self.generated_tokens];
        let [rows, shared, errors, input, generated] = tallies.map(|n| n as i64);
        let values = [elapsed, rows, shared, errors, input, generated, self.start];
        let updated =
            self.database.connection.prepare_cached(line).and_then(|mut update| update.execute(values));
        updated
            .and_then(|_| self.database.connection.execute_batch("COMMIT"))
            .map_err(schema::journal_error(&self.database.path))
    }
}

/// Tokens of prompts and answers.
fn tokens_of(answer: &Answer) -> u64 {
    u64::from(answer.num_input_tokens.unwrap_or(0)) + answer.num_generated_tokens()
}

/// The rows that were finished by all starts but one, this process's: they grow only where another process works on the
/// job, too.
fn rows_of_others(database: &Database, start: i64) -> Result<i64, JobError> {
    let query = "SELECT coalesce(sum(rows), 0) FROM starts WHERE start <> ?";
    let rows = database.connection.query_row(query, [start], |row| row.get(0));
    rows.map_err(schema::journal_error(&database.path))
}
