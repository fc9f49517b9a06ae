//! KV pages in main memory: f32, or bf16 or e4m3, which are widened as they are read.

use super::weights::{Halves, Weights};
use super::{huge, pairs};
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

    /// The same, to be written.
    fn of_mut(pages: &mut Pages) -> &mut [Self];

    /// Elements that the matrix kernel takes from where they are.
    fn weights(halves: Halves<'_, Self>) -> Weights<'_>;
}

/// Where pages of a type are, and as what the matrix kernel takes their elements.
macro_rules! held_as {
    ($pages:ident, $weights:ident) => {
        fn of(pages: &Pages) -> &[Self] {
            match pages {
                Pages::$pages(elements) => elements,
                _ => &[],
            }
        }

        fn of_mut(pages: &mut Pages) -> &mut [Self] {
            match pages {
                Pages::$pages(elements) => elements,
                _ => &mut [],
            }
        }

        #[inline(always)]
        fn weights(halves: Halves<'_, Self>) -> Weights<'_> {
            Weights::$weights(halves)
        }
    };
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

    held_as!(F32, F32Pages);
}

/// The bits of a bf16.
impl Element for u16 {
    #[inline(always)]
    fn nearest(value: f32) -> u16 {
        (pairs::rounded(value).to_bits() >> 16) as u16
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        f32::from_bits(u32::from(self) << 16)
    }

    held_as!(Bf16, Bf16Pages);
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

    held_as!(E4m3, E4m3Pages);
}

/// The keys or the values of a layer.
pub enum Pages {
    F32(Vec<f32>),
    Bf16(Vec<u16>),
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
            DType::BF16 => Pages::Bf16(filled(u16::nearest(fresh), len)),
            DType::E4M3 => Pages::E4m3(filled(u8::nearest(fresh), len)),
            _ => Pages::F32(filled(fresh, len)),
        }
    }

    /// Stores values from element `at` on, `step` elements apart.
    pub fn store(&mut self, at: usize, step: usize, values: &[f32]) {
        match self {
            Pages::F32(elements) => store(&mut elements[at..], step, values),
            Pages::Bf16(elements) => store(&mut elements[at..], step, values),
            Pages::E4m3(elements) => store(&mut elements[at..], step, values),
        }
    }

    /// The values of the elements from element `at` on, `step` elements apart.
    pub fn values(&self, at: usize, step: usize, count: usize) -> Vec<f32> {
        match self {
            Pages::F32(elements) => values(&elements[at..], step, count),
            Pages::Bf16(elements) => values(&elements[at..], step, count),
            Pages::E4m3(elements) => values(&elements[at..], step, count),
        }
    }
}

fn filled<T: Element>(value: T, len: usize) -> Vec<T> {
    let elements = vec![value; len];
    huge::advise(elements.as_ptr(), len);
    elements
}

/// Stores values `step` elements apart, from the first on.
pub fn store<T: Element>(elements: &mut [T], step: usize, values: &[f32]) {
    elements.iter_mut().step_by(step).zip(values).for_each(|(to, &value)| *to = T::nearest(value));
}

fn values<T: Element>(elements: &[T], step: usize, count: usize) -> Vec<f32> {
    elements.iter().step_by(step).take(count).map(|element| element.widen()).collect()
}
