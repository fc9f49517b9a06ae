//! Panels of Q8_0: `[panel][k][NR]` int8 values, and `[panel][k / 32][NR]` scales.

use super::sums::NR;
use super::vectorized;
use crate::format::{Q8_0_BLOCK, Q8_0_BYTES};
use half::f16;
use rayon::prelude::*;
use std::ops::Range;

/// A matrix of Q8_0 rows as panels.
pub struct Q8 {
    k: usize,
    values: Vec<i8>,
    scales: Vec<f16>,
}

impl Q8 {
    /// Zeros; `k` is whole blocks.
    pub fn zeros(panels: usize, k: usize) -> Q8 {
        let len = panels * NR * k;
        Q8 { k, values: vec![0; len], scales: vec![f16::ZERO; len / Q8_0_BLOCK] }
    }

    /// Stores whole rows of blocks from row `row` on.
    pub fn write(&mut self, row: usize, bytes: &[u8]) {
        let (k, blocks) = (self.k, self.k / Q8_0_BLOCK);
        let width = blocks * Q8_0_BYTES;
        let last = row + bytes.len() / width;
        let panels = self.values.par_chunks_mut(k * NR).zip(self.scales.par_chunks_mut(blocks * NR));
        panels.enumerate().for_each(|(p, (values, scales))| {
            for n in (p * NR).max(row)..((p + 1) * NR).min(last) {
                let from = bytes[(n - row) * width..][..width].as_chunks::<Q8_0_BYTES>().0;
                for (b, block) in from.iter().enumerate() {
                    scales[b * NR + n % NR] = f16::from_le_bytes([block[0], block[1]]);
                    let to = values[b * Q8_0_BLOCK * NR + n % NR..].iter_mut().step_by(NR);
                    to.zip(&block[2..]).for_each(|(to, q)| *to = q.cast_signed());
                }
            }
        });
    }

    /// The bytes of a row.
    pub fn read(&self, row: usize) -> Vec<u8> {
        let values = self.column(row);
        let blocks = self.scales_of(row).enumerate().flat_map(|(b, scale)| {
            let values = values.clone().skip(b * Q8_0_BLOCK).take(Q8_0_BLOCK);
            scale.to_le_bytes().into_iter().chain(values.map(|q| q.cast_unsigned()))
        });
        blocks.collect()
    }

    /// The values of a row.
    pub fn values(&self, row: usize) -> impl Iterator<Item = f32> {
        let scales = self.scales_of(row).flat_map(|scale| std::iter::repeat_n(scale.to_f32(), Q8_0_BLOCK));
        scales.zip(self.column(row)).map(|(scale, q)| scale * f32::from(q))
    }

    fn column(&self, row: usize) -> impl Iterator<Item = i8> + Clone {
        let panel = &self.values[row / NR * self.k * NR..][..self.k * NR];
        panel[row % NR..].iter().step_by(NR).copied()
    }

    fn scales_of(&self, row: usize) -> impl Iterator<Item = f16> {
        let len = self.k / Q8_0_BLOCK * NR;
        self.scales[row / NR * len..][..len][row % NR..].iter().step_by(NR).copied()
    }

    /// Some columns of panel `p` in f32, `[k][NR]`, from the start of a block on.
    pub fn widen(&self, p: usize, columns: Range<usize>, out: &mut [f32]) {
        let first = p * self.k + columns.start;
        let values = self.values[first * NR..][..columns.len() * NR].chunks(Q8_0_BLOCK * NR);
        let scales = self.scales[first / Q8_0_BLOCK * NR..].chunks_exact(NR);
        for ((out, values), halves) in out.chunks_mut(Q8_0_BLOCK * NR).zip(values).zip(scales) {
            let mut scales = [0.0; NR];
            scales.iter_mut().zip(halves).for_each(|(s, h)| *s = h.to_f32());
            vectorized(
                #[inline(always)]
                || {
                    for (out, values) in out.chunks_exact_mut(NR).zip(values.chunks_exact(NR)) {
                        for ((out, &q), scale) in out.iter_mut().zip(values).zip(&scales) {
                            *out = scale * f32::from(q);
                        }
                    }
                },
            );
        }
    }
}
