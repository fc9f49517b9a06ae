//! The plan of a decoder-only transformer, for all [`super::FAMILIES`].

use super::checkpoint::{Source, Transform};
use super::config::{LayerConfig, ModelConfig};
use super::rope::RopeParameters;
use crate::dtype::DType;
use crate::error::EngineError;
use crate::format::Format;
use crate::op::{
    Embed, GatedMul, GatherRows, KvWrite, Linear, Op, PagedAttention, RmsNorm, Rope, Sample, SoftCap,
};
use crate::plan::{BufferId, BufferKind, Plan, Rows, View};
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

impl Decoder {
    /// Checks that the rows of every weight are whole blocks of its format.
    ///
    /// # Errors
    /// The tensor whose rows are not.
    pub fn check_blocks(&self) -> Result<(), EngineError> {
        for (buffer, _) in &self.weights {
            let desc = self.plan.desc(*buffer);
            let (format, cols) = (desc.format, desc.cols);
            if !cols.is_multiple_of(format.block()) {
                let (name, block) = (&desc.name, format.block());
                let why =
                    format!("tensor {name} has {cols} columns, and a row of {format} is blocks of {block}");
                return Err(EngineError::Option { field: "quantization", why });
            }
        }
        Ok(())
    }

    /// The formats of its matrices, each once, in the order of the model.
    pub fn weight_formats(&self) -> Vec<Format> {
        let mut formats = Vec::new();
        for (id, source) in &self.weights {
            let desc = self.plan.desc(*id);
            let matrix = matches!(source, Source::Tensors { .. }) && desc.rows != Rows::Fixed(1);
            if matrix && !formats.contains(&desc.format) {
                formats.push(desc.format);
            }
        }
        formats
    }
}

/// Builds the plan for contexts of up to `max_len` tokens, `seqs` sequences and block tables of
/// `pages_per_seq` columns. `matrix` says in which format to hold a matrix, given the names of its tensors.
pub fn decoder(
    config: &ModelConfig,
    formats: &Formats,
    max_len: usize,
    seqs: usize,
    pages_per_seq: usize,
    matrix: impl Fn(&[String]) -> Format,
) -> Decoder {
    let (plan, weights, ropes) = (Plan::default(), Vec::new(), Vec::new());
    Builder { c: config, formats, max_len, pages_per_seq, plan, weights, ropes, matrix }.build(seqs)
}

/// The buffers that layers share: those of all tokens, and those of the wanted rows alone.
struct Shared {
    hidden: View,
    delta: View,
    normed: View,
    context: View,
    gate_up: View,
    gated: View,
}

struct Builder<'a, F> {
    c: &'a ModelConfig,
    formats: &'a Formats,
    max_len: usize,
    pages_per_seq: usize,
    plan: Plan,
    weights: Vec<(BufferId, Source)>,
    /// The RoPE tables so far.
    ropes: Vec<(&'a RopeParameters, BufferId)>,
    matrix: F,
}

impl<'a, F: Fn(&[String]) -> Format> Builder<'a, F> {
    fn build(mut self, seqs: usize) -> Decoder {
        let c = self.c;
        let table = self.matrix("model.embed_tokens", c.vocab, c.hidden);
        let last = self.plan.buffer("last tokens", BufferKind::State, DType::U32, Rows::Fixed(seqs), 1);
        let qkv = self.activation("qkv", Rows::Tokens, c.qkv_cols());
        let all = self.shared("", Rows::Tokens);
        let wanted = self.shared("wanted ", Rows::Outputs);
        // Transformers rounds the scale to the type in which it computes.
        let act = self.formats.activations;
        let scale = act.decode(&act.encode(&[c.embed_scale]))[0];
        self.push(Embed { last, table, out: all.hidden, scale });
        let mut rows = &all;
        for (i, layer) in c.layers.iter().enumerate() {
            self.attention(i, layer, qkv, &all);
            if i + 1 == c.layers.len() {
                // Later tokens see the last layer's keys and values and no more of it.
                self.push(GatherRows { x: all.hidden, out: wanted.hidden });
                self.push(GatherRows { x: all.context, out: wanted.context });
                rows = &wanted;
            }
            self.projection(i, layer, rows);
            self.feed_forward(i, layer, rows);
        }
        self.head(table, last, rows);
        Decoder { plan: self.plan, weights: self.weights }
    }

