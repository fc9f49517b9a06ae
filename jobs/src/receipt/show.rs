//! A receipt in a few lines.

use crate::counted::counted;
use crate::receipt::{NAME, Receipt};
use std::time::Duration;

/// Notes that are printed.
const NOTES: usize = 3;

impl Receipt {
    /// At most eight lines, without the last line's end.
    pub fn lines(&self) -> String {
        let active = humantime::format_duration(Duration::from_secs(self.active_seconds.round() as u64));
        let starts = if self.starts == 1 { "1 start".into() } else { format!("{} starts", self.starts) };
        let mut lines = vec![format!("receipt: {active} of work in {starts}")];
        let shared = self.shared_input_tokens.zip(self.shared_generated_tokens).map(|(input, generated)| {
            format!(", saved by equal prompts {input} of prompts and {generated} of answers")
        });
        lines.push(format!(
            "  tokens: {} of prompts, {} generated; {} computed, {} found in cached pages{}",
            self.input_tokens,
            self.generated_tokens,
            self.prefill_tokens.saturating_add(self.decode_tokens),
            self.cached_tokens,
            shared.unwrap_or_default()
        ));
        if self.prefill_tokens.saturating_add(self.decode_tokens) > 0 {
            let memory = self.peak_memory_bytes.map(|bytes| format!("; memory: {} MiB at most", bytes >> 20));
            lines.push(format!(
                "  rates: {:.1} tokens/s in steps with prompts{}, {:.1} in others{}{}",
                self.prefill_tokens_per_second,
                of_roofline(self.prefill_roofline_share),
                self.decode_tokens_per_second,
                of_roofline(self.decode_roofline_share),
                memory.unwrap_or_default()
            ));
        }
        lines.push(format!("  energy: {}", self.energy.line()));
        lines.push(format!("  money: {}", self.money.line()));
        lines.extend(self.notes.iter().take(NOTES).map(|note| format!("  note: {note}")));
        if let (Some(last), more @ 1..) = (lines.last_mut(), self.notes.len().saturating_sub(NOTES)) {
            *last += &format!("; {} more in {NAME}", counted(more as u64, "note"));
        }
        lines.join("\n")
    }
}

/// The share of the device's rates, where it is known.
fn of_roofline(share: Option<f64>) -> String {
    share.map_or(String::new(), |share| format!(" ({:.0} % of the roofline)", 100.0 * share))
}
