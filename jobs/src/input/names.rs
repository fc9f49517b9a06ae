//! The files that the names of an input stand for.

use crate::error::JobError;
use crate::input::format::{InputFormat, ending, format_of_folder, names_of_format};
use crate::input::found::Found;
use crate::input::own::{OwnOutput, is_state_dir};
use crate::input::partitions::partition_of;
use crate::input::source::Source;
use crate::log::note;
use crate::store::location::{Location, ObjectUrl, refuse_malformed_url};
use crate::store::object::Object;
use crate::store::{self, bucket::Bucket, bucket::ObjectVersion, error::StoreError};
use glob::{MatchOptions, Pattern};
use std::cmp::Ordering;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Folders within folders are searched so deep.
const DEPTH: usize = 64;

/// What makes a name a glob.
const WILD: [char; 3] = ['*', '?', '['];

/// How names are searched.
#[derive(Clone, Debug, Default)]
pub struct Search {
    /// The format of all files; by their names if there is none.
    pub format: Option<InputFormat>,
    /// What is left out where it is found, and refused where it is named.
    pub own: OwnOutput,
    /// Whether files without rows may say nothing of columns, as an output of no rows.
    pub also_empty: bool,
}

impl Search {
    /// A search for an output, which may have no rows.
    pub fn also_empty() -> Search {
        Search { also_empty: true, ..Search::default() }
    }

    /// Finds the files of names: files, globs and folders, here or in object stores.
    ///
    /// # Errors
    /// [`JobError::Usage`] for a glob that matches nothing or is malformed, and for the job's own output;
    /// [`JobError::Input`] for a folder without files to read; [`JobError::Io`] and [`JobError::Store`].
    pub fn find(&self, names: &[String]) -> Result<Vec<Found>, JobError> {
        let mut buckets: HashMap<String, Arc<dyn Bucket>> = HashMap::new();
        let mut found = Vec::new();
        for (at, name) in names.iter().enumerate() {
            refuse_malformed_url(name).map_err(|why| JobError::Usage(format!("--input {why}")))?;
            match Location::from(std::ffi::OsString::from(name)) {
                Location::Local(_) => found.extend(self.local(name, at)?),
                Location::Object(url) => {
                    if !buckets.contains_key(&url.bucket) {
                        buckets.insert(url.bucket.clone(), store::open(&url)?);
                    }
                    found.extend(self.objects(&buckets[&url.bucket], &url, at)?);
                }
            }
        }
        refuse_twice(&found)?;
        Ok(found)
    }

    /// The objects that a URL stands for: the one of that name, those that match it, or those of that folder.
    fn objects(&self, bucket: &Arc<dyn Bucket>, url: &ObjectUrl, at: usize) -> Result<Vec<Found>, JobError> {
        let name = url.to_string();
        let of = |version: ObjectVersion, searched, partition| {
            let url = url.with_key(version.key.clone());
            Found {
                source: Source::Object(Object { bucket: bucket.clone(), url, version }),
                searched,
                partition,
            }
        };
        if !url.key.contains(WILD)
            && !url.key.is_empty()
            && let Some(version) = bucket.head(&url.key)?
        {
            let found = of(version, None, Vec::new());
            return if self.own.has_object(url) { Err(self.own.refusal(&name)) } else { Ok(vec![found]) };
        }
        // The keys that are found have this in common; partitions stand in the rest.
        let (common, mut versions) = match url.key.find(WILD) {
            Some(wild) => {
                let folder = url.key[..wild].rsplit_once('/').map_or("", |(folder, _)| folder);
                (folder, self.matching(bucket, url, folder, url.key[wild..].contains('/'))?)
            }
            None => (&*url.key, bucket.list(&url.key, true)?),
        };
        versions.retain(|version| !self.leaves_out(&url.with_key(&*version.key)));
        if !url.key.contains(WILD) {
            versions = self.in_folder(&name, common, versions)?;
        }
        if versions.is_empty() {
            return Err(match url.key.contains(WILD) {
                true => JobError::Usage(format!("--input {url}: no object matches")),
                false => JobError::Store { doing: "find", url: name, error: StoreError::NoObject },
            });
        }
        versions.sort_by(|a, b| natural(&a.key, &b.key));
        let found = versions.into_iter().map(|version| {
            let below = below(&version.key, common);
            let partition =
                partition_of(below.split('/').rev().skip(1).collect::<Vec<_>>().into_iter().rev())?;
            Ok(of(version, Some(at), partition))
        });
        found.collect()
    }

