//! One planted fault of each kind, and that it is caught: with the right error, and with kernel, block and thread.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{child, device, kernel, variant, variant_for};
use cudarc::driver::sys::{CUgraphInstantiate_flags, CUstreamCaptureMode};
use cudarc::driver::{CudaFunction, CudaSlice, CudaStream, DriverError, LaunchConfig, PushKernelArg};
use std::process::exit;
use std::sync::Arc;

const FULL: &[(&str, &str)] = &[("CHECK", "full")];
const FAST: &[(&str, &str)] = &[("CHECK", "fast")];

/// Runs the planted fault in a child, which must print each of `signs`.
fn caught(test: &str, settings: &[(&str, &str)], signs: &[&str], plant: impl FnOnce()) {
    let Some(said) = child(test, settings, plant) else { return };
    for sign in signs {
        assert!(said.contains(sign), "`{sign}` is missing in:\n{said}");
    }
}

/// Launches a kernel over one array and prints the error that the synchronisation then gives. Ends the child: after a
/// fault every call fails, those of destructors too.
fn fail(
    stream: &Arc<CudaStream>,
    function: &CudaFunction,
    x: &CudaSlice<f32>,
    threads: u32,
    shared: u32,
) -> ! {
    let config = LaunchConfig { grid_dim: (2, 1, 1), block_dim: (threads, 1, 1), shared_mem_bytes: shared };
    // SAFETY: what is wrong with it is the point of the test.
    unsafe { stream.launch_builder(function).arg(x).launch(config) }.unwrap();
    outcome(stream.synchronize())
}

fn outcome<T>(result: Result<T, DriverError>) -> ! {
    println!("outcome: {}", result.map_or_else(|e| e.to_string(), |_| "no error".into()));
    exit(0)
}

/// A kernel `k(float* x)` of this body: two blocks of 64 threads, each with 64 floats, which are ones if asked.
fn plant(body: &str, filled: bool) {
    let (context, stream) = device();
    let source = format!("extern \"C\" __global__ void k(float* x) {{ x += 64 * blockIdx.x;\n{body}\n}}");
    let function = kernel(&context, &source, "k");
    // SAFETY: the uninitialised memory is the point of the test.
    let mut x = unsafe { stream.alloc::<f32>(128) }.unwrap();
    if filled {
        stream.memcpy_htod(&[1.0f32; 128], &mut x).unwrap();
    }
    fail(&stream, &function, &x, 64, 0)
}

#[test]
fn out_of_bounds_by_one() {
    let signs = [
        "kernel k, block (1, 0, 0), thread (63, 0, 0)",
        "write of 4 bytes",
        "0 bytes after the end of",
        "outcome: DriverError(CUDA_ERROR_ILLEGAL_ADDRESS",
    ];
    caught("out_of_bounds_by_one", FULL, &signs, || plant("x[threadIdx.x + blockIdx.x] = 1.0f;", true));
}

#[test]
fn out_of_bounds_before_the_start() {
    let signs = ["thread (0, 0, 0)", "read of 4 bytes", "4 bytes before", "ILLEGAL_ADDRESS"];
    caught("out_of_bounds_before_the_start", FULL, &signs, || {
        plant("if (x[(int)threadIdx.x - 1] == 5.0f) x[0] = 0.0f;", true)
    });
}

#[test]
fn red_zone_written() {
    let signs = ["kernel k wrote outside allocation", "the red zone before it", "ILLEGAL_ADDRESS"];
    caught("red_zone_written", FAST, &signs, || plant("if (threadIdx.x == 3) x[-5] = 1.0f;", true));
}

#[test]
fn guard_page_hit() {
    let signs = ["block (0, 0, 0), thread (7, 0, 0)", "illegal address", "ILLEGAL_ADDRESS"];
    let settings = [("CHECK", "fast"), ("THREADS", "1")];
    caught("guard_page_hit", &settings, &signs, || plant("if (threadIdx.x == 7) x[5000] = 1.0f;", true));
}

