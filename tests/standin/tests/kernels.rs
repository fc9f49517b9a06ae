//! Kernels, streams and graphs on the stand-in through cudarc, against what the host computes.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{child, cubin, device, kernel};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{LaunchConfig, PushKernelArg};

const FULL: &[(&str, &str)] = &[("CHECK", "full"), ("SCHEDULE", "7")];

fn grid(blocks: u32, threads: u32, shared: u32) -> LaunchConfig {
    LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared }
}

/// Runs the body here, with the settings of the process, and in a child that checks every access.
fn both(test: &str, body: impl Fn()) {
    if let Some(said) = child(test, FULL, &body) {
        assert!(said.contains("test result: ok. 1 passed"), "{said}");
        body();
    }
}

const REDUCTION: &str = r#"
extern "C" __global__ void __launch_bounds__(256) sum(const float* x, float* out, int n) {
    extern __shared__ float partial[];
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    partial[threadIdx.x] = i < n ? x[i] : 0.0f;
    __syncthreads();
    for (int half = blockDim.x / 2; half >= 32; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    if (threadIdx.x < 32) {
        float v = partial[threadIdx.x];
        for (int d = 16; d > 0; d /= 2) v += __shfl_xor_sync(0xffffffffu, v, d);
        if (threadIdx.x == 0) out[blockIdx.x] = v;
    }
}"#;

#[test]
fn block_reduction() {
    both("block_reduction", || {
        let (context, stream) = device();
        let sum = kernel(&context, REDUCTION, "sum");
        let n = 10_000usize;
        let host: Vec<f32> = (0..n).map(|i| (i % 17) as f32).collect();
        let x = stream.clone_htod(&host).unwrap();
        let blocks = n.div_ceil(256);
        let mut out = stream.alloc_zeros::<f32>(blocks).unwrap();
        // SAFETY: the arguments are the kernel's.
        unsafe {
            stream.launch_builder(&sum).arg(&x).arg(&mut out).arg(&(n as i32)).launch(grid(
                blocks as u32,
                256,
                1024,
            ))
        }
        .unwrap();
        let expected: Vec<f32> = host.chunks(256).map(|c| c.iter().sum()).collect();
        assert_eq!(stream.clone_dtoh(&out).unwrap(), expected);
    });
}

fn bf16(x: f32) -> u16 {
    (x.to_bits() >> 16) as u16
}

fn wide(x: u16) -> f32 {
    f32::from_bits(u32::from(x) << 16)
}

/// The twin sums in order of k, so the product agrees with the plain one to the bit.
#[test]
fn tensor_core_tile_product() {
    both("tensor_core_tile_product", || {
        let (context, stream) = device();
        let product = kernel(&context, include_str!("tile_product.cu"), "tile_product");
        let (m, n, k) = (70usize, 90usize, 160usize);
        let value = |i: usize| bf16(((i * 7919 % 1009) as f32 - 504.0) / 300.0);
        let a: Vec<u16> = (0..m * k).map(value).collect();
        let b: Vec<u16> = (0..n * k).map(|i| value(i + 13)).collect();
        let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
        // SAFETY: the kernel writes all of it.
        let mut dc = unsafe { stream.alloc::<f32>(m * n) }.unwrap();
        let shared = 3 * 2 * 64 * 40 * 2;
        let config = LaunchConfig { grid_dim: (2, 2, 1), block_dim: (128, 1, 1), shared_mem_bytes: shared };
        // SAFETY: the arguments are the kernel's.
        unsafe {
            let (m, n, k) = (m as i32, n as i32, k as i32);
            let mut launch = stream.launch_builder(&product);
            launch.arg(&da).arg(&db).arg(&mut dc).arg(&m).arg(&n).arg(&k);
            launch.launch(config)
        }
        .unwrap();
        let got = stream.clone_dtoh(&dc).unwrap();
        for (i, got) in got.iter().enumerate() {
            let (row, column) = (i / n, i % n);
            let sum = (0..k).fold(0.0f32, |s, x| wide(a[row * k + x]).mul_add(wide(b[column * k + x]), s));
            assert_eq!(got.to_bits(), sum.to_bits(), "row {row} column {column}");
        }
    });
}

const PTX_CASES: &str = include_str!("ptx_cases.cu");

#[test]
fn fragments_of_f16_and_transposed_loads() {
    both("fragments_of_f16_and_transposed_loads", || {
        let (context, stream) = device();
        let product = kernel(&context, PTX_CASES, "f16_product");
        let half = |x: f32| half::f16::from_f32(x).to_bits();
        let a: Vec<u16> = (0..256).map(|i| half((i % 31) as f32 - 15.0)).collect();
        let b: Vec<u16> = (0..128).map(|i| half((i % 13) as f32 / 4.0)).collect();
        let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
        let mut c = stream.alloc_zeros::<f32>(128).unwrap();
        // SAFETY: the arguments are the kernel's.
        unsafe { stream.launch_builder(&product).arg(&da).arg(&db).arg(&mut c).launch(grid(1, 32, 0)) }
            .unwrap();
        let wide = |x: u16| half::f16::from_bits(x).to_f32();
        let expected: Vec<f32> = (0..128)
            .map(|i| (0..16).map(|k| wide(a[i / 8 * 16 + k]) * wide(b[i % 8 * 16 + k])).sum())
            .collect();
        assert_eq!(stream.clone_dtoh(&c).unwrap(), expected);

        let transposed = kernel(&context, PTX_CASES, "transposed");
        let x = stream.clone_htod(&(0..256u16).collect::<Vec<_>>()).unwrap();
        let mut wrong = stream.alloc_zeros::<u32>(1).unwrap();
        // SAFETY: the arguments are the kernel's.
        unsafe { stream.launch_builder(&transposed).arg(&x).arg(&mut wrong).launch(grid(1, 32, 0)) }.unwrap();
        assert_eq!(stream.clone_dtoh(&wrong).unwrap(), [0]);
    });
}

/// Every f16 widens as the `half` crate widens it, and floats of every exponent narrow as it narrows them.
#[test]
fn conversions() {
    let (context, stream) = device();
    let convert = kernel(&context, PTX_CASES, "convert");
    let n = 1 << 16;
    let x: Vec<f32> = (0..n as u32).map(|i| f32::from_bits(i.wrapping_mul(0x9E37_79B9))).collect();
    let x: Vec<f32> = x.into_iter().map(|x| if x.is_nan() { 1.0 } else { x }).collect();
    let dx = stream.clone_htod(&x).unwrap();
    let mut half = stream.alloc_zeros::<u32>(n).unwrap();
    let mut brain = stream.alloc_zeros::<u32>(n).unwrap();
    let mut back = stream.alloc_zeros::<f32>(n).unwrap();
    // SAFETY: the arguments are the kernel's.
    unsafe {
        let count = n as i32;
        let mut launch = stream.launch_builder(&convert);
        launch.arg(&dx).arg(&mut half).arg(&mut brain).arg(&mut back).arg(&count);
        launch.launch(grid(n as u32 / 256, 256, 0))
    }
    .unwrap();
    let (half, brain) = (stream.clone_dtoh(&half).unwrap(), stream.clone_dtoh(&brain).unwrap());
    for (i, back) in stream.clone_dtoh(&back).unwrap().into_iter().enumerate() {
        let (lo, hi) = (half::f16::from_f32(x[i]).to_bits(), half::f16::from_f32(-x[i]).to_bits());
        assert_eq!(half[i], u32::from(lo) | u32::from(hi) << 16, "f16 of {:e}", x[i]);
        let (lo, hi) = (half::bf16::from_f32(x[i]).to_bits(), half::bf16::from_f32(-x[i]).to_bits());
        assert_eq!(brain[i], u32::from(lo) | u32::from(hi) << 16, "bf16 of {:e}", x[i]);
        let wide = half::f16::from_bits(i as u16).to_f32();
        assert!(back.to_bits() == wide.to_bits() || back.is_nan() && wide.is_nan(), "f16 {i:#x}");
    }
}

const STEP: &str = r#"
extern "C" __global__ void add(float* x, const float* y, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] += y[i];
}
extern "C" __global__ void double_it(float* x, int n) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) x[i] *= 2.0f;
}"#;

