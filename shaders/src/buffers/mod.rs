//! The buffers of a plan on the device: how each is laid out, written and read.

pub(crate) mod blocks;
pub(crate) mod layout;
pub(crate) mod storage;
