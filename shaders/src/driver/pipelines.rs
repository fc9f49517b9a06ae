//! Pipelines by shader and constants, made when they are first asked for.

use super::shader::{Access, Shader};
use std::collections::HashMap;
use wgpu::{BindGroup, BindGroupLayout, Buffer, ComputePipeline, Device, PipelineLayout, ShaderModule};

/// What a shader is compiled to before its constants are known.
struct Module {
    module: ShaderModule,
    bindings: BindGroupLayout,
    layout: PipelineLayout,
}

/// The key of a pipeline: its shader, and its constants' names and bits.
type PipelineKey = (&'static str, Vec<(String, u64)>);

/// The pipelines of a device.
#[derive(Default)]
pub(crate) struct Pipelines {
    modules: HashMap<&'static str, Module>,
    pipelines: HashMap<PipelineKey, ComputePipeline>,
}

impl Pipelines {
    /// The pipeline of a shader with these constants.
    pub fn pipeline(
        &mut self,
        device: &Device,
        shader: &'static Shader,
        constants: &[(&str, f64)],
    ) -> ComputePipeline {
        let key = (shader.name, constants.iter().map(|&(n, v)| (n.to_owned(), v.to_bits())).collect());
        if let Some(pipeline) = self.pipelines.get(&key) {
            return pipeline.clone();
        }
        let module = self.module(device, shader);
        let descriptor = wgpu::ComputePipelineDescriptor {
            label: Some(shader.name),
            layout: Some(&module.layout),
            module: &module.module,
            entry_point: Some("main"),
            compilation_options: wgpu::PipelineCompilationOptions {
                constants,
                zero_initialize_workgroup_memory: false,
            },
            cache: None,
        };
        let pipeline = device.create_compute_pipeline(&descriptor);
        self.pipelines.insert(key, pipeline.clone());
        pipeline
    }

    /// Binds buffers to a shader's bindings in order.
    pub fn bind(&mut self, device: &Device, shader: &'static Shader, buffers: &[&Buffer]) -> BindGroup {
        let entries: Vec<_> = buffers
            .iter()
            .enumerate()
            .map(|(i, buffer)| wgpu::BindGroupEntry {
                binding: i as u32,
                resource: buffer.as_entire_binding(),
            })
            .collect();
        device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some(shader.name),
            layout: &self.module(device, shader).bindings,
            entries: &entries,
        })
    }

    /// The module of a shader.
    fn module(&mut self, device: &Device, shader: &'static Shader) -> &Module {
        self.modules.entry(shader.name).or_insert_with(|| {
            let descriptor = wgpu::ShaderModuleDescriptor {
                label: Some(shader.name),
                source: wgpu::ShaderSource::Wgsl(shader.source().into()),
            };
            // SAFETY: every index that a shader computes is in bounds, so its checks can be left out:
            // rows are less than the step's counts, columns less than the views' (both checked when the
            // plan is compiled and the step submitted), and what a step's inputs point at (slots, pages,
            // tokens, positions, rows, masks, adjustments) is checked by `check::step` before it is
            // queued. Every loop counts up to one of those bounds, and divisors are never zero.
            let module = unsafe {
                device.create_shader_module_trusted(descriptor, wgpu::ShaderRuntimeChecks::unchecked())
            };
            let entries: Vec<_> = shader.bindings.iter().enumerate().map(entry).collect();
            let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
                label: Some(shader.name),
                entries: &entries,
            });
            let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
                label: Some(shader.name),
                bind_group_layouts: &[Some(&bindings)],
                immediate_size: shader.params as u32,
            });
            Module { module, bindings, layout }
        })
    }
}

fn entry((i, access): (usize, &Access)) -> wgpu::BindGroupLayoutEntry {
    wgpu::BindGroupLayoutEntry {
        binding: i as u32,
        visibility: wgpu::ShaderStages::COMPUTE,
        ty: wgpu::BindingType::Buffer {
            ty: wgpu::BufferBindingType::Storage { read_only: *access == Access::Read },
            has_dynamic_offset: false,
            min_binding_size: None,
        },
        count: None,
    }
}
