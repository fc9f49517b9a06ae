//! A bucket in memory whose calls can fail, before or after they have done their work.
#![allow(clippy::unwrap_used)]

use crate::error::JobError;
use crate::store::bucket::{Bucket, ObjectVersion, Revision};
use crate::store::error::StoreError;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::Mutex;

#[derive(Debug, Default)]
pub(crate) struct FakeBucket {
    state: Mutex<State>,
    meanwhile: Mutex<Meanwhile>,
}

/// What others do just before a call.
#[derive(Default)]
struct Meanwhile(Option<(u64, Box<dyn FnOnce() + Send>)>);

impl std::fmt::Debug for Meanwhile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "before {:?}", self.0.as_ref().map(|(call, _)| call))
    }
}

#[derive(Debug, Default)]
struct State {
    objects: BTreeMap<String, Bytes>,
    uploads: BTreeMap<String, (String, Bytes)>,
    begun: u64,
    calls: u64,
    fetched: u64,
    fault: Option<Fault>,
    intruder: Option<(u64, String)>,
}

/// The call that fails, from 1.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) call: u64,
    /// Whether it does its work all the same: the answer is lost.
    pub(crate) done: bool,
}

impl FakeBucket {
    pub(crate) fn fail(&self, fault: Option<Fault>) {
        let mut state = self.state.lock().unwrap();
        (state.calls, state.fault) = (0, fault);
    }

    /// Lets another put an object just before that call, from now on.
    pub(crate) fn intrude(&self, call: u64, key: &str) {
        let mut state = self.state.lock().unwrap();
        (state.calls, state.intruder) = (0, Some((call, key.into())));
    }

    /// Lets others do something just before that call, from now on.
    pub(crate) fn meanwhile(&self, call: u64, does: impl FnOnce() + Send + 'static) {
        self.state.lock().unwrap().calls = 0;
        *self.meanwhile.lock().unwrap() = Meanwhile(Some((call, Box::new(does))));
    }

    /// Whether that has not been done.
    pub(crate) fn waits(&self) -> bool {
        self.meanwhile.lock().unwrap().0.is_some()
    }

    pub(crate) fn calls(&self) -> u64 {
        self.state.lock().unwrap().calls
    }

    /// Bytes that were read by ranges.
    pub(crate) fn fetched(&self) -> u64 {
        self.state.lock().unwrap().fetched
    }

    pub(crate) fn put(&self, key: &str, bytes: impl Into<Bytes>) {
        self.state.lock().unwrap().objects.insert(key.into(), bytes.into());
    }

    pub(crate) fn objects(&self) -> BTreeMap<String, Bytes> {
        self.state.lock().unwrap().objects.clone()
    }

    /// [`Bucket::upload`] of bytes.
    pub(crate) fn upload_bytes(&self, key: &str, id: &str, bytes: Bytes) -> Result<Vec<String>, JobError> {
        self.call(key, |state| {
            let upload = state.uploads.get_mut(id).ok_or_else(|| discarded(key))?;
            upload.1 = bytes;
            Ok(vec!["piece".into()])
        })?
    }

    pub(crate) fn uploads(&self) -> usize {
        self.state.lock().unwrap().uploads.len()
    }

    /// Does the work of a call, unless this is the one that fails.
    fn call<T>(&self, key: &str, work: impl FnOnce(&mut State) -> T) -> Result<T, JobError> {
        let next = self.calls() + 1;
        let due = self.meanwhile.lock().unwrap().0.take_if(|(call, _)| *call == next);
        due.into_iter().for_each(|(_, does)| does());
        let mut state = self.state.lock().unwrap();
        state.calls += 1;
        let now = state.calls;
        if let Some((_, key)) = state.intruder.take_if(|(call, _)| *call == now) {
            state.objects.insert(key, "{}".into());
        }
        let fault = state.fault.filter(|fault| fault.call == state.calls);
        if fault.is_some_and(|fault| !fault.done) {
            return Err(lost(key));
        }
        let result = work(&mut state);
        if fault.is_some() { Err(lost(key)) } else { Ok(result) }
    }
}

fn lost(key: &str) -> JobError {
    JobError::Store { doing: "ask", url: key.into(), error: StoreError::Unreachable("on purpose".into()) }
}

