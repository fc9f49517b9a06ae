//! Models against the log-probabilities that Hugging Face transformers computes (`tests/golden`).

#![allow(clippy::unwrap_used)]

mod support;

use engine::device::{Device, PlanId};
use engine::dtype::DType;
use engine::models::{Formats, LoadFormat, Model, ModelConfig, decoder};
use engine::plan::{BufferId, Dims};
use engine::step::{SampleRow, Step};
use safetensors::SafeTensors;

const MODELS: &[&str] = &[
    "llama2",
    "llama3",
    "llama3-sharded",
    "llama-linear",
    "mistral",
    "mistral-nemo",
    "qwen2",
    "qwen2.5",
    "qwen2-window",
    "qwen2-yarn",
    "qwen3",
];

const MAX_LEN: usize = 80;
const PAGE: usize = 16;

struct Loaded {
    device: Box<dyn Device>,
    plan: PlanId,
    logits: BufferId,
    vocab: usize,
}

impl Loaded {
    fn open(mut device: Box<dyn Device>, name: &str) -> Loaded {
        let model = Model::open(&support::golden(name), LoadFormat::Auto).unwrap();
        let info = device.info().clone();
        let formats = Formats { activations: info.activations, kv: info.kv[0] };
        // The type nearest to the checkpoint's that the device can hold.
        let matrix = |tensor: &str| {
            let own = model.checkpoint.as_ref().and_then(|c| c.dtype(tensor)).unwrap();
            if info.weights.contains(&own) { own } else { info.weights[0] }
        };
        let pages = MAX_LEN / PAGE;
        let decoder = decoder(&model.config, &formats, MAX_LEN, 1, pages, matrix);
        let most = Dims {
            tokens: MAX_LEN,
            seqs: 1,
            outputs: MAX_LEN,
            adjustments: 1,
            masks: 1,
            pages,
            page_size: PAGE,
            pages_per_seq: pages,
            attended: 0,
        };
        let plan = device.compile(&decoder.plan, &most).unwrap();
        model.load(device.as_mut(), plan, &decoder).unwrap();
        let logits = decoder.plan.iter().find(|(_, d)| d.name == "logits").unwrap().0;
        Loaded { device, plan, logits, vocab: model.config.vocab }
    }

    /// Log-probabilities after each of the tokens, which stand at positions from `start` on.
    fn logprobs(&mut self, start: usize, tokens: &[u32]) -> Vec<Vec<f64>> {
        let n = tokens.len() as u32;
        let positions: Vec<u32> = (start as u32..start as u32 + n).collect();
        // Pages in descending order, so that a block table is not the identity.
        let pages: Vec<u32> = (0..(MAX_LEN / PAGE) as u32).rev().collect();
        let slot = |&p: &u32| pages[p as usize / PAGE] * PAGE as u32 + p % PAGE as u32;
        let step = Step {
            tokens: tokens.to_vec(),
            slots: positions.iter().map(slot).collect(),
            positions,
            query_start: vec![0, n],
            seq_lens: vec![start as u32 + n],
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
        let bytes = self.device.read(self.plan, self.logits, 0..tokens.len()).unwrap();
        DType::F32.decode(&bytes).chunks(self.vocab).map(log_softmax).collect()
    }
}

fn log_softmax(logits: &[f32]) -> Vec<f64> {
    let logits: Vec<f64> = logits.iter().map(|&l| f64::from(l)).collect();
    let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let total = logits.iter().map(|l| (l - most).exp()).sum::<f64>().ln() + most;
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
fn compare(device: Box<dyn Device>, name: &str, tolerance: f64) {
    let mut model = Loaded::open(device, name);
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
            // The best tokens lead by more than 0.01: less than rounding to 16 bits may move them.
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

fn compare_all(device: &str, tolerance: f64) {
    for name in MODELS {
        let Some(device) = support::open(device) else { return };
        compare(device, name, tolerance);
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
        let table = config.layers[0].rope.table(d, 1 + *positions.iter().max().unwrap() as usize);
        for (&position, want) in positions.iter().zip(floats(&expected, name).chunks(d)) {
            // Angles are products in f32, of frequencies that may differ in their last bit.
            let tolerance = 1e-6 + 3e-7 * position as f32;
            let got = &table[position as usize * d..][..d];
            let worst = got.iter().zip(want).map(|(g, w)| (g - w).abs()).fold(0.0, f32::max);
            assert!(worst < tolerance, "{name}, position {position}: off by {worst}");
        }
    }
}

#[test]
fn cpu() {
    compare_all("cpu", 1e-4);
}

/// As on CUDA below, but only operands of Linear are rounded.
#[test]
fn cpu_medium() {
    compare_all("cpu-medium", 0.25);
}

#[test]
fn cuda_f32() {
    compare_all("cuda-f32", 1e-3);
}

/// Weights and activations are rounded to 8 bits of mantissa; the log-probabilities lie between -1 and -10.
#[test]
fn cuda() {
    compare_all("cuda", 0.25);
}

#[test]
fn wgpu_f32() {
    compare_all("wgpu-f32", 1e-3);
}

/// Keys and values are rounded to 11 bits of mantissa, all else is f32. The unlikeliest tokens, at
/// log-probabilities near -12, move by up to 0.012.
#[test]
fn wgpu() {
    compare_all("wgpu", 0.03);
}
