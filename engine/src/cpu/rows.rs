//! The ops that process each row by itself.

use super::disjoint::Disjoint;
use super::math;
use super::memory::{Memory, store_key};
use super::team::Team;
use super::vectorized;
use crate::op::{Activation, Add, Embed, GatedMul, GatherRows, KvWrite, RmsNorm, Rope, SoftCap};
use crate::plan::View;
use crate::step::{Step, last_slot};

/// The smallest number of elements of a task: enough to pay for taking it.
const ELEMENTS: usize = 1 << 13;

/// Calls `f(row, out)` for each row of `out`, which is taken out of the memory in the meantime.
fn each_row(
    team: &mut Team,
    memory: &mut Memory,
    rows: usize,
    out: View,
    f: impl Fn(&Memory, usize, &mut [f32]) + Sync,
) {
    let mut data = memory.take(out.buffer);
    let cols = memory.cols(out.buffer);
    let shared = &*memory;
    let target = Disjoint::new(&mut data);
    team.share_ranges(rows, ELEMENTS / cols, |rows| {
        for r in rows {
            // SAFETY: the row belongs to this task.
            f(shared, r, unsafe { target.part(r * cols + out.start, out.cols) });
        }
    });
    memory.give(out.buffer, data);
}

/// A row of a view.
fn row(memory: &Memory, view: View, r: usize) -> &[f32] {
    &memory.float(view.buffer)[r * memory.cols(view.buffer) + view.start..][..view.cols]
}

/// Embed. Panics on a token beyond the table: that is a bug in the caller.
pub fn embed(team: &mut Team, memory: &mut Memory, step: &Step, op: &Embed) {
    each_row(team, memory, step.tokens.len(), op.out, |memory, r, out| {
        let token = step.tokens[r];
        let token = last_slot(token).map_or(token, |slot| memory.int(op.last)[slot as usize]);
        let table = memory.panels(op.table);
        assert!((token as usize) < table.n(), "token {token} is beyond the vocabulary of {}", table.n());
        table.row(token as usize, out);
        if op.scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= op.scale);
        }
    });
}

/// Add; `out` may be `a` or `b`.
pub fn add(team: &mut Team, memory: &mut Memory, rows: usize, op: &Add) {
    let Add { a, b, out } = *op;
    let (copied, added) = if out.buffer == b.buffer { (b, a) } else { (a, b) };
    if out.buffer != copied.buffer {
        each_row(team, memory, rows, out, |memory, r, out| out.copy_from_slice(row(memory, copied, r)));
    }
    add_to(team, memory, rows, out, added);
}

/// `x += add`.
fn add_to(team: &mut Team, memory: &mut Memory, rows: usize, x: View, add: View) {
    each_row(team, memory, rows, x, |memory, r, x| {
        x.iter_mut().zip(row(memory, add, r)).for_each(|(x, add)| *x += add);
    });
}

/// RmsNorm; `out` may be `x`.
pub fn rms_norm(team: &mut Team, memory: &mut Memory, rows: usize, op: &RmsNorm) {
    let RmsNorm { x, add, weight, out, width, eps } = *op;
    let in_place = x.buffer == out.buffer;
    if in_place || add.is_some_and(|add| add.buffer == out.buffer) {
        if let Some(add) = add {
            add_to(team, memory, rows, x, add);
        }
        each_row(team, memory, rows, out, |memory, r, out| {
            if !in_place {
                out.copy_from_slice(row(memory, x, r));
            }
            normalize(out, memory.float(weight), width, eps);
        });
        return;
    }
    // One pass over the rows instead of two.
    let mut sums = memory.take(x.buffer);
    let cols = memory.cols(x.buffer);
    let target = Disjoint::new(&mut sums);
    each_row(team, memory, rows, out, |memory, r, out| {
        // SAFETY: the row belongs to this task.
        let x = unsafe { target.part(r * cols + x.start, x.cols) };
        if let Some(add) = add {
            x.iter_mut().zip(row(memory, add, r)).for_each(|(x, add)| *x += add);
        }
        out.copy_from_slice(x);
        normalize(out, memory.float(weight), width, eps);
    });
    memory.give(x.buffer, sums);
}

/// Normalizes each `width` columns of a row.
fn normalize(row: &mut [f32], weight: &[f32], width: usize, eps: f32) {
    vectorized(
        #[inline(always)]
        || {
            for x in row.chunks_exact_mut(width) {
                let squares = math::sum(width, |i| x[i] * x[i]);
                let scale = 1.0 / (squares / width as f32 + eps).sqrt();
                for (x, w) in x.iter_mut().zip(weight) {
                    *x = *x * scale * w;
                }
            }
        },
    );
}

/// Rope, in place.
pub fn rope(team: &mut Team, memory: &mut Memory, step: &Step, op: &Rope) {
    let rotary = memory.cols(op.table);
    each_row(team, memory, step.tokens.len(), op.x, |memory, r, x| {
        let position = step.positions[r] as usize;
        let (cos, sin) = memory.float(op.table)[position * rotary..][..rotary].split_at(rotary / 2);
        for head in x.chunks_exact_mut(op.head_dim) {
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
pub fn kv_write(memory: &mut Memory, step: &Step, op: &KvWrite) {
    let KvWrite { k, v, k_pages, v_pages } = *op;
    let (mut keys, mut values) = (memory.take_pages(k_pages), memory.take_pages(v_pages));
    for (r, &slot) in step.kv_slots.iter().enumerate() {
        store_key(&mut keys, step.page_size, slot as usize, row(memory, k, r));
        values.store(slot as usize * v.cols, 1, row(memory, v, r));
    }
    memory.give_pages(k_pages, keys);
    memory.give_pages(v_pages, values);
}

/// GatedMul.
pub fn gated_mul(team: &mut Team, memory: &mut Memory, rows: usize, op: &GatedMul) {
    each_row(team, memory, rows, op.out, |memory, r, out| {
        let (gate, up) = row(memory, op.x, r).split_at(out.len());
        vectorized(
            #[inline(always)]
            || match op.act {
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
pub fn gather_rows(team: &mut Team, memory: &mut Memory, step: &Step, op: &GatherRows) {
    each_row(team, memory, step.output_rows.len(), op.out, |memory, r, out| {
        out.copy_from_slice(row(memory, op.x, step.output_rows[r] as usize));
    });
}

/// SoftCap, in place.
pub fn soft_cap(team: &mut Team, memory: &mut Memory, rows: usize, op: &SoftCap) {
    each_row(team, memory, rows, op.x, |_, _, x| {
        vectorized(
            #[inline(always)]
            || x.iter_mut().for_each(|x| *x = math::soft_cap(*x, op.cap)),
        );
    });
}
