//! How good labels are, from pairs of truth and label: plain arithmetic.

use serde::Serialize;
use std::collections::BTreeMap;

/// Bins of the expected calibration error (Guo, Pleiss, Sun, Weinberger: "On Calibration of Modern Neural Networks", ICML
/// 2017), of equal width.
pub const BINS: usize = 15;

/// Probabilities from which on labels are kept.
const THRESHOLDS: [f32; 9] = [0.0, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 0.999];

/// Accuracies that someone may want.
const GOALS: [f64; 4] = [0.9, 0.95, 0.99, 0.999];

/// A row that has a truth.
#[derive(Clone, Debug, PartialEq)]
pub struct Pair {
    pub truth: String,
    /// None if the row has an error in its place.
    pub label: Option<String>,
    /// None where the output has no column of it.
    pub probability: Option<f32>,
}

/// How good the labels of a column are.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Figures {
    pub column: String,
    pub truth: String,
    /// Rows with a truth.
    pub rows: u64,
    /// Rows without a truth, which are left out.
    pub without_truth: u64,
    /// Rows with a truth that have no label.
    pub unlabelled: u64,
    /// Labels that are the truth.
    pub right: u64,
    /// Of the rows that have a label.
    pub accuracy: Option<f64>,
    /// The mean of the classes' F1.
    pub macro_f1: Option<f64>,
    pub classes: Vec<Class>,
    /// For each truth how often each label was given; the key "" is for rows without one.
    pub confusion: BTreeMap<String, BTreeMap<String, u64>>,
    /// Where there are probabilities.
    pub expected_calibration_error: Option<f64>,
    /// Its bins.
    pub calibration: Vec<Bin>,
    pub thresholds: Vec<Threshold>,
    pub goals: Vec<Goal>,
    /// What the job cost for each label of this column that is right, by its receipt, if it has a price. Where it has made
    /// more columns, each of them is charged with all of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub money_per_right_label: Option<f64>,
}

/// One label.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Class {
    pub label: String,
    /// Rows whose truth it is.
    pub support: u64,
    /// Of the rows that have this label, the share whose truth it is.
    pub precision: Option<f64>,
    /// Of the rows whose truth it is, the share that has this label.
    pub recall: Option<f64>,
    pub f1: Option<f64>,
}

/// Rows whose labels have about the same probability.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Bin {
    /// The bounds; the lower is not in it.
    pub from: f64,
    pub to: f64,
    pub rows: u64,
    pub mean_probability: Option<f64>,
    /// Of their labels.
    pub accuracy: Option<f64>,
}

/// What is kept if labels below a probability are left to a person.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Threshold {
    pub probability: f32,
    /// The share of the rows with a truth.
    pub coverage: f64,
    /// Of the labels that are kept.
    pub accuracy: Option<f64>,
}

/// The most that can be kept at an accuracy.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Goal {
    pub accuracy: f64,
    /// The least probability of a label that is kept, and the share of the rows; none if no threshold reaches it.
    pub probability: Option<f32>,
    pub coverage: f64,
}

impl Figures {
    /// A label and a truth, where no label is any row's truth: most often they are written in two ways, which look alike here.
    pub fn apart(&self) -> Option<(&str, &str)> {
        let mut labels = self.confusion.values().flat_map(BTreeMap::keys).filter(|label| !label.is_empty());
        let first = labels.clone().next()?;
        if labels.any(|label| self.confusion.contains_key(label)) {
            return None;
        }
        let alike = |truth: &&String| truth.trim().to_lowercase() == first.trim().to_lowercase();
        let truth = self.confusion.keys().find(alike).or_else(|| self.confusion.keys().next())?;
        Some((first, truth))
    }

    /// Of the pairs of a column.
    pub fn new(column: &str, truth: &str, pairs: &[Pair], without_truth: u64) -> Figures {
        let mut confusion: BTreeMap<String, BTreeMap<String, u64>> = BTreeMap::new();
        for pair in pairs {
            let label = pair.label.clone().unwrap_or_default();
            *confusion.entry(pair.truth.clone()).or_default().entry(label).or_default() += 1;
        }
        let unlabelled = pairs.iter().filter(|pair| pair.label.is_none()).count() as u64;
        let right = pairs.iter().filter(|pair| is_right(pair)).count() as u64;
        let classes = classes(&confusion);
        let f1: Vec<f64> =
            classes.iter().filter(|class| class.support > 0).filter_map(|class| class.f1).collect();
        let mut likely: Vec<(f32, bool)> =
            pairs.iter().filter_map(|pair| Some((pair.probability?, is_right(pair)))).collect();
        likely.sort_by(|a, b| b.0.total_cmp(&a.0));
        let calibration = bins(&likely);
        Figures {
            column: column.into(),
            truth: truth.into(),
            rows: pairs.len() as u64,
            without_truth,
            unlabelled,
            right,
            accuracy: share(right, pairs.len() as u64 - unlabelled),
            macro_f1: (!f1.is_empty()).then(|| f1.iter().sum::<f64>() / f1.len() as f64),
            classes,
            confusion,
            expected_calibration_error: expected_calibration_error(&calibration),
            calibration,
            thresholds: thresholds(&likely, pairs.len()),
            goals: goals(&likely, pairs.len()),
            money_per_right_label: None,
        }
    }
}

