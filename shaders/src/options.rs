//! How to open an adapter.

/// How to open an adapter; tests narrow what it offers.
#[derive(Clone, Debug)]
pub struct Options {
    /// Use subgroups where the adapter has them.
    pub subgroups: bool,
    /// Bytes of a binding at most, if less than the adapter's limit: weights are sharded to it.
    pub max_binding: Option<usize>,
    /// Rows of a Linear tile, whatever the row count; `None` chooses by the row count.
    pub tile_rows: Option<usize>,
    /// Multiply-adds of one dispatch at most, if less than the default.
    pub max_work: Option<u64>,
}

impl Default for Options {
    fn default() -> Options {
        Options { subgroups: true, max_binding: None, tile_rows: None, max_work: None }
    }
}
