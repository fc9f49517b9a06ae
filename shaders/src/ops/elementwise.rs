//! Ops that make every element of their output by itself.

use super::context::{Columns, Context};
use super::kernel::Kernel;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::{LANES, Shader};
use engine::plan::Dims;
use wgpu::Buffer;

/// One invocation for each element. The shader's immediates are the output's rows and columns, and then
/// stride and start of every operand, the output last.
struct Elementwise {
    bound: Bound,
    operands: Vec<Columns>,
    out: Columns,
}

/// Compiles such an op: the shader binds `operands`, then `index` if there is one, then `out`.
pub(crate) fn compile(
    cx: &mut Context<'_>,
    shader: &'static Shader,
    constants: &[(&str, f64)],
    operands: Vec<Columns>,
    index: Option<Buffer>,
    out: Columns,
) -> Box<dyn Kernel> {
    let mut buffers: Vec<&Buffer> = operands.iter().map(|o| &o.buffer).collect();
    buffers.extend(&index);
    buffers.push(&out.buffer);
    let bound = Bound::new(cx.gpu, shader, constants, &buffers);
    Box::new(Elementwise { bound, operands, out })
}

impl Kernel for Elementwise {
    fn encode(&self, pass: &mut Pass<'_>, dims: &Dims) {
        let rows = dims.count(self.out.rows);
        let places = self.operands.iter().chain([&self.out]).flat_map(|view| [view.stride, view.start]);
        let immediates: Vec<u32> = [rows as u32, self.out.cols].into_iter().chain(places).collect();
        let groups = (rows * self.out.cols as usize).div_ceil(LANES);
        pass.dispatch_bytes(&self.bound, bytemuck::cast_slice(&immediates), groups);
    }
}
