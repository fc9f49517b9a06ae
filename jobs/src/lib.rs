//! Jobs of gristmill: a table of prompts goes in, a table of answers comes out.

pub mod answer;
pub mod error;
