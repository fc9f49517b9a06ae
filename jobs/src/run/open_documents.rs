//! The documents that are on their way, which the feeder begins and the finisher carries on.

use crate::documents::Documents;
use crate::documents::document::{Document, PartRequest};
use crate::run::request::RowRequest;
use crate::run::sampling::Sampling;
use crate::structured::constraint::Structure;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

/// The documents that have begun and are not in the journal.
pub struct OpenDocuments<'a> {
    pub documents: &'a Documents,
    sampling: &'a Arc<Sampling>,
    /// What the answers to documents must match, and with `map-columns` those to chunks; other notes are free.
    structure: Option<&'a Structure>,
    by_row: Mutex<HashMap<u64, Document>>,
    /// Those in the map, and the one that the finisher works on.
    count: AtomicUsize,
}

impl<'a> OpenDocuments<'a> {
    /// None so far.
    pub fn new(
        documents: &'a Documents,
        sampling: &'a Arc<Sampling>,
        structure: Option<&'a Structure>,
    ) -> OpenDocuments<'a> {
        let (by_row, count) = (Mutex::default(), AtomicUsize::new(0));
        OpenDocuments { documents, sampling, structure, by_row, count }
    }

    /// Adds one that has just begun. Before its first request is sent.
    pub fn add(&self, row: u64, document: Document) {
        self.count.fetch_add(1, Ordering::AcqRel);
        self.put_back(row, document);
    }

    /// Takes the one of a row to work on it.
    pub fn take(&self, row: u64) -> Option<Document> {
        self.by_row.lock().unwrap_or_else(PoisonError::into_inner).remove(&row)
    }

    /// Puts back what was taken.
    pub fn put_back(&self, row: u64, document: Document) {
        self.by_row.lock().unwrap_or_else(PoisonError::into_inner).insert(row, document);
    }

    /// Ends one that was taken.
    pub fn end(&self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }

    /// Whether there is none, so that no request will come of one.
    pub fn are_none(&self) -> bool {
        self.count.load(Ordering::Acquire) == 0
    }

    /// Requests of a row's document.
    pub fn requests(
        &self,
        row: u64,
        alone: bool,
        parts: Vec<PartRequest>,
    ) -> impl Iterator<Item = RowRequest> + use<> {
        let (sampling, structure) = (self.sampling.clone(), self.structure.cloned());
        let map_columns = self.documents.options.map_columns;
        parts.into_iter().map(move |PartRequest { part, is_last, prompt }| RowRequest {
            row,
            part: Some(part),
            prompt: prompt.tokens,
            sampling: sampling.clone(),
            structure: structure.clone().filter(|_| is_last || map_columns && part.level == 0),
            choices: prompt.choices,
            alone,
        })
    }
}
