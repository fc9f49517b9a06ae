//! The files that the names of an input stand for.

use crate::error::JobError;
use crate::input::source::Source;
use crate::store::location::{Location, ObjectUrl};
use crate::store::object::Object;
use crate::store::{self, bucket::Bucket, error::StoreError};
use glob::{MatchOptions, Pattern};
use std::cmp::Ordering;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Finds the files of names: files, globs and folders, here or in object stores.
///
/// # Errors
/// [`JobError::Usage`] for a glob that matches nothing or is malformed; [`JobError::Input`] for a folder without
/// `.parquet` files; [`JobError::Io`] and [`JobError::Store`].
pub fn resolve(names: &[String]) -> Result<Vec<Source>, JobError> {
    let mut buckets: HashMap<String, Arc<dyn Bucket>> = HashMap::new();
    let mut sources = Vec::new();
    for name in names {
        match Location::from(std::ffi::OsString::from(name)) {
            Location::Local(_) => sources.extend(local(name)?.into_iter().map(Source::local)),
            Location::Object(url) => {
                if !buckets.contains_key(&url.bucket) {
                    buckets.insert(url.bucket.clone(), store::open(&url)?);
                }
                sources.extend(objects_of(&buckets[&url.bucket], &url)?.into_iter().map(Source::Object));
            }
        }
    }
    Ok(sources)
}

/// The objects that a URL stands for: the one of that name, those that match it, or those of that folder.
fn objects_of(bucket: &Arc<dyn Bucket>, url: &ObjectUrl) -> Result<Vec<Object>, JobError> {
    let object = |version: store::bucket::ObjectVersion| Object {
        bucket: bucket.clone(),
        url: url.with_key(version.key.clone()),
        version,
    };
    if let Some(wild) = url.key.find(['*', '?', '[']) {
        let folder = url.key[..wild].rsplit_once('/').map_or("", |(folder, _)| folder);
        let pattern =
            Pattern::new(&url.key).map_err(|error| JobError::Usage(format!("--input {url}: {error}")))?;
        let mut found = bucket.list(folder, url.key[wild..].contains('/'))?;
        // As for paths: an object of exactly that name comes first, and a `*` ends at a slash.
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let exact = found.iter().any(|version| version.key == url.key);
        found.retain(|version| {
            if exact { version.key == url.key } else { pattern.matches_with(&version.key, options) }
        });
        if found.is_empty() {
            return Err(JobError::Usage(format!("--input {url}: no object matches")));
        }
        found.sort_by(|a, b| natural(&a.key, &b.key));
        return Ok(found.into_iter().map(object).collect());
    }
    if !url.key.is_empty()
        && let Some(version) = bucket.head(&url.key)?
    {
        return Ok(vec![object(version)]);
    }
    let mut found = bucket.list(&url.key, false)?;
    found.retain(|version| is_parquet(url.with_key(version.key.clone()).name()));
    found.sort_by(|a, b| natural(&a.key, &b.key));
    if found.is_empty() {
        return Err(JobError::Store { doing: "find", url: url.to_string(), error: StoreError::NoObject });
    }
    Ok(found.into_iter().map(object).collect())
}

/// The files that a path stands for.
fn local(name: &str) -> Result<Vec<PathBuf>, JobError> {
    let path = Path::new(name);
    if path.is_dir() {
        let found = parquet_files(path)?;
        if found.is_empty() {
            let why = "is a folder without .parquet files".into();
            return Err(JobError::Input { path: path.to_path_buf(), place: String::new(), why });
        }
        return Ok(found);
    }
    if path.exists() || !name.contains(['*', '?', '[']) {
        return Ok(vec![path.to_path_buf()]);
    }
    let pattern = glob::glob(name).map_err(|e| JobError::Usage(format!("--input {name}: {e}")))?;
    let mut found: Vec<PathBuf> = pattern
        .collect::<Result<_, _>>()
        .map_err(|e| JobError::io("list the input", e.path().to_path_buf())(e.into()))?;
    let mut files = Vec::new();
    for path in found.drain(..) {
        if !is_folder(&path)? {
            files.push(path);
        }
    }
    found = files;
    if found.is_empty() {
        return Err(JobError::Usage(format!("--input {name}: no file matches")));
    }
    found.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(found)
}

/// Whether it is a folder. What cannot be looked at is not left out, and what is neither file nor folder is refused when
/// it is opened.
fn is_folder(path: &Path) -> Result<bool, JobError> {
    std::fs::metadata(path).map(|metadata| metadata.is_dir()).map_err(JobError::io("look at the input", path))
}

/// Whether a name in a folder is that of an input; names that begin with `.` or `_` are not.
fn is_parquet(name: &str) -> bool {
    name.ends_with(".parquet") && !name.starts_with(['.', '_'])
}

/// The `.parquet` files of a folder in natural order.
fn parquet_files(folder: &Path) -> Result<Vec<PathBuf>, JobError> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(JobError::io("list the input", folder))? {
        let path = entry.map_err(JobError::io("list the input", folder))?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if is_parquet(&name) && !is_folder(&path)? {
            found.push(path);
        }
    }
    found.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
    Ok(found)
}

/// Compares names so that `part-9` comes before `part-10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut x, mut y) = (a, b);
    while let (Some(c), Some(d)) = (x.chars().next(), y.chars().next()) {
        let order = if c.is_ascii_digit() && d.is_ascii_digit() {
            let (m, n) = (number(&mut x), number(&mut y));
            m.len().cmp(&n.len()).then_with(|| m.cmp(n))
        } else {
            x = &x[c.len_utf8()..];
            y = &y[d.len_utf8()..];
            c.cmp(&d)
        };
        if order.is_ne() {
            return order;
        }
    }
    x.len().cmp(&y.len()).then_with(|| a.cmp(b))
}

/// Takes a number off the front, without its leading zeros.
fn number<'a>(text: &mut &'a str) -> &'a str {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, rest) = text.split_at(end);
    *text = rest;
    digits.trim_start_matches('0')
}
