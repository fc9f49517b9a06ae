//! Counts with units.

/// Reads a count: `k`, `m`, `g`, `t` are powers of 1,000 and `K`, `M`, `G`, `T` of 1,024, as in vLLM.
pub fn parse_size(text: &str) -> Result<u64, String> {
    let wrong = || format!("{text:?} is not a count such as 4096, 32k (32,000) or 32K (32,768)");
    let (digits, unit) = match text.char_indices().next_back() {
        Some((at, c)) if c.is_ascii_alphabetic() => (&text[..at], c),
        _ => (text, ' '),
    };
    let base: u64 = if unit.is_ascii_uppercase() { 1024 } else { 1000 };
    let power = match unit.to_ascii_lowercase() {
        ' ' => 0,
        'k' => 1,
        'm' => 2,
        'g' => 3,
        't' => 4,
        _ => return Err(wrong()),
    };
    let unit = base.pow(power);
    if let Ok(whole) = digits.parse::<u64>() {
        return whole.checked_mul(unit).ok_or_else(|| format!("{text:?} is too large"));
    }
    let value = digits.parse::<f64>().map_err(|_| wrong())? * unit as f64;
    if power > 0 && (0.0..9e15).contains(&value) && value.fract() == 0.0 {
        Ok(value as u64)
    } else {
        Err(wrong())
    }
}

/// Reads a count as [`parse_size`] does.
pub fn parse_usize(text: &str) -> Result<usize, String> {
    usize::try_from(parse_size(text)?).map_err(|_| format!("{text:?} is too large"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let good = [("4096", 4096), ("32k", 32_000), ("32K", 32_768), ("1.5k", 1500), ("2G", 2 << 30)];
        for (text, expected) in good {
            assert_eq!(parse_size(text), Ok(expected), "{text}");
        }
        for text in ["", "k", "-1", "1.5", "4x", "99999999T", "nan", "infk", "ä"] {
            assert!(parse_size(text).is_err(), "{text}");
        }
    }
}
