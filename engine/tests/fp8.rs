//! FP8 checkpoints: what a device is given is each element times its scale, in f32.
#![allow(clippy::unwrap_used)]

use engine::cpu::CpuDevice;
use engine::device::Device;
use engine::dtype::DType;
use engine::format::Format;
use engine::models::{Formats, LoadFormat, Model, Source, decoder};
use engine::numbers::Numbers;
use engine::plan::{Dims, Rows};
use engine::{Engine, EngineConfig, Types};
use safetensors::tensor::{Dtype, TensorView};
use serde_json::{Value, json};
use std::collections::HashMap;
use std::path::Path;

/// The matrices of a layer, with rows and columns: none is whole blocks of 16 by 24.
const MATRICES: [(&str, usize, usize); 7] = [
    ("self_attn.q_proj", 40, 40),
    ("self_attn.k_proj", 20, 40),
    ("self_attn.v_proj", 20, 40),
    ("self_attn.o_proj", 40, 40),
    ("mlp.gate_proj", 200, 40),
    ("mlp.up_proj", 200, 40),
    ("mlp.down_proj", 40, 200),
];

/// A tensor of a file: type, shape, bytes.
type Stored = (Dtype, Vec<usize>, Vec<u8>);

/// A kind of checkpoint: its config, what follows a weight's name in that of its scales, and their shape over a matrix
/// with the rows and columns that share one.
struct Kind {
    config: Value,
    suffix: &'static str,
    shape: fn(usize, usize) -> Vec<usize>,
    block: fn(usize, usize) -> [usize; 2],
    /// The format that holds a matrix as it is stored.
    format: Option<Format>,
}

fn compressed(weights: Value) -> Value {
    json!({"quant_method": "compressed-tensors", "format": "float-quantized",
        "config_groups": {"group_0": {"weights": weights}}})
}

fn kinds() -> [Kind; 5] {
    let weights = |strategy: &str| json!({"num_bits": 8, "type": "float", "strategy": strategy});
    let mut blocks = weights("block");
    blocks["block_structure"] = json!([16, 24]);
    let of_blocks = |rows: usize, cols: usize| vec![rows.div_ceil(16), cols.div_ceil(24)];
    [
        Kind {
            config: compressed(weights("tensor")),
            suffix: "_scale",
            shape: |_, _| vec![1],
            block: |rows, cols| [rows, cols],
            format: Some(Format::Fp8),
        },
        Kind {
            config: compressed(weights("channel")),
            suffix: "_scale",
            shape: |rows, _| vec![rows, 1],
            block: |_, cols| [1, cols],
            format: Some(Format::Fp8),
        },
        Kind {
            config: compressed(blocks),
            suffix: "_scale",
            shape: of_blocks,
            block: |_, _| [16, 24],
            format: None,
        },
        Kind {
            config: json!({"quant_method": "fp8", "fmt": "e4m3", "weight_block_size": [16, 24]}),
            suffix: "_scale_inv",
            shape: of_blocks,
            block: |_, _| [16, 24],
            format: None,
        },
        Kind {
            config: json!({"quant_method": "fp8", "weight_block_size": [16, 128]}),
            suffix: "_scale_inv",
            shape: |rows, cols| vec![rows.div_ceil(16), cols.div_ceil(128)],
            block: |_, _| [16, 128],
            format: Some(Format::Fp8Blocks),
        },
    ]
}

/// By the definition of the type, in f64.
fn e4m3(bits: u8) -> f64 {
    let (sign, exponent, fraction) = (bits >> 7, (bits >> 3) & 15, f64::from(bits & 7));
    let magnitude = if exponent == 0 {
        fraction * 2f64.powi(-9)
    } else {
        (8.0 + fraction) * 2f64.powi(i32::from(exponent) - 10)
    };
    if sign == 1 { -magnitude } else { magnitude }
}

