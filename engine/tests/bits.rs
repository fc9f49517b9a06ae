//! The bits of the CPU device stay: digests of what models computed before its kernels were last changed, at every width
//! of vectors. Where an order of summing changes on purpose, the numerics version of the CPU changes too.

#![allow(clippy::unwrap_used)]

use engine::cpu::{CpuDevice, MatmulPrecision};
use engine::device::{Device, PlanId};
use engine::dtype::DType;
use engine::format::Format;
use engine::models::{Formats, LoadFormat, Model, decoder};
use engine::plan::{BufferId, Dims};
use engine::step::{SampleRow, Step};
use std::path::{Path, PathBuf};

const MAX_LEN: usize = 480;
const PAGE: usize = 16;
const PAGES: usize = MAX_LEN / PAGE;

/// The chunks in which each of two sequences grows. Their tokens are no multiples of a tile, and the third step has more
/// rows than a task.
const STEPS: [[usize; 2]; 6] = [[29, 5], [40, 1], [390, 33], [1, 1], [1, 7], [1, 1]];

struct Bits {
    device: CpuDevice,
    plan: PlanId,
    logits: BufferId,
    vocab: usize,
}

impl Bits {
    fn open(folder: &Path, load: LoadFormat, weights: Option<Format>, precision: MatmulPrecision) -> Bits {
        let mut device = CpuDevice::with_precision(Some(2), precision).unwrap();
        let model = Model::open(folder, load).unwrap();
        let formats = Formats { activations: DType::F32, kv: DType::F32 };
        let own = |tensors: &[String]| model.checkpoint.as_ref().and_then(|c| c.dtype(&tensors[0]));
        let format = |tensors: &[String]| weights.or(own(tensors).map(Format::from)).unwrap();
        let decoder = decoder(&model.config, &formats, MAX_LEN, 2, PAGES, format);
        let max_dims = Dims {
            tokens: MAX_LEN,
            seqs: 2,
            outputs: MAX_LEN,
            adjustments: 1,
            masks: 1,
            targets: 0,
            pages: 2 * PAGES,
            page_size: PAGE,
            pages_per_seq: PAGES,
            attended: 0,
            contexts: 0,
        };
        let plan = device.compile(&decoder.plan, &max_dims).unwrap();
        model.load(&mut device, plan, &decoder).unwrap();
        let logits = decoder.plan.iter().find(|(_, d)| d.name == "logits").unwrap().0;
        Bits { device, plan, logits, vocab: model.config.vocab }
    }

    fn run(&mut self, step: &Step) {
        let ticket = self.device.submit(self.plan, step).unwrap();
        self.device.wait(ticket).unwrap();
    }

