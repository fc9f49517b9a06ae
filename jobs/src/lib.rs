//! Jobs of gristmill: a table of prompts goes in, a table of answers comes out.
//!
//! A row goes one way: input -> prompt -> engine -> text -> journal -> publisher. A row that cannot be served
//! goes straight to the journal with its error.

// What is public here serves the command, the tests and the benches; a comment stands where a name does not say it all.
#![allow(missing_docs)]

pub mod cli;
pub mod date;
pub mod digest;
pub mod error;
pub mod files;
mod guard;
pub mod input;
pub mod journal;
pub mod log;
pub mod model;
pub mod options;
pub mod prompt;
pub mod publish;
pub mod row_error;
pub mod run;
pub mod store;
pub mod supervise;
