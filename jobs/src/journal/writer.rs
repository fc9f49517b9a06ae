//! The thread that writes answers to the journal, a batch at a time.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::committed::{Committed, StartTallies};
use crate::journal::costs::{MergePrices, StartFigures, input_tokens_of};
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
    /// What the start has done.
    Costs(Box<StartFigures>),
    Prices(MergePrices),
    Commit(SyncSender<()>),
}

/// The caller's side of the thread.
pub(crate) struct Writer {
    committed: Committed,
    sender: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<Result<Database, JobError>>>,
    path: PathBuf,
}

impl Writer {
    /// Starts the thread, and a line in the table `starts`.
    pub(crate) fn spawn(database: Database) -> Result<Self, JobError> {
        let path = database.path.clone();
        let batch = Batch::begin(database)?;
        let committed = batch.committed.clone();
        let (sender, receiver) = sync_channel(QUEUE);
        let thread = std::thread::Builder::new().name("journal".into()).spawn(move || batch.run(&receiver));
        let thread = thread.map_err(JobError::io("start the writer of", &path))?;
        Ok(Writer { committed, sender: Some(sender), thread: Some(thread), path })
    }

    /// What this start has committed, also as it goes on.
    pub(crate) fn committed(&self) -> Committed {
        self.committed.clone()
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
    pub(crate) fn note_costs(&mut self, figures: StartFigures) {
        if let Some(sender) = &self.sender {
            let _ = sender.send(Message::Costs(Box::new(figures)));
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
    /// What the start has done so far, and what of it is committed.
    tallies: StartTallies,
    committed: Committed,
    /// Of rows and notes that took another's answer: tokens of prompts and of answers.
    shared_tokens: [u64; 2],
    /// Whether that or the figures of the tallies are not committed.
    costs_changed: bool,
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
            tallies: StartTallies::default(),
            committed: Committed::default(),
            shared_tokens: [0; 2],
            costs_changed: false,
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
                    self.tallies.figures = Some(*figures);
                    self.costs_changed = true;
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
            self.share(&note.answer);
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
        self.tallies.add(answer, shared);
        if shared {
            self.share(answer);
        }
        Ok(())
    }

    fn share(&mut self, answer: &Answer) {
        self.shared_tokens[0] += input_tokens_of(answer);
        self.shared_tokens[1] += answer.num_generated_tokens();
        self.costs_changed = true;
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
        let StartTallies { rows, input_tokens, generated_tokens, .. } = self.tallies;
        let sample = Sample { elapsed_ms, rows, tokens: input_tokens + generated_tokens };
        match self.timeline.note(sample, last) {
            true => self.database.keep_timeline(self.start, &self.timeline),
            false => Ok(()),
        }
    }

    /// Commits the open transaction, with what this start has done so far.
    fn commit_tallies(&mut self) -> Result<(), JobError> {
        let [input, generated] = self.shared_tokens;
        if self.costs_changed
            && let Some(figures) = &mut self.tallies.figures
        {
            figures.shared_input_tokens = Some(input);
            let text =
                serde_json::to_string(figures).map_err(|error| JobError::Internal(error.to_string()))?;
            self.database.note_costs(self.start, input + generated, &text)?;
        }
        self.costs_changed = false;
        self.keep_timeline(false)?;
        let line = "UPDATE starts SET elapsed_ms = ?, rows = ?, shared = ?, errors = ?, input_tokens = ?, \
                    generated_tokens = ? WHERE start = ?";
        let elapsed = self.begun.elapsed().as_millis() as i64;
        let StartTallies { rows, shared_rows, input_tokens, generated_tokens, .. } = self.tallies;
        let tallies = [rows, shared_rows, self.tallies.error_rows(), input_tokens, generated_tokens];
        let [rows, shared, errors, input, generated] = tallies.map(|n| n as i64);
        let values = [elapsed, rows, shared, errors, input, generated, self.start];
        let updated =
            self.database.connection.prepare_cached(line).and_then(|mut update| update.execute(values));
        updated
            .and_then(|_| self.database.connection.execute_batch("COMMIT"))
            .map_err(schema::journal_error(&self.database.path))?;
        self.committed.set(&self.tallies);
        Ok(())
    }
}

/// The rows that were finished by all starts but one, this process's: they grow only where another process works on the
/// job, too.
fn rows_of_others(database: &Database, start: i64) -> Result<i64, JobError> {
    let query = "SELECT coalesce(sum(rows), 0) FROM starts WHERE start <> ?";
    let rows = database.connection.query_row(query, [start], |row| row.get(0));
    rows.map_err(schema::journal_error(&database.path))
}