    fn matching(
        &self,
        bucket: &Arc<dyn Bucket>,
        url: &ObjectUrl,
        folder: &str,
        deep: bool,
    ) -> Result<Vec<ObjectVersion>, JobError> {
        let pattern =
            Pattern::new(&url.key).map_err(|error| JobError::Usage(format!("--input {url}: {error}")))?;
        let mut found = bucket.list(folder, deep)?;
        // As for paths: an object of exactly that name comes first, and a `*` ends at a slash.
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        let exact = found.iter().any(|version| version.key == url.key);
        found.retain(|version| {
            let folders = below(&version.key, folder).split('/').rev().skip(1);
            let matches = pattern.matches_with(&version.key, options);
            if exact { version.key == url.key } else { matches && !folders.into_iter().any(is_state_dir) }
        });
        Ok(found)
    }

    fn in_folder(
        &self,
        name: &str,
        folder: &str,
        mut found: Vec<ObjectVersion>,
    ) -> Result<Vec<ObjectVersion>, JobError> {
        found.retain(|version| {
            let mut parts = below(&version.key, folder).split('/').rev();
            let file = parts.next().unwrap_or_default();
            !is_hidden(file, false) && !parts.any(|part| is_hidden(part, true) || is_state_dir(part))
        });
        let names = found.iter().map(|version| version.key.as_str());
        let names: Vec<String> = names.map(String::from).collect();
        let Some(format) = self.format_of(name, &names)? else { return Ok(Vec::new()) };
        let read = names_of_format(format, names.iter().map(String::as_str));
        found.retain(|version| read(&version.key));
        Ok(found)
    }

    /// Whether a found object is the job's own.
    fn leaves_out(&self, url: &ObjectUrl) -> bool {
        let own = self.own.has_object(url);
        if own {
            note!("input: left out {url}, which the job itself writes");
        }
        own
    }

    /// The files that a path stands for.
    fn local(&self, name: &str, at: usize) -> Result<Vec<Found>, JobError> {
        let path = Path::new(name);
        let exists = path.exists();
        if exists && self.own.has_path(path) {
            return Err(self.own.refusal(name));
        }
        if path.is_dir() {
            let found = self.files_in(path, name)?;
            if found.is_empty() {
                let why = "is a folder without .parquet files, or others of a format that is read".into();
                return Err(JobError::Input { path: path.to_path_buf(), place: String::new(), why });
            }
            return found.into_iter().map(|found| searched(found, path, at)).collect();
        }
        if exists || !name.contains(WILD) {
            let source = Source::local(path);
            return Ok(vec![Found { source, searched: None, partition: Vec::new() }]);
        }
        let pattern = glob::glob(name).map_err(|e| JobError::Usage(format!("--input {name}: {e}")))?;
        let mut found: Vec<PathBuf> = pattern
            .collect::<Result<_, _>>()
            .map_err(|e| JobError::io("list the input", e.path().to_path_buf())(e.into()))?;
        let wild = |part: &Component<'_>| part.as_os_str().to_string_lossy().contains(WILD);
        let common: PathBuf = path.components().take_while(|part| !wild(part)).collect();
        found.retain(|path| {
            !folders_below(path, &common).iter().any(|f| is_state_dir(f)) && !self.is_own(path)
        });
        let mut files = Vec::with_capacity(found.len());
        for path in found {
            if !is_folder(&path)? {
                files.push(path);
            }
        }
        let mut found = files;
        if found.is_empty() {
            return Err(JobError::Usage(format!("--input {name}: no file matches")));
        }
        found.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
        found.into_iter().map(|found| searched(found, &common, at)).collect()
    }

    /// Whether a found path is the job's own output.
    fn is_own(&self, path: &Path) -> bool {
        let own = self.own.has_path(path);
        if own {
            note!("input: left out {}, which the job itself writes", path.display());
        }
        own
    }

    /// The files of a folder and its folders in natural order.
    fn files_in(&self, folder: &Path, name: &str) -> Result<Vec<PathBuf>, JobError> {
        let mut found = Vec::new();
        self.walk(folder, 0, &mut found)?;
        let names: Vec<String> = found.iter().map(|path| path.to_string_lossy().into_owned()).collect();
        let Some(format) = self.format_of(name, &names)? else { return Ok(Vec::new()) };
        let read = names_of_format(format, names.iter().map(String::as_str));
        found.retain(|path| read(&path.to_string_lossy()));
        found.sort_by(|a, b| natural(&a.to_string_lossy(), &b.to_string_lossy()));
        Ok(found)
    }

