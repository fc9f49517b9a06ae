//! The ops that process each row by itself.

use super::disjoint::Disjoint;
use super::math;
use super::memory::Memory;
use super::pages::{Element, store};
use super::team::Team;
use super::vectorized;
use crate::dtype::DType;
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
    each_row(team, memory, rows, x, |memory, r, x| sum(x, row(memory, add, r)));
}

fn sum(x: &mut [f32], add: &[f32]) {
    vectorized(
        #[inline(always)]
        || x.iter_mut().zip(add).for_each(|(x, add)| *x += add),
    );
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
            sum(x, row(memory, add, r));
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
        vectorized(
            #[inline(always)]
            || {
                for head in x.chunks_exact_mut(op.head_dim) {
                    let (low, high) = head[..rotary].split_at_mut(rotary / 2);
                    for ((low, high), (cos, sin)) in low.iter_mut().zip(high).zip(cos.iter().zip(sin)) {
                        (*low, *high) = (*low * cos - *high * sin, *high * cos + *low * sin);
                    }
                }
            },
        );
    });
}

/// KvWrite.
pub fn kv_write(team: &mut Team, memory: &mut Memory, step: &Step, op: &KvWrite) {
    match memory.dtype(op.k_pages) {
        DType::BF16 => write_pages::<u16>(team, memory, step, op),
        DType::E4M3 => write_pages::<u8>(team, memory, step, op),
        _ => write_pages::<f32>(team, memory, step, op),
    }
}

/// The same to pages of this type. A task has some columns of all rows, so that no two write the same element, whatever the
/// slots are.
fn write_pages<T: Element>(team: &mut Team, memory: &mut Memory, step: &Step, op: &KvWrite) {
    let KvWrite { k, v, k_pages, v_pages } = *op;
    let (mut keys, mut values) = (memory.take_pages(k_pages), memory.take_pages(v_pages));
    let to_keys = Disjoint::new(T::of_mut(&mut keys));
    let to_values = Disjoint::new(T::of_mut(&mut values));
    let shared = &*memory;
    let page_size = step.page_size;
    let least = (ELEMENTS / step.kv_slots.len().max(1)).max((k.cols + v.cols) / (2 * team.threads()));
    team.share_ranges(k.cols + v.cols, least, |cols| {
        let of_keys = cols.start.min(k.cols)..cols.end.min(k.cols);
        let of_values = cols.start.max(k.cols) - k.cols..cols.end.max(k.cols) - k.cols;
        for (r, &slot) in step.kv_slots.iter().enumerate() {
            let (page, place) = (slot as usize / page_size, slot as usize % page_size);
            let at = (page * k.cols + of_keys.start) * page_size;
            // SAFETY: these columns of all slots of the page belong to this task.
            let to = unsafe { to_keys.part(at, of_keys.len() * page_size) };
            store(to.get_mut(place..).unwrap_or_default(), page_size, &row(shared, k, r)[of_keys.clone()]);
            let at = slot as usize * v.cols + of_values.start;
            // SAFETY: these columns belong to this task.
            store(unsafe { to_values.part(at, of_values.len()) }, 1, &row(shared, v, r)[of_values.clone()]);
        }
    });
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
