//! The weights of a model: its tensors by name, checked before anything is allocated and read in pieces.
//!
//! Each file format has a file here that hands over the tensors of a file of weights. All else is common.

mod convert;
mod dummy;
mod fp8;
mod index;
mod safetensors;
mod source;

pub use dummy::dummy;
pub use fp8::Fp8;
pub use source::{Source, Transform};

use super::files;
use crate::dtype::DType;
use crate::error::EngineError;
use crate::file::{OpenFile, VerifiedFile};
use crate::format::Format;
use crate::plan::{BufferDesc, Rows};
use convert::{convert, encode};
use fp8::{KV_SCALES, SCALES, Scales};
use std::collections::HashMap;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that are read and handed to the device at once.
const CHUNK: usize = 16 << 20;

/// A tensor's place: its elements lie row by row in a range of a file.
pub struct Tensor {
    file: Arc<VerifiedFile>,
    stored: Stored,
    shape: Vec<usize>,
    bytes: Range<u64>,
}

/// How the elements of a tensor are stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stored {
    Plain(DType),
    /// FP8: [`fp8`].
    E4m3,
}

impl Stored {
    /// Bytes of an element.
    fn size(self) -> usize {
        match self {
            Stored::Plain(dtype) => dtype.size(),
            Stored::E4m3 => 1,
        }
    }
}

/// The weights of a model.
pub struct Checkpoint {
    /// The file that names all the others, for messages.
    main: PathBuf,
    files: Vec<Arc<VerifiedFile>>,
    tensors: HashMap<String, Tensor>,
    fp8: Fp8,
}

impl Checkpoint {
    /// Reads the headers of a folder's `model.safetensors`, or of the files that its index names. `fp8`: how its FP8
    /// weights are scaled, if it has any.
    ///
    /// # Errors
    /// Files that are missing, outside the folder, malformed or of another format.
    pub fn open(folder: &Path, fp8: Fp8) -> Result<Checkpoint, EngineError> {
        let index = folder.join("model.safetensors.index.json");
        let (main, names) = if files::exists(&index)? {
            files::inside(folder, &index)?;
            let names = index::indexed(&index)?;
            (index, names)
        } else {
            (folder.join("model.safetensors"), ["model.safetensors".to_owned()].into())
        };
        let mut checkpoint = Checkpoint { main, files: Vec::new(), tensors: HashMap::new(), fp8 };
        for name in names {
            let file = folder.join(&name);
            if !files::exists(&file)? {
                return Err(files::missing(folder, file));
            }
            files::inside(folder, &file)?;
            let file = Arc::new(VerifiedFile::new(file));
            checkpoint.add(file.path(), safetensors::tensors(&file)?)?;
            checkpoint.files.push(file);
        }
        Ok(checkpoint)
    }

    /// Its files. Once they are digested, only tensors of these bytes are loaded.
    pub fn files(&self) -> &[Arc<VerifiedFile>] {
        &self.files
    }

    fn add(&mut self, file: &Path, tensors: Vec<(String, Tensor)>) -> Result<(), EngineError> {
        for (name, tensor) in tensors {
            if self.tensors.contains_key(&name) {
                let why = format!("tensor {name} is also in another file");
                return Err(EngineError::Weights { file: file.to_owned(), why });
            }
            self.tensors.insert(name, tensor);
        }
        Ok(())
    }

    fn tensor(&self, name: &str) -> Result<&Tensor, EngineError> {
        self.tensors.get(name).ok_or_else(|| {
            let why = format!("tensor {name} is missing, or is not in bf16, f16, f32 or FP8 (e4m3)");
            EngineError::Weights { file: self.main.clone(), why }
        })
    }

    /// Lets `name` stand for the tensor `present` if there is none of that name.
    pub fn alias(&mut self, name: &str, present: &str) {
        if !self.tensors.contains_key(name)
            && let Some(tensor) = self.tensors.remove(present)
        {
            self.tensors.insert(name.to_owned(), tensor);
        }
    }

