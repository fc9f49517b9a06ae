//! Weights in safetensors files, checked before anything is allocated and read tensor by tensor.

use super::decoder::Source;
use super::header;
use crate::dtype::DType;
use crate::error::EngineError;
use crate::format::Format;
use crate::numbers::Numbers;
use crate::plan::{BufferDesc, Rows};
use safetensors::tensor::{Dtype, Metadata};
use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::ops::Range;
use std::path::{Component, Path, PathBuf};

/// The longest header that is read: real ones take a few hundred KB, and parsed it takes many times as much.
const MAX_HEADER: u64 = 8 << 20;
/// The longest index that is read: that of the largest models has 9 MB.
const MAX_INDEX: u64 = 16 << 20;
/// Bytes that are read and handed to the device at once.
const CHUNK: usize = 16 << 20;

/// A tensor's place.
struct Tensor {
    /// Its file's place in [`Checkpoint::files`].
    file: usize,
    dtype: DType,
    shape: Vec<usize>,
    bytes: Range<u64>,
}

/// The weight files of a model, their headers read.
pub struct Checkpoint {
    files: Vec<PathBuf>,
    tensors: HashMap<String, Tensor>,
}

impl Checkpoint {
    /// Reads the headers of a folder's `model.safetensors`, or of the files that its index names.
    ///
    /// # Errors
    /// Files that are missing, outside the folder, malformed or of another format.
    pub fn open(folder: &Path) -> Result<Checkpoint, EngineError> {
        let index = folder.join("model.safetensors.index.json");
        let names = if index.exists() { indexed(&index)? } else { ["model.safetensors".to_owned()].into() };
        let mut checkpoint = Checkpoint { files: Vec::new(), tensors: HashMap::new() };
        for name in names {
            let file = folder.join(&name);
            if !file.exists() {
                return Err(missing(folder, file));
            }
            inside(folder, &file)?;
            checkpoint.add_file(file)?;
        }
        Ok(checkpoint)
    }

    fn add_file(&mut self, file: PathBuf) -> Result<(), EngineError> {
        let bad = |why: String| EngineError::Weights { file: file.clone(), why };
        let io = |source| EngineError::File { file: file.clone(), source };
        let mut handle = File::open(&file).map_err(io)?;
        let length = handle.metadata().map_err(io)?.len();
        let mut start = [0; 8];
        handle.read_exact(&mut start).map_err(|_| bad("is too short to be a safetensors file".into()))?;
        if start.starts_with(b"PK\x03\x04") || (start[0] == 0x80 && start[1] <= 5) {
            return Err(bad("is a pickle, which can run code; convert it to safetensors".into()));
        }
        let header = u64::from_le_bytes(start);
        if header > length - 8 {
            return Err(bad(format!("its header claims {header} bytes of a file of {length}")));
        }
        if header > MAX_HEADER {
            return Err(bad(format!("its header has {header} bytes; at most {MAX_HEADER} are read")));
        }
        let mut text = vec![0; header as usize];
        handle.read_exact(&mut text).map_err(io)?;
        let metadata = header::header(&text).map_err(|why| bad(format!("header: {why}")))?;
        let data = metadata.data_len() as u64;
        if data != length - 8 - header {
            return Err(bad(format!("holds {} bytes of data, its header says {data}", length - 8 - header)));
        }
        self.add(&file, &metadata, 8 + header)?;
        self.files.push(file);
        Ok(())
    }

    fn add(&mut self, file: &Path, metadata: &Metadata, data: u64) -> Result<(), EngineError> {
        let bad = |why: String| EngineError::Weights { file: file.to_owned(), why };
        for (name, info) in metadata.tensors() {
            let dtype = match info.dtype {
                Dtype::F32 => DType::F32,
                Dtype::F16 => DType::F16,
                Dtype::BF16 => DType::BF16,
                // Buffers of integers (position ids of old files) are nobody's weights.
                _ => continue,
            };
            let bytes = data + info.data_offsets.0 as u64..data + info.data_offsets.1 as u64;
            let tensor = Tensor { file: self.files.len(), dtype, shape: info.shape.clone(), bytes };
            if self.tensors.insert(name.clone(), tensor).is_some() {
                return Err(bad(format!("tensor {name} is also in another file")));
            }
        }
        Ok(())
    }

