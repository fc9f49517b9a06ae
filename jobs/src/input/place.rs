//! Where a column of the input is in one file.

/// Where a column of the table is found for the rows of a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In the file.
    Column(usize),
    /// Among what the folders say.
    Folder(usize),
    /// Nowhere; such a column is not read.
    Nowhere,
}
