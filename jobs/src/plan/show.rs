//! A plan as text.

use crate::plan::capacity::{DeviceMemory, DevicePlan};
use crate::plan::lengths::Span;
use crate::plan::sample::Estimate;
use crate::plan::{Lengths, Plan};
use std::fmt::{self, Write};
use std::time::Duration;

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rows, of) = (number(self.rows), number(self.input_rows));
        writeln!(f, "rows       {rows} of {of} in {}", numbered(self.files as u64, "file"))?;
        if let Some(finished) = self.finished {
            writeln!(f, "           {} are finished: a job of this output was begun", number(finished))?;
        }
        if let Some(sample) = &self.sample {
            let (read, of) = (sample.row_groups, sample.of_row_groups);
            let (tokens, errors) = (sample.prompt_tokens.text(), sample.error_rows.text());
            writeln!(
                f,
                "sample     {read} of {}, {}: all below is of these",
                numbered(of as u64, "row group"),
                numbered(sample.rows, "row")
            )?;
            writeln!(f, "           all rows: {tokens} tokens of prompts, {errors} errors")?;
        }
        self.errors(f)?;
        let (prompts, distinct) = (number(self.prompts), number(self.distinct_prompts));
        writeln!(f, "prompts    {prompts}, {distinct} distinct")?;
        let Lengths { sum, p50, p90, max } = self.prompt_tokens;
        writeln!(f, "tokens     {} of prompts (median {p50}, 90 % up to {p90}, longest {max})", number(sum))?;
        if let Some(choices) = &self.choices {
            let (asks, requests) = (numbered(choices.asks, "ask"), numbered(choices.requests, "request"));
            let branches = numbered(choices.branches, "branch").replace("branchs", "branches");
            let walked = numbered(choices.walked_tokens, "token");
            let of = if self.documents.is_some() { ", of documents that fit into one prompt" } else { "" };
            writeln!(f, "choices    {asks} in {requests} with {branches}, {walked} to walk{of}")?;
        }
        if let Some(documents) = &self.documents {
            let (count, chunks) = (number(documents.documents), numbered(documents.chunks, "chunk"));
            // With `refine` chunks may be cut again.
            let Span { least, most } = documents.follow_ups;
            let at_least = if least == most && most > 0 { "at least " } else { "" };
            let follow_ups = format!("{at_least}{}", documents.follow_ups.text());
            let (requests, follow) = match (least, most) {
                (1, 1) => ("request", "follows"),
                _ => ("requests", "follow"),
            };
            writeln!(
                f,
                "documents  {count} of {chunks}; {follow_ups} {requests} {follow} upon these, with tokens of their own"
            )?;
        }
        let (shared, tokens) = (number(self.shared_prompts), number(self.shared_input_tokens));
        writeln!(f, "saved      at most {tokens} tokens of prompts by {shared} that take another's answer")?;
        let (cached, computed) = (number(self.cached_tokens), number(self.computed_tokens));
        writeln!(
            f,
            "           at most {cached} tokens found in cached pages, at least {computed} to compute"
        )?;
        match self.choices.filter(|_| self.documents.is_none()) {
            Some(_) => writeln!(f, "answers    labels are scored, and no token is generated")?,
            None => writeln!(f, "answers    {} tokens to generate", self.generated_tokens.text())?,
        }
        if !self.weights_known {
            writeln!(f, "weights    by config.json alone: the weight files were not looked at")?;
        }
        self.devices.iter().try_for_each(|device| device.fmt(f))?;
        self.show_costs(f)
    }
}

impl Plan {
    fn errors(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "errors     {}", number(self.error_rows()))?;
        for (kind, errors) in &self.errors {
            let first: Vec<String> = errors.first.iter().map(u64::to_string).collect();
            let more = if errors.rows > errors.first.len() as u64 { ", ..." } else { "" };
            writeln!(f, "           {} {kind}: rows {}{more}", number(errors.rows), first.join(", "))?;
        }
        match self.too_long.filter(|long| long.longest > 0) {
            Some(long) => {
                writeln!(
                    f,
                    "           the longest prompt that is too long has {} tokens",
                    number(long.longest)
                )
            }
            None => Ok(()),
        }
    }
}

