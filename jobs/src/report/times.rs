//! Throughput over time, the starts of the worker, and the rows that took the longest.

use crate::journal::JournalReader;
use crate::journal::timeline::{Sample, StartTimeline};
use crate::receipt::utc;
use crate::report::chart;
use crate::report::page::{Cell, Part, Section, Table, duration};
use crate::row_error::RowErrorKind;
use std::collections::BTreeMap;

/// Steps of the rate over time.
const STEPS: f64 = 60.0;

/// Rows that took the longest.
const SLOWEST: usize = 20;

/// What was finished from one time to another, in seconds of work.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Step {
    from: f64,
    to: f64,
    rows: u64,
    tokens: u64,
    /// Whether a worker began again at its beginning.
    restart: bool,
}

/// The part of the page, beside an output of so many rows.
pub fn section(journal: &Result<JournalReader, String>, output_rows: u64) -> Section {
    let mut section = Section::new("time", "Time");
    let journal = match journal {
        Ok(journal) => journal,
        Err(why) => {
            section.note(format!(
                "There are no times: the job's journal is not there or cannot be read ({why})."
            ));
            return section;
        }
    };
    let starts = match journal.database.timelines() {
        Ok(starts) => starts,
        Err(error) => {
            section.note(format!("There are no times: {error}."));
            return section;
        }
    };
    let finished = journal.finished(journal.inputs().rows()).unwrap_or(output_rows);
    if finished > output_rows {
        section.note(format!(
            "Times are of the {finished} rows that the journal has; the output has the first {output_rows} of them (--limit). Of \
             the rows that took longest those are shown that it has; the journal keeps {SLOWEST} of each start."
        ));
    }
    let steps = steps(&starts);
    let restarts: Vec<f64> = steps.iter().filter(|step| step.restart).map(|step| step.from).collect();
    for (what, of) in [("rows", (|step| step.rows) as fn(&Step) -> u64), ("tokens", |step| step.tokens)] {
        let rates: Vec<(f64, f64, f64)> =
            steps.iter().map(|step| (step.from, step.to, of(step) as f64 / (step.to - step.from))).collect();
        let restarted = if restarts.is_empty() { "" } else { "; a line stands where a worker began again" };
        let caption = format!("Finished {what} a second{restarted}");
        section.parts.extend(chart::rate(&caption, &format!("{what}/s"), &rates, &restarts).map(Part::Chart));
    }
    let rates = steps.iter().map(|step| {
        let second = |count: u64| Cell::real(Some(count as f64 / (step.to - step.from)), 1);
        let mark = if step.restart { "restart" } else { "" };
        vec![
            Cell::text(format!("{:.1} to {:.1}", step.from, step.to)),
            Cell::number(step.rows),
            second(step.rows),
            second(step.tokens),
            Cell::text(mark),
        ]
    });
    let head = ["seconds of work", "rows", "rows/s", "tokens/s", ""];
    section.table(Table::new("time-rates", "Finished rows over time", &head).with(rates).folded());
    let shown = starts.iter().enumerate().map(|(number, start)| {
        vec![
            Cell::number(number + 1),
            Cell::text(utc(start.began, 0)),
            Cell::text(duration(start.end.elapsed_ms as f64 / 1e3)),
            Cell::number(start.end.rows),
            Cell::number(start.end.tokens),
            Cell::text(&start.version),
        ]
    });
    let head = ["start", "began", "active time", "rows", "tokens", "version"];
    section
        .table(Table::new("time-starts", "Starts of the worker that have done something", &head).with(shown));
    slowest(&mut section, journal, &starts, output_rows);
    section
}

