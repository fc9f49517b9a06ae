//! What a job took: time, tokens, memory, money.
//!
//! A receipt is a function of the journal, in which each start notes what it does, and of the prices that were given last. Its
//! text is kept there once the last row is committed, so that publishing again writes the same. It is no part of manifest,
//! footers or identity.

pub mod energy;
mod energy_use;
pub mod machine;
pub mod money;
mod show;
pub mod spent;

use crate::digest::digest_bytes;
use crate::error::JobError;
use crate::files::{rename, write_durably};
use crate::journal::costs::{FrozenReceipt, Start, StartFigures, Totals};
use crate::journal::endings::Endings;
use crate::journal::identity::Identity;
use crate::journal::{EndedJournal, Journal, JournalReader};
use crate::options::prices::PriceOptions;
use crate::publish::manifest::{Manifest, inputs_digest, read_text};
use crate::rates::MOST_SHARE;
use crate::row_error::RowErrorKind;
use energy_use::EnergyUse;
use money::{Money, Prices, Work};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, UNIX_EPOCH};

/// The file's name, in the state_dir.
pub const NAME: &str = "receipt.json";

/// Its name while it is written.
const NEXT: &str = "receipt.next";

/// The last key: the digest of all text before it.
const SEAL: &str = "receipt_blake3";

/// What a job took, over all of its starts.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Receipt {
    pub version: &'static str,
    /// The job, as the manifest names it.
    pub identity_blake3: String,
    pub inputs_blake3: String,
    /// Of the model's weights.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights_blake3: Option<String>,
    pub model: String,
    /// Those that starts had, each once.
    pub machine: Vec<String>,
    pub device: Vec<String>,
    /// In UTC.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub began: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
    /// Starts of the worker that have done something.
    pub starts: u64,
    /// The sum over these, each from the opening of the journal to its last commit.
    pub active_seconds: f64,
    /// Rows of the journal, errors among them. All figures are of these.
    pub rows: u64,
    /// Rows of the output: fewer where a later `--limit` takes the first of them only.
    pub output_rows: u64,
    pub errors: BTreeMap<String, u64>,
    pub cut_off: u64,
    /// Tokens of the rows' prompts and answers.
    pub input_tokens: u64,
    pub generated_tokens: u64,
    /// Rows that took another's answer, and tokens of their prompts and answers with those of chunks and merges of documents
    /// that did, where every start knows them apart.
    pub shared_rows: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_input_tokens: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shared_generated_tokens: Option<u64>,
    /// Positions that were computed, and found in cached pages instead.
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    pub cached_tokens: u64,
    pub preemptions: u64,
    /// In steps that computed prompts, also where other rows decoded beside them, and in others.
    pub prefill_seconds: f64,
    pub decode_seconds: f64,
    pub prefill_tokens_per_second: f64,
    pub decode_tokens_per_second: f64,
    /// What the steps of each kind would have taken at the rates of the device, over what they took, where its rates are known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub prefill_roofline_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decode_roofline_share: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// The greatest share of KV pages in use.
    pub peak_kv_share: f64,
    pub energy: EnergyUse,
    pub money: Money,
    /// What to know about these figures.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
}

impl Receipt {
    /// That of a journal, with an output of so many rows.
    ///
    /// # Errors
    /// [`JobError::JournalDamaged`] or [`JobError::Journal`].
    fn of(
        journal: &JournalReader,
        model: &str,
        starts: &[Start],
        prices: Prices,
        output_rows: u64,
    ) -> Result<Receipt, JobError> {
        let endings = Endings::of(journal, journal.inputs().rows())?;
        Ok(Receipt {
            identity_blake3: journal.identity().digest(),
            inputs_blake3: inputs_digest(journal.inputs()),
            weights_blake3: journal.identity().get("weights").map(|weights| weights.shown().into_owned()),
            model: model.to_string(),
            ..Receipt::of_figures(journal.database.totals()?, endings, starts, prices, output_rows)
        })
    }

