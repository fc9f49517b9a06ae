//! The ops of a plan: what they compute, what shapes they take, what they cost.
//!
//! Each op is a struct in a file of its own, with its checks, its cost and its test cases. All arithmetic is in f32
//! whatever the buffers hold; a result is rounded once when it is stored. What a step brings (tokens, positions, KV
//! slots, block tables) is no operand: an op names the [`Input`]s that it reads, and a plan has one buffer for each.
//!
//! Shapes are `[rows, cols]`: `T` tokens, `S` sequences, `O` output positions.

mod add;
mod checker;
mod embed;
mod gated_mul;
mod gather_rows;
mod kv_write;
mod linear;
mod operation;
mod paged_attention;
mod rms_norm;
mod rope;
mod sample;
mod soft_cap;

pub use add::Add;
pub use checker::Checker;
pub use embed::Embed;
pub use gated_mul::{Activation, GatedMul};
pub use gather_rows::GatherRows;
pub use kv_write::KvWrite;
pub use linear::Linear;
pub use operation::{Cost, Operation, Sizes};
pub use paged_attention::PagedAttention;
pub use rms_norm::RmsNorm;
pub use rope::Rope;
pub use sample::Sample;
pub use soft_cap::SoftCap;

#[cfg(feature = "cases")]
pub(crate) mod cases {
    //! The builders of every op's cases.
    pub use super::add::cases::*;
    pub use super::embed::cases::*;
    pub use super::gated_mul::cases::*;
    pub use super::gather_rows::cases::*;
    pub use super::kv_write::cases::*;
    pub use super::linear::cases::*;
    pub use super::paged_attention::cases::*;
    pub use super::rms_norm::cases::*;
    pub use super::rope::cases::*;
    pub use super::sample::cases::*;
    pub use super::soft_cap::cases::*;
}

use crate::buffer::{Buffers, Dims, Input, View};

macro_rules! ops {
    ($($name:ident),* $(,)?) => {
        /// One op of a plan.
        #[derive(Clone, Copy, Debug, PartialEq)]
        pub enum Op {
            $(
                #[doc = concat!("See [`", stringify!($name), "`].")]
                $name($name),
            )*
        }

        $(
            impl From<$name> for Op {
                fn from(op: $name) -> Op {
                    Op::$name(op)
                }
            }
        )*

        impl Op {
            /// The op's name.
            pub const fn name(&self) -> &'static str {
                match self { $(Op::$name(_) => $name::NAME,)* }
            }

            /// Checks shapes and types.
            ///
            /// # Errors
            /// What does not fit, with the buffers' names.
            pub fn check(&self, buffers: &Buffers) -> Result<(), String> {
                let checker = Checker::new(buffers);
                self.inputs().iter().try_for_each(|&input| checker.input(input))?;
                match self { $(Op::$name(op) => op.check(&checker),)* }
            }

            /// The step inputs that the op reads.
            pub fn inputs(&self) -> &'static [Input] {
                match self { $(Op::$name(op) => op.inputs(),)* }
            }

            /// The columns of activations that the op reads.
            pub fn reads(&self) -> Vec<View> {
                match self { $(Op::$name(op) => op.reads(),)* }
            }

            /// The columns of activations that the op writes, in all rows of the step.
            pub fn writes(&self) -> Vec<View> {
                match self { $(Op::$name(op) => op.writes(),)* }
            }

            /// What the op moves and computes at these dimensions.
            pub fn cost(&self, buffers: &Buffers, dims: &Dims) -> Cost {
                let sizes = Sizes { buffers, dims };
                match self { $(Op::$name(op) => op.cost(&sizes),)* }
            }
        }
    };
}

ops!(Embed, RmsNorm, Linear, Rope, KvWrite, PagedAttention, GatedMul, Add, GatherRows, SoftCap, Sample,);
