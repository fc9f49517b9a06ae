//! Linear through cuBLASLt (the stand-in's, where there is no card) against the oracle.
#![allow(clippy::unwrap_used)]

mod common;

use engine::cases::{Formats, cases};
use engine::device::Device;
use engine::dtype::DType;
use kernels::{CudaDevice, Gemm, Options};

#[test]
fn linear_agrees_with_the_oracle() {
    for dtype in [DType::BF16, DType::F16, DType::F32] {
        let cache = common::cache();
        let mut device =
            CudaDevice::open_with(Options { gemm: Gemm::CublasLt, cache, ..Options::default() }).unwrap();
        let marked = device.info().breaks_contract.clone();
        assert!(marked.is_some_and(|why| why.contains("cuBLASLt")), "it is not marked");
        let formats = Formats { activations: dtype, weights: dtype.into(), kv: dtype };
        for case in cases(formats).iter().filter(|case| case.name.starts_with("Linear")) {
            common::compare(&mut device, formats, case).unwrap();
        }
    }
}
