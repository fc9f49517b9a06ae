//! What an adapter reaches in plain shaders, for the ops to be compared with.

use crate::driver::gpu::Gpu;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use crate::ops::snippets::INVOCATION;
use bytemuck::{Pod, Zeroable};
use engine::device::{DeviceError, MemoryUse, Peaks};
use std::time::Instant;
use wgpu::BufferUsages;

pub(crate) static SHADER: Shader = Shader {
    name: "peak",
    files: &[INVOCATION, include_str!("peak.wgsl")],
    params: size_of::<Params>(),
    bindings: &[Read, Write],
};

/// Bytes of the buffer that is copied.
const BYTES: usize = 64 << 20;
/// Turns of the multiply-add chains, and multiply-adds of a turn.
const TURNS: u32 = 2048;
const PER_TURN: f64 = 16.0;

#[repr(C)]
#[derive(Clone, Copy, Pod, Zeroable)]
struct Params {
    count: u32,
    invocations: u32,
}

/// Measures an adapter: the best of five runs of each shader.
///
/// # Errors
/// [`DeviceError::OutOfMemory`] or [`DeviceError::Lost`].
pub(crate) fn measure(gpu: &mut Gpu) -> Result<Peaks, DeviceError> {
    let allocate = |name| gpu.allocate(name, BYTES, BufferUsages::STORAGE, MemoryUse::Activations);
    let (from, to) = (allocate("from")?, allocate("to")?);
    let bound = |gpu: &mut Gpu, copy: f64| Bound::new(gpu, &SHADER, &[("COPY", copy)], &[&from, &to]);
    let (chains, copy) = (bound(gpu, 0.0), bound(gpu, 1.0));
    let vectors = (BYTES / 16) as u32;
    let copied = best(gpu, &copy, Params { count: 0, invocations: vectors })?;
    // Enough for a large card; on a processor a fraction of a second.
    let invocations = if gpu.software { 1 << 12 } else { 1 << 20 };
    let chained = best(gpu, &chains, Params { count: TURNS, invocations })?;
    let flops_per_second = 2.0 * PER_TURN * f64::from(TURNS) * f64::from(invocations) / chained;
    Ok(Peaks {
        bytes_per_second: 2.0 * BYTES as f64 / copied,
        flops_per_second,
        fp8_flops_per_second: flops_per_second,
    })
}

/// Seconds of the fastest of five dispatches, after one that only warms up.
fn best(gpu: &Gpu, bound: &Bound, params: Params) -> Result<f64, DeviceError> {
    let mut best = f64::INFINITY;
    for run in 0..6 {
        let mut encoder = gpu.device.create_command_encoder(&wgpu::CommandEncoderDescriptor::default());
        Pass::new(&mut encoder, gpu).dispatch_lanes(bound, &params, params.invocations as usize);
        let start = Instant::now();
        gpu.finish(gpu.queue.submit([encoder.finish()]))?;
        if run > 0 {
            best = best.min(start.elapsed().as_secs_f64());
        }
    }
    Ok(best)
}
