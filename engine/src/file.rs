//! Files that may change while they are used: what is read of one is always what was digested.
//!
//! A digest of a file is worth nothing if the file is read once more afterwards. So the pass that digests a file also
//! notes a digest of each of its blocks, and every later read is held against those: bytes that are not the digested
//! ones are an error and never data, whether the file was replaced, written to or cut short, for how long, and whatever
//! its times say. BLAKE3 is a tree, in which the digests of blocks are nodes: one pass finds both.

use blake3::Hash;
use blake3::hazmat::{HasherExt, Mode, merge_subtrees_non_root, merge_subtrees_root};
use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::SystemTime;

/// Bytes of a block of a small file; a power of two.
const SMALL_BLOCK: u64 = 64 << 10;
/// Bytes of a block of a large one; a power of two.
const LARGE_BLOCK: u64 = 256 << 10;
/// Larger files are large ones.
const SMALL_FILE: u64 = 64 << 20;
/// Bytes of the blocks that an open file keeps, for reads that are shorter than a block.
const CACHE: u64 = 8 << 20;

/// What goes wrong with a file.
#[derive(Debug, thiserror::Error)]
pub enum FileError {
    /// The system does not let it be used.
    #[error("cannot {doing} {}: {source}", path.display())]
    System {
        /// What was being done, as in "read".
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Its bytes are not those that it had.
    #[error(
        "{} has changed since it was opened: it is gone, or other bytes stand in it now, and nothing was made of them; \
         put the file back as it was and run the same command again when nothing writes to it",
        path.display()
    )]
    Changed {
        /// The file.
        path: PathBuf,
    },
}

/// Opens a regular file. Anything else (a FIFO, a device, a socket) is refused, and is not waited for.
///
/// # Errors
/// That of the system; of the kind `InvalidInput` for what is no regular file.
pub fn open_regular(path: &Path) -> io::Result<File> {
    refuse_irregular(&std::fs::metadata(path)?)?;
    let mut options = OpenOptions::new();
    options.read(true);
    #[cfg(unix)]
    {
        use std::os::unix::fs::OpenOptionsExt;
        // It may have become another since.
        options.custom_flags(libc::O_NONBLOCK | libc::O_NOCTTY);
    }
    let file = options.open(path)?;
    refuse_irregular(&file.metadata()?)?;
    Ok(file)
}

fn refuse_irregular(metadata: &std::fs::Metadata) -> io::Result<()> {
    match metadata.file_type() {
        kind if kind.is_file() => Ok(()),
        kind if kind.is_dir() => Err(ErrorKind::IsADirectory.into()),
        _ => Err(io::Error::new(
            ErrorKind::InvalidInput,
            "it is no regular file but a device, a FIFO or a socket",
        )),
    }
}

/// A file that is known by its bytes once it was digested.
#[derive(Debug)]
pub struct VerifiedFile {
    path: PathBuf,
    size: OnceLock<u64>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    known: Option<Arc<Known>>,
    /// What was read before it was known, with its digest.
    early: Vec<(Range<u64>, Hash)>,
}

/// What a file's bytes are.
#[derive(Debug)]
struct Known {
    hash: Hash,
    /// Bytes of each block but the last.
    block: u64,
    /// The beginnings of their digests.
    blocks: Vec<[u8; 16]>,
}

impl VerifiedFile {
    /// A file that was not looked at yet.
    pub fn new(path: impl Into<PathBuf>) -> VerifiedFile {
        VerifiedFile { path: path.into(), size: OnceLock::new(), state: Mutex::default() }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Opens it.
    ///
    /// # Errors
    /// [`FileError`], also if it is longer or shorter than when it was opened first.
    pub fn open(self: &Arc<Self>) -> Result<OpenFile, FileError> {
        let file = open_regular(&self.path).map_err(|source| match source.kind() {
            // It was there before.
            ErrorKind::NotFound if self.size.get().is_some() => self.changed(),
            _ => self.failed("open", source),
        })?;
        let size = file.metadata().map_err(|source| self.failed("read", source))?.len();
        if *self.size.get_or_init(|| size) != size {
            return Err(self.changed());
        }
        Ok(OpenFile { of: self.clone(), file, size, cache: Mutex::default() })
    }

    /// The BLAKE3 digest of its bytes. What was read before is read again, and every later read is of the same bytes.
    ///
    /// # Errors
    /// [`FileError`]; also [`FileError::Changed`] if what was read before is not there any more.
    pub fn digest(self: &Arc<Self>) -> Result<Hash, FileError> {
        if let Some(known) = &self.lock().known {
            return Ok(known.hash);
        }
        let open = self.open()?;
        let before = open.times()?;
        let known = Arc::new(open.digest()?);
        // Half of one content and half of another would be a file that never was.
        if open.times()? != before {
            return Err(self.changed());
        }
        let mut state = self.lock();
        if let Some(known) = &state.known {
            return Ok(known.hash);
        }
        for (range, hash) in &state.early {
            if blake3::hash(&open.verified(&known, range.clone())?) != *hash {
                return Err(self.changed());
            }
        }
        let hash = known.hash;
        *state = State { known: Some(known), early: Vec::new() };
        Ok(hash)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn failed(&self, doing: &'static str, source: io::Error) -> FileError {
        FileError::System { doing, path: self.path.clone(), source }
    }

    fn changed(&self) -> FileError {
        FileError::Changed { path: self.path.clone() }
    }
}

/// A [`VerifiedFile`] that is open. Its readers share one descriptor.
#[derive(Debug)]
pub struct OpenFile {
    of: Arc<VerifiedFile>,
    file: File,
    size: u64,
    /// Blocks that were read lately, the last one first.
    cache: Mutex<VecDeque<(usize, Arc<[u8]>)>>,
}

impl OpenFile {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.of.path
    }

    /// Its bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads bytes, which must lie in the file.
    ///
    /// # Errors
    /// [`FileError`]; [`FileError::Changed`] if they are not those that were digested.
    pub fn read(&self, range: Range<u64>) -> Result<Vec<u8>, FileError> {
        if range.end > self.size || range.start > range.end {
            return Err(self.of.failed("read", ErrorKind::UnexpectedEof.into()));
        }
        let known = self.of.lock().known.clone();
        if let Some(known) = known {
            return self.verified(&known, range);
        }
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.fill(range.start, &mut bytes)?;
        let mut state = self.of.lock();
        match state.known.clone() {
            Some(known) => {
                drop(state);
                self.verified(&known, range)
            }
            None => {
                state.early.push((range, blake3::hash(&bytes)));
                Ok(bytes)
            }
        }
    }

    fn verified(&self, known: &Known, range: Range<u64>) -> Result<Vec<u8>, FileError> {
        let mut bytes = vec![0; (range.end - range.start) as usize];
        let (mut rest, mut at) = (&mut bytes[..], range.start);
        while !rest.is_empty() {
            let index = (at / known.block) as usize;
            let block = known.range(index, self.size);
            let (part, later) = rest.split_at_mut(rest.len().min((block.end - at) as usize));
            if part.len() as u64 == block.end - block.start {
                self.fill_block(known, index, part)?;
            } else {
                let from = (at - block.start) as usize;
                part.copy_from_slice(&self.block(known, index)?[from..from + part.len()]);
            }
            at += part.len() as u64;
            rest = later;
        }
        Ok(bytes)
    }

    /// A block, kept for the next read of a part of it.
    fn block(&self, known: &Known, index: usize) -> Result<Arc<[u8]>, FileError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(place) = cache.iter().position(|(there, _)| *there == index)
            && let Some(found) = cache.remove(place)
        {
            let block = found.1.clone();
            cache.push_front(found);
            return Ok(block);
        }
        let range = known.range(index, self.size);
        let mut bytes = vec![0; (range.end - range.start) as usize];
        self.fill_block(known, index, &mut bytes)?;
        let block: Arc<[u8]> = bytes.into();
        cache.truncate((CACHE / known.block) as usize - 1);
        cache.push_front((index, block.clone()));
        Ok(block)
    }

