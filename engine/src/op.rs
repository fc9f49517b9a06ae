//! The ops of a plan: what they compute, what shapes they take, what they cost.
//!
//! All arithmetic is in f32 whatever the buffers hold; a result is rounded once when it is stored.

use crate::dtype::DType;
use crate::plan::{BufferId, BufferKind, Dims, Plan, Rows, View};
use crate::step::SAMPLED_WORDS;

/// The gate function of [`Op::GatedMul`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Activation {
    /// `x * sigmoid(x)`.
    Silu,
    /// `0.5 x (1 + tanh(sqrt(2/pi) (x + 0.044715 x^3)))`.
    GeluTanh,
}

/// One op. `[rows, cols]` shapes; `T` tokens, `S` sequences, `O` output positions.
#[derive(Clone, Debug, PartialEq)]
pub enum Op {
    /// `out[t] = table[token[t]]`, where a token may refer to `last` (see [`crate::step::from_last`]).
    Embed {
        /// `[T, 1]` u32, the tokens of the step.
        tokens: BufferId,
        /// `[max seqs, 1]` u32 state: the last token of each slot.
        last: BufferId,
        /// `[V, H]` weight.
        table: BufferId,
        /// `[T, H]`.
        out: View,
    },
    /// `x += add` where there is one, then over each run of `width` columns
    /// `out = x / sqrt(mean(x^2) + eps) * weight`.
    RmsNorm {
        /// `[R, C]`; written if `add` is there.
        x: View,
        /// `[R, C]`, added to `x` first: the residual.
        add: Option<View>,
        /// `[1, width]` weight.
        weight: BufferId,
        /// `[R, C]`; may be `x`.
        out: View,
        /// Columns normalised together: all, or a head's.
        width: usize,
        /// Keeps the root from zero.
        eps: f32,
    },
    /// `out = x weight^T + bias`. Each element sums over K in one order, whatever the row count.
    Linear {
        /// `[R, K]`.
        x: View,
        /// `[N, K]` weight.
        weight: BufferId,
        /// `[1, N]` weight.
        bias: Option<BufferId>,
        /// `[R, N]`.
        out: View,
    },
    /// Rotates pairs `(i, i + rotary/2)` of each head in place by the angles of the token's position.
    Rope {
        /// `[T, heads * head_dim]`.
        x: View,
        /// `[T, 1]` u32.
        positions: BufferId,
        /// `[max positions, rotary]` f32 weight: cosines, then sines.
        table: BufferId,
        /// Columns of a head.
        head_dim: usize,
    },
    /// Stores each token's key and value in its slot.
    KvWrite {
        /// `[T, kv_heads * head_dim]`.
        k: View,
        /// `[T, kv_heads * head_dim]`.
        v: View,
        /// `[T, 1]` u32.
        slots: BufferId,
        /// `[Slots, kv_heads * head_dim]` KV pages.
        k_pages: BufferId,
        /// `[Slots, kv_heads * head_dim]` KV pages.
        v_pages: BufferId,
    },
    /// `out[t, h] = softmax(scale * q[t, h] . k[0..=p]) v[0..=p]` over the positions of the token's own
    /// sequence up to its own position `p`, at most `window` of them where there is one.
    PagedAttention {
        /// `[T, heads * head_dim]`.
        q: View,
        /// `[Slots, kv_heads * head_dim]`.
        k_pages: BufferId,
        /// `[Slots, kv_heads * head_dim]`.
        v_pages: BufferId,
        /// `[T, 1]` u32.
        positions: BufferId,
        /// `[S + 1, 1]` u32.
        query_start: BufferId,
        /// `[S, 1]` u32.
        seq_lens: BufferId,
        /// `[S, pages_per_seq]` u32.
        block_tables: BufferId,
        /// `[T, heads * head_dim]`.
        out: View,
        /// Columns of a head.
        head_dim: usize,
        /// Multiplies the scores.
        scale: f32,
        /// The most positions that a token sees, itself among them.
        window: Option<usize>,
    },
    /// `out = act(x[.., ..N]) * x[.., N..]`.
    GatedMul {
        /// `[R, 2N]`: gate, then up.
        x: View,
        /// `[R, N]`.
        out: View,
        /// The gate function.
        act: Activation,
    },
    /// `out = a + b`.
    Add {
        /// `[R, C]`.
        a: View,
        /// `[R, C]`.
        b: View,
        /// `[R, C]`; may be `a` or `b`.
        out: View,
    },
    /// `out[o] = x[row[o]]`.
    GatherRows {
        /// `[T, C]`.
        x: View,
        /// `[O, 1]` u32.
        rows: BufferId,
        /// `[O, C]`.
        out: View,
    },
    /// Chooses a token from each row of logits; see [`crate::sample`] for the definition.
    Sample {
        /// `[O, V]` f32.
        logits: View,
        /// `[O, 16]` u32: [`crate::step::SampleRow`]s.
        sampling: BufferId,
        /// `[adjustments, 4]` u32: [`crate::step::Adjustment`]s.
        adjustments: BufferId,
        /// `[masks, ceil(V / 32)]` u32.
        masks: BufferId,
        /// `[max seqs, 1]` u32 state, written where a row has a slot.
        last: BufferId,
        /// `[O, SAMPLED_WORDS]` u32: [`crate::step::Sampled`]s.
        out: BufferId,
    },
}