    /// Whether there are tensors of both names, and they do not hold the same.
    ///
    /// # Errors
    /// A file that cannot be read.
    pub fn holds_both(&self, one: &str, other: &str) -> Result<bool, EngineError> {
        let (Some(one), Some(other)) = (self.tensors.get(one), self.tensors.get(other)) else {
            return Ok(false);
        };
        if (one.stored, &one.shape) != (other.stored, &other.shape) {
            return Ok(true);
        }
        let length = one.bytes.end - one.bytes.start;
        let (one_file, other_file) = (one.open()?, other.open()?);
        for at in (0..length).step_by(CHUNK) {
            let n = (CHUNK as u64).min(length - at);
            let range = |tensor: &Tensor| tensor.bytes.start + at..tensor.bytes.start + at + n;
            if one_file.read(range(one))? != other_file.read(range(other))? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// The format that holds the tensors of a matrix as they are stored; none if they are stored in several, or in FP8
    /// with scales for blocks of another width than [`crate::format::FP8_BLOCK`].
    pub fn format(&self, names: &[String]) -> Option<Format> {
        let stored = |name: &String| match self.tensors.get(name)?.stored {
            Stored::Plain(dtype) => Some(Format::Plain(dtype)),
            Stored::E4m3 => self.scales(name).ok()??.0.format(),
        };
        let first = stored(names.first()?)?;
        names.iter().all(|name| stored(name) == Some(first)).then_some(first)
    }

    /// The type of a tensor; none of FP8.
    pub fn dtype(&self, name: &str) -> Option<DType> {
        match self.tensors.get(name)?.stored {
            Stored::Plain(dtype) => Some(dtype),
            Stored::E4m3 => None,
        }
    }

    /// The first scale of keys or values in FP8, by name, if there are such.
    pub fn kv_scale(&self) -> Option<&str> {
        let names = self.tensors.keys().map(String::as_str);
        names.filter(|name| KV_SCALES.iter().any(|end| name.ends_with(end))).min()
    }

    /// The scales of a tensor, not read yet, with their tensor and its name; none of a plain tensor.
    fn scales(&self, name: &str) -> Result<Option<(Scales, &Tensor, String)>, EngineError> {
        let tensor = self.tensor(name)?;
        if tensor.stored != Stored::E4m3 {
            return Ok(None);
        }
        let named = SCALES.iter().map(|end| format!("{name}{end}"));
        let Some((scale_name, scales)) =
            named.filter_map(|n| Some((n.clone(), self.tensors.get(&n)?))).next()
        else {
            return Err(tensor.bad(
                name,
                "is in FP8 and there is no tensor of its scales (weight_scale, weight_scale_inv)",
            ));
        };
        let layout = Scales::layout(scales, &scale_name, &tensor.shape, self.fp8)?;
        Ok(Some((layout, scales, scale_name)))
    }

    /// Checks that the tensors of `source` make up the buffer.
    ///
    /// # Errors
    /// The tensor that is missing or of another shape.
    pub fn check(&self, source: &Source, desc: &BufferDesc) -> Result<(), EngineError> {
        let (Source::Tensors { names, .. }, Rows::Fixed(rows)) = (source, desc.rows) else { return Ok(()) };
        let mut found = 0;
        for name in names {
            let tensor = self.tensor(name)?;
            let fits = match tensor.shape[..] {
                // Vectors together make one row.
                [_] => rows == 1,
                [_, cols] => cols == desc.cols && (rows > 1 || names.len() == 1),
                _ => false,
            };
            if !fits {
                let (shape, cols) = (&tensor.shape, desc.cols);
                let why = format!("has shape {shape:?}; the config wants {rows} rows of {cols}");
                return Err(tensor.bad(name, &why));
            }
            self.scales(name)?;
            found += tensor.shape.iter().product::<usize>();
        }
        if found != rows * desc.cols {
            let (name, count) = (names.join(", "), desc.cols);
            let why = format!("holds {found} elements; the config wants {rows} rows of {count}");
            return Err(self.tensor(&names[0])?.bad(&name, &why));
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
        transform: Transform,
        desc: &BufferDesc,
        mut take: impl FnMut(usize, &[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let vector = desc.rows == Rows::Fixed(1);
        let (cols, as_stored) = (desc.cols, self.format(names) == Some(desc.format));
        let mut whole = Vec::new();
        let mut row = 0;
        for name in names {
            let tensor = self.tensor(name)?;
            let scales = match self.scales(name)? {
                Some((layout, scales, name)) => Some(layout.read(scales, &name)?),
                None => None,
            };
            let first = row;
            let width = if vector { 1 } else { cols } * tensor.stored.size();
            let step = (CHUNK / width).max(1) * width;
            let mut at = tensor.bytes.start;
            let open = tensor.open()?;
            while at < tensor.bytes.end {
                let n = (step as u64).min(tensor.bytes.end - at) as usize;
                let bytes = open.read(at..at + n as u64).map_err(EngineError::from)?;
                at += n as u64;
                let converted = match (tensor.stored, &scales) {
                    (Stored::Plain(dtype), _) => convert(bytes, dtype, desc.format, cols, transform),
                    (Stored::E4m3, Some(scales)) if as_stored && transform == Transform::None => {
                        scales.rows(row - first, cols, &bytes, desc.format)
                    }
                    (Stored::E4m3, Some(scales)) => {
                        encode(scales.widen(row - first, cols, &bytes), desc.format, cols, transform)
                    }
                    (Stored::E4m3, None) => Err("is in FP8 without scales".into()),
                };
                let converted = converted.map_err(|why| tensor.bad(name, &why))?;
                if vector {
                    whole.extend_from_slice(&converted);
                } else {
                    take(row, &converted)?;
                    row += n / width;
                }
            }
        }
        if vector { take(0, &whole) } else { Ok(()) }
    }
}

impl Tensor {
    fn bad(&self, name: &str, why: &str) -> EngineError {
        EngineError::Weights { file: self.file.path().to_path_buf(), why: format!("tensor {name} {why}") }
    }

    fn open(&self) -> Result<OpenFile, EngineError> {
        Ok(self.file.open()?)
    }
}
