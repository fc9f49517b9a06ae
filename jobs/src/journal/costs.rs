//! What the starts of a job took, and the receipt that was made of it.
//!
//! Both have tables of their own beside those of the journal's format, so that a job of any format has them; a journal in
//! which they are missing is one of an earlier version, or was repaired. No answer depends on them.

use crate::error::JobError;
use crate::journal::answer::Answer;
use crate::journal::database::Database;
use crate::journal::schema::journal_error;
use crate::journal::tables;
use crate::row_error::RowErrorKind;
use rusqlite::OptionalExtension;
use serde::{Deserialize, Serialize};

/// What a start of the worker has done so far.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct StartFigures {
    pub machine: String,
    pub device: String,
    pub steps: u64,
    /// Positions computed, in steps with prompts and in others.
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    /// Positions of prompts that were found in cached pages.
    pub cached_tokens: u64,
    pub preemptions: u64,
    pub prefill_us: u64,
    pub decode_us: u64,
    /// What the steps of both kinds would have taken at the rates of the device, where these are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bound_us: Option<[u64; 2]>,
    /// When the rates were measured that this is by, in seconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rates_of: Option<u64>,
    /// Of tokens that took another's answer those of prompts; the journal's writer notes it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_input_tokens: Option<u64>,
    pub kv_pages: u64,
    pub peak_kv_pages: u64,
    /// The peak of the process's memory in bytes, where the system tells.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory: Option<u64>,
    /// Energy while rows ran, where it is measured; else why it is not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub energy: Option<Energy>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub no_energy: Option<String>,
}

/// Energy that was measured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Energy {
    pub microjoules: u64,
    /// Of what, and by which counters.
    pub source: String,
    /// Time inside the reads.
    pub reading_us: u64,
}

/// A start, as the journal has it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// In seconds since 1970.
    pub began: u64,
    /// From the opening of the journal to the last commit.
    pub active_ms: u64,
    /// Rows that it has finished, and of these those that took another's answer.
    pub rows: u64,
    pub shared_rows: u64,
    /// Tokens of their prompts and answers, and of notes that took another's answer.
    pub shared_tokens: u64,
    /// None of a start of an earlier version.
    pub figures: Option<StartFigures>,
}

/// Makes prices, as JSON, of those that a job had before.
pub(super) type MergePrices = Box<dyn FnOnce(Option<&str>) -> String + Send>;

/// Tokens of prompts over rows of `answers`, as SQL. Prompts that were refused as too long were never computed.
pub(crate) fn input_tokens() -> String {
    let too_long = RowErrorKind::PromptTooLong.text();
    format!("coalesce(sum(num_input_tokens) FILTER (WHERE error IS NULL OR error NOT LIKE '{too_long}%'), 0)")
}

/// The same of one answer.
pub(crate) fn input_tokens_of(answer: &Answer) -> u64 {
    let is_too_long = answer.error.as_deref().is_some_and(is_too_long);
    answer.num_input_tokens.filter(|_| !is_too_long).map_or(0, u64::from)
}

/// Whether an error is that of a prompt that was refused as too long.
pub(crate) fn is_too_long(error: &str) -> bool {
    RowErrorKind::of(error) == Some(RowErrorKind::PromptTooLong)
}

/// What a start has that counts as one, as SQL: it has done something. Status, receipt and report count these.
pub(crate) const HAS_WORKED: &str = "(elapsed_ms > 0 OR rows > 0)";

/// The rows of a receipt that has prices only.
const NOT_YET: u64 = u64::MAX;

/// A receipt that was made.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FrozenReceipt {
    /// Rows that all starts had finished by then, each as often as it was.
    pub answered: u64,
    /// The prices, as JSON.
    pub prices: String,
    pub text: String,
}

/// Rows and tokens of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    pub rows: u64,
    pub input_tokens: u64,
    pub generated_tokens: u64,
}

impl Database {
    /// Makes the tables, if they are not there.
    pub(super) fn create_costs(&self) -> Result<(), JobError> {
        let create = tables::COSTS
            .map(|table| table.replacen("CREATE TABLE", "CREATE TABLE IF NOT EXISTS", 1))
            .join(";");
        self.connection.execute_batch(&create).map_err(journal_error(&self.path))
    }

    /// Notes what a start has done so far.
    pub(super) fn note_costs(&self, start: i64, shared_tokens: u64, figures: &str) -> Result<(), JobError> {
        let line = "INSERT OR REPLACE INTO costs VALUES (?, ?, ?)";
        let noted = self.connection.prepare_cached(line);
        let noted = noted.and_then(|mut line| line.execute((start, shared_tokens as i64, figures)));
        noted.map(drop).map_err(journal_error(&self.path))
    }