impl Plan {
    fn show_costs(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(pilot) = &self.pilot {
            let (input, generated) = (pilot.input_tokens.text(), pilot.generated_tokens.text());
            let rows = numbered(pilot.rows as u64, "row");
            writeln!(f, "pilot      {rows} answered; all rows: {generated} tokens of answers")?;
            if self.documents.is_some() {
                writeln!(f, "           {input} tokens of prompts, with those of merges")?;
            }
        }
        let Some(costs) = &self.costs else {
            let why = self.no_costs.as_deref().unwrap_or_default();
            return writeln!(f, "time       not known: {why}");
        };
        let time = costs.of_both(|costs| Some(costs.seconds), duration).unwrap_or_default();
        writeln!(f, "time       {time}")?;
        writeln!(f, "           by {}", costs.by)?;
        match costs.of_both(|costs| costs.joules, energy) {
            Some(joules) => writeln!(f, "energy     {joules} ({})", costs.energy)?,
            None => writeln!(f, "energy     {}", costs.energy)?,
        }
        writeln!(f, "money      {}", costs.money_line())
    }
}

/// Seconds, as far as they count.
fn duration(seconds: f64) -> String {
    let seconds = seconds.min(1e12);
    match seconds {
        ..1.0 => format!("{seconds:.2}s"),
        ..60.0 => format!("{seconds:.1}s"),
        _ => humantime::format_duration(Duration::from_secs(seconds.round() as u64)).to_string(),
    }
}

/// Energy in the unit that suits it.
fn energy(joules: f64) -> String {
    if joules < 3.6e5 { format!("{joules:.0} J") } else { format!("{:.2} kWh", joules / 3.6e6) }
}

impl DevicePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chosen = if self.chosen { ", which a run takes" } else { "" };
        writeln!(f, "device     {} ({}){chosen}", self.name, self.kind)?;
        if let Some(problem) = &self.problem {
            writeln!(f, "           cannot run the job: {problem}")?;
        }
        let Some(memory) = &self.memory else { return Ok(()) };
        let DeviceMemory { weight_bytes, other_bytes, kv_bytes_per_token, kv_pages, block_size, .. } = memory;
        let (weights, others) = (bytes(*weight_bytes as u64), bytes(*other_bytes as u64));
        writeln!(f, "           weights {weights}, activations and the like {others}")?;
        writeln!(
            f,
            "           KV {kv_bytes_per_token} bytes a token, {kv_pages} pages of {block_size} tokens"
        )?;
        let row = |what: &str, tokens: u64, kv: u64, at_once: u64| {
            format!(
                "{what} row with its longest answer: {tokens} tokens, KV {}, {at_once} at once",
                bytes(kv)
            )
        };
        let (tokens, kv, at_once) = (memory.row_tokens, memory.row_kv_bytes, memory.rows_at_once);
        writeln!(f, "           {}", row("a median", tokens.p50, kv.p50, at_once.p50))?;
        writeln!(f, "           {}", row("the longest", tokens.max, kv.max, at_once.max))
    }
}

impl Span {
    fn text(&self) -> String {
        let Span { least, most } = *self;
        if least == most { number(least) } else { format!("{} to {}", number(least), number(most)) }
    }
}

impl Estimate {
    fn text(&self) -> String {
        let value = number(self.value.round() as u64);
        match self.error {
            Some(error) if error.round() == 0.0 => value,
            Some(error) => format!("{value} ± {}", number(error.ceil() as u64)),
            None => format!("about {value}, by one row group, which does not say how far off that is,"),
        }
    }
}

/// A whole number with commas between thousands.
pub fn number(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A number with what it counts.
fn numbered(count: u64, noun: &str) -> String {
    format!("{} {noun}{}", number(count), if count == 1 { "" } else { "s" })
}

/// Bytes in the unit that suits them.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["bytes", "KiB", "MiB", "GiB", "TiB"];
    let mut text = String::new();
    let unit = (1..UNITS.len()).rev().find(|&unit| bytes >> (10 * unit) > 0).unwrap_or(0);
    // A String takes all that is written to it.
    let _ = match unit {
        0 => write!(text, "{bytes} bytes"),
        unit => write!(text, "{:.1} {}", bytes as f64 / (1u64 << (10 * unit)) as f64, UNITS[unit]),
    };
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        let shown = [0, 999, 1000, 1_234_567].map(number);
        assert_eq!(shown, ["0", "999", "1,000", "1,234,567"]);
        let shown = [0.034, 3.25, 59.99, 3601.4].map(duration);
        assert_eq!(shown, ["0.03s", "3.2s", "60.0s", "1h 1s"]);
        assert_eq!([12.4, 3.6e6].map(energy), ["12 J", "1.00 kWh"]);
        let shown = [0, 1023, 1024, 6 << 20, u64::MAX].map(bytes);
        assert_eq!(shown, ["0 bytes", "1023 bytes", "1.0 KiB", "6.0 MiB", "16777216.0 TiB"]);
    }
}
