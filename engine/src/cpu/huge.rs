//! Memory in huge pages.
//!
//! A step reads all weights and the KV pages of its rows once, hundreds of megabytes; in pages of 4 KiB each is looked up
//! in tables for every few lines, twice over in a virtual machine. Most systems give huge pages to those who ask.

use bytemuck::Zeroable;

/// Bytes from which on it is worth asking: a few huge pages.
const LEAST: usize = 8 << 20;

/// So many zeros, whose memory the system allocates when they are written.
pub fn zeros<T: Zeroable>(len: usize) -> Vec<T> {
    let zeros = bytemuck::zeroed_vec(len);
    advise(zeros.as_ptr(), len);
    zeros
}

/// Asks for huge pages for memory that nobody has touched yet. A hint, which changes nothing but the time.
pub fn advise<T>(first: *const T, len: usize) {
    let bytes = len * size_of::<T>();
    #[cfg(target_os = "linux")]
    if bytes >= LEAST {
        const PAGE: usize = 4096;
        let start = (first as usize).next_multiple_of(PAGE);
        let end = (first as usize + bytes) / PAGE * PAGE;
        // SAFETY: these pages lie within one allocation, and the advice leaves what they hold as it is.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_HUGEPAGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (first, bytes, LEAST);
}
