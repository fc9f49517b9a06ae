//! Made-up weights of the right shapes.

use crate::numbers::Numbers;
use crate::plan::{BufferDesc, Rows};

/// Made-up contents of a buffer, handed over like those of [`super::Checkpoint::load`]: norms are 1, all else
/// is uniform with the variance of the usual initialisation.
///
/// # Errors
/// What `take` returns.
pub fn dummy<E>(desc: &BufferDesc, mut take: impl FnMut(usize, &[u8]) -> Result<(), E>) -> Result<(), E> {
    let Rows::Fixed(rows) = desc.rows else { return Ok(()) };
    if rows == 1 {
        return take(0, &desc.format.encode(&vec![1.0; desc.cols], desc.cols));
    }
    let seed = desc.name.bytes().fold(17, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut numbers = Numbers(seed);
    // A stretch of numbers, repeated: a model of billions of weights is filled in seconds.
    let stretch = ((1 << 16) / desc.cols).clamp(1, rows);
    let values: Vec<f32> = (0..stretch * desc.cols).map(|_| numbers.float() * 0.035).collect();
    let bytes = desc.format.encode(&values, desc.cols);
    for row in (0..rows).step_by(stretch) {
        let n = stretch.min(rows - row);
        take(row, &bytes[..n * desc.row_bytes()])?;
    }
    Ok(())
}
