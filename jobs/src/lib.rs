//! Jobs: a table of prompts in, a table of answers out.
//!
//! A row goes one way: [`input`] -> [`prompt`] -> engine -> [`detokenize`] -> journal -> publisher. A row that
//! cannot be served goes straight to the journal with its error.

pub mod error;
pub mod input;
mod pages;
pub mod row;