/// What an op moves and computes at given dimensions.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// Bytes read and written, each operand once.
    pub bytes: u64,
    /// Floating-point operations, a multiply-add as two.
    pub flops: u64,
}

impl Op {
    /// The op's name.
    pub const fn name(&self) -> &'static str {
        match self {
            Op::Embed { .. } => "Embed",
            Op::RmsNorm { .. } => "RmsNorm",
            Op::Linear { .. } => "Linear",
            Op::Rope { .. } => "Rope",
            Op::KvWrite { .. } => "KvWrite",
            Op::PagedAttention { .. } => "PagedAttention",
            Op::GatedMul { .. } => "GatedMul",
            Op::Add { .. } => "Add",
            Op::GatherRows { .. } => "GatherRows",
            Op::Sample { .. } => "Sample",
        }
    }

    /// Checks shapes and types.
    ///
    /// # Errors
    /// What does not fit, with the buffers' names.
    pub fn check(&self, plan: &Plan) -> Result<(), String> {
        let c = Checker { plan };
        match *self {
            Op::Embed { tokens, last, table, out } => {
                c.ints(tokens, Rows::Tokens, 1)?;
                c.cols(last, 1)?;
                c.weight(table, None, out.cols)?;
                c.rows(out, Rows::Tokens)
            }
            Op::RmsNorm { x, add, weight, out, width, .. } => {
                c.same(x, out)?;
                if let Some(add) = add {
                    c.same(x, add)?;
                }
                if width == 0 || !x.cols.is_multiple_of(width) {
                    return Err(format!("width {width} does not divide {} columns", x.cols));
                }
                c.weight(weight, Some(Rows::Fixed(1)), width)
            }
            Op::Linear { x, weight, bias, out } => {
                c.same_rows(x, out)?;
                c.weight(weight, Some(Rows::Fixed(out.cols)), x.cols)?;
                bias.map_or(Ok(()), |bias| c.weight(bias, Some(Rows::Fixed(1)), out.cols))
            }
            Op::Rope { x, positions, table, head_dim } => {
                c.heads(x, head_dim)?;
                c.rows(x, Rows::Tokens)?;
                c.ints(positions, Rows::Tokens, 1)?;
                let rotary = plan.desc(table).cols;
                if !rotary.is_multiple_of(2) || rotary > head_dim {
                    return Err(format!("{rotary} rotary columns do not fit a head of {head_dim}"));
                }
                c.weight(table, None, rotary)
            }
            Op::KvWrite { k, v, slots, k_pages, v_pages } => {
                c.same_rows(k, v)?;
                c.ints(slots, Rows::Tokens, 1)?;
                c.pages(k_pages, k.cols)?;
                c.pages(v_pages, v.cols)
            }
            Op::PagedAttention {
                q,
                k_pages,
                v_pages,
                positions,
                query_start,
                seq_lens,
                out,
                head_dim,
                ..
            } => {
                c.same(q, out)?;
                c.heads(q, head_dim)?;
                let kv = plan.desc(k_pages).cols;
                c.pages(k_pages, kv)?;
                c.pages(v_pages, kv)?;
                if kv == 0 || !kv.is_multiple_of(head_dim) || !q.cols.is_multiple_of(kv) {
                    return Err(format!("{} query columns do not group over {kv} key columns", q.cols));
                }
                c.ints(positions, Rows::Tokens, 1)?;
                c.ints(query_start, Rows::SeqBounds, 1)?;
                c.ints(seq_lens, Rows::Seqs, 1)
            }
            Op::GatedMul { x, out, .. } => {
                c.same_rows(x, out)?;
                if x.cols != 2 * out.cols {
                    return Err(format!("{} columns are not twice {}", x.cols, out.cols));
                }
                Ok(())
            }
            Op::Add { a, b, out } => c.same(a, b).and(c.same(a, out)),
            Op::GatherRows { x, rows, out } => {
                c.ints(rows, Rows::Outputs, 1)?;
                c.rows(out, Rows::Outputs)?;
                if x.cols != out.cols {
                    return Err(format!("{} columns gathered into {}", x.cols, out.cols));
                }
                Ok(())
            }
            Op::Sample { logits, sampling, adjustments, masks, last, out } => {
                c.rows(logits, Rows::Outputs)?;
                c.ints(sampling, Rows::Outputs, 16)?;
                c.ints(adjustments, Rows::Adjustments, 4)?;
                c.ints(masks, Rows::Masks, logits.cols.div_ceil(32))?;
                c.cols(last, 1)?;
                c.ints(out, Rows::Outputs, SAMPLED_WORDS)
            }
        }
    }

    /// The columns of activations that the op reads.
    pub fn reads(&self) -> Vec<View> {
        match *self {
            Op::Embed { .. } => Vec::new(),
            Op::RmsNorm { x, add, .. } => [x].into_iter().chain(add).collect(),
            Op::KvWrite { k, v, .. } => vec![k, v],
            Op::Add { a, b, .. } => vec![a, b],
            Op::PagedAttention { q, .. } => vec![q],
            Op::Sample { logits, .. } => vec![logits],
            Op::Linear { x, .. } | Op::Rope { x, .. } | Op::GatedMul { x, .. } | Op::GatherRows { x, .. } => {
                vec![x]
            }
        }
    }

    /// The columns of activations that the op writes, in all rows of the step.
    pub fn writes(&self) -> Vec<View> {
        match *self {
            Op::RmsNorm { x, add: Some(_), out, .. } => vec![x, out],
            Op::Rope { x, .. } => vec![x],
            Op::KvWrite { .. } | Op::Sample { .. } => Vec::new(),
            Op::Embed { out, .. }
            | Op::RmsNorm { out, .. }
            | Op::Linear { out, .. }
            | Op::PagedAttention { out, .. }
            | Op::GatedMul { out, .. }
            | Op::Add { out, .. }
            | Op::GatherRows { out, .. } => vec![out],
        }
    }

    /// What the op moves and computes. `dims.attended` counts attended positions over all tokens.
    pub fn cost(&self, plan: &Plan, dims: &Dims) -> Cost {
        let rows = |v: View| dims.count(plan.desc(v.buffer).rows);
        let view = |v: View| (rows(v) * v.cols * plan.desc(v.buffer).dtype.size()) as u64;
        let whole = |id: BufferId| plan.desc(id).bytes(dims) as u64;
        match *self {
            Op::Embed { out, .. } => Cost { bytes: 2 * view(out), flops: 0 },
            Op::RmsNorm { x, add, out, .. } => Cost {
                bytes: view(x) + view(out) + add.map_or(0, |a| view(a) + view(x)),
                flops: 4 * (rows(x) * x.cols) as u64,
            },
            Op::Linear { x, weight, bias, out } => Cost {
                bytes: view(x) + whole(weight) + bias.map_or(0, whole) + view(out),
                flops: 2 * (rows(x) * x.cols * out.cols) as u64,
            },
            Op::Rope { x, .. } => Cost { bytes: 2 * view(x), flops: 3 * (rows(x) * x.cols) as u64 },
            Op::KvWrite { k, v, .. } => Cost { bytes: 2 * (view(k) + view(v)), flops: 0 },
            Op::PagedAttention { q, k_pages, out, .. } => {
                let kv = plan.desc(k_pages);
                Cost {
                    bytes: view(q) + view(out) + 2 * (dims.attended * kv.cols * kv.dtype.size()) as u64,
                    flops: 4 * (dims.attended * q.cols) as u64,
                }
            }
            Op::GatedMul { x, out, .. } => {
                Cost { bytes: view(x) + view(out), flops: 6 * (rows(out) * out.cols) as u64 }
            }
            Op::Add { a, b, out } => {
                Cost { bytes: view(a) + view(b) + view(out), flops: (rows(a) * a.cols) as u64 }
            }
            Op::GatherRows { out, .. } => Cost { bytes: 2 * view(out), flops: 0 },
            Op::Sample { logits, .. } => {
                Cost { bytes: view(logits), flops: 4 * (rows(logits) * logits.cols) as u64 }
            }
        }
    }
}

