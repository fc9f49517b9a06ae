//! What a plan becomes: a list of calls, each with the grid that a step's row counts ask for.

use crate::args::{ArgBytes, CStruct};
use crate::driver::cublaslt::{CublasLt, Product};
use crate::driver::failure::device_lost;
use crate::driver::launch::{launch, launch_early};
use crate::grid::{ChooseGrid, GridDims};
use crate::kernel::Kernel;
use cudarc::driver::{CudaFunction, CudaStream, DriverError};
use engine::device::DeviceError;
use engine::plan::Rows;
use std::sync::Arc;

/// An op, or neighbouring ops fused, as the card runs it.
pub(crate) struct Launch {
    /// The variants that `choose` chooses from.
    pub(crate) kernels: Vec<Kernel>,
    /// The arguments of each.
    pub(crate) args: Vec<ArgBytes>,
    pub(crate) choose: ChooseGrid,
}

impl Launch {
    /// Variants that take the same arguments.
    pub(crate) fn new<A: CStruct>(kernels: Vec<Kernel>, args: A, choose: ChooseGrid) -> Launch {
        let variants = kernels.into_iter().map(|kernel| (kernel, args)).collect();
        Launch::of_variants(variants, choose)
    }

    /// Variants with arguments of their own.
    pub(crate) fn of_variants<A: CStruct>(variants: Vec<(Kernel, A)>, choose: ChooseGrid) -> Launch {
        let (kernels, args): (Vec<Kernel>, Vec<ArgBytes>) =
            variants.into_iter().map(|(kernel, args)| (kernel, ArgBytes::new(&args))).unzip();
        debug_assert!(kernels.iter().zip(&args).all(|(k, a)| k.structs.first() == Some(&a.layout())));
        Launch { kernels, args, choose }
    }
}

/// A [`Launch`] whose kernels are loaded.
pub(crate) struct Loaded {
    variants: Vec<Variant>,
    args: Vec<ArgBytes>,
    choose: ChooseGrid,
}

/// A loaded kernel.
struct Variant {
    function: CudaFunction,
    /// Bytes of dynamic shared memory.
    shared: u32,
    /// Whether it waits itself for the kernels before it.
    waits: bool,
}

impl Loaded {
    /// Queues the launch and says whether there was one. `early`: it may start before the kernels ahead of it are done.
    fn run(&self, stream: &CudaStream, grid: &GridDims, early: bool) -> Result<bool, DriverError> {
        let Some(config) = (self.choose)(grid) else { return Ok(false) };
        let Variant { function, shared, waits } = &self.variants[config.kernel];
        let launch = if early && *waits { launch_early } else { launch };
        launch(stream, function, *shared, &config, &self.args[config.kernel])?;
        Ok(true)
    }
}

/// One call of a plan: a launch of our kernels, or a product that cuBLASLt makes.
pub(crate) enum Call<L> {
    Launch(L),
    Product { blas: Arc<CublasLt>, rows: Rows, product: Product },
}

impl Call<Launch> {
    /// The kernels that the call may launch.
    pub(crate) fn kernels(&self) -> &[Kernel] {
        match self {
            Call::Launch(launch) => &launch.kernels,
            Call::Product { .. } => &[],
        }
    }

    /// The call with its kernels, which `functions` yields in their order.
    pub(crate) fn load(self, functions: &mut impl Iterator<Item = CudaFunction>) -> Call<Loaded> {
        match self {
            Call::Launch(Launch { kernels, args, choose }) => {
                let variant = |kernel: &Kernel| {
                    let (shared, waits) = (kernel.dynamic_shared, kernel.waits());
                    Some(Variant { function: functions.next()?, shared, waits })
                };
                Call::Launch(Loaded { variants: kernels.iter().filter_map(variant).collect(), args, choose })
            }
            Call::Product { blas, rows, product } => Call::Product { blas, rows, product },
        }
    }
}

impl Call<Loaded> {
    /// Queues the call, if the step has work for it, and says whether it has. `early`: it may start before the kernels ahead
    /// of it are done, if it waits for them itself.
    pub(crate) fn run(&self, stream: &CudaStream, grid: &GridDims, early: bool) -> Result<bool, DeviceError> {
        match self {
            Call::Launch(launch) => launch.run(stream, grid, early).map_err(device_lost),
            Call::Product { blas, rows, product } => match grid.dims.count(*rows) {
                0 => Ok(false),
                rows => blas.multiply(stream, product, rows).map(|()| true),
            },
        }
    }
}

/// Queues calls in order. `overlap`: all but the first may start before the ones ahead of them are done. The first waits for
/// all that was queued before, so that every call may read the step's counts at once.
pub(crate) fn run_all(
    calls: &[Call<Loaded>],
    stream: &CudaStream,
    grid: &GridDims,
    overlap: bool,
) -> Result<(), DeviceError> {
    let mut begun = false;
    for call in calls {
        begun |= call.run(stream, grid, overlap && begun)?;
    }
    Ok(())
}
