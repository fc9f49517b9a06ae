//! `Op::GatherRows`.

use crate::buffer::Context;
use crate::elementwise;
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Kernel, Shader};
use engine::plan::{BufferId, View};

pub(crate) static SHADER: Shader =
    Shader { name: "gather_rows", wgsl: include_str!("gather_rows.wgsl"), bindings: &[Read, Read, Write] };

pub(crate) fn compile(cx: &mut Context<'_>, x: View, rows: BufferId, out: View) -> Box<dyn Kernel> {
    let (x, out, rows) = (cx.columns(x), cx.columns(out), cx.buffer(rows));
    elementwise::compile(cx, &SHADER, &[], vec![x], Some(rows), out)
}
