//! The tables of the journal's file, word for word as it must hold them.
//!
//! What decides an answer has a checksum. `starts`, one row for each start of a worker, and the tables of costs and of
//! timelines only serve those who ask about a job.

/// Those of format 1.
pub(crate) const FORMAT1: [&str; 6] = [
    "CREATE TABLE identity (ordinal INTEGER PRIMARY KEY, field TEXT, value TEXT, checksum INTEGER)",
    "CREATE TABLE inputs (ordinal INTEGER PRIMARY KEY, path TEXT, size INTEGER, rows INTEGER, digest TEXT, \
     checksum INTEGER)",
    "CREATE TABLE answers (row INTEGER PRIMARY KEY, error TEXT, text TEXT, finish_reason TEXT, \
     num_input_tokens INTEGER, num_generated_tokens INTEGER, tokens BLOB, token_logprobs BLOB, \
     logprobs BLOB, prompt_logprobs BLOB, checksum INTEGER)",
    "CREATE TABLE attempts (row INTEGER PRIMARY KEY, deaths INTEGER, kills INTEGER, checksum INTEGER)",
    "CREATE TABLE starts (start INTEGER PRIMARY KEY, version TEXT, pid INTEGER, began INTEGER, \
     job_rows INTEGER, elapsed_ms INTEGER, rows INTEGER, shared INTEGER, errors INTEGER, input_tokens INTEGER, \
     generated_tokens INTEGER)",
    "CREATE INDEX errors ON answers (error) WHERE error IS NOT NULL",
];

/// Those since format 2.
pub(crate) const FORMAT2: [&str; 6] = [
    FORMAT1[0],
    FORMAT1[1],
    "CREATE TABLE answers (row INTEGER NOT NULL, part INTEGER NOT NULL, error TEXT, text TEXT, finish_reason TEXT, \
     num_input_tokens INTEGER, num_generated_tokens INTEGER, tokens BLOB, token_logprobs BLOB, logprobs BLOB, \
     prompt_logprobs BLOB, typed_values TEXT, settings TEXT, checksum INTEGER, PRIMARY KEY (row, part)) WITHOUT ROWID",
    FORMAT1[3],
    FORMAT1[4],
    FORMAT1[5],
];

/// Those of costs ([`crate::journal::costs`]), which a journal of any format may have.
pub(crate) const COSTS: [&str; 2] = [
    "CREATE TABLE costs (start INTEGER PRIMARY KEY, shared_tokens INTEGER, figures TEXT)",
    "CREATE TABLE receipt (answered INTEGER, prices TEXT, text TEXT)",
];

/// That of timelines ([`crate::journal::timeline`]), likewise.
pub(crate) const TIMELINES: &str = "CREATE TABLE timelines (start INTEGER PRIMARY KEY, timeline TEXT)";
