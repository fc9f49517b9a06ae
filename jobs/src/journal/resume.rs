//! How a journal that was begun is taken up again.

use crate::error::JobError;
use crate::journal::attempts;
use crate::journal::costs::is_too_long;
use crate::journal::database::Database;
use crate::journal::finished::FinishedRows;
use crate::journal::format::Format;
use crate::journal::format1;
use crate::journal::identity::{InputDigests, JobIdentity};
use crate::journal::length_limits::LengthLimits;
use crate::journal::retry::{self, Retry};
use crate::journal::schema;
use rusqlite::types::ValueRef;
use std::path::Path;

/// Opens a journal, makes sure that it is this job's, and reads through it.
pub(super) fn resume(
    path: &Path,
    state_dir: &Path,
    identity: &JobIdentity,
    inputs: &InputDigests,
    retry: Option<Retry>,
) -> Result<(Database, FinishedRows), JobError> {
    let mut database = Database::open(path)?;
    let now = LengthLimits::of(&identity.identity);
    if let Some(retry) = retry {
        retry::check(&database, retry, now)?;
    }
    let [own, raised, input] = differences(&database, identity, inputs);
    // With --retry, only what differs besides greater limits; without it, greater limits are worth a hint.
    let differing = if retry.is_some() { &raised } else { &own };
    refuse_other(state_dir, differing, note(&database, &own, &raised)?, &input)?;
    database.check_structure()?;
    database.again = retry::choose(&database, retry, now, inputs.rows())?;
    let begun = LengthLimits::of(&database.identity);
    database.settings = retry.and(now.zip(begun)).and_then(|(now, begun)| now.settings(&begun));
    let finished = scan(&database, inputs.rows())?;
    attempts::check(&database)?;
    Ok((database, finished))
}

/// Makes sure that a journal is this job's and whole, without writing to it. Gives the number of its finished rows.
pub(super) fn check_copy(
    path: &Path,
    identity: &JobIdentity,
    inputs: &InputDigests,
) -> Result<u64, JobError> {
    let database = Database::open_read_only(path)?;
    let [own, raised, input] = differences(&database, identity, inputs);
    refuse_other(path, &own, note(&database, &own, &raised)?, &input)?;
    database.check_structure()?;
    Ok(scan(&database, inputs.rows())?.count)
}

/// Refuses a journal whose identity or inputs differ, with what to know about that.
fn refuse_other(state_dir: &Path, differing: &str, note: &str, input: &str) -> Result<(), JobError> {
    if differing.is_empty() && input.is_empty() {
        return Ok(());
    }
    let lines = [differing, note, input].into_iter().filter(|line| !line.is_empty());
    let differences = lines.collect::<Vec<_>>().join("\n");
    Err(JobError::OtherIdentity { state_dir: state_dir.into(), differences })
}

/// What is not as it was when the job was begun: of the identity, of the identity but for greater limits, and of the inputs.
fn differences(database: &Database, identity: &JobIdentity, inputs: &InputDigests) -> [String; 3] {
    let begun = &database.identity;
    let [own, raised] = match database.format {
        Format::One => {
            let own = format1::differences(begun, &identity.format1);
            [own.clone(), own]
        }
        _ => {
            let lowered = LengthLimits::lowered_to_begun(&identity.identity, begun);
            [identity.identity.differences(begun), lowered.differences(begun)]
        }
    };
    [own, raised, inputs.differences(&database.inputs)]
}

/// What to know about an identity that differs.
fn note(database: &Database, own: &str, raised: &str) -> Result<&'static str, JobError> {
    let version = ["prompts version:", "prompts_version:"].iter().any(|field| own.contains(field));
    Ok(match version {
        // The same command would not help: it makes other prompts now.
        true if database.count()? == database.inputs.rows() => {
            "  all its rows are answered, by another version of gristmill, which makes prompts otherwise; its output stays as \
             that version published it"
        }
        true => {
            "  it was begun by another version of gristmill, which makes prompts otherwise: finish it with that version"
        }
        false if !own.is_empty() && raised.is_empty() => {
            "  with --retry, greater values are for rows that run again, and the others keep what they have"
        }
        false => "",
    })
}

/// Reads every answer, and makes sure that it is what was written.
fn scan(database: &Database, rows: u64) -> Result<FinishedRows, JobError> {
    let wrong = schema::journal_error(&database.path);
    let mut finished = FinishedRows::none_of(rows);
    let query = format!("SELECT * FROM answers WHERE {} ORDER BY row", database.format.is_answer());
    let mut statement = database.connection.prepare(&query).map_err(&wrong)?;
    let mut records = statement.query([]).map_err(&wrong)?;
    while let Some(record) = records.next().map_err(&wrong)? {
        let values = database.answer_columns(record)?;
        let number = |column: usize| values[column].as_i64_or_null().ok().flatten().unwrap_or(0) as u64;
        if !finished.insert(number(0)) {
            return Err(database.damaged("a row is there twice or does not belong to the job"));
        }
        finished.errors += u64::from(values[1] != ValueRef::Null);
        if !values[1].as_str().is_ok_and(is_too_long) {
            finished.input_tokens += number(4);
        }
        finished.generated_tokens += number(5);
    }
    Ok(finished)
}

/// Finished rows of a journal.
pub(super) fn count(path: &Path) -> Result<u64, JobError> {
    Database::open_read_only(path)?.count()
}
