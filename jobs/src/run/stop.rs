//! What ends a run before all rows are answered.

use crate::run::lease::Lease;
use crate::supervise::signals::Signals;
use std::sync::Arc;

/// What ends a run before all rows are answered.
pub struct Stop<'a> {
    pub signals: &'a Signals,
    /// The claim of an output in a store, which may be another machine's by now.
    pub lease: Option<Arc<Lease>>,
}

impl Stop<'_> {
    /// Whether the run is to end.
    pub fn is_asked(&self) -> bool {
        self.signals.stop_signal().is_some() || self.lease.as_ref().is_some_and(|lease| lease.is_lost())
    }
}