    /// Norm and attention.
    fn attention(&mut self, i: usize, layer: &'a LayerConfig, qkv: View, s: &Shared) {
        let c = self.c;
        let name = |part: &str| format!("model.layers.{i}.{part}");
        let d = c.head_dim;
        let (q_cols, kv_cols) = (c.heads * d, c.kv_heads * d);
        let cols = |start, cols| View { start, cols, ..qkv };
        let (q, k, v) = (cols(0, q_cols), cols(q_cols, kv_cols), cols(q_cols + kv_cols, kv_cols));

        // The addend of the layer before is still to be added to the residual stream.
        let add = (i > 0).then_some(s.delta);
        self.norm(&name(layer.norms.pre_attention), s.hidden, add, s.normed, c.hidden);
        let parts = ["q_proj", "k_proj", "v_proj"].map(|p| name(&format!("self_attn.{p}")));
        self.linear(&parts, layer.qkv_bias, s.normed, qkv);
        if layer.qk_norm {
            self.norm(&name("self_attn.q_norm"), q, None, q, d);
            self.norm(&name("self_attn.k_norm"), k, None, k, d);
        }
        let x = cols(0, q_cols + kv_cols);
        let table = self.rope(&layer.rope);
        self.push(Rope { x, table, head_dim: d });
        let pages = |b: &mut Self, what: &str| {
            let name = format!("layers.{i}.{what}");
            b.plan.buffer(name, BufferKind::KvPage, b.formats.kv, Rows::KvSlots, kv_cols)
        };
        let (k_pages, v_pages) = (pages(self, "keys"), pages(self, "values"));
        self.push(KvWrite { k, v, k_pages, v_pages });
        self.push(PagedAttention {
            q,
            k_pages,
            v_pages,
            out: s.context,
            head_dim: d,
            scale: layer.attention_scale,
            window: layer.window,
            softcap: layer.attention_softcap,
        });
    }

    /// The projection of attention, which leaves the layer's first addend in `delta`.
    fn projection(&mut self, i: usize, layer: &LayerConfig, s: &Shared) {
        let name = |part: &str| format!("model.layers.{i}.{part}");
        self.linear(&[name("self_attn.o_proj")], layer.o_bias, s.context, s.delta);
        self.post_norm(layer.norms.post_attention.map(name), s);
    }

    /// Norm and the gated layer, which leaves the layer's second addend in `delta`.
    fn feed_forward(&mut self, i: usize, layer: &LayerConfig, s: &Shared) {
        let c = self.c;
        let name = |part: &str| format!("model.layers.{i}.{part}");
        self.norm(&name(layer.norms.pre_mlp), s.hidden, Some(s.delta), s.normed, c.hidden);
        let parts = ["gate_proj", "up_proj"].map(|p| name(&format!("mlp.{p}")));
        self.linear(&parts, layer.mlp_bias, s.normed, s.gate_up);
        self.push(GatedMul { x: s.gate_up, out: s.gated, act: c.activation });
        self.linear(&[name("mlp.down_proj")], layer.mlp_bias, s.gated, s.delta);
        self.post_norm(layer.norms.post_mlp.map(name), s);
    }

    /// The norm of an addend before it is added to the residual stream.
    fn post_norm(&mut self, module: Option<String>, s: &Shared) {
        if let Some(module) = module {
            self.norm(&module, s.delta, None, s.delta, self.c.hidden);
        }
    }

