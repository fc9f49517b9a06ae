//! Requests that have the custom_id of one before.

use crate::batch::envelope::Envelope;
use crate::error::JobError;
use crate::input::Input;
use arrow::array::AsArray;
use std::collections::BTreeMap;

/// The rows whose custom_id an earlier row has, with the first that has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RepeatedIds(BTreeMap<u64, u64>);

impl RepeatedIds {
    /// Reads the first rows through. It takes 24 bytes of memory for each, until it has.
    ///
    /// # Errors
    /// What cannot be read.
    pub fn of(input: &Input, rows: u64) -> Result<RepeatedIds, JobError> {
        let mut ids: Vec<([u8; 16], u64)> = Vec::new();
        for batch in input.read(vec![0], 0..rows) {
            let batch = batch?;
            let lines = batch.columns.column(0).as_binary::<i32>();
            for (row, line) in (batch.first_row..).zip(lines) {
                ids.extend(Envelope::custom_id_of(line.unwrap_or_default()).map(|id| (short(&id), row)));
            }
        }
        ids.sort_unstable();
        let mut repeated = BTreeMap::new();
        for same in ids.chunk_by(|(a, _), (b, _)| a == b) {
            repeated.extend(same[1..].iter().map(|(_, row)| (*row, same[0].1)));
        }
        Ok(RepeatedIds(repeated))
    }

    /// The first row that has a row's custom_id, if it is another.
    pub fn first(&self, row: u64) -> Option<u64> {
        self.0.get(&row).copied()
    }
}

fn short(id: &str) -> [u8; 16] {
    let mut short = [0; 16];
    short.copy_from_slice(&blake3::hash(id.as_bytes()).as_bytes()[..16]);
    short
}
