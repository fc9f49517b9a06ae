//! The buffers of a plan in main memory, each in the layout that its ops use.

use super::pages::{Element, Pages};
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
    /// Values: row-major.
    Values,
    /// Not kept: ops read step inputs from the step itself.
    Input,
}

/// All buffers of a plan. Each has its contents in the list of its layout, and nothing in the others.
pub struct Memory {
    layouts: Vec<Layout>,
    floats: Vec<Vec<f32>>,
    ints: Vec<Vec<u32>>,
    panels: Vec<Panels>,
    pages: Vec<Pages>,
    descs: Buffers,
    max_dims: Dims,
}

impl Memory {
    /// Buffers for steps up to `max_dims`. Floats start as NaN, so that a read of what was never written shows.
    pub fn new(plan: &Plan, max_dims: &Dims, precision: MatmulPrecision) -> Memory {
        let mut memory = Memory {
            layouts: layouts(plan),
            floats: Vec::new(),
            ints: Vec::new(),
            panels: Vec::new(),
            pages: Vec::new(),
            descs: plan.buffers.clone(),
            max_dims: *max_dims,
        };
        for (desc, layout) in plan.buffers.iter().zip(memory.layouts.clone()) {
            let rows = |kept: bool| if kept { max_dims.count(desc.rows) } else { 0 };
            memory.floats.push(vec![f32::NAN; rows(layout == Layout::Float) * desc.cols]);
            memory.ints.push(vec![0; rows(layout == Layout::Int) * desc.cols]);
            let elements = rows(matches!(layout, Layout::Keys | Layout::Values)) * desc.cols;
            memory.pages.push(Pages::new(desc.value_type(), elements));
            let rows = rows(layout == Layout::Panels);
            memory.panels.push(Panels::zeros(rows, desc.cols, desc.format, precision));
        }
        memory
    }

    /// The columns of a buffer.
    pub fn cols(&self, id: BufferId) -> usize {
        self.descs[id.0].cols
    }

    /// Floats of a row-major buffer.
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

    /// The type of a buffer's elements.
    pub fn dtype(&self, id: BufferId) -> DType {
        self.descs[id.0].value_type()
    }

    /// The elements of KV pages of this type: values row-major, keys in their layout.
    pub fn pages<T: Element>(&self, id: BufferId) -> &[T] {
        T::of(&self.pages[id.0])
    }

    /// Takes out KV pages, to write them while activations are read; [`Memory::give_pages`] puts them back.
    pub fn take_pages(&mut self, id: BufferId) -> Pages {
        std::mem::take(&mut self.pages[id.0])
    }

    /// Puts back what [`Memory::take_pages`] took.
    pub fn give_pages(&mut self, id: BufferId, pages: Pages) {
        self.pages[id.0] = pages;
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
                    self.pages[id.0].store(key_at(page, cols, row + i), page, key);
                }
            }
            Layout::Values => self.pages[id.0].store(row * cols, 1, &dtype.decode(bytes)),
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
                let at = |slot: usize| key_at(page, desc.cols, slot);
                let key = |slot| self.pages[id.0].values(at(slot), page, desc.cols);
                desc.value_type().encode(&rows.flat_map(key).collect::<Vec<_>>())
            }
            Layout::Values => desc.value_type().encode(&self.pages[id.0].values(range.start, 1, range.len())),
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
        BufferKind::KvPage => Layout::Values,
        _ if desc.value_type() == DType::U32 => Layout::Int,
        _ => Layout::Float,
    };
    plan.iter().map(layout).collect()
}

/// Where the first column of a slot's key is in the layout of [`Layout::Keys`]; the others follow `page_size` elements apart.
fn key_at(page_size: usize, cols: usize, slot: usize) -> usize {
    slot / page_size * page_size * cols + slot % page_size
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
