//! What JSON files of weights say, read entry by entry, so that a hostile file takes no more memory than its limits.

use ::safetensors::tensor::{Dtype, Metadata, TensorInfo};
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

/// The most tensors in a file: real ones hold some thousands.
const MAX_TENSORS: usize = 50_000;
/// The most dimensions of a tensor.
const MAX_RANK: usize = 8;
/// The most files that an index names.
const MAX_FILES: usize = 10_000;

/// Reads the header of a safetensors file and checks its ranges: in order, without gaps or overlaps, shapes that fit.
///
/// # Errors
/// What is wrong with it.
pub fn header(json: &[u8]) -> Result<Metadata, String> {
    let Header(tensors) = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    let mut tensors: Vec<(String, TensorInfo)> = tensors.into_iter().collect();
    tensors.sort_by_key(|(_, info)| info.data_offsets);
    Metadata::new(None, tensors).map_err(|e| e.to_string())
}

/// The files that the index of a sharded model names. What tensor is where, the files say themselves.
///
/// # Errors
/// What is wrong with it.
pub fn indexed_files(json: &[u8]) -> Result<BTreeSet<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Files,
    }
    let index: Index = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    Ok(index.weight_map.0)
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

/// The distinct values of a map.
struct Files(BTreeSet<String>);

impl<'de> Deserialize<'de> for Files {
    fn deserialize<D: Deserializer<'de>>(json: D) -> Result<Self, D::Error> {
        struct Values;
        impl<'de> Visitor<'de> for Values {
            type Value = Files;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map from tensors to files")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Files, A::Error> {
                let mut files = BTreeSet::new();
                while let Some((_, file)) = map.next_entry::<IgnoredAny, String>()? {
                    files.insert(file);
                    if files.len() > MAX_FILES {
                        return Err(A::Error::custom(format!("more than {MAX_FILES} files")));
                    }
                }
                Ok(Files(files))
            }
        }
        json.deserialize_map(Values)
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
