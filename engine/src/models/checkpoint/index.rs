//! The index of a model in several safetensors files, read entry by entry.

use crate::error::EngineError;
use crate::models::files::read_capped;
use serde::de::{Deserialize, Deserializer, Error, IgnoredAny, MapAccess, Visitor};
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Component, Path};

/// The longest index that is read: that of the largest models has 9 MB.
const MAX_INDEX: u64 = 16 << 20;
/// The maximum number of files that an index names.
const MAX_FILES: usize = 10_000;

/// The files that an index names, each a plain name.
///
/// # Errors
/// What is wrong with it.
pub fn indexed(index: &Path) -> Result<BTreeSet<String>, EngineError> {
    let bad = |why: String| EngineError::Weights { file: index.to_owned(), why };
    let text = read_capped(index, MAX_INDEX)?;
    let names = files(&text).map_err(bad)?;
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

/// The files that the index of a sharded model names. What tensor is where, the files say themselves.
fn files(json: &[u8]) -> Result<BTreeSet<String>, String> {
    #[derive(serde::Deserialize)]
    struct Index {
        weight_map: Files,
    }
    let index: Index = serde_json::from_slice(json).map_err(|e| e.to_string())?;
    Ok(index.weight_map.0)
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
