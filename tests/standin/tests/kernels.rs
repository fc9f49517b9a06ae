//! Kernels on the stand-in through cudarc, against sums done on the host.
#![allow(clippy::unwrap_used, missing_docs)]

use cudarc::driver::{CudaContext, CudaFunction, CudaStream, LaunchConfig, PushKernelArg};
use std::sync::Arc;

fn device() -> (Arc<CudaContext>, Arc<CudaStream>) {
    gristmill_standin::install().unwrap();
    let context = CudaContext::new(0).unwrap();
    // SAFETY: the tests order their streams themselves.
    unsafe { context.disable_event_tracking() };
    let stream = context.new_stream().unwrap();
    (context, stream)
}

fn compile(context: &Arc<CudaContext>, source: &str, kernel: &str) -> CudaFunction {
    let image = cudarc::nvrtc::compile_ptx(source).unwrap();
    context.load_module(image).unwrap().load_function(kernel).unwrap()
}

#[test]
fn block_reduction() {
    let (context, stream) = device();
    let sum = compile(
        &context,
        r#"
        extern "C" __global__ void __launch_bounds__(256) sum(const float* x, float* out, int n) {
            extern __shared__ float partial[];
            __shared__ float warps[8];
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
        }"#,
        "sum",
    );
    let n = 10_000usize;
    let host: Vec<f32> = (0..n).map(|i| (i % 17) as f32).collect();
    let x = stream.clone_htod(&host).unwrap();
    let blocks = n.div_ceil(256);
    let mut out = stream.alloc_zeros::<f32>(blocks).unwrap();
    let config = LaunchConfig { grid_dim: (blocks as u32, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 1024 };
    // SAFETY: the arguments are the kernel's.
    unsafe { stream.launch_builder(&sum).arg(&x).arg(&mut out).arg(&(n as i32)).launch(config) }.unwrap();
    let got = stream.clone_dtoh(&out).unwrap();
    let expected: Vec<f32> = host.chunks(256).map(|c| c.iter().sum()).collect();
    assert_eq!(got, expected);
}
