//! What the tests share.

use engine::dtype::DType;
use kernels::{CudaDevice, Options};
use std::path::PathBuf;

/// The card of this machine, or the stand-in driver where there is none.
pub fn open(dtype: DType, cache: Option<PathBuf>) -> CudaDevice {
    let card = kernels::devices().iter().any(|d| d.unusable.is_none());
    let cache = cache.or_else(|| (!card).then(|| gristmill_standin::install().unwrap().join("cubins")));
    CudaDevice::open_with(Options { dtype, cache, ..Options::default() }).unwrap()
}
