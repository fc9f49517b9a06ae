//! Buckets of S3, Google Cloud Storage and Azure, and whatever speaks like them.
//!
//! Credentials, endpoints and the rest come from the environment under the names that `object_store` reads
//! (`AWS_*`, `GOOGLE_*`, `AZURE_*`).

use crate::error::JobError;
use crate::store::bucket::{Bucket, ObjectVersion, Revision};
use crate::store::error::StoreError;
use crate::store::location::ObjectUrl;
use crate::store::markup::without_markup;
use crate::store::uploads::begun;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::azure::{AzureConfigKey, MicrosoftAzureBuilder};
use object_store::client::HttpError;
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::multipart::{MultipartStore, PartId};
use object_store::path::Path as Key;
use object_store::signer::Signer;
use object_store::{
    Error, GetOptions, GetRange, ObjectMeta, ObjectStore, ObjectStoreExt, PutMode, PutPayload, RetryConfig,
    UpdateVersion,
};
use std::fs::File;
use std::io::Read;
use std::ops::Range;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Runtime;

/// The bytes of a piece of an upload, unless that would make more pieces than [`PIECES`].
const PIECE: u64 = 8 << 20;

/// Pieces of an upload, at most; S3 takes 10,000.
const PIECES: u64 = 9_000;

/// Pieces on their way at a time.
const AT_ONCE: usize = 4;

/// Bytes of a small object, at most.
const SMALL: u64 = 256 << 20;

/// A bucket that is reached over HTTP.
#[derive(Debug)]
pub struct CloudBucket {
    url: ObjectUrl,
    objects: Arc<dyn ObjectStore>,
    uploads: Arc<dyn Uploads>,
    signer: Arc<dyn Signer>,
    runtime: Runtime,
}

/// A store that takes multipart uploads; they have no common trait that can be shown.
trait Uploads: MultipartStore + std::fmt::Debug {}
impl<T: MultipartStore + std::fmt::Debug> Uploads for T {}

/// Opens a bucket by a builder: its credentials are looked for first, without the patience of later requests,
/// so that it shows at once if there are none.
macro_rules! open {
    ($builder:ident, $skip:expr, $url:expr, $runtime:expr, $variables:literal) => {{
        let settings = |error: Error| store_error("use", $url, StoreError::Settings(error.to_string()));
        let builder = $builder::from_env().with_url($url.bucket.clone() + "/");
        if builder.get_config_value(&$skip).as_deref() != Some("true") {
            let hasty = RetryConfig {
                max_retries: 2,
                retry_timeout: Duration::from_secs(5),
                ..RetryConfig::default()
            };
            let hasty = builder.clone().with_retry(hasty).build().map_err(settings)?;
            let found = $runtime.block_on(async { hasty.credentials().get_credential().await });
            let none =
                |error: Error| StoreError::NoCredentials { why: reason(&error), variables: $variables };
            found.map_err(|error| store_error("use", $url, none(error)))?;
        }
        let store = Arc::new(builder.build().map_err(settings)?);
        (store.clone() as Arc<dyn ObjectStore>, store.clone() as Arc<dyn Uploads>, store as Arc<dyn Signer>)
    }};
}

impl CloudBucket {
    /// Opens the bucket of an object. The bucket itself is not looked at yet.
    ///
    /// # Errors
    /// [`JobError::Usage`] for an unknown scheme; [`JobError::Store`] without credentials.
    pub fn open(url: &ObjectUrl) -> Result<Self, JobError> {
        // A second call keeps the provider of the first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        let runtime = runtime.map_err(JobError::io("start the threads for", url.to_string()))?;
        let (objects, uploads, signer) = match url.scheme() {
            "s3" | "s3a" => {
                let skip = AmazonS3ConfigKey::SkipSignature;
                open!(AmazonS3Builder, skip, url, runtime, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
            }
            "gs" => {
                let skip = GoogleConfigKey::SkipSignature;
                open!(GoogleCloudStorageBuilder, skip, url, runtime, "GOOGLE_APPLICATION_CREDENTIALS")
            }
            "az" | "azure" | "adl" | "abfs" | "abfss" => {
                let skip = AzureConfigKey::SkipSignature;
                open!(
                    MicrosoftAzureBuilder,
                    skip,
                    url,
                    runtime,
                    "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY"
                )
            }
            other => {
                return Err(JobError::Usage(format!(
                    "{url}: `{other}` is no known store; use s3, gs or az, or a path without `://`"
                )));
            }
        };
        Ok(CloudBucket { url: url.with_key(""), objects, uploads, signer, runtime })
    }

    fn key(&self, key: &str) -> Result<Key, JobError> {
        let wrong = |error: object_store::path::Error| StoreError::Other(error.to_string());
        Key::parse(key).map_err(|error| store_error("use", &self.url.with_key(key), wrong(error)))
    }

    fn wrong(&self, doing: &'static str, key: &str, error: Error) -> JobError {
        store_error(doing, &self.url.with_key(key), classified(error))
    }

    fn version(&self, meta: ObjectMeta) -> Result<ObjectVersion, JobError> {
        let (key, size) = (meta.location.to_string(), meta.size);
        let without = || StoreError::Other("the store gives no ETag, by which a change could be seen".into());
        let etag = meta.e_tag.ok_or_else(|| store_error("read", &self.url.with_key(&key), without()))?;
        Ok(ObjectVersion { key, size, etag })
    }

    /// Whether the bucket is missing, after an object was; a store that does not let it be listed has it.
    fn is_missing(&self, key: &Key) -> bool {
        let listed = self.runtime.block_on(self.objects.list_with_delimiter(Some(key)));
        listed.is_err_and(|error| matches!(classified(error), StoreError::NoBucket))
    }
}

impl Bucket for CloudBucket {
    fn head(&self, key: &str) -> Result<Option<ObjectVersion>, JobError> {
        let path = self.key(key)?;
        match self.runtime.block_on(self.objects.head(&path)) {
            Ok(meta) => self.version(meta).map(Some),
            // The answer to a HEAD has no body that says which of them is missing.
            Err(Error::NotFound { .. }) if self.is_missing(&path) => {
                Err(store_error("find", &self.url.with_key(key), StoreError::NoBucket))
            }
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.wrong("find", key, error)),
        }
    }

