//! The vectors that the kernels use.

use pulp::{Arch, Simd, WithSimd};
use std::sync::OnceLock;

/// The variable that limits the vectors: 128, 256 or 512 bits. It is for tests and measurements: the bits of all results
/// are the same, and narrow vectors are slower.
pub const LIMIT: &str = "GRISTMILL_MAX_VECTOR_BITS";

/// Runs `op` with the widest vectors that the machine has and [`LIMIT`] allows. What `op` calls must be
/// `inline(always)`.
pub fn dispatch<Op: WithSimd>(op: Op) -> Op::Output {
    #[cfg(target_arch = "x86_64")]
    if let (128 | 256, Some(simd)) = (limit(), pulp::x86::V3::try_new()) {
        return match limit() {
            128 => Simd::vectorize(pulp::x86::V3_128b(simd), op),
            _ => Simd::vectorize(simd, op),
        };
    }
    Arch::new().dispatch(op)
}

/// Floats in a vector.
pub fn lanes() -> usize {
    shape().0
}

/// Vectors that the machine's registers hold.
pub fn registers() -> usize {
    shape().1
}

fn shape() -> (usize, usize) {
    struct Shape;
    impl WithSimd for Shape {
        type Output = (usize, usize);
        #[inline(always)]
        fn with_simd<S: Simd>(self, _: S) -> (usize, usize) {
            (S::F32_LANES, S::REGISTER_COUNT)
        }
    }
    dispatch(Shape)
}

/// Their width, for messages.
pub fn name() -> &'static str {
    match lanes() {
        16 => "512-bit vectors",
        8 => "256-bit vectors",
        4 => "128-bit vectors",
        _ => "no vectors",
    }
}

/// The most bits that a vector may have.
pub fn limit() -> u32 {
    static BITS: OnceLock<u32> = OnceLock::new();
    *BITS.get_or_init(|| std::env::var(LIMIT).ok().and_then(|bits| parse(&bits)).unwrap_or(512))
}

/// Checks what [`LIMIT`] is set to.
pub fn check() -> Result<(), String> {
    match std::env::var(LIMIT) {
        Ok(bits) if parse(&bits).is_none() => {
            Err(format!("{LIMIT} is {bits:?}; set it to 128, 256 or 512, or not at all"))
        }
        _ => Ok(()),
    }
}

fn parse(bits: &str) -> Option<u32> {
    bits.parse().ok().filter(|bits| matches!(bits, 128 | 256 | 512))
}
