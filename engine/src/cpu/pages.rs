//! KV pages in main memory: f32, or e4m3 of a byte each, which are widened as they are read.

use crate::dtype::DType;
use crate::e4m3;

/// An element as pages hold it.
pub trait Element: Copy + Send + Sync + 'static {
    /// The element nearest to a value.
    fn nearest(value: f32) -> Self;

    /// Its value.
    fn widen(self) -> f32;

    /// The elements of pages that hold this type.
    fn of(pages: &Pages) -> &[Self];
}

impl Element for f32 {
    #[inline(always)]
    fn nearest(value: f32) -> f32 {
        value
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        self
    }

    fn of(pages: &Pages) -> &[f32] {
        match pages {
            Pages::F32(elements) => elements,
            Pages::E4m3(_) => &[],
        }
    }
}

/// The bits of an element of [`e4m3`].
impl Element for u8 {
    #[inline(always)]
    fn nearest(value: f32) -> u8 {
        e4m3::from_f32(value)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        e4m3::to_f32(self)
    }

    fn of(pages: &Pages) -> &[u8] {
        match pages {
            Pages::F32(_) => &[],
            Pages::E4m3(elements) => elements,
        }
    }
}

/// The keys or the values of a layer.
pub enum Pages {
    F32(Vec<f32>),
    E4m3(Vec<u8>),
}

impl Default for Pages {
    fn default() -> Pages {
        Pages::F32(Vec::new())
    }
}

impl Pages {
    /// So many elements. They start as NaN, so that a read of what was never written shows; in release builds as zeros,
    /// whose memory the system allocates only when they are written.
    pub fn new(dtype: DType, len: usize) -> Pages {
        let fresh = if cfg!(debug_assertions) { f32::NAN } else { 0.0 };
        match dtype {
            DType::E4M3 => Pages::E4m3(vec![u8::nearest(fresh); len]),
            _ => Pages::F32(vec![fresh; len]),
        }
    }

    /// Stores values from element `at` on, `step` elements apart.
    pub fn store(&mut self, at: usize, step: usize, values: &[f32]) {
        match self {
            Pages::F32(elements) => store(&mut elements[at..], step, values),
            Pages::E4m3(elements) => store(&mut elements[at..], step, values),
        }
    }

    /// The values of the elements from element `at` on, `step` elements apart.
    pub fn values(&self, at: usize, step: usize, count: usize) -> Vec<f32> {
        match self {
            Pages::F32(elements) => values(&elements[at..], step, count),
            Pages::E4m3(elements) => values(&elements[at..], step, count),
        }
    }
}

fn store<T: Element>(elements: &mut [T], step: usize, values: &[f32]) {
    elements.iter_mut().step_by(step).zip(values).for_each(|(to, &value)| *to = T::nearest(value));
}

fn values<T: Element>(elements: &[T], step: usize, count: usize) -> Vec<f32> {
    elements.iter().step_by(step).take(count).map(|element| element.widen()).collect()
}
