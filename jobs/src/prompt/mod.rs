//! A row becomes a prompt: token ids, or the reason why not.

pub mod chat;
mod columns;
pub mod markers;
pub mod messages;
pub mod prompts;
pub mod rendering;
pub mod template;
pub mod tokenizer;
