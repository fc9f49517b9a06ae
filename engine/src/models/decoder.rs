//! The plan of a decoder-only transformer, for all [`super::FAMILIES`].

use super::checkpoint::{Source, Transform};
use super::config::{LayerConfig, ModelConfig};
use super::rope::Rope;
use crate::dtype::DType;
use crate::op::Op;
use crate::plan::{BufferId, BufferKind, Input, Plan, Rows, View};
use crate::step::SAMPLED_WORDS;

/// The types that the buffers of a plan are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Formats {
    /// Of activations.
    pub activations: DType,
    /// Of KV pages.
    pub kv: DType,
}

impl Default for Formats {
    fn default() -> Self {
        Formats { activations: DType::F32, kv: DType::F32 }
    }
}

/// A model as a plan, with the sources of its weights.
pub struct Decoder {
    /// The plan.
    pub plan: Plan,
    /// The weight buffers and where their contents come from.
    pub weights: Vec<(BufferId, Source)>,
}

/// Builds the plan for contexts of up to `max_len` tokens, `seqs` sequences and block tables of
/// `pages_per_seq` columns. `matrix` says in which type to hold a matrix, given its first tensor's name.
pub fn decoder(
    config: &ModelConfig,
    formats: &Formats,
    max_len: usize,
    seqs: usize,
    pages_per_seq: usize,
    matrix: impl Fn(&str) -> DType,
) -> Decoder {
    let (plan, weights, ropes) = (Plan::default(), Vec::new(), Vec::new());
    let builder = Builder { c: config, formats, plan, weights, ropes, max_len, matrix };
    builder.build(seqs, pages_per_seq)
}

/// The buffers that all layers share.
struct Shared {
    hidden: View,
    delta: View,
    normed: View,
    qkv: View,
    context: View,
    gate_up: View,
    gated: View,
    positions: BufferId,
    slots: BufferId,
    query_start: BufferId,
    seq_lens: BufferId,
    block_tables: BufferId,
}

struct Builder<'a, F> {
    c: &'a ModelConfig,
    formats: &'a Formats,
    plan: Plan,
    weights: Vec<(BufferId, Source)>,
    /// The RoPE tables so far.
    ropes: Vec<(&'a Rope, BufferId)>,
    max_len: usize,
    matrix: F,
}

impl<'a, F: Fn(&str) -> DType> Builder<'a, F> {
    fn build(mut self, seqs: usize, pages_per_seq: usize) -> Decoder {
        let c = self.c;
        let tokens = self.input(Input::Tokens, Rows::Tokens, 1);
        let table = self.matrix("model.embed_tokens", c.vocab, c.hidden);
        let last = self.plan.buffer("last tokens", BufferKind::State, DType::U32, Rows::Fixed(seqs), 1);
        let shared = Shared {
            hidden: self.activation("hidden", c.hidden),
            delta: self.activation("delta", c.hidden),
            normed: self.activation("normed", c.hidden),
            qkv: self.activation("qkv", c.qkv_cols()),
            context: self.activation("context", c.heads * c.head_dim),
            gate_up: self.activation("gate_up", 2 * c.intermediate),
            gated: self.activation("gated", c.intermediate),
            positions: self.input(Input::Positions, Rows::Tokens, 1),
            slots: self.input(Input::Slots, Rows::Tokens, 1),
            query_start: self.input(Input::QueryStart, Rows::SeqBounds, 1),
            seq_lens: self.input(Input::SeqLens, Rows::Seqs, 1),
            block_tables: self.input(Input::BlockTables, Rows::Seqs, pages_per_seq),
        };
        self.push(Op::Embed { tokens, last, table, out: shared.hidden });
        for (i, layer) in c.layers.iter().enumerate() {
            self.attention(i, layer, &shared);
            self.feed_forward(i, layer, &shared);
        }
        self.head(table, last, &shared);
        Decoder { plan: self.plan, weights: self.weights }
    }