    fn has_costs(&self) -> Result<bool, JobError> {
        let query = "SELECT count(*) FROM sqlite_schema WHERE name IN ('costs', 'receipt')";
        let count = self.connection.query_row(query, [], |row| row.get::<_, i64>(0));
        Ok(count.map_err(journal_error(&self.path))? == tables::COSTS.len() as i64)
    }

    /// The starts that have done something, in order.
    pub(crate) fn starts(&self) -> Result<Vec<Start>, JobError> {
        let costs = match self.has_costs()? {
            true => "shared_tokens, figures FROM starts LEFT JOIN costs USING (start)",
            false => "NULL, NULL FROM starts",
        };
        let query =
            format!("SELECT began, elapsed_ms, rows, shared, {costs} WHERE {HAS_WORKED} ORDER BY start");
        let wrong = journal_error(&self.path);
        let mut statement = self.connection.prepare(&query).map_err(&wrong)?;
        let starts = statement.query_map([], |row| {
            let number = |column| row.get::<_, Option<i64>>(column).map(|n| n.unwrap_or(0).max(0) as u64);
            let figures: Option<String> = row.get(5)?;
            Ok(Start {
                began: number(0)?,
                active_ms: number(1)?,
                rows: number(2)?,
                shared_rows: number(3)?,
                shared_tokens: number(4)?,
                figures: figures.and_then(|figures| serde_json::from_str(&figures).ok()),
            })
        });
        starts.and_then(Iterator::collect).map_err(&wrong)
    }

    /// Rows and tokens of all answers.
    pub(crate) fn totals(&self) -> Result<Totals, JobError> {
        let is_answer = self.format.is_answer();
        let query = format!(
            "SELECT count(*), {}, coalesce(sum(num_generated_tokens), 0) FROM answers WHERE {is_answer}",
            input_tokens()
        );
        let totals = self.connection.query_row(&query, [], |row| {
            let number = |column| row.get::<_, i64>(column).map(|n| n as u64);
            Ok(Totals { rows: number(0)?, input_tokens: number(1)?, generated_tokens: number(2)? })
        });
        totals.map_err(journal_error(&self.path))
    }

    /// Tokens of prompts and answers of rows that are finished.
    pub(crate) fn tokens_of(&self, rows: &[u64]) -> Result<Vec<[u64; 2]>, JobError> {
        let query = format!(
            "SELECT {}, coalesce(sum(num_generated_tokens), 0) FROM answers WHERE row = ? AND {} HAVING count(*) > 0",
            input_tokens(),
            self.format.is_answer()
        );
        let wrong = journal_error(&self.path);
        let mut statement = self.connection.prepare(&query).map_err(&wrong)?;
        let mut tokens = Vec::new();
        for &row in rows {
            let of_row = statement.query_row([row as i64], |row| {
                Ok([row.get::<_, i64>(0)? as u64, row.get::<_, i64>(1)? as u64])
            });
            tokens.extend(of_row.optional().map_err(&wrong)?);
        }
        Ok(tokens)
    }

    /// Notes prices for the receipt to come. `merge` makes them of those that were noted before.
    pub(super) fn note_prices(&self, merge: MergePrices) -> Result<(), JobError> {
        let before = self.receipt()?;
        let prices = merge(before.as_ref().map(|receipt| receipt.prices.as_str()));
        if before.is_some_and(|before| before.prices == prices) {
            return Ok(());
        }
        self.keep_receipt(&FrozenReceipt { answered: NOT_YET, prices, text: String::new() })
    }

    /// The receipt that was made last.
    pub(crate) fn receipt(&self) -> Result<Option<FrozenReceipt>, JobError> {
        if !self.has_costs()? {
            return Ok(None);
        }
        let receipt = self.connection.query_row("SELECT answered, prices, text FROM receipt", [], |row| {
            let answered = row.get::<_, i64>(0)? as u64;
            Ok(FrozenReceipt { answered, prices: row.get(1)?, text: row.get(2)? })
        });
        receipt.optional().map_err(journal_error(&self.path))
    }

    /// Keeps a receipt, in place of one that was made before.
    pub(crate) fn keep_receipt(&self, receipt: &FrozenReceipt) -> Result<(), JobError> {
        let wrong = journal_error(&self.path);
        let transaction = self.connection.unchecked_transaction().map_err(&wrong)?;
        let FrozenReceipt { answered, prices, text } = receipt;
        transaction
            .execute("DELETE FROM receipt", [])
            .and_then(|_| {
                transaction.execute("INSERT INTO receipt VALUES (?, ?, ?)", (*answered as i64, prices, text))
            })
            .and_then(|_| transaction.commit())
            .map_err(&wrong)
    }
}
