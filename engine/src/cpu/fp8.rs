//! Panels of FP8: `[panel][k][NR]` e4m3 elements, and `[panel][scales of a row][NR]` scales.

use super::sums::NR;
use super::vectorized;
use crate::dtype::DType;
use crate::e4m3;
use crate::format::{FP8_BLOCK, FP8_SCALE, Format};
use rayon::prelude::*;
use std::ops::Range;

/// A matrix of FP8 rows as panels.
pub struct Fp8 {
    k: usize,
    /// Columns that share a scale.
    shared: usize,
    /// Scales of a row.
    across: usize,
    elements: Vec<u8>,
    scales: Vec<f32>,
}

impl Fp8 {
    /// Zeros, in [`Format::Fp8`] or [`Format::Fp8Blocks`].
    pub fn zeros(panels: usize, k: usize, format: Format) -> Fp8 {
        let (rows, across) = (panels * NR, format.fp8_scales(k));
        let shared = if format == Format::Fp8Blocks { FP8_BLOCK } else { k.max(1) };
        Fp8 { k, shared, across, elements: vec![0; rows * k], scales: vec![0.0; rows * across] }
    }

    /// Stores whole rows from row `row` on.
    pub fn write(&mut self, row: usize, bytes: &[u8]) {
        let (k, across) = (self.k, self.across);
        let width = across * FP8_SCALE + k;
        let last = row + bytes.len() / width;
        let panels = self.elements.par_chunks_mut(k * NR).zip(self.scales.par_chunks_mut(across * NR));
        panels.enumerate().for_each(|(p, (elements, scales))| {
            for n in (p * NR).max(row)..((p + 1) * NR).min(last) {
                let (from, bits) = bytes[(n - row) * width..][..width].split_at(across * FP8_SCALE);
                let to = scales[n % NR..].iter_mut().step_by(NR);
                to.zip(DType::F32.decode(from)).for_each(|(to, scale)| *to = scale);
                let to = elements[n % NR..].iter_mut().step_by(NR);
                to.zip(bits).for_each(|(to, &bits)| *to = bits);
            }
        });
    }

    /// The bytes of a row.
    pub fn read(&self, row: usize) -> Vec<u8> {
        let scales = self.scales_of(row).flat_map(f32::to_le_bytes);
        scales.chain(self.column(row)).collect()
    }

    /// The values of a row.
    pub fn values(&self, row: usize) -> impl Iterator<Item = f32> {
        let scales = self.scales_of(row).flat_map(|scale| std::iter::repeat_n(scale, self.shared));
        scales.zip(self.column(row)).map(|(scale, bits)| e4m3::to_f32(bits) * scale)
    }

    fn column(&self, row: usize) -> impl Iterator<Item = u8> {
        self.elements[row / NR * self.k * NR..][..self.k * NR][row % NR..].iter().step_by(NR).copied()
    }

    fn scales_of(&self, row: usize) -> impl Iterator<Item = f32> {
        let len = self.across * NR;
        self.scales[row / NR * len..][..len][row % NR..].iter().step_by(NR).copied()
    }

    /// Some columns of panel `p` in f32, `[k][NR]`; those that share a scale may be cut.
    pub fn widen(&self, p: usize, columns: Range<usize>, out: &mut [f32]) {
        let mut out = out;
        let mut start = columns.start;
        while start < columns.end {
            let end = ((start / self.shared + 1) * self.shared).min(columns.end);
            let (to, rest) = out.split_at_mut((end - start) * NR);
            let elements = &self.elements[(p * self.k + start) * NR..][..(end - start) * NR];
            let scales = &self.scales[(p * self.across + start / self.shared) * NR..][..NR];
            vectorized(
                #[inline(always)]
                || {
                    for (to, elements) in to.chunks_exact_mut(NR).zip(elements.chunks_exact(NR)) {
                        for ((to, &bits), scale) in to.iter_mut().zip(elements).zip(scales) {
                            *to = e4m3::to_f32(bits) * scale;
                        }
                    }
                },
            );
            (out, start) = (rest, end);
        }
    }
}