    fn list(&self, folder: &str, deep: bool) -> Result<Vec<ObjectVersion>, JobError> {
        let path = self.key(folder)?;
        let found = self.runtime.block_on(async {
            if deep {
                self.objects.list(Some(&path)).try_collect().await
            } else {
                self.objects.list_with_delimiter(Some(&path)).await.map(|listed| listed.objects)
            }
        });
        let found: Vec<ObjectMeta> = found.map_err(|error| self.wrong("list", folder, error))?;
        let found = found.into_iter().map(|meta| self.version(meta));
        let mut found = found.collect::<Result<Vec<_>, _>>()?;
        found.sort_by(|a, b| a.key.cmp(&b.key));
        Ok(found)
    }

    fn read(&self, object: &ObjectVersion, range: Range<u64>) -> Result<Bytes, JobError> {
        let path = self.key(&object.key)?;
        let wanted = range.end - range.start;
        let options = GetOptions {
            range: Some(GetRange::Bounded(range)),
            if_match: Some(object.etag.clone()),
            ..GetOptions::default()
        };
        let read = self.runtime.block_on(async {
            let found = self.objects.get_opts(&path, options).await?;
            // Not every store keeps to the condition.
            let same = found.meta.e_tag.as_ref() == Some(&object.etag);
            Ok::<_, Error>((same, found.bytes().await?))
        });
        match read {
            Ok((true, bytes)) if bytes.len() as u64 == wanted => Ok(bytes),
            Ok(_) => Err(store_error("read", &self.url.with_key(&object.key), StoreError::Changed)),
            Err(error) => Err(self.wrong("read", &object.key, error)),
        }
    }

    fn get_revision(&self, key: &str) -> Result<Option<(Bytes, Revision)>, JobError> {
        let path = self.key(key)?;
        let read = self.runtime.block_on(async {
            let found = self.objects.get(&path).await?;
            if found.meta.size > SMALL {
                let source = format!("it has {} bytes", found.meta.size).into();
                return Err(Error::NotSupported { source });
            }
            let meta = &found.meta;
            let revision = Revision { etag: meta.e_tag.clone(), generation: meta.version.clone() };
            Ok((found.bytes().await?, revision))
        });
        match read.map_err(|error| self.wrong("read", key, error)) {
            Ok(found) => Ok(Some(found)),
            Err(JobError::Store { error: StoreError::NoObject, .. }) => Ok(None),
            Err(error) => Err(error),
        }
    }

    fn create(&self, key: &str, text: &str) -> Result<bool, JobError> {
        let path = self.key(key)?;
        let payload = PutPayload::from(text.as_bytes().to_vec());
        match self.runtime.block_on(self.objects.put_opts(&path, payload, PutMode::Create.into())) {
            Ok(_) => Ok(true),
            Err(Error::AlreadyExists { .. }) => Ok(false),
            Err(error) => Err(self.wrong("write", key, error)),
        }
    }

    fn replace(&self, key: &str, text: &str, over: &Revision) -> Result<Option<Revision>, JobError> {
        let path = self.key(key)?;
        let payload = PutPayload::from(text.as_bytes().to_vec());
        let Revision { etag, generation } = over.clone();
        let mode = PutMode::Update(UpdateVersion { e_tag: etag, version: generation });
        match self.runtime.block_on(self.objects.put_opts(&path, payload, mode.into())) {
            Ok(put) => Ok(Some(Revision { etag: put.e_tag, generation: put.version })),
            Err(Error::Precondition { .. } | Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.wrong("write", key, error)),
        }
    }

