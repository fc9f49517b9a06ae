//! Documents of any length: cut into chunks that fit into a prompt, each answered, and the answers merged until one is left.

pub mod chunks;
pub mod tree;
