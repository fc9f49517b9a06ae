//! Jobs: a table of prompts in, a table of answers out.
//!
//! A row goes one way: input -> prompt -> engine -> text -> journal -> publisher. A row that cannot be served
//! goes straight to the journal with its error.

pub mod args;
pub mod detokenize;
pub mod error;
mod guard;
pub mod input;
pub mod literal;
mod pages;
pub mod prompt;
pub mod row;
pub mod sampling;
pub mod template;
pub mod text;
