//! What the energy of a job comes to.

use crate::journal::costs::Start;
use crate::receipt::money::Work;
use serde::Serialize;

/// The energy of a job, or why it is not known.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct EnergyUse {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules: Option<f64>,
    /// For each row with an answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_per_row: Option<f64>,
    /// For each million tokens, of prompts and answers together.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub joules_per_million_tokens: Option<f64>,
    /// The mean power over the active time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub watts: Option<f64>,
    /// The share of the active time that reading the counters took.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reading_share: Option<f64>,
    /// What was measured, or why not.
    pub source: String,
}

impl EnergyUse {
    /// Of all starts; of none if one of them did not measure it.
    pub fn of(starts: &[Start], work: &Work) -> EnergyUse {
        let (mut microjoules, mut reading_us) = (0_u64, 0_u64);
        let mut sources: Vec<&str> = Vec::new();
        for start in starts {
            let figures = start.figures.as_ref();
            let Some(energy) = figures.and_then(|figures| figures.energy.as_ref()) else {
                let why = figures.and_then(|figures| figures.no_energy.as_deref());
                let why = why.unwrap_or("an earlier version answered some rows");
                return EnergyUse { source: format!("not measured: {why}"), ..EnergyUse::default() };
            };
            microjoules = microjoules.saturating_add(energy.microjoules);
            reading_us = reading_us.saturating_add(energy.reading_us);
            if !sources.contains(&energy.source.as_str()) {
                sources.push(&energy.source);
            }
        }
        if sources.is_empty() {
            return EnergyUse { source: "not measured: nothing was run".into(), ..EnergyUse::default() };
        }
        let joules = microjoules as f64 / 1e6;
        let tokens = work.input_tokens.saturating_add(work.generated_tokens);
        let per = |count: f64| (count > 0.0).then(|| joules / count);
        EnergyUse {
            joules: Some(joules),
            joules_per_row: per(work.answered_rows as f64),
            joules_per_million_tokens: per(tokens as f64 / 1e6),
            watts: per(work.active_seconds),
            reading_share: (work.active_seconds > 0.0).then(|| reading_us as f64 / 1e6 / work.active_seconds),
            source: sources.join("; "),
        }
    }

    /// In one line.
    pub fn line(&self) -> String {
        let Some(joules) = self.joules else { return self.source.clone() };
        let each = |figure: Option<f64>, of: &str| figure.map(|figure| format!(", {figure:.1} {of}"));
        let rows = each(self.joules_per_row, "J for each row").unwrap_or_default();
        let tokens = each(self.joules_per_million_tokens, "J for each million tokens").unwrap_or_default();
        let watts = each(self.watts, "W on average").unwrap_or_default();
        format!("{joules:.1} J{rows}{tokens}{watts} ({})", self.source)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::costs::{Energy, StartFigures};

    fn start(energy: Option<u64>) -> Start {
        let of = |microjoules| Energy { microjoules, source: "RAPL".into(), reading_us: 30_000 };
        let no_energy = energy.is_none().then(|| "no counter".to_string());
        let figures = StartFigures { energy: energy.map(of), no_energy, ..StartFigures::default() };
        Start { figures: Some(figures), ..Start::default() }
    }

    #[test]
    fn energy_is_as_by_hand() {
        // 30 J and 90 J, in 60 s, for 40 rows and 0.5 million tokens.
        let work = Work {
            active_seconds: 60.0,
            answered_rows: 40,
            input_tokens: 400_000,
            generated_tokens: 100_000,
        };
        let used = EnergyUse::of(&[start(Some(30_000_000)), start(Some(90_000_000))], &work);
        let wanted = EnergyUse {
            joules: Some(120.0),
            joules_per_row: Some(3.0),
            joules_per_million_tokens: Some(240.0),
            watts: Some(2.0),
            reading_share: Some(0.001),
            source: "RAPL".into(),
        };
        assert_eq!(used, wanted);
        assert_eq!(
            used.line(),
            "120.0 J, 3.0 J for each row, 240.0 J for each million tokens, 2.0 W on average (RAPL)"
        );
        // A part would be taken for all.
        let part = EnergyUse::of(&[start(Some(1)), start(None)], &work);
        assert_eq!((part.joules, part.line().as_str()), (None, "not measured: no counter"));
        let old = EnergyUse::of(&[Start::default()], &work);
        assert_eq!(old.line(), "not measured: an earlier version answered some rows");
        assert_eq!(EnergyUse::of(&[], &work).line(), "not measured: nothing was run");
        let nothing = EnergyUse::of(&[start(Some(1_000_000))], &Work::default());
        assert_eq!(nothing.line(), "1.0 J (RAPL)");
    }
}
