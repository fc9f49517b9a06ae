//! What sm_90a adds, on the stand-in: bulk copies by tensor map, mbarriers, wgmma, named barriers, setmaxnreg. First that
//! they compute, then one planted fault of each kind.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, missing_docs)]

mod common;

use common::{child, device, variant_for};
use cudarc::driver::sys::{
    CUfunction_attribute, CUtensorMap, CUtensorMapDataType, CUtensorMapFloatOOBfill, CUtensorMapInterleave,
    CUtensorMapL2promotion, CUtensorMapSwizzle, cuTensorMapEncodeTiled,
};
use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, LaunchConfig, PushKernelArg};

const SOURCE: &str = include_str!("wgmma_product.cu");

/// The kernel's arguments.
#[repr(C, align(64))]
#[derive(Clone, Copy)]
struct Args {
    a: CUtensorMap,
    b: CUtensorMap,
    stored: u64,
    d: u64,
    m: i32,
    n: i32,
    k: i32,
    pad: i32,
    pads: [i64; 4],
}

// SAFETY: the struct is the kernel's, passed by value.
unsafe impl cudarc::driver::DeviceRepr for Args {}

/// A map of a row-major matrix of 16-bit elements, in boxes of 64 columns.
fn map(at: u64, rows: usize, columns: usize, box_rows: usize) -> Result<CUtensorMap, String> {
    let mut map = CUtensorMap { opaque: [0; 16] };
    let (dims, strides) = ([columns as u64, rows as u64], [columns as u64 * 2]);
    let (box_sides, steps) = ([64, box_rows as u32], [1, 1]);
    // SAFETY: all arrays have the lengths that a matrix asks for.
    unsafe {
        cuTensorMapEncodeTiled(
            &mut map,
            CUtensorMapDataType::CU_TENSOR_MAP_DATA_TYPE_BFLOAT16,
            2,
            at as *mut _,
            dims.as_ptr(),
            strides.as_ptr(),
            box_sides.as_ptr(),
            steps.as_ptr(),
            CUtensorMapInterleave::CU_TENSOR_MAP_INTERLEAVE_NONE,
            CUtensorMapSwizzle::CU_TENSOR_MAP_SWIZZLE_128B,
            CUtensorMapL2promotion::CU_TENSOR_MAP_L2_PROMOTION_NONE,
            CUtensorMapFloatOOBfill::CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE,
        )
    }
    .result()
    .map_err(|e| e.to_string())?;
    Ok(map)
}

fn address(stream: &CudaStream, x: &CudaSlice<u16>) -> u64 {
    x.device_ptr(stream).0
}

/// The elements of words: one of 16 bits, or two of e4m3.
fn widen(element: &str, words: &[u16]) -> Vec<f32> {
    let e4m3 = |bits: u8| {
        let (exponent, fraction) = (i32::from(bits >> 3 & 15), f32::from(bits & 7));
        let magnitude = match exponent {
            0 => fraction * 2.0_f32.powi(-9),
            _ => (8.0 + fraction) * 2.0_f32.powi(exponent - 10),
        };
        if bits & 0x80 == 0 { magnitude } else { -magnitude }
    };
    let of_word = |&word: &u16| match element {
        "f16" => vec![half::f16::from_bits(word).to_f32()],
        "bf16" => vec![half::bf16::from_bits(word).to_f32()],
        _ => word.to_le_bytes().map(e4m3).to_vec(),
    };
    words.iter().flat_map(of_word).collect()
}