    fn walk(&self, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), JobError> {
        let failed = JobError::io("list the input", folder);
        if depth > DEPTH {
            return Err(failed(std::io::Error::other(format!(
                "folders lie {DEPTH} deep; is one a link to itself?"
            ))));
        }
        let entries = std::fs::read_dir(folder).and_then(|entries| entries.collect::<Result<Vec<_>, _>>());
        for path in entries.map_err(failed)?.into_iter().map(|entry| entry.path()) {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            let known = InputFormat::of_name(&name).is_some();
            let folder = match is_folder(&path) {
                Err(error) if known && !is_hidden(&name, false) => return Err(error),
                folder => folder.unwrap_or(false),
            };
            if is_hidden(&name, folder) || (folder && is_state_dir(&name)) {
                continue;
            }
            if folder {
                if !self.is_own(&path) {
                    self.walk(&path, depth + 1, found)?;
                }
            } else if known && !self.is_own(&path) {
                found.push(path);
            }
        }
        Ok(())
    }

    /// The format whose files a folder stands for.
    fn format_of(&self, folder: &str, names: &[String]) -> Result<Option<InputFormat>, JobError> {
        if self.format.is_some() {
            return Ok(self.format);
        }
        let format = format_of_folder(names.iter().map(String::as_str)).map_err(|formats| {
            let names: Vec<_> = formats.iter().map(|format| format.name()).collect();
            JobError::Usage(format!(
                "--input {folder}: the folder has files of several formats ({}); name one with --input-format",
                names.join(", ")
            ))
        })?;
        // What is in `.json` often describes the others.
        let data = names.iter().filter(|name| ending(name).as_deref() != Some("json"));
        let others =
            data.filter_map(|name| InputFormat::of_name(name)).filter(|&other| Some(other) != format);
        if let (Some(format), n @ 1..) = (format, others.count()) {
            note!("input: {folder}: only its {} files are read; it has {n} of other formats", format.name());
        }
        Ok(format)
    }
}

/// Whether it is a folder. What cannot be looked at is not left out, and what is neither file nor folder is refused when
/// it is opened.
fn is_folder(path: &Path) -> Result<bool, JobError> {
    std::fs::metadata(path).map(|metadata| metadata.is_dir()).map_err(JobError::io("look at the input", path))
}

/// A file that was found below a folder.
fn searched(path: PathBuf, common: &Path, at: usize) -> Result<Found, JobError> {
    let folders = folders_below(&path, common);
    let partition = partition_of(folders.iter().map(String::as_str))?;
    Ok(Found { source: Source::local(path), searched: Some(at), partition })
}

/// The names of the folders between a folder and a file below it.
fn folders_below(path: &Path, common: &Path) -> Vec<String> {
    let parts = |path: &Path| {
        let parts = path.components().filter(|part| *part != Component::CurDir);
        parts.map(|part| part.as_os_str().to_string_lossy().into_owned()).collect::<Vec<_>>()
    };
    let (mut parts, common) = (parts(path), parts(common));
    parts.pop();
    if parts.starts_with(&common) { parts.split_off(common.len()) } else { parts }
}

/// A key without the folder that it is in.
fn below<'a>(key: &'a str, folder: &str) -> &'a str {
    key.strip_prefix(folder).unwrap_or(key).trim_start_matches('/')
}

/// Whether an entry of a folder is not meant to be read: one that begins with `.`, or with `_` unless it is a folder
/// that names a column.
fn is_hidden(name: &str, folder: bool) -> bool {
    name.starts_with('.') || (name.starts_with('_') && !(folder && name.contains('=')))
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

/// Refuses a file that two names stand for: its rows would be answered twice. Links are files of their own.
fn refuse_twice(found: &[Found]) -> Result<(), JobError> {
    let mut seen = HashSet::new();
    let twice = found.iter().map(|found| found.source.name()).find(|name| {
        let (folder, file) = (name.parent().unwrap_or(Path::new("")), name.file_name());
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let place = match (folder.canonicalize(), file) {
            (Ok(folder), Some(file)) => folder.join(file),
            // An object, or a file that is not there, which is said elsewhere.
            _ => name.clone(),
        };
        !seen.insert(place)
    });
    match twice {
        Some(name) => Err(JobError::Usage(format!(
            "--input: {} is named twice, so that its rows would be answered twice; name it once",
            name.display()
        ))),
        None => Ok(()),
    }
}
