//! Ops that make every element of their output by itself.

use super::context::{Columns, Context, ViewParams};
use super::kernel::Kernel;
use crate::driver::pass::{Bound, Pass};
use crate::driver::shader::{LANES, Shader};
use engine::plan::Dims;
use wgpu::Buffer;

/// Bytes of the immediates of such a shader over `views` operands, the output counted: the output's rows and
/// columns, then the views, the output's last.
pub(crate) const fn params(views: usize) -> usize {
    2 * size_of::<u32>() + views * size_of::<ViewParams>()
}

/// One invocation for each element.
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
        let places = self.operands.iter().chain([&self.out]).map(Columns::params);
        let mut immediates = bytemuck::bytes_of(&[rows as u32, self.out.cols]).to_vec();
        immediates.extend(places.flat_map(|view| bytemuck::bytes_of(&view).to_vec()));
        let groups = (rows * self.out.cols as usize).div_ceil(LANES);
        pass.dispatch_bytes(&self.bound, &immediates, groups);
    }
}
