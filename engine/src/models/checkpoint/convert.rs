//! The bytes of a tensor, converted to what its buffer holds.

use super::Transform;
use crate::dtype::DType;
use crate::format::Format;

/// Converts elements of one type to another, transformed on the way.
///
/// # Errors
/// A value that the other type cannot hold.
pub fn convert(bytes: Vec<u8>, from: DType, to: Format, transform: Transform) -> Result<Vec<u8>, String> {
    if to == Format::Plain(from) && transform == Transform::None {
        return Ok(bytes);
    }
    let mut values = from.decode(&bytes);
    transform.apply(&mut values);
    let max = f32::from(half::f16::MAX);
    if to == Format::Plain(DType::F16)
        && let Some(v) = values.iter().find(|v| v.is_finite() && v.abs() > max)
    {
        return Err(format!("holds {v}, which f16 cannot; hold the weights in float32"));
    }
    Ok(to.encode(&values))
}
