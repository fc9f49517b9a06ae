//! Energy of an NVIDIA card, by the counter that its driver has for it (NVML).

use crate::receipt::energy::{Counter, Counters};
use nvml_wrapper::Nvml;
use nvml_wrapper::error::NvmlError;
use std::ffi::OsStr;
use std::sync::Arc;

/// The library by the names that it has: a driver in a container comes without the second.
#[cfg(unix)]
const NAMES: [&str; 2] = ["libnvidia-ml.so.1", "libnvidia-ml.so"];
#[cfg(not(unix))]
const NAMES: [&str; 1] = ["nvml.dll"];

/// The counter of the card at this place on the PCI bus: millijoules since the driver was loaded.
///
/// # Errors
/// Why there is none, in words.
pub fn counters(pci_bus_id: &str) -> Result<Counters, String> {
    let nvml = Arc::new(load()?);
    let wrong = |error: NvmlError| {
        format!(
            "NVIDIA's library libnvidia-ml does not count the energy of the card at {pci_bus_id}: {error}"
        )
    };
    let last = millijoules(&nvml, pci_bus_id).map_err(wrong)?;
    let name = nvml.device_by_pci_bus_id(pci_bus_id).and_then(|card| card.name()).map_err(wrong)?;
    let place = pci_bus_id.to_string();
    let read = Box::new(move || millijoules(&nvml, &place).ok());
    Ok(Counters {
        counters: vec![Counter { read, unit: 1000, range: None, last }],
        source: format!("NVML {name}, all that ran on it"),
    })
}

/// Loads the library, by the first of its names that there is.
fn load() -> Result<Nvml, String> {
    let mut loaded = NAMES.iter().map(|name| Nvml::builder().lib_path(OsStr::new(name)).init());
    let absent = |error| match error {
        NvmlError::LibloadingError(_) => {
            "NVIDIA's library libnvidia-ml, which counts the energy of cards, is not on this machine"
                .to_string()
        }
        error => format!("NVIDIA's library libnvidia-ml does not start: {error}"),
    };
    let first = loaded.next().unwrap_or(Err(NvmlError::Uninitialized));
    first.or_else(|error| loaded.next().unwrap_or(Err(error))).map_err(absent)
}

fn millijoules(nvml: &Nvml, pci_bus_id: &str) -> Result<u64, NvmlError> {
    nvml.device_by_pci_bus_id(pci_bus_id)?.total_energy_consumption()
}