/// A captured step runs at each launch, not at capture, and reads its pinned input anew each time.
#[test]
fn graph_capture_and_replay() {
    both("graph_capture_and_replay", || {
        let (context, stream) = device();
        let (add, double_it) = (kernel(&context, STEP, "add"), kernel(&context, STEP, "double_it"));
        let n = 64usize;
        // SAFETY: filled before it is read.
        let mut input = unsafe { context.alloc_pinned::<f32>(n) }.unwrap();
        let mut x = stream.alloc_zeros::<f32>(n).unwrap();
        let mut y = stream.alloc_zeros::<f32>(n).unwrap();
        stream.synchronize().unwrap();
        stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        stream.memcpy_htod(&input, &mut y).unwrap();
        // SAFETY: the arguments are the kernels'.
        unsafe {
            stream.launch_builder(&add).arg(&mut x).arg(&y).arg(&(n as i32)).launch(grid(1, 64, 0)).unwrap();
            stream.launch_builder(&double_it).arg(&mut x).arg(&(n as i32)).launch(grid(1, 64, 0)).unwrap();
        }
        let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
        assert_eq!(stream.clone_dtoh(&x).unwrap(), vec![0.0; n]);
        for step in 1..=3 {
            input.as_mut_slice().unwrap().fill(step as f32);
            graph.launch().unwrap();
            stream.synchronize().unwrap();
        }
        assert_eq!(stream.clone_dtoh(&x).unwrap(), vec![((1.0 * 2.0 + 2.0) * 2.0 + 3.0) * 2.0; n]);
    });
}

