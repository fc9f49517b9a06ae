use super::*;
use crate::models::{RopeScaling, Source};
use std::path::Path;

fn config() -> ModelConfig {
    let json = br#"{"architectures": ["LlamaForCausalLM"], "hidden_size": 32, "intermediate_size": 32,
                    "num_hidden_layers": 4, "num_attention_heads": 4, "vocab_size": 9}"#;
    ModelConfig::parse(json, Path::new("config.json")).unwrap_or_else(|why| panic!("{why}"))
}

fn built(config: &ModelConfig) -> Decoder {
    decoder(config, &Formats::default(), 16, 1, 1, |_| DType::F32.into())
}

/// The RoPE table that each layer uses.
fn tables(decoder: &Decoder) -> Vec<BufferId> {
    let rope = |op: &Op| match op {
        Op::Rope(rope) => Some(rope.table),
        _ => None,
    };
    decoder.plan.ops.iter().filter_map(rope).collect()
}

#[test]
fn layers_with_equal_rope_parameters_share_a_table() {
    let mut config = config();
    let one = tables(&built(&config));
    assert!(one.len() == 4 && one.iter().all(|table| *table == one[0]));

    let local = RopeParameters { theta: 100.0, scaling: RopeScaling::None };
    config.layers[1].rope = local.clone();
    config.layers[3].rope = local.clone();
    let decoder = built(&config);
    let two = tables(&decoder);
    assert!(two[0] == two[2] && two[1] == two[3] && two[0] != two[1]);
    let source = decoder.weights.iter().find(|(buffer, _)| *buffer == two[1]).map(|(_, source)| source);
    assert_eq!(source, Some(&Source::Rope(local)));
}

/// Each layer is built as its own config says.
#[test]
fn layers_may_differ() {
    let mut config = config();
    config.layers[2].window = Some(3);
    config.layers[2].attention_softcap = Some(5.0);
    config.layers[3].qkv_bias = true;
    let decoder = built(&config);
    let attention = |op: &Op| match op {
        Op::PagedAttention(op) => Some((op.window, op.softcap)),
        _ => None,
    };
    let got: Vec<_> = decoder.plan.ops.iter().filter_map(attention).collect();
    assert_eq!(got, [(None, None), (None, None), (Some(3), Some(5.0)), (None, None)]);
    let biases = decoder.plan.iter().filter(|(_, desc)| desc.name.ends_with("bias")).count();
    assert_eq!(biases, 1);
}

/// After the last attention nothing runs for rows whose logits no one wants.
#[test]
fn the_last_layer_ends_with_the_wanted_rows() {
    let plan = built(&config()).plan;
    let last = plan.ops.iter().rposition(|op| matches!(op, Op::PagedAttention(_)));
    let last = last.unwrap_or_else(|| panic!("no attention"));
    let written = |op: &Op| op.writes().into_iter().map(|view| plan.desc(view.buffer).rows);
    let of = |ops: &[Op], want: Rows| ops.iter().flat_map(written).all(|rows| rows == want);
    assert!(of(&plan.ops[..=last], Rows::Tokens));
    assert!(of(&plan.ops[last + 1..plan.ops.len() - 1], Rows::Outputs));
    assert_eq!(plan.ops[last + 1..].iter().filter(|op| matches!(op, Op::Linear(_))).count(), 4);
}