/// Whether a row has the label that is its truth.
pub fn is_right(pair: &Pair) -> bool {
    pair.label.as_ref() == Some(&pair.truth)
}

fn share(part: u64, whole: u64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

fn classes(confusion: &BTreeMap<String, BTreeMap<String, u64>>) -> Vec<Class> {
    let given = confusion.values().flat_map(|row| row.keys()).filter(|label| !label.is_empty());
    let mut labels: Vec<&String> = confusion.keys().chain(given).collect();
    labels.sort();
    labels.dedup();
    let count = |truth: &String, label: &String| {
        confusion.get(truth).and_then(|row| row.get(label)).copied().unwrap_or(0)
    };
    let class = |label: &String| {
        let right = count(label, label);
        let support = confusion.get(label).map_or(0, |row| row.values().sum());
        let (precision, recall) =
            (share(right, confusion.keys().map(|truth| count(truth, label)).sum()), share(right, support));
        // Twice the right ones over those given and those wanted.
        let wanted_and_given = support + confusion.keys().map(|truth| count(truth, label)).sum::<u64>();
        Class { label: label.clone(), support, precision, recall, f1: share(2 * right, wanted_and_given) }
    };
    labels.into_iter().map(class).collect()
}

/// Bins of probability; none where there are no probabilities.
fn bins(likely: &[(f32, bool)]) -> Vec<Bin> {
    let mut bins = [(0_u64, 0.0, 0_u64); BINS];
    for &(probability, right) in likely {
        let bin = ((probability * BINS as f32).ceil() as usize).clamp(1, BINS) - 1;
        let (rows, sum, hits) = &mut bins[bin];
        *rows += 1;
        *sum += f64::from(probability);
        *hits += u64::from(right);
    }
    let bin = |(at, (rows, sum, hits)): (usize, (u64, f64, u64))| Bin {
        from: at as f64 / BINS as f64,
        to: (at + 1) as f64 / BINS as f64,
        rows,
        mean_probability: (rows > 0).then(|| sum / rows as f64),
        accuracy: share(hits, rows),
    };
    if likely.is_empty() { Vec::new() } else { bins.into_iter().enumerate().map(bin).collect() }
}

/// The mean distance of accuracy and probability over bins of probability, weighted by their rows.
fn expected_calibration_error(bins: &[Bin]) -> Option<f64> {
    let rows: u64 = bins.iter().map(|bin| bin.rows).sum();
    let distance = |bin: &Bin| Some((bin.mean_probability? - bin.accuracy?).abs() * bin.rows as f64);
    let distance: f64 = bins.iter().filter_map(distance).sum();
    (rows > 0).then(|| distance / rows as f64)
}

/// `likely` is sorted, the most likely first.
fn thresholds(likely: &[(f32, bool)], rows: usize) -> Vec<Threshold> {
    if likely.is_empty() {
        return Vec::new();
    }
    let of = |&probability: &f32| {
        let kept = likely.iter().take_while(|(p, _)| *p >= probability);
        let (count, right) =
            kept.fold((0, 0), |(count, right), (_, hit)| (count + 1, right + u64::from(*hit)));
        Threshold { probability, coverage: count as f64 / rows as f64, accuracy: share(right, count) }
    };
    THRESHOLDS.iter().map(of).collect()
}

fn goals(likely: &[(f32, bool)], rows: usize) -> Vec<Goal> {
    if likely.is_empty() {
        return Vec::new();
    }
    let goal = |&accuracy: &f64| {
        let (mut right, mut best) = (0, None);
        for (i, &(probability, hit)) in likely.iter().enumerate() {
            right += u64::from(hit);
            // Labels of one probability are kept together.
            let ends = likely.get(i + 1).is_none_or(|(next, _)| *next < probability);
            if ends && right as f64 >= accuracy * (i + 1) as f64 {
                best = Some((probability, (i + 1) as f64 / rows as f64));
            }
        }
        Goal { accuracy, probability: best.map(|best| best.0), coverage: best.map_or(0.0, |best| best.1) }
    };
    GOALS.iter().map(goal).collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn pairs(rows: &[(&str, Option<&str>, f32)]) -> Vec<Pair> {
        let pair = |&(truth, label, probability): &(&str, Option<&str>, f32)| Pair {
            truth: truth.into(),
            label: label.map(String::from),
            probability: label.map(|_| probability),
        };
        rows.iter().map(pair).collect()
    }

    #[test]
    fn labels_that_are_no_truth_are_shown_beside_the_truth_that_looks_like_them() {
        let rows = pairs(&[
            ("Negative", Some("positive"), 0.9),
            ("Positive ", Some("positive"), 0.8),
            ("x", None, 0.0),
        ]);
        let apart = |rows: &[Pair]| {
            let figures = Figures::new("x", "y", rows, 0);
            figures.apart().map(|(label, truth)| (label.to_string(), truth.to_string()))
        };
        assert_eq!(apart(&rows), Some(("positive".into(), "Positive ".into())));
        assert_eq!(apart(&rows[2..]), None, "no row has a label");
        assert_eq!(apart(&pairs(&[("a", Some("b"), 0.9), ("b", Some("c"), 0.9)])), None, "b is a truth");
    }

    /// By hand: 4 of 6 labels are right, one row has none.
    #[test]
    fn figures_by_hand() {
        let rows = pairs(&[
            ("a", Some("a"), 0.9),
            ("a", Some("a"), 0.8),
            ("a", Some("b"), 0.6),
            ("b", Some("b"), 0.95),
            ("b", None, 0.0),
            ("c", Some("c"), 0.7),
            ("c", Some("a"), 0.8),
        ]);
        let f = Figures::new("x", "true_x", &rows, 3);
        assert_eq!((f.rows, f.without_truth, f.unlabelled, f.right), (7, 3, 1, 4));
        assert_eq!(f.accuracy, Some(4.0 / 6.0));
        let classes: Vec<_> =
            f.classes.iter().map(|c| (c.label.as_str(), c.support, c.precision, c.recall, c.f1)).collect();
        assert_eq!(
            classes,
            [
                ("a", 3, Some(2.0 / 3.0), Some(2.0 / 3.0), Some(4.0 / 6.0)),
                ("b", 2, Some(0.5), Some(0.5), Some(2.0 / 4.0)),
                ("c", 2, Some(1.0), Some(0.5), Some(2.0 / 3.0)),
            ]
        );
        assert!((f.macro_f1.unwrap() - (2.0 / 3.0 + 0.5 + 2.0 / 3.0) / 3.0).abs() < 1e-12);
        assert_eq!((f.confusion["a"]["b"], f.confusion["b"][""], f.confusion["c"]["a"]), (1, 1, 1));
        // Bins of a fifteenth: 0.95 (0.933 to 1), 0.9 (0.867 to 0.933), two of 0.8, 0.7, 0.6.
        let want = (0.05 + 0.1 + (1.6 - 1.0) + 0.3 + 0.6) / 6.0;
        assert!((f.expected_calibration_error.unwrap() - want).abs() < 1e-6, "{f:?}");
        let bin = f.calibration.iter().find(|bin| bin.rows == 2).unwrap();
        assert_eq!((bin.from, bin.to, bin.accuracy), (11.0 / 15.0, 12.0 / 15.0, Some(0.5)));
        let at = |p: f32| f.thresholds.iter().find(|t| t.probability == p).unwrap();
        assert_eq!((at(0.0).coverage, at(0.0).accuracy), (6.0 / 7.0, Some(4.0 / 6.0)));
        assert_eq!((at(0.8).coverage, at(0.8).accuracy), (4.0 / 7.0, Some(3.0 / 4.0)));
        assert_eq!((at(0.99).coverage, at(0.99).accuracy), (0.0, None));
        // 0.95 and 0.9 are right; then two of 0.8, of which one is wrong.
        let goal = f.goals.iter().find(|goal| goal.accuracy == 0.99).unwrap();
        assert_eq!((goal.probability, goal.coverage), (Some(0.9), 2.0 / 7.0));
    }

    #[test]
    fn no_rows_have_no_figures() {
        let f = Figures::new("x", "t", &[], 0);
        assert_eq!((f.accuracy, f.macro_f1, f.expected_calibration_error), (None, None, None));
        assert!(f.thresholds.is_empty() && f.classes.is_empty());
        // A label that is never right at the first threshold.
        let f = Figures::new("x", "t", &pairs(&[("a", Some("b"), 0.5)]), 0);
        assert_eq!((f.goals[0].probability, f.goals[0].coverage), (None, 0.0));
    }
}
