//! Which layout each buffer of a plan has, and the bytes that it takes.

use super::blocks::Blocks;
use crate::driver::gpu::allocated;
use engine::device::DeviceError;
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferDesc, BufferId, BufferKind, Dims, Plan};

/// How a buffer lies on the device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Row after row, in one buffer.
    Rows(RowLayout),
    /// A weight of a Linear or Embed.
    Blocks(Blocks),
}

/// How one row lies in a buffer of rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RowLayout {
    /// `stride` words of 4 bytes: integers and f32. Small weights of other types are widened.
    Words { stride: usize },
    /// A KV slot: heads of `head_dim` columns, each padded to a multiple of 4.
    Heads { head_dim: usize },
}

/// Chooses the layout of every buffer of a plan.
///
/// # Errors
/// [`DeviceError::OutOfMemory`] for a buffer that no binding of `limit` bytes can hold.
pub(crate) fn layouts(plan: &Plan, max_dims: &Dims, limit: usize) -> Result<Vec<Layout>, DeviceError> {
    let too_large = |desc: &BufferDesc, needed| DeviceError::OutOfMemory {
        what: format!("the buffer {}", desc.name),
        needed,
        available: limit,
        memory_use: desc.kind.into(),
    };
    let layout = |(id, desc): (BufferId, &BufferDesc)| {
        let rows = max_dims.count(desc.rows);
        let layout = match desc.kind {
            BufferKind::KvPage => RowLayout::Heads { head_dim: head_dim(plan, id).unwrap_or(desc.cols) },
            BufferKind::Weight if is_matrix(plan, id) || desc.format.plain().is_none() => {
                let blocks = Blocks::new(rows, desc.cols, desc.format, limit);
                return blocks.map(Layout::Blocks).ok_or_else(|| too_large(desc, desc.bytes(max_dims)));
            }
            // Results are copied as they lie.
            BufferKind::StepOutput => RowLayout::Words { stride: desc.cols },
            _ if desc.value_type().is_float() => RowLayout::Words { stride: desc.cols.next_multiple_of(4) },
            _ => RowLayout::Words { stride: desc.cols },
        };
        let needed = rows * layout.row_bytes(desc);
        if needed > limit { Err(too_large(desc, needed)) } else { Ok(Layout::Rows(layout)) }
    };
    plan.iter().map(layout).collect()
}

/// Whether a weight is that of a Linear or Embed.
fn is_matrix(plan: &Plan, id: BufferId) -> bool {
    plan.ops.iter().any(|op| match op {
        Op::Linear(op) => op.weight == id,
        Op::Embed(op) => op.table == id,
        _ => false,
    })
}

/// The head width of KV pages that an attention reads.
fn head_dim(plan: &Plan, id: BufferId) -> Option<usize> {
    plan.ops.iter().find_map(|op| match op {
        Op::PagedAttention(op) if op.k_pages == id || op.v_pages == id => Some(op.head_dim),
        _ => None,
    })
}

impl Layout {
    /// Bytes of each shard of a buffer of `rows` rows.
    pub fn shard_bytes(&self, desc: &BufferDesc, rows: usize) -> Vec<usize> {
        match self {
            Layout::Rows(layout) => vec![rows * layout.row_bytes(desc)],
            Layout::Blocks(blocks) => (0..blocks.shards()).map(|s| blocks.shard_bytes(s)).collect(),
        }
    }

    /// Bytes that are allocated for a buffer of `rows` rows.
    pub fn allocated(&self, desc: &BufferDesc, rows: usize) -> usize {
        self.shard_bytes(desc, rows).into_iter().map(allocated).sum()
    }
}

impl RowLayout {
    /// Bytes of a row on the device.
    pub fn row_bytes(self, desc: &BufferDesc) -> usize {
        match self {
            RowLayout::Words { stride } => stride * 4,
            RowLayout::Heads { head_dim } => {
                desc.cols / head_dim * head_dim.next_multiple_of(4) * desc.value_type().size()
            }
        }
    }

    /// Words between the rows.
    pub fn stride(self, desc: &BufferDesc) -> usize {
        self.row_bytes(desc) / 4
    }

    /// One row, given in the buffer's own type, as it lies on the device.
    pub fn encode(self, desc: &BufferDesc, row: &[u8]) -> Vec<u8> {
        let mut out = match (self, desc.value_type()) {
            (RowLayout::Heads { head_dim }, dtype) => {
                let padded = head_dim.next_multiple_of(4) * dtype.size();
                return row.chunks(head_dim * dtype.size()).flat_map(|head| resized(head, padded)).collect();
            }
            (_, dtype @ (DType::F16 | DType::BF16)) => DType::F32.encode(&dtype.decode(row)),
            _ => row.to_vec(),
        };
        out.resize(self.row_bytes(desc), 0);
        out
    }

    /// The reverse of [`RowLayout::encode`].
    pub fn decode(self, desc: &BufferDesc, row: &[u8]) -> Vec<u8> {
        match (self, desc.value_type()) {
            (RowLayout::Heads { head_dim }, dtype) => {
                let padded = head_dim.next_multiple_of(4) * dtype.size();
                row.chunks(padded).flat_map(|head| head[..head_dim * dtype.size()].to_vec()).collect()
            }
            (_, dtype @ (DType::F16 | DType::BF16)) => {
                dtype.encode(&DType::F32.decode(&row[..desc.cols * 4]))
            }
            _ => row[..desc.cols * 4].to_vec(),
        }
    }
}

fn resized(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(len, 0);
    bytes
}
