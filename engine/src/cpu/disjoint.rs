//! A slice of which tasks write disjoint parts.

use std::marker::PhantomData;

/// Hands out parts of a slice to tasks that run side by side.
pub struct Disjoint<'a, T> {
    first: *mut T,
    len: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: elements are `Send`, and whoever takes a part promises that no other part overlaps it.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    /// All parts of `slice`.
    pub fn new(slice: &'a mut [T]) -> Disjoint<'a, T> {
        Disjoint { first: slice.as_mut_ptr(), len: slice.len(), slice: PhantomData }
    }

    /// The `len` elements from `at` on.
    ///
    /// # Safety
    /// No other part that is in use at the same time overlaps this one.
    #[inline(always)]
    #[allow(clippy::mut_from_ref)]
    pub unsafe fn part(&self, at: usize, len: usize) -> &mut [T] {
        assert!(at <= self.len && len <= self.len - at, "{len} elements from {at} on, of {}", self.len);
        // SAFETY: the elements lie in the slice, and the caller says that nobody else uses them.
        unsafe { std::slice::from_raw_parts_mut(self.first.add(at), len) }
    }
}
