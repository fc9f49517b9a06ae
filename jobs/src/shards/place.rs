//! Where the shards of an output are.

use crate::error::JobError;
use crate::options::shard::Shard;
use crate::publish::format::OutputFormat;
use crate::shards::finished::FinishedShard;
use crate::shards::job::ShardedJob;
use crate::shards::join::{Found, problem};
use crate::shards::local::LocalShards;
use crate::shards::remote::RemoteShards;
use crate::store;
use crate::store::location::Location;
use std::collections::HashMap;

/// Where the shards of an output are.
#[derive(Clone, Debug)]
pub enum ShardPlace {
    Local(LocalShards),
    Remote(RemoteShards),
}

impl ShardPlace {
    /// That of an output.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn open(output: &Location) -> Result<ShardPlace, JobError> {
        Ok(match output {
            Location::Local(path) => ShardPlace::Local(LocalShards::new(path)),
            Location::Object(url) => ShardPlace::Remote(RemoteShards::new(store::open(url)?, url.clone())),
        })
    }

    /// What the shards that were begun have in common, if one was.
    ///
    /// # Errors
    /// [`JobError::Claimed`] if another job has the place; [`JobError::Usage`], [`JobError::Io`] or [`JobError::Store`].
    pub fn begun(&self) -> Result<Option<ShardedJob>, JobError> {
        match self {
            ShardPlace::Local(local) => local.begun(),
            ShardPlace::Remote(remote) => remote.begun(),
        }
    }

    /// Refuses a place where the output cannot be. Changes nothing.
    ///
    /// # Errors
    /// [`JobError::Usage`], [`JobError::OutputExists`] or [`JobError::Io`].
    pub fn check_place(&self) -> Result<(), JobError> {
        match self {
            ShardPlace::Local(local) => local.check_place(),
            // What is there is looked at when it is known which job this is.
            ShardPlace::Remote(_) => Ok(()),
        }
    }

    /// Refuses a shard of another job than the one that was begun here.
    ///
    /// # Errors
    /// [`JobError::OtherShards`], [`JobError::OutputExists`]; as [`ShardPlace::begun`].
    pub fn check(&self, job: &ShardedJob) -> Result<(), JobError> {
        match self {
            ShardPlace::Local(local) => local.check(job),
            ShardPlace::Remote(remote) => remote.check(job),
        }
    }

    /// Makes a job the one of this place, if none is.
    ///
    /// # Errors
    /// As [`ShardPlace::check`].
    pub fn claim(&self, job: &ShardedJob) -> Result<(), JobError> {
        match self {
            ShardPlace::Local(local) => local.claim(job),
            ShardPlace::Remote(remote) => remote.claim(job),
        }
    }

    /// Takes back that a shard is finished, before rows of it run again.
    ///
    /// # Errors
    /// [`JobError::Io`] or [`JobError::Store`].
    pub fn withdraw(&self, shard: Shard) -> Result<(), JobError> {
        match self {
            ShardPlace::Local(local) => local.withdraw(shard),
            ShardPlace::Remote(remote) => remote.withdraw(shard),
        }
    }

    /// What is known of all shards of a job.
    ///
    /// # Errors
    /// [`JobError::Io`] or [`JobError::Store`].
    pub fn find_all(&self, shards: u64) -> Result<Vec<Found>, JobError> {
        match self {
            ShardPlace::Local(local) => Shard::all(shards).map(|shard| local.find(shard)).collect(),
            ShardPlace::Remote(remote) => remote.find_listed(shards),
        }
    }

    /// The shards of a job that are left to run: those that are not finished, or whose files are gone.
    ///
    /// # Errors
    /// As [`ShardPlace::find_all`].
    pub fn unfinished(&self, job: &ShardedJob, format: OutputFormat) -> Result<Vec<Shard>, JobError> {
        let parts = match self {
            ShardPlace::Local(_) => HashMap::new(),
            ShardPlace::Remote(remote) => remote.parts()?,
        };
        let in_place = |finished: &FinishedShard| match self {
            ShardPlace::Local(local) => local.has_parts(finished),
            ShardPlace::Remote(remote) => remote.has_parts(finished, &parts),
        };
        let is_whole = |shard: Shard, found: &Found| match found {
            Found::Finished(finished) => {
                problem(shard, finished, job, format).is_none() && in_place(finished)
            }
            Found::Unfinished(_) | Found::Wrong(_) => false,
        };
        let found = Shard::all(job.shards).zip(self.find_all(job.shards)?);
        Ok(found.filter(|(shard, found)| !is_whole(*shard, found)).map(|(shard, _)| shard).collect())
    }
}