    /// The norm, logits and tokens of the wanted rows.
    fn head(&mut self, table: BufferId, last: BufferId, s: &Shared) {
        let c = self.c;
        let id = self.plan.buffer("logits", BufferKind::Activation, DType::F32, Rows::Outputs, c.vocab);
        let logits = self.plan.view(id);
        self.norm("model.norm", s.hidden, Some(s.delta), s.normed, c.hidden);
        let weight = if c.tied { table } else { self.matrix("lm_head", c.vocab, c.hidden) };
        self.push(Linear { x: s.normed, weight, bias: None, out: logits });
        if let Some(cap) = c.logits_softcap {
            self.push(SoftCap { x: logits, cap });
        }
        let kind = BufferKind::StepOutput;
        let out = self.plan.buffer("sampled", kind, DType::U32, Rows::Outputs, SAMPLED_WORDS);
        let target_logprobs = self.plan.buffer("target logprobs", kind, DType::F32, Rows::Targets, 1);
        self.push(Sample { logits, last, out, target_logprobs });
    }

    fn push(&mut self, op: impl Into<Op>) {
        self.plan.push(op, self.pages_per_seq, self.c.vocab.div_ceil(32));
    }

    /// The table of these RoPE parameters. Layers with equal ones share it.
    fn rope(&mut self, parameters: &'a RopeParameters) -> BufferId {
        if let Some((_, table)) = self.ropes.iter().find(|(other, _)| *other == parameters) {
            return *table;
        }
        let name = match self.ropes.len() {
            0 => "rope".to_owned(),
            n => format!("rope.{n}"),
        };
        let (rows, cols) = (self.max_len, self.c.head_dim);
        let table = self.plan.buffer(name, BufferKind::Weight, DType::F32, Rows::Fixed(rows), cols);
        self.weights.push((table, Source::Rope(parameters.clone())));
        self.ropes.push((parameters, table));
        table
    }

    fn activation(&mut self, name: &str, rows: Rows, cols: usize) -> View {
        let dtype = self.formats.activations;
        let id = self.plan.buffer(name, BufferKind::Activation, dtype, rows, cols);
        self.plan.view(id)
    }

    fn shared(&mut self, prefix: &str, rows: Rows) -> Shared {
        let c = self.c;
        let mut activation = |name: &str, cols| self.activation(&format!("{prefix}{name}"), rows, cols);
        Shared {
            hidden: activation("hidden", c.hidden),
            delta: activation("delta", c.hidden),
            normed: activation("normed", c.hidden),
            context: activation("context", c.heads * c.head_dim),
            gate_up: activation("gate_up", 2 * c.intermediate),
            gated: activation("gated", c.intermediate),
        }
    }

    fn weight(
        &mut self,
        names: Vec<String>,
        transform: Transform,
        format: impl Into<Format>,
        rows: usize,
        cols: usize,
    ) -> BufferId {
        let id = self.plan.buffer(names[0].clone(), BufferKind::Weight, format, Rows::Fixed(rows), cols);
        self.weights.push((id, Source::Tensors { names, transform }));
        id
    }

    fn matrix(&mut self, module: &str, rows: usize, cols: usize) -> BufferId {
        let tensor = vec![format!("{module}.weight")];
        let format = (self.matrix)(&tensor);
        self.weight(tensor, Transform::None, format, rows, cols)
    }

    fn norm(&mut self, module: &str, x: View, add: Option<View>, out: View, width: usize) {
        let tensor = vec![format!("{module}.weight")];
        let weight = self.weight(tensor, self.c.norm_transform, DType::F32, 1, width);
        self.push(RmsNorm { x, add, weight, out, width, eps: self.c.rms_norm_eps });
    }

    /// A Linear whose weight is those of `modules`, one below the other.
    fn linear(&mut self, modules: &[String], bias: bool, x: View, out: View) {
        let tensors = |kind: &str| modules.iter().map(|m| format!("{m}.{kind}")).collect::<Vec<_>>();
        let names = tensors("weight");
        let format = (self.matrix)(&names);
        let weight = self.weight(names, Transform::None, format, out.cols, x.cols);
        let bias = bias.then(|| self.weight(tensors("bias"), Transform::None, DType::F32, 1, out.cols));
        self.push(Linear { x, weight, bias, out });
    }
}

#[cfg(test)]
mod tests;
