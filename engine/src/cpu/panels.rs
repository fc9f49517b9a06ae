//! Weight matrices in the layout of the matrix kernel: `[panel][k][NR]`, in their own float type, or
//! `[panel][k / 2][NR][2]` for products of bf16 pairs; block formats have files of their own.

use super::fp8::Fp8;
use super::pairs;
use super::q8::Q8;
use super::sums::NR;
use super::tile::Words;
use crate::dtype::DType;
use crate::format::Format;
use half::slice::HalfFloatSliceExt;
use half::{bf16, f16};
use rayon::prelude::*;

/// An `[n, k]` matrix whose rows are the columns of a product. Missing rows of the last panel are zero.
pub struct Panels {
    n: usize,
    k: usize,
    data: Data,
}

enum Data {
    F32(Vec<f32>),
    F16(Vec<f16>),
    BF16(Vec<bf16>),
    Pairs(Vec<[bf16; 2]>),
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
            Format::Plain(DType::BF16) if precision == MatmulPrecision::Medium => {
                Data::Pairs(vec![[bf16::ZERO; 2]; n.div_ceil(NR) * NR * k.div_ceil(2)])
            }
            Format::Plain(DType::F16) => Data::F16(vec![f16::ZERO; len]),
            Format::Plain(DType::BF16) => Data::BF16(vec![bf16::ZERO; len]),
            Format::Plain(DType::F32 | DType::E4M3 | DType::U32) => Data::F32(vec![0.0; len]),
            Format::Q8_0 => Data::Q8_0(Q8::zeros(n.div_ceil(NR), k)),
            Format::Fp8 | Format::Fp8Blocks => Data::Fp8(Fp8::zeros(n.div_ceil(NR), k, format)),
        };
        Panels { n, k, data }
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
            Data::BF16(data) => interleave(data, self.k, row, bytes),
            Data::Pairs(data) => interleave_pairs(data, self.k, row, bytes),
            Data::Q8_0(data) => data.write(row, bytes),
            Data::Fp8(data) => data.write(row, bytes),
        }
    }

    /// Whole rows, row-major in the matrix's own type.
    pub fn read(&self, rows: std::ops::Range<usize>) -> Vec<u8> {
        match &self.data {
            Data::F32(data) => rows.flat_map(|r| gather(data, self.k, r)).collect(),
            Data::F16(data) => rows.flat_map(|r| gather(data, self.k, r)).collect(),
            Data::BF16(data) => rows.flat_map(|r| gather(data, self.k, r)).collect(),
            Data::Pairs(data) => {
                let row = |r| pairs_of(data, self.k, r).flatten().take(self.k);
                rows.flat_map(row).flat_map(|v| v.to_le_bytes()).collect()
            }
            Data::Q8_0(data) => rows.flat_map(|row| data.read(row)).collect(),
            Data::Fp8(data) => rows.flat_map(|row| data.read(row)).collect(),
        }
    }

    /// What the words of its panels are.
    pub fn words(&self) -> Words {
        match &self.data {
            Data::Pairs(_) if pairs::native() => Words::Pairs,
            Data::Pairs(_) => Words::WidePairs,
            _ => Words::Columns,
        }
    }

    /// Panel `p`, `[word][NR]`; `scratch` holds it if it must be widened.
    pub fn words_of<'a>(&'a self, p: usize, scratch: &'a mut Vec<f32>) -> &'a [u32] {
        let words = self.words();
        if let (Data::Pairs(data), Words::Pairs) = (&self.data, words) {
            let len = words.count(self.k) * NR;
            return bytemuck::cast_slice(&data[p * len..(p + 1) * len]);
        }
        bytemuck::cast_slice(self.widen(p, scratch))
    }

    fn widen<'a>(&'a self, p: usize, scratch: &'a mut Vec<f32>) -> &'a [f32] {
        let range = p * self.k * NR..(p + 1) * self.k * NR;
        match &self.data {
            Data::F32(data) => &data[range],
            Data::Pairs(data) => {
                let len = self.k.div_ceil(2) * NR;
                scratch.resize(2 * len, 0.0);
                let pairs = data[p * len..(p + 1) * len].chunks_exact(NR);
                for (to, pairs) in scratch.chunks_exact_mut(2 * NR).zip(pairs) {
                    let (odd, even) = to.split_at_mut(NR);
                    for ((odd, even), pair) in odd.iter_mut().zip(even).zip(pairs) {
                        (*even, *odd) = (pair[0].to_f32(), pair[1].to_f32());
                    }
                }
                scratch
            }
            Data::F16(data) => {
                scratch.resize(range.len(), 0.0);
                data[range].convert_to_f32_slice(scratch);
                scratch
            }
            Data::BF16(data) => {
                scratch.resize(range.len(), 0.0);
                widen_bf16(&data[range], scratch);
                scratch
            }
            Data::Q8_0(data) => {
                scratch.resize(range.len(), 0.0);
                data.widen(p, scratch);
                scratch
            }
            Data::Fp8(data) => {
                scratch.resize(range.len(), 0.0);
                data.widen(p, scratch);
                scratch
            }
        }
    }

    /// Copies row `row` in f32.
    pub fn row(&self, row: usize, out: &mut [f32]) {
        let at = row / NR * self.k * NR + row % NR;
        let out = out.iter_mut();
        match &self.data {
            Data::F32(data) => out.zip(data[at..].iter().step_by(NR)).for_each(|(o, &v)| *o = v),
            Data::F16(data) => out.zip(data[at..].iter().step_by(NR)).for_each(|(o, v)| *o = v.to_f32()),
            Data::BF16(data) => out.zip(data[at..].iter().step_by(NR)).for_each(|(o, v)| *o = v.to_f32()),
            Data::Pairs(data) => {
                out.zip(pairs_of(data, self.k, row).flatten()).for_each(|(o, v)| *o = v.to_f32());
            }
            Data::Q8_0(data) => out.zip(data.values(row)).for_each(|(o, v)| *o = v),
            Data::Fp8(data) => out.zip(data.values(row)).for_each(|(o, v)| *o = v),
        }
    }
}

fn widen_bf16(from: &[bf16], to: &mut [f32]) {
    super::vectorized(
        #[inline(always)]
        || {
            for (to, from) in to.iter_mut().zip(from) {
                *to = f32::from_bits(u32::from(from.to_bits()) << 16);
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
