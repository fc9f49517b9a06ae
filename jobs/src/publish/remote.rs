//! An output in an object store.
//!
//! A store has no rename, so parts cannot appear together. An output exists when its manifest does, which is written last
//! and only if there is none. Until then parts are uploads that are not visible.
//!
//! A claim, an object beside the output, is written before the work and removed after it: without it, two jobs
//! could overwrite one another's parts long before the second finds the manifest of the first. The claim, the
//! manifest and the unfinished uploads are also noted in the state_dir, by which a job knows its own.
//!
//! Another machine may take a job over, and the one before may not know. What an owner does at the end is therefore done so
//! that it has no effect when it comes late:
//! - it completes uploads that it has begun before it renewed its claim; whoever takes over replaces the claim first and then
//!   discards all uploads;
//! - its manifest replaces what it has seen in that place, or nothing; whoever takes over has put a [`reservation`] there;
//! - it discards uploads that were listed before it renewed its claim, and withdraws a claim only in the place of its own.

pub(crate) mod checkpoints;
mod claim;
pub(crate) mod claim_text;
pub(crate) mod reservation;
pub(crate) mod seen;
pub(crate) mod take_over;

use crate::error::JobError;
use crate::publish::manifest::{self, Manifest, Part};
use crate::publish::remote::claim::Held;
pub(crate) use crate::publish::remote::claim::shown;
use crate::publish::remote::reservation::{Place, Reservation};
use crate::store::bucket::Revision;
use crate::store::location::ObjectUrl;
use crate::store::object::Object;
use crate::store::{self, bucket::Bucket, error::StoreError};
use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

/// The file here of uploads that were begun: a line each, with the id and the key.
const UPLOADS: &str = "uploads";

/// An output in an object store, and the state_dir of its job.
#[derive(Clone, Debug)]
pub struct RemoteOutput {
    bucket: Arc<dyn Bucket>,
    url: ObjectUrl,
    state_dir: PathBuf,
    /// The claim, while this process holds it.
    held: Arc<Mutex<Option<Held>>>,
}

/// A part that is uploaded and does not show yet.
#[derive(Debug)]
pub(crate) struct Staged {
    key: String,
    upload: String,
    pieces: Vec<String>,
    part: Part,
}

