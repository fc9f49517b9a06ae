//! Object stores: what a job asks of one, and how it is asked.

pub mod bucket;
#[cfg(feature = "object-store")]
mod cloud;
pub mod error;
#[cfg(test)]
pub(crate) mod fake;
pub mod location;
#[cfg(feature = "object-store")]
mod markup;
pub mod object;
#[cfg(feature = "object-store")]
mod uploads;

use crate::error::JobError;
use bucket::Bucket;
use location::ObjectUrl;
use std::sync::Arc;

/// Opens the bucket of an object.
///
/// # Errors
/// [`JobError::Usage`] for a scheme that is no store's, or if this build has none; [`JobError::Store`].
#[cfg(feature = "object-store")]
pub fn open(url: &ObjectUrl) -> Result<Arc<dyn Bucket>, JobError> {
    Ok(Arc::new(cloud::CloudBucket::open(url)?))
}

/// Opens the bucket of an object.
///
/// # Errors
/// [`JobError::Usage`]: this build has no stores.
#[cfg(not(feature = "object-store"))]
pub fn open(url: &ObjectUrl) -> Result<Arc<dyn Bucket>, JobError> {
    Err(JobError::Usage(format!(
        "{url}: this build knows no object stores; build with --features object-store"
    )))
}
