//! A row becomes a prompt: token ids, or the reason why not.

/// The version of what a prompt is made of. Grows with every change after which the same settings and row may give another
/// prompt; a job does not mix two of them.
pub const PROMPTS_VERSION: u32 = 3;

pub mod chat;
mod columns;
pub mod markers;
pub mod messages;
pub mod prompts;
pub mod rendering;
pub mod template;
pub mod tokenizer;
