//! The adapters of the machine, and the choice of one.

use super::shader::IMMEDIATE_BYTES;
use engine::device::DeviceError;
use wgpu::{Adapter, Backend, DeviceType, Features, Instance};

/// What an adapter is, for people who choose one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterSummary {
    /// Its name.
    pub name: String,
    /// The interface that drives it: `vulkan`, `metal` or `dx12`.
    pub backend: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub device_type: String,
    /// Driver and version.
    pub driver: String,
    /// Bytes of memory that it works in, where the driver says.
    pub memory: Option<usize>,
    /// Why it cannot be used, or `None` if it can.
    pub unusable: Option<String>,
}

/// Lists the machine's adapters in the order in which an index selects them.
///
/// The list is empty on a machine without any driver.
pub fn adapters() -> Vec<AdapterSummary> {
    list().iter().map(summary).collect()
}

/// All adapters, hardware before software.
pub(crate) fn list() -> Vec<Adapter> {
    let instance = Instance::new(wgpu::InstanceDescriptor::new_without_display_handle());
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let mut adapters = pollster::block_on(instance.enumerate_adapters(backends));
    adapters.sort_by_key(|adapter| rank(adapter.get_info().device_type));
    adapters
}

fn rank(device_type: DeviceType) -> u32 {
    match device_type {
        DeviceType::DiscreteGpu => 0,
        DeviceType::IntegratedGpu => 1,
        DeviceType::VirtualGpu => 2,
        DeviceType::Other => 3,
        DeviceType::Cpu => 4,
    }
}

fn summary(adapter: &Adapter) -> AdapterSummary {
    let info = adapter.get_info();
    let device_type = match info.device_type {
        DeviceType::DiscreteGpu => "discrete",
        DeviceType::IntegratedGpu => "integrated",
        DeviceType::VirtualGpu => "virtual",
        DeviceType::Other => "other",
        DeviceType::Cpu => "software",
    };
    let backend = match info.backend {
        Backend::Vulkan => "vulkan",
        Backend::Metal => "metal",
        Backend::Dx12 => "dx12",
        _ => "other",
    };
    AdapterSummary {
        name: info.name.clone(),
        backend: backend.into(),
        device_type: device_type.into(),
        driver: format!("{} {}", info.driver, info.driver_info).trim().to_owned(),
        memory: memory(adapter),
        unusable: unusable(adapter),
    }
}

/// Why the kernels cannot run on an adapter.
pub(crate) fn unusable(adapter: &Adapter) -> Option<String> {
    let (features, limits) = (adapter.features(), adapter.limits());
    if !features.contains(Features::IMMEDIATES) {
        return Some("it lacks immediates (push constants)".into());
    }
    if !adapter.get_downlevel_capabilities().flags.contains(wgpu::DownlevelFlags::SHADER_F16_IN_F32) {
        return Some("it cannot read 16-bit floats".into());
    }
    let needs: [(&str, u64, u64); 5] = [
        ("bytes of immediates", limits.max_immediate_size.into(), IMMEDIATE_BYTES.into()),
        ("bytes of workgroup memory", limits.max_compute_workgroup_storage_size.into(), 16 << 10),
        ("invocations in a workgroup", limits.max_compute_invocations_per_workgroup.into(), 256),
        ("storage buffers in a shader", limits.max_storage_buffers_per_shader_stage.into(), 8),
        ("bytes in a storage binding", limits.max_storage_buffer_binding_size, 128 << 20),
    ];
    needs
        .iter()
        .find(|(_, has, needs)| has < needs)
        .map(|(what, has, needs)| format!("it has {has} {what}; {needs} are needed"))
}

/// Whether an adapter has subgroups that the kernels can use.
pub(crate) fn subgroups(adapter: &Adapter) -> bool {
    adapter.features().contains(Features::SUBGROUP) && adapter.get_info().subgroup_min_size >= 8
}

/// The memory that an adapter works in: its largest device-local heap.
#[cfg(any(target_os = "linux", target_os = "windows", target_os = "android"))]
pub(crate) fn memory(adapter: &Adapter) -> Option<usize> {
    const DEVICE_LOCAL: u32 = 1;
    // SAFETY: the handles live as long as `adapter` does, are only read, and are not destroyed here.
    let heaps = unsafe {
        let hal = adapter.as_hal::<wgpu::hal::api::Vulkan>()?;
        let instance = hal.shared_instance().raw_instance();
        instance.get_physical_device_memory_properties(hal.raw_physical_device())
    };
    let used = heaps.memory_heaps.iter().take(heaps.memory_heap_count as usize);
    used.filter(|heap| heap.flags.as_raw() & DEVICE_LOCAL != 0).map(|heap| heap.size as usize).max()
}

/// The memory that an adapter works in, which only Vulkan tells.
#[cfg(not(any(target_os = "linux", target_os = "windows", target_os = "android")))]
pub(crate) fn memory(_: &Adapter) -> Option<usize> {
    None
}

/// Chooses an adapter: by its index in the list, by a part of its name, or the first of the list.
pub(crate) fn choose(selector: Option<&str>) -> Result<Adapter, DeviceError> {
    let all = list();
    let absent = |why: String| DeviceError::Absent(why);
    if all.is_empty() {
        return Err(absent("no Vulkan, Metal or DX12 adapter was found; install a graphics driver".into()));
    }
    let names: Vec<String> = all.iter().map(|a| a.get_info().name).collect();
    let chosen = match selector {
        Some(index) if index.bytes().all(|b| b.is_ascii_digit()) && !index.is_empty() => {
            index.parse::<usize>().ok().filter(|&i| i < all.len())
        }
        Some(name) => {
            let name = name.to_lowercase();
            names.iter().position(|n| n.to_lowercase().contains(&name))
        }
        None => Some(0),
    };
    let Some(chosen) = chosen else {
        return Err(absent(format!(
            "no adapter matches {:?}; choose one of: {}",
            selector.unwrap_or_default(),
            names.join(", ")
        )));
    };
    let adapter = all.into_iter().nth(chosen).ok_or_else(|| absent("the adapter has disappeared".into()))?;
    match unusable(&adapter) {
        Some(why) => Err(absent(format!("{} cannot be used: {why}", names[chosen]))),
        None => Ok(adapter),
    }
}

/// Whether the machine has a hardware adapter that can be used, for the automatic choice of a device.
pub(crate) fn hardware() -> bool {
    list().iter().any(|a| a.get_info().device_type != DeviceType::Cpu && unusable(a).is_none())
}