/// Shape checks with messages that name the buffer.
struct Checker<'a> {
    plan: &'a Plan,
}

impl Checker<'_> {
    fn rows(&self, v: View, rows: Rows) -> Result<(), String> {
        let d = self.plan.desc(v.buffer);
        if v.start + v.cols > d.cols {
            return Err(format!("columns {}..{} are not in {}", v.start, v.start + v.cols, d.name));
        }
        if !d.dtype.is_float() {
            return Err(format!("{} holds {}, not floats", d.name, d.dtype));
        }
        if d.rows == rows { Ok(()) } else { Err(format!("{} has {:?} rows, not {rows:?}", d.name, d.rows)) }
    }

    fn same_rows(&self, a: View, b: View) -> Result<(), String> {
        self.rows(a, self.plan.desc(a.buffer).rows)?;
        self.rows(b, self.plan.desc(a.buffer).rows)
    }

    fn same(&self, a: View, b: View) -> Result<(), String> {
        self.same_rows(a, b)?;
        if a.cols == b.cols { Ok(()) } else { Err(format!("{} columns against {}", a.cols, b.cols)) }
    }

    fn cols(&self, id: BufferId, cols: usize) -> Result<(), String> {
        let d = self.plan.desc(id);
        if d.cols == cols { Ok(()) } else { Err(format!("{} has {} columns, not {cols}", d.name, d.cols)) }
    }

    fn ints(&self, id: BufferId, rows: Rows, cols: usize) -> Result<(), String> {
        let d = self.plan.desc(id);
        if d.dtype != DType::U32 || d.rows != rows {
            return Err(format!("{} is {} by {:?}, not u32 by {rows:?}", d.name, d.dtype, d.rows));
        }
        self.cols(id, cols)
    }

    fn weight(&self, id: BufferId, rows: Option<Rows>, cols: usize) -> Result<(), String> {
        let d = self.plan.desc(id);
        if d.kind != BufferKind::Weight {
            return Err(format!("{} is no weight", d.name));
        }
        if rows.is_some_and(|rows| d.rows != rows) {
            return Err(format!("{} has {:?} rows, not {rows:?}", d.name, d.rows));
        }
        self.cols(id, cols)
    }

    fn pages(&self, id: BufferId, cols: usize) -> Result<(), String> {
        let d = self.plan.desc(id);
        if d.kind != BufferKind::KvPage || d.rows != Rows::Slots {
            return Err(format!("{} holds no KV pages", d.name));
        }
        self.cols(id, cols)
    }

    fn heads(&self, v: View, head_dim: usize) -> Result<(), String> {
        if head_dim == 0 || !head_dim.is_multiple_of(2) || !v.cols.is_multiple_of(head_dim) {
            return Err(format!("{} columns are no heads of {head_dim}", v.cols));
        }
        Ok(())
    }
}