    fn fill_block(&self, known: &Known, index: usize, bytes: &mut [u8]) -> Result<(), FileError> {
        let start = index as u64 * known.block;
        self.fill(start, bytes)?;
        let same = shortened(&block_hash(start, bytes, self.size)) == known.blocks[index];
        if same { Ok(()) } else { Err(self.of.changed()) }
    }

    fn fill(&self, start: u64, bytes: &mut [u8]) -> Result<(), FileError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match read_at(&self.file, start + filled as u64, &mut bytes[filled..]) {
                // It was longer when it was opened.
                Ok(0) => return Err(self.of.changed()),
                Ok(read) => filled += read,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(source) => return Err(self.of.failed("read", source)),
            }
        }
        Ok(())
    }

    /// When it was written to last, and its size.
    fn times(&self) -> Result<(u64, Option<SystemTime>), FileError> {
        let metadata = self.file.metadata().map_err(|source| self.of.failed("read", source))?;
        Ok((metadata.len(), metadata.modified().ok()))
    }

    /// Reads it through.
    fn digest(&self) -> Result<Known, FileError> {
        let block = if self.size > SMALL_FILE { LARGE_BLOCK } else { SMALL_BLOCK };
        let mut hashes = Vec::with_capacity(self.size.div_ceil(block) as usize);
        let mut bytes = vec![0; block.min(self.size) as usize];
        for start in (0..self.size).step_by(block as usize) {
            let bytes = &mut bytes[..block.min(self.size - start) as usize];
            self.fill(start, bytes)?;
            hashes.push(block_hash(start, bytes, self.size));
        }
        let hash = match hashes.as_slice() {
            [] => blake3::hash(&[]),
            [one] => Hash::from_bytes(*one),
            blocks => {
                let (left, right) = blocks.split_at(left_of(blocks.len()));
                merge_subtrees_root(&joined(left), &joined(right), Mode::Hash)
            }
        };
        Ok(Known { hash, block, blocks: hashes.iter().map(shortened).collect() })
    }
}

impl Known {
    fn range(&self, index: usize, size: u64) -> Range<u64> {
        let start = index as u64 * self.block;
        start..size.min(start + self.block)
    }
}

fn shortened(hash: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|i| hash[i])
}

/// The node of a block in the tree of its file; of a file of one block, the root.
fn block_hash(start: u64, bytes: &[u8], size: u64) -> [u8; 32] {
    if bytes.len() as u64 == size {
        return *blake3::hash(bytes).as_bytes();
    }
    blake3::Hasher::new().set_input_offset(start).update(bytes).finalize_non_root()
}

/// How many of the blocks are in the left half of the tree.
fn left_of(blocks: usize) -> usize {
    blocks.next_power_of_two() / 2
}

fn joined(blocks: &[[u8; 32]]) -> [u8; 32] {
    if let [one] = blocks {
        return *one;
    }
    let (left, right) = blocks.split_at(left_of(blocks.len()));
    merge_subtrees_non_root(&joined(left), &joined(right), Mode::Hash)
}

#[cfg(unix)]
fn read_at(file: &File, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::unix::fs::FileExt::read_at(file, buffer, start)
}

#[cfg(windows)]
fn read_at(file: &File, start: u64, buffer: &mut [u8]) -> io::Result<usize> {
    std::os::windows::fs::FileExt::seek_read(file, buffer, start)
}

#[cfg(test)]
mod tests;
