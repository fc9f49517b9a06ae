//! `Op::GatedMul`.

use super::context::Context;
use super::elementwise;
use super::kernel::Kernel;
use super::snippets::{INVOCATION, VIEW};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use engine::device::DeviceError;
use engine::op::{Activation, GatedMul};

pub(crate) static SHADER: Shader = Shader {
    name: "gated_mul",
    files: &[INVOCATION, VIEW, include_str!("gated_mul.wgsl")],
    params: elementwise::params(2),
    bindings: &[Read, Write],
};

pub(crate) fn compile(cx: &mut Context<'_>, op: &GatedMul) -> Result<Box<dyn Kernel>, DeviceError> {
    let (x, out) = (cx.columns(op.x)?, cx.columns(op.out)?);
    let act = match op.act {
        Activation::Silu => 0.0,
        Activation::GeluTanh => 1.0,
    };
    Ok(elementwise::compile(cx, &SHADER, &[("ACTIVATION", act)], vec![x], None, out))
}
