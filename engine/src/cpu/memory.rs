//! The buffers of a plan in main memory, each in the layout that its ops use.

use super::panels::{MatmulPrecision, Panels};
use crate::dtype::DType;
use crate::op::Op;
use crate::plan::{BufferDesc, BufferId, BufferKind, Buffers, Dims, Plan};
use std::collections::HashSet;
use std::ops::Range;

/// How a buffer lies in memory.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Layout {
    /// Row-major floats.
    Float,
    /// Row-major integers.
    Int,
    /// A weight matrix.
    Panels,
    /// Keys: within a page `[cols][page_size]`, so that a page's keys are rows of a product's panel.
    Keys,
    /// Not kept: ops read step inputs from the step itself.
    Input,
}

/// All buffers of a plan. Each has its contents in the list of its layout, and nothing in the others.
pub struct Memory {
    layouts: Vec<Layout>,
    floats: Vec<Vec<f32>>,
    ints: Vec<Vec<u32>>,
    panels: Vec<Panels>,
    descs: Buffers,
    max_dims: Dims,
}

impl Memory {
    /// Buffers for steps up to `max_dims`. Floats start as NaN, so that a read of what was never written shows. In
    /// release builds KV pages start as zeros, whose memory the system allocates only when they are written.
    pub fn new(plan: &Plan, max_dims: &Dims, precision: MatmulPrecision) -> Memory {
        let mut memory = Memory {
            layouts: layouts(plan),
            floats: Vec::new(),
            ints: Vec::new(),
            panels: Vec::new(),
            descs: plan.buffers.clone(),
            max_dims: *max_dims,
        };
        for (desc, layout) in plan.buffers.iter().zip(memory.layouts.clone()) {
            let rows = |kept: bool| if kept { max_dims.count(desc.rows) } else { 0 };
            let lazy = desc.kind == BufferKind::KvPage && !cfg!(debug_assertions);
            let fresh = if lazy { 0.0 } else { f32::NAN };
            let floats = rows(matches!(layout, Layout::Float | Layout::Keys)) * desc.cols;
            memory.floats.push(vec![fresh; floats]);
            memory.ints.push(vec![0; rows(layout == Layout::Int) * desc.cols]);
            let rows = rows(layout == Layout::Panels);
            memory.panels.push(Panels::zeros(rows, desc.cols, desc.format, precision));
        }
        memory
    }

    /// The columns of a buffer.
    pub fn cols(&self, id: BufferId) -> usize {
        self.descs[id.0].cols
    }

    /// Floats of a row-major buffer, or of keys in their layout.
    pub fn float(&self, id: BufferId) -> &[f32] {
        &self.floats[id.0]
    }

    /// Floats of a row-major buffer, mutable.
    pub fn float_mut(&mut self, id: BufferId) -> &mut [f32] {
        &mut self.floats[id.0]
    }

    /// Takes out a buffer of floats, to write it while others are read; [`Memory::give`] puts it back.
    pub fn take(&mut self, id: BufferId) -> Vec<f32> {
        std::mem::take(&mut self.floats[id.0])
    }

    /// Puts back what [`Memory::take`] took.
    pub fn give(&mut self, id: BufferId, floats: Vec<f32>) {
        self.floats[id.0] = floats;
    }

    /// Integers.
    pub fn int(&self, id: BufferId) -> &[u32] {
        &self.ints[id.0]
    }

    /// Integers, mutable.
    pub fn int_mut(&mut self, id: BufferId) -> &mut [u32] {
        &mut self.ints[id.0]
    }

    /// A weight matrix.
    pub fn panels(&self, id: BufferId) -> &Panels {
        &self.panels[id.0]
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
        match self.layouts[id.0] {
            Layout::Float => {
                let values = dtype.decode(bytes);
                self.floats[id.0][row * cols..][..values.len()].copy_from_slice(&values);
            }
            Layout::Int => {
                let ints = &mut self.ints[id.0][row * cols..];
                bytemuck::cast_slice_mut(ints)[..bytes.len()].copy_from_slice(bytes);
            }
            Layout::Panels => self.panels[id.0].write(row, bytes),
            Layout::Keys => {
                for (i, key) in dtype.decode(bytes).chunks_exact(cols).enumerate() {
                    write_key(&mut self.floats[id.0], page, row + i, key);
                }
            }
            Layout::Input => return Err(self.no_contents(id)),
        }
        Ok(())
    }

    fn no_contents(&self, id: BufferId) -> String {
        format!("{} is a step input, which this device does not keep", self.descs[id.0].name)
    }

    /// Whole rows; see [`crate::device::Device::read`].
    pub fn read(&self, id: BufferId, rows: Range<usize>) -> Result<Vec<u8>, String> {
        let desc = self.rows_of(id, &rows)?;
        let range = rows.start * desc.cols..rows.end * desc.cols;
        let (floats, page) = (&self.floats[id.0], self.max_dims.page_size);
        Ok(match self.layouts[id.0] {
            Layout::Float => desc.value_type().encode(&floats[range]),
            Layout::Int => bytemuck::cast_slice(&self.ints[id.0][range]).to_vec(),
            Layout::Panels => self.panels[id.0].read(rows),
            Layout::Keys => {
                let at = |slot: usize, c: usize| (slot / page * desc.cols + c) * page + slot % page;
                let key = |slot| (0..desc.cols).map(move |c| floats[at(slot, c)]);
                desc.value_type().encode(&rows.flat_map(key).collect::<Vec<_>>())
            }
            Layout::Input => return Err(self.no_contents(id)),
        })
    }
}

/// The layout of each buffer, by the ops that use it.
fn layouts(plan: &Plan) -> Vec<Layout> {
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
    let layout = |(id, desc): (BufferId, &BufferDesc)| match desc.kind {
        BufferKind::StepInput(_) => Layout::Input,
        _ if matrices.contains(&id) => Layout::Panels,
        _ if keys.contains(&id) => Layout::Keys,
        _ if desc.value_type() == DType::U32 => Layout::Int,
        _ => Layout::Float,
    };
    plan.iter().map(layout).collect()
}

/// Stores the key of a slot in the layout of [`Layout::Keys`].
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