    /// The figures of a receipt, which has no name yet.
    fn of_figures(
        totals: Totals,
        endings: Endings,
        starts: &[Start],
        prices: Prices,
        output_rows: u64,
    ) -> Receipt {
        let figures = || starts.iter().filter_map(|start| start.figures.as_ref());
        let sum = |of: fn(&StartFigures) -> u64| figures().map(of).fold(0, u64::saturating_add);
        let of_starts = |of: fn(&Start) -> u64| starts.iter().map(of).fold(0, u64::saturating_add);
        let names = |of: fn(&StartFigures) -> &String| {
            let mut names: Vec<String> = Vec::new();
            figures().map(of).for_each(|name| {
                if !names.contains(name) {
                    names.push(name.clone());
                }
            });
            names
        };
        let active_seconds = of_starts(|start| start.active_ms) as f64 / 1e3;
        let (prefill, decode) = (sum(|f| f.prefill_us) as f64 / 1e6, sum(|f| f.decode_us) as f64 / 1e6);
        let (prefill_tokens, decode_tokens) = (sum(|f| f.prefill_tokens), sum(|f| f.decode_tokens));
        let rate = |tokens: u64, seconds: f64| if seconds > 0.0 { tokens as f64 / seconds } else { 0.0 };
        let shared = shared_tokens(starts);
        let prefill_share = roofline_share(starts, |f| f.prefill_us, 0);
        let decode_share = roofline_share(starts, |f| f.decode_us, 1);
        // A little more is a matter of measurement.
        let known = |share: Option<f64>| share.filter(|share| !is_passed(share)).map(|share| share.min(1.0));
        let passed = [prefill_share, decode_share].iter().flatten().any(is_passed);
        let kv_share = |f: &StartFigures| f.peak_kv_pages as f64 / f.kv_pages.max(1) as f64;
        let work = Work {
            active_seconds,
            answered_rows: totals.rows - endings.error_rows().min(totals.rows),
            input_tokens: totals.input_tokens,
            generated_tokens: totals.generated_tokens,
        };
        Receipt {
            version: env!("CARGO_PKG_VERSION"),
            machine: names(|f| &f.machine),
            device: names(|f| &f.device),
            began: starts.first().map(|start| utc(start.began, 0)),
            ended: starts.last().map(|start| utc(start.began, start.active_ms)),
            starts: starts.len() as u64,
            active_seconds,
            rows: totals.rows,
            output_rows,
            notes: notes(starts, totals.rows, output_rows, &endings)
                .into_iter()
                .chain(passed.then(|| PASSED.to_string()))
                .collect(),
            errors: endings.errors,
            cut_off: endings.cut,
            input_tokens: totals.input_tokens,
            generated_tokens: totals.generated_tokens,
            shared_rows: of_starts(|start| start.shared_rows),
            shared_input_tokens: shared.map(|[input, _]| input),
            shared_generated_tokens: shared.map(|[_, generated]| generated),
            prefill_tokens,
            decode_tokens,
            cached_tokens: sum(|f| f.cached_tokens),
            preemptions: sum(|f| f.preemptions),
            prefill_seconds: prefill,
            decode_seconds: decode,
            prefill_tokens_per_second: rate(prefill_tokens, prefill),
            decode_tokens_per_second: rate(decode_tokens, decode),
            prefill_roofline_share: known(prefill_share),
            decode_roofline_share: known(decode_share),
            peak_memory_bytes: figures().filter_map(|f| f.peak_memory).max(),
            peak_kv_share: figures().map(kv_share).fold(0.0, f64::max),
            energy: EnergyUse::of(starts, &work),
            money: Money::of(prices, &work),
            ..Receipt::default()
        }
    }

    /// The receipt as JSON, sealed with a digest.
    fn to_json(&self) -> String {
        // Maps with keys that are not text are all that could fail.
        let text = serde_json::to_string_pretty(self).unwrap_or_default();
        let head = text.strip_suffix("\n}").unwrap_or(&text);
        format!("{head}{}", seal(head))
    }
}

/// Keeps the prices that were given, so that a job that ends before its receipt still has them.
///
/// # Errors
/// As [`Journal::append`].
pub fn note_prices(journal: &mut Journal, given: &PriceOptions) -> Result<(), JobError> {
    if given.price_per_hour.is_none() && given.compare_price.is_none() {
        return Ok(());
    }
    let given = *given;
    journal.note_prices(move |before| {
        let before = before.and_then(|before| serde_json::from_str(before).ok());
        serde_json::to_string(&Prices::given_or(&given, before.unwrap_or_default())).unwrap_or_default()
    })
}

