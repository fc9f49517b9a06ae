//! Safetensors files. A header is read entry by entry, so that a hostile one takes no more memory than its limits.

use super::{Stored, Tensor};
use crate::dtype::DType;
use crate::error::EngineError;
use crate::file::VerifiedFile;
use crate::models::files;
use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The maximum number of tensors in a file: real ones hold some thousands.
const MAX_TENSORS: usize = 50_000;
/// The maximum number of dimensions of a tensor.
const MAX_RANK: usize = 8;
/// The longest header that is read: real ones take a few hundred KB, and parsed it takes many times as much.
const MAX_HEADER: u64 = 8 << 20;

/// Reads the header of a file: its tensors by name. Those of integers (position ids of old files) are left out,
/// for they are no weights.
///
/// # Errors
/// A file that cannot be read, is malformed or of another format.
pub fn tensors(file: &Arc<VerifiedFile>) -> Result<Vec<(String, Tensor)>, EngineError> {
    let bad = |why: String| EngineError::Weights { file: file.path().to_owned(), why };
    let open = file.open()?;
    let length = open.size();
    if length < 8 {
        return Err(bad("is too short to be a safetensors file".into()));
    }
    let mut start = [0; 8];
    start.copy_from_slice(&open.read(0..8)?);
    if let Some(why) = files::refused_start(start) {
        return Err(bad(why.into()));
    }
    let size = u64::from_le_bytes(start);
    if size > length - 8 {
        return Err(bad(format!("its header claims {size} bytes of a file of {length}")));
    }
    if size > MAX_HEADER {
        return Err(bad(format!("its header has {size} bytes; at most {MAX_HEADER} are read")));
    }
    let text = open.read(8..8 + size)?;
    let metadata = header(&text).map_err(|why| bad(format!("header: {why}")))?;
    let (data, rest) = (metadata.data_len() as u64, length - 8 - size);
    if data != rest {
        return Err(bad(format!("holds {rest} bytes of data, its header says {data}")));
    }
    let place = |(name, info): (String, &TensorInfo)| {
        let stored = match info.dtype {
            Dtype::F32 => Stored::Plain(DType::F32),
            Dtype::F16 => Stored::Plain(DType::F16),
            Dtype::BF16 => Stored::Plain(DType::BF16),
            Dtype::F8_E4M3 => Stored::E4m3,
            _ => return None,
        };
        let (from, to) = info.data_offsets;
        let bytes = 8 + size + from as u64..8 + size + to as u64;
        Some((name, Tensor { file: file.clone(), stored, shape: info.shape.clone(), bytes }))
    };
    Ok(metadata.tensors().into_iter().filter_map(place).collect())
}

/// Reads the header of a safetensors file and checks its ranges: in order, without gaps or overlaps, shapes that fit.
///
/// # Errors
/// What is wrong with it.
fn header(json: &[u8]) -> Result<Metadata, String> {
    let Header(tensors) = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let mut tensors: Vec<(String, TensorInfo)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(None, tensors).map_err(|e| e.to_string())
}

struct Header(BTreeMap<String, TensorInfo>);

impl<'de> Deserialize<'de> for Header {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Header;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of tensors")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Header, A::Error> {
                let mut tensors = BTreeMap::new();
                while let Some(name) = map.next_key::<String>()? {
                    if name == "__metadata__" {
                        map.next_value::<IgnoredAny>()?;
                        continue;
                    }
                    let Entry { dtype, shape, data_offsets } = map.next_value()?;
                    let info = TensorInfo { dtype, shape: shape.0, data_offsets };
                    if let Some((name, _)) = tensors.get_key_value(&name) {
                        return Err(A::Error::custom(format!("tensor {name} is there twice")));
                    }
                    tensors.insert(name, info);
                    if tensors.len() > MAX_TENSORS {
                        return Err(A::Error::custom(format!("more than {MAX_TENSORS} tensors")));
                    }
                }
                Ok(Header(tensors))
            }
        }
        json.deserialize_map(Entries)
    }
}

#[derive(serde::Deserialize)]
struct Entry {
    dtype: Dtype,
    shape: Shape,
    data_offsets: (usize, usize),
}

struct Shape(Vec<usize>);

impl<'de> Deserialize<'de> for Shape {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Dimensions;
        impl<'de> Visitor<'de> for Dimensions {
            type Value = Shape;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of dimensions")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Shape, A::Error> {
                let mut shape = Vec::new();
                while let Some(size) = list.next_element()? {
                    shape.push(size);
                    if shape.len() > MAX_RANK {
                        return Err(A::Error::custom(format!("a shape of more than {MAX_RANK} dimensions")));
                    }
                }
                Ok(Shape(shape))
            }
        }
        json.deserialize_seq(Dimensions)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tensors_are_read_in_the_order_of_their_bytes() {
        let json = br#"{"b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]},"__metadata__":{"format":"pt"},
                        "a":{"data_offsets":[0,8],"shape":[2,1],"dtype":"F32","more":[[1]]}}"#;
        let metadata = header(json).unwrap_or_else(|why| panic!("{why}"));
        assert_eq!((metadata.tensors().len(), metadata.data_len()), (2, 12));
        for (json, why) in [
            (r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4]},"a":null}"#, "invalid type"),
            (
                r#"{"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}"#,
                "tensor a is there twice",
            ),
            (
                r#"{"a":{"dtype":"U8","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,1]}}"#,
                "more than 8 dimensions",
            ),
            (r#"{"a":{"dtype":"U8","shape":[2],"data_offsets":[0,1]}}"#, "a"),
        ] {
            let error = header(json.as_bytes()).err().unwrap_or_default();
            assert!(error.contains(why), "{error}");
        }
    }
}
