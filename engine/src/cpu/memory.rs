//! The buffers of a plan in main memory, each in the layout that its ops use.

use super::panels::{MatmulPrecision, Panels};
use super::tile::lanes_here;
use crate::dtype::DType;
use crate::op::Op;
use crate::plan::{BufferDesc, BufferId, BufferKind, Buffers, Dims, Plan};
use std::collections::HashSet;
use std::ops::Range;

/// A buffer's contents.
pub enum Storage {
    /// Row-major floats.
    Float(Vec<f32>),
    /// Row-major integers.
    Int(Vec<u32>),
    /// A weight matrix.
    Panels(Panels),
    /// Keys: within a page `[cols][page_size]`, so that a page's keys are rows of a product's panel.
    Keys(Vec<f32>),
}

/// All buffers of a plan.
pub struct Memory {
    storage: Vec<Storage>,
    descs: Buffers,
    max_dims: Dims,
}

impl Memory {
    /// Buffers for steps up to `max_dims`. Floats start as NaN, so that a read of what was never
    /// written shows. In release builds KV pages start as zeros, whose memory the system allocates only when they are written.
    pub fn new(plan: &Plan, max_dims: &Dims, precision: MatmulPrecision) -> Memory {
        let (mut matrices, mut keys) = (HashSet::new(), HashSet::new());
        for op in &plan.ops {
            match op {
                Op::Linear(op) => matrices.insert(op.weight),
                Op::Embed(op) => matrices.insert(op.table),
                Op::KvWrite(op) => keys.insert(op.k_pages),
                Op::PagedAttention(op) => keys.insert(op.k_pages),
                _ => false,
            };
        }
        let fresh = |desc: &BufferDesc| {
            let lazy = desc.kind == BufferKind::KvPage && !cfg!(debug_assertions);
            vec![if lazy { 0.0 } else { f32::NAN }; max_dims.count(desc.rows) * desc.cols]
        };
        let storage = plan.iter().map(|(id, desc)| {
            let rows = max_dims.count(desc.rows);
            if matrices.contains(&id) {
                Storage::Panels(Panels::zeros(rows, desc.cols, desc.format, precision))
            } else if keys.contains(&id) {
                Storage::Keys(fresh(desc))
            } else if matches!(desc.kind, BufferKind::StepInput(_)) {
                // Ops read them from the step itself.
                Storage::Int(Vec::new())
            } else if desc.value_type() == DType::U32 {
                Storage::Int(vec![0; rows * desc.cols])
            } else {
                Storage::Float(fresh(desc))
            }
        });
        Memory { storage: storage.collect(), descs: plan.buffers.clone(), max_dims: *max_dims }
    }

    /// The columns of a buffer.
    pub fn cols(&self, id: BufferId) -> usize {
        self.descs[id.0].cols
    }

    /// Floats of a row-major buffer.
    pub fn float(&self, id: BufferId) -> &[f32] {
        match &self.storage[id.0] {
            Storage::Float(data) | Storage::Keys(data) => data,
            _ => unreachable!("{} holds no floats", self.descs[id.0].name),
        }
    }

    /// Takes out a buffer of floats, to write it while others are read; [`Memory::give`] puts it back.
    pub fn take(&mut self, id: BufferId) -> Vec<f32> {
        match &mut self.storage[id.0] {
            Storage::Float(data) | Storage::Keys(data) => std::mem::take(data),
            _ => unreachable!("{} holds no floats", self.descs[id.0].name),
        }
    }

    /// Puts back what [`Memory::take`] took.
    pub fn give(&mut self, id: BufferId, floats: Vec<f32>) {
        match &mut self.storage[id.0] {
            Storage::Float(data) | Storage::Keys(data) => *data = floats,
            _ => unreachable!("{} holds no floats", self.descs[id.0].name),
        }
    }

    /// Integers.
    pub fn int(&self, id: BufferId) -> &[u32] {
        match &self.storage[id.0] {
            Storage::Int(data) => data,
            _ => unreachable!("{} holds no integers", self.descs[id.0].name),
        }
    }

