//! `Op::Add`.

use super::context::Context;
use super::elementwise;
use super::kernel::Kernel;
use super::snippets::INVOCATION;
use crate::driver::shader::Access::Write;
use crate::driver::shader::Shader;
use engine::device::DeviceError;
use engine::plan::View;

/// All bindings are writable, since the output may be an operand.
pub(crate) static SHADER: Shader =
    Shader { name: "add", files: &[INVOCATION, include_str!("add.wgsl")], bindings: &[Write, Write, Write] };

pub(crate) fn compile(
    cx: &mut Context<'_>,
    a: View,
    b: View,
    out: View,
) -> Result<Box<dyn Kernel>, DeviceError> {
    let (a, b, out) = (cx.columns(a)?, cx.columns(b)?, cx.columns(out)?);
    Ok(elementwise::compile(cx, &SHADER, &[], vec![a, b], None, out))
}
