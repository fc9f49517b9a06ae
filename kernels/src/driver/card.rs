//! An opened card.

use crate::driver::failure::device_lost;
use crate::driver::library;
use crate::driver::memory::granularity;
use crate::driver::nvrtc::Nvrtc;
use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::{CudaContext, CudaStream, DriverError};
use engine::device::DeviceError;
use std::sync::Arc;

/// The oldest compute capability that the kernels compile for: bf16 tensor cores and cp.async.
pub(crate) const MIN_CAPABILITY: (u32, u32) = (8, 0);

/// The first version of the driver, as in 12.3, whose graphs hold launches that overlap.
const OVERLAP_VERSION: i32 = 12_030;

/// The instructions of tensor cores that a card multiplies 16-bit matrices with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TensorCores {
    /// `mma.sync`.
    Mma,
    /// The same, of e4m3 numbers too.
    MmaE4m3,
    /// `wgmma` of sm_90a for Linear and for attention of prompts, `mma.sync` for the attention of generated tokens.
    Wgmma,
}

impl TensorCores {
    /// Those of a compute capability. Other cards than 9.0 have no `wgmma`, and those before 8.9 no products of e4m3; on 10.x
    /// `mma.sync` of e4m3 takes more registers than tiles leave.
    pub(crate) fn of(capability: (u32, u32)) -> TensorCores {
        match capability {
            (9, 0) => TensorCores::Wgmma,
            (8, 9) | (12, _) => TensorCores::MmaE4m3,
            _ => TensorCores::Mma,
        }
    }

    /// Those of the cards that an architecture is compiled for, as in `sm_90a`: the last digit is the minor number.
    pub(crate) fn of_architecture(name: &str) -> TensorCores {
        let digits = name.chars().filter_map(|c| c.to_digit(10));
        let number = digits.fold(0, |number, digit| 10 * number + digit);
        TensorCores::of((number / 10, number % 10))
    }

    /// Those of the same card that its other instructions leave.
    pub(crate) fn without_wgmma(self) -> TensorCores {
        if self == TensorCores::Wgmma { TensorCores::MmaE4m3 } else { self }
    }

    /// Whether both factors of a product may be e4m3.
    pub(crate) fn multiply_e4m3(self) -> bool {
        self != TensorCores::Mma
    }

    /// The device with these instructions, as a job's identity names it: their bits differ.
    pub(crate) fn family(self) -> &'static str {
        match self {
            TensorCores::Mma => "cuda mma",
            TensorCores::MmaE4m3 => "cuda mma e4m3",
            TensorCores::Wgmma => "cuda sm_90a",
        }
    }
}

/// The properties of a card that decide tile shapes and variants.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CardLimits {
    /// Multiprocessors.
    pub(crate) sms: u32,
    /// The largest shared memory of a block, in bytes.
    pub(crate) shared: u32,
    pub(crate) tensor_cores: TensorCores,
    /// Those for attention of prompts: either gives the same bits.
    pub(crate) prefill: TensorCores,
}

/// A card with its context and the one stream on which everything runs.
pub(crate) struct Card {
    pub(crate) name: String,
    /// Major and minor compute capability.
    pub(crate) capability: (u32, u32),
    /// The architecture to compile for, e.g. `sm_90a`.
    pub(crate) architecture: String,
    pub(crate) limits: CardLimits,
    /// Whether a kernel may be launched before the one ahead of it is done, and wait for it itself.
    pub(crate) overlap: bool,
    /// Bytes to which the card rounds allocations up.
    pub(crate) granularity: usize,
    /// Bytes of memory in all.
    pub(crate) memory_total: usize,
    pub(crate) stream: Arc<CudaStream>,
    pub(crate) context: Arc<CudaContext>,
}

impl Card {
    /// Opens the card of this index.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with what is missing and the remedy.
    pub(crate) fn open(index: usize) -> Result<Card, DeviceError> {
        library::driver()?;
        Nvrtc::get()?;
        let fails =
            |e: DriverError| DeviceError::Absent(format!("CUDA device {index} does not open: {:?}", e.0));
        let context = CudaContext::new(index).map_err(fails)?;
        // SAFETY: memory is ours alone and used on one stream, so cudarc need not track events.
        unsafe { context.disable_event_tracking() };
        let stream = context.new_stream().map_err(fails)?;
        let attribute = |a| context.attribute(a).map(|value| value as u32).map_err(fails);
        let capability = (
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            attribute(Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        );
        if let Some(why) = too_old(capability) {
            return Err(DeviceError::Absent(why));
        }
        let tensor_cores = TensorCores::of(capability);
        Ok(Card {
            name: context.name().map_err(fails)?,
            capability,
            architecture: architecture(capability),
            limits: CardLimits {
                sms: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)?,
                shared: attribute(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?,
                tensor_cores,
                prefill: tensor_cores,
            },
            overlap: capability.0 >= 9 && library::driver_version() >= OVERLAP_VERSION,
            granularity: granularity(index).map_err(fails)?,
            memory_total: context.mem_get_info().map_err(fails)?.1,
            stream,
            context,
        })
    }

    /// Makes the card's context that of this thread, which driver calls need.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn bind(&self) -> Result<(), DeviceError> {
        self.context.bind_to_thread().map_err(device_lost)
    }

    /// Where on the PCI bus it is; empty if the driver does not tell.
    pub(crate) fn pci_bus_id(&self) -> String {
        let attribute = |a| self.context.attribute(a).ok();
        let place = attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DOMAIN_ID)
            .zip(attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_BUS_ID))
            .zip(attribute(Attribute::CU_DEVICE_ATTRIBUTE_PCI_DEVICE_ID));
        let text = |((domain, bus), device)| format!("{domain:04x}:{bus:02x}:{device:02x}.0");
        place.map_or(String::new(), text)
    }

    /// Bytes of memory that are free now.
    ///
    /// # Errors
    /// [`DeviceError::Lost`].
    pub(crate) fn memory_free(&self) -> Result<usize, DeviceError> {
        self.context.mem_get_info().map(|(free, _)| free).map_err(device_lost)
    }
}

/// Why a card of this compute capability cannot be used; `None` if it can.
pub(crate) fn too_old(capability: (u32, u32)) -> Option<String> {
    let ((major, minor), (needed_major, needed_minor)) = (capability, MIN_CAPABILITY);
    (capability < MIN_CAPABILITY).then(|| {
        format!(
            "compute capability {major}.{minor} is too old: {needed_major}.{needed_minor} (Ampere) or later is needed"
        )
    })
}

/// The architecture to compile for.
fn architecture((major, minor): (u32, u32)) -> String {
    // `a`: features of exactly this card, which later ones lack.
    let exact = if (major, minor) == (9, 0) { "a" } else { "" };
    format!("sm_{major}{minor}{exact}")
}
