//! `Op::GatherRows`.

use super::context::Context;
use super::elementwise;
use super::kernel::Kernel;
use super::snippets::{INVOCATION, VIEW};
use crate::driver::shader::Access::{Read, Write};
use crate::driver::shader::Shader;
use engine::device::DeviceError;
use engine::op::GatherRows;
use engine::plan::Input;

pub(crate) static SHADER: Shader = Shader {
    name: "gather_rows",
    files: &[INVOCATION, VIEW, include_str!("gather_rows.wgsl")],
    params: elementwise::params(2),
    bindings: &[Read, Read, Write],
};

pub(crate) fn compile(cx: &mut Context<'_>, op: &GatherRows) -> Result<Box<dyn Kernel>, DeviceError> {
    let (x, out, rows) = (cx.columns(op.x)?, cx.columns(op.out)?, cx.input(Input::OutputRows)?);
    Ok(elementwise::compile(cx, &SHADER, &[], vec![x], Some(rows), out))
}
