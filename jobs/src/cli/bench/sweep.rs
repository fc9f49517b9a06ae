//! The figures of several runs, as a table and as CSV.

use super::figures::Figures;
use crate::error::JobError;
use std::fmt::Write;
use std::path::Path;

/// The runs as a table, in Markdown.
pub fn table(runs: &[Figures]) -> String {
    let priced = runs.iter().any(|run| run.money_per_million_tokens.is_some());
    let mut text = "| requests | seconds | requests/s | tokens/s | output tokens/s |".to_string();
    text += if priced { " money/1M tokens |\n" } else { "\n" };
    text += if priced { "|---:|---:|---:|---:|---:|---:|\n" } else { "|---:|---:|---:|---:|---:|\n" };
    for run in runs {
        // A String takes all that is written to it.
        let _ = write!(
            text,
            "| {} | {:.3} | {:.2} | {:.2} | {:.2} |",
            run.num_requests,
            run.elapsed_time,
            run.requests_per_second,
            run.total_tokens_per_second,
            run.output_tokens_per_second
        );
        let money = run.money_per_million_tokens.map_or(String::new(), |money| format!(" {money:.4} |"));
        text += &(money + "\n");
    }
    text
}

/// Writes runs as CSV, if there is a path: a line each, with the names of the JSON.
///
/// # Errors
/// [`JobError::Io`].
pub fn write_csv(path: Option<&Path>, runs: &[Figures]) -> Result<(), JobError> {
    let Some(path) = path else { return Ok(()) };
    let text = csv(runs).map_err(|error| JobError::Internal(error.to_string()))?;
    std::fs::write(path, text).map_err(JobError::io("write", path))
}

fn csv(runs: &[Figures]) -> serde_json::Result<String> {
    let mut text = String::new();
    for (i, run) in runs.iter().enumerate() {
        let serde_json::Value::Object(fields) = serde_json::to_value(run)? else { continue };
        let line = |cells: Vec<String>| cells.join(",") + "\n";
        if i == 0 {
            text += &line(fields.keys().cloned().collect());
        }
        text += &line(fields.values().map(cell).collect());
    }
    Ok(text)
}

/// A value as a cell; a text with what a cell cannot hold stands in quotes.
fn cell(value: &serde_json::Value) -> String {
    match value {
        serde_json::Value::String(text) if text.contains(['"', ',', '\n', '\r']) => {
            format!("\"{}\"", text.replace('"', "\"\""))
        }
        serde_json::Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cell_is_quoted_where_it_must_be() {
        assert_eq!((cell(&json!(1.5)), cell(&json!("nano"))), ("1.5".into(), "nano".into()));
        assert_eq!(cell(&json!("2 threads, \"512\"")), "\"2 threads, \"\"512\"\"\"");
    }
}
