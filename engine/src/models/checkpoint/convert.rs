//! The bytes of a tensor, converted to what its buffer holds.

use super::Transform;
use crate::dtype::DType;
use crate::format::Format;

/// Converts rows of `cols` elements of one type to another, transformed on the way.
///
/// # Errors
/// A value that the other type cannot hold.
pub fn convert(
    bytes: Vec<u8>,
    from: DType,
    to: Format,
    cols: usize,
    transform: Transform,
) -> Result<Vec<u8>, String> {
    if to == Format::Plain(from) && transform == Transform::None {
        return Ok(bytes);
    }
    encode(from.decode(&bytes), to, cols, transform)
}

/// Encodes rows of `cols` values in a format, transformed on the way.
///
/// # Errors
/// A value that the format cannot hold.
pub fn encode(
    mut values: Vec<f32>,
    to: Format,
    cols: usize,
    transform: Transform,
) -> Result<Vec<u8>, String> {
    transform.apply(&mut values);
    match values.iter().find(|v| !to.holds(**v)) {
        Some(v) if Format::SCALED.contains(&to) => {
            Err(format!("holds {v}, which {to} with its scales cannot; load it without quantization"))
        }
        Some(v) => Err(format!("holds {v}, which {to} cannot; hold the weights in float32")),
        None => Ok(to.encode(&values, cols)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn converted(values: &[f32], to: Format, transform: Transform) -> Result<Vec<f32>, String> {
        let (bytes, cols) = (DType::F32.encode(values), values.len());
        convert(bytes, DType::F32, to, cols, transform).map(|bytes| to.decode(&bytes, cols))
    }

    #[test]
    fn values_beyond_a_format_are_refused() {
        let mut values = [1.0; 32];
        for (to, value, holds) in [
            (DType::F16.into(), 65_504.0, true),
            (DType::F16.into(), 65_505.0, false),
            (DType::F16.into(), f32::INFINITY, true),
            (DType::BF16.into(), 1e30, true),
            (Format::Q8_0, 8.3e6, true),
            (Format::Q8_0, -8.4e6, false),
            (Format::Q8_0, f32::INFINITY, false),
            (Format::Q8_0, f32::NAN, false),
            (Format::Fp8, 1e30, true),
            (Format::Fp8, f32::NEG_INFINITY, false),
            (Format::Fp8, f32::NAN, false),
        ] {
            values[7] = value;
            let got = converted(&values, to, Transform::None);
            assert_eq!(got.is_ok(), holds, "{to} {value}: {got:?}");
        }
    }

    #[test]
    fn one_is_added_in_f32() {
        let small = 2.0_f32.powi(-20);
        let got = converted(&[small, -1.0], DType::F32.into(), Transform::PlusOne);
        assert_eq!(got, Ok(vec![1.0 + small, 0.0]));
    }
}
