//! What a job cost, and would have cost elsewhere. In the currency of the prices, whatever that is.

use crate::options::prices::{ComparePrice, PriceOptions};
use serde::{Deserialize, Serialize};

/// Prices as the receipt and the journal keep them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Prices {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_hour: Option<f64>,
    /// Of a million input tokens and a million output tokens elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<[f64; 2]>,
}

impl Prices {
    /// The prices that were given, else those that the job had before.
    pub fn given_or(given: &PriceOptions, before: Prices) -> Prices {
        let compare = given.compare_price.map(|ComparePrice { input, output }| [input, output]);
        Prices { per_hour: given.price_per_hour.or(before.per_hour), elsewhere: compare.or(before.elsewhere) }
    }
}

/// What was done for the money.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub active_seconds: f64,
    /// Rows that have an answer and no error.
    pub answered_rows: u64,
    pub input_tokens: u64,
    pub generated_tokens: u64,
}

/// What a job cost. What cannot be said has a sentence in `notes`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Money {
    pub prices: Prices,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<f64>,
    /// For each 1,000 rows with an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_1000_rows: Option<f64>,
    /// For each million tokens, of prompts and answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_million_tokens: Option<f64>,
    /// What the same tokens would have cost elsewhere, and how many times as much that is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub elsewhere: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times_as_much_elsewhere: Option<f64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<&'static str>,
}

impl Money {
    /// By these prices.
    pub fn of(prices: Prices, work: &Work) -> Money {
        let tokens = work.input_tokens.saturating_add(work.generated_tokens);
        let millions = |tokens: u64| tokens as f64 / 1e6;
        let job = prices.per_hour.map(|price| price * work.active_seconds / 3600.0);
        let per_1000_rows =
            job.filter(|_| work.answered_rows > 0).map(|job| 1000.0 * job / work.answered_rows as f64);
        let per_million_tokens = job.filter(|_| tokens > 0).map(|job| job / millions(tokens));
        let elsewhere = prices.elsewhere.map(|[input, output]| {
            input * millions(work.input_tokens) + output * millions(work.generated_tokens)
        });
        let times_as_much_elsewhere =
            elsewhere.zip(job).filter(|(_, job)| *job > 0.0).map(|(elsewhere, job)| elsewhere / job);
        let notes = [
            (job.is_none(), "no price was given (--price-per-hour)"),
            (job.is_some() && per_1000_rows.is_none(), "no row has an answer, so that none has a price"),
            (job.is_some() && per_million_tokens.is_none(), "there are no tokens, so that none has a price"),
            (
                elsewhere.is_some() && job == Some(0.0),
                "the job cost nothing, so that a price elsewhere is no multiple of it",
            ),
        ];
        let notes = notes.into_iter().filter_map(|(holds, note)| holds.then_some(note)).collect();
        Money { prices, job, per_1000_rows, per_million_tokens, elsewhere, times_as_much_elsewhere, notes }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let mut parts = Vec::new();
        if let (Some(job), Some(price)) = (self.job, self.prices.per_hour) {
            parts.push(format!("{} at {price} an hour", amount(job)));
            parts.extend(self.per_1000_rows.map(|money| format!("{} for each 1,000 rows", amount(money))));
            parts.extend(
                self.per_million_tokens.map(|money| format!("{} for each million tokens", amount(money))),
            );
        }
        if let (Some(elsewhere), Some([input, output])) = (self.elsewhere, self.prices.elsewhere) {
            let times = self.times_as_much_elsewhere.map(|times| format!(", {times:.1} times as much"));
            let times = times.unwrap_or_default();
            parts.push(format!("elsewhere {} at {input} and {output} a million{times}", amount(elsewhere)));
        }
        parts.extend(self.notes.iter().map(|note| note.to_string()));
        parts.join("; ")
    }
}

/// Money with three digits that count, and at least two behind the point.
pub fn amount(money: f64) -> String {
    let digits = if money > 0.0 { (2.0 - money.log10().floor()).clamp(2.0, 12.0) as usize } else { 2 };
    format!("{money:.digits$}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn money_is_as_by_hand() {
        // Half an hour at 2.50 is 1.25; 5,000 rows, 2 million tokens.
        let work = Work {
            active_seconds: 1800.0,
            answered_rows: 5000,
            input_tokens: 1_500_000,
            generated_tokens: 500_000,
        };
        let prices = Prices { per_hour: Some(2.5), elsewhere: Some([1.0, 4.0]) };
        let money = Money::of(prices, &work);
        let wanted = Money {
            prices,
            job: Some(1.25),
            per_1000_rows: Some(0.25),
            per_million_tokens: Some(0.625),
            elsewhere: Some(3.5),
            times_as_much_elsewhere: Some(2.8),
            notes: vec![],
        };
        assert_eq!(money, wanted);
        assert_eq!(
            money.line(),
            "1.25 at 2.5 an hour; 0.250 for each 1,000 rows; 0.625 for each million tokens; elsewhere 3.50 at 1 and 4 a \
             million, 2.8 times as much"
        );
    }

    #[test]
    fn what_cannot_be_said_has_a_sentence() {
        let note = |prices, work: Work| Money::of(prices, &work).line();
        let priced = Prices { per_hour: Some(1.0), elsewhere: None };
        assert_eq!(note(Prices::default(), Work::default()), "no price was given (--price-per-hour)");
        let nothing = note(priced, Work::default());
        assert!(nothing.contains("no row has an answer") && nothing.contains("no tokens"), "{nothing}");
        // All rows are errors, some of which have tokens.
        let errors = Work { active_seconds: 36.0, input_tokens: 10, ..Work::default() };
        assert_eq!(
            note(priced, errors),
            "0.0100 at 1 an hour; 1000.00 for each million tokens; no row has an answer, so that none has a price"
        );
        let free = Prices { per_hour: Some(0.0), elsewhere: Some([1.0, 1.0]) };
        let free = Money::of(free, &errors);
        assert_eq!((free.job, free.times_as_much_elsewhere), (Some(0.0), None));
        assert!(free.line().ends_with("no multiple of it"), "{}", free.line());
        // The greatest price for as many tokens and seconds as there can be.
        let most = Work {
            active_seconds: u64::MAX as f64 / 1e3,
            answered_rows: u64::MAX,
            input_tokens: u64::MAX / 2,
            generated_tokens: u64::MAX / 2,
        };
        let most = Money::of(Prices { per_hour: Some(1e12), elsewhere: Some([1e12, 1e12]) }, &most);
        let figures = [most.job, most.per_1000_rows, most.per_million_tokens, most.elsewhere];
        assert!(figures.iter().all(|money| money.is_some_and(f64::is_finite)), "{most:?}");
    }

    #[test]
    fn a_price_that_is_given_takes_the_place_of_the_one_before() {
        let before = Prices { per_hour: Some(1.0), elsewhere: Some([2.0, 3.0]) };
        let given = PriceOptions { price_per_hour: Some(9.0), compare_price: None };
        assert_eq!(Prices::given_or(&given, before), Prices { per_hour: Some(9.0), ..before });
        assert_eq!(Prices::given_or(&PriceOptions::default(), before), before);
    }
}