    /// Integers, mutable.
    pub fn int_mut(&mut self, id: BufferId) -> &mut Vec<u32> {
        match &mut self.storage[id.0] {
            Storage::Int(data) => data,
            _ => unreachable!("{} holds no integers", self.descs[id.0].name),
        }
    }

    /// A weight matrix.
    pub fn panels(&self, id: BufferId) -> &Panels {
        match &self.storage[id.0] {
            Storage::Panels(panels) => panels,
            _ => unreachable!("{} is no matrix", self.descs[id.0].name),
        }
    }

    fn rows_of(&self, id: BufferId, rows: &Range<usize>) -> Result<&BufferDesc, String> {
        let desc = &self.descs[id.0];
        let count = self.max_dims.count(desc.rows);
        if rows.end > count || rows.start > rows.end {
            return Err(format!("{} has {count} rows, not {rows:?}", desc.name));
        }
        Ok(desc)
    }

    /// Stores whole rows; see [`crate::device::Device::write`].
    pub fn write(&mut self, id: BufferId, row: usize, bytes: &[u8]) -> Result<(), String> {
        let width = self.descs[id.0].row_bytes();
        if width == 0 || !bytes.len().is_multiple_of(width) {
            return Err(format!("{} bytes are no rows of {}", bytes.len(), self.descs[id.0].name));
        }
        let (cols, dtype) =
            self.rows_of(id, &(row..row + bytes.len() / width)).map(|d| (d.cols, d.value_type()))?;
        let page = self.max_dims.page_size;
        match &mut self.storage[id.0] {
            Storage::Float(data) => {
                let values = dtype.decode(bytes);
                data[row * cols..][..values.len()].copy_from_slice(&values);
            }
            Storage::Int(data) => {
                data.resize(data.len().max(row * cols + bytes.len() / 4), 0);
                bytemuck::cast_slice_mut(&mut data[row * cols..])[..bytes.len()].copy_from_slice(bytes);
            }
            Storage::Panels(panels) => panels.write(row, bytes),
            Storage::Keys(data) => {
                for (i, key) in dtype.decode(bytes).chunks_exact(cols).enumerate() {
                    write_key(data, page, row + i, key);
                }
            }
        }
        Ok(())
    }

    /// Whole rows; see [`crate::device::Device::read`].
    pub fn read(&self, id: BufferId, rows: Range<usize>) -> Result<Vec<u8>, String> {
        let desc = self.rows_of(id, &rows)?;
        let range = rows.start * desc.cols..rows.end * desc.cols;
        let page = self.max_dims.page_size;
        Ok(match &self.storage[id.0] {
            Storage::Float(data) => desc.value_type().encode(&data[range]),
            Storage::Int(data) => bytemuck::cast_slice(&data[range]).to_vec(),
            Storage::Panels(panels) => panels.read(rows),
            Storage::Keys(data) => {
                let at = |slot: usize, c: usize| (slot / page * desc.cols + c) * page + slot % page;
                let key = |slot| (0..desc.cols).map(move |c| data[at(slot, c)]);
                desc.value_type().encode(&rows.flat_map(key).collect::<Vec<_>>())
            }
        })
    }
}

/// Stores the key of a slot in the layout of [`Storage::Keys`].
pub fn write_key(pages: &mut [f32], page_size: usize, slot: usize, key: &[f32]) {
    let at = slot / page_size * page_size * key.len() + slot % page_size;
    pages[at..].iter_mut().step_by(page_size).zip(key).for_each(|(to, &from)| *to = from);
}

/// Bytes of main memory, and how many of them are available.
pub fn machine() -> (usize, usize) {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name: &str| {
        let line = text.lines().find(|l| l.starts_with(name))?;
        line.split_whitespace().nth(1)?.parse::<usize>().ok().map(|kib| kib * 1024)
    };
    // Other systems than Linux do not say; assume 8 GiB.
    let total = field("MemTotal:").unwrap_or(8 << 30);
    (total, field("MemAvailable:").unwrap_or(total / 2))
}

/// The vector width that the kernels use here, for messages.
pub fn vectors() -> &'static str {
    match lanes_here() {
        16 => "512-bit vectors",
        8 => "256-bit vectors",
        4 => "128-bit vectors",
        _ => "no vectors",
    }
}
