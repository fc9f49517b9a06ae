//! Numbers of flags, with their ranges in words.

use crate::options::size::parse_size;
use std::str::FromStr;

/// Reads a count from `least` to `most`, with the units of [`parse_size`].
pub fn count<T: TryFrom<u64>>(
    least: u64,
    most: u64,
) -> impl Fn(&str) -> Result<T, String> + Clone + Send + Sync {
    move |text| {
        let value = parse_size(text)?;
        let fits = Some(value).filter(|value| (least..=most).contains(value));
        let range = match most {
            u64::MAX => format!("at least {least}"),
            most => format!("from {least} to {most}"),
        };
        fits.and_then(|value| T::try_from(value).ok()).ok_or_else(|| format!("{text} must be {range}"))
    }
}

/// Reads a whole number.
pub fn whole<T: FromStr + Whole>(text: &str) -> Result<T, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{text:?} is not a whole number from {} to {}", T::LEAST, T::MOST))
}

/// Reads a number with or without a fraction.
pub fn real<T: FromStr + Into<f64> + Copy>(text: &str) -> Result<T, String> {
    let number = text.trim().parse::<T>().ok().filter(|&number| number.into().is_finite());
    number.ok_or_else(|| format!("{text:?} is not a number such as 0.5"))
}

/// Reads a share that is more than 0 and at most 1.
pub fn share(text: &str) -> Result<f64, String> {
    let value = real::<f64>(text)?;
    let fits = value > 0.0 && value <= 1.0;
    fits.then_some(value).ok_or_else(|| format!("{text} must be more than 0 and at most 1"))
}

/// A type of whole numbers and its range.
pub trait Whole: std::fmt::Display {
    /// The least and the greatest of them.
    const LEAST: Self;
    const MOST: Self;
}

macro_rules! whole {
    ($($type:ty),*) => { $(impl Whole for $type {
        const LEAST: $type = <$type>::MIN;
        const MOST: $type = <$type>::MAX;
    })* };
}
whole!(u32, u64, i64);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_said_in_words() {
        let wrong = |result: Result<u64, String>| result.err().unwrap_or_default();
        assert_eq!(count::<u64>(1, u64::MAX)("2k"), Ok(2000));
        assert_eq!(wrong(count(1, u64::MAX)("0")), "0 must be at least 1");
        assert_eq!(wrong(count(1, 1024)("1m")), "1m must be from 1 to 1024");
        assert!(count::<u8>(0, u64::MAX)("256").is_err());
        assert_eq!((share("1"), share("0.25")), (Ok(1.0), Ok(0.25)));
        for text in ["0", "-1", "50", "nan", "inf", "much"] {
            assert!(share(text).is_err(), "{text}");
        }
        assert_eq!(real::<f32>("-1.5"), Ok(-1.5));
        assert!(real::<f32>("1e39").is_err() && real::<f32>("hot").is_err());
        assert_eq!(whole::<i64>("-1"), Ok(-1));
        assert_eq!(wrong(whole("-1")), "\"-1\" is not a whole number from 0 to 18446744073709551615");
    }
}