    fn bad(&self, file: usize, why: String) -> EngineError {
        EngineError::Weights { file: self.files[file].clone(), why }
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, EngineError> {
        self.tensors
            .get(name)
            .ok_or_else(|| self.bad(0, format!("tensor {name} is missing, or is not in bf16, f16 or f32")))
    }

    /// Lets `name` stand for the tensor `present` if there is none of that name.
    pub fn alias(&mut self, name: &str, present: &str) {
        if !self.tensors.contains_key(name)
            && let Some(tensor) = self.tensors.remove(present)
        {
            self.tensors.insert(name.to_owned(), tensor);
        }
    }

    /// The type of a tensor.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        self.tensors.get(name).map(|t| t.dtype)
    }

    /// Checks that the tensors of `source` make up the buffer.
    ///
    /// # Errors
    /// The tensor that is missing or of another shape.
    pub fn check(&self, source: &Source, desc: &BufferDesc) -> Result<(), EngineError> {
        let Source::Tensors(names) = source else { return Ok(()) };
        let rows = match desc.rows {
            Rows::Fixed(n) => n,
            _ => 0,
        };
        let mut found = 0;
        for name in names {
            let tensor = self.tensor(name)?;
            found += match tensor.shape[..] {
                // A vector is one row, and vectors together make one row.
                [n] if rows == 1 => n,
                [r, c] if rows > 1 || names.len() == 1 => {
                    if c != desc.cols {
                        let why = format!(
                            "tensor {name} has shape {:?}; the config wants {} columns",
                            tensor.shape, desc.cols
                        );
                        return Err(self.bad(tensor.file, why));
                    }
                    r
                }
                _ => {
                    let why = format!(
                        "tensor {name} has shape {:?}; the config wants {rows} rows of {}",
                        tensor.shape, desc.cols
                    );
                    return Err(self.bad(tensor.file, why));
                }
            };
        }
        let wanted = if rows == 1 && found != 1 { desc.cols } else { rows };
        if found != wanted {
            let tensor = self.tensor(&names[0])?;
            let why = format!("tensors {} hold {found} rows; the config wants {wanted}", names.join(", "));
            return Err(self.bad(tensor.file, why));
        }
        Ok(())
    }

    /// Reads the contents of a buffer in its own type and hands them over in pieces of whole rows, with
    /// the first row of each.
    ///
    /// # Errors
    /// A file that cannot be read, or values that the buffer's type cannot hold.
    pub fn load<E: From<EngineError>>(
        &self,
        names: &[String],
        desc: &BufferDesc,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let vector = desc.rows == Rows::Fixed(1);
        let mut whole = Vec::new();
        let mut row = 0;
        for name in names {
            let tensor = self.tensor(name)?;
            let width = if vector { 1 } else { desc.cols } * tensor.dtype.size();
            let step = (CHUNK / width).max(1) * width;
            let mut at = tensor.bytes.start;
            while at < tensor.bytes.end {
                let n = (step as u64).min(tensor.bytes.end - at);
                let bytes = self.read(tensor.file, at, n as usize)?;
                at += n;
                let converted = self.convert(name, tensor, bytes, desc.format)?;
                if vector {
                    whole.extend_from_slice(&converted);
                } else {
                    take(row, &converted)?;
                    row += n as usize / width;
                }
            }
        }
        if vector { take(0, &whole) } else { Ok(()) }
    }

    fn read(&self, file: usize, at: u64, n: usize) -> Result<Vec<u8>, EngineError> {
        let file = &self.files[file];
        let read = || {
            let mut handle = File::open(file)?;
            handle.seek(SeekFrom::Start(at))?;
            let mut bytes = vec![0; n];
            handle.read_exact(&mut bytes).map(|()| bytes)
        };
        read().map_err(|source| EngineError::File { file: file.clone(), source })
    }

