//! What the tests share.
// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

pub mod child;
pub mod few;

use engine::cases::{Case, Formats};
use engine::cpu::CpuDevice;
use engine::dtype::DType;
use engine::format::Format;
use kernels::{CudaDevice, Options};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The card of this machine, or the stand-in driver where there is none.
pub fn open(cache: Option<PathBuf>) -> CudaDevice {
    let cache = cache.or_else(self::cache);
    CudaDevice::open_with(Options { cache, ..Options::default() }).unwrap()
}

/// Whether this machine has a card, asked before the stand-in is put in place.
pub fn card() -> bool {
    static CARD: OnceLock<bool> = OnceLock::new();
    *CARD.get_or_init(|| kernels::devices().iter().any(|d| d.unusable.is_none()))
}

/// The usual cache of kernels of a card, or of the stand-in driver, which this puts in place where there is no card.
pub fn cache() -> Option<PathBuf> {
    // Once for all tests of the process: a search while the stand-in is half loaded would find half of it.
    static STANDIN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let standin =
        STANDIN.get_or_init(|| (!card()).then(|| gristmill_standin::install().unwrap().join("cubins")));
    standin.clone()
}

/// All in f16.
pub const F16: Formats =
    Formats { activations: DType::F16, weights: Format::Plain(DType::F16), kv: DType::F16 };

/// All in bf16.
pub const BF16: Formats =
    Formats { activations: DType::BF16, weights: Format::Plain(DType::BF16), kv: DType::BF16 };

/// The same with pages in FP8.
pub const FP8_PAGES: Formats = Formats { kv: DType::E4M3, ..BF16 };

/// Activations in f16 over pages in FP8.
pub const F16_FP8_PAGES: Formats = Formats { kv: DType::E4M3, ..F16 };

/// Checks a case against the oracle.
pub fn compare(device: &mut CudaDevice, formats: Formats, case: &Case) -> Result<(), String> {
    let mut oracle = CpuDevice::new(Some(1)).map_err(|e| e.to_string())?;
    case.check(device, &mut oracle, formats.epsilon())
}
