//! FP8 elements of the type e4m3: a sign, four bits of exponent with a bias of 7, three of fraction; no infinities, and one
//! NaN of each sign. OCP 8-bit Floating Point Specification.

/// The greatest value.
pub const MAX: f32 = 448.0;

/// Bits of the greatest value, without the sign; all but the one above them are numbers.
const MAX_BITS: u8 = 0x7E;

/// Whether bits stand for no number.
pub const fn is_nan(bits: u8) -> bool {
    bits & 0x7F > MAX_BITS
}

/// The value of an element.
#[inline(always)]
pub fn to_f32(bits: u8) -> f32 {
    let magnitude = u32::from(bits & 0x7F);
    // The exponent's bias of f32 is greater by 120. Subnormals have no leading one: it is taken away.
    let normal = f32::from_bits((magnitude << 20) + (120 << 23));
    let subnormal = f32::from_bits((magnitude << 20) + (121 << 23)) - 0.015_625;
    let value = if magnitude < 8 { subnormal } else { normal };
    let value = if magnitude > MAX_BITS as u32 { f32::NAN } else { value };
    f32::from_bits(value.to_bits() | u32::from(bits & 0x80) << 24)
}

/// The element nearest to a value, of two the even one; values beyond the greatest become it.
pub fn from_f32(value: f32) -> u8 {
    let (magnitude, sign) = (value.abs(), if value.is_sign_negative() { 0x80 } else { 0 });
    let bits = if value.is_nan() {
        MAX_BITS + 1
    } else if magnitude >= MAX {
        MAX_BITS
    } else if magnitude < 0.015_625 {
        (magnitude * 512.0).round_ties_even() as u8
    } else {
        // Rounded to 3 bits of fraction; a carry goes into the exponent.
        let bits = magnitude.to_bits();
        ((bits + 0x7_FFFF + (bits >> 20 & 1) - (120 << 23)) >> 20) as u8
    };
    bits | sign
}

/// The most by which rounding a value within the range can change it.
pub fn half_step(value: f32) -> f32 {
    let greatest = value.abs().max(0.015_625);
    f32::from_bits(greatest.to_bits() & 0x7F80_0000) / 16.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// OCP 8-bit Floating Point Specification, table 1.
    #[test]
    fn elements_have_the_values_of_the_specification() {
        for (bits, value) in [
            (0x00, 0.0),
            (0x01, 2.0_f32.powi(-9)),
            (0x07, 0.875 * 2.0_f32.powi(-6)),
            (0x08, 2.0_f32.powi(-6)),
            (0x38, 1.0),
            (0xBC, -1.5),
            (0x7E, 448.0),
            (0xFE, -448.0),
        ] {
            assert_eq!(to_f32(bits), value, "{bits:#x}");
        }
        assert!(to_f32(0x7F).is_nan() && to_f32(0xFF).is_nan() && is_nan(0xFF) && !is_nan(0xFE));
        // Between two zeros and two that are no numbers all values differ and grow.
        assert!((1..0x7E).all(|bits| to_f32(bits) < to_f32(bits + 1)));
    }

    #[test]
    fn values_become_the_nearest_element() {
        for bits in (0..=0xFF).filter(|&bits| !is_nan(bits)) {
            assert_eq!(from_f32(to_f32(bits)), bits);
        }
        for bits in 0..0x7E {
            let (low, high) = (to_f32(bits), to_f32(bits + 1));
            let middle = (low + high) / 2.0;
            assert_eq!(from_f32(middle.next_down()), bits);
            assert_eq!(from_f32(middle), bits + bits % 2, "{middle} is as near to {low} as to {high}");
            assert_eq!(from_f32(-middle.next_up()), (bits + 1) | 0x80);
        }
        assert_eq!((from_f32(1e9), from_f32(f32::NEG_INFINITY)), (0x7E, 0xFE));
        assert!(is_nan(from_f32(f32::NAN)));
    }
}
