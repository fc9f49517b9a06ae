//! Compares every op case on every device with the oracle.

#![allow(clippy::unwrap_used)]

mod support;

use engine::cases::{Case, Formats, cases};
use engine::cpu::CpuDevice;
use engine::dtype::DType;
use engine::format::Format;
use engine::models::{LoadFormat, Model};
use engine::op::Cost;
use engine::plan::BufferKind;
use engine::request::{Event, Request, SamplingParams};
use engine::{Engine, EngineConfig, EngineError, StepShape};

/// Runs all cases on `name` with activations of one type in every weight format that goes with it, and those with KV pages
/// in every type of pages.
fn compare(name: &str, activations: DType) {
    let Some(mut device) = support::open(name) else { return };
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    let types = device.info().types_for(activations).clone();
    assert_eq!(types.activations, activations);
    for (i, &weights) in types.weights.iter().enumerate() {
        for (j, &kv) in types.kv.iter().enumerate() {
            let formats = Formats { activations, weights, kv };
            // Activations that are rounded for a product differ as much as activations that are kept in that type.
            let products = if name == "cpu-medium" { DType::BF16 } else { activations };
            let mut epsilon = Formats { activations: products, ..formats }.epsilon();
            let fp8 = matches!(weights, Format::Fp8 | Format::Fp8Blocks);
            let quantizes = match device.info().family {
                "cuda sm_90a" => fp8,
                "cuda mma e4m3" => weights == Format::Fp8,
                _ => false,
            };
            if quantizes && activations != DType::F32 {
                // Activations are rounded to e4m3 for the product: by up to 1/16.
                epsilon = 1.0 / 32.0;
            }
            let paged = |case: &Case| case.plan.iter().any(|(_, desc)| desc.kind == BufferKind::KvPage);
            // The types of weights and of pages never meet in an op.
            let all = cases(formats).into_iter().filter(|case| if paged(case) { i == 0 } else { j == 0 });
            for case in all {
                let checked = case.check(device.as_mut(), &mut oracle, epsilon);
                checked.unwrap_or_else(|why| panic!("{formats:?}: {why}"));
            }
        }
    }
}

#[test]
fn cpu() {
    compare("cpu", DType::F32);
}

#[test]
fn cpu_medium() {
    compare("cpu-medium", DType::F32);
}

#[test]
fn cuda() {
    compare("cuda", DType::BF16);
}

#[test]
fn cuda_f16() {
    compare("cuda", DType::F16);
}

/// A card with wgmma: in a process of its own, whose stand-in driver is one.
#[test]
fn cuda_sm_90a() {
    support::on_sm("90", "cuda");
}

/// A card whose `mma.sync` multiplies e4m3 numbers.
#[test]
fn cuda_sm_89() {
    support::on_sm("89", "cuda");
}

#[test]
fn cuda_sm_90a_f16() {
    support::on_sm("90", "cuda_f16");
}

#[test]
fn cuda_f32() {
    compare("cuda", DType::F32);
}

#[test]
fn wgpu() {
    compare("wgpu", DType::F32);
}

/// Times a step of a small model: all of its ops are there with what they compute, and later answers are as before.
fn time_step(name: &str) {
    let Some(mut device) = support::open(name) else { return };
    let peaks = device.peaks(DType::BF16).unwrap();
    assert!(peaks.bytes_per_second > 0.0 && peaks.flops_per_second > 0.0, "{peaks:?}");
    let cost = Cost { bytes: 0, flops: 300, fp8_flops: 200 };
    let seconds = 100.0 / peaks.flops_per_second + 200.0 / peaks.fp8_flops_per_second;
    assert!((peaks.seconds(&cost).1 / seconds - 1.0).abs() < 1e-9, "{peaks:?}");
    let e4m3 = matches!(device.info().family, "cuda sm_90a" | "cuda mma e4m3");
    let faster = if e4m3 { 2.0 } else { 1.0 };
    assert_eq!(peaks.fp8_flops_per_second / peaks.flops_per_second, faster);
    let model = Model::open(&support::golden("qwen3"), LoadFormat::Auto).unwrap();
    let config = EngineConfig {
        max_num_seqs: Some(4),
        max_num_batched_tokens: Some(8),
        max_model_len: Some(64),
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(&model, device, &config).unwrap();
    let before = answer(&mut engine);
    for (tokens, seqs, context) in [(4, 4, 40), (8, 2, 33), (7, 1, 7)] {
        let times = engine.time_step(StepShape { tokens, seqs, context }, 2).unwrap();
        let counts = |kind: &str| {
            let of_kind = times.ops.iter().filter(|ops| ops.name.contains(kind));
            of_kind.fold((0, 0), |(count, flops), ops| (count + ops.count, flops + ops.cost.flops))
        };
        // Query, key and value, in each of two layers; output, gate and up, down, which the last layer has for wanted rows
        // alone; the head, for those too.
        let (qkv, rest) = (32 * 128, 64 * 32 + 32 * 64 + 32 * 32);
        let expected = (9, 2 * (tokens * (2 * qkv + rest) + seqs * (rest + 32 * 384)) as u64);
        let (linears, flops) = counts("Linear");
        assert!(linears == expected.0 && flops >= expected.1, "{linears} Linears of {flops}: {times:?}");
        let alone = times.ops.iter().all(|ops| !ops.name.contains("Linear") || !ops.name.contains('+'));
        assert!(!alone || flops == expected.1, "{flops}, not {}: {times:?}", expected.1);
        assert_eq!((counts("PagedAttention").0, counts("KvWrite").0, counts("Sample").0), (2, 2, 1));
    }
    assert_eq!(answer(&mut engine), before);
    for (shape, field) in [
        (StepShape { tokens: 1, seqs: 5, context: 8 }, "seqs"),
        (StepShape { tokens: 3, seqs: 4, context: 8 }, "tokens"),
        (StepShape { tokens: 9, seqs: 1, context: 9 }, "tokens"),
        (StepShape { tokens: 8, seqs: 1, context: 7 }, "context"),
        (StepShape { tokens: 1, seqs: 1, context: 65 }, "context"),
    ] {
        let refused = engine.time_step(shape, 1);
        assert!(matches!(refused, Err(EngineError::Option { field: f, .. }) if f == field), "{refused:?}");
    }
}

/// The tokens of a greedy answer.
fn answer(engine: &mut Engine) -> Vec<u32> {
    let params = SamplingParams { temperature: 0.0, max_tokens: 8, ..SamplingParams::default() };
    engine.add(Request::new(1, (5..25).collect(), params)).unwrap();
    let mut tokens = Vec::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            if let Event::Token { token, .. } = event {
                tokens.push(token.token);
            }
        }
    }
    tokens
}

#[test]
fn times_on_the_cpu() {
    time_step("cpu");
}

#[test]
fn times_on_cuda() {
    time_step("cuda");
}

#[test]
fn times_on_cuda_sm_90a() {
    support::on_sm("90", "times_on_cuda");
}

#[test]
fn times_on_wgpu() {
    time_step("wgpu");
}