/// A captured fork and join: the graph keeps the order that the events gave.
#[test]
fn graph_with_two_branches() {
    for seed in ["lazy", "1", "2", "3"] {
        let said = child("graph_with_two_branches", &[("SCHEDULE", seed)], || {
            let (context, stream) = device();
            let side = context.new_stream().unwrap();
            let (add, double_it) = (kernel(&context, STEP, "add"), kernel(&context, STEP, "double_it"));
            let mut x = stream.clone_htod(&[1.0f32; 8]).unwrap();
            let mut y = stream.clone_htod(&[5.0f32; 8]).unwrap();
            stream.synchronize().unwrap();
            stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
            side.join(&stream).unwrap();
            // SAFETY: the arguments are the kernels'.
            unsafe {
                side.launch_builder(&double_it).arg(&mut y).arg(&8i32).launch(grid(1, 8, 0)).unwrap();
                stream.launch_builder(&double_it).arg(&mut x).arg(&8i32).launch(grid(1, 8, 0)).unwrap();
                stream.join(&side).unwrap();
                stream.launch_builder(&add).arg(&mut x).arg(&y).arg(&8i32).launch(grid(1, 8, 0)).unwrap();
            }
            let graph = stream.end_capture(CUgraphInstantiate_flags(0)).unwrap().unwrap();
            graph.launch().unwrap();
            assert_eq!(stream.clone_dtoh(&x).unwrap(), [12.0; 8]);
        });
        assert!(said.is_none_or(|said| said.contains("test result: ok. 1 passed")));
    }
}

/// Work waits for a wait: a pinned result is stale until the stream is synchronised, and an event orders two streams.
#[test]
fn streams_run_when_somebody_waits() {
    let (context, stream) = device();
    let other = context.new_stream().unwrap();
    let double_it = kernel(&context, STEP, "double_it");
    let mut x = stream.clone_htod(&[3.0f32; 8]).unwrap();
    // SAFETY: filled before it is read.
    let mut out = unsafe { context.alloc_pinned::<f32>(8) }.unwrap();
    out.as_mut_slice().unwrap().fill(0.0);
    let at = out.as_ptr().unwrap();
    // SAFETY: the arguments are the kernel's.
    unsafe { stream.launch_builder(&double_it).arg(&mut x).arg(&8i32).launch(grid(1, 8, 0)) }.unwrap();
    other.join(&stream).unwrap();
    other.memcpy_dtoh(&x, &mut out).unwrap();
    // SAFETY: within the allocation; the volatile read sees what is there now.
    assert_eq!(unsafe { at.read_volatile() }, 0.0, "the copy ran before anybody waited for it");
    other.synchronize().unwrap();
    assert_eq!(out.as_slice().unwrap(), [6.0; 8]);
}

#[test]
fn options_and_architectures() {
    let (context, _stream) = device();
    let source = "extern \"C\" __global__ void k(int* x) { *x = VALUE; }";
    assert!(cubin(source, &["--gpu-architecture=sm_80", "-DVALUE=1"]).is_ok());
    let log = cubin(source, &["--gpu-architecture=sm_80"]).unwrap_err();
    assert!(log.contains("VALUE") && log.contains("test.cu"), "{log}");
    assert!(cubin(source, &["--no-such-option"]).unwrap_err().contains("INVALID_OPTION"));
    let other = cubin(source, &["-arch=sm_90a", "-DVALUE=1"]).unwrap();
    let error = context.load_module(cudarc::nvrtc::Ptx::from_binary(other)).unwrap_err();
    assert!(error.to_string().contains("NO_BINARY_FOR_GPU"), "{error}");
    let hidden = "__global__ void mangled(int* x) { *x = 1; }";
    let image = cubin(hidden, &["-arch=sm_80"]).unwrap();
    let module = context.load_module(cudarc::nvrtc::Ptx::from_binary(image)).unwrap();
    assert!(module.load_function("mangled").unwrap_err().to_string().contains("NOT_FOUND"));
}