/// Makes the receipt of a job all of whose rows are finished, or takes the one that was made when they were: it is made anew
/// only if rows have been finished since, or other prices or another number of rows of the output are given. Gives its text
/// and what to print of it.
///
/// # Errors
/// [`JobError::JournalDamaged`] or [`JobError::Journal`].
pub fn freeze(
    journal: &EndedJournal,
    model: &str,
    given: &PriceOptions,
    output_rows: u64,
) -> Result<(String, String), JobError> {
    let database = &journal.reader.database;
    let before = database.receipt()?;
    let prices_before = before.as_ref().and_then(|receipt| serde_json::from_str(&receipt.prices).ok());
    let prices = Prices::given_or(given, prices_before.unwrap_or_default());
    let starts = database.starts()?;
    let answered = rows_of(&starts);
    let receipt = Receipt::of(&journal.reader, model, &starts, prices, output_rows)?;
    let stands = |before: &FrozenReceipt| {
        let text: serde_json::Value = serde_json::from_str(&before.text).unwrap_or_default();
        before.answered == answered && prices_before == Some(prices) && text["output_rows"] == output_rows
    };
    if let Some(before) = before.filter(stands) {
        return Ok((before.text, receipt.lines()));
    }
    let text = receipt.to_json();
    let prices = serde_json::to_string(&prices).map_err(|error| JobError::Internal(error.to_string()))?;
    database.keep_receipt(&FrozenReceipt { answered, prices, text: text.clone() })?;
    Ok((text, receipt.lines()))
}

/// The receipt of a job in shards, which have no journal in common: its text and what to print of it.
pub(crate) fn of_shards(
    (model, identity, inputs_blake3): (&str, &Identity, &str),
    (totals, endings, starts): (Totals, Endings, &[Start]),
    (given, before): (&PriceOptions, Prices),
    output_rows: u64,
) -> (String, String) {
    let receipt = Receipt {
        identity_blake3: identity.digest(),
        inputs_blake3: inputs_blake3.to_string(),
        weights_blake3: identity.get("weights").map(|weights| weights.shown().into_owned()),
        model: model.to_string(),
        // Shards end in any order.
        ended: starts
            .iter()
            .max_by_key(|start| start.began.saturating_mul(1000).saturating_add(start.active_ms))
            .map(|start| utc(start.began, start.active_ms)),
        ..Receipt::of_figures(totals, endings, starts, Prices::given_or(given, before), output_rows)
    };
    (receipt.to_json(), receipt.lines())
}

/// The prices that a journal has kept.
pub(crate) fn kept_prices(journal: &JournalReader) -> Result<Prices, JobError> {
    let kept = journal.database.receipt()?.and_then(|receipt| serde_json::from_str(&receipt.prices).ok());
    Ok(kept.unwrap_or_default())
}

/// Puts a receipt into a state_dir.
///
/// # Errors
/// [`JobError::Io`].
pub fn write(state_dir: &Path, text: &str) -> Result<(), JobError> {
    let path = state_dir.join(NAME);
    if std::fs::read(&path).is_ok_and(|there| there == text.as_bytes()) {
        return Ok(());
    }
    write_durably(&state_dir.join(NEXT), text)?;
    rename(&state_dir.join(NEXT), &path)
}

/// What is wrong with the receipt in a state_dir, if there is one: it was edited, or is that of another job than the
/// manifest's.
pub fn problems(state_dir: &Path, manifest: &Manifest) -> Vec<String> {
    read(state_dir, Some(manifest)).err().into_iter().collect()
}

/// The receipt in a state_dir, if there is one, as it was written and, where the manifest is known, of its job.
///
/// # Errors
/// What is wrong with it, in words.
pub fn read(state_dir: &Path, manifest: Option<&Manifest>) -> Result<Option<serde_json::Value>, String> {
    let path = state_dir.join(NAME);
    if path.symlink_metadata().is_err() {
        return Ok(None);
    }
    let name = path.display();
    let text = read_text(&path).map_err(|_| format!("{name} cannot be read"))?;
    let text = String::from_utf8(text).map_err(|_| format!("{name} is not UTF-8"))?;
    if text_of_seal(&text).is_none() {
        return Err(format!("{name} is not as it was written: its own digest does not match"));
    }
    let value: serde_json::Value =
        serde_json::from_str(&text).map_err(|_| format!("{name} is not as it was written: it is no JSON"))?;
    let same = |key: &str, of: Option<&String>| of.is_none_or(|of| value[key] == **of);
    let of_job = manifest.is_none_or(|manifest| {
        same("identity_blake3", Some(&manifest.identity_blake3))
            && same("inputs_blake3", manifest.inputs_blake3.as_ref())
    });
    if of_job { Ok(Some(value)) } else { Err(format!("{name} is the receipt of another job")) }
}

/// What the seal of a receipt is of; none if it is not that.
fn text_of_seal(text: &str) -> Option<&str> {
    let (head, rest) = text.split_at(text.rfind(&format!(",\n  \"{SEAL}\""))?);
    (!head.is_empty() && rest == seal(head)).then_some(head)
}

