//! What a card can reach: a measured copy, and the arithmetic of its data sheet.

use crate::driver::card::{Card, TensorCores};
use crate::driver::failure::device_lost;
use crate::driver::memory::DeviceMemory;
use cudarc::driver::result;
use cudarc::driver::sys::{CUdevice_attribute as Attribute, CUevent_flags};
use engine::device::{DeviceError, MemoryUse, Peaks};
use engine::dtype::DType;

/// The memory that is copied, at most: more than any card's cache holds. A card with little room copies less.
const BYTES: usize = 1 << 30;
/// Runs, of which the fastest counts.
const RUNS: usize = 5;

/// Measures a copy, and computes the rate of multiply-adds in the type of activations.
///
/// # Errors
/// [`DeviceError::OutOfMemory`], [`DeviceError::Lost`].
pub(crate) fn peaks(card: &Card, activations: DType) -> Result<Peaks, DeviceError> {
    let clocks = f64::from(card.limits.sms) * clock(card)?;
    Ok(Peaks {
        bytes_per_second: copy_rate(card)?,
        flops_per_second: clocks * per_clock(card.capability, activations),
        fp8_flops_per_second: clocks * fp8_per_clock(card.capability, activations),
    })
}

/// Operations of one multiprocessor in one clock, a multiply-add as two, with f32 sums: the throughput tables of the
/// CUDA C++ Programming Guide ("Arithmetic Instructions") for f32, and of the whitepapers of each architecture for dense
/// products of bf16 and f16.
const fn per_clock((major, minor): (u32, u32), activations: DType) -> f64 {
    match (activations, major, minor) {
        (DType::F32, 8, 0) => 128.0,
        (DType::F32, ..) => 256.0,
        (_, 8, 0) => 2048.0,
        (_, 9, _) => 4096.0,
        (_, 10, _) => 8192.0,
        _ => 512.0,
    }
}

/// The same for dense products of FP8 numbers: twice as many as of bf16 where the card's kernels multiply them; elsewhere,
/// and where activations are f32, FP8 weights are widened.
fn fp8_per_clock(capability: (u32, u32), activations: DType) -> f64 {
    let multiplied = activations != DType::F32 && TensorCores::of(capability).multiply_e4m3();
    per_clock(capability, activations) * if multiplied { 2.0 } else { 1.0 }
}

/// The greatest clock of the multiprocessors, in Hz.
fn clock(card: &Card) -> Result<f64, DeviceError> {
    let khz = card.context.attribute(Attribute::CU_DEVICE_ATTRIBUTE_CLOCK_RATE).map_err(device_lost)?;
    Ok(f64::from(khz) * 1e3)
}

/// Bytes read and written a second by a copy within the card's memory.
fn copy_rate(card: &Card) -> Result<f64, DeviceError> {
    let bytes = BYTES.min(card.memory_free()? / 8).max(4096);
    let memory = |what| DeviceMemory::new(&card.context, bytes, what, MemoryUse::Activations);
    let (from, to) = (memory("copy source")?, memory("copy target")?);
    let stream = &card.stream;
    // SAFETY: both allocations have `bytes` bytes and outlive the stream's work, which is waited for.
    unsafe { result::memset_d8_async(from.at, 1, bytes, stream.cu_stream()) }.map_err(device_lost)?;
    let event = || card.context.new_event(Some(CUevent_flags::CU_EVENT_DEFAULT)).map_err(device_lost);
    let (start, end) = (event()?, event()?);
    let mut best = f64::INFINITY;
    for _ in 0..RUNS {
        start.record(stream).map_err(device_lost)?;
        // SAFETY: as above.
        unsafe { result::memcpy_dtod_async(to.at, from.at, bytes, stream.cu_stream()) }
            .map_err(device_lost)?;
        end.record(stream).map_err(device_lost)?;
        stream.synchronize().map_err(device_lost)?;
        best = best.min(f64::from(start.elapsed_ms(&end).map_err(device_lost)?) / 1e3);
    }
    Ok(2.0 * bytes as f64 / best.max(1e-9))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The dense rates of data sheets, in TFLOP/s, at the clocks that they are given for.
    #[test]
    fn rates_are_those_of_data_sheets() {
        for (capability, sms, gigahertz, bf16, fp8) in [
            // A100, RTX 3090, RTX 4090, H100 SXM, B200 (whose FP8 weights are widened), RTX 5090.
            ((8, 0), 108.0, 1.41, 312.0, 312.0),
            ((8, 6), 82.0, 1.695, 71.0, 71.0),
            ((8, 9), 128.0, 2.52, 165.2, 330.3),
            ((9, 0), 132.0, 1.83, 989.4, 1978.9),
            ((10, 0), 148.0, 1.85, 2250.0, 2250.0),
            ((12, 0), 170.0, 2.407, 209.5, 419.0),
        ] {
            let near =
                |per_clock: f64, sheet: f64| (sms * gigahertz * per_clock / 1e3 / sheet - 1.0).abs() < 0.02;
            assert!(near(per_clock(capability, DType::BF16), bf16), "bf16 of {capability:?}");
            assert!(near(fp8_per_clock(capability, DType::BF16), fp8), "FP8 of {capability:?}");
            assert_eq!(fp8_per_clock(capability, DType::F32), per_clock(capability, DType::F32));
        }
    }
}