    /// Norm, attention and its projection, which leaves the layer's first addend in `delta`.
    fn attention(&mut self, i: usize, layer: &'a LayerConfig, s: &Shared) {
        let c = self.c;
        let name = |part: &str| format!("model.layers.{i}.{part}");
        let d = c.head_dim;
        let (q_cols, kv_cols) = (c.heads * d, c.kv_heads * d);
        let cols = |start, cols| View { start, cols, ..s.qkv };
        let (q, k, v) = (cols(0, q_cols), cols(q_cols, kv_cols), cols(q_cols + kv_cols, kv_cols));

        // The addend of the layer before is still to be added to the residual stream.
        let add = (i > 0).then_some(s.delta);
        self.norm(&name(layer.norms.pre_attention), s.hidden, add, s.normed, c.hidden);
        let parts = ["q_proj", "k_proj", "v_proj"].map(|p| name(&format!("self_attn.{p}")));
        self.linear(&parts, layer.qkv_bias, s.normed, s.qkv);
        if layer.qk_norm {
            self.norm(&name("self_attn.q_norm"), q, None, q, d);
            self.norm(&name("self_attn.k_norm"), k, None, k, d);
        }
        let x = cols(0, q_cols + kv_cols);
        let table = self.rope(&layer.rope);
        self.push(Op::Rope { x, positions: s.positions, table, head_dim: d });
        let pages = |b: &mut Self, what: &str| {
            let name = format!("layers.{i}.{what}");
            b.plan.buffer(name, BufferKind::KvPage, b.formats.kv, Rows::Slots, kv_cols)
        };
        let (k_pages, v_pages) = (pages(self, "keys"), pages(self, "values"));
        self.push(Op::KvWrite { k, v, slots: s.slots, k_pages, v_pages });
        self.push(Op::PagedAttention {
            q,
            k_pages,
            v_pages,
            positions: s.positions,
            query_start: s.query_start,
            seq_lens: s.seq_lens,
            block_tables: s.block_tables,
            out: s.context,
            head_dim: d,
            scale: 1.0 / (d as f32).sqrt(),
            window: layer.window,
        });
        self.linear(&[name("self_attn.o_proj")], layer.o_bias, s.context, s.delta);
        if let Some(norm) = layer.norms.post_attention {
            self.norm(&name(norm), s.delta, None, s.delta, c.hidden);
        }
    }

    /// Norm and the gated layer, which leaves the layer's second addend in `delta`.
    fn feed_forward(&mut self, i: usize, layer: &LayerConfig, s: &Shared) {
        let c = self.c;
        let name = |part: &str| format!("model.layers.{i}.{part}");
        self.norm(&name(layer.norms.pre_mlp), s.hidden, Some(s.delta), s.normed, c.hidden);
        let parts = ["gate_proj", "up_proj"].map(|p| name(&format!("mlp.{p}")));
        self.linear(&parts, layer.mlp_bias, s.normed, s.gate_up);
        self.push(Op::GatedMul { x: s.gate_up, out: s.gated, act: c.activation });
        self.linear(&[name("mlp.down_proj")], layer.mlp_bias, s.gated, s.delta);
        if let Some(norm) = layer.norms.post_mlp {
            self.norm(&name(norm), s.delta, None, s.delta, c.hidden);
        }
    }

