//! A buffer of a plan with its memory, written and read by whole rows.

use super::blocks::{BLOCK, Blocks};
use super::layout::{Layout, RowLayout};
use crate::driver::gpu::{Gpu, STAGED};
use engine::device::DeviceError;
use engine::plan::BufferDesc;
use std::ops::Range;
use wgpu::{Buffer, BufferUsages};

/// A buffer of a plan with its memory.
pub(crate) struct Storage {
    pub desc: BufferDesc,
    pub rows: usize,
    pub layout: Layout,
    /// One buffer, or several for a weight that exceeds the limit on bindings.
    pub shards: Vec<Buffer>,
}

impl Storage {
    /// Allocates a buffer.
    pub fn new(gpu: &Gpu, desc: &BufferDesc, rows: usize, layout: Layout) -> Result<Storage, DeviceError> {
        let usage = BufferUsages::STORAGE | BufferUsages::COPY_DST | BufferUsages::COPY_SRC;
        let sizes = layout.shard_bytes(desc, rows);
        let shards = sizes.into_iter().map(|bytes| gpu.allocate(&desc.name, bytes, usage, desc.kind.into()));
        Ok(Storage { desc: desc.clone(), rows, layout, shards: shards.collect::<Result<_, _>>()? })
    }

    /// Writes whole rows, given row-major in the buffer's own type.
    pub fn write(&self, gpu: &Gpu, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let stride = self.desc.row_bytes();
        let rows = bytes.len().checked_div(stride).unwrap_or(0);
        if rows * stride != bytes.len() || row + rows > self.rows {
            return Err(DeviceError::BadPlan(format!(
                "{} bytes at row {row} do not fit {}, which has {} rows of {stride} bytes",
                bytes.len(),
                self.desc.name,
                self.rows
            )));
        }
        match self.layout {
            Layout::Rows(layout) => self.write_rows(gpu, layout, row, bytes.chunks(stride.max(1)))?,
            Layout::Blocks(blocks) => self.write_blocks(gpu, blocks, row, bytes)?,
        }
        gpu.check()
    }

    fn write_rows<'a>(
        &self,
        gpu: &Gpu,
        layout: RowLayout,
        row: usize,
        rows: impl Iterator<Item = &'a [u8]>,
    ) -> Result<(), DeviceError> {
        let row_bytes = layout.row_bytes(&self.desc);
        let (mut first, mut encoded) = (row * row_bytes, Vec::new());
        for row in rows {
            encoded.extend(layout.encode(&self.desc, row));
            if encoded.len() >= STAGED / 4 {
                gpu.upload(&self.shards[0], first, &encoded)?;
                first += encoded.len();
                encoded.clear();
            }
        }
        gpu.upload(&self.shards[0], first, &encoded)
    }

    fn write_blocks(&self, gpu: &Gpu, b: Blocks, row: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        let stride = b.row_bytes();
        let end = row + bytes.len() / stride;
        let mut packed = vec![0; b.block_bytes()];
        let mut at = row;
        while at < end {
            let (block, first) = (at / BLOCK, at % BLOCK);
            let rows = first..(first + end - at).min(BLOCK);
            let (shard, offset) = b.place(block);
            b.pack(rows.clone(), &bytes[(at - row) * stride..][..rows.len() * stride], &mut packed);
            if rows.len() == BLOCK {
                gpu.upload(&self.shards[shard], offset, &packed)?;
            } else {
                // Only the bytes of these rows: their neighbours may be there already.
                for range in b.ranges(rows.clone()) {
                    gpu.upload(&self.shards[shard], offset + range.start, &packed[range])?;
                }
            }
            at += rows.len();
        }
        Ok(())
    }

    /// Reads whole rows, row-major in the buffer's own type.
    pub fn read(&self, gpu: &Gpu, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        if rows.start > rows.end || rows.end > self.rows {
            let why = format!("rows {rows:?} are not in {}, which has {}", self.desc.name, self.rows);
            return Err(DeviceError::BadPlan(why));
        }
        match self.layout {
            Layout::Rows(layout) => {
                let stride = layout.row_bytes(&self.desc);
                let bytes = gpu.download(&self.shards[0], rows.start * stride..rows.end * stride)?;
                let rows = bytes.chunks_exact(stride.max(1));
                Ok(rows.flat_map(|row| layout.decode(&self.desc, row)).collect())
            }
            Layout::Blocks(blocks) => self.read_blocks(gpu, blocks, rows),
        }
    }

    fn read_blocks(&self, gpu: &Gpu, b: Blocks, rows: Range<usize>) -> Result<Vec<u8>, DeviceError> {
        let stride = b.row_bytes();
        let mut out = vec![0; rows.len() * stride];
        let mut at = rows.start;
        while at < rows.end {
            let (shard, offset) = b.place(at / BLOCK);
            let within = at % BLOCK..(at % BLOCK + rows.end - at).min(BLOCK);
            let block = gpu.download(&self.shards[shard], offset..offset + b.block_bytes())?;
            let to = &mut out[(at - rows.start) * stride..][..within.len() * stride];
            b.unpack(within.clone(), &block, to);
            at += within.len();
        }
        Ok(out)
    }
}