/// cuBLASLt's stand-in: y = W x for row-major W and x, as a linear layer calls it.
#[test]
fn cublaslt_product() {
    use cudarc::cublaslt::{CudaBlasLT, Matmul, MatmulConfig};
    let (_context, stream) = device();
    let (m, n, k) = (6usize, 5usize, 7usize);
    let w: Vec<f32> = (0..m * k).map(|i| (i % 11) as f32 - 5.0).collect();
    let x: Vec<f32> = (0..n * k).map(|i| (i % 7) as f32 / 2.0).collect();
    let (dw, dx) = (stream.clone_htod(&w).unwrap(), stream.clone_htod(&x).unwrap());
    let mut dy = stream.alloc_zeros::<f32>(m * n).unwrap();
    let blas = CudaBlasLT::new(stream.clone()).unwrap();
    let config = MatmulConfig {
        transa: true,
        transb: false,
        transc: false,
        m: m as u64,
        n: n as u64,
        k: k as u64,
        alpha: 1.0,
        lda: k as i64,
        ldb: k as i64,
        beta: 0.0,
        ldc: m as i64,
        stride_a: None,
        stride_b: None,
        stride_c: None,
        stride_bias: None,
        batch_size: None,
    };
    // SAFETY: the sizes are those of the matrices.
    unsafe { blas.matmul(config, &dw, &dx, &mut dy, None, None) }.unwrap();
    let expected: Vec<f32> =
        (0..m * n).map(|i| (0..k).map(|j| w[i % m * k + j] * x[i / m * k + j]).sum()).collect();
    assert_eq!(stream.clone_dtoh(&dy).unwrap(), expected);
}

/// A program of its own finds the libraries through the loader's path alone.
#[test]
fn found_through_the_loader_path() {
    if std::env::var_os("STANDIN_LOADER_PATH").is_some() {
        let context = cudarc::driver::CudaContext::new(0).unwrap();
        println!("found {}", context.name().unwrap());
        return;
    }
    let folder = gristmill_standin::build().unwrap();
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "found_through_the_loader_path", "--nocapture"])
        .env("STANDIN_LOADER_PATH", "1")
        .env("LD_LIBRARY_PATH", folder)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.contains("found gristmill stand-in (sm_80)"), "{said}");
}

const MATH: &str = r#"
extern "C" __global__ void math(float* x, unsigned* bits) {
    x[0] = abs(-2.5f);                       // the float overload, not the integer one
    x[1] = exp(1.0f) - expf(1.0f);
    x[2] = max(1.0f, -3.0f) + min(2, 5);
    x[3] = __fmaf_rn(2.0f, 3.0f, 1.0f) + rsqrtf(4.0f);
    bits[0] = __byte_perm(0x03020100u, 0x07060504u, 0x5410u);
    bits[1] = __brev(1u) | __popc(0xffu);
    bits[2] = (unsigned)__float2int_rn(2.5f) + (unsigned)__float2int_rz(-1.9f);
    bits[3] = __funnelshift_l(0x80000000u, 1u, 1);
    bits[4] = atomicAdd(&bits[5], 7u) + atomicMax(&bits[5], 3u);
    bits[6] = __umulhi(0x80000000u, 6u) + __clz(1) + __ffs(8);
}"#;

#[test]
fn arithmetic_of_the_header() {
    let (context, stream) = device();
    let math = kernel(&context, MATH, "math");
    let mut x = stream.alloc_zeros::<f32>(4).unwrap();
    let mut bits = stream.alloc_zeros::<u32>(7).unwrap();
    // SAFETY: the arguments are the kernel's.
    unsafe { stream.launch_builder(&math).arg(&mut x).arg(&mut bits).launch(grid(1, 1, 0)) }.unwrap();
    assert_eq!(stream.clone_dtoh(&x).unwrap(), [2.5, 0.0, 3.0, 7.5]);
    assert_eq!(stream.clone_dtoh(&bits).unwrap(), [0x0504_0100, 0x8000_0008, 1, 3, 7, 7, 3 + 31 + 4]);
}
