//! Rows that run again (`--retry`).
//!
//! The answer that a row has is set aside, as another part of the row, so that the row has no answer as far as the rest of
//! a job can see. When the new one is there, it goes in the same transaction. Whoever opens the journal and does not want
//! the row to run again puts the answer back.

use crate::error::JobError;
use crate::journal::answer::{Answer, FinishReason};
use crate::journal::attempts;
use crate::journal::costs;
use crate::journal::database::Database;
use crate::journal::format::{ANSWER, Format, SET_ASIDE};
use crate::journal::length_limits::LengthLimits;
use crate::journal::row_set::RowSet;
use crate::journal::schema::journal_error;
use crate::row_error::RowErrorKind;

/// Which rows are to run again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retry {
    /// Those that have an error.
    pub errors: bool,
    /// Those of which an answer was cut off at a limit that is greater now.
    pub length: bool,
    /// Of the first rows of the input; the others keep what they have.
    pub rows: u64,
    /// A worker before this one has chosen them.
    pub chosen: bool,
}

/// Refuses a job whose rows cannot run again.
///
/// # Errors
/// [`JobError::RetryFormat`], or [`JobError::Usage`] if no row could end otherwise.
pub(super) fn check(database: &Database, retry: Retry, now: Option<LengthLimits>) -> Result<(), JobError> {
    if database.format < Format::Three {
        let (path, format) = (database.path.clone(), database.format.number().max(1));
        return Err(JobError::RetryFormat { path, format });
    }
    let begun = LengthLimits::of(&database.identity);
    if let Some((now, begun)) = now.zip(begun) {
        refuse_smaller(now, begun)?;
    }
    if let Some(now) = now.filter(|_| retry.length)
        && begun == Some(now)
    {
        let LengthLimits { max_tokens, max_model_len } = now;
        return Err(JobError::Usage(format!(
            "--retry length needs a greater --max-tokens than {max_tokens} or a greater --max-model-len than \
             {max_model_len}, with which the job was begun: rows that were cut off would end as before"
        )));
    }
    Ok(())
}

/// Refuses limits that are smaller than those with which the job was begun.
fn refuse_smaller(now: LengthLimits, begun: LengthLimits) -> Result<(), JobError> {
    for (flag, now, then) in [
        ("--max-tokens", now.max_tokens, begun.max_tokens),
        ("--max-model-len", now.max_model_len, begun.max_model_len),
    ] {
        if now < then {
            return Err(JobError::Usage(format!(
                "--retry takes no smaller {flag} than {then}, with which the job was begun, and here it is {now}: rows that do \
                 not run again keep answers of the first value"
            )));
        }
    }
    Ok(())
}

/// Puts back every answer that was set aside and not replaced, but for those of rows that are to run again; sets the
/// answers of the others aside. Gives the rows that are to run again.
///
/// # Errors
/// [`JobError::JournalDamaged`] or [`JobError::Journal`].
pub(super) fn choose(
    database: &Database,
    retry: Option<Retry>,
    now: Option<LengthLimits>,
    rows: u64,
) -> Result<RowSet, JobError> {
    let mut chosen = RowSet::none_of(rows);
    if database.format < Format::Three {
        return Ok(chosen);
    }
    let wrong = journal_error(&database.path);
    let transaction = database.connection.unchecked_transaction().map_err(&wrong)?;
    let errors_left = match retry {
        Some(retry) if !retry.chosen => restore(database, |answer| retry.wants(answer, now), &mut chosen)?,
        Some(_) => restore(database, |_| true, &mut chosen)?,
        None => restore(database, |_| false, &mut chosen)?,
    };
    if let Some(retry) = retry.filter(|retry| !retry.chosen) {
        // Where an earlier start was interrupted, the errors that are not left over have run again already.
        let again = |answer: &Answer| answer.error.is_none() || is_too_long(answer) || !errors_left;
        let maybe = "(error IS NOT NULL OR finish_reason = 'length' OR finish_reason LIKE '%\"length\"%' \
                     OR typed_values LIKE '%num_cut_notes%')";
        let mut begun = RowSet::none_of(rows);
        for (row, _) in
            rows_where(database, ANSWER, maybe, |answer| again(answer) && retry.wants(answer, now))?
        {
            database.move_record(row, ANSWER, SET_ASIDE)?;
            begun.insert(row as u64);
            chosen.insert(row as u64);
        }
        attempts::run_once_more(database, &begun)?;
    }
    transaction.commit().map_err(&wrong)?;
    Ok(chosen)
}

/// Puts answers back that were set aside, but for those that are wanted to run again. Whether an error is among the latter.
fn restore(
    database: &Database,
    wanted: impl Fn(&Answer) -> bool,
    chosen: &mut RowSet,
) -> Result<bool, JobError> {
    let left = rows_where(database, SET_ASIDE, "TRUE", |answer| wanted(answer))?;
    left.iter().for_each(|(row, _)| _ = chosen.insert(*row as u64));
    for (row, _) in rows_where(database, SET_ASIDE, "TRUE", |answer| !chosen.contains(answer.row))? {
        database.put_back(row)?;
    }
    Ok(left.iter().any(|(_, is_error)| *is_error))
}

/// The rows of a part whose answers meet a condition, and whether they are errors.
fn rows_where(
    database: &Database,
    part: i64,
    condition: &str,
    meets: impl Fn(&Answer) -> bool,
) -> Result<Vec<(i64, bool)>, JobError> {
    let wrong = journal_error(&database.path);
    let query = format!("SELECT * FROM answers WHERE part = {part} AND {condition} ORDER BY row");
    let mut statement = database.connection.prepare(&query).map_err(&wrong)?;
    let mut records = statement.query([]).map_err(&wrong)?;
    let mut rows = Vec::new();
    while let Some(record) = records.next().map_err(&wrong)? {
        let answer = database.answer(record)?;
        if meets(&answer) {
            rows.push((answer.row as i64, answer.error.is_some()));
        }
    }
    Ok(rows)
}

fn is_too_long(answer: &Answer) -> bool {
    answer.error.as_deref().is_some_and(costs::is_too_long)
}

impl Retry {
    /// Whether a row with this answer is to run again, with these limits.
    fn wants(&self, answer: &Answer, now: Option<LengthLimits>) -> bool {
        if answer.row >= self.rows {
            return false;
        }
        let tokens = answer.num_input_tokens.map(u64::from);
        let incomplete = answer.error.as_deref().and_then(RowErrorKind::of) == Some(RowErrorKind::Incomplete);
        if answer.error.is_some() && !incomplete {
            let fits = now.zip(tokens).is_none_or(|(now, tokens)| tokens < now.max_model_len);
            return self.errors && (fits || !is_too_long(answer));
        }
        let cut = answer.completions.iter().filter(|c| c.finish_reason == FinishReason::Length);
        if let Some(document) = &answer.document {
            // Its tokens are those of many prompts.
            return self.length && (document.num_cut_notes > 0 || cut.count() > 0);
        }
        let longer = |length: u64| now.zip(tokens).is_none_or(|(now, tokens)| now.room(tokens) > length);
        // An answer that was cut off before its structure's end is both.
        (self.length || incomplete && self.errors) && cut.map(|c| c.tokens.len() as u64).any(longer)
    }
}
