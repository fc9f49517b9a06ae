//! Where the messages of an Arrow IPC file are.

use arrow::datatypes::SchemaRef;
use arrow::ipc::MetadataVersion;

/// Where the messages of a file are.
#[derive(Clone, Debug)]
pub struct ArrowLayout {
    pub version: MetadataVersion,
    pub schema: SchemaRef,
    /// Where the record batches are, and how many dictionaries come before each.
    pub batches: Vec<(Message, usize)>,
    pub dictionaries: Vec<Message>,
}

/// The place of a message.
#[derive(Clone, Copy, Debug)]
pub struct Message {
    pub at: u64,
    /// Bytes of its head, with marker and length, and of its body.
    pub head: u64,
    pub body: u64,
}
