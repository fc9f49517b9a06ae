//! A file that an input's name stands for, and what the folders above it say.

use crate::input::source::Source;

/// A file that was named, or found by a folder or a glob.
#[derive(Clone, Debug)]
pub struct Found {
    pub source: Source,
    /// The name that it was found by, by its position among those of the input, and not named itself.
    pub searched: Option<usize>,
    /// What its folders say of its rows.
    pub partition: Partition,
}

/// Columns by the names of folders, as in `country=no/year=2024`, outermost first. No value is null.
pub type Partition = Vec<(String, Option<String>)>;