/// Steps of at least a [`STEPS`]th of the time, none of which reaches over a restart.
fn steps(starts: &[StartTimeline]) -> Vec<Step> {
    let all: u64 = starts.iter().map(|start| start.end.elapsed_ms).sum();
    let least = (all as f64 / STEPS).max(1.0) as u64;
    let (mut steps, mut begun) = (Vec::new(), 0);
    for (number, start) in starts.iter().enumerate() {
        let samples = start.timeline.iter().flat_map(|timeline| timeline.samples.iter().copied());
        // The end has what came after the last of them.
        let samples = samples.filter(|sample| sample.elapsed_ms < start.end.elapsed_ms);
        let mut last = Sample::default();
        let mut restart = number > 0;
        for sample in samples.chain([start.end]) {
            let is_end = sample == start.end;
            if sample.elapsed_ms <= last.elapsed_ms
                || (sample.elapsed_ms - last.elapsed_ms < least && !is_end)
            {
                continue;
            }
            let seconds = |ms: u64| (begun + ms) as f64 / 1e3;
            steps.push(Step {
                from: seconds(last.elapsed_ms),
                to: seconds(sample.elapsed_ms),
                rows: sample.rows.saturating_sub(last.rows),
                tokens: sample.tokens.saturating_sub(last.tokens),
                restart,
            });
            (last, restart) = (sample, false);
        }
        begun += start.end.elapsed_ms;
    }
    steps
}

fn slowest(section: &mut Section, journal: &JournalReader, starts: &[StartTimeline], output_rows: u64) {
    let mut longest: BTreeMap<u64, u64> = BTreeMap::new();
    let slowest =
        starts.iter().filter_map(|start| start.timeline.as_ref()).flat_map(|timeline| &timeline.slowest);
    for &(row, ms) in slowest.filter(|(row, _)| *row < output_rows) {
        let before = longest.entry(row).or_default();
        *before = ms.max(*before);
    }
    let mut longest: Vec<(u64, u64)> = longest.into_iter().collect();
    longest.sort_by_key(|&(row, ms)| (std::cmp::Reverse(ms), row));
    let rows = longest.into_iter().take(SLOWEST).map(|(row, ms)| {
        let answer = journal.answers(row..row + 1).ok().and_then(|mut answers| answers.pop().flatten());
        let number = |number: Option<u64>| number.map_or_else(|| Cell::number("-"), Cell::number);
        let tokens = answer.as_ref().and_then(|answer| answer.num_input_tokens).map(u64::from);
        let generated = answer.as_ref().map(|answer| answer.num_generated_tokens());
        let error = answer.as_ref().and_then(|answer| answer.error.as_deref());
        let kind = error.map(RowErrorKind::text_of);
        vec![
            Cell::number(row),
            Cell::real(Some(ms as f64 / 1e3), 3),
            number(tokens),
            number(generated),
            Cell::text(kind.unwrap_or_default()),
        ]
    });
    let head = ["row", "seconds", "tokens of the prompt", "tokens generated", "error"];
    let caption = "The rows that took longest, from when they were given to the engine to their answer; they share steps, so \
                   that waiting for others is in it";
    section.table(Table::new("time-slowest", caption, &head).with(rows));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::timeline::Timeline;

    #[test]
    fn steps_have_all_rows_and_end_at_restarts() {
        let sample = |seconds: u64, rows| Sample { elapsed_ms: 1000 * seconds, rows, tokens: 10 * rows };
        let start = |samples: Vec<Sample>, end| {
            let timeline = Some(Timeline { samples, ..Timeline::default() });
            StartTimeline { began: 0, version: String::new(), end, timeline }
        };
        let starts = [
            start((0..100).map(|second| sample(second, 3 * second)).collect(), sample(101, 303)),
            start(vec![], sample(1, 5)),
            StartTimeline { timeline: None, ..start(vec![], sample(20, 40)) },
        ];
        let steps = steps(&starts);
        assert_eq!(steps.iter().map(|step| step.rows).sum::<u64>(), 303 + 5 + 40);
        assert_eq!(steps.iter().map(|step| step.tokens).sum::<u64>(), 3480);
        assert!(steps.windows(2).all(|pair| pair[0].to == pair[1].from) && steps.len() <= 64, "{steps:?}");
        let restarts: Vec<f64> = steps.iter().filter(|step| step.restart).map(|step| step.from).collect();
        assert_eq!(restarts, [101.0, 102.0]);
    }
}
