//! Models against the log-probabilities that Hugging Face transformers computes (`tests/golden`).

#![allow(clippy::unwrap_used)]

mod support;

use engine::device::{Device, PlanId};
use engine::dtype::DType;
use engine::format::Format;
use engine::models::{Decoder, Formats, LoadFormat, Model, ModelConfig, decoder};
use engine::op::Op;
use engine::plan::{BufferId, Dims, Plan, Rows};
use engine::step::{SampleRow, Step};
use engine::{Capacity, Engine, EngineConfig};
use safetensors::SafeTensors;

const MAX_LEN: usize = 80;
const PAGE: usize = 16;

/// A device, and the types in which it computes.
#[derive(Clone, Copy)]
struct On {
    device: &'static str,
    dtype: DType,
    /// The type of KV pages; by default the device's first.
    kv: Option<DType>,
    /// The format of matrices; by default the one closest to the checkpoint's.
    weights: Option<Format>,
}

impl On {
    const fn new(device: &'static str, dtype: DType) -> On {
        On { device, dtype, kv: None, weights: None }
    }
}

const CPU: On = On::new("cpu", DType::F32);

struct Loaded {
    device: Box<dyn Device>,
    plan: PlanId,
    decoder: Decoder,
    logits: BufferId,
    vocab: usize,
}

impl Loaded {
    /// The model on the device; none without such a device.
    fn open(on: On, name: &str) -> Option<Loaded> {
        Loaded::open_changed(on, name, |_| {})
    }

    /// The same with a change in the plan.
    fn open_changed(on: On, name: &str, change: impl Fn(&mut Plan)) -> Option<Loaded> {
        let mut device = support::open(on.device)?;
        let model = Model::open(&support::golden(name), LoadFormat::Auto).unwrap();
        let types = device.info().types_for(on.dtype);
        let formats = Formats { activations: types.activations, kv: on.kv.unwrap_or(types.kv[0]) };
        let matrix = |tensors: &[String]| {
            let own = model.checkpoint.as_ref().and_then(|c| c.dtype(&tensors[0])).unwrap();
            let wanted = on.weights.unwrap_or(own.into());
            if types.weights.contains(&wanted) { wanted } else { types.weights[0] }
        };
        let pages = MAX_LEN / PAGE;
        let mut decoder = decoder(&model.config, &formats, MAX_LEN, 1, pages, matrix);
        change(&mut decoder.plan);
        let max_dims = Dims {
            tokens: MAX_LEN,
            seqs: 1,
            outputs: MAX_LEN,
            adjustments: 1,
            masks: 1,
            targets: 0,
            pages,
            page_size: PAGE,
            pages_per_seq: pages,
            attended: 0,
            contexts: 0,
        };
        let plan = device.compile(&decoder.plan, &max_dims).unwrap();
        model.load(device.as_mut(), plan, &decoder).unwrap();
        let logits = decoder.plan.iter().find(|(_, d)| d.name == "logits").unwrap().0;
        Some(Loaded { device, plan, decoder, logits, vocab: model.config.vocab })
    }

    /// Log-probabilities after each of the tokens, whose positions start at `start`.
    fn logprobs(&mut self, start: usize, tokens: &[u32]) -> Vec<Vec<f64>> {
        self.logits(start, tokens).chunks(self.vocab).map(log_softmax).collect()
    }

