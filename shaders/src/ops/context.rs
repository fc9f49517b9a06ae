//! What an op is compiled from.

use crate::buffers::blocks::Blocks;
use crate::buffers::layout::{Layout, RowLayout};
use crate::buffers::storage::Storage;
use crate::driver::gpu::Gpu;
use crate::options::Options;
use bytemuck::{Pod, Zeroable};
use engine::device::DeviceError;
use engine::plan::{BufferDesc, BufferId, Dims, Input, Plan, Rows, View};
use wgpu::Buffer;

/// What an op is compiled from: the plan's buffers, and the device that makes pipelines.
pub(crate) struct Context<'a> {
    pub gpu: &'a mut Gpu,
    pub options: &'a Options,
    pub plan: &'a Plan,
    pub max_dims: &'a Dims,
    pub buffers: &'a [Storage],
}

/// Columns of an activation as a shader sees them.
pub(crate) struct Columns {
    pub buffer: Buffer,
    pub rows: Rows,
    /// Words between rows.
    pub stride: u32,
    /// The first column.
    pub start: u32,
    /// How many columns.
    pub cols: u32,
}

/// A view in the immediates of a shader: `View` of `snippets/view.wgsl`.
#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
pub(crate) struct ViewParams {
    stride: u32,
    start: u32,
}

impl Columns {
    /// The view as immediates.
    pub fn params(&self) -> ViewParams {
        ViewParams { stride: self.stride, start: self.start }
    }
}

impl Context<'_> {
    /// A view's buffer and shape.
    pub fn columns(&self, view: View) -> Result<Columns, DeviceError> {
        Ok(Columns {
            buffer: self.buffer(view.buffer),
            rows: self.desc(view.buffer).rows,
            stride: self.stride(view.buffer)?,
            start: view.start as u32,
            cols: view.cols as u32,
        })
    }

    /// A buffer that is not sharded.
    pub fn buffer(&self, id: BufferId) -> Buffer {
        self.buffers[id.0].shards[0].clone()
    }

    /// The buffer of a step input.
    pub fn input(&self, input: Input) -> Result<Buffer, DeviceError> {
        let missing = || DeviceError::BadPlan(format!("the plan has no buffer for the step input {input:?}"));
        self.plan.input(input).map(|id| self.buffer(id)).ok_or_else(missing)
    }

    /// A buffer's description.
    pub fn desc(&self, id: BufferId) -> &BufferDesc {
        &self.buffers[id.0].desc
    }

    /// Words between the rows of a buffer.
    pub fn stride(&self, id: BufferId) -> Result<u32, DeviceError> {
        Ok(self.row_layout(id)?.stride(self.desc(id)) as u32)
    }

    /// The head width of KV pages.
    pub fn head_dim(&self, pages: BufferId) -> Result<u32, DeviceError> {
        match self.row_layout(pages)? {
            RowLayout::Heads { head_dim } => Ok(head_dim as u32),
            RowLayout::Words { .. } => Err(self.misplaced(pages, "it holds no KV pages")),
        }
    }

    /// The layout of a weight of a Linear or Embed, and its shards.
    pub fn blocks(&self, weight: BufferId) -> Result<(Blocks, Vec<Buffer>), DeviceError> {
        let storage = &self.buffers[weight.0];
        match storage.layout {
            Layout::Blocks(blocks) => Ok((blocks, storage.shards.clone())),
            Layout::Rows(_) => Err(self.misplaced(weight, "it is not laid out as a weight matrix")),
        }
    }

    fn row_layout(&self, id: BufferId) -> Result<RowLayout, DeviceError> {
        match self.buffers[id.0].layout {
            Layout::Rows(layout) => Ok(layout),
            Layout::Blocks(_) => Err(self.misplaced(id, "it is laid out as a weight matrix")),
        }
    }

    fn misplaced(&self, id: BufferId, why: &str) -> DeviceError {
        DeviceError::BadPlan(format!("{} cannot be used here: {why}", self.desc(id).name))
    }
}
