//! BLAKE3 digests of texts and files, in hexadecimal.

use crate::error::JobError;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// The digest (BLAKE3, in hexadecimal) of bytes.
pub fn digest_bytes(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

/// The digest (BLAKE3, in hexadecimal) of a file's bytes.
///
/// Always of the bytes: a size and a modification time can both stay while the content changes.
///
/// # Errors
/// [`JobError::Io`].
pub fn digest_file(path: &Path) -> Result<String, JobError> {
    Ok(hash_file(path)?.to_hex().to_string())
}

/// One digest of several files: of their names without folders and their bytes, in order of the names.
///
/// # Errors
/// [`JobError::Io`].
pub fn digest_files(paths: &[PathBuf]) -> Result<String, JobError> {
    let name = |path: &PathBuf| path.file_name().unwrap_or_default().to_os_string();
    let mut paths = paths.to_vec();
    paths.sort_by_key(name);
    let mut all = blake3::Hasher::new();
    for (path, hash) in paths.iter().zip(hash_together(&paths)) {
        let name = name(path);
        let name = name.as_encoded_bytes();
        all.update(&(name.len() as u64).to_le_bytes()).update(name).update(hash?.as_bytes());
    }
    Ok(all.finalize().to_hex().to_string())
}

/// Hashes files side by side, as many at a time as there are processors.
fn hash_together(paths: &[PathBuf]) -> Vec<Result<blake3::Hash, JobError>> {
    let lanes = std::thread::available_parallelism().map_or(1, usize::from);
    let mut hashes = Vec::with_capacity(paths.len());
    for paths in paths.chunks(lanes) {
        std::thread::scope(|scope| {
            let running: Vec<_> = paths.iter().map(|path| scope.spawn(|| hash_file(path))).collect();
            hashes.extend(running.into_iter().zip(paths).map(|(thread, path)| {
                let lost = |_| Err(JobError::io("read", path)(std::io::Error::other("the reader panicked")));
                thread.join().unwrap_or_else(lost)
            }));
        });
    }
    hashes
}

fn hash_file(path: &Path) -> Result<blake3::Hash, JobError> {
    let mut file = File::open(path).map_err(JobError::io("open", path))?;
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; 1 << 20];
    loop {
        match file.read(&mut buffer).map_err(JobError::io("read", path))? {
            0 => return Ok(hasher.finalize()),
            n => hasher.update(&buffer[..n]),
        };
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn files_digest_alike_in_any_folder_and_order() {
        let [one, two] = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
        let write = |folder: &Path, name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            folder.join(name)
        };
        let there = [write(one.path(), "a", "1"), write(one.path(), "b", "2"), write(one.path(), "c", "3")];
        let here = [write(two.path(), "c", "3"), write(two.path(), "a", "1"), write(two.path(), "b", "2")];
        assert_eq!(digest_files(&there).unwrap(), digest_files(&here).unwrap());
        write(two.path(), "b", "3");
        assert_ne!(digest_files(&there).unwrap(), digest_files(&here).unwrap());
    }
}
