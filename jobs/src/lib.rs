//! Jobs of gristmill: a table of prompts goes in, a table of answers comes out.
//!
//! A row goes one way: input -> prompt -> engine -> text -> journal -> publisher. A row that cannot be served
//! goes straight to the journal with its error.

pub mod answer;
pub mod args;
pub mod attempts;
pub mod bench;
mod builtin;
#[cfg(feature = "object-store")]
mod cloud;
pub mod columns;
pub mod command;
pub mod date;
pub mod detokenize;
pub mod devices;
pub mod duplicates;
pub mod error;
pub mod faults;
pub mod feeder;
pub mod finished;
pub mod finisher;
pub mod grinder;
mod guard;
#[cfg(feature = "hub")]
pub mod hub;
pub mod identity;
pub mod input;
pub mod journal;
pub mod literal;
pub mod location;
pub mod lock;
pub mod log;
pub mod manifest;
pub mod model;
mod names;
pub mod objects;
mod pages;
pub mod progress;
pub mod prompt;
pub mod publish;
pub mod ranges;
mod record;
mod remote;
pub mod row;
pub mod run;
pub mod sampling;
mod schema;
pub mod signals;
pub mod source;
pub mod status;
pub mod supervise;
pub mod template;
pub mod text;
pub mod verify;
pub mod worker;
mod writer;
