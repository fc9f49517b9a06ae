//! Names of inputs and outputs: paths of this machine, or objects of a store.

use crate::error::JobError;
use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

/// Where something is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Location {
    Local(PathBuf),
    Object(ObjectUrl),
}

/// Schemes of URLs. Whoever writes one of them with a colon behind it does not mean a file of that name.
const SCHEMES: [&str; 16] = [
    "s3", "s3a", "gs", "gcs", "az", "azure", "adl", "abfs", "abfss", "wasb", "wasbs", "http", "https", "ftp",
    "hdfs", "file",
];

/// Refuses a path that is a URL, well made or not, where only a path can be.
///
/// # Errors
/// Why it is no path.
pub fn refuse_url(text: &str) -> Result<(), String> {
    match text.split_once(':').filter(|(scheme, _)| is_scheme(scheme)) {
        Some(_) => {
            Err(format!("{text} is a URL, and this takes a path of this machine; ./{text} is a path, too"))
        }
        None => Ok(()),
    }
}

/// Refuses a name with the scheme of a URL and without the two slashes behind it.
///
/// # Errors
/// How it is written instead.
pub fn refuse_malformed_url(text: &str) -> Result<(), String> {
    match text.split_once(':').filter(|(scheme, rest)| is_scheme(scheme) && !rest.starts_with("//")) {
        Some(("file", _)) => {
            Err(format!("{text}: give a file of this machine by its path alone, without `file:`"))
        }
        Some((scheme, rest)) => Err(format!(
            "{text} is no URL: write {scheme}://{}, or ./{text} for a file of that name",
            match rest.trim_start_matches('/') {
                "" => "BUCKET/NAME",
                rest => rest,
            }
        )),
        None => Ok(()),
    }
}

fn is_scheme(text: &str) -> bool {
    SCHEMES.iter().any(|scheme| text.eq_ignore_ascii_case(scheme))
}

impl From<OsString> for Location {
    fn from(text: OsString) -> Self {
        match text.to_str().and_then(ObjectUrl::parse) {
            Some(url) => Location::Object(url),
            None => Location::Local(text.into()),
        }
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Location::Local(path) => write!(f, "{}", path.display()),
            Location::Object(url) => write!(f, "{url}"),
        }
    }
}

impl Location {
    /// That of what writes nothing.
    pub fn none() -> Location {
        Location::Local(PathBuf::new())
    }

    /// Whether it is that of what writes nothing.
    pub fn is_none(&self) -> bool {
        *self == Location::none()
    }

    /// Refuses a path that was meant as a URL. `what` is the flag or the argument.
    ///
    /// # Errors
    /// [`JobError::Usage`].
    pub fn refuse_malformed(&self, what: &str) -> Result<(), JobError> {
        let Location::Local(path) = self else { return Ok(()) };
        refuse_malformed_url(&path.to_string_lossy()).map_err(|why| JobError::Usage(format!("{what} {why}")))
    }

    /// The local folder of the journal of the job with this output: beside a local output; for one in a store
    /// the folder given, or one in the current folder that is named after the URL.
    ///
    /// # Errors
    /// [`JobError::Usage`] if a folder is given for a local output, or if an object's URL has no name.
    pub fn state_dir(&self, given: Option<&Path>) -> Result<PathBuf, JobError> {
        match (self, given) {
            (Location::Local(path), None) => Ok(state_dir_beside(path)),
            (Location::Local(path), Some(_)) => Err(JobError::Usage(format!(
                "--state-dir is for outputs in an object store; the journal of {} is beside it",
                path.display()
            ))),
            (Location::Object(url), _) if url.key.is_empty() => {
                Err(JobError::Usage(format!("--output {url}: name an object or a folder in the bucket")))
            }
            (Location::Object(_), Some(folder)) => Ok(folder.to_path_buf()),
            (Location::Object(url), None) => {
                let name = url.to_string().replace("://", "-").replace(['/', '\\', ':'], "-");
                Ok(state_dir_beside(Path::new(&name)))
            }
        }
    }
}