    /// The digest of the logits at every position of every step that fits the model.
    fn digest(mut self, max_len: usize) -> String {
        let (mut hasher, mut lengths) = (blake3::Hasher::new(), [0; 2]);
        for chunks in STEPS {
            if lengths[0] + chunks[0] > max_len {
                continue;
            }
            let step = step(lengths, chunks, self.vocab);
            // First as an inner chunk of prompts, of which nothing is wanted: that changes nothing.
            if lengths == [0; 2] {
                self.run(&Step { output_rows: Vec::new(), sampling: Vec::new(), ..step.clone() });
            }
            self.run(&step);
            hasher.update(&self.device.read(self.plan, self.logits, 0..step.tokens.len()).unwrap());
            (lengths[0], lengths[1]) = (lengths[0] + chunks[0], lengths[1] + chunks[1]);
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }
}

/// A step that adds chunks to sequences of the given lengths, whose pages alternate.
fn step(lengths: [usize; 2], chunks: [usize; 2], vocab: usize) -> Step {
    let mut step = Step { page_size: PAGE, pages_per_seq: PAGES, query_start: vec![0], ..Step::default() };
    for seq in 0..2 {
        let page = |i: usize| (2 * (PAGES - 1 - i) + seq) as u32;
        for position in lengths[seq]..lengths[seq] + chunks[seq] {
            step.tokens.push(((position * 31 + seq * 17 + 5) % vocab) as u32);
            step.positions.push(position as u32);
            step.kv_slots.push(page(position / PAGE) * PAGE as u32 + (position % PAGE) as u32);
        }
        step.query_start.push(step.tokens.len() as u32);
        step.block_tables.extend((0..PAGES).map(page));
    }
    step.output_rows = (0..step.tokens.len() as u32).collect();
    step.sampling = vec![SampleRow::greedy(); step.tokens.len()];
    step.mask_words = vocab.div_ceil(32);
    step
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/golden")
}

/// Digests of golden models by their folders, with the weights that they have.
const GOLDEN: [(&str, &str); 13] = [
    ("gemma2", "ec28716dcb196287"),
    ("gemma2-layers", "b6340685cd886b9a"),
    ("llama-linear", "864e0a9f25293fbf"),
    ("llama2", "b2be49f832c8a648"),
    ("llama3", "5c3a25e758daa253"),
    ("llama3-sharded", "5c3a25e758daa253"),
    ("mistral", "8cf738abe9fc675c"),
    ("mistral-nemo", "ca61f1c0905e1d4e"),
    ("qwen2", "cb787e69f67b82c2"),
    ("qwen2-window", "c81fd84c0a658c75"),
    ("qwen2-yarn", "05b289f46c679007"),
    ("qwen2.5", "d59ea3c21a43c7fe"),
    ("qwen3", "c40f642aaffbf100"),
];

/// Models whose weights are made up.
struct MadeUp {
    hidden: usize,
    intermediate: usize,
    heads: usize,
    kv_heads: usize,
    vocab: usize,
    weights: Format,
    precision: MatmulPrecision,
    digest: &'static str,
}

const fn made_up(
    sizes: [usize; 5],
    weights: Format,
    precision: MatmulPrecision,
    digest: &'static str,
) -> MadeUp {
    let [hidden, intermediate, heads, kv_heads, vocab] = sizes;
    MadeUp { hidden, intermediate, heads, kv_heads, vocab, weights, precision, digest }
}

/// Columns that are no multiple of anything, and those of a small model.
const ODD: [usize; 5] = [66, 75, 3, 1, 97];
const SMALL: [usize; 5] = [576, 1536, 9, 3, 1000];
const WHOLE: [usize; 5] = [256, 384, 4, 2, 211];

const MADE_UP: [MadeUp; 10] = [
    made_up(ODD, Format::Plain(DType::F32), MatmulPrecision::Highest, "5d55ac44efa5aca8"),
    made_up(ODD, Format::Plain(DType::BF16), MatmulPrecision::Highest, "5359d217e83155a8"),
    made_up(ODD, Format::Plain(DType::F16), MatmulPrecision::Highest, "75b59e401c7f7abb"),
    made_up(ODD, Format::Plain(DType::BF16), MatmulPrecision::Medium, "be900fd843d78a57"),
    made_up(ODD, Format::Fp8, MatmulPrecision::Highest, "083f0cd4650cf6da"),
    made_up(SMALL, Format::Plain(DType::F32), MatmulPrecision::Highest, "f8a169d3c2341c62"),
    made_up(SMALL, Format::Plain(DType::BF16), MatmulPrecision::Highest, "33d2d3aaa163cd84"),
    made_up(SMALL, Format::Plain(DType::BF16), MatmulPrecision::Medium, "9447a164c6e5cc5c"),
    made_up(WHOLE, Format::Q8_0, MatmulPrecision::Highest, "b41393cc5aaf0282"),
    made_up(WHOLE, Format::Fp8Blocks, MatmulPrecision::Highest, "36a81ccdb480e965"),
];

impl MadeUp {
    fn digest(&self) -> String {
        let folder = tempfile::tempdir().unwrap();
        let config = serde_json::json!({
            "architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_act": "silu",
            "hidden_size": self.hidden, "intermediate_size": self.intermediate, "num_hidden_layers": 2,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
            "max_position_embeddings": MAX_LEN, "rms_norm_eps": 1e-5, "tie_word_embeddings": true,
            "torch_dtype": "float32",
        });
        std::fs::write(folder.path().join("config.json"), config.to_string()).unwrap();
        let model = Bits::open(folder.path(), LoadFormat::Dummy, Some(self.weights), self.precision);
        model.digest(MAX_LEN)
    }
}

fn check() {
    let mut wrong = Vec::new();
    for (name, digest) in GOLDEN {
        let model = Bits::open(&golden().join(name), LoadFormat::Auto, None, MatmulPrecision::Highest);
        let found = model.digest(250);
        if found != digest {
            wrong.push(format!("{name}: {found}, not {digest}"));
        }
    }
    for model in MADE_UP {
        let found = model.digest();
        if found != model.digest {
            let (sizes, weights) = ((model.hidden, model.intermediate), model.weights);
            wrong.push(format!("{sizes:?} {weights} {:?}: {found}, not {}", model.precision, model.digest));
        }
    }
    assert!(wrong.is_empty(), "other bits:\n{}", wrong.join("\n"));
}

#[test]
fn bits_stay() {
    check();
}

/// Runs this test binary's test of that name with vectors of at most that many bits.
fn narrow(bits: &str) {
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "bits_stay"])
        .env("GRISTMILL_MAX_VECTOR_BITS", bits)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}

#[test]
fn bits_stay_with_256_bit_vectors() {
    narrow("256");
}

#[test]
fn bits_stay_with_128_bit_vectors() {
    narrow("128");
}
