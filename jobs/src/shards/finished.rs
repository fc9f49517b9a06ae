//! A shard that is finished: its files, and what the job is to know of its rows.

use crate::journal::costs::{Start, Totals};
use crate::journal::endings::Endings;
use crate::options::shard::Shard;
use crate::publish::manifest::{ColumnNulls, Part};
use crate::receipt::money::Prices;
use crate::sealed::{is_sealed, sealed};
use crate::shards::job::ShardedJob;
use serde::{Deserialize, Serialize};
use std::ops::Range;

/// The last key of its text.
const SEAL: &str = "shard_blake3";

/// A shard all of whose rows have an answer or an error, and whose files are written.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FinishedShard {
    /// From 1; the job says of how many.
    pub shard: u64,
    pub first_row: u64,
    pub rows: u64,
    /// Rows that have an answer and an error besides, as a kept cell of theirs cannot be read.
    pub unreadable: u64,
    pub nulls: Vec<ColumnNulls>,
    pub parts: Vec<Part>,
    /// Of an output in an object store: the ETag of each part, as the store gave it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub etags: Vec<String>,
    pub costs: ShardCosts,
    pub job: ShardedJob,
}

/// What the receipt of the job is made of.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShardCosts {
    pub model: String,
    pub starts: Vec<Start>,
    pub totals: Totals,
    /// How its rows ended; the first error as the screen may show it.
    pub endings: Endings,
    pub prices: Prices,
}

impl FinishedShard {
    /// Which shard it is.
    pub fn shard(&self) -> Shard {
        Shard { number: self.shard, of: self.job.shards }
    }

    /// The rows from the first to the one behind the last.
    pub fn range(&self) -> Range<u64> {
        self.first_row..self.first_row.saturating_add(self.rows)
    }

    /// Its text, which ends with a digest of the rest.
    pub fn to_json(&self) -> String {
        sealed(self, SEAL)
    }

    /// Reads its text; none if it is not that.
    pub fn parse(text: &str) -> Option<FinishedShard> {
        is_sealed(text, SEAL).then(|| serde_json::from_str(text).ok()).flatten()
    }
}