/// The folder that holds a job's journal and what it publishes aside: `<output>.gristmill`.
pub fn state_dir_beside(output: &Path) -> PathBuf {
    let mut name = output.components().as_path().as_os_str().to_os_string();
    name.push(".gristmill");
    name.into()
}

/// The URL of an object, of a folder of them, or of a pattern, as in `s3://bucket/folder/*.parquet`.
///
/// Nothing of it is percent-decoded: a `?` is a wildcard or a question mark.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectUrl {
    /// Scheme and bucket, as in `s3://bucket`.
    pub bucket: String,
    /// The rest, without slashes around it.
    pub key: String,
}

impl ObjectUrl {
    /// Takes a text that begins with a scheme apart; any other is a path.
    pub fn parse(text: &str) -> Option<Self> {
        let (scheme, rest) = text.split_once("://")?;
        if scheme.is_empty() || !scheme.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return None;
        }
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        Some(ObjectUrl { bucket: format!("{scheme}://{bucket}"), key: key.trim_matches('/').into() })
    }

    /// The scheme, as in `s3`.
    pub fn scheme(&self) -> &str {
        self.bucket.split("://").next().unwrap_or_default()
    }

    /// The name behind the last slash.
    pub fn name(&self) -> &str {
        self.key.rsplit('/').next().unwrap_or_default()
    }

    /// Another key of the same bucket.
    pub fn with_key(&self, key: impl Into<String>) -> Self {
        ObjectUrl { bucket: self.bucket.clone(), key: key.into() }
    }
}

impl fmt::Display for ObjectUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.bucket, self.key)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn at(text: &str) -> Location {
        Location::from(OsString::from(text))
    }

    #[test]
    fn urls_and_paths_are_distinguished() {
        let Location::Object(url) = at("s3://bucket/a/b?.parquet/") else { panic!() };
        assert_eq!((url.bucket.as_str(), url.key.as_str()), ("s3://bucket", "a/b?.parquet"));
        assert_eq!(
            (url.scheme(), url.name(), url.to_string().as_str()),
            ("s3", "b?.parquet", "s3://bucket/a/b?.parquet")
        );
        for path in ["s3:/x", "a/b.parquet", "://x", "C:\\x", "./s3://x"] {
            assert_eq!(at(path), Location::Local(path.into()), "{path}");
        }
    }

    #[test]
    fn a_url_with_a_slash_too_few_is_no_path() {
        for (text, right) in [
            ("s3:", "s3://BUCKET/NAME"),
            ("s3:/bucket/x", "s3://bucket/x"),
            ("S3:bucket", "S3://bucket"),
            ("http:", "http://"),
            ("file:/x", "by its path alone"),
        ] {
            let refused = at(text).refuse_malformed("--output").unwrap_err().to_string();
            assert!(refused.starts_with(&format!("--output {text}")) && refused.contains(right), "{refused}");
            assert!(refuse_url(text).is_err());
        }
        for sound in ["s3://bucket/x", "./s3:/x", "a/s3:", "C:\\x", "notes:1.parquet", "s3", ":x"] {
            at(sound).refuse_malformed("--output").unwrap();
            assert_eq!(refuse_url(sound).is_err(), sound.contains("://"), "{sound}");
        }
    }

    #[test]
    fn the_journal_of_an_object_is_in_this_folder_or_in_the_one_given() {
        let url = at("s3://bucket/a/out.parquet");
        assert_eq!(url.state_dir(None).unwrap(), Path::new("s3-bucket-a-out.parquet.gristmill"));
        assert_eq!(url.state_dir(Some(Path::new("/x"))).unwrap(), Path::new("/x"));
        assert_eq!(at("a/out").state_dir(None).unwrap(), Path::new("a/out.gristmill"));
        assert!(at("a/out").state_dir(Some(Path::new("/x"))).is_err());
        assert!(at("s3://bucket").state_dir(None).is_err());
    }
}
