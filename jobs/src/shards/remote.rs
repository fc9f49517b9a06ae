//! Shards of an output in an object store.
//!
//! Parts are put where the output has them. What a shard says of itself is removed before it changes a part, and then the
//! manifest, unless that has this part, of which it looks again at the end. Publishing looks again at what all shards say once the manifest stands. So one
//! of the two sees the other, and no manifest is left over parts that it does not name; only a publisher that is killed between
//! these two steps, while rows of a shard run again, may leave one, which `verify` tells and publishing again mends. Two
//! machines that work on one shard, because one of them was believed to be dead, put the same bytes.

use crate::error::JobError;
use crate::options::shard::Shard;
use crate::publish::manifest::{Manifest, Part};
use crate::publish::remote::reservation::Reservation;
use crate::publish::remote::{beside, claim_key, manifest_key, settle, shown};
use crate::shards::finished::FinishedShard;
use crate::shards::job::ShardedJob;
use crate::shards::join::{Found, Joined};
use crate::store::bucket::{Bucket, ObjectVersion};
use crate::store::error::StoreError;
use crate::store::location::ObjectUrl;
use crate::store::object::Object;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;

/// Shards that are asked for at a time.
const AT_A_TIME: usize = 16;

/// The shards of an output.
#[derive(Clone, Debug)]
pub struct RemoteShards {
    bucket: Arc<dyn Bucket>,
    url: ObjectUrl,
}

impl RemoteShards {
    /// Those of an output in a bucket.
    pub fn new(bucket: Arc<dyn Bucket>, url: ObjectUrl) -> RemoteShards {
        RemoteShards { bucket, url }
    }

    fn claim_key(&self) -> String {
        claim_key(&self.url)
    }

    fn shards_key(&self) -> String {
        beside(&self.url.key, "shards")
    }

    fn shard_key(&self, shard: Shard) -> String {
        format!("{}/{}.json", self.shards_key(), shard.name())
    }

    fn part_key(&self, part: &str) -> String {
        format!("{}/{part}", self.url.key)
    }

    fn shown(&self, key: &str) -> String {
        self.url.with_key(key).to_string()
    }

    fn text(&self, key: &str) -> Result<Option<String>, JobError> {
        Ok(self.bucket.get(key)?.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// What the shards that were begun have in common, if the output is claimed.
    ///
    /// # Errors
    /// [`JobError::Claimed`] if it is by another job; [`JobError::Store`].
    pub fn begun(&self) -> Result<Option<ShardedJob>, JobError> {
        let Some(text) = self.text(&self.claim_key())? else { return Ok(None) };
        ShardedJob::parse(&text).map(Some).ok_or_else(|| JobError::Claimed {
            output: self.url.to_string(),
            claim: self.shown(&self.claim_key()),
            says: shown(&text),
        })
    }

    /// Refuses a shard of another job than the one that was begun here, and objects that were there before it.
    ///
    /// # Errors
    /// [`JobError::OtherShards`], [`JobError::OutputExists`]; as [`RemoteShards::begun`].
    pub fn check(&self, job: &ShardedJob) -> Result<(), JobError> {
        match self.begun()? {
            Some(begun) => job.check(&begun, &self.shown(&self.claim_key())),
            None => self.check_free(),
        }
    }

    fn check_free(&self) -> Result<(), JobError> {
        let manifest = self.bucket.head(&manifest_key(&self.url))?;
        let there = manifest.or(self.bucket.head(&self.url.key)?);
        let there = there.or(self.bucket.list(&self.url.key, true)?.into_iter().next());
        there.map_or(Ok(()), |there| Err(self.in_the_way(&there.key)))
    }

    fn in_the_way(&self, key: &str) -> JobError {
        JobError::OutputExists { path: self.shown(key).into() }
    }

    /// Makes a job the one of this place, if none is. The claim stays: it says of which job the parts are.
    ///
    /// # Errors
    /// As [`RemoteShards::check`].
    pub fn claim(&self, job: &ShardedJob) -> Result<(), JobError> {
        if let Some(begun) = self.begun()? {
            return job.check(&begun, &self.shown(&self.claim_key()));
        }
        self.check_free()?;
        // Another shard may be first; then it is held against that.
        let own = settle(&self.bucket, &self.url, &self.claim_key(), &job.to_json());
        match (own, self.begun()?) {
            (Err(error), None) => return Err(error),
            (Ok(true), _) => {
                // A job without shards may have published and withdrawn its claim since the check.
                if let Err(error @ JobError::OutputExists { .. }) = self.check_free()
                    && self.bucket.head(&manifest_key(&self.url))?.is_some()
                {
                    self.bucket.delete(&self.claim_key())?;
                    return Err(error);
                }
            }
            _ => {}
        }
        self.check(job)
    }

    /// Begins to put the files of a shard: discards uploads of them that an earlier start has left.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn upload(&self, shard: Shard) -> Result<ShardUpload<'_>, JobError> {
        let before = self.text(&self.shard_key(shard))?.and_then(|text| FinishedShard::parse(&text));
        Ok(ShardUpload { shards: self, shard, before, changes: None, etags: Vec::new() })
    }

    /// Takes back that a shard is finished. Its parts, and a manifest over them, stay.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn withdraw(&self, shard: Shard) -> Result<(), JobError> {
        self.bucket.delete(&self.shard_key(shard))
    }

