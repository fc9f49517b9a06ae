//! The ops that work on each row by itself.

use super::math;
use super::memory::{Memory, write_key};
use super::vectorized;
use crate::op::Activation;
use crate::plan::{BufferId, View};
use crate::step::{Step, last_slot};
use rayon::prelude::*;

/// Elements that a task takes at least: below that, waking a thread costs more than it saves.
const ELEMENTS: usize = 1 << 15;

/// Calls `f(row, out)` for each row of `out`, which is taken out of memory meanwhile.
fn each_row(memory: &mut Memory, rows: usize, out: View, f: impl Fn(&Memory, usize, &mut [f32]) + Sync) {
    let mut data = memory.take(out.buffer);
    let cols = memory.cols(out.buffer);
    let shared = &*memory;
    data[..rows * cols].par_chunks_mut(cols).with_min_len(ELEMENTS / cols).enumerate().for_each(
        |(r, row)| {
            f(shared, r, &mut row[out.start..][..out.cols]);
        },
    );
    memory.give(out.buffer, data);
}

/// A row of a view.
fn row(memory: &Memory, view: View, r: usize) -> &[f32] {
    &memory.float(view.buffer)[r * memory.cols(view.buffer) + view.start..][..view.cols]
}

/// Embed. A token beyond the table is a bug of the caller and panics.
pub fn embed(memory: &mut Memory, rows: usize, tokens: BufferId, last: BufferId, table: BufferId, out: View) {
    each_row(memory, rows, out, |memory, r, out| {
        let token = memory.int(tokens)[r];
        let token = last_slot(token).map_or(token, |slot| memory.int(last)[slot as usize]);
        let table = memory.panels(table);
        assert!((token as usize) < table.n(), "token {token} is beyond the vocabulary of {}", table.n());
        table.row(token as usize, out);
    });
}

/// `out = a + b`; `out` may be `a`.
pub fn add(memory: &mut Memory, rows: usize, a: View, b: View, out: View) {
    if out.buffer != a.buffer {
        each_row(memory, rows, out, |memory, r, out| out.copy_from_slice(row(memory, a, r)));
    }
    each_row(memory, rows, out, |memory, r, out| {
        let b = row(memory, b, r);
        out.iter_mut().zip(b).for_each(|(out, b)| *out += b);
    });
}

/// RmsNorm without its residual; `out` may be `x`.
pub fn rms_norm(
    memory: &mut Memory,
    rows: usize,
    x: View,
    weight: BufferId,
    out: View,
    width: usize,
    eps: f32,
) {
    let in_place = x.buffer == out.buffer;
    each_row(memory, rows, out, |memory, r, out| {
        if !in_place {
            out.copy_from_slice(row(memory, x, r));
        }
        let weight = memory.float(weight);
        vectorized(
            #[inline(always)]
            || {
                for x in out.chunks_exact_mut(width) {
                    let squares = math::sum(width, |i| x[i] * x[i]);
                    let scale = 1.0 / (squares / width as f32 + eps).sqrt();
                    for (x, w) in x.iter_mut().zip(weight) {
                        *x = *x * scale * w;
                    }
                }
            },
        );
    });
}

/// Rope, in place.
pub fn rope(
    memory: &mut Memory,
    rows: usize,
    x: View,
    positions: BufferId,
    table: BufferId,
    head_dim: usize,
) {
    let rotary = memory.cols(table);
    each_row(memory, rows, x, |memory, r, x| {
        let position = memory.int(positions)[r] as usize;
        let (cos, sin) = memory.float(table)[position * rotary..][..rotary].split_at(rotary / 2);
        for head in x.chunks_exact_mut(head_dim) {
            let (low, high) = head[..rotary].split_at_mut(rotary / 2);
            for i in 0..rotary / 2 {
                let (a, b) = (low[i], high[i]);
                low[i] = a * cos[i] - b * sin[i];
                high[i] = b * cos[i] + a * sin[i];
            }
        }
    });
}

/// KvWrite.
pub fn kv_write(
    memory: &mut Memory,
    step: &Step,
    k: View,
    v: View,
    slots: BufferId,
    k_pages: BufferId,
    v_pages: BufferId,
) {
    let (mut keys, mut values) = (memory.take(k_pages), memory.take(v_pages));
    for (r, &slot) in memory.int(slots).iter().enumerate() {
        write_key(&mut keys, step.page_size, slot as usize, row(memory, k, r));
        values[slot as usize * v.cols..][..v.cols].copy_from_slice(row(memory, v, r));
    }
    memory.give(k_pages, keys);
    memory.give(v_pages, values);
}

/// GatedMul.
pub fn gated_mul(memory: &mut Memory, rows: usize, x: View, out: View, act: Activation) {
    each_row(memory, rows, out, |memory, r, out| {
        let (gate, up) = row(memory, x, r).split_at(out.len());
        vectorized(
            #[inline(always)]
            || match act {
                Activation::Silu => {
                    for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        *out = math::silu(g) * u;
                    }
                }
                Activation::GeluTanh => {
                    for ((out, &g), &u) in out.iter_mut().zip(gate).zip(up) {
                        *out = math::gelu_tanh(g) * u;
                    }
                }
            },
        );
    });
}

/// GatherRows.
pub fn gather(memory: &mut Memory, rows: usize, x: View, index: BufferId, out: View) {
    each_row(memory, rows, out, |memory, r, out| {
        out.copy_from_slice(row(memory, x, memory.int(index)[r] as usize));
    });
}
