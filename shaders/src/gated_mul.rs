//! `Op::GatedMul`.

use crate::buffer::Context;
use crate::elementwise;
use crate::kernel::Access::{Read, Write};
use crate::kernel::{Kernel, Shader};
use engine::op::Activation;
use engine::plan::View;

pub(crate) static SHADER: Shader =
    Shader { name: "gated_mul", wgsl: include_str!("gated_mul.wgsl"), bindings: &[Read, Write] };

pub(crate) fn compile(cx: &mut Context<'_>, x: View, out: View, act: Activation) -> Box<dyn Kernel> {
    let (x, out) = (cx.columns(x), cx.columns(out));
    let act = match act {
        Activation::Silu => 0.0,
        Activation::GeluTanh => 1.0,
    };
    elementwise::compile(cx, &SHADER, &[("ACTIVATION", act)], vec![x], None, out)
}
