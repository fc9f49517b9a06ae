//! Shards of an output on this machine, or in a file system that several machines share.

use crate::error::JobError;
use crate::files::{rename, rename_new, sync_folder, write_durably};
use crate::host::hostname;
use crate::input::source::Source;
use crate::journal::lock::JobLock;
use crate::journal::schema;
use crate::options::job::JobOptions;
use crate::options::shard::Shard;
use crate::publish::local::{LocalOutput, clear};
use crate::publish::manifest::{Manifest, Part, read_text};
use crate::shards::finished::FinishedShard;
use crate::shards::job::ShardedJob;
use crate::shards::join::{Found, Joined};
use crate::store::location::state_dir_beside;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// The folder of all shards, in the job's.
const SHARDS: &str = "shards";

/// What all shards have in common.
const JOB: &str = "job.json";

/// What a shard that is finished says of itself, and its name while it is written.
const SHARD: &str = "shard.json";
const SHARD_NEXT: &str = "shard.next";

/// The folder of its files.
const PARTS: &str = "parts";

/// The folder of all shards.
pub fn shards_dir(job_dir: &Path) -> PathBuf {
    job_dir.join(SHARDS)
}

/// The folder of the state of a shard.
pub fn shard_dir(job_dir: &Path, shard: Shard) -> PathBuf {
    shards_dir(job_dir).join(shard.name())
}

/// What all shards that were begun in a folder have in common, if one was.
///
/// # Errors
/// [`JobError::Usage`] if it is not as it was written; [`JobError::Io`].
pub fn begun(job_dir: &Path) -> Result<Option<ShardedJob>, JobError> {
    let path = shards_dir(job_dir).join(JOB);
    let Some(text) = text_of(&path)? else { return Ok(None) };
    ShardedJob::parse(&text).map(Some).ok_or_else(|| {
        JobError::Usage(format!(
            "{} is not as it was written; restore it, or remove {} to begin all shards anew",
            path.display(),
            shards_dir(job_dir).display()
        ))
    })
}

/// The folder of the journal that has a row: that of the row's shard, where the job is in shards.
///
/// # Errors
/// As [`begun`].
pub fn dir_of_row(job_dir: &Path, row: u64) -> Result<PathBuf, JobError> {
    let shard = begun(job_dir)?.and_then(|begun| {
        Shard::all(begun.shards).find(|shard| shard.rows(begun.rows, begun.rows_per_file).contains(&row))
    });
    Ok(shard.map_or(job_dir.into(), |shard| shard_dir(job_dir, shard)))
}

/// Refuses a job without shards where a job in shards was begun.
///
/// # Errors
/// [`JobError::Usage`]; as [`begun`].
pub fn refuse_whole(options: &JobOptions) -> Result<(), JobError> {
    match begun(&options.state_dir)? {
        None => Ok(()),
        Some(begun) => Err(JobError::Usage(format!(
            "{} was begun as {}: run these (--shard) and publish them, choose another --output, or remove {} to discard them",
            options.output,
            begun.shown(),
            shards_dir(&options.state_dir).display()
        ))),
    }
}

