//! The failure of a device: whatever goes wrong once, it is not used again.

use engine::device::{DeviceError, DeviceKind};
use std::sync::{Arc, Mutex, PoisonError};

/// The first failure of a device, shared with the callbacks through which wgpu reports them.
#[derive(Clone, Default)]
pub(crate) struct Failure(Arc<Mutex<Option<String>>>);

impl Failure {
    /// Keeps the first failure: those that follow are its consequences.
    pub fn note(&self, why: impl Into<String>) -> DeviceError {
        let why = why.into();
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.clone());
        lost(why)
    }

    /// The failure as an error, if there is one.
    pub fn check(&self) -> Result<(), DeviceError> {
        match &*self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => Ok(()),
            Some(why) => Err(lost(why.clone())),
        }
    }
}

fn lost(why: String) -> DeviceError {
    DeviceError::Lost { device: DeviceKind::Wgpu, why }
}
