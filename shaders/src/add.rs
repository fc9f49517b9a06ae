//! `Op::Add`.

use crate::buffer::Context;
use crate::elementwise;
use crate::kernel::Access::Write;
use crate::kernel::{Kernel, Shader};
use engine::plan::View;

/// All bindings are writable, since the output may be an operand.
pub(crate) static SHADER: Shader =
    Shader { name: "add", wgsl: include_str!("add.wgsl"), bindings: &[Write, Write, Write] };

pub(crate) fn compile(cx: &mut Context<'_>, a: View, b: View, out: View) -> Box<dyn Kernel> {
    let (a, b, out) = (cx.columns(a), cx.columns(b), cx.columns(out));
    elementwise::compile(cx, &SHADER, &[], vec![a, b], None, out)
}