/// A file of text, if it is there.
fn text_of(path: &Path) -> Result<Option<String>, JobError> {
    match read_text(path) {
        Ok(text) => Ok(Some(String::from_utf8_lossy(&text).into_owned())),
        Err(JobError::Io { source, .. }) if source.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The shards of an output.
#[derive(Clone, Debug)]
pub struct LocalShards {
    output: PathBuf,
    /// The folder of the state of all shards.
    job_dir: PathBuf,
}

impl LocalShards {
    /// Those of an output.
    pub fn new(output: &Path) -> LocalShards {
        LocalShards { output: output.into(), job_dir: state_dir_beside(output) }
    }

    /// Refuses a place where the output cannot be, and the place of a job without shards. Changes nothing.
    ///
    /// # Errors
    /// [`JobError::Usage`], [`JobError::OutputExists`] or [`JobError::Io`].
    pub fn check_place(&self) -> Result<(), JobError> {
        if schema::path(&self.job_dir).exists() {
            return Err(JobError::Usage(format!(
                "{} was begun without --shard, by the journal in {}; go on without it, or choose another --output",
                self.output.display(),
                self.job_dir.display()
            )));
        }
        LocalOutput::new(&self.output, &self.job_dir, true).check()
    }

    /// What the shards that were begun have in common.
    ///
    /// # Errors
    /// As [`begun`].
    pub fn begun(&self) -> Result<Option<ShardedJob>, JobError> {
        begun(&self.job_dir)
    }

    /// Refuses a shard of another job than the one that was begun here.
    ///
    /// # Errors
    /// [`JobError::OtherShards`]; as [`begun`].
    pub fn check(&self, job: &ShardedJob) -> Result<(), JobError> {
        match self.begun()? {
            Some(begun) => job.check(&begun, &shards_dir(&self.job_dir).display().to_string()),
            None => Ok(()),
        }
    }

    /// Makes a job the one of this place, if none is.
    ///
    /// # Errors
    /// As [`LocalShards::check`].
    pub fn claim(&self, job: &ShardedJob) -> Result<(), JobError> {
        if self.begun()?.is_none() {
            let folder = shards_dir(&self.job_dir);
            std::fs::create_dir_all(&folder).map_err(JobError::io("create", &folder))?;
            let own = format!("{JOB}.{}-{}", name_of_host(), std::process::id());
            let (own, path) = (folder.join(own), folder.join(JOB));
            write_durably(&own, &job.to_json())?;
            // A name that is there already is left alone, also by file systems in a network.
            let put = match std::fs::hard_link(&own, &path) {
                Err(error) if error.kind() != ErrorKind::AlreadyExists => match rename_new(&own, &path) {
                    Err(JobError::Io { source, .. }) if source.kind() == ErrorKind::AlreadyExists => Ok(()),
                    other => other,
                },
                _ => sync_folder(&folder),
            };
            clear(&own)?;
            put?;
        }
        self.check(job)
    }

    /// Puts the files of a shard, written to `aside`, where publishing finds them, and says that it is finished.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn finish(&self, aside: &Path, finished: &FinishedShard) -> Result<(), JobError> {
        let dir = shard_dir(&self.job_dir, finished.shard());
        let (said, parts) = (dir.join(SHARD), dir.join(PARTS));
        let before = text_of(&said)?.and_then(|text| FinishedShard::parse(&text));
        let same = before.is_some_and(|before| before.parts == finished.parts);
        let in_place = |part: &Part| {
            let place = self.place_of(&parts, part);
            place.is_some_and(|place| Source::local(place).digest().is_ok_and(|there| there == part.blake3))
        };
        if same && finished.parts.iter().all(in_place) {
            clear(aside)?;
        } else {
            // What is said of a shard goes before its files change.
            self.withdraw(finished.shard())?;
            clear(&parts)?;
            sync_folder(aside)?;
            rename(aside, &parts)?;
        }
        write_durably(&dir.join(SHARD_NEXT), &finished.to_json())?;
        rename(&dir.join(SHARD_NEXT), &said)
    }

    /// Takes back that a shard is finished. Its files, and those that are published, stay.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn withdraw(&self, shard: Shard) -> Result<(), JobError> {
        let dir = shard_dir(&self.job_dir, shard);
        clear(&dir.join(SHARD))?;
        sync_folder(&dir)
    }

    /// Where a part of the name and size is: among the files of its shard, or in the output.
    fn place_of(&self, parts: &Path, part: &Part) -> Option<PathBuf> {
        let places = [parts.join(&part.name), self.output.join(&part.name)];
        let is_there = |path: &PathBuf| {
            path.symlink_metadata().is_ok_and(|found| found.is_file() && found.len() == part.bytes)
        };
        places.into_iter().find(is_there)
    }

    /// Whether the files of a shard are where it has put them, or in the output, with the sizes that they had.
    pub fn has_parts(&self, finished: &FinishedShard) -> bool {
        let parts = shard_dir(&self.job_dir, finished.shard()).join(PARTS);
        finished.parts.iter().all(|part| self.place_of(&parts, part).is_some())
    }

    /// What is known of a shard.
    ///
    /// # Errors
    /// [`JobError::Io`].
    pub fn find(&self, shard: Shard) -> Result<Found, JobError> {
        let dir = shard_dir(&self.job_dir, shard);
        let said = dir.join(SHARD);
        let Some(text) = text_of(&said)? else {
            let begun = schema::path(&dir).exists();
            let works = JobLock::holder(&dir)?.map(|process| format!("; process {process} works on it"));
            let why = if begun { "is not finished" } else { "was not begun" };
            return Ok(Found::Unfinished(why.to_string() + &works.unwrap_or_default()));
        };
        Ok(Found::of_text(&text, said.display()))
    }

    /// Lets the output of all shards appear. No byte is copied where the file system has links.
    ///
    /// # Errors
    /// [`JobError::WrongShards`] names files that are not as they were written; as `run` has it for outputs.
    pub fn publish(&self, joined: &Joined) -> Result<Manifest, JobError> {
        let _lock = JobLock::acquire(&self.job_dir)?;
        self.check_place()?;
        let output = LocalOutput::new(&self.output, &self.job_dir, true);
        output.prepare()?;
        let aside = output.aside()?;
        let mut problems = Vec::new();
        for shard in &joined.shards {
            let parts = shard_dir(&self.job_dir, shard.shard()).join(PARTS);
            for part in &shard.parts {
                if let Err(why) = self.take(&parts, part, &aside)? {
                    let shard = shard.shard();
                    problems.push(format!("  shard {shard}: {}: {why}; run it again", part.name));
                }
            }
        }
        if !problems.is_empty() {
            clear(&aside)?;
            let output = self.output.display().to_string();
            return Err(JobError::WrongShards { output, problems: problems.join("\n") });
        }
        let manifest = joined.manifest();
        output.reveal(&aside, &manifest)?;
        // The output holds them now.
        for shard in Shard::all(joined.job.shards) {
            clear(&shard_dir(&self.job_dir, shard).join(PARTS))?;
        }
        Ok(manifest)
    }

    /// Gives a part a second name in a folder, or copies it, and reads it through; or says what is wrong with it.
    fn take(&self, parts: &Path, part: &Part, aside: &Path) -> Result<Result<(), String>, JobError> {
        let Some(from) = self.place_of(parts, part) else {
            return Ok(Err("it is gone, or cut short".into()));
        };
        let to = aside.join(&part.name);
        if std::fs::hard_link(&from, &to).is_err() {
            std::fs::copy(&from, &to).map_err(JobError::io("copy", &from))?;
            File::open(&to).and_then(|file| file.sync_all()).map_err(JobError::io("write", &to))?;
        }
        match Source::local(&to).digest()? == part.blake3 {
            true => Ok(Ok(())),
            false => Ok(Err("its bytes are not those that the shard wrote".into())),
        }
    }
}

/// The name of this machine, as a part of a file's name.
fn name_of_host() -> String {
    hostname().chars().filter(|c| c.is_ascii_alphanumeric() || "-_.".contains(*c)).collect()
}
