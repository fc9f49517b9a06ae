//! Weight matrices in the layout of the matrix kernel: `[panel][k][NR]` in their own float type, bf16 as
//! `[panel][k / 2][NR][2]`; block formats have files of their own.

use super::fp8::Fp8;
use super::huge;
use super::pairs;
use super::q8::Q8;
use super::sums::NR;
use super::tile::Words;
use super::weights::Weights;
use crate::dtype::DType;
use crate::format::Format;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;
use std::ops::Range;

/// An `[n, k]` matrix whose rows are the columns of a product. Missing rows of the last panel are zero.
pub struct Panels {
    n: usize,
    k: usize,
    /// Whether bf16 values are multiplied as pairs.
    paired: bool,
    data: Data,
}

enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<[bf16; 2]>),
    Q8_0(Q8),
    Fp8(Fp8),
}

/// The precision of the products of Linear; the names are those of PyTorch's
/// `torch.set_float32_matmul_precision`. Sums are f32 in any case.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum MatmulPrecision {
    /// Products of f32 values.
    #[default]
    Highest,
    /// Products of bf16 values: weights are held in bf16, activations are rounded before they are
    /// multiplied.
    Medium,
}

impl Panels {
    /// A matrix of zeros.
    pub fn zeros(n: usize, k: usize, format: Format, precision: MatmulPrecision) -> Panels {
        let len = n.div_ceil(NR) * NR * k;
        let data = match format {
            Format::Plain(DType::F16) => Data::F16(huge::zeros(len)),
            Format::Plain(DType::BF16) => Data::BF16(huge::zeros(n.div_ceil(NR) * NR * k.div_ceil(2))),
            Format::Plain(DType::F32 | DType::E4M3 | DType::U32) => Data::F32(huge::zeros(len)),
            Format::Q8_0 => Data::Q8_0(Q8::zeros(n.div_ceil(NR), k)),
            Format::Fp8 | Format::Fp8Blocks => Data::Fp8(Fp8::zeros(n.div_ceil(NR), k, format)),
        };
        let paired = matches!(data, Data::BF16(_)) && precision == MatmulPrecision::Medium;
        Panels { n, k, paired, data }
    }

    /// How many panels there are.
    pub fn len(&self) -> usize {
        self.n.div_ceil(NR)
    }

    /// Rows of the matrix.
    pub fn n(&self) -> usize {
        self.n
    }

    /// Stores whole rows, given row-major in the matrix's own type.
    pub fn write(&mut self, row: usize, bytes: &[u8]) {
        match &mut self.data {
            Data::F32(data) => interleave(data, self.k, row, bytes),
            Data::F16(data) => interleave(data, self.k, row, bytes),
            Data::BF16(data) => interleave_pairs(data, self.k, row, bytes),
            Data::Q8_0(data) => data.write(row, bytes),
            Data::Fp8(data) => data.write(row, bytes),
        }
    }

    /// Whole rows, row-major in the matrix's own type.
    pub fn read(&self, rows: Range<usize>) -> Vec<u8> {
        match &self.data {
            Data::F32(data) => rows.flat_map(|r| gather(data, self.k, r)).collect(),
            Data::F16(data) => rows.flat_map(|r| gather(data, self.k, r)).collect(),
            Data::BF16(data) => {
                let row = |r| pairs_of(data, self.k, r).flatten().take(self.k);
                rows.flat_map(row).flat_map(|v| v.to_le_bytes()).collect()
            }
            Data::Q8_0(data) => rows.flat_map(|row| data.read(row)).collect(),
            Data::Fp8(data) => rows.flat_map(|row| data.read(row)).collect(),
        }
    }

    /// What the words of its panels are.
    pub fn words(&self) -> Words {
        match self.paired {
            false => Words::Columns,
            true if pairs::native() => Words::Pairs,
            true => Words::WidePairs,
        }
    }

