//! Shaders, their pipelines, and what a compiled op does in a step.

use crate::gpu::Gpu;
use engine::plan::Dims;
use std::borrow::Cow;
use wgpu::{BindGroup, Buffer, ComputePass, ComputePipeline};

/// The immediates that every pipeline reserves: 16 words, the most that a shader here declares.
pub(crate) const IMMEDIATE_BYTES: u32 = 64;

/// Invocations of the element-wise shaders' workgroups.
pub(crate) const LANES: usize = 64;

/// How a shader uses a binding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    /// `var<storage, read>`.
    Read,
    /// `var<storage, read_write>`.
    Write,
}

/// A shader file and its interface. Bindings are 0, 1, ... of group 0.
#[derive(Debug)]
pub(crate) struct Shader {
    /// The file's stem.
    pub name: &'static str,
    /// The file.
    pub wgsl: &'static str,
    /// Its bindings in order.
    pub bindings: &'static [Access],
}

/// A pipeline with its buffers.
pub(crate) struct Bound {
    pub pipeline: ComputePipeline,
    pub group: BindGroup,
}

impl Bound {
    /// Makes the pipeline of a shader, or finds it, and binds buffers in the shader's order.
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

    /// Records one dispatch of `x * y` workgroups with these immediates.
    pub fn dispatch(&self, pass: &mut ComputePass<'_>, immediates: &[u8], (x, y): (u32, u32)) {
        if x == 0 || y == 0 {
            return;
        }
        pass.set_pipeline(&self.pipeline);
        pass.set_bind_group(0, &self.group, &[]);
        pass.set_immediates(0, immediates);
        pass.dispatch_workgroups(x, y, 1);
    }
}

/// What a kernel is told of a step.
pub(crate) struct Shape {
    /// Its row counts.
    pub dims: Dims,
    /// The most workgroups in a dimension.
    pub max_groups: usize,
}

impl Shape {
    /// Folds `groups` workgroups into two dimensions; the shader drops those beyond the end.
    pub fn fold(&self, groups: usize) -> (u32, u32) {
        let x = groups.min(self.max_groups);
        (x as u32, if x == 0 { 0 } else { groups.div_ceil(x) as u32 })
    }
}

/// A compiled op.
pub(crate) trait Kernel: Send {
    /// Records the op's dispatches for a step.
    fn encode(&self, pass: &mut ComputePass<'_>, shape: &Shape);
}

/// The source of a shader as wgpu takes it.
pub(crate) fn source(shader: &Shader) -> wgpu::ShaderSource<'static> {
    wgpu::ShaderSource::Wgsl(Cow::Borrowed(shader.wgsl))
}