/// Runs the product and returns it, or the error. `k` counts words of 16 bits.
fn product(
    element: &str,
    (m, n, k): (usize, usize, usize),
    columns: usize,
    options: &[&str],
) -> Result<(Vec<f32>, Vec<f32>), String> {
    let (context, stream) = device();
    let value = |i: usize| {
        let x = ((i * 7919 % 1009) as f32 - 504.0) / 300.0;
        // All but NaN.
        let byte = |i: usize| (i * 37 % 127 + i / 3 % 2 * 128) as u8;
        match element {
            "f16" => half::f16::from_f32(x).to_bits(),
            "bf16" => half::bf16::from_f32(x).to_bits(),
            _ => u16::from_le_bytes([byte(2 * i), byte(2 * i + 1)]),
        }
    };
    let a: Vec<u16> = (0..m * k).map(value).collect();
    let b: Vec<u16> = (0..n * k).map(|i| value(i + 13)).collect();
    let (da, db) = (stream.clone_htod(&a).unwrap(), stream.clone_htod(&b).unwrap());
    let d = stream.alloc_zeros::<f32>(m * n).unwrap();
    let width = format!("-DWIDTH={columns}");
    let define = format!("-DELEMENT={element}");
    let options = [&[&width, &define, "-DSTAGES=2"], options].concat();
    let function = variant_for(&context, "sm_90a", SOURCE, "wgmma_product", &options);
    let shared = 2 * (64 + columns as u32) * 128;
    let attribute = CUfunction_attribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES;
    function.set_attribute(attribute, shared as i32).unwrap();
    let args = Args {
        a: map(address(&stream, &da), m, k, 64)?,
        b: map(address(&stream, &db), n, k, columns)?,
        stored: address(&stream, &db),
        d: d.device_ptr(&stream).0,
        m: m as i32,
        n: n as i32,
        k: k as i32,
        pad: 0,
        pads: [0; 4],
    };
    let grid_dim = (m.div_ceil(64) as u32, n.div_ceil(columns) as u32, 1);
    let config = LaunchConfig { grid_dim, block_dim: (256, 1, 1), shared_mem_bytes: shared };
    // SAFETY: the argument is the kernel's.
    unsafe { stream.launch_builder(&function).arg(&args).launch(config) }.map_err(|e| e.to_string())?;
    stream.synchronize().map_err(|e| e.to_string())?;
    let got = stream.clone_dtoh(&d).unwrap();
    let (a, b) = (widen(element, &a), widen(element, &b));
    let dot = |i: usize| {
        let k = a.len() / m;
        let (row, column) = (i / n * k, i % n * k);
        (0..k).fold(0.0f32, |s, x| a[row + x].mul_add(b[column + x], s))
    };
    Ok((got, (0..m * n).map(dot).collect()))
}

/// The twin sums in order of k, so the product agrees with the plain one to the bit: with every width, with tails of all
/// three sides, whatever the order in which copies land.
#[test]
fn products_of_every_width() {
    for settings in [&[("CHECK", "full"), ("SCHEDULE", "5")][..], &[("CHECK", "fast")]] {
        let settings = [&[("ARCH", "90")], settings].concat();
        let said = child("products_of_every_width", &settings, || {
            for (columns, element) in [
                (8, "bf16"),
                (16, "f16"),
                (64, "bf16"),
                (128, "f16"),
                (192, "bf16"),
                (256, "bf16"),
                (8, "e4m3"),
                (96, "e4m3"),
            ] {
                let (got, want) = product(element, (100, 70, 200), columns, &[]).unwrap();
                assert!(got == want, "{columns} columns of {element}");
            }
            let (got, want) = product("bf16", (64, 40, 136), 32, &["-DSTORED"]).unwrap();
            assert!(got == want, "stored");
        });
        assert!(said.is_none_or(|said| said.contains("test result: ok. 1 passed")));
    }
}

#[test]
fn transposed_stores() {
    let said = child("transposed_stores", &[("ARCH", "90"), ("CHECK", "full")], || {
        let (context, stream) = device();
        let options = ["-DWIDTH=8", "-DELEMENT=bf16", "-DSTAGES=2"];
        let function = variant_for(&context, "sm_90a", SOURCE, "transpose", &options);
        let x = stream.clone_htod(&(0..128u16).collect::<Vec<_>>()).unwrap();
        let mut out = stream.alloc_zeros::<u16>(128).unwrap();
        let config = LaunchConfig { grid_dim: (1, 1, 1), block_dim: (32, 1, 1), shared_mem_bytes: 0 };
        // SAFETY: the arguments are the kernel's.
        unsafe { stream.launch_builder(&function).arg(&x).arg(&mut out).launch(config) }.unwrap();
        let want: Vec<u16> = (0..128).map(|i| i % 8 * 16 + i / 8).collect();
        assert_eq!(stream.clone_dtoh(&out).unwrap(), want);
    });
    assert!(said.is_none_or(|said| said.contains("test result: ok. 1 passed")), "transposed_stores");
}

