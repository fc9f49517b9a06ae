//! Recording dispatches.

use super::gpu::Gpu;
use super::shader::{LANES, Shader};
use bytemuck::NoUninit;
use wgpu::{BindGroup, Buffer, CommandEncoder, ComputePass, ComputePipeline};

/// A pipeline with its buffers.
pub(crate) struct Bound {
    pub pipeline: ComputePipeline,
    pub group: BindGroup,
}

impl Bound {
    /// Finds or makes the pipeline of a shader, and binds buffers in the shader's order.
    pub fn new(
        gpu: &mut Gpu,
        shader: &'static Shader,
        constants: &[(&str, f64)],
        buffers: &[&Buffer],
    ) -> Bound {
        let pipeline = gpu.pipeline(shader, constants);
        let group = gpu.bind(shader, buffers);
        Bound { pipeline, group }
    }
}

/// A compute pass that is being recorded.
pub(crate) struct Pass<'a> {
    pass: ComputePass<'a>,
    /// The largest number of workgroups in one dimension of a dispatch.
    pub max_groups: usize,
}

impl<'a> Pass<'a> {
    /// Begins a pass.
    pub fn new(encoder: &'a mut CommandEncoder, gpu: &Gpu) -> Pass<'a> {
        let pass = encoder.begin_compute_pass(&wgpu::ComputePassDescriptor::default());
        Pass { pass, max_groups: gpu.limits.max_compute_workgroups_per_dimension as usize }
    }

    /// Records `groups` workgroups, folded into two dimensions; the shader skips those past the end.
    pub fn dispatch_groups<P: NoUninit>(&mut self, bound: &Bound, params: &P, groups: usize) {
        self.dispatch_bytes(bound, bytemuck::bytes_of(params), groups);
    }

    /// Records `count` invocations in workgroups of [`LANES`].
    pub fn dispatch_lanes<P: NoUninit>(&mut self, bound: &Bound, params: &P, count: usize) {
        self.dispatch_groups(bound, params, count.div_ceil(LANES));
    }

    /// As [`Pass::dispatch_groups`], with immediates as bytes.
    pub fn dispatch_bytes(&mut self, bound: &Bound, immediates: &[u8], groups: usize) {
        let x = groups.min(self.max_groups);
        let y = groups.div_ceil(x.max(1));
        self.dispatch(&bound.pipeline, &bound.group, immediates, (x as u32, y as u32));
    }

    /// Records one dispatch of `x * y` workgroups.
    pub fn dispatch(
        &mut self,
        pipeline: &ComputePipeline,
        group: &BindGroup,
        immediates: &[u8],
        (x, y): (u32, u32),
    ) {
        if x == 0 || y == 0 {
            return;
        }
        self.pass.set_pipeline(pipeline);
        self.pass.set_bind_group(0, group, &[]);
        self.pass.set_immediates(0, immediates);
        self.pass.dispatch_workgroups(x, y, 1);
    }
}
