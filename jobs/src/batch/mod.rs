//! Batch files in OpenAI's format: each line of the input is a request, each line of the output its result.
//!
//! A line has an [`envelope`] and in it a [`body`], which says what is asked and how; both are checked field by field, and
//! what is wrong with one request is its own result. [`requests`] makes rows of them, [`results`] makes lines of the answers,
//! as a function of the request, its number, its answer and the job's identity.

pub mod body;
pub mod custom_ids;
pub mod envelope;
mod fields;
pub mod logprobs;
pub mod requests;
pub mod results;
pub mod sampling;
pub mod structures;

/// The version of what a request means. Grows whenever the same line is answered otherwise.
pub const BATCH_VERSION: u32 = 2;
