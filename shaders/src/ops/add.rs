//! `Op::Add`.

use super::context::Context;
use super::elementwise;
use super::kernel::Kernel;
use super::snippets::{INVOCATION, VIEW};
use crate::driver::shader::Access::Write;
use crate::driver::shader::Shader;
use engine::device::DeviceError;
use engine::op::Add;

/// All bindings are writable, since the output may be an operand.
pub(crate) static SHADER: Shader = Shader {
    name: "add",
    files: &[INVOCATION, VIEW, include_str!("add.wgsl")],
    params: elementwise::params(3),
    bindings: &[Write, Write, Write],
};

pub(crate) fn compile(cx: &mut Context<'_>, op: &Add) -> Result<Box<dyn Kernel>, DeviceError> {
    let operands = vec![cx.columns(op.a)?, cx.columns(op.b)?];
    let out = cx.columns(op.out)?;
    Ok(elementwise::compile(cx, &SHADER, &[], operands, None, out))
}