/// As S3 says NoSuchUpload.
fn discarded(key: &str) -> JobError {
    let error = StoreError::Other("there is no such upload".into());
    JobError::Store { doing: "write", url: key.into(), error }
}

fn version(key: &str, bytes: &Bytes) -> ObjectVersion {
    // Another place in memory is another content: cheaper than a digest.
    let etag = format!("{:p}", bytes.as_ptr());
    ObjectVersion { key: key.into(), size: bytes.len() as u64, etag }
}

/// As of S3, where an ETag is a digest of the content: what stood there before may come again.
fn revision(bytes: &Bytes) -> Revision {
    Revision { etag: Some(blake3::hash(bytes).to_hex().to_string()), generation: None }
}

impl Bucket for FakeBucket {
    fn head(&self, key: &str) -> Result<Option<ObjectVersion>, JobError> {
        self.call(key, |state| state.objects.get(key).map(|bytes| version(key, bytes)))
    }

    fn list(&self, folder: &str, deep: bool) -> Result<Vec<ObjectVersion>, JobError> {
        let below = |key: &String| {
            let rest =
                if folder.is_empty() { Some(&key[..]) } else { key.strip_prefix(folder)?.strip_prefix('/') };
            rest.filter(|rest| deep || !rest.contains('/')).map(drop)
        };
        self.call(folder, |state| {
            let found = state.objects.iter().filter(|(key, _)| below(key).is_some());
            found.map(|(key, bytes)| version(key, bytes)).collect()
        })
    }

    fn read(&self, object: &ObjectVersion, range: Range<u64>) -> Result<Bytes, JobError> {
        self.call(&object.key, |state| {
            let bytes = state.objects.get(&object.key).filter(|bytes| version(&object.key, bytes) == *object);
            let changed =
                JobError::Store { doing: "read", url: object.key.clone(), error: StoreError::Changed };
            let bytes = bytes.cloned().ok_or(changed)?;
            state.fetched += range.end - range.start;
            Ok(bytes.slice(range.start as usize..range.end as usize))
        })?
    }

    fn get_revision(&self, key: &str) -> Result<Option<(Bytes, Revision)>, JobError> {
        self.call(key, |state| state.objects.get(key).map(|bytes| (bytes.clone(), revision(bytes))))
    }

    fn create(&self, key: &str, text: &str) -> Result<bool, JobError> {
        self.call(key, |state| {
            let free = !state.objects.contains_key(key);
            state.objects.entry(key.into()).or_insert_with(|| text.to_string().into());
            free
        })
    }

    fn replace(&self, key: &str, text: &str, over: &Revision) -> Result<Option<Revision>, JobError> {
        self.call(key, |state| {
            state.objects.get(key).filter(|there| revision(there) == *over)?;
            let new = Bytes::from(text.to_string());
            let written = revision(&new);
            state.objects.insert(key.into(), new);
            Some(written)
        })
    }

    fn delete(&self, key: &str) -> Result<(), JobError> {
        self.call(key, |state| drop(state.objects.remove(key)))
    }

    fn begin_upload(&self, key: &str) -> Result<String, JobError> {
        self.call(key, |state| {
            state.begun += 1;
            let id = state.begun.to_string();
            state.uploads.insert(id.clone(), (key.into(), Bytes::new()));
            id
        })
    }

    fn upload(&self, key: &str, id: &str, file: &Path) -> Result<Vec<String>, JobError> {
        self.upload_bytes(key, id, std::fs::read(file).unwrap().into())
    }

    fn complete_upload(&self, key: &str, id: &str, pieces: &[String]) -> Result<(), JobError> {
        assert_eq!(pieces, ["piece"]);
        self.call(key, |state| {
            let (place, bytes) = state.uploads.remove(id).ok_or_else(|| discarded(key))?;
            assert_eq!(place, key);
            state.objects.insert(place, bytes);
            Ok(())
        })?
    }

    fn uploads(&self, key: &str) -> Result<Vec<(String, String)>, JobError> {
        self.call(key, |state| {
            let found = state.uploads.iter().map(|(id, (place, _))| (place.clone(), id.clone()));
            found.filter(|(place, _)| place == key || place.starts_with(&format!("{key}/"))).collect()
        })
    }

    fn abort_upload(&self, key: &str, id: &str) -> Result<(), JobError> {
        self.call(key, |state| drop(state.uploads.remove(id)))
    }
}
