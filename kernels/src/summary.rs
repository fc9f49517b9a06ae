//! What `gristmill devices` says of the cards of this machine.

use crate::driver::card::too_old;
use crate::driver::library;
use crate::driver::nvrtc::Nvrtc;
use cudarc::driver::result::{self, device};
use cudarc::driver::sys::CUdevice_attribute as Attribute;

/// A card, or why there is none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CudaSummary {
    /// What [`crate::CudaDevice::open`] takes; `None` if no card could be asked.
    pub index: Option<usize>,
    /// The name of the card.
    pub name: String,
    /// Bytes of its memory.
    pub memory: usize,
    /// Major and minor compute capability.
    pub capability: (u32, u32),
    /// Why it cannot be used and what to do, in one line; `None` if it can.
    pub unusable: Option<String>,
}

/// The cards of this machine; one entry with the reason if there are none.
pub fn devices() -> Vec<CudaSummary> {
    let none = |why: String| {
        vec![CudaSummary {
            index: None,
            name: "CUDA".into(),
            memory: 0,
            capability: (0, 0),
            unusable: Some(why),
        }]
    };
    if let Err(error) = library::driver() {
        return none(error.to_string());
    }
    let count = match result::init().and_then(|()| device::get_count()) {
        Ok(0) => {
            return none("the NVIDIA driver sees no card: see nvidia-smi and CUDA_VISIBLE_DEVICES".into());
        }
        Ok(count) => count,
        Err(error) => {
            return none(format!("the NVIDIA driver does not start: {:?}; see nvidia-smi", error.0));
        }
    };
    (0..count).map(|index| summary(index as usize)).collect()
}

fn summary(index: usize) -> CudaSummary {
    match describe(index) {
        Ok(mut summary) => {
            let no_nvrtc = || Nvrtc::get().err().map(|error| error.to_string());
            summary.unusable = too_old(summary.capability).or_else(no_nvrtc);
            summary
        }
        Err(error) => CudaSummary {
            index: Some(index),
            name: format!("CUDA device {index}"),
            memory: 0,
            capability: (0, 0),
            unusable: Some(format!("the driver does not describe it: {:?}; see nvidia-smi", error.0)),
        },
    }
}

fn describe(index: usize) -> Result<CudaSummary, result::DriverError> {
    let device = device::get(index as i32)?;
    // SAFETY: the handle comes from the driver.
    let (memory, major, minor) = unsafe {
        (
            device::total_mem(device)?,
            device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device::get_attribute(device, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    Ok(CudaSummary {
        index: Some(index),
        name: device::get_name(device)?,
        memory,
        capability: (major as u32, minor as u32),
        unusable: None,
    })
}