fn seal(head: &str) -> String {
    format!(",\n  \"{SEAL}\": \"{}\"\n}}\n", digest_bytes(head.as_bytes()))
}

/// What is said where steps were faster than the device's rates.
const PASSED: &str = "the share of the roofline is not known: steps were faster than the device's rates, which were measured \
                      while the machine was busy; the next `gristmill plan` measures them again, as does --measure-rates";

/// Whether a share of the roofline is none.
fn is_passed(share: &f64) -> bool {
    *share > MOST_SHARE
}

/// Tokens of prompts and of answers that took another's; none if a start does not know them apart.
fn shared_tokens(starts: &[Start]) -> Option<[u64; 2]> {
    starts.iter().try_fold([0_u64; 2], |[input, generated], start| {
        let of_prompts = start.figures.as_ref().and_then(|figures| figures.shared_input_tokens);
        let of_prompts = of_prompts.or((start.shared_tokens == 0).then_some(0))?;
        let of_answers = start.shared_tokens.saturating_sub(of_prompts);
        Some([input.saturating_add(of_prompts), generated.saturating_add(of_answers)])
    })
}

/// The share of the device's rates that steps of a kind have reached, if all starts know it and there were such steps.
fn roofline_share(starts: &[Start], took: fn(&StartFigures) -> u64, kind: usize) -> Option<f64> {
    let (mut bound_us, mut took_us) = (0_u64, 0_u64);
    for figures in starts.iter().filter_map(|start| start.figures.as_ref()).filter(|f| took(f) > 0) {
        bound_us = u64::saturating_add(bound_us, figures.bound_us?[kind]);
        took_us = u64::saturating_add(took_us, took(figures));
    }
    (took_us > 0).then(|| bound_us as f64 / took_us as f64)
}

/// A time as text, so many milliseconds after one in seconds since 1970.
pub(crate) fn utc(began: u64, after_ms: u64) -> String {
    let time = UNIX_EPOCH
        .checked_add(Duration::from_secs(began))
        .and_then(|time| time.checked_add(Duration::from_millis(after_ms)));
    // A clock may have said anything.
    let last = UNIX_EPOCH + Duration::from_secs(253_402_300_799);
    humantime::format_rfc3339_seconds(time.unwrap_or(last).min(last)).to_string()
}

/// Rows that starts have finished, each as often as it was.
fn rows_of(starts: &[Start]) -> u64 {
    starts.iter().map(|start| start.rows).fold(0, u64::saturating_add)
}

/// Whether a sum over starts is greater than any that work comes to: a clock or a file was wrong.
fn overflows(starts: &[Start]) -> bool {
    let figures = || starts.iter().filter_map(|start| start.figures.as_ref());
    let times = starts.iter().map(|start| start.active_ms).try_fold(0, u64::checked_add);
    let steps = figures().map(|f| f.prefill_us.saturating_add(f.decode_us)).try_fold(0, u64::checked_add);
    let tokens =
        figures().map(|f| f.prefill_tokens.saturating_add(f.decode_tokens)).try_fold(0, u64::checked_add);
    [times, steps, tokens].iter().any(|sum| sum.is_none_or(|sum| sum > i64::MAX as u64))
}

/// What to know about the figures.
fn notes(starts: &[Start], rows: u64, output_rows: u64, endings: &Endings) -> Vec<String> {
    let mut notes = Vec::new();
    if overflows(starts) {
        let why = "times or tokens of its starts are too great to be added up, so that the figures are wrong: a clock or the \
                   journal was";
        notes.push(why.to_string());
    }
    if output_rows < rows {
        notes.push(format!(
            "all figures are of the {rows} rows that the journal has; the output has the first {output_rows} of them (--limit)"
        ));
    }
    if rows == 0 {
        notes.push("there are no rows, so that nothing was spent".to_string());
    } else if endings.error_rows() == rows {
        notes.push("every row is an error".to_string());
    }
    let finished = rows_of(starts);
    let given_up = endings.errors.get(RowErrorKind::CrashedDevice.text()).copied().unwrap_or(0);
    let lost = rows.saturating_sub(finished.saturating_add(given_up));
    if lost > 0 {
        notes.push(format!(
            "time, tokens computed and money lack those of {lost} rows: the journal was repaired, and what it knew of them is \
             gone"
        ));
    }
    let earlier = starts.iter().filter(|start| start.figures.is_none());
    let before = earlier.map(|start| start.rows).fold(0, u64::saturating_add);
    if before > 0 {
        notes.push(format!(
            "tokens computed, rates and memory lack those of {before} rows, which an earlier version answered"
        ));
    }
    notes
}

#[cfg(test)]
mod tests;