    /// The wanted rows, their norm, logits and tokens.
    fn head(&mut self, table: BufferId, last: BufferId, s: &Shared) {
        let c = self.c;
        let act = self.formats.activations;
        let outputs = |b: &mut Self, name: &str, dtype, cols| {
            let id = b.plan.buffer(name, BufferKind::Activation, dtype, Rows::Outputs, cols);
            b.plan.view(id)
        };
        let hidden = outputs(self, "wanted hidden", act, c.hidden);
        let delta = outputs(self, "wanted delta", act, c.hidden);
        let normed = outputs(self, "wanted normed", act, c.hidden);
        let logits = outputs(self, "logits", DType::F32, c.vocab);
        let rows = self.input(Input::OutputRows, Rows::Outputs, 1);
        self.push(Op::GatherRows { x: s.hidden, rows, out: hidden });
        self.push(Op::GatherRows { x: s.delta, rows, out: delta });
        self.norm("model.norm", hidden, Some(delta), normed, c.hidden);
        let weight = if c.tied { table } else { self.matrix("lm_head", c.vocab, c.hidden) };
        self.push(Op::Linear { x: normed, weight, bias: None, out: logits });
        let sampling = self.input(Input::Sampling, Rows::Outputs, 16);
        let adjustments = self.input(Input::Adjustments, Rows::Adjustments, 4);
        let masks = self.input(Input::Masks, Rows::Masks, c.vocab.div_ceil(32));
        let kind = BufferKind::StepOutput;
        let out = self.plan.buffer("sampled", kind, DType::U32, Rows::Outputs, SAMPLED_WORDS);
        self.push(Op::Sample { logits, sampling, adjustments, masks, last, out });
    }

    fn push(&mut self, op: Op) {
        self.plan.ops.push(op);
    }

    fn input(&mut self, input: Input, rows: Rows, cols: usize) -> BufferId {
        self.plan.buffer(format!("{input:?}"), BufferKind::StepInput(input), DType::U32, rows, cols)
    }

    /// The table of these RoPE parameters. Layers with equal ones share it.
    fn rope(&mut self, rope: &'a Rope) -> BufferId {
        if let Some((_, table)) = self.ropes.iter().find(|(other, _)| *other == rope) {
            return *table;
        }
        let name = match self.ropes.len() {
            0 => "rope".to_owned(),
            n => format!("rope.{n}"),
        };
        let (rows, cols) = (self.max_len, self.c.head_dim);
        let table = self.plan.buffer(name, BufferKind::Weight, DType::F32, Rows::Fixed(rows), cols);
        self.weights.push((table, Source::Values(rope.table(cols, rows))));
        self.ropes.push((rope, table));
        table
    }

    fn activation(&mut self, name: &str, cols: usize) -> View {
        let dtype = self.formats.activations;
        let id = self.plan.buffer(name, BufferKind::Activation, dtype, Rows::Tokens, cols);
        self.plan.view(id)
    }

    fn weight(&mut self, names: Vec<String>, dtype: DType, rows: usize, cols: usize) -> BufferId {
        let id = self.plan.buffer(names[0].clone(), BufferKind::Weight, dtype, Rows::Fixed(rows), cols);
        self.weights.push((id, Source::Tensors { names, transform: Transform::None }));
        id
    }

    fn matrix(&mut self, module: &str, rows: usize, cols: usize) -> BufferId {
        let tensor = format!("{module}.weight");
        let dtype = (self.matrix)(&tensor);
        self.weight(vec![tensor], dtype, rows, cols)
    }

    fn norm(&mut self, module: &str, x: View, add: Option<View>, out: View, width: usize) {
        let weight = self.weight(vec![format!("{module}.weight")], DType::F32, 1, width);
        self.push(Op::RmsNorm { x, add, weight, out, width, eps: self.c.rms_norm_eps });
    }

    /// A Linear whose weight is those of `modules`, one below the other.
    fn linear(&mut self, modules: &[String], bias: bool, x: View, out: View) {
        let tensors = |kind: &str| modules.iter().map(|m| format!("{m}.{kind}")).collect::<Vec<_>>();
        let names = tensors("weight");
        let dtype = (self.matrix)(&names[0]);
        let weight = self.weight(names, dtype, out.cols, x.cols);
        let bias = bias.then(|| self.weight(tensors("bias"), DType::F32, 1, out.cols));
        self.push(Op::Linear { x, weight, bias, out });
    }
}