    /// Logits after each of the tokens.
    fn logits(&mut self, start: usize, tokens: &[u32]) -> Vec<f32> {
        let n = tokens.len() as u32;
        let positions: Vec<u32> = (start as u32..start as u32 + n).collect();
        // Pages in descending order, so that the block table is not the identity.
        let pages: Vec<u32> = (0..(MAX_LEN / PAGE) as u32).rev().collect();
        let slot = |&p: &u32| pages[p as usize / PAGE] * PAGE as u32 + p % PAGE as u32;
        let step = Step {
            tokens: tokens.to_vec(),
            kv_slots: positions.iter().map(slot).collect(),
            positions,
            query_start: vec![0, n],
            pages_per_seq: pages.len(),
            block_tables: pages,
            page_size: PAGE,
            output_rows: (0..n).collect(),
            sampling: vec![SampleRow::greedy(); tokens.len()],
            mask_words: self.vocab.div_ceil(32),
            ..Step::default()
        };
        let ticket = self.device.submit(self.plan, &step).unwrap();
        self.device.wait(ticket).unwrap();
        DType::F32.decode(&self.device.read(self.plan, self.logits, 0..tokens.len()).unwrap())
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    let max = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = logits.iter().map(|l| (l - max).exp()).sum::<f64>().ln() + max;
    logits.iter().map(|l| l - total).collect()
}

fn ints(file: &SafeTensors, name: &str) -> Vec<u32> {
    let data = file.tensor(name).unwrap().data().to_vec();
    data.chunks(4).map(|b| u32::from_le_bytes(b.try_into().unwrap())).collect()
}

fn floats(file: &SafeTensors, name: &str) -> Vec<f32> {
    DType::F32.decode(file.tensor(name).unwrap().data())
}

/// Compares one model. `tolerance` is for log-probabilities.
fn compare(mut model: Loaded, name: &str, tolerance: f64) {
    let bytes = std::fs::read(support::golden(name).join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let mut worst = 0.0_f64;
    for prompt in 0..3 {
        let key = |what: &str| format!("prompt.{prompt}.{what}");
        let ids = ints(&expected, &key("ids"));
        let got = model.logprobs(0, &ids);
        let want = floats(&expected, &key("logprobs"));
        for (p, want) in ints(&expected, &key("positions")).into_iter().zip(want.chunks(model.vocab)) {
            for (token, (got, want)) in got[p as usize].iter().zip(want).enumerate() {
                let error = (got - f64::from(*want)).abs();
                worst = worst.max(error);
                assert!(
                    error < tolerance,
                    "{name}, prompt {prompt}, position {p}, token {token}: {got}, not {want}"
                );
            }
        }
        // Then token by token over the pages that the prompt has filled.
        let greedy = ints(&expected, &key("greedy_ids"));
        let mut next = got.last().unwrap().clone();
        for (i, (&token, want)) in greedy.iter().zip(floats(&expected, &key("greedy_logprobs"))).enumerate() {
            let best = (0..next.len()).max_by(|&a, &b| next[a].total_cmp(&next[b])).unwrap();
            // The best token leads by more than 0.01, but rounding to 16 bits may move a token by more than that.
            if tolerance < 0.01 {
                assert_eq!(best as u32, token, "{name}, prompt {prompt}, greedy token {i}");
            }
            assert!(
                (next[token as usize] - f64::from(want)).abs() < tolerance,
                "{name}, prompt {prompt}, greedy token {i}"
            );
            next = model.logprobs(ids.len() + i, &[token]).remove(0);
        }
    }
    eprintln!("{name}: within {worst:.1e}");
}

/// The models of `tests/golden`: the folders with a config.
fn models() -> Vec<String> {
    let folders = std::fs::read_dir(support::golden("")).unwrap().map(|entry| entry.unwrap());
    let models = folders.filter(|folder| folder.path().join("config.json").exists());
    let mut names: Vec<String> = models.map(|m| m.file_name().into_string().unwrap()).collect();
    names.sort();
    assert!(names.len() > 12, "{names:?}");
    names
}

fn compare_all(on: On, tolerance: f64) {
    for name in models() {
        let Some(model) = Loaded::open(on, &name) else { return };
        compare(model, &name, tolerance);
    }
}

/// Cosines and sines of many kinds of RoPE parameters.
#[test]
fn rope_tables() {
    let folder = support::golden("rope");
    let configs: serde_json::Value =
        serde_json::from_slice(&std::fs::read(folder.join("configs.json")).unwrap()).unwrap();
    let bytes = std::fs::read(folder.join("expected.safetensors")).unwrap();
    let expected = SafeTensors::deserialize(&bytes).unwrap();
    let positions = ints(&expected, "positions");
    for (name, config) in configs.as_object().unwrap() {
        let json = config.to_string().into_bytes();
        let config = ModelConfig::parse(&json, &folder.join(name)).unwrap();
        let d = config.head_dim;
        let table = config.layers[0].rope.table(d, 0..1 + *positions.iter().max().unwrap() as usize);
        for (&position, want) in positions.iter().zip(floats(&expected, name).chunks(d)) {
            // Angles are f32 products of frequencies that may differ in the last bit.
            let tolerance = 1e-6 + 3e-7 * position as f32;
            let got = &table[position as usize * d..][..d];
            let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
            assert!(worst < tolerance, "{name}, position {position}: off by {worst}");
        }
    }
}

#[test]
fn cpu() {
    compare_all(CPU, 1e-4);
}

/// Pages in FP8 give the bits of wide pages whose contents were rounded to it: layer by layer, since what a layer writes
/// depends on what the layers below it read.
fn compare_fp8_pages(on: On, models: &[&str]) {
    for name in models {
        let Some(mut fp8) = Loaded::open(On { kv: Some(DType::E4M3), ..on }, name) else { return };
        let mut plain = Loaded::open(on, name).unwrap();
        let tokens: Vec<u32> = (4..44).collect();
        let unrounded = plain.logits(0, &tokens);
        let mut rounded: Vec<(BufferId, Vec<u8>)> = Vec::new();
        loop {
            let mut wide = Loaded::open_changed(on, name, |plan| {
                let is_written = |id| rounded.iter().any(|(written, _)| *written == id);
                plan.ops.retain(|op| !matches!(op, Op::KvWrite(write) if is_written(write.k_pages)));
            })
            .unwrap();
            for (pages, bytes) in &rounded {
                wide.device.write(wide.plan, *pages, 0, bytes).unwrap();
            }
            let logits = wide.logits(0, &tokens);
            let next = wide.decoder.plan.ops.iter().find_map(|op| match op {
                Op::KvWrite(write) => Some([write.k_pages, write.v_pages]),
                _ => None,
            });
            let Some(pages) = next else {
                assert!(fp8.logits(0, &tokens) == logits, "{name}: other bits than those of rounded pages");
                // And again, one after the other.
                let one = tokens.iter().enumerate().flat_map(|(p, token)| fp8.logits(p, &[*token]));
                assert!(one.eq(logits.iter().copied()), "{name}: other bits token by token");
                // Weights are made up, which makes more of a rounded key than trained ones do.
                let logprobs =
                    |logits: &[f32]| logits.chunks(fp8.vocab).flat_map(log_softmax).collect::<Vec<_>>();
                let (got, want) = (logprobs(&logits), logprobs(&unrounded));
                let apart = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).sum::<f64>() / got.len() as f64;
                println!("{name}: {apart:.3} apart");
                assert!(apart > 0.0 && apart < 0.3, "{name}: {apart} apart");
                break;
            };
            for id in pages {
                let desc = wide.decoder.plan.desc(id).clone();
                // What is not held is NaN before and after.
                let values =
                    desc.format.decode(&wide.device.read(wide.plan, id, 0..MAX_LEN).unwrap(), desc.cols);
                let through = DType::E4M3.decode(&DType::E4M3.encode(&values));
                rounded.push((id, desc.format.encode(&through, desc.cols)));
            }
        }
    }
}

#[test]
fn cpu_fp8_pages() {
    compare_fp8_pages(CPU, &["llama2", "qwen2-window", "qwen3", "gemma2"]);
}

/// Heads of 8 columns in f32, and of 16 in bf16 on tensor cores.
#[test]
fn cuda_fp8_pages() {
    compare_fp8_pages(On::new("cuda", DType::F32), &["qwen2-window"]);
    compare_fp8_pages(On::new("cuda", DType::BF16), &["qwen3", "gemma2"]);
}

/// The same on a card with wgmma.
#[test]
fn cuda_fp8_pages_sm_90a() {
    support::on_sm90("cuda_fp8_pages");
}

/// A model that is converted as it loads has the logits of the same model whose matrices went through the format and back
/// to f32.
fn compare_converted(on: On, format: Format, models: &[&str], tolerance: f32) {
    for name in models {
        let Some(mut converted) = Loaded::open(On { weights: Some(format), ..on }, name) else {
            return;
        };
        let Some(mut widened) = Loaded::open(On { weights: Some(DType::F32.into()), ..on }, name) else {
            return;
        };
        let tokens: Vec<u32> = (4..44).collect();
        let plain = widened.logits(0, &tokens);
        let mut matrices = 0;
        for (buffer, desc) in converted.decoder.plan.iter().filter(|(_, d)| d.format == format) {
            let Rows::Fixed(rows) = desc.rows else { panic!("{} is no weight", desc.name) };
            let values = widened.device.read(widened.plan, buffer, 0..rows).unwrap();
            let through = format.decode(&format.encode(&DType::F32.decode(&values), desc.cols), desc.cols);
            widened.device.write(widened.plan, buffer, 0, &DType::F32.encode(&through)).unwrap();
            matrices += 1;
        }
        assert!(matrices > 8, "{name}: {matrices} matrices are {format}");
        let (got, want) = (converted.logits(0, &tokens), widened.logits(0, &tokens));
        let apart = got.iter().zip(&want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
        assert!(apart <= tolerance, "{name}: {apart} apart");
        assert!(got != plain, "{name}: nothing was converted");
    }
}

#[test]
fn q8_0_cpu() {
    compare_converted(CPU, Format::Q8_0, &["llama2", "llama3-sharded", "qwen2", "qwen3"], 1e-5);
}

#[test]
fn q8_0_cuda() {
    compare_converted(On::new("cuda", DType::F32), Format::Q8_0, &["qwen3"], 1e-3);
}

#[test]
fn q8_0_wgpu() {
    let on = On { kv: Some(DType::F32), ..On::new("wgpu", DType::F32) };
    compare_converted(on, Format::Q8_0, &["qwen3"], 1e-3);
}

/// Widened as they are read, FP8 rows have the bits of f32 ones.
#[test]
fn fp8_cpu() {
    for format in [Format::Fp8, Format::Fp8Blocks] {
        compare_converted(CPU, format, &["llama2", "llama3-sharded", "qwen2", "qwen3", "llama-linear"], 0.0);
    }
}

#[test]
fn fp8_cuda() {
    for format in [Format::Fp8, Format::Fp8Blocks] {
        compare_converted(On::new("cuda", DType::F32), format, &["qwen3"], 0.0);
    }
}

#[test]
fn fp8_wgpu() {
    let on = On { kv: Some(DType::F32), ..On::new("wgpu", DType::F32) };
    for format in [Format::Fp8, Format::Fp8Blocks] {
        compare_converted(on, format, &["qwen3", "llama-linear"], 1e-4);
    }
}

/// Its rows have 16 columns.
#[test]
fn q8_0_of_rows_that_are_no_whole_blocks_is_refused() {
    let model = Model::open(&support::golden("llama-linear"), LoadFormat::Auto).unwrap();
    let config = EngineConfig { quantization: Some(Format::Q8_0), ..EngineConfig::default() };
    let error = Engine::new(&model, support::open("cpu").unwrap(), &config).err().unwrap().to_string();
    let tensor = "tensor model.embed_tokens.weight has 16 columns";
    assert!(error.contains("quantization") && error.contains(tensor), "{error}");
}

/// What an engine with KV pages in FP8 says, and its bytes of pages for a token.
fn with_fp8_pages(device: &'static str, folder: &std::path::Path) -> Option<Result<usize, String>> {
    let device = support::open(device)?;
    let model = Model::open(folder, LoadFormat::Auto).unwrap();
    let config = EngineConfig { kv_cache_dtype: Some(DType::E4M3), ..EngineConfig::default() };
    let capacity = Capacity::of(&model, device.as_ref(), &config).map_err(|e| e.to_string());
    let engine = Engine::new(&model, device, &config).map_err(|e| e.to_string());
    assert_eq!(capacity.as_ref().err(), engine.as_ref().err());
    Some(engine.and(capacity).map(|capacity| capacity.kv_bytes_per_token))
}

#[test]
fn a_page_in_fp8_has_a_byte_for_each_number() {
    // Keys and values of two layers, with two heads of 16 columns.
    assert_eq!(with_fp8_pages("cpu", &support::golden("qwen3")), Some(Ok(2 * 2 * 2 * 16)));
}

#[test]
fn pages_in_fp8_are_refused_where_a_device_lacks_them() {
    let Some(refused) = with_fp8_pages("wgpu", &support::golden("qwen3")) else { return };
    let error = refused.unwrap_err();
    let why = "the wgpu device holds KV pages in f16, f32, bf16, not fp8_e4m3";
    assert!(error.contains("kv_cache_dtype") && error.contains(why), "{error}");
}

/// Scales of keys and values are for numbers that are divided by them.
#[test]
fn pages_in_fp8_are_refused_where_a_checkpoint_has_scales_for_them() {
    let golden = support::golden("qwen3");
    let bytes = std::fs::read(golden.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let scale = 0.5_f32.to_le_bytes();
    for name in ["self_attn.k_scale", "self_attn.attn.v_scale", "self_attn.k_proj.output_scale"] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden.join("config.json"), folder.path().join("config.json")).unwrap();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, Vec::new(), &scale).unwrap();
        let name = format!("model.layers.1.{name}");
        let all = tensors.tensors().into_iter().chain([(name.clone(), view)]);
        std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(all, None).unwrap())
            .unwrap();
        let error = with_fp8_pages("cpu", folder.path()).unwrap().unwrap_err();
        assert!(error.contains(&name) && error.contains("leave it out"), "{error}");
        let model = Model::open(folder.path(), LoadFormat::Auto).unwrap();
        assert!(Engine::new(&model, support::open("cpu").unwrap(), &EngineConfig::default()).is_ok());
    }
}

