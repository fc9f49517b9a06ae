//! Prices, which the user knows. None is built in: they change.

use crate::options::number::real;

/// Prices, in any currency.
#[derive(clap::Args, Clone, Copy, Debug, Default, PartialEq)]
#[command(next_help_heading = "Costs")]
pub struct PriceOptions {
    /// What an hour of this machine costs: the receipt then says what the job, its rows and its tokens cost.
    #[arg(long, value_name = "PRICE", value_parser = price)]
    pub price_per_hour: Option<f64>,
    /// What a million input tokens and a million output tokens cost elsewhere: the receipt then says what the job's tokens
    /// would have cost there.
    #[arg(long, value_name = "IN,OUT", value_parser = prices)]
    pub compare_price: Option<ComparePrice>,
}

/// The prices of a million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ComparePrice {
    pub input: f64,
    pub output: f64,
}

/// A greater price is taken for a mistake, and no product of it overflows.
const MOST: f64 = 1e12;

/// Reads a price.
pub fn price(text: &str) -> Result<f64, String> {
    let price = real::<f64>(text)?;
    let fits = (0.0..=MOST).contains(&price);
    fits.then_some(price).ok_or_else(|| format!("{text} must be from 0 to {MOST:e}"))
}

fn prices(text: &str) -> Result<ComparePrice, String> {
    let (input, output) = text.split_once(',').ok_or_else(|| {
        format!("{text:?} is not two prices such as 0.15,0.60: of input and of output tokens")
    })?;
    Ok(ComparePrice { input: price(input)?, output: price(output)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prices_are_numbers_that_can_be_paid() {
        assert_eq!((price("2.49"), price("0")), (Ok(2.49), Ok(0.0)));
        assert_eq!(prices("0.15, 0.6"), Ok(ComparePrice { input: 0.15, output: 0.6 }));
        for text in ["-1", "1e13", "nan", "inf", "", "2,49"] {
            assert!(price(text).is_err(), "{text}");
        }
        for text in ["1", "1,", ",1", "1,2,3", "1,-2"] {
            assert!(prices(text).is_err(), "{text}");
        }
    }
}
