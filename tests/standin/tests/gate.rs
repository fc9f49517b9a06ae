//! `ptx.cuh` and `ptx_sm90.cuh` through the real NVRTC for every card, and that the gate refuses what it must.
#![allow(clippy::unwrap_used, missing_docs)]

use gristmill_standin::gate::{Budget, Nvrtc, Unit};

const HEADERS: &[(&str, &str)] = &[
    ("ptx.cuh", include_str!("../../../kernels/src/include/ptx.cuh")),
    ("ptx_sm90.cuh", include_str!("../../../kernels/src/include/ptx_sm90.cuh")),
];

const WGMMA: &str = include_str!("wgmma_product.cu");

#[test]
fn inline_ptx_compiles_for_every_card() {
    let Some(nvrtc) = Nvrtc::find_or_skip() else { return };
    let unit = |name, source, options, registers, shared| Unit {
        name,
        source,
        headers: HEADERS,
        options,
        budget: Budget { registers, shared },
    };
    for unit in [
        unit("tile_product.cu", include_str!("tile_product.cu"), &["-DSTAGES=3"], 96, 0),
        unit("tile_product.cu", include_str!("tile_product.cu"), &["-DSTAGES=4"], 96, 0),
        unit("ptx_cases.cu", include_str!("ptx_cases.cu"), &[], 32, 512),
    ] {
        nvrtc.check(&unit).unwrap_or_else(|wrong| panic!("{wrong}"));
    }
}

#[test]
fn the_gate_refuses_spills_and_budgets_and_errors() {
    let Some(nvrtc) = Nvrtc::find_or_skip() else { return };
    // Sixteen blocks of 128 threads leave each thread 32 registers.
    let crowded =
        include_str!("tile_product.cu").replace("__launch_bounds__(128)", "__launch_bounds__(128, 16)");
    let budget = Budget { registers: 96, shared: 0 };
    let unit = Unit { name: "tile_product.cu", source: &crowded, headers: HEADERS, options: &[], budget };
    let wrong = nvrtc.check(&unit).unwrap_err();
    assert!(wrong.contains("spill stores"), "{wrong}");
    let tight = Unit { budget: Budget { registers: 24, shared: 0 }, ..unit.clone() };
    assert!(nvrtc.check(&tight).unwrap_err().contains("registers, the budget is 24"));
    let shared = "extern \"C\" __global__ void k(float* x) { __shared__ float s[64]; s[threadIdx.x] = x[threadIdx.x]; \
                  __syncthreads(); x[threadIdx.x] = s[63 - threadIdx.x]; }";
    let large = Unit { source: shared, ..unit.clone() };
    assert!(nvrtc.check(&large).unwrap_err().contains("256 bytes of static shared memory"));
    let broken = Unit {
        source: "extern \"C\" __global__ void k(float* x) { asm(\"no.such.instruction;\"); }",
        options: &[],
        ..unit
    };
    let wrong = nvrtc.check(&broken).unwrap_err();
    assert!(wrong.contains("Not a name of any known instruction"), "{wrong}");
}

#[test]
fn inline_ptx_of_sm_90a_compiles() {
    let Some(nvrtc) = Nvrtc::find_or_skip() else { return };
    let budget = Budget { registers: 232, shared: 1024 };
    let widths = ["8", "16", "32", "64", "96", "128", "160", "192", "256"];
    for (width, element) in widths.map(|width| (width, "bf16")).into_iter().chain([("64", "f16")]) {
        let (width, element) = (format!("-DWIDTH={width}"), format!("-DELEMENT={element}"));
        let options: &[&str] = &[&width, &element, "-DSTAGES=2"];
        let unit = Unit { name: "wgmma_product.cu", source: WGMMA, headers: HEADERS, options, budget };
        let used = nvrtc.compile(&unit, "sm_90a").unwrap();
        assert!(used.iter().all(|k| k.registers <= 232 && k.local == [0; 3]), "{width} columns: {used:?}");
    }
}

/// Accumulators that are touched between products: the assembler waits for each of them.
#[test]
fn the_gate_refuses_serialized_wgmma() {
    let Some(nvrtc) = Nvrtc::find_or_skip() else { return };
    let touched = WGMMA.replace("wgmma_commit();", "d[0] += 1.0f; wgmma_commit();");
    let options = &["-DWIDTH=64", "-DELEMENT=bf16", "-DSTAGES=2"];
    let budget = Budget { registers: 232, shared: 1024 };
    let unit = Unit { name: "wgmma_product.cu", source: &touched, headers: HEADERS, options, budget };
    let wrong = nvrtc.compile(&unit, "sm_90a").unwrap_err();
    assert!(wrong.contains("wgmma was serialized"), "{wrong}");
}
