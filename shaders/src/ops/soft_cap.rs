//! `Op::SoftCap`.

use super::context::Context;
use super::elementwise;
use super::kernel::Kernel;
use super::snippets::{INVOCATION, SOFT_CAP, VIEW};
use crate::driver::shader::Access::Write;
use crate::driver::shader::Shader;
use engine::device::DeviceError;
use engine::op::SoftCap;

pub(crate) static SHADER: Shader = Shader {
    name: "soft_cap",
    files: &[INVOCATION, VIEW, SOFT_CAP, include_str!("soft_cap.wgsl")],
    params: elementwise::params(1),
    bindings: &[Write],
};

pub(crate) fn compile(cx: &mut Context<'_>, op: &SoftCap) -> Result<Box<dyn Kernel>, DeviceError> {
    let x = cx.columns(op.x)?;
    Ok(elementwise::compile(cx, &SHADER, &[("CAP", f64::from(op.cap))], Vec::new(), None, x))
}
