//! What ends a job, and its exit code. A bad row never ends a job: it is data, with its error.

mod exit_code;
mod remedy;

use crate::counted::counted;
use crate::stop_signal::StopSignal;
use crate::store::error::StoreError;
use engine::error::EngineError;
use engine::file::FileError;
use std::path::PathBuf;

pub use exit_code::{
    EXIT_DEVICE_LOST, EXIT_DONE, EXIT_FAILED, EXIT_INTERRUPTED, EXIT_REFUSED, EXIT_TERMINATED,
    EXIT_TOO_MANY_ERRORS,
};

/// What ends a job, or keeps it from starting.
#[derive(Debug, thiserror::Error)]
pub enum JobError {
    /// A flag, a key of the job file, or a combination of them.
    #[error("{0}")]
    Usage(String),
    /// An input is not the Parquet file that it should be.
    #[error("{path}{place}: {why}", path = path.display())]
    Input {
        path: PathBuf,
        /// Where in it (", row group 3, column text"), or empty.
        place: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// A template does not compile, or needs something that does not exist.
    #[error("{what}: {why}")]
    Template {
        what: String,
        /// What is wrong and what to do.
        why: String,
    },
    /// The model's folder lacks something or holds what cannot be used.
    #[error("{path}: {why}", path = path.display())]
    Model {
        path: PathBuf,
        /// What is wrong and what to do.
        why: String,
    },
    /// A model could not be fetched from a hub.
    #[error("{model}: {why}")]
    Hub {
        model: String,
        /// What is wrong and what to do.
        why: String,
        /// Whether the hub did not answer as it should, which may pass.
        unreachable: bool,
    },
    /// More error rows than `--max-error-rate` or `--max-errors` allow.
    #[error("{errors} of {} {}, more than {limit} allows. The first: {first}. {remedy}", counted(*rows, "row"), match errors { 1 => "has an error", _ => "have errors" })]
    TooManyErrors {
        /// Rows with errors.
        errors: u64,
        /// Rows finished.
        rows: u64,
        /// The flag and its value.
        limit: String,
        /// The first error seen.
        first: String,
        /// Where to read the others.
        remedy: String,
    },
    /// Ctrl-C or SIGTERM.
    #[error("stopped by {0}; finished rows are kept, and the same command goes on with the others")]
    Interrupted(StopSignal),
    /// A thread of the job ended without saying why: a bug.
    #[error("internal error: {0}; please report it")]
    Internal(String),
    /// The engine cannot serve the model, or its device failed.
    #[error("{}", remedy::message(.0))]
    Engine(EngineError),
    /// A file or folder could not be used.
    #[error("cannot {doing} {}: {source}{}", path.display(), remedy(source))]
    Io {
        /// What was being done, as in "write".
        doing: &'static str,
        path: PathBuf,
        source: std::io::Error,
    },
    /// A file is not the one that the job began with.
    #[error(
        "{} has changed since the job began: it is gone, or other bytes stand in it now. No answer and no value was made of \
             them, and finished rows are kept. Put the file back as it was and run the same command again when nothing writes \
             to it; for the new content, choose another --output, or discard this job with --fresh",
        path.display()
    )]
    Changed { path: PathBuf },
    /// An object store could not be used.
    #[error("cannot {doing} {url}: {error}")]
    Store {
        /// What was being done, as in "write".
        doing: &'static str,
        /// The object, folder or bucket.
        url: String,
        /// What is wrong, and what to do.
        error: StoreError,
    },
    /// Another job writes to the same output in an object store.
    #[error(
        "another job writes to {output}: {claim} says {says}. Wait for it or choose another --output; if that \
             job will never run again, remove {claim}"
    )]
    Claimed {
        output: String,
        /// The object that says so.
        claim: String,
        /// Its text.
        says: String,
    },
    /// A machine that has taken a job over has reserved the place of its manifest.
    #[error(
        "{holder} has taken over the job of {output} and not published it, by {reservation}. Wait for it; if that machine is gone, \
             too, --take-over goes on with the job here"
    )]
    Reserved {
        output: String,
        /// The object that says so.
        reservation: String,
        /// Machine and number of the owner.
        holder: String,
    },
    /// Another machine has taken the job over.
    #[error(
        "{host} has taken over the job of {output} and goes on with it (owner {owner}, by {claim}); this machine publishes nothing. \
             Rows that were answered here are kept in {}. If {host} is gone, too, `--take-over` takes the job back",
        state_dir.display()
    )]
    TakenOver {
        output: String,
        /// The object that says so.
        claim: String,
        host: String,
        /// Its number.
        owner: u64,
        state_dir: PathBuf,
    },
    /// Another machine has taken this one's job over, and has published it.
    #[error(
        "{output} is published: another machine has taken this job over and finished it. `gristmill verify {output}` checks it. \
             Nothing needs {} any more, where rows that were answered here are kept",
        state_dir.display()
    )]
    PublishedElsewhere { output: String, state_dir: PathBuf },
    /// The claim is gone while the job runs.
    #[error(
        "{claim}, by which no other job writes to the output, was removed while the job ran; finished rows are kept, and nothing \
             was published. Run the same command again"
    )]
    ClaimRemoved { claim: String },
    /// The job that was to be taken over is not to be.
    #[error(
        "the job of {output} is still at work on {owner}: {claim} was renewed. Stop it there first, or wait until it has published"
    )]
    StillAtWork { output: String, claim: String, owner: String },
    /// A copy of a journal in a store cannot be gone on with.
    #[error(
        "{checkpoint}, the copy of the job's journal, is not as it was written: {what}. Nothing was taken over. If the machine of \
             the job is gone for good, remove that object, and --take-over begins its rows anew"
    )]
    CheckpointDamaged { checkpoint: String, what: String },
    /// Shards are not all there.
    #[error(
        "{output} cannot be published yet:\n{problems}\nrun these shards (`gristmill run --shard i/{shards}`), then publish again"
    )]
    UnfinishedShards {
        output: String,
        shards: u64,
        /// One line for each shard.
        problems: String,
    },
    /// A shard, or what was begun at its place, is of another job.
    #[error(
        "{begun} is of another job in {}; these values differ:\n{differences}\nrun all shards with the same flags, or choose \
             another --output; where the shards that were begun are not wanted any more, remove {begun} and they begin anew",
        counted(*shards, "shard")
    )]
    OtherShards {
        /// What says so, a file or an object.
        begun: String,
        shards: u64,
        /// One line for each value that differs.
        differences: String,
    },
    /// A shard that says that it is finished is not what it says.
    #[error("{output} was not published:\n{problems}")]
    WrongShards {
        output: String,
        /// One line for each problem, and what to do.
        problems: String,
    },
    /// SQLite refused to work on the journal.
    #[error("the journal {} failed: {source}; finished rows up to the last commit are kept; fix the cause and run the \
             same command again", path.display())]
    Journal { path: PathBuf, source: rusqlite::Error },
    /// The journal is not what was written.
    #[error("the journal {} is damaged: {what}; none of it is used. Restore it from a copy, or start \
             again with --fresh", path.display())]
    JournalDamaged {
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The journal is of a format that this version does not know.
    #[error("the journal {} is of format {format}, which this version of gristmill does not know; it reads formats 1 to \
             3. Continue the job with the version that began it, or begin again with --fresh", path.display())]
    JournalFormat {
        /// The journal.
        path: PathBuf,
        /// SQLite's `user_version` of it.
        format: i64,
    },
    /// The state_dir belongs to another job.
    #[error("{} holds another job; these values differ:\n{differences}\nrun the command of that job, choose \
             another --output, or discard that job with --fresh", state_dir.display())]
    OtherIdentity {
        state_dir: PathBuf,
        /// One line for each field that differs, with both values.
        differences: String,
    },
    /// The state_dir is no longer where it was when the job began to run.
    #[error(
        "{} was moved away, replaced or removed while the job ran; its finished rows are in that folder, and nothing was \
             published. Move it back and run the same command again; without it, the job begins anew", state_dir.display())]
    StateDirMoved { state_dir: PathBuf },
    /// The lock is not the one that was taken when the job began to run.
    #[error(
        "the lock {} was removed or replaced while the job ran, so that another process may have worked on the same job; \
             finished rows are kept, and nothing was published by this process. Leave the file alone, and run the same \
             command again", path.display())]
    LockRemoved { path: PathBuf },
    /// A row has the answer of another process.
    #[error(
        "another process works on the same job and has answered row {row}, as it can where the job's lock was removed; each \
             row has one answer, and nothing was published by this process. Run the same command again when the other one \
             has ended"
    )]
    AnsweredElsewhere { row: u64 },
    /// Another process works on the job.
    #[error("process {pid} is working on {}; one process works on a job at a time: wait for it, or \
             stop it", state_dir.display())]
    Locked { state_dir: PathBuf, pid: String },
    /// `--resume never`, and there is something to resume.
    #[error("{} holds a job with {rows} finished rows and --resume is never; use --resume auto to resume it, \
             or --fresh to discard it", state_dir.display())]
    AlreadyBegun {
        state_dir: PathBuf,
        /// Rows that are finished.
        rows: u64,
    },
    /// `--resume require`, and there is nothing to resume.
    #[error("{} holds no job and --resume is require; use --resume auto to begin", state_dir.display())]
    NothingToResume { state_dir: PathBuf },
    /// `--retry`, and there is no job.
    #[error("{} holds no job, so that --retry has no rows to run again; leave it out to begin one", state_dir.display())]
    NothingToRetry { state_dir: PathBuf },
    /// `--retry`, and the journal's format has no place for it.
    #[error(
        "the journal {} is of format {format}, which has no place for rows that run again; continue the job without \
             --retry, or begin again with --fresh", path.display())]
    RetryFormat {
        path: PathBuf,
        /// The format's number.
        format: i64,
    },
    /// A row was answered twice: a bug.
    #[error("row {row} was answered twice; this is a bug of gristmill, and the second answer was not kept")]
    DoubleAnswer { row: u64 },
    /// The output was asked for before the job was done.
    #[error(
        "{missing} of {} {} no answer yet (the first is row {first}); run the same command again to finish the job",
        counted(*rows, "row"),
        match missing { 1 => "has", _ => "have" }
    )]
    Incomplete {
        /// Rows without an answer.
        missing: u64,
        rows: u64,
        /// The first row without an answer.
        first: u64,
    },
    /// An output column cannot be made.
    #[error("output column {column:?}: {why}")]
    Column {
        column: String,
        /// What is wrong, and what to do.
        why: String,
    },
    /// The output could not be encoded.
    #[error("cannot encode {}: {source}", path.display())]
    Encode { path: PathBuf, source: parquet::errors::ParquetError },
    /// The output is in the way of another.
    #[error("{} exists and was not made by this job, or was changed since; move it away or choose another --output", path.display())]
    OutputExists { path: PathBuf },
    /// The published output is not what the job wrote.
    #[error("{} does not hold what was published:\n{problems}", output.display())]
    NotAsPublished {
        output: PathBuf,
        /// One line for each problem.
        problems: String,
    },
    /// The published output is what the job wrote; its receipt is not.
    #[error(
        "{output} is as published, but its receipt is not as it was written:\n{problems}\nthe command of the job, run again, \
             writes it anew"
    )]
    ReceiptNotAsWritten {
        output: String,
        /// One line for each problem.
        problems: String,
    },
    /// The worker died again and again.
    #[error(
        "the worker died {starts} times without finishing a row; the last time: {how}. Finished \
             rows are kept; fix the cause and run the same command again"
    )]
    NoProgress {
        /// Starts without progress.
        starts: u32,
        /// How it ended the last time.
        how: String,
    },
}

impl JobError {
    /// Makes an I/O error of doing something to a path, for `map_err`.
    pub fn io(doing: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| JobError::Io { doing, path, source }
    }
}

impl From<EngineError> for JobError {
    fn from(error: EngineError) -> Self {
        match error {
            EngineError::File(error) => error.into(),
            error => JobError::Engine(error),
        }
    }
}

impl From<FileError> for JobError {
    fn from(error: FileError) -> Self {
        match error {
            FileError::System { doing, path, source } => JobError::Io { doing, path, source },
            FileError::Changed { path } => JobError::Changed { path },
        }
    }
}

/// What to do about an I/O error, if that is known.
fn remedy(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::StorageFull | std::io::ErrorKind::QuotaExceeded => {
            "; free some space and run the same command again"
        }
        // Nothing else takes an address.
        std::io::ErrorKind::AddrInUse => {
            "; another process has this port: wait for it, or choose another with --metrics"
        }
        std::io::ErrorKind::AddrNotAvailable => "; --metrics takes an address of this machine",
        std::io::ErrorKind::PermissionDenied => "; check its permissions",
        _ => "",
    }
}