#[test]
fn maps_that_the_driver_refuses() {
    let said = child("maps_that_the_driver_refuses", &[("ARCH", "90")], || {
        let (_context, stream) = device();
        let x = stream.alloc_zeros::<u16>(64 * 64).unwrap();
        let at = address(&stream, &x);
        assert!(map(at, 64, 64, 64).is_ok());
        for (at, rows, columns, box_rows) in
            [(at + 2, 8, 64, 8), (at, 64, 60, 64), (at, 64, 64, 257), (at, 65, 64, 64), (at, 0, 64, 64)]
        {
            assert!(map(at, rows, columns, box_rows).is_err(), "{rows} x {columns}, boxes of {box_rows}");
        }
    });
    assert!(said.is_none_or(|said| said.contains("test result: ok. 1 passed")));
}

/// Runs the product with a planted fault in a child that checks in this way, which must print each of `signs`.
fn caught(test: &str, check: &str, options: &[&str], signs: &[&str]) {
    let settings = [("ARCH", "90"), ("CHECK", check)];
    let said = child(test, &settings, || {
        match product("bf16", (64, 8, 320), 8, options) {
            Ok((got, want)) if got == want => println!("outcome: right"),
            Ok(_) => println!("outcome: wrong"),
            Err(error) => println!("outcome: {error}"),
        }
        // After a fault every call fails, those of destructors too.
        std::process::exit(0)
    });
    let Some(said) = said else { return };
    for sign in signs {
        assert!(said.contains(sign), "`{sign}` is missing in:\n{said}");
    }
}

#[test]
fn sound_product() {
    caught("sound_product", "full", &["-DSTORED"], &["outcome: right"]);
}

#[test]
fn missing_fence_of_the_asynchronous_proxy() {
    let signs =
        ["wgmma read", "wrote without the asynchronous proxy: a fence.proxy.async", "outcome: DriverError"];
    caught("missing_fence_of_the_asynchronous_proxy", "full", &["-DSTORED", "-DNO_FENCE"], &signs);
}

#[test]
fn missing_fence_after_the_init() {
    let signs = ["a fence.proxy.async between the init of its mbarrier and the copy is missing"];
    caught("missing_fence_after_the_init", "full", &["-DNO_INIT_FENCE"], &signs);
}

#[test]
fn slot_refilled_before_it_is_free() {
    let signs = ["thread (128, 0, 0)", "race in shared memory", "this bulk copy of line"];
    caught("slot_refilled_before_it_is_free", "full", &["-DNO_EMPTY_WAIT"], &signs);
}

/// Only the first warp says that it has read the slot: the others may still be reading.
#[test]
fn slot_freed_by_one_warp_of_four() {
    let signs = ["thread (128, 0, 0)", "race in shared memory", "the read of a wgmma of warp"];
    caught("slot_freed_by_one_warp_of_four", "full", &["-DONE_ARRIVES"], &signs);
}

/// The slot is given back while the product that reads it is under way.
#[test]
fn slot_freed_before_the_product_is_done() {
    let signs = ["race in shared memory", "the read of a wgmma of warp"];
    caught("slot_freed_before_the_product_is_done", "full", &["-DNO_WGMMA_WAIT"], &signs);
}

#[test]
fn wrong_parity() {
    let signs = ["wgmma read", "of shared memory"];
    caught("wrong_parity", "full", &["-DWRONG_PARITY"], &signs);
}

/// The consumer is a phase ahead, and waits for one that nobody fills.
#[test]
fn wrong_parity_is_a_deadlock_when_checking_fast() {
    let signs = ["deadlock: thread (0, 0, 0) waits at mbarrier.try_wait for parity"];
    caught("wrong_parity_is_a_deadlock_when_checking_fast", "fast", &["-DWRONG_PARITY"], &signs);
}

#[test]
fn missing_fence_before_wgmma() {
    let signs = ["a wgmma.fence before it is missing"];
    caught("missing_fence_before_wgmma", "fast", &["-DNO_WGMMA_FENCE"], &signs);
}

#[test]
fn setmaxnreg_of_some_warps() {
    let signs = ["setmaxnreg of line", "was not run by all warps of a warpgroup"];
    caught("setmaxnreg_of_some_warps", "fast", &["-DMISPLACED"], &signs);
}
