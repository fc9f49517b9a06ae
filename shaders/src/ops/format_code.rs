//! The numbers by which shaders know formats.

use engine::dtype::DType;
use engine::format::Format;

/// The constant of `snippets/floats.wgsl` for a format.
pub(crate) fn format_code(format: Format) -> f64 {
    match format {
        Format::Plain(DType::F32 | DType::U32) => 0.0,
        Format::Plain(DType::F16) => 1.0,
        Format::Plain(DType::BF16) => 2.0,
        Format::Q8_0 => 3.0,
    }
}