    fn delete(&self, key: &str) -> Result<(), JobError> {
        let path = self.key(key)?;
        match self.runtime.block_on(self.objects.delete(&path)) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.wrong("remove", key, error)),
        }
    }

    fn begin_upload(&self, key: &str) -> Result<String, JobError> {
        let path = self.key(key)?;
        let begun = self.runtime.block_on(self.uploads.create_multipart(&path));
        begun.map_err(|error| self.wrong("write", key, error))
    }

    fn upload(&self, key: &str, id: &str, file: &Path) -> Result<Vec<String>, JobError> {
        let path = self.key(key)?;
        let mut source = File::open(file).map_err(JobError::io("open", file))?;
        let size = source.metadata().map_err(JobError::io("read", file))?.len();
        let piece = PIECE.max(size.div_ceil(PIECES));
        let id = id.to_string();
        // Read as they are sent, so that a few pieces are in memory at a time.
        let pieces = (0..size.div_ceil(piece)).map(|_| {
            let mut bytes = Vec::new();
            let read = source.by_ref().take(piece).read_to_end(&mut bytes);
            read.map(|_| bytes).map_err(JobError::io("read", file))
        });
        let sent = futures::stream::iter(pieces.enumerate())
            .map(|(i, bytes)| {
                let (path, id) = (&path, &id);
                async move {
                    let sent = self.uploads.put_part(path, id, i, bytes?.into()).await;
                    sent.map(|part| part.content_id).map_err(|error| self.wrong("write", key, error))
                }
            })
            .buffered(AT_ONCE);
        self.runtime.block_on(sent.try_collect())
    }

    fn complete_upload(&self, key: &str, id: &str, pieces: &[String]) -> Result<(), JobError> {
        let path = self.key(key)?;
        let pieces = pieces.iter().map(|id| PartId { content_id: id.clone() }).collect();
        let done = self.runtime.block_on(self.uploads.complete_multipart(&path, &id.to_string(), pieces));
        done.map(drop).map_err(|error| self.wrong("write", key, error))
    }

    fn uploads(&self, key: &str) -> Result<Vec<(String, String)>, JobError> {
        // Azure has blocks of an object without a name of their own, and drops those that are left.
        if !matches!(self.url.scheme(), "s3" | "s3a" | "gs") {
            return Ok(Vec::new());
        }
        let found = self.runtime.block_on(begun(&*self.signer, key)).map_err(|error| {
            let why = StoreError::Other(error.to_string());
            store_error("list unfinished uploads to", &self.url.with_key(key), why)
        })?;
        let in_folder = |found: &str| found.strip_prefix(key).is_some_and(|rest| rest.starts_with('/'));
        Ok(found.into_iter().filter(|(found, _)| found == key || in_folder(found)).collect())
    }

    fn abort_upload(&self, key: &str, id: &str) -> Result<(), JobError> {
        let path = self.key(key)?;
        match self.runtime.block_on(self.uploads.abort_multipart(&path, &id.to_string())) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.wrong("discard an upload to", key, error)),
        }
    }
}

fn store_error(doing: &'static str, url: &ObjectUrl, error: StoreError) -> JobError {
    JobError::Store { doing, url: url.to_string(), error }
}

/// What an error means for a job.
fn classified(error: Error) -> StoreError {
    let text = error.to_string();
    let no_bucket = ["NoSuchBucket", "The specified bucket does not exist", "ContainerNotFound"];
    // A failed listing has no variant of its own, only a text.
    let refused = ["code: 401", "code: 403"].iter().any(|status| text.contains(status));
    match &error {
        _ if no_bucket.iter().any(|code| text.contains(code)) => StoreError::NoBucket,
        Error::NotFound { .. } => StoreError::NoObject,
        _ if refused || matches!(error, Error::PermissionDenied { .. } | Error::Unauthenticated { .. }) => {
            let code = text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
            StoreError::Denied(code.map_or(String::new(), |code| format!(" ({code})")))
        }
        Error::Precondition { .. } | Error::NotModified { .. } => StoreError::Changed,
        _ if causes(&error).any(|cause| cause.is::<HttpError>()) => StoreError::Unreachable(reason(&error)),
        _ => StoreError::Other(without_markup(&text)),
    }
}

fn causes<'a>(error: &'a Error) -> impl Iterator<Item = &'a (dyn std::error::Error + 'static)> {
    std::iter::successors(std::error::Error::source(error), |cause| cause.source())
}

/// The innermost cause of an error.
fn reason(error: &Error) -> String {
    without_markup(&causes(error).last().map_or_else(|| error.to_string(), ToString::to_string))
}
