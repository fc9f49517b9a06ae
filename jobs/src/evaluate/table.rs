//! Figures as people read them.

use crate::evaluate::figures::Figures;
use crate::printable::printable;
use crate::receipt::money::amount;
use std::fmt;

/// A confusion matrix of more labels is left to `--json`.
const MATRIX: usize = 24;

fn shown_width(label: &str) -> usize {
    printable(label).chars().count()
}

fn percent(share: Option<f64>) -> String {
    share.map_or("-".into(), |share| format!("{:.1} %", 100.0 * share))
}

/// The figures of all columns that were compared.
pub fn table(all: &[Figures]) -> String {
    let mut text = all.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
    let together: Option<f64> = all.iter().map(|figures| figures.money_per_right_label.map(f64::recip)).sum();
    if let Some(labels) = together.filter(|_| all.len() > 1) {
        text += &format!(
            "\nmoney: each column above is charged with the whole job; its labels together cost {} for each right one\n",
            amount(labels.recip())
        );
    }
    text
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} against {}", printable(&self.column), printable(&self.truth))?;
        if self.rows + self.without_truth == 0 {
            writeln!(f, "  there are no rows, so that nothing was compared")?;
            return Ok(());
        }
        let labelled = self.rows - self.unlabelled;
        write!(f, "  accuracy     {} ({} of {labelled} rows", percent(self.accuracy), self.right)?;
        if self.unlabelled > 0 {
            write!(f, "; {} more have no label", self.unlabelled)?;
        }
        if self.without_truth > 0 {
            write!(f, "; {} have no truth", self.without_truth)?;
        }
        writeln!(f, ")")?;
        writeln!(f, "  macro F1     {}", self.macro_f1.map_or("-".into(), |f1| format!("{f1:.3}")))?;
        if let Some(money) = self.money_per_right_label {
            writeln!(f, "  money        {} for each right label", amount(money))?;
        }
        if let Some(error) = self.expected_calibration_error {
            writeln!(f, "  calibration  off by {error:.3} on average (expected calibration error)")?;
        }
        self.write_classes(f)?;
        self.write_confusion(f)?;
        self.write_thresholds(f)
    }
}

impl Figures {
    fn width(&self) -> usize {
        self.classes.iter().map(|class| shown_width(&class.label)).max().unwrap_or(0).clamp(5, 40)
    }

    fn write_classes(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.width();
        writeln!(
            f,
            "\n  {:width$}  {:>9}  {:>9}  {:>9}  {:>9}",
            "label", "precision", "recall", "F1", "rows"
        )?;
        for class in &self.classes {
            let f1 = class.f1.map_or("-".into(), |f1| format!("{f1:.3}"));
            writeln!(
                f,
                "  {:width$}  {:>9}  {:>9}  {f1:>9}  {:>9}",
                printable(&class.label),
                percent(class.precision),
                percent(class.recall),
                class.support
            )?;
        }
        Ok(())
    }

    fn write_confusion(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.classes.len() > MATRIX {
            return writeln!(f, "\n  the confusion of {} labels is in --json", self.classes.len());
        }
        let width = self.width();
        write!(f, "\n  {:width$}", "truth")?;
        let cell = |label: &str| shown_width(label).max(4);
        for class in &self.classes {
            write!(f, "  {:>w$}", printable(&class.label), w = cell(&class.label))?;
        }
        writeln!(f, "  {:>4}", "none")?;
        for (truth, row) in &self.confusion {
            write!(f, "  {:width$}", printable(truth))?;
            for class in &self.classes {
                let count = row.get(&class.label).copied().unwrap_or(0);
                write!(f, "  {count:>w$}", w = cell(&class.label))?;
            }
            writeln!(f, "  {:>4}", row.get("").copied().unwrap_or(0))?;
        }
        Ok(())
    }

    fn write_thresholds(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.thresholds.is_empty() {
            return Ok(());
        }
        writeln!(f, "\n  {:>11}  {:>8}  {:>8}", "probability", "coverage", "accuracy")?;
        for threshold in &self.thresholds {
            let (coverage, accuracy) = (percent(Some(threshold.coverage)), percent(threshold.accuracy));
            writeln!(f, "  {:>11}  {coverage:>8}  {accuracy:>8}", format!(">= {}", threshold.probability))?;
        }
        writeln!(f)?;
        for goal in &self.goals {
            let wanted = percent(Some(goal.accuracy));
            match goal.probability {
                Some(probability) => writeln!(
                    f,
                    "  {wanted} accurate: label {} of the rows alone (probability >= {probability}), send {} to a person",
                    percent(Some(goal.coverage)),
                    percent(Some(1.0 - goal.coverage))
                )?,
                None => writeln!(f, "  {wanted} accurate: no probability is high enough")?,
            }
        }
        Ok(())
    }
}