impl RemoteOutput {
    /// Opens the store of an output.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn open(url: &ObjectUrl, state_dir: &Path) -> Result<Self, JobError> {
        Ok(RemoteOutput::new(store::open(url)?, url.clone(), state_dir))
    }

    fn new(bucket: Arc<dyn Bucket>, url: ObjectUrl, state_dir: &Path) -> Self {
        RemoteOutput { bucket, url, state_dir: state_dir.to_path_buf(), held: Arc::default() }
    }

    /// The name of the object or folder.
    pub(crate) fn name(&self) -> &str {
        self.url.name()
    }

    /// Whether what is published there is what this job has published.
    ///
    /// # Errors
    /// [`JobError::Store`].
    pub fn is_published(&self) -> Result<bool, JobError> {
        match self.published() {
            Err(JobError::OutputExists { .. } | JobError::Reserved { .. }) => Ok(false),
            other => Ok(other?.is_some()),
        }
    }

    /// Uploads a part, so that it is not visible yet; `None` if it exists already.
    ///
    /// # Errors
    /// [`JobError::Store`] or [`JobError::Io`].
    pub(crate) fn stage(&self, file: &Path, part: &Part, folder: bool) -> Result<Option<Staged>, JobError> {
        let key = self.part_key(part, folder);
        let before = self.manifest_here()?;
        let same =
            before.is_some_and(|before| before.parts.contains(part) && self.is_folder(&before) == folder);
        // The manifest goes before the first of its parts changes: while it stands, they are those that it names.
        let stands = same && self.published()?.is_some();
        if stands && self.bucket.head(&key)?.is_some_and(|there| there.size == part.bytes) {
            return Ok(None);
        }
        let upload = self.bucket.begin_upload(&key)?;
        let notes = self.state_dir.join(UPLOADS);
        let opened = OpenOptions::new().append(true).create(true).open(&notes);
        opened
            .and_then(|mut notes| writeln!(notes, "{upload}\t{key}"))
            .map_err(JobError::io("write", &notes))?;
        let pieces = self.bucket.upload(&key, &upload, file)?;
        Ok(Some(Staged { key, upload, pieces, part: part.clone() }))
    }

    /// Lets the parts appear, and then the manifest that makes them an output.
    ///
    /// # Errors
    /// [`JobError::OutputExists`] if another job has published there; [`JobError::Store`] or [`JobError::Io`].
    pub(crate) fn reveal(
        &self,
        staged: Vec<Staged>,
        manifest: &Manifest,
        folder: bool,
    ) -> Result<(), JobError> {
        let (key, text) = (manifest_key(&self.url), manifest.to_json());
        let place = self.place()?;
        if let Place::Published(at, before, _) = &place
            && staged.is_empty()
            && (at, before) == (&key, &text)
        {
            return self.release();
        }
        let replaced = self.replaced(&place, manifest, folder)?;
        let place = self.reserved_for_changes(place, &replaced)?;
        // Whoever takes over from now on finds the uploads, all of which were begun before, and leaves a manifest that stands.
        self.renew_as(false)?;
        for staged in &staged {
            self.complete(staged)?;
        }
        replaced.iter().try_for_each(|key| self.bucket.delete(key))?;
        manifest::keep(&self.state_dir, &text)?;
        if put_over(&self.bucket, &key, &text, place.as_ref())?.is_none() {
            return Err(self.place_taken(&key)?);
        }
        self.release()
    }

    /// Makes sure that no manifest stands while parts change: a reservation takes its place. What the new manifest is to replace,
    /// if anything.
    fn reserved_for_changes(&self, place: Place, replaced: &[String]) -> Result<Option<Revision>, JobError> {
        let (key, removes) = (manifest_key(&self.url), !replaced.is_empty());
        match place {
            Place::Free if !removes => Ok(None),
            Place::Free => self.reserve(None, replaced.to_vec(), true).map(Some),
            Place::Reserved(reservation, revision) if reservation.removes || !removes => Ok(Some(revision)),
            Place::Reserved(reservation, revision) => {
                self.reserve(Some(&revision), reservation.replaces, true).map(Some)
            }
            // What this job has published before; its parts change now.
            Place::Published(at, _, revision) if at == key => {
                // Nobody who sees the claim takes the job to be published from now on.
                self.renew_as(true)?;
                let before = self.manifest_here()?;
                let parts =
                    before.map_or_else(Vec::new, |before| self.part_keys(&before, self.is_folder(&before)));
                self.reserve(Some(&revision), parts, removes).map(Some)
            }
            Place::Published(inside, _, _) => {
                let revision = self.reserve(None, replaced.to_vec(), removes)?;
                self.bucket.delete(&inside)?;
                Ok(Some(revision))
            }
        }
    }

    /// Discards uploads that were begun and not completed. The output must be claimed.
    ///
    /// # Errors
    /// [`JobError::Store`] or [`JobError::Io`].
    pub(crate) fn discard_uploads(&self) -> Result<(), JobError> {
        for line in self.note(UPLOADS)?.unwrap_or_default().lines() {
            if let Some((upload, key)) = line.split_once('\t') {
                self.bucket.abort_upload(key, upload)?;
            }
        }
        self.forget(UPLOADS)?;
        self.discard_unnoted_uploads()
    }

    /// Discards uploads that only the store knows of, as the answer to their beginning was lost. Those to the output of
    /// a claim are its job's own, if the claim is renewed after they were listed.
    fn discard_unnoted_uploads(&self) -> Result<(), JobError> {
        match self.begun_uploads() {
            Ok(begun) if begun.is_empty() => Ok(()),
            Ok(begun) => {
                self.renew()?;
                begun.iter().try_for_each(|(key, upload)| self.bucket.abort_upload(key, upload))
            }
            // Some stores list none, or want a right of its own for that.
            Err(error) => {
                tracing::info!("unfinished uploads that no answer told of may be left: {error}");
                Ok(())
            }
        }
    }

    /// Makes a part visible. If the answer is lost, the store is asked whether it is.
    fn complete(&self, staged: &Staged) -> Result<(), JobError> {
        let Staged { key, upload, pieces, part } = staged;
        let completed = self.bucket.complete_upload(key, upload, pieces);
        if completed.is_err() {
            let found = Object::find(&self.bucket, self.url.with_key(key));
            let there = found
                .and_then(|found| Ok(found.version.size == part.bytes && found.digest()? == part.blake3));
            if there.unwrap_or(false) {
                return Ok(());
            }
        }
        completed
    }

    /// What this job has published, as key and text of its manifest.
    ///
    /// # Errors
    /// [`JobError::OutputExists`] for the manifest of another.
    fn published(&self) -> Result<Option<(String, String)>, JobError> {
        Ok(match self.place()? {
            Place::Published(key, text, _) => Some((key, text)),
            Place::Free | Place::Reserved(..) => None,
        })
    }

    /// Refuses objects where the output goes, unless this job has published them.
    fn check_free(&self) -> Result<(), JobError> {
        if self.published()?.is_some() {
            return Ok(());
        }
        let there = self.bucket.head(&self.url.key)?;
        let there = there.or(self.bucket.list(&self.url.key, true)?.into_iter().next());
        there.map_or(Ok(()), |there| Err(self.in_the_way(&there.key)))
    }

    fn in_the_way(&self, key: &str) -> JobError {
        JobError::OutputExists { path: self.url.with_key(key).to_string().into() }
    }

    fn part_key(&self, part: &Part, folder: bool) -> String {
        if folder { format!("{}/{}", self.url.key, part.name) } else { self.url.key.clone() }
    }

    fn part_keys(&self, manifest: &Manifest, folder: bool) -> Vec<String> {
        manifest.parts.iter().map(|part| self.part_key(part, folder)).collect()
    }

    /// Whether a manifest is of a folder of parts, and not of one object of the output's name.
    fn is_folder(&self, manifest: &Manifest) -> bool {
        manifest.parts.len() != 1 || manifest.parts[0].name != self.name()
    }

    /// A small object as text.
    fn text(&self, key: &str) -> Result<Option<String>, JobError> {
        let bytes = self.bucket.get(key)?;
        Ok(bytes.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()))
    }

    /// The manifest that stands, whoever has put it.
    ///
    /// # Errors
    /// [`JobError::Store`], or what is wrong with it.
    pub fn manifest_there(&self) -> Result<Option<Manifest>, JobError> {
        for key in [manifest_key(&self.url), manifest_key_inside(&self.url)] {
            let Some(text) = self.bucket.get(&key)? else { continue };
            return match Reservation::parse(&text) {
                Some(_) => Ok(None),
                None => Manifest::parse(&text, Path::new(&self.url.with_key(key).to_string())).map(Some),
            };
        }
        Ok(None)
    }

    fn manifest_here(&self) -> Result<Option<Manifest>, JobError> {
        let path = self.state_dir.join(manifest::NAME);
        if path.exists() { Manifest::read(&path).map(Some) } else { Ok(None) }
    }

    /// A file of the state_dir.
    fn note(&self, name: &str) -> Result<Option<String>, JobError> {
        let path = self.state_dir.join(name);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
            Err(error) => Err(JobError::io("read", path)(error)),
        }
    }

    fn forget(&self, name: &str) -> Result<(), JobError> {
        let path = self.state_dir.join(name);
        match std::fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(JobError::io("remove", path)(error)),
            _ => Ok(()),
        }
    }
}

