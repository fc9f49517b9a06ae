//! Whether the file system has the space that publishing will need.

use crate::input::Input;
use crate::publish::sizes::rows_that_fit;
use arrow::array::RecordBatch;
use std::path::Path;

/// Bytes of values that go to the output, as they are read.
#[derive(Clone, Copy, Debug, Default)]
pub struct KeptBytes(u64);

impl KeptBytes {
    /// Counts the values of a batch of kept columns.
    pub fn add(&mut self, batch: &RecordBatch) {
        rows_that_fit(batch, &mut self.0, u64::MAX);
    }

    /// What the output will need at least, roughly: no more than the inputs themselves, which may be packed.
    pub fn at_least(self, input: &Input) -> u64 {
        let sizes = input.files.iter().map(|file| file.source.identify().map_or(0, |(size, _)| size));
        self.0.min(sizes.sum()) / 2
    }
}

/// What to say where a folder's file system has clearly too little space for so many bytes.
pub fn warning(folder: &Path, needed: u64) -> Option<String> {
    let free = free_bytes(folder).filter(|&free| free < needed)?;
    let mib = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
    Some(format!(
        "{} has {} of free space, and the columns that are kept need {} or more when the output is written; free some space \
         before all rows are answered, or keep fewer columns (--keep)",
        folder.display(),
        mib(free),
        mib(needed)
    ))
}

/// The free space of a folder's file system, if the system tells.
#[cfg(unix)]
fn free_bytes(folder: &Path) -> Option<u64> {
    let told = rustix::fs::statvfs(folder).ok()?;
    told.f_bavail.checked_mul(told.f_frsize)
}

#[cfg(not(unix))]
fn free_bytes(_: &Path) -> Option<u64> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clearly_too_much_is_said() {
        let folder = std::env::temp_dir();
        assert_eq!(warning(&folder, 1), None);
        assert_eq!(warning(Path::new("/no/such/folder"), u64::MAX), None);
        #[cfg(unix)]
        assert!(warning(&folder, u64::MAX).is_some_and(|said| said.contains("--keep")));
    }
}
