//! Documents that are cut together.

use crate::documents::Documents;
use crate::documents::document::Opened;
use crate::prompt::prompts::Prompts;
use crate::row_error::RowError;
use arrow::array::RecordBatch;

/// Documents of a window, at most.
const TOGETHER: usize = 64;

/// Bytes of a window, but for its first document: of the first window, which is small, so that the engine need not wait for
/// it long, and of those to which windows double. While a window runs, the next is cut: one that is much longer is late.
const FIRST_BYTES: usize = 64 << 10;
const BYTES: usize = 512 << 10;

/// The documents of rows of a batch.
pub struct DocumentWindows<'a> {
    pub documents: &'a Documents,
    pub prompts: &'a Prompts,
    pub columns: &'a RecordBatch,
    pub rows: &'a [usize],
    /// Threads that cut.
    pub threads: usize,
}

/// A window: rows, and their documents.
pub type Window = Vec<(usize, Result<Opened, RowError>)>;

impl DocumentWindows<'_> {
    /// Cuts window after window, as long as `take` says that more are wanted.
    pub fn each(&self, mut take: impl FnMut(Window) -> bool) {
        let (mut rest, mut most) = (self.rows, FIRST_BYTES);
        while !rest.is_empty() {
            let mut bytes = 0;
            let fit = |&&row: &&usize| {
                bytes += self.documents.text(self.columns, row).map_or(0, |text| text.len());
                bytes <= most
            };
            let together = rest.iter().take(TOGETHER).take_while(fit).count().max(1);
            let (rows, later) = rest.split_at(together);
            rest = later;
            most = (2 * most).min(BYTES);
            let open = |row| self.documents.open(self.columns, row);
            let opened = self.prompts.of_each(rows, self.threads, open);
            if !take(rows.iter().copied().zip(opened).collect()) {
                return;
            }
        }
    }
}
