//! KV pages in main memory: f32, or bf16 or e4m3, which are widened as they are read.

use super::weights::{HALF, Halves, Weights};
use super::{huge, pairs};
use crate::dtype::DType;
use crate::e4m3;
use pulp::Simd;

/// An element as pages hold it.
pub trait Element: Copy + Send + Sync + 'static {
    /// The most tiles of rows that are multiplied with elements where they are, each widening them anew, rather than with
    /// a copy that was widened once.
    const TILES: usize = usize::MAX;

    /// The element nearest to a value.
    fn nearest(value: f32) -> Self;

    /// Its value.
    fn widen(self) -> f32;

    /// The values of as many elements as a vector has lanes.
    #[inline(always)]
    fn vector<S: Simd>(_: S, elements: &[Self]) -> S::f32s {
        let mut wide = [0.0; HALF];
        wide.iter_mut().zip(elements).for_each(|(wide, element)| *wide = element.widen());
        S::as_simd_f32s(&wide[..S::F32_LANES]).0[0]
    }

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
    const TILES: usize = 4;

    #[inline(always)]
    fn nearest(value: f32) -> u8 {
        e4m3::from_f32(value)
    }

    #[inline(always)]
    fn widen(self) -> f32 {
        e4m3::to_f32(self)
    }

    /// [`e4m3::to_f32`] in vectors: of 8 lanes the compiler makes none by itself.
    #[inline(always)]
    fn vector<S: Simd>(simd: S, elements: &[u8]) -> S::f32s {
        let mut words = [0; HALF];
        words.iter_mut().zip(elements).for_each(|(word, &element)| *word = u32::from(element));
        let bits = S::as_simd_u32s(&words[..S::U32_LANES]).0[0];
        let word = |word: u32| simd.splat_u32s(word);
        let magnitude = simd.and_u32s(bits, word(0x7F));
        let shifted = simd.wrapping_dyn_shl_u32s(magnitude, word(20));
        let biased = |bias: u32| simd.transmute_f32s_u32s(simd.add_u32s(shifted, word(bias << 23)));
        let subnormal = simd.sub_f32s(biased(121), simd.splat_f32s(0.015_625));
        let is_subnormal = simd.less_than_u32s(magnitude, word(8));
        let value = simd.select_f32s(is_subnormal, subnormal, biased(120));
        let is_nan = simd.equal_u32s(magnitude, word(0x7F));
        let value = simd.select_f32s(is_nan, simd.splat_f32s(f32::NAN), value);
        let sign = simd.wrapping_dyn_shl_u32s(simd.and_u32s(bits, word(0x80)), word(24));
        simd.transmute_f32s_u32s(simd.or_u32s(simd.transmute_u32s_f32s(value), sign))
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

#[cfg(test)]
mod tests {
    use super::*;
    use pulp::WithSimd;

    /// All elements of e4m3, a vector at a time.
    struct All;

    impl WithSimd for All {
        type Output = Vec<u32>;

        #[inline(always)]
        fn with_simd<S: Simd>(self, simd: S) -> Vec<u32> {
            let elements: Vec<u8> = (0..=u8::MAX).collect();
            let mut found = Vec::new();
            for elements in elements.chunks_exact(S::F32_LANES) {
                let vector = [u8::vector(simd, elements)];
                found.extend(bytemuck::cast_slice::<_, u32>(&vector));
            }
            found
        }
    }

    #[test]
    fn vectors_of_e4m3_are_its_elements() {
        let want: Vec<u32> = (0..=u8::MAX).map(|element| e4m3::to_f32(element).to_bits()).collect();
        assert_eq!(pulp::Arch::new().dispatch(All), want);
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            assert_eq!(Simd::vectorize(simd, All), want);
            assert_eq!(Simd::vectorize(pulp::x86::V3_128b(simd), All), want);
        }
    }
}
