//! Jobs of gristmill: a table of prompts goes in, a table of answers comes out.
//!
//! A row goes one way, through these folders: input, prompt, run (engine and text), journal, publish. A row that cannot
//! be answered goes straight to the journal with its error. `cli` and `options` say what to do, `plan` what it would take,
//! `shards` joins what several machines did, `model` finds the model, `store` reads and writes object stores, `structured`
//! says which tokens a structured output allows, and `supervise` restarts a worker that died.

// What is public here serves the command, the tests and the benches; a comment stands where a name does not say it all.
#![allow(missing_docs)]

pub mod allocator;
pub mod batch;
pub mod choices;
pub mod cli;
mod counted;
pub mod date;
pub mod digest;
pub mod documents;
pub mod error;
pub mod evaluate;
mod far_time;
pub mod files;
mod guard;
mod host;
pub mod input;
pub mod journal;
mod leaves;
pub mod log;
pub mod metrics;
pub mod model;
pub mod options;
pub mod plan;
pub mod printable;
pub mod prompt;
pub mod publish;
pub mod rates;
pub mod receipt;
pub mod report;
pub mod row_error;
pub mod rows;
pub mod run;
pub mod schema;
mod sealed;
pub mod shards;
pub mod stop_signal;
pub mod store;
pub mod structured;
pub mod supervise;
pub mod supervisor_link;
mod uuid;
