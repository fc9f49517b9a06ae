//! BLAKE3 digests of texts and files, in hexadecimal.

use crate::error::JobError;
use blake3::Hash;
use engine::file::VerifiedFile;
use std::ffi::OsString;
use std::sync::Arc;

/// The digest (BLAKE3, in hexadecimal) of bytes.
pub fn digest_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// One digest of several files: of their names without folders and the digests of their bytes, in order of the names.
pub fn digest_named(mut files: Vec<(OsString, Hash)>) -> String {
    files.sort_by(|(a, _), (b, _)| a.cmp(b));
    let mut all = blake3::Hasher::new();
    for (name, hash) in files {
        let name = name.as_encoded_bytes();
        all.update(&(name.len() as u64).to_le_bytes()).update(name).update(hash.as_bytes());
    }
    all.finalize().to_hex().to_string()
}

/// [`digest_named`] of files, which are read side by side, as many at a time as there are processors. What is read of
/// them later is what was digested.
///
/// # Errors
/// [`JobError::Io`] and [`JobError::Changed`].
pub fn digest_files(files: &[Arc<VerifiedFile>]) -> Result<String, JobError> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    let mut hashes = Vec::with_capacity(files.len());
    for files in files.chunks(lanes) {
        std::thread::scope(|scope| {
            let spawn = |file: &'_ Arc<VerifiedFile>| {
                let file = file.clone();
                std::thread::Builder::new().spawn_scoped(scope, move || file.digest())
            };
            let running: Vec<_> = files.iter().map(spawn).collect();
            hashes.extend(running.into_iter().zip(files).map(|(thread, file)| {
                let name = file.path().file_name().unwrap_or_default().to_os_string();
                let lost = |_| Err(JobError::Internal("a thread that digests a file panicked".into()));
                // Where the system starts no more threads, this one does the work.
                let hash = thread.map_or_else(|_| Ok(file.digest()), |thread| thread.join());
                hash.map_or_else(lost, |hash| Ok((name, hash?)))
            }));
        });
    }
    Ok(digest_named(hashes.into_iter().collect::<Result<_, _>>()?))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::path::Path;

    #[test]
    fn files_digest_alike_in_any_folder_and_order() {
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let write = |folder: &Path, name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            Arc::new(VerifiedFile::new(folder.join(name)))
        };
        let there = [write(one.path(), "a", "1"), write(one.path(), "b", "2"), write(one.path(), "c", "3")];
        let here = [write(two.path(), "c", "3"), write(two.path(), "a", "1"), write(two.path(), "b", "2")];
        assert_eq!(digest_files(&there).unwrap(), digest_files(&here).unwrap());
        let here = [write(two.path(), "c", "3"), write(two.path(), "a", "1"), write(two.path(), "b", "3")];
        assert_ne!(digest_files(&there).unwrap(), digest_files(&here).unwrap());
    }
}