#[test]
fn use_after_free() {
    caught("use_after_free", FULL, &["read of 4 bytes", "the freed allocation", "ILLEGAL_ADDRESS"], || {
        let (context, stream) = device();
        let source = "extern \"C\" __global__ void k(float** x, float* out) { *out = **x; }";
        let function = kernel(&context, source, "k");
        let freed = stream.clone_htod(&[1.0f32]).unwrap();
        let address = { cudarc::driver::DevicePtr::device_ptr(&freed, &stream).0 };
        let pointer = stream.clone_htod(&[address]).unwrap();
        let mut out = stream.alloc_zeros::<f32>(1).unwrap();
        drop(freed);
        let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: what is wrong with it is the point of the test.
        unsafe { stream.launch_builder(&function).arg(&pointer).arg(&mut out).launch(config) }.unwrap();
        outcome(stream.synchronize())
    });
}

#[test]
fn uninitialised_read() {
    let signs = ["uninitialised read of 4 bytes", "byte ", "thread (5, 0, 0)", "LAUNCH_FAILED"];
    caught("uninitialised_read", FULL, &signs, || plant("if (threadIdx.x == 5) x[0] = x[5] + 1.0f;", false));
}

#[test]
fn uninitialised_read_is_poison_when_checking_fast() {
    caught("uninitialised_read_is_poison_when_checking_fast", FAST, &["not a number"], || {
        let (context, stream) = device();
        let function =
            kernel(&context, "extern \"C\" __global__ void k(float* x) { x[0] = x[5] + 1.0f; }", "k");
        // SAFETY: the uninitialised memory is the point of the test.
        let x = unsafe { stream.alloc::<f32>(64) }.unwrap();
        let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (1, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: what is wrong with it is the point of the test.
        unsafe { stream.launch_builder(&function).arg(&x).launch(config) }.unwrap();
        assert!(stream.clone_dtoh(&x).unwrap()[0].is_nan());
        println!("not a number");
    });
}

#[test]
fn uninitialised_shared_read() {
    let signs = ["uninitialised read of shared memory at byte 8", "thread (2, 0, 0)", "LAUNCH_FAILED"];
    caught("uninitialised_shared_read", FULL, &signs, || {
        plant(
            "__shared__ float s[64];\nif (threadIdx.x < 2) s[threadIdx.x] = 1.0f;\n__syncthreads();\nx[threadIdx.x] = s[threadIdx.x];",
            true,
        );
    });
}

#[test]
fn dynamic_shared_memory_out_of_bounds() {
    let signs = [
        "at byte 128 of dynamic shared memory, the launch gave 128 bytes",
        "thread (32, 0, 0)",
        "ILLEGAL_ADDRESS",
    ];
    caught("dynamic_shared_memory_out_of_bounds", FULL, &signs, || {
        let (context, stream) = device();
        let source = "extern \"C\" __global__ void k(float* x) { extern __shared__ float s[]; s[threadIdx.x] = x[threadIdx.x]; }";
        let function = kernel(&context, source, "k");
        let x = stream.clone_htod(&[1.0f32; 64]).unwrap();
        fail(&stream, &function, &x, 64, 128)
    });
}

#[test]
fn race_without_a_barrier() {
    let signs = [
        "race in shared memory at byte",
        "have no barrier between them",
        "kernel k, block (",
        "LAUNCH_FAILED",
    ];
    let body = "__shared__ float s[64];\ns[threadIdx.x] = 0.0f;\n__syncthreads();\ns[threadIdx.x] = x[threadIdx.x];\nx[threadIdx.x] = s[(threadIdx.x + 32) % 64];";
    caught("race_without_a_barrier", FULL, &signs, || plant(body, true));
}

/// Reads of the last round race with writes of the next where only one of the two barriers of a loop is there.
#[test]
fn race_of_a_read_with_the_next_write() {
    let signs =
        ["race in shared memory", "thread (31, 0, 0)", "have no barrier between them", "LAUNCH_FAILED"];
    let body = "__shared__ float s[64];\nfloat v = x[threadIdx.x];\nfor (int i = 0; i < 2; ++i) {\n  s[threadIdx.x] = v;\n  __syncthreads();\n  v += s[(threadIdx.x + 33) % 64];\n}\nx[threadIdx.x] = v;";
    caught("race_of_a_read_with_the_next_write", FULL, &signs, || plant(body, true));
}

#[test]
fn two_blocks_write_one_place() {
    let signs = [
        "conflict in device memory",
        "nothing orders this write and the write of linear thread",
        "LAUNCH_FAILED",
    ];
    caught("two_blocks_write_one_place", FULL, &signs, || {
        plant("x[(1 - blockIdx.x) * threadIdx.x] = 1.0f;", true)
    });
}

#[test]
fn device_memory_between_warps_without_a_barrier() {
    let signs = ["conflict in device memory", "thread (", "nothing orders this", "LAUNCH_FAILED"];
    let body = "x[threadIdx.x] = 2.0f;\nif (x[(threadIdx.x + 32) % 64] == 5.0f) x[0] = 0.0f;";
    caught("device_memory_between_warps_without_a_barrier", FULL, &signs, || plant(body, true));
}

#[test]
fn divergent_barrier() {
    let signs = [
        "divergent barrier",
        "thread (0, 0, 0) waits at __syncthreads of line 2",
        "thread (40, 0, 0) has returned",
        "LAUNCH_FAILED",
    ];
    caught("divergent_barrier", FAST, &signs, || {
        plant("if (threadIdx.x < 40) __syncthreads();\nx[threadIdx.x] = 0.0f;", true)
    });
}

#[test]
fn two_barriers_of_one_block() {
    let signs = ["divergent barrier", "line 2", "line 3", "LAUNCH_FAILED"];
    caught("two_barriers_of_one_block", FAST, &signs, || {
        plant("if (threadIdx.x < 40) __syncthreads();\nelse __syncthreads();", true)
    });
}

#[test]
fn divergent_shuffle() {
    let signs =
        ["divergent warp collective", "__shfl_xor_sync of line 2 with mask 0xffffffff", "LAUNCH_FAILED"];
    let body = "if (threadIdx.x % 32 < 31) x[threadIdx.x] = __shfl_xor_sync(0xffffffffu, x[threadIdx.x], 1);";
    caught("divergent_shuffle", FAST, &signs, || plant(body, true));
}

#[test]
fn lane_outside_of_the_mask() {
    let signs = ["reads lane 20, which the mask 0x0000ffff lacks", "LAUNCH_FAILED"];
    let body = "if (threadIdx.x < 16) x[threadIdx.x] = __shfl_sync(0xffffu, x[threadIdx.x], 20);";
    caught("lane_outside_of_the_mask", FAST, &signs, || plant(body, true));
}

#[test]
fn misaligned_vector() {
    let signs = [
        "test.cu:2: 'const struct float4' at address",
        "which 16 does not divide",
        "CUDA_ERROR_MISALIGNED_ADDRESS",
    ];
    let body = "float4 v = *(const float4*)(x + 1);\nx[threadIdx.x] = v.x;";
    caught("misaligned_vector", FAST, &signs, || plant(body, true));
}

#[test]
fn assertion() {
    let signs =
        ["assertion `threadIdx.x < 60` failed at test.cu:2", "thread (60, 0, 0)", "CUDA_ERROR_ASSERT"];
    caught("assertion", FAST, &signs, || plant("assert(threadIdx.x < 60);", true));
}

/// The tile product of `kernels.rs` with one line left out.
fn tile_product(option: &str) {
    let (context, stream) = device();
    let function = variant(&context, include_str!("tile_product.cu"), "tile_product", &[option]);
    let (m, n, k) = (64i32, 64i32, 128i32);
    let a = stream.clone_htod(&vec![0x3F80u16; 64 * 128]).unwrap();
    let mut c = stream.alloc_zeros::<f32>(64 * 64).unwrap();
    let config =
        LaunchConfig { grid_dim: (1, 1, 1), block_dim: (128, 1, 1), shared_mem_bytes: 3 * 2 * 64 * 40 * 2 };
    // SAFETY: what is wrong with it is the point of the test.
    unsafe {
        stream.launch_builder(&function).arg(&a).arg(&a).arg(&mut c).arg(&m).arg(&n).arg(&k).launch(config)
    }
    .unwrap();
    if let Err(error) = stream.synchronize() {
        outcome::<()>(Err(error));
    }
    let wrong = stream.clone_dtoh(&c).unwrap().iter().filter(|x| **x != 128.0).count();
    println!("outcome: {wrong} wrong");
    exit(0)
}

#[test]
fn missing_wait_for_a_copy() {
    let signs = [
        "a cp.async of thread",
        "still has to fill: a wait is missing",
        "kernel tile_product",
        "LAUNCH_FAILED",
    ];
    caught("missing_wait_for_a_copy", FULL, &signs, || tile_product("-DNO_WAIT"));
}

#[test]
fn missing_wait_for_a_copy_is_poison_when_checking_fast() {
    caught("missing_wait_for_a_copy_is_poison_when_checking_fast", FAST, &["outcome: 4096 wrong"], || {
        tile_product("-DNO_WAIT")
    });
}

#[test]
fn missing_barrier_after_a_copy() {
    let signs = ["kernel tile_product", "shared memory", "LAUNCH_FAILED"];
    caught("missing_barrier_after_a_copy", FULL, &signs, || tile_product("-DNO_BARRIER"));
}

#[test]
fn leak() {
    let signs = [
        "leak: device allocation #1 of 256 bytes was never freed",
        "1 leaks at the end of the context",
        "signal: 6",
    ];
    caught("leak", FAST, &signs, || {
        let (_context, stream) = device();
        let x = stream.alloc_zeros::<f32>(64).unwrap();
        stream.synchronize().unwrap();
        let _address = cudarc::driver::CudaSlice::leak(x);
    });
}

#[test]
fn calls_that_a_capture_forbids() {
    caught("calls_that_a_capture_forbids", FAST, &["all refused"], || {
        let (context, stream) = device();
        let begin = || stream.begin_capture(CUstreamCaptureMode::CU_STREAM_CAPTURE_MODE_GLOBAL).unwrap();
        let end = || match stream.end_capture(CUgraphInstantiate_flags(0)) {
            Ok(_) => "no error".into(),
            Err(error) => error.to_string(),
        };
        let refused = |error: DriverError, code: &str| {
            assert!(error.to_string().contains(code), "{error}");
            assert!(end().contains("STREAM_CAPTURE_INVALIDATED"));
        };
        begin();
        refused(stream.alloc_zeros::<f32>(4).unwrap_err(), "STREAM_CAPTURE_UNSUPPORTED");
        begin();
        refused(stream.synchronize().unwrap_err(), "STREAM_CAPTURE_UNSUPPORTED");
        begin();
        // SAFETY: nothing is read from it.
        refused(unsafe { context.alloc_pinned::<f32>(4) }.err().unwrap(), "STREAM_CAPTURE_UNSUPPORTED");
        let outside = context.new_stream().unwrap().record_event(None).unwrap();
        begin();
        refused(stream.wait(&outside).unwrap_err(), "STREAM_CAPTURE_ISOLATION");
        let side = context.new_stream().unwrap();
        let mut x = stream.alloc_zeros::<f32>(4).unwrap();
        stream.synchronize().unwrap();
        begin();
        side.join(&stream).unwrap();
        side.memset_zeros(&mut x).unwrap();
        assert!(end().contains("STREAM_CAPTURE_UNJOINED"));
        println!("all refused");
    });
}

/// A copy on a second stream without an event: it sees the data of before the kernel. With the event it does not.
#[test]
fn wrong_stream_order() {
    for schedule in ["lazy", "1", "2", "3", "4"] {
        let signs = if schedule == "lazy" {
            ["without an event: 1", "with an event: 7"]
        } else {
            ["without an event:", "with an event: 7"]
        };
        caught("wrong_stream_order", &[("SCHEDULE", schedule)], &signs, || {
            let (context, stream) = device();
            let side = context.new_stream().unwrap();
            let function =
                kernel(&context, "extern \"C\" __global__ void k(float* x) { x[threadIdx.x] = 7.0f; }", "k");
            let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
            for ordered in [false, true] {
                let x = stream.clone_htod(&[1.0f32; 64]).unwrap();
                stream.synchronize().unwrap();
                // SAFETY: the argument is the kernel's.
                unsafe { stream.launch_builder(&function).arg(&x).launch(config) }.unwrap();
                if ordered {
                    side.join(&stream).unwrap();
                }
                let seen = side.clone_dtoh(&x).unwrap()[0];
                println!("{} an event: {seen}", if ordered { "with" } else { "without" });
                stream.synchronize().unwrap();
            }
        });
    }
}

/// A step's pinned input that is overwritten before the copy has run: the device sees the later values.
#[test]
fn pinned_input_reused_too_early() {
    caught("pinned_input_reused_too_early", FAST, &["the device saw 2"], || {
        let (context, stream) = device();
        // SAFETY: filled before it is read.
        let mut input = unsafe { context.alloc_pinned::<f32>(8) }.unwrap();
        input.as_mut_slice().unwrap().fill(1.0);
        let address = input.as_mut_ptr().unwrap();
        let x = stream.clone_htod(&input).unwrap();
        // SAFETY: within the allocation; that nobody synchronised is the point of the test.
        unsafe { address.write_volatile(2.0) };
        println!("the device saw {}", stream.clone_dtoh(&x).unwrap()[0]);
    });
}

/// Launches `first`, which fills an array, and then a kernel of this body, which need not wait for its end.
fn plant_early(body: &str) -> ! {
    use cudarc::driver::{DevicePtr, sys};
    let (context, stream) = device();
    let first = "extern \"C\" __global__ void first(float* x) { x[threadIdx.x] = 1.0f; }";
    let first = variant_for(&context, "sm_90a", first, "first", &[]);
    let early =
        format!("#include \"ptx.cuh\"\nextern \"C\" __global__ void early(float* x, float* y) {{ {body} }}");
    let early = variant_for(&context, "sm_90a", &early, "early", &[]);
    let mut x = stream.clone_htod(&[0.0f32; 64]).unwrap();
    let y = stream.clone_htod(&[0.0f32; 64]).unwrap();
    let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (64, 1, 1), shared_mem_bytes: 0 };
    // SAFETY: the array has an element for each thread.
    unsafe { stream.launch_builder(&first).arg(&mut x).launch(config) }.unwrap();
    let mut attribute = sys::CUlaunchAttribute {
        id: sys::CUlaunchAttributeID::CU_LAUNCH_ATTRIBUTE_PROGRAMMATIC_STREAM_SERIALIZATION,
        pad: [0; 4],
        value: sys::CUlaunchAttributeValue { programmaticStreamSerializationAllowed: 1 },
    };
    let config = sys::CUlaunchConfig {
        gridDimX: 1,
        gridDimY: 1,
        gridDimZ: 1,
        blockDimX: 64,
        blockDimY: 1,
        blockDimZ: 1,
        sharedMemBytes: 0,
        hStream: stream.cu_stream(),
        attrs: &mut attribute,
        numAttrs: 1,
    };
    let mut pointers = [x.device_ptr(&stream).0, y.device_ptr(&stream).0];
    let mut params = pointers.each_mut().map(|pointer| std::ptr::from_mut(pointer).cast());
    // SAFETY: the kernel takes two pointers to arrays with an element for each thread.
    let launched = unsafe {
        sys::cuLaunchKernelEx(&config, early.cu_function(), params.as_mut_ptr(), std::ptr::null_mut())
    };
    outcome(launched.result().and_then(|()| stream.synchronize()))
}

