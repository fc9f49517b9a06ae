//! The progress of a job or a benchmark, shown on standard error: a bar on a terminal, a line now and then elsewhere.

use crate::counted::counted;
use crate::journal::finished::FinishedRows;
use crate::log::{is_json, note, print_event};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use std::io::IsTerminal;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// How often a plain line is printed.
const LINE_EVERY: Duration = Duration::from_secs(10);

/// What rows are that took another's answer.
const SHARED: &str = "rows answered by another of the same prompt";

/// How often the bar is drawn.
const DRAW_EVERY: Duration = Duration::from_millis(200);

/// What is counted, by any thread.
#[derive(Debug, Default)]
pub struct Counters {
    /// Rows finished, errors among them.
    pub finished: AtomicU64,
    /// Rows with errors.
    pub errors: AtomicU64,
    /// Rows that took the answer of another row of their prompt, of this run only.
    pub shared: AtomicU64,
    /// Tokens of the prompts of finished rows.
    pub input_tokens: AtomicU64,
    /// Tokens generated.
    pub generated_tokens: AtomicU64,
    /// Rows that this run has taken up, errors among them; of these, rows that the engine runs, and tokens of their prompts.
    pub taken: AtomicU64,
    pub ran: AtomicU64,
    pub ran_tokens: AtomicU64,
    /// Positions that the engine has computed or found for them, of prompts and of answers.
    pub positions: AtomicU64,
}

impl Counters {
    /// The counts of a job of which rows are finished.
    pub fn resume(finished: &FinishedRows) -> Counters {
        Counters {
            finished: finished.count.into(),
            errors: finished.errors.into(),
            shared: 0.into(),
            input_tokens: finished.input_tokens.into(),
            generated_tokens: finished.generated_tokens.into(),
            ..Counters::default()
        }
    }

    /// Reads a counter.
    pub fn get(counter: &AtomicU64) -> u64 {
        counter.load(Ordering::Relaxed)
    }

    /// Adds to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}

/// Shows progress.
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Whether anything is shown.
    shows: bool,
    /// What is counted, as in "rows".
    what: &'static str,
    rows: u64,
    /// Whether tokens are generated; else the rate is that of what is counted.
    generates: bool,
    /// Rows and tokens that were there at the start.
    before: (u64, u64),
    begun: Instant,
    shown: Instant,
}

impl Progress {
    /// Begins to show the progress of so many rows, or of what else is counted.
    pub fn begin(what: &'static str, rows: u64, counters: &Counters) -> Progress {
        let bar = (std::io::stderr().is_terminal() && !is_json()).then(|| {
            let bar = ProgressBar::with_draw_target(Some(rows), ProgressDrawTarget::stderr());
            // The bar takes what the texts leave of the line.
            let style =
                ProgressStyle::with_template(&format!("{{wide_bar}} {{pos}}/{{len}} {what}, {{msg}}"));
            bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
            bar
        });
        let now = Instant::now();
        let before = (Counters::get(&counters.finished), Counters::get(&counters.generated_tokens));
        Progress { bar, shows: true, what, rows, generates: true, before, begun: now, shown: now }
    }

    /// That of rows in memory, whose callers see them come.
    pub fn unseen(counters: &Counters) -> Progress {
        let now = Instant::now();
        let before = (Counters::get(&counters.finished), Counters::get(&counters.generated_tokens));
        Progress {
            bar: None,
            shows: false,
            what: "rows",
            rows: 0,
            generates: true,
            before,
            begun: now,
            shown: now,
        }
    }

    /// The same where no tokens are generated.
    #[must_use]
    pub fn without_tokens(self) -> Progress {
        Progress { generates: false, ..self }
    }

    /// Shows the progress, if it is time.
    pub fn show(&mut self, counters: &Counters) {
        let every = if self.bar.is_some() { DRAW_EVERY } else { LINE_EVERY };
        if !self.shows || self.shown.elapsed() < every {
            return;
        }
        self.shown = Instant::now();
        match &self.bar {
            Some(bar) => {
                bar.set_position(Counters::get(&counters.finished));
                bar.set_message(self.message(counters, "shared"));
            }
            None if is_json() => {
                let numbers = [
                    ("rows", self.rows),
                    ("finished", Counters::get(&counters.finished)),
                    ("errors", Counters::get(&counters.errors)),
                    ("input_tokens", Counters::get(&counters.input_tokens)),
                    ("generated_tokens", Counters::get(&counters.generated_tokens)),
                ];
                print_event("INFO", &self.message(counters, SHARED), &numbers);
            }
            None => {
                let (done, message) = (Counters::get(&counters.finished), self.message(counters, SHARED));
                note!("{done}/{} {}, {message}", self.rows, self.what)
            }
        }
    }

