//! Device memory and pinned host memory, freed when they are dropped.

use crate::driver::failure::{allocation_failed, device_lost};
use cudarc::driver::sys::{
    CUDA_MEMCPY2D_v2, CUmemAllocationGranularity_flags, CUmemAllocationProp, CUmemAllocationType,
    CUmemLocationType, CUmemorytype, cuMemGetAllocationGranularity, cuMemcpy2DAsync_v2,
};
use cudarc::driver::{CudaContext, CudaStream, result};
use engine::device::{DeviceError, MemoryUse};
use std::sync::Arc;

/// Bytes to which the card rounds allocations up: 2 MiB on today's cards.
pub(crate) fn granularity(index: usize) -> Result<usize, result::DriverError> {
    // SAFETY: zeros are valid for all fields of this C struct, and for its enums after what is set here.
    let property = unsafe {
        let mut property = std::mem::MaybeUninit::<CUmemAllocationProp>::zeroed();
        let at = property.as_mut_ptr();
        (&raw mut (*at).type_).write(CUmemAllocationType::CU_MEM_ALLOCATION_TYPE_PINNED);
        (&raw mut (*at).location.type_).write(CUmemLocationType::CU_MEM_LOCATION_TYPE_DEVICE);
        (&raw mut (*at).location.id).write(index as i32);
        property.assume_init()
    };
    let mut bytes = 0;
    let minimum = CUmemAllocationGranularity_flags::CU_MEM_ALLOC_GRANULARITY_MINIMUM;
    // SAFETY: both pointers are to locals.
    unsafe { cuMemGetAllocationGranularity(&mut bytes, &property, minimum) }.result()?;
    Ok(bytes.max(1))
}

/// Where rows of bytes lie that do not touch.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Strided {
    /// Of the first row.
    pub(crate) offset: usize,
    /// Bytes of a row.
    pub(crate) row: usize,
    /// Bytes from row to row.
    pub(crate) step: usize,
}

/// Device memory.
pub(crate) struct DeviceMemory {
    pub(crate) at: u64,
    pub(crate) bytes: usize,
    context: Arc<CudaContext>,
}

impl DeviceMemory {
    /// Allocates; `what` and `memory_use` are for the error if there is too little.
    pub(crate) fn new(
        context: &Arc<CudaContext>,
        bytes: usize,
        what: &str,
        memory_use: MemoryUse,
    ) -> Result<Self, DeviceError> {
        // An empty buffer still has an address, so that kernels never see null by accident.
        let bytes = bytes.max(16);
        // SAFETY: the memory is written before it is read, by the trait's contract.
        let at = unsafe { result::malloc_sync(bytes) }
            .map_err(|e| allocation_failed(e, what, bytes, memory_use))?;
        Ok(DeviceMemory { at, bytes, context: context.clone() })
    }

    /// Writes bytes at `offset`, after all work of the stream, and waits.
    pub(crate) fn write(&self, stream: &CudaStream, offset: usize, bytes: &[u8]) -> Result<(), DeviceError> {
        debug_assert!(offset + bytes.len() <= self.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is inside the allocation, and the source lives until the stream is done.
        unsafe { result::memcpy_htod_async(self.at + offset as u64, bytes, stream.cu_stream()) }
            .map_err(device_lost)?;
        stream.synchronize().map_err(device_lost)
    }

    /// Queues a write of rows that do not lie one after the other.
    pub(crate) fn write_strided(
        &self,
        stream: &CudaStream,
        layout: &Strided,
        bytes: &[u8],
    ) -> Result<(), DeviceError> {
        let rows = bytes.len() / layout.row;
        debug_assert!(layout.offset + (rows - 1) * layout.step + layout.row <= self.bytes);
        // SAFETY: zeros are valid for all fields of this C struct, and for its enums after what is set here.
        let copy = unsafe {
            let mut copy = std::mem::MaybeUninit::<CUDA_MEMCPY2D_v2>::zeroed();
            let at = copy.as_mut_ptr();
            (&raw mut (*at).srcMemoryType).write(CUmemorytype::CU_MEMORYTYPE_HOST);
            (&raw mut (*at).srcHost).write(bytes.as_ptr().cast());
            (&raw mut (*at).srcPitch).write(layout.row);
            (&raw mut (*at).dstMemoryType).write(CUmemorytype::CU_MEMORYTYPE_DEVICE);
            (&raw mut (*at).dstDevice).write(self.at + layout.offset as u64);
            (&raw mut (*at).dstPitch).write(layout.step);
            (&raw mut (*at).WidthInBytes).write(layout.row);
            (&raw mut (*at).Height).write(rows);
            copy.assume_init()
        };
        // SAFETY: all rows are inside the allocation and the source; pageable memory has been read when the call returns.
        unsafe { cuMemcpy2DAsync_v2(&copy, stream.cu_stream()) }.result().map_err(device_lost)
    }

    /// Reads bytes at `offset`, after all work of the stream.
    pub(crate) fn read(
        &self,
        stream: &CudaStream,
        offset: usize,
        bytes: &mut [u8],
    ) -> Result<(), DeviceError> {
        debug_assert!(offset + bytes.len() <= self.bytes);
        if bytes.is_empty() {
            return Ok(());
        }
        // SAFETY: the range is inside the allocation, and the target lives until the stream is done.
        unsafe { result::memcpy_dtoh_async(bytes, self.at + offset as u64, stream.cu_stream()) }
            .map_err(device_lost)?;
        stream.synchronize().map_err(device_lost)
    }
}

impl Drop for DeviceMemory {
    fn drop(&mut self) {
        // An error here is one that every later call reports too.
        let _ = self.context.bind_to_thread();
        // SAFETY: allocated in `new`, freed once, and plans wait for their stream before they go.
        let _ = unsafe { result::free_sync(self.at) };
    }
}

/// Page-locked host memory, which the card copies from and to while the host goes on.
pub(crate) struct Pinned {
    at: *mut u8,
    bytes: usize,
    context: Arc<CudaContext>,
}

// SAFETY: the memory belongs to this value alone; any thread may use it with the context.
unsafe impl Send for Pinned {}

impl Pinned {
    pub(crate) fn new(context: &Arc<CudaContext>, bytes: usize) -> Result<Self, DeviceError> {
        let bytes = bytes.max(16);
        // SAFETY: no flags; the memory is used through slices of its own length only.
        let at = unsafe { result::malloc_host(bytes, 0) }
            .map_err(|e| allocation_failed(e, "pinned step inputs", bytes, MemoryUse::Activations))?
            .cast();
        // SAFETY: freshly allocated with this length. Zeroed: slices over it are read before all is written.
        unsafe { std::ptr::write_bytes(at, 0, bytes) };
        Ok(Pinned { at, bytes, context: context.clone() })
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        // SAFETY: allocated and initialised with this length.
        unsafe { std::slice::from_raw_parts(self.at, self.bytes) }
    }

    pub(crate) fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: allocated and initialised with this length, and borrowed mutably.
        unsafe { std::slice::from_raw_parts_mut(self.at, self.bytes) }
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        let _ = self.context.bind_to_thread();
        // SAFETY: allocated in `new` and freed once.
        let _ = unsafe { result::free_host(self.at.cast()) };
    }
}
