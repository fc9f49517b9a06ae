//! The size of a tile of sums.

/// Columns of a panel.
pub const NR: usize = 32;

/// The maximum height of a tile: as many rows as 32 registers of the widest vectors hold sums for.
pub const MR: usize = 12;

/// The sums of a row of a tile.
pub type Sums = [f32; NR];