    /// Ends the showing.
    pub fn end(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// What this run did, in one line.
    pub fn summary(&self, counters: &Counters) -> String {
        let rows = Counters::get(&counters.finished) - self.before.0;
        let (time, message) = (rounded(self.begun.elapsed()), self.message(counters, SHARED));
        format!("{} in {time}, {message}", counted(rows, self.what.trim_end_matches('s')))
    }

    /// Speed, errors and the time left; `shared_by` says what rows are that took another's answer.
    fn message(&self, counters: &Counters, shared_by: &str) -> String {
        let elapsed = self.begun.elapsed();
        let seconds = elapsed.as_secs_f64().max(1e-3);
        let finished = Counters::get(&counters.finished);
        let done = finished - self.before.0;
        let tokens = Counters::get(&counters.generated_tokens) - self.before.1;
        let errors = match Counters::get(&counters.errors) {
            0 => String::new(),
            errors => format!(", {}", counted(errors, "error")),
        };
        let shared = match Counters::get(&counters.shared) {
            0 => String::new(),
            shared => format!(", {shared} {shared_by}"),
        };
        let left = match self.rows.saturating_sub(finished) {
            0 => String::new(),
            left => {
                let by_rows = (done > 0).then(|| left as f64 / done as f64);
                match self.tokens_left(counters).or(by_rows).map(|left| (seconds * left).min(1e9)) {
                    Some(seconds) => format!(", {} left", rounded(Duration::from_secs_f64(seconds))),
                    None => ", time left unknown".into(),
                }
            }
        };
        let (rate, of) = if self.generates { (tokens, "tokens") } else { (done, self.what) };
        format!("{:.1} {of}/s{errors}{shared}{left}", rate as f64 / seconds)
    }
}

impl Progress {
    /// Tokens that are left for each that is done, of prompts and answers, as far as that is known: rows that are not taken up
    /// yet count as the mean of those that are, and an answer as the mean of those that are finished, or of what is there of
    /// all if that is more, as short answers are finished first.
    fn tokens_left(&self, counters: &Counters) -> Option<f64> {
        let count = |counter| Counters::get(counter) as f64;
        let (taken, ran, prompts) =
            (count(&counters.taken), count(&counters.ran), count(&counters.ran_tokens));
        let done = count(&counters.positions);
        if done == 0.0 || ran == 0.0 {
            return None;
        }
        let answered = count(&counters.finished) - self.before.0 as f64;
        let generated = count(&counters.generated_tokens) - self.before.1 as f64;
        let so_far = (done - prompts).max(0.0) / ran;
        let answer = if answered > 0.0 { (generated / answered).max(so_far) } else { so_far };
        let of_taken = prompts + ran * answer;
        let others = (self.rows as f64 - self.before.0 as f64 - taken).max(0.0);
        Some((of_taken * (1.0 + others / taken.max(ran)) - done).max(0.0) / done)
    }
}

/// A duration to the second, below ten seconds to the tenth, and below one to the millisecond.
fn rounded(time: Duration) -> humantime::FormattedDuration {
    let (millis, unit) = (time.as_millis() as u64, [1, 100, 1000]);
    let unit = unit[usize::from(millis >= 1000) + usize::from(millis >= 10_000)];
    humantime::format_duration(Duration::from_millis(millis / unit * unit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_resumed_job_counts_its_own_speed() {
        let counters = Counters::default();
        Counters::add(&counters.finished, 90);
        Counters::add(&counters.generated_tokens, 900);
        let mut progress = Progress::begin("rows", 200, &counters);
        progress.begun -= Duration::from_secs(10);
        Counters::add(&counters.finished, 10);
        Counters::add(&counters.generated_tokens, 50);
        Counters::add(&counters.errors, 3);
        let message = progress.message(&counters, SHARED);
        assert!(message.ends_with("tokens/s, 3 errors, 1m 40s left"), "{message}");
        assert!(message.starts_with("5.0") || message.starts_with("4.9"), "{message}");
        assert!(progress.summary(&counters).starts_with("10 rows in 10"));
        let shown = [37, 1234, 49_600, 7_384_000].map(|ms| rounded(Duration::from_millis(ms)).to_string());
        assert_eq!(shown, ["37ms", "1s 200ms", "49s", "2h 3m 4s"]);
    }

    #[test]
    fn the_time_left_is_that_of_the_tokens_left() {
        let counters = Counters::default();
        let mut progress = Progress::begin("rows", 100, &counters);
        progress.begun -= Duration::from_secs(10);
        // 90 rows of 10 tokens are finished and 10 of 1,000 are not, all with answers of 10: half of 11,900 tokens is done.
        for (counter, count) in [
            (&counters.finished, 90),
            (&counters.taken, 100),
            (&counters.ran, 100),
            (&counters.ran_tokens, 10_900),
            (&counters.generated_tokens, 900),
            (&counters.positions, 5_950),
        ] {
            Counters::add(counter, count);
        }
        let message = progress.message(&counters, SHARED);
        assert!(message.ends_with(", 10s left"), "{message}");
        // As many rows again that are not taken up: three tokens are left for each that is done.
        progress.rows = 200;
        let message = progress.message(&counters, SHARED);
        assert!(message.ends_with(", 30s left"), "{message}");
        // Where nothing is finished yet, an answer has at least the tokens that are there.
        let begun = Counters::default();
        for (counter, count) in
            [(&begun.taken, 100), (&begun.ran, 100), (&begun.ran_tokens, 1000), (&begun.positions, 1500)]
        {
            Counters::add(counter, count);
        }
        let message = progress.message(&begun, SHARED);
        assert!(message.ends_with(", 10s left"), "{message}");
    }
}
