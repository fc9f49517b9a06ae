//! Launches: a kernel with its arguments, and the grid that a step's row counts ask for.

use crate::cublaslt::Product;
use crate::failure::lost;
use crate::kernel::Kernel;
use cudarc::driver::{CudaFunction, CudaStream, result};
use engine::device::DeviceError;
use engine::plan::Dims;

/// What of a step decides a grid. For a graph the counts are those of its bucket: kernels read the true
/// counts on the card and leave the rest alone.
#[derive(Clone, Debug, Default)]
pub(crate) struct Extent {
    pub(crate) dims: Dims,
    /// Attention work of each group size of the plan, in the plan's order.
    pub(crate) work: Vec<WorkCount>,
}

/// How many items of attention there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct WorkCount {
    pub(crate) decode: usize,
    pub(crate) prefill: usize,
    pub(crate) merges: usize,
}

/// One launch of one of a [`Launch`]'s kernels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Config {
    pub(crate) kernel: usize,
    pub(crate) grid: (u32, u32, u32),
    pub(crate) block: (u32, u32, u32),
}

/// Decides the launch for an extent; `None` if there is nothing to do.
pub(crate) type Shape = Box<dyn Fn(&Extent) -> Option<Config> + Send>;

/// What a plan becomes: launches of our kernels, and products that cuBLASLt makes.
pub(crate) enum Call<L> {
    Launch(L),
    Product(Product),
}

impl Call<Loaded> {
    /// Queues the call, if this extent has work for it.
    pub(crate) fn run(&self, stream: &CudaStream, extent: &Extent) -> Result<(), DeviceError> {
        match self {
            Call::Launch(launch) => launch.run(stream, extent).map_err(lost),
            Call::Product(product) => product.run(stream, extent),
        }
    }
}

/// Queues the calls of a step.
pub(crate) fn run_all(
    calls: &[Call<Loaded>],
    stream: &CudaStream,
    extent: &Extent,
) -> Result<(), DeviceError> {
    calls.iter().try_for_each(|call| call.run(stream, extent))
}

/// An op, or neighbouring ops fused, as the card runs it.
pub(crate) struct Launch {
    /// The variants that `shape` chooses from; all take the same arguments.
    pub(crate) kernels: Vec<Kernel>,
    pub(crate) args: Args,
    pub(crate) shape: Shape,
}

/// A [`Launch`] whose kernels are loaded.
pub(crate) struct Loaded {
    pub(crate) functions: Vec<(CudaFunction, u32)>,
    pub(crate) args: Args,
    pub(crate) shape: Shape,
}

impl Loaded {
    fn run(&self, stream: &CudaStream, extent: &Extent) -> Result<(), result::DriverError> {
        let Some(config) = (self.shape)(extent) else { return Ok(()) };
        let (function, shared) = &self.functions[config.kernel];
        launch(stream, function, *shared, &config, &self.args)
    }
}

/// Queues one kernel.
pub(crate) fn launch(
    stream: &CudaStream,
    function: &CudaFunction,
    shared: u32,
    config: &Config,
    args: &Args,
) -> Result<(), result::DriverError> {
    let mut params = [args.0.as_ptr().cast_mut().cast()];
    // SAFETY: the kernel takes one struct by value, of which `args` holds a copy with C's layout; its
    // pointers are to buffers of the plan, which outlives its steps.
    unsafe {
        result::launch_kernel(
            function.cu_function(),
            config.grid,
            config.block,
            shared,
            stream.cu_stream(),
            &mut params,
        )
    }
}

/// The bytes of a kernel's `Args`, field by field: 8-byte fields first, as the structs have them.
#[derive(Clone, Debug, Default)]
pub(crate) struct Args(Vec<u64>, bool);

impl Args {
    pub(crate) fn pointer(mut self, at: u64) -> Self {
        debug_assert!(!self.1, "pointers go first");
        self.0.push(at);
        self
    }

    /// Replaces the first pointer.
    pub(crate) fn first(mut self, at: u64) -> Self {
        self.0[0] = at;
        self
    }

    pub(crate) fn word(mut self, value: impl TryInto<u32, Error: std::fmt::Debug>) -> Self {
        // Shapes are checked against u32 before a plan is compiled.
        let value = u64::from(value.try_into().unwrap_or(u32::MAX));
        match self.0.last_mut() {
            Some(last) if self.1 => *last |= value << 32,
            _ => self.0.push(value),
        }
        self.1 = !self.1;
        self
    }

    pub(crate) fn float(self, value: f32) -> Self {
        self.word(value.to_bits())
    }
}

/// One block of `threads` for each row, where there are rows.
pub(crate) fn block_per_row(rows: engine::plan::Rows, threads: u32) -> Shape {
    Box::new(move |extent| {
        let rows = extent.dims.count(rows);
        (rows > 0).then_some(Config { kernel: 0, grid: (rows as u32, 1, 1), block: (threads, 1, 1) })
    })
}

/// Threads for rows of `packs` packs: whole warps, at most 256.
pub(crate) fn threads_for(packs: usize) -> u32 {
    packs.next_multiple_of(32).clamp(32, 256) as u32
}
