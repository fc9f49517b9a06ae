//! try
#![allow(clippy::unwrap_used)]
use engine::cases::{Formats, cases};
use engine::cpu::CpuDevice;
use engine::dtype::DType;
use kernels::{CudaDevice, Options};

#[test]
fn cases_agree() {
    standin::install().unwrap();
    let mut oracle = CpuDevice::new(Some(2)).unwrap();
    let only = std::env::var("ONLY").unwrap_or_default();
    let dtypes = std::env::var("DTYPES").unwrap_or("bf16,f16,f32".into());
    let mut bad = 0;
    for (name, dtype) in [("bf16", DType::BF16), ("f16", DType::F16), ("f32", DType::F32)] {
        if !dtypes.contains(name) {
            continue;
        }
        let mut device = CudaDevice::open_with(Options { dtype, ..Options::default() }).unwrap();
        let f = Formats { activations: dtype, weights: dtype, kv: dtype };
        for (case, mut wide) in cases(f).into_iter().zip(cases(Formats::F32)) {
            if !case.name.starts_with(&only) {
                continue;
            }
            for ((id, to), (_, from)) in wide.writes.iter_mut().zip(&case.writes) {
                let desc = case.plan.desc(*id);
                if desc.dtype.is_float() {
                    *to = DType::F32.encode(&desc.dtype.decode(from));
                }
            }
            let start = std::time::Instant::now();
            let (id, output) = case.run(&mut device).unwrap_or_else(|e| panic!("{}: {e}", case.name));
            let took = start.elapsed().as_secs_f32();
            let (wid, wout) = wide.run(&mut oracle).unwrap();
            let got = case.read(&mut device, id).unwrap();
            let want = wide.read(&mut oracle, wid).unwrap();
            let tol = 1e-4 + 4.0 * f.epsilon();
            let mut worst = 0f32;
            for (g, w) in got.iter().zip(&want) {
                assert_eq!(g.len(), w.len());
                for (g, w) in g.iter().zip(w) {
                    let e = (g - w).abs() / w.abs().max(1.0);
                    worst = if e.is_nan() { f32::INFINITY } else { worst.max(e) };
                }
            }
            let mut s = String::new();
            for (g, w) in output.sampled.iter().zip(&wout.sampled) {
                if g.token != w.token || (g.logprob - w.logprob).abs() > 1e-4 || g.top_tokens != w.top_tokens {
                    s += &format!(" sampled {:?} {:?}", (g.token, g.logprob, g.top_tokens), (w.token, w.logprob, w.top_tokens));
                }
            }
            let fail = worst > tol || !s.is_empty();
            bad += usize::from(fail);
            println!("{} {name} {}: {worst:e} {took:.2}s{s}", if fail { "BAD" } else { "ok " }, case.name);
        }
    }
    assert_eq!(bad, 0);
}
