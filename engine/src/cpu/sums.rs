//! The size of a tile of sums.

/// Columns of a panel.
pub const NR: usize = 32;

/// The maximum height of a tile: as many rows as the registers of the widest vectors hold sums for.
pub const MR: usize = 12;

/// A panel of sums: one row of [`NR`] for each row of the tile.
pub type Sums = [[f32; NR]; MR];
