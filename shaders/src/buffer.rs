//! The buffers of a plan on the device: how they are laid out, written and read.

use crate::gpu::Gpu;
use crate::weight::{BLOCK, Blocks};
use engine::device::DeviceError;
use engine::dtype::DType;
use engine::op::Op;
use engine::plan::{BufferDesc, BufferId, BufferKind, Dims, Plan, View};
use std::ops::Range;
use wgpu::{Buffer, BufferUsages};

/// Bytes that are staged before the device is waited for.
const STAGED: usize = 64 << 20;

/// How rows lie in a buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Layout {
    /// Rows of `stride` words of 4 bytes: integers and f32. Small weights of other types are widened.
    Words { stride: usize },
    /// KV slots: heads of `head_dim` columns, each padded to runs of 4.
    Heads { head_dim: usize },
    /// A weight of a Linear or Embed.
    Blocks(Blocks),
}

/// A buffer of a plan with its memory.
pub(crate) struct Storage {
    pub desc: BufferDesc,
    pub rows: usize,
    pub layout: Layout,
    pub shards: Vec<Buffer>,
    staged: usize,
}

/// Chooses the layout of every buffer of a plan.
///
/// # Errors
/// The name of a buffer that no binding of `limit` bytes can hold, and the bytes it needs.
pub(crate) fn layouts(plan: &Plan, most: &Dims, limit: usize) -> Result<Vec<Layout>, (String, usize)> {
    let mut layouts = Vec::new();
    for (id, desc) in plan.iter() {
        let rows = most.count(desc.rows);
        let layout = match desc.kind {
            BufferKind::KvPage => Layout::Heads { head_dim: head_dim(plan, id).unwrap_or(desc.cols) },
            BufferKind::Weight if blocked(plan, id) => {
                let blocks = Blocks::new(rows, desc.cols, desc.dtype, limit);
                Layout::Blocks(blocks.ok_or_else(|| (desc.name.clone(), desc.bytes(most)))?)
            }
            _ => {
                let float = desc.dtype.is_float();
                Layout::Words { stride: if float { desc.cols.next_multiple_of(4) } else { desc.cols } }
            }
        };
        let needed = bytes(desc, rows, layout);
        if !matches!(layout, Layout::Blocks(_)) && needed > limit {
            return Err((desc.name.clone(), needed));
        }
        layouts.push(layout);
    }
    Ok(layouts)
}

/// Bytes of a buffer on the device.
pub(crate) fn bytes(desc: &BufferDesc, rows: usize, layout: Layout) -> usize {
    match layout {
        Layout::Blocks(blocks) => blocks.bytes(),
        layout => rows * row_bytes(desc, layout),
    }
}

fn row_bytes(desc: &BufferDesc, layout: Layout) -> usize {
    match layout {
        Layout::Words { stride } => stride * 4,
        Layout::Heads { head_dim } => desc.cols / head_dim * head_dim.next_multiple_of(4) * desc.dtype.size(),
        Layout::Blocks(_) => 0,
    }
}

fn blocked(plan: &Plan, id: BufferId) -> bool {
    plan.ops.iter().any(|op| match op {
        Op::Linear { weight, .. } => *weight == id,
        Op::Embed { table, .. } => *table == id,
        _ => false,
    })
}

fn head_dim(plan: &Plan, id: BufferId) -> Option<usize> {
    plan.ops.iter().find_map(|op| match op {
        Op::PagedAttention { k_pages, v_pages, head_dim, .. } if *k_pages == id || *v_pages == id => {
            Some(*head_dim)
        }
        _ => None,
    })
}