#[test]
fn made_up_weights_may_be_q8_0() {
    let model = Model::open(&support::golden("qwen3"), LoadFormat::Dummy).unwrap();
    let config = EngineConfig { quantization: Some(Format::Q8_0), ..EngineConfig::default() };
    let engine = Engine::new(&model, support::open("cpu").unwrap(), &config).unwrap();
    assert_eq!(engine.types().weights, [Format::Q8_0]);
}

/// As transformers 5 does: a head of the checkpoint's own is used, though the config ties it to the embeddings.
#[test]
fn a_tied_head_that_differs_from_the_embeddings_is_used() {
    const EMBEDDINGS: &str = "model.embed_tokens.weight";
    let golden = support::golden("llama3");
    let bytes = std::fs::read(golden.join("model.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let table = tensors.tensor(EMBEDDINGS).unwrap();
    let other: Vec<u8> = table.data().iter().rev().copied().collect();
    for (head, tied) in [(table.data(), true), (&other[..], false)] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::copy(golden.join("config.json"), folder.path().join("config.json")).unwrap();
        let head = safetensors::tensor::TensorView::new(table.dtype(), table.shape().to_vec(), head).unwrap();
        let all = tensors.tensors().into_iter().chain([("lm_head.weight".to_string(), head)]);
        std::fs::write(folder.path().join("model.safetensors"), safetensors::serialize(all, None).unwrap())
            .unwrap();
        let model = Model::open(folder.path(), LoadFormat::Auto).unwrap();
        assert_eq!(model.config.tied, tied);
        assert_eq!(model.warnings.len(), usize::from(!tied), "{:?}", model.warnings);
    }
}

/// As on CUDA below, but only operands of Linear are rounded.
#[test]
fn cpu_medium() {
    compare_all(On { device: "cpu-medium", ..CPU }, 0.25);
}

#[test]
fn cuda_f32() {
    compare_all(On::new("cuda", DType::F32), 1e-3);
}

/// The same as `cuda`, on a card with wgmma.
#[test]
fn cuda_sm_90a() {
    support::on_sm("90", "cuda");
}

/// Weights and activations are rounded to 8 bits of mantissa; the log-probabilities lie between -1 and -10.
#[test]
fn cuda() {
    compare_all(On::new("cuda", DType::BF16), 0.25);
}

#[test]
fn wgpu_f32() {
    compare_all(On { kv: Some(DType::F32), ..On::new("wgpu", DType::F32) }, 1e-3);
}

/// Keys and values are rounded to 11 bits of mantissa, everything else is f32. The least likely tokens, with
/// log-probabilities near -12, move by up to 0.012.
#[test]
fn wgpu() {
    compare_all(On::new("wgpu", DType::F32), 0.03);
}
