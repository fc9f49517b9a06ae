//! Compiled kernels, loaded on a card.

use crate::driver::card::Card;
use crate::driver::cubins::{cubin, default_folder};
use crate::driver::failure::device_lost;
use crate::driver::nvrtc::Nvrtc;
use crate::kernel::Kernel;
use cudarc::driver::sys::CUfunction_attribute_enum as Attribute;
use cudarc::driver::{CudaFunction, DriverError};
use engine::device::{DeviceError, DeviceKind};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Dynamic shared memory above which a kernel must ask for it.
const PLAIN_SHARED: u32 = 48 << 10;

/// The kernels of a card that have been compiled and loaded.
pub(crate) struct Functions {
    /// Where cubins are kept.
    cache: Option<PathBuf>,
    loaded: HashMap<Kernel, CudaFunction>,
}

impl Functions {
    /// None yet; cubins are kept in `cache` or in the default folder.
    pub(crate) fn new(cache: Option<PathBuf>) -> Functions {
        Functions { cache: cache.or_else(default_folder), loaded: HashMap::new() }
    }

    /// The functions of `kernels`, in their order. Those that are missing are compiled first, several at a time.
    ///
    /// # Errors
    /// [`DeviceError::Unsupported`] if a kernel does not compile, [`DeviceError::Lost`].
    pub(crate) fn load(&mut self, card: &Card, kernels: &[Kernel]) -> Result<Vec<CudaFunction>, DeviceError> {
        let nvrtc = Nvrtc::get()?;
        let mut missing: Vec<&Kernel> = Vec::new();
        for kernel in kernels {
            if !self.loaded.contains_key(kernel) && !missing.contains(&kernel) {
                missing.push(kernel);
            }
        }
        for (kernel, cubin) in compile(nvrtc, &missing, &card.architecture, self.cache.as_deref()) {
            let cubin = cubin.map_err(|why| DeviceError::Unsupported {
                device: DeviceKind::Cuda,
                op: kernel.file,
                why: format!("its kernel does not compile for {}: {why}", card.architecture),
            })?;
            let function = load_one(card, kernel, cubin).map_err(device_lost)?;
            self.loaded.insert(kernel.clone(), function);
        }
        Ok(kernels.iter().map(|kernel| self.loaded[kernel].clone()).collect())
    }
}

/// Compiles kernels on all processors.
fn compile<'a>(
    nvrtc: &Nvrtc,
    kernels: &[&'a Kernel],
    architecture: &str,
    cache: Option<&Path>,
) -> Vec<(&'a Kernel, Result<Vec<u8>, String>)> {
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        while let Some(&kernel) = kernels.get(next.fetch_add(1, Ordering::Relaxed)) {
            done.push((kernel, cubin(nvrtc, kernel, architecture, cache)));
        }
        done
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads.min(kernels.len())).map(|_| scope.spawn(work)).collect();
        // A panic of a worker is a bug of ours: it goes on here.
        let join = |w: std::thread::ScopedJoinHandle<'_, _>| {
            w.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        workers.into_iter().flat_map(join).collect()
    })
}

fn load_one(card: &Card, kernel: &Kernel, cubin: Vec<u8>) -> Result<CudaFunction, DriverError> {
    let module = card.context.load_module(cudarc::nvrtc::Ptx::from_binary(cubin))?;
    let function = module.load_function(kernel.entry)?;
    if kernel.dynamic_shared > PLAIN_SHARED {
        let attribute = Attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
        function.set_attribute(attribute, kernel.dynamic_shared as i32)?;
    }
    // Asking for an attribute loads the code now: drivers load lazily, which a capture forbids.
    function.get_attribute(Attribute::CU_FUNC_ATTRIBUTE_NUM_REGS)?;
    Ok(function)
}
