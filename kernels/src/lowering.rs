//! What the lowering of an op may ask for: where buffers lie, how rows are counted, what the card can do.

use crate::args::DevicePtr;
use crate::counts::Counts;
use crate::driver::card::CardLimits;
use crate::driver::cublaslt::{CublasLt, Matrix};
use crate::work::Work;
use cudarc::driver::DriverError;
use engine::format::Format;
use engine::plan::{BufferId, Dims, Input, Plan, Rows, View};
use std::sync::Arc;

/// What makes the products of Linear, beside what the card decides.
#[derive(Clone, Default)]
pub(crate) struct Linears {
    /// In place of our own kernels.
    pub(crate) blas: Option<Arc<CublasLt>>,
    /// Consumer warpgroups and tokens of the one tile to use on a card with `wgmma`.
    pub(crate) tile: Option<(usize, usize)>,
}

/// A plan that is being lowered.
pub(crate) struct Lowering<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) max_dims: &'a Dims,
    pub(crate) limits: CardLimits,
    /// Addresses of the plan's buffers.
    pub(crate) addresses: &'a [DevicePtr],
    pub(crate) counts: Counts,
    /// Attention work lists, one for each tiling.
    pub(crate) work: &'a [Work],
    pub(crate) linears: Linears,
    /// Weights whose gate and up rows a kernel wants side by side: [`crate::interleave`].
    pub(crate) interleaved: Vec<BufferId>,
    /// Where FP8 Linears have the rows of x quantised: [`crate::ops::linear::quantized_bytes`].
    pub(crate) quantized: DevicePtr,
    /// Where Sample keeps what it knows of parts of rows: [`crate::ops::sample::parts_bytes`].
    pub(crate) sample_parts: DevicePtr,
    /// What the driver refused, if it did.
    pub(crate) refused: Option<DriverError>,
}

/// A view as a kernel sees it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Operand {
    pub(crate) at: DevicePtr,
    pub(crate) format: Format,
    pub(crate) rows: Rows,
    /// The first column of the buffer.
    pub(crate) start: usize,
    pub(crate) cols: usize,
    /// Elements from one row to the next.
    pub(crate) stride: usize,
}

impl Operand {
    /// Whether rows of the view can be moved `n` elements at a time.
    pub(crate) fn aligned(&self, n: usize) -> bool {
        self.start.is_multiple_of(n) && self.cols.is_multiple_of(n) && self.stride.is_multiple_of(n)
    }

    /// The view as an operand of cuBLASLt; `None` if its elements do not lie one by one.
    pub(crate) fn matrix(&self) -> Option<Matrix> {
        let dtype = self.format.plain()?;
        Some(Matrix { at: self.at, dtype, cols: self.cols, stride: self.stride })
    }
}

/// Elements that a kernel moves together: 8, or 1 if an operand forbids it.
pub(crate) fn vector_width(operands: &[&Operand]) -> usize {
    if operands.iter().all(|o| o.aligned(8)) { 8 } else { 1 }
}

impl<'a> Lowering<'a> {
    /// A plan that is only looked at. `addresses` has one for each buffer, of no meaning.
    pub(crate) fn only_looked_at(
        plan: &'a Plan,
        max_dims: &'a Dims,
        limits: CardLimits,
        linears: Linears,
        addresses: &'a [DevicePtr],
    ) -> Lowering<'a> {
        let (counts, interleaved) = (Counts::new(0), Vec::new());
        Lowering {
            plan,
            max_dims,
            limits,
            addresses,
            counts,
            work: &[],
            linears,
            interleaved,
            quantized: 0,
            sample_parts: 0,
            refused: None,
        }
    }

    pub(crate) fn view(&self, view: View) -> Operand {
        let desc = self.plan.desc(view.buffer);
        Operand {
            at: self.at(view.buffer) + (view.start * desc.value_type().size()) as u64,
            format: desc.format,
            rows: desc.rows,
            start: view.start,
            cols: view.cols,
            stride: desc.cols,
        }
    }

    /// A whole buffer.
    pub(crate) fn buffer(&self, id: BufferId) -> Operand {
        self.view(self.plan.view(id))
    }

    /// The address of a buffer.
    pub(crate) fn at(&self, id: BufferId) -> DevicePtr {
        self.addresses[id.0]
    }

    /// The address of a step input. An op's check has seen that the plan has its inputs.
    pub(crate) fn input(&self, input: Input) -> DevicePtr {
        self.plan.input(input).map_or(0, |id| self.at(id))
    }

    /// The address of the word that holds the count of `rows` in each step.
    pub(crate) fn rows(&mut self, rows: Rows) -> DevicePtr {
        self.counts.rows(rows, self.max_dims)
    }
}