/// Writes a model of one layer whose matrices are in FP8, and returns their values by name.
fn write(
    folder: &Path,
    kind: &Kind,
    spoil: impl Fn(&mut HashMap<String, Stored>),
) -> HashMap<String, Vec<f32>> {
    let config = json!({
        "architectures": ["LlamaForCausalLM"], "hidden_size": 40, "intermediate_size": 200, "num_hidden_layers": 1,
        "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 10, "vocab_size": 12,
        "torch_dtype": "bfloat16", "quantization_config": kind.config
    });
    std::fs::write(folder.join("config.json"), config.to_string()).unwrap();
    let mut numbers = Numbers(5);
    let mut tensors: HashMap<String, Stored> = HashMap::new();
    let mut values = HashMap::new();
    for (name, rows, cols) in MATRICES {
        let name = format!("model.layers.0.{name}.weight");
        // Every bit pattern but the two that are no numbers.
        let bits: Vec<u8> = (0..rows * cols)
            .map(|_| (numbers.below(256)) as u8)
            .map(|b| if b & 0x7F == 0x7F { 0x38 } else { b })
            .collect();
        let shape = (kind.shape)(rows, cols);
        let scales: Vec<f32> = (0..shape.iter().product()).map(|_| numbers.float() * 0.01 + 0.02).collect();
        let [down, across] = (kind.block)(rows, cols);
        let value = |i: usize| {
            let scale = scales[i / cols / down * cols.div_ceil(across) + i % cols / across];
            (e4m3(bits[i]) * f64::from(scale)) as f32
        };
        values.insert(name.clone(), (0..rows * cols).map(value).collect());
        tensors.insert(format!("{name}{}", kind.suffix), (Dtype::F32, shape, DType::F32.encode(&scales)));
        tensors.insert(name, (Dtype::F8_E4M3, vec![rows, cols], bits));
    }
    for (name, shape) in [
        ("model.embed_tokens.weight", vec![12, 40]),
        ("lm_head.weight", vec![12, 40]),
        ("model.norm.weight", vec![40]),
        ("model.layers.0.input_layernorm.weight", vec![40]),
        ("model.layers.0.post_attention_layernorm.weight", vec![40]),
    ] {
        let bytes = DType::BF16.encode(&vec![0.5; shape.iter().product()]);
        tensors.insert(name.into(), (Dtype::BF16, shape, bytes));
    }
    spoil(&mut tensors);
    let views = tensors.iter().map(|(name, (dtype, shape, bytes))| {
        (name.clone(), TensorView::new(*dtype, shape.clone(), bytes).unwrap())
    });
    safetensors::serialize_to_file(views, None, &folder.join("model.safetensors")).unwrap();
    values
}

#[test]
fn elements_are_multiplied_by_their_scales() {
    for kind in kinds() {
        let folder = tempfile::tempdir().unwrap();
        let values = write(folder.path(), &kind, |_| ());
        let model = Model::open(folder.path(), LoadFormat::Auto).unwrap();
        let own = |names: &[String]| model.checkpoint.as_ref().unwrap().format(names);
        assert_eq!(own(&["model.layers.0.mlp.down_proj.weight".into()]), kind.format);
        // In two types to which they are widened, and as they are stored where a format holds that.
        for wide in [Some(Format::Plain(DType::F32)), Some(Format::Plain(DType::BF16)), None] {
            let format = |names: &[String]| wide.or(own(names)).unwrap_or(Format::Plain(DType::F32));
            let decoder = decoder(&model.config, &Formats::default(), 16, 1, 1, format);
            let dims = Dims {
                tokens: 1,
                seqs: 1,
                outputs: 1,
                pages: 1,
                page_size: 16,
                pages_per_seq: 1,
                ..Dims::default()
            };
            let mut device = CpuDevice::new(Some(1)).unwrap();
            let id = device.compile(&decoder.plan, &dims).unwrap();
            model.load(&mut device, id, &decoder).unwrap();
            let mut seen = 0;
            for (buffer, source) in &decoder.weights {
                let (Source::Tensors { names, .. }, desc) = (source, decoder.plan.desc(*buffer)) else {
                    continue;
                };
                let Rows::Fixed(rows) = desc.rows else { continue };
                let Some(want) = names.iter().map(|name| values.get(name)).collect::<Option<Vec<_>>>() else {
                    continue;
                };
                let want: Vec<f32> = want.into_iter().flatten().copied().collect();
                let got = device.read(id, *buffer, 0..rows).unwrap();
                match desc.format.plain() {
                    Some(dtype) => assert!(got == dtype.encode(&want), "{names:?} in {dtype}"),
                    None => assert!(desc.format.decode(&got, desc.cols) == want, "{names:?} in FP8"),
                }
                seen += names.len();
            }
            assert_eq!(seen, MATRICES.len());
        }
    }
}

