//! Jobs of gristmill: a table of prompts goes in, a table of answers comes out.

pub mod answer;
pub mod attempts;
pub mod columns;
pub mod error;
pub mod finished;
pub mod identity;
pub mod journal;
pub mod lock;
pub mod manifest;
pub mod publish;
mod record;
mod schema;
pub mod signals;
pub mod status;
pub mod supervise;
pub mod verify;
pub mod worker;
mod writer;