    fn convert(
        &self,
        name: &str,
        tensor: &Tensor,
        bytes: Vec<u8>,
        to: Format,
    ) -> Result<Vec<u8>, EngineError> {
        if to == Format::Plain(tensor.dtype) {
            return Ok(bytes);
        }
        let values = tensor.dtype.decode(&bytes);
        let most = f32::from(half::f16::MAX);
        if to == Format::Plain(DType::F16)
            && let Some(v) = values.iter().find(|v| v.is_finite() && v.abs() > most)
        {
            let why = format!("tensor {name} holds {v}, which f16 cannot; hold the weights in float32");
            return Err(self.bad(tensor.file, why));
        }
        Ok(to.encode(&values))
    }
}

/// Made-up contents of a buffer, handed over like those of [`Checkpoint::load`]: norms are 1, all else
/// is uniform with the variance of the usual initialisation.
///
/// # Errors
/// What `take` returns.
pub fn dummy<E>(desc: &BufferDesc, mut take: impl FnMut(usize, &[u8]) -> Result<(), E>) -> Result<(), E> {
    let Rows::Fixed(rows) = desc.rows else { return Ok(()) };
    if rows == 1 {
        return take(0, &desc.format.encode(&vec![1.0; desc.cols]));
    }
    let seed = desc.name.bytes().fold(17, |h: u64, b| h.wrapping_mul(31).wrapping_add(u64::from(b)));
    let mut numbers = Numbers(seed);
    // A stretch of numbers, repeated: a model of billions of weights is filled in seconds.
    let stretch = ((1 << 16) / desc.cols).clamp(1, rows);
    let values: Vec<f32> = (0..stretch * desc.cols).map(|_| numbers.float() * 0.035).collect();
    let bytes = desc.format.encode(&values);
    for row in (0..rows).step_by(stretch) {
        let n = stretch.min(rows - row);
        take(row, &bytes[..n * desc.row_bytes()])?;
    }
    Ok(())
}

/// The files that an index names, each a plain name.
fn indexed(index: &Path) -> Result<BTreeSet<String>, EngineError> {
    let bad = |why: String| EngineError::Weights { file: index.to_owned(), why };
    let text = super::read_at_most(index, MAX_INDEX)?;
    let names = header::indexed_files(&text).map_err(bad)?;
    for name in &names {
        let mut parts = Path::new(name).components();
        let plain = matches!(parts.next(), Some(Component::Normal(_))) && parts.next().is_none();
        if !plain || name.contains('\\') {
            return Err(bad(format!("weight_map names {name:?}; only files beside the index are read")));
        }
        if !name.ends_with(".safetensors") {
            return Err(bad(format!("weight_map names {name:?}; only safetensors files are read")));
        }
    }
    Ok(names)
}

/// Refuses links that lead out of the folder, but for those of a hub cache (`snapshots/* -> blobs/`).
fn inside(folder: &Path, file: &Path) -> Result<(), EngineError> {
    let io = |source| EngineError::File { file: file.to_owned(), source };
    let (target, home) = (file.canonicalize().map_err(io)?, folder.canonicalize().map_err(io)?);
    let snapshots = home.parent().filter(|p| p.ends_with("snapshots"));
    let blobs = snapshots.and_then(Path::parent).map(|p| p.join("blobs"));
    if target.starts_with(&home) || blobs.is_some_and(|b| target.starts_with(b)) {
        return Ok(());
    }
    let why = format!("is a link to {}, outside its folder", target.display());
    Err(EngineError::Weights { file: file.to_owned(), why })
}

/// Says what is missing, and what is there in its place.
fn missing(folder: &Path, file: PathBuf) -> EngineError {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let pickle = entries
        .map(|e| e.path())
        .find(|p| p.extension().is_some_and(|e| ["bin", "pt", "pth", "ckpt"].iter().any(|x| e == *x)));
    match pickle {
        Some(file) => EngineError::Weights {
            file,
            why: "is a pickle, which can run code, and there is no model.safetensors; convert it to \
                  safetensors"
                .into(),
        },
        None => EngineError::Weights {
            file,
            why: "is missing; the load format dummy runs made-up weights".into(),
        },
    }
}