    /// What is known of a shard.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn find(&self, shard: Shard) -> Result<Found, JobError> {
        let key = self.shard_key(shard);
        let Some(text) = self.text(&key)? else {
            return Ok(Found::Unfinished("is not finished".into()));
        };
        Ok(Found::of_text(&text, self.shown(&key)))
    }

    /// What every shard says, by the version of its object.
    fn said(&self) -> Result<Vec<ObjectVersion>, JobError> {
        self.bucket.list(&self.shards_key(), false)
    }

    /// What is known of all shards of a job, and in which versions that was read.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn find_all(&self, shards: u64) -> Result<(Vec<Found>, Said), JobError> {
        let said = Said(self.said()?);
        Ok((self.find_each(&Shard::all(shards).collect::<Vec<_>>())?, said))
    }

    /// What is known of all shards of a job, of which those that say nothing of themselves cost no request.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn find_listed(&self, shards: u64) -> Result<Vec<Found>, JobError> {
        let said: HashSet<String> = self.said()?.into_iter().map(|object| object.key).collect();
        let listed = |shard: &Shard| said.contains(&self.shard_key(*shard));
        let mut found = self.find_each(&Shard::all(shards).filter(listed).collect::<Vec<_>>())?.into_iter();
        let not_listed = || Found::Unfinished("is not finished".into());
        Ok(Shard::all(shards)
            .map(|shard| if listed(&shard) { found.next() } else { None })
            .map(|found| found.unwrap_or_else(not_listed))
            .collect())
    }

    /// What is known of some shards. Several are asked for at a time.
    fn find_each(&self, shards: &[Shard]) -> Result<Vec<Found>, JobError> {
        let find =
            |shards: &[Shard]| shards.iter().map(|shard| self.find(*shard)).collect::<Result<Vec<_>, _>>();
        let share = shards.len().div_ceil(AT_A_TIME).max(1);
        std::thread::scope(|scope| {
            let threads: Vec<_> =
                shards.chunks(share).map(|shards| scope.spawn(move || find(shards))).collect();
            let lost = |_| Err(JobError::Internal("a thread that reads shards ended".into()));
            let found = threads.into_iter().map(|thread| thread.join().unwrap_or_else(lost));
            found.collect::<Result<Vec<_>, _>>().map(|found| found.concat())
        })
    }

    /// The parts that are there.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn parts(&self) -> Result<HashMap<String, ObjectVersion>, JobError> {
        let listed = self.bucket.list(&self.url.key, true)?;
        Ok(listed.into_iter().map(|object| (object.key.clone(), object)).collect())
    }

    /// Whether the files of a shard are among the parts, as it has put them.
    pub fn has_parts(&self, finished: &FinishedShard, parts: &HashMap<String, ObjectVersion>) -> bool {
        finished.parts.iter().zip(&finished.etags).all(|(part, etag)| {
            let there = parts.get(&self.part_key(&part.name));
            there.is_some_and(|there| there.size == part.bytes && there.etag == *etag)
        })
    }

    /// Puts the manifest, which makes an output of the parts. `said` is from before the shards were read.
    ///
    /// # Errors
    /// [`JobError::WrongShards`] names parts that are not as they were put, [`JobError::UnfinishedShards`] a shard that ran
    /// meanwhile; [`JobError::OutputExists`] and [`JobError::Store`].
    pub fn publish(&self, joined: &Joined, said: &Said) -> Result<Manifest, JobError> {
        self.check_parts(joined)?;
        let manifest = joined.manifest();
        let (key, text) = (manifest_key(&self.url), manifest.to_json());
        let before = self.text(&key)?;
        if before.as_ref().is_some_and(|before| *before != text) {
            // Of this job, as the claim is, before some of its rows ran again.
            self.bucket.delete(&key)?;
        }
        if !settle(&self.bucket, &self.url, &key, &text)? {
            return Err(self.in_the_way(&key));
        }
        if self.said()? != said.0 {
            self.bucket.delete(&key)?;
            return Err(JobError::UnfinishedShards {
                output: self.url.to_string(),
                shards: joined.job.shards,
                problems: "  a shard ran again while its parts were being published".into(),
            });
        }
        Ok(manifest)
    }

    /// Makes sure that the parts are those that their shards have put, and that nothing else is there.
    fn check_parts(&self, joined: &Joined) -> Result<(), JobError> {
        let mut listed = self.parts()?;
        let mut problems = Vec::new();
        for shard in &joined.shards {
            for (at, part) in shard.parts.iter().enumerate() {
                let there = listed.remove(&self.part_key(&part.name));
                let why = match there {
                    None => "is not there",
                    Some(there) if shard.etags.get(at) == Some(&there.etag) && there.size == part.bytes => {
                        continue;
                    }
                    // Another machine may have put the same bytes.
                    Some(there) if self.is_part(&there, part)? => continue,
                    Some(_) => "is not what the shard has put there",
                };
                problems.push(format!("  shard {}: {} {why}; run it again", shard.shard(), part.name));
            }
        }
        if !problems.is_empty() {
            return Err(JobError::WrongShards {
                output: self.url.to_string(),
                problems: problems.join("\n"),
            });
        }
        let other = listed.into_keys().min().or(self.bucket.head(&self.url.key)?.map(|there| there.key));
        other.map_or(Ok(()), |key| Err(self.in_the_way(&key)))
    }

    /// Whether an object has the bytes of a part.
    fn is_part(&self, there: &ObjectVersion, part: &Part) -> Result<bool, JobError> {
        if there.size != part.bytes {
            return Ok(false);
        }
        let url = self.url.with_key(there.key.clone());
        match (Object { bucket: self.bucket.clone(), url, version: there.clone() }).digest() {
            Err(JobError::Store { error: StoreError::Changed, .. }) => Ok(false),
            digest => Ok(digest? == part.blake3),
        }
    }

    /// What is published here, if anything is.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn published(&self) -> Result<Option<Manifest>, JobError> {
        let key = manifest_key(&self.url);
        let text = self.bucket.get(&key)?;
        if text.as_ref().is_some_and(|text| Reservation::parse(text).is_some()) {
            // Of a job without shards.
            return Err(self.in_the_way(&key));
        }
        let manifest = text.map(|text| Manifest::parse(&text, Path::new(&self.shown(&key))));
        manifest.transpose()
    }
}