/// Writes an object where there is none. Whether it stands there afterwards: if there was one, or the answer is lost, it is
/// read back.
///
/// # Errors
/// [`JobError::Store`].
pub(crate) fn settle(
    bucket: &Arc<dyn Bucket>,
    url: &ObjectUrl,
    key: &str,
    text: &str,
) -> Result<bool, JobError> {
    let created = bucket.create(key, text);
    if matches!(created, Ok(true)) {
        return Ok(true);
    }
    match (bucket.get(key), created) {
        (Ok(Some(there)), _) => Ok(there == text.as_bytes()),
        (_, Err(error)) | (Err(error), _) => Err(error),
        (Ok(None), Ok(_)) => {
            let why = "it existed and has disappeared; something else writes to the output".to_string();
            let url = url.with_key(key).to_string();
            Err(JobError::Store { doing: "write", url, error: StoreError::Other(why) })
        }
    }
}

/// Writes an object in the place of the one that was read, or where there is none. Its revision if it stands there afterwards:
/// if another did, or the answer is lost, it is read back.
///
/// # Errors
/// [`JobError::Store`]: then it may still come to stand there.
pub(crate) fn put_over(
    bucket: &Arc<dyn Bucket>,
    key: &str,
    text: &str,
    over: Option<&Revision>,
) -> Result<Option<Revision>, JobError> {
    let written = match over {
        Some(over) => match bucket.replace(key, text, over) {
            Ok(Some(revision)) => return Ok(Some(revision)),
            other => other.map(drop),
        },
        None => bucket.create(key, text).map(drop),
    };
    match (bucket.get_revision(key), written) {
        (Ok(Some((there, revision))), _) if there == text.as_bytes() => Ok(Some(revision)),
        (Ok(_), Ok(())) => Ok(None),
        (_, Err(error)) | (Err(error), _) => Err(error),
    }
}

/// The key of the manifest, beside the output.
pub(crate) fn manifest_key(url: &ObjectUrl) -> String {
    beside(&url.key, manifest::NAME)
}

/// The key where earlier versions put the manifest of a folder: among its parts.
pub(crate) fn manifest_key_inside(url: &ObjectUrl) -> String {
    format!("{}/{}", url.key, manifest::NAME)
}

/// The key of the claim, of a job with shards or without.
pub(crate) fn claim_key(url: &ObjectUrl) -> String {
    beside(&url.key, claim::CLAIM)
}

/// The folder of what is beside an output, as the key of a folder.
pub(crate) fn folder_beside(key: &str) -> String {
    format!("{key}.gristmill")
}

pub(crate) fn beside(key: &str, name: &str) -> String {
    format!("{}/{name}", folder_beside(key))
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod late;

#[cfg(test)]
mod owners;