const ON_SM90: &[(&str, &str)] = &[("CHECK", "full"), ("ARCH", "90")];

#[test]
fn early_kernel_that_waits() {
    caught("early_kernel_that_waits", ON_SM90, &["outcome: no error"], || {
        plant_early("float mine = y[threadIdx.x]; wait_for_kernels_before(); x[threadIdx.x] += mine;")
    });
}

#[test]
fn early_kernel_reads_before_it_waits() {
    let signs = ["kernel early", "read of device memory", "before griddepcontrol.wait", "LAUNCH_FAILED"];
    caught("early_kernel_reads_before_it_waits", ON_SM90, &signs, || {
        plant_early("float mine = x[threadIdx.x]; wait_for_kernels_before(); y[threadIdx.x] = mine;")
    });
}

#[test]
fn early_kernel_writes_before_it_waits() {
    let signs = ["kernel early", "write of device memory", "before griddepcontrol.wait", "LAUNCH_FAILED"];
    caught("early_kernel_writes_before_it_waits", ON_SM90, &signs, || {
        plant_early("y[threadIdx.x] = 1.0f; wait_for_kernels_before();")
    });
}

#[test]
fn early_kernel_that_never_waits() {
    let signs = ["no thread of the block called griddepcontrol.wait", "LAUNCH_FAILED"];
    caught("early_kernel_that_never_waits", &[("CHECK", "fast"), ("ARCH", "90")], &signs, || plant_early(""));
}