#[test]
fn scales_that_are_missing_or_of_another_shape_are_refused() {
    let name = "model.layers.0.mlp.down_proj.weight";
    for (kind, [rows, cols]) in kinds().into_iter().zip([[40, 1], [20, 1], [3, 4], [4, 3], [1, 3]]) {
        let folder = tempfile::tempdir().unwrap();
        let scales = format!("{name}{}", kind.suffix);
        let said = |spoil: &dyn Fn(&mut HashMap<String, Stored>)| {
            write(folder.path(), &kind, spoil);
            Model::open(folder.path(), LoadFormat::Auto).err().unwrap().to_string()
        };
        let why = said(&|tensors| drop(tensors.remove(&scales)));
        assert!(why.contains(&format!("{name} is in FP8 and there is no tensor of its scales")), "{why}");
        if rows == 40 {
            continue; // One for each row is as good as one for all.
        }
        let other = (Dtype::F32, vec![rows, cols], vec![0; rows * cols * 4]);
        let why = said(&|tensors| drop(tensors.insert(scales.clone(), other.clone())));
        assert!(why.contains(&scales) && why.contains("a weight of [40, 200] has one scale"), "{why}");
    }
}

/// The formats that an engine chooses: as stored, unless a type is asked for; embeddings and head are no part of it.
#[test]
fn matrices_stay_in_fp8() {
    let folder = tempfile::tempdir().unwrap();
    let [_, channel, _, _, block] = kinds();
    let types = |kind: &Kind, config: EngineConfig, spoil: &dyn Fn(&mut HashMap<String, Stored>)| {
        write(folder.path(), kind, spoil);
        let model = Model::open(folder.path(), LoadFormat::Auto).unwrap();
        let device = CpuDevice::new(Some(1)).unwrap();
        Types::resolve(&model, device.info(), &config).unwrap().weights
    };
    let (auto, bf16) = (EngineConfig::default(), Format::Plain(DType::BF16));
    let nothing = |_: &mut HashMap<String, Stored>| ();
    assert_eq!(types(&channel, auto.clone(), &nothing), [bf16, Format::Fp8]);
    // Rows of less than a block have one scale.
    assert_eq!(types(&block, auto.clone(), &nothing), [bf16, Format::Fp8, Format::Fp8Blocks]);
    let quantization = EngineConfig { quantization: Some(Format::Fp8), ..auto.clone() };
    assert_eq!(types(&block, quantization, &nothing), [bf16, Format::Fp8, Format::Fp8Blocks]);
    let dtype = EngineConfig { dtype: Some(DType::BF16), ..auto.clone() };
    assert_eq!(types(&channel, dtype, &nothing), [bf16]);
    // Query, key and value are one matrix: where one of them is not in FP8, all are widened.
    let mixed = |tensors: &mut HashMap<String, Stored>| {
        let bytes = DType::BF16.encode(&[0.5; 20 * 40]);
        tensors.insert("model.layers.0.self_attn.k_proj.weight".into(), (Dtype::BF16, vec![20, 40], bytes));
    };
    let mixed_formats = types(&channel, auto, &mixed);
    assert_eq!(mixed_formats, [bf16, Format::Fp8]);
    let model = Model::open(folder.path(), LoadFormat::Auto).unwrap();
    let checkpoint = model.checkpoint.as_ref().unwrap();
    let qkv = ["q", "k", "v"].map(|m| format!("model.layers.0.self_attn.{m}_proj.weight"));
    assert_eq!(checkpoint.format(&qkv), None);
}

/// NaN and scales that make elements infinite have no place in the format.
#[test]
fn elements_that_are_no_numbers_are_refused() {
    let [_, channel, ..] = kinds();
    let name = "model.layers.0.mlp.down_proj.weight";
    for (spoilt, why) in
        [(name.to_owned(), "holds NaN in row 3"), (format!("{name}_scale"), "has the scale inf in row 3")]
    {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), &channel, |tensors| {
            let (_, _, bytes) = tensors.get_mut(&spoilt).unwrap();
            match bytes.len() {
                160 => bytes[12..16].copy_from_slice(&f32::INFINITY.to_le_bytes()),
                _ => bytes[3 * 200 + 7] = 0xFF,
            }
        });
        let model = Model::open(folder.path(), LoadFormat::Auto).unwrap();
        let device = CpuDevice::new(Some(1)).unwrap();
        let error =
            Engine::new(&model, Box::new(device), &EngineConfig::default()).err().unwrap().to_string();
        assert!(error.contains(name) && error.contains(why), "{error}");
    }
}
