//! Where the rows of a file of lines are, so that reading can begin at any of them.

/// Rows of a block, unless they are long.
const ROWS: u64 = 8192;

/// A block of more bytes ends.
const BYTES: u64 = 8 << 20;

/// How rows are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// One object of JSON a line.
    Json,
    /// CSV with this delimiter.
    Csv(u8),
    /// Any line, as it is.
    Lines,
}

/// The blocks of a file, which are its row groups.
#[derive(Clone, Debug)]
pub struct TextLayout {
    pub dialect: Dialect,
    /// Fields of a record of CSV.
    pub width: usize,
    /// Where each block begins.
    pub blocks: Vec<TextBlock>,
}

/// The first row of a block.
#[derive(Clone, Copy, Debug)]
pub struct TextBlock {
    pub at: u64,
    /// Its line, from 1.
    pub line: u64,
}

/// Makes blocks of rows as they come.
#[derive(Default)]
pub struct Blocks {
    pub blocks: Vec<TextBlock>,
    /// Rows of each.
    pub rows: Vec<u64>,
}

impl Blocks {
    /// Takes in the place of the next row.
    pub fn push(&mut self, at: u64, line: u64) {
        let full = match (self.blocks.last(), self.rows.last()) {
            (Some(block), Some(&rows)) => rows == ROWS || at - block.at >= BYTES,
            _ => true,
        };
        if full {
            self.blocks.push(TextBlock { at, line });
            self.rows.push(0);
        }
        if let Some(rows) = self.rows.last_mut() {
            *rows += 1;
        }
    }
}
