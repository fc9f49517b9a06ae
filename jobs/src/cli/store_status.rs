//! What a store tells of an output to whoever has no journal of its job.

use crate::counted::counted;
use crate::error::JobError;
use crate::journal::schema;
use crate::publish::published_words;
use crate::publish::remote::RemoteOutput;
use crate::store::location::Location;
use serde::Serialize;
use std::fmt;
use std::path::Path;

/// An output in a store, whose job has its journal on another machine.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StoreStatus {
    /// Rows that are published; none where nothing is.
    pub rows: Option<u64>,
    /// Published rows that were given up.
    pub aborted: u64,
    pub published: bool,
    /// The machine that has the job, until all is published.
    pub owner: Option<String>,
    /// Where its journal would be here.
    state_dir: String,
}

impl StoreStatus {
    /// Asks the store of an output; none if there is a journal here, or nothing there.
    ///
    /// # Errors
    /// [`JobError::Store`], or what is wrong with the manifest.
    pub fn of(output: &Location, state_dir: &Path) -> Result<Option<StoreStatus>, JobError> {
        let Location::Object(url) = output else { return Ok(None) };
        if schema::path(state_dir).exists() {
            return Ok(None);
        }
        let remote = RemoteOutput::open(url, state_dir)?;
        let (manifest, owner) = (remote.manifest_there()?, remote.owner_there()?);
        if manifest.is_none() && owner.is_none() {
            return Ok(None);
        }
        Ok(Some(StoreStatus {
            rows: manifest.as_ref().map(|manifest| manifest.rows),
            aborted: manifest.as_ref().map_or(0, |manifest| manifest.aborted),
            published: manifest.is_some(),
            owner,
            state_dir: state_dir.display().to_string(),
        }))
    }
}

impl fmt::Display for StoreStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(rows) = self.rows {
            writeln!(f, "rows       {} published", counted(rows, "row"))?;
        }
        if let Some(owner) = &self.owner {
            writeln!(f, "owner      {owner}")?;
        }
        writeln!(f, "journal    not here, where --state-dir would be {}", self.state_dir)?;
        write!(f, "published  {}", published_words(Some(self.published)))
    }
}