/// The versions of what shards said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Said(Vec<ObjectVersion>);

/// The files of a shard on their way to the store.
pub struct ShardUpload<'a> {
    shards: &'a RemoteShards,
    shard: Shard,
    /// What the shard said of itself when it was finished before.
    before: Option<FinishedShard>,
    /// What was published when the first part was about to change.
    changes: Option<Option<Manifest>>,
    etags: Vec<String>,
}

impl ShardUpload<'_> {
    /// Puts a part, unless it is there.
    ///
    /// # Errors
    /// [`JobError::Store`] or [`JobError::Io`].
    pub fn put(&mut self, file: &Path, part: &Part) -> Result<(), JobError> {
        let (shards, key) = (self.shards, self.shards.part_key(&part.name));
        let there = shards.bucket.head(&key)?;
        if let Some(there) = there
            && (self.is_as_before(part, &there) || shards.is_part(&there, part)?)
        {
            self.etags.push(there.etag);
            return Ok(());
        }
        self.begin_change(part)?;
        for (begun, upload) in shards.bucket.uploads(&key).unwrap_or_default() {
            shards.bucket.abort_upload(&begun, &upload)?;
        }
        let upload = shards.bucket.begin_upload(&key)?;
        let pieces = shards.bucket.upload(&key, &upload, file)?;
        let completed = shards.bucket.complete_upload(&key, &upload, &pieces);
        // The answer may be lost.
        match (shards.bucket.head(&key)?, completed) {
            (Some(there), Ok(())) => self.etags.push(there.etag),
            (Some(there), Err(error)) => match shards.is_part(&there, part)? {
                true => self.etags.push(there.etag),
                false => return Err(error),
            },
            (None, completed) => {
                let url = shards.shown(&key);
                let gone = JobError::Store { doing: "find", url, error: StoreError::NoObject };
                return Err(completed.err().unwrap_or(gone));
            }
        }
        Ok(())
    }

    /// Whether a part is there that the shard has put before.
    fn is_as_before(&self, part: &Part, there: &ObjectVersion) -> bool {
        let Some(before) = &self.before else { return false };
        let known = before.parts.iter().zip(&before.etags).any(|known| known == (part, &there.etag));
        known && there.size == part.bytes
    }

    /// Takes back what is said of the parts before one of them changes. A manifest that has this very part stays: another machine
    /// has put it and all others, and was published, since this one has looked.
    fn begin_change(&mut self, part: &Part) -> Result<(), JobError> {
        let published = match &mut self.changes {
            Some(published) => published,
            None => {
                self.shards.withdraw(self.shard)?;
                self.changes.insert(self.shards.published()?)
            }
        };
        if published.take_if(|published| !published.parts.contains(part)).is_some() {
            self.shards.bucket.delete(&manifest_key(&self.shards.url))?;
        }
        Ok(())
    }

    /// Says that the shard is finished.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn finish(self, finished: FinishedShard) -> Result<(), JobError> {
        let shards = self.shards;
        let finished = FinishedShard { etags: self.etags, ..finished };
        // Somebody may have published what the shard said before its parts changed, and been killed.
        let stale = |published: Manifest| !finished.parts.iter().all(|part| published.parts.contains(part));
        if shards.published()?.is_some_and(stale) {
            shards.bucket.delete(&manifest_key(&shards.url))?;
        }
        let (key, text) = (shards.shard_key(self.shard), finished.to_json());
        // What an earlier start said, or another machine that put the same bytes.
        shards.bucket.delete(&key)?;
        match settle(&shards.bucket, &shards.url, &key, &text)? {
            true => Ok(()),
            false => match shards.find(self.shard)? {
                Found::Finished(other) if other.parts == finished.parts => Ok(()),
                _ => Err(JobError::Store {
                    doing: "write",
                    url: shards.shown(&key),
                    error: StoreError::Other(
                        "another machine works on the same shard; let one of them end".into(),
                    ),
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests;