impl Storage {
    /// Allocates a buffer.
    pub fn new(gpu: &Gpu, desc: &BufferDesc, rows: usize, layout: Layout) -> Result<Storage, DeviceError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let sizes = match layout {
            Layout::Blocks(blocks) => (0..blocks.shards()).map(|s| blocks.shard_bytes(s)).collect(),
            layout => vec![rows * row_bytes(desc, layout)],
        };
        let shards = sizes.iter().map(|&bytes| gpu.allocate(&desc.name, bytes, usage));
        let shards = shards.collect::<Result<_, _>>()?;
        Ok(Storage { desc: desc.clone(), rows, layout, shards, staged: 0 })
    }

    /// Words between the rows of a [`Layout::Words`] buffer.
    pub fn stride(&self) -> u32 {
        match self.layout {
            Layout::Words { stride } => stride as u32,
            _ => self.desc.cols as u32,
        }
    }

    /// Writes whole rows, given row-major in the buffer's own type.
    pub fn write(&mut self, gpu: &Gpu, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let stride = self.desc.cols * self.desc.dtype.size();
        let rows = bytes.len().checked_div(stride).unwrap_or(0);
        if rows * stride != bytes.len() || row + rows > self.rows {
            return Err(DeviceError::BadPlan(format!(
                "{} bytes from row {row} on are no rows of {}, which has {} of {stride} bytes",
                bytes.len(),
                self.desc.name,
                self.rows
            )));
        }
        match self.layout {
            Layout::Blocks(blocks) => self.write_blocks(gpu, blocks, row, bytes)?,
            layout => {
                let to = row_bytes(&self.desc, layout);
                for (i, rows) in bytes.chunks((STAGED / 4 / to).max(1) * stride).enumerate() {
                    let first = row + i * (STAGED / 4 / to).max(1);
                    let encoded: Vec<u8> = rows.chunks(stride).flat_map(|r| self.encode(r)).collect();
                    self.put(gpu, 0, first * to, &encoded)?;
                }
            }
        }
        gpu.check()
    }

    /// One row as it lies on the device.
    fn encode(&self, row: &[u8]) -> Vec<u8> {
        let mut out = match (self.layout, self.desc.dtype) {
            (Layout::Heads { head_dim }, dtype) => {
                let padded = head_dim.next_multiple_of(4) * dtype.size();
                return row.chunks(head_dim * dtype.size()).flat_map(|head| resized(head, padded)).collect();
            }
            (_, DType::F16 | DType::BF16) => DType::F32.encode(&self.desc.dtype.decode(row)),
            _ => row.to_vec(),
        };
        out.resize(row_bytes(&self.desc, self.layout), 0);
        out
    }

    /// The reverse of [`Storage::encode`].
    fn decode(&self, row: &[u8]) -> Vec<u8> {
        match (self.layout, self.desc.dtype) {
            (Layout::Heads { head_dim }, dtype) => {
                let padded = head_dim.next_multiple_of(4) * dtype.size();
                row.chunks(padded).flat_map(|head| head[..head_dim * dtype.size()].to_vec()).collect()
            }
            (_, dtype @ (DType::F16 | DType::BF16)) => {
                dtype.encode(&DType::F32.decode(&row[..self.desc.cols * 4]))
            }
            _ => row[..self.desc.cols * 4].to_vec(),
        }
    }

    fn write_blocks(&mut self, gpu: &Gpu, b: Blocks, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let stride = b.cols * b.dtype.size();
        let end = row + bytes.len() / stride;
        let mut packed = vec![0; b.block_bytes()];
        let mut at = row;
        while at < end {
            let (block, first) = (at / BLOCK, at % BLOCK);
            let rows = first..(first + end - at).min(BLOCK);
            let (shard, offset) = b.place(block);
            b.pack(rows.clone(), &bytes[(at - row) * stride..][..rows.len() * stride], &mut packed);
            if rows.len() == BLOCK {
                self.put(gpu, shard, offset, &packed)?;
            } else {
                // Only the words of these rows: their neighbours may be there already.
                for lane in (0..packed.len()).step_by(BLOCK * 16) {
                    let part = lane + rows.start * 16..lane + rows.end * 16;
                    self.put(gpu, shard, offset + part.start, &packed[part])?;
                }
            }
            at += rows.len();
        }
        Ok(())
    }

    /// Queues a write, and waits for those before when much is staged.
    fn put(&mut self, gpu: &Gpu, shard: usize, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        gpu.queue.write_buffer(&self.shards[shard], offset as u64, bytes);
        self.staged += bytes.len();
        if self.staged > STAGED {
            self.staged = 0;
            gpu.finish(gpu.queue.submit([]))?;
        }
        Ok(())
    }

    /// Reads whole rows, row-major in the buffer's own type.
    pub fn read(&self, gpu: &Gpu, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        if rows.start > rows.end || rows.end > self.rows {
            let why = format!("{rows:?} are no rows of {}, which has {}", self.desc.name, self.rows);
            return Err(DeviceError::BadPlan(why));
        }
        let Layout::Blocks(blocks) = self.layout else {
            let stride = row_bytes(&self.desc, self.layout);
            let bytes = gpu.download(&self.shards[0], rows.start * stride..rows.end * stride)?;
            return Ok(bytes.chunks_exact(stride.max(1)).flat_map(|row| self.decode(row)).collect());
        };
        let stride = blocks.cols * blocks.dtype.size();
        let mut out = vec![0; rows.len() * stride];
        let mut at = rows.start;
        while at < rows.end {
            let (shard, offset) = blocks.place(at / BLOCK);
            let within = at % BLOCK..(at % BLOCK + rows.end - at).min(BLOCK);
            let block = gpu.download(&self.shards[shard], offset..offset + blocks.block_bytes())?;
            let to = &mut out[(at - rows.start) * stride..][..within.len() * stride];
            blocks.unpack(within.clone(), &block, to);
            at += within.len();
        }
        Ok(out)
    }
}

fn resized(bytes: &[u8], len: usize) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes.resize(len, 0);
    bytes
}

/// What an op is compiled from: the plan's buffers, and the device that makes pipelines.
pub(crate) struct Context<'a> {
    pub gpu: &'a mut Gpu,
    pub most: &'a Dims,
    pub buffers: &'a [Storage],
}

/// Columns of an activation as a shader sees them.
pub(crate) struct Columns {
    pub buffer: Buffer,
    pub rows: engine::plan::Rows,
    pub stride: u32,
    pub start: u32,
    pub cols: u32,
}

impl Context<'_> {
    /// A view's buffer and shape.
    pub fn columns(&self, view: View) -> Columns {
        let storage = &self.buffers[view.buffer.0];
        Columns {
            buffer: storage.shards[0].clone(),
            rows: storage.desc.rows,
            stride: storage.stride(),
            start: view.start as u32,
            cols: view.cols as u32,
        }
    }

    /// A buffer that is not sharded.
    pub fn buffer(&self, id: BufferId) -> Buffer {
        self.buffers[id.0].shards[0].clone()
    }

    /// A buffer with its layout.
    pub fn storage(&self, id: BufferId) -> &Storage {
        &self.buffers[id.0]
    }
}
