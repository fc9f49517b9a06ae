//! What the tests share.
// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use engine::cases::{Case, Formats};
use engine::cpu::CpuDevice;
use engine::dtype::DType;
use engine::step::StepOutput;
use kernels::{CudaDevice, Options};
use std::path::PathBuf;
use std::sync::OnceLock;

/// The card of this machine, or the stand-in driver where there is none.
pub fn open(dtype: DType, cache: Option<PathBuf>) -> CudaDevice {
    let cache = cache.or_else(self::cache);
    CudaDevice::open_with(Options { dtype, cache, ..Options::default() }).unwrap()
}

/// The usual cache of kernels of a card, or of the stand-in driver, which this puts in place where there is no card.
pub fn cache() -> Option<PathBuf> {
    // Once for all tests of the process: a search while the stand-in is half loaded would find half of it.
    static STANDIN: OnceLock<Option<PathBuf>> = OnceLock::new();
    let standin = STANDIN.get_or_init(|| {
        let card = kernels::devices().iter().any(|d| d.unusable.is_none());
        (!card).then(|| gristmill_standin::install().unwrap().join("cubins"))
    });
    standin.clone()
}

/// Runs a case on a device and on the oracle, and says where they differ.
pub fn compare(device: &mut CudaDevice, formats: Formats, case: &Case, mut wide: Case) -> Result<(), String> {
    for ((id, to), (_, from)) in wide.writes.iter_mut().zip(&case.writes) {
        let desc = case.plan.desc(*id);
        if desc.dtype.is_float() {
            *to = DType::F32.encode(&desc.dtype.decode(from));
        }
    }
    let mut oracle = CpuDevice::new(Some(1)).map_err(|e| e.to_string())?;
    let (id, output) = case.run(device).map_err(|e| e.to_string())?;
    let got = case.read(device, id).map_err(|e| e.to_string())?;
    let (id, wide_output) = wide.run(&mut oracle).map_err(|e| e.to_string())?;
    let want = wide.read(&mut oracle, id).map_err(|e| e.to_string())?;
    let tolerance = 1e-4 + 4.0 * formats.epsilon();
    let close = |(got, want): (&f32, &f32)| (got - want).abs() <= tolerance * want.abs().max(1.0);
    let all = got.iter().zip(&want).all(|(got, want)| got.iter().zip(want).all(close));
    let tokens = |output: &StepOutput| output.sampled.iter().map(|s| s.token).collect::<Vec<_>>();
    let all = all && tokens(&output) == tokens(&wide_output);
    if all { Ok(()) } else { Err(format!("{}: the results differ from the oracle's", case.name)) }
}
