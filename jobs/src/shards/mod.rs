//! One job in shards: each answers a range of rows, with a journal of its own, on any machine. Publishing joins their files.
//!
//! The files of a shard have the names and bytes of those of a job that is run as a whole, as both are functions of the job's
//! identity and of the rows. In the job's folder, `shards/job.json` says what all shards have in common, and
//! `shards/3-of-20/` is the state of one: its journal, `parts` and, when it is finished, `shard.json`. In an object store
//! `<output>.gristmill/claim.json` is the former and `<output>.gristmill/shards/3-of-20.json` the latter, and parts
//! lie where the output has them; the manifest, without which there is no output, comes last.

pub mod finished;
pub mod job;
pub mod join;
pub mod local;
pub mod place;
pub mod publish;
pub mod remote;
pub mod status;
