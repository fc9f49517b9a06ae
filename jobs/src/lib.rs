//! Jobs of gristmill: a table of prompts goes in, a table of answers comes out.
//!
//! A row goes one way: input -> prompt -> engine -> text -> journal -> publisher. A row that cannot be served
//! goes straight to the journal with its error.

pub mod answer;
pub mod args;
pub mod attempts;
pub mod columns;
pub mod detokenize;
pub mod error;
pub mod finished;
mod guard;
#[cfg(feature = "hub")]
pub mod hub;
pub mod identity;
pub mod input;
pub mod journal;
pub mod literal;
pub mod lock;
pub mod manifest;
mod pages;
pub mod prompt;
pub mod publish;
mod record;
pub mod row;
pub mod sampling;
mod schema;
pub mod template;
pub mod text;
mod writer;