    /// Some words of panel `p`, from an even one on. `scratch` holds them if they must be widened; where `few` rows are
    /// multiplied with them, bf16 is widened in registers.
    pub fn weights<'a>(
        &'a self,
        p: usize,
        words: Range<usize>,
        few: bool,
        scratch: &'a mut Vec<f32>,
    ) -> Weights<'a> {
        let len = words.len() * NR;
        let at = (p * self.k + words.start) * NR;
        if let Data::F32(data) = &self.data {
            return Weights::Words(bytemuck::cast_slice(&data[at..at + len]));
        }
        scratch.resize(len, 0.0);
        match &self.data {
            Data::F32(data) => scratch.copy_from_slice(&data[at..at + len]),
            Data::F16(data) => data[at..at + len].convert_to_f32_slice(scratch),
            Data::BF16(data) => {
                let count = self.k.div_ceil(2);
                let data: &[u32] = bytemuck::cast_slice(data);
                let kind = self.words();
                if kind == Words::Pairs {
                    return Weights::Words(&data[(p * count + words.start) * NR..][..len]);
                }
                let data = &data[(p * count + words.start / 2) * NR..][..words.len().div_ceil(2) * NR];
                if few && kind == Words::Columns {
                    return Weights::Bf16(data);
                }
                widen(data, kind, scratch);
            }
            Data::Q8_0(data) => data.widen(p, words, scratch),
            Data::Fp8(data) => data.widen(p, words, scratch),
        }
        Weights::Words(bytemuck::cast_slice(scratch))
    }

    /// Copies row `row` in f32.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let at = row / NR * self.k * NR + row % NR;
        let out = out.iter_mut();
        match &self.data {
            Data::F32(data) => out.zip(data[at..].iter().step_by(NR)).for_each(|(o, &v)| *o = v),
            Data::F16(data) => out.zip(data[at..].iter().step_by(NR)).for_each(|(o, v)| *o = v.to_f32()),
            Data::BF16(data) => {
                out.zip(pairs_of(data, self.k, row).flatten()).for_each(|(o, v)| *o = v.to_f32());
            }
            Data::Q8_0(data) => out.zip(data.values(row)).for_each(|(o, v)| *o = v),
            Data::Fp8(data) => out.zip(data.values(row)).for_each(|(o, v)| *o = v),
        }
    }
}

/// Widens pairs of bf16, of the last of which the second may be missing.
fn widen(pairs: &[u32], words: Words, to: &mut [f32]) {
    super::vectorized(
        #[inline(always)]
        || {
            let swapped = words == Words::WidePairs;
            for (to, pairs) in to.chunks_mut(2 * NR).zip(pairs.as_chunks::<NR>().0) {
                let (first, second) = to.split_at_mut(NR);
                let (even, odd) = if swapped { (second, first) } else { (first, second) };
                for (to, pair) in even.iter_mut().zip(pairs) {
                    *to = f32::from_bits(pair << 16);
                }
                for (to, pair) in odd.iter_mut().zip(pairs) {
                    *to = f32::from_bits(pair & 0xffff_0000);
                }
            }
        },
    );
}

fn interleave<T: bytemuck::Pod + Send + Sync>(data: &mut [T], k: usize, row: usize, bytes: &[u8]) {
    let width = k * size_of::<T>();
    let last = row + bytes.len() / width;
    data.par_chunks_mut(k * NR).enumerate().for_each(|(p, panel)| {
        for n in (p * NR).max(row)..((p + 1) * NR).min(last) {
            let from = bytes[(n - row) * width..][..width].chunks_exact(size_of::<T>());
            let to = panel[n - p * NR..].iter_mut().step_by(NR);
            to.zip(from).for_each(|(to, from)| *to = bytemuck::pod_read_unaligned(from));
        }
    });
}

fn gather<T: bytemuck::Pod>(data: &[T], k: usize, row: usize) -> Vec<u8> {
    let column = data[row / NR * k * NR + row % NR..].iter().step_by(NR).take(k);
    column.flat_map(|v| bytemuck::bytes_of(v).to_vec()).collect()
}

fn interleave_pairs(data: &mut [[bf16; 2]], k: usize, row: usize, bytes: &[u8]) {
    let count = k.div_ceil(2);
    let last = row + bytes.len() / (2 * k);
    data.par_chunks_mut(count * NR).enumerate().for_each(|(p, panel)| {
        for n in (p * NR).max(row)..((p + 1) * NR).min(last) {
            let from = bytes[(n - row) * 2 * k..][..2 * k].chunks(4);
            let to = panel[n - p * NR..].iter_mut().step_by(NR);
            for (to, from) in to.zip(from) {
                let (values, _) = from.as_chunks::<2>();
                to.iter_mut().zip(values).for_each(|(to, &from)| *to = bf16::from_le_bytes(from));
            }
        }
    });
}

/// The pairs of a row.
fn pairs_of(data: &[[bf16; 2]], k: usize, row: usize) -> impl Iterator<Item = [bf16; 2]> {
    let count = k.div_ceil(2);
    data[row / NR * count * NR + row % NR..].iter().step_by(NR).take(count).copied()
}
