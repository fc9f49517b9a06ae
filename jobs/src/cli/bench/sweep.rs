//! The figures of several runs, as a table and as CSV.

use super::figures::Figures;
use crate::error::JobError;
use std::fmt::Write;
use std::path::Path;

/// The runs as a table, in Markdown.
pub fn table(runs: &[Figures]) -> String {
    let priced = runs.iter().any(|run| run.money_per_million_tokens.is_some());
    let measured = runs.iter().any(|run| run.joules_per_million_tokens.is_some());
    let mut heads = vec![
        "requests",
        "seconds",
        "requests/s",
        "tokens/s",
        "output tokens/s",
        "step p50 ms",
        "step p99 ms",
    ];
    heads.extend(measured.then_some("J/1M tokens"));
    heads.extend(priced.then_some("money/1M tokens"));
    let mut text = format!("| {} |\n|{}\n", heads.join(" | "), "---:|".repeat(heads.len()));
    for run in runs {
        // A String takes all that is written to it.
        let _ = write!(
            text,
            "| {} | {:.3} | {:.2} | {:.2} | {:.2} | {:.3} | {:.3} |",
            run.num_requests,
            run.elapsed_time,
            run.requests_per_second,
            run.total_tokens_per_second,
            run.output_tokens_per_second,
            run.step_time_percentiles_ms.p50,
            run.step_time_percentiles_ms.p99
        );
        if measured {
            text += &run.joules_per_million_tokens.map_or(" |".into(), |joules| format!(" {joules:.1} |"));
        }
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
    let rows = runs.iter().map(|run| Ok(cells(&serde_json::to_value(run)?)));
    let rows = rows.collect::<serde_json::Result<Vec<_>>>()?;
    let mut heads: Vec<&String> = Vec::new();
    for (head, _) in rows.iter().flatten() {
        if !heads.contains(&head) {
            heads.push(head);
        }
    }
    let line = |cells: Vec<&str>| cells.join(",") + "\n";
    let mut text = line(heads.iter().map(|head| head.as_str()).collect());
    for row in &rows {
        let of = |head: &&String| row.iter().find(|(of, _)| of == *head).map_or("", |(_, cell)| cell);
        text += &line(heads.iter().map(of).collect());
    }
    Ok(text)
}

/// The cells of a run with their heads: those of an object within it are named after both.
fn cells(run: &serde_json::Value) -> Vec<(String, String)> {
    let mut cells = Vec::new();
    for (key, value) in run.as_object().into_iter().flatten() {
        match value.as_object() {
            Some(parts) => {
                cells.extend(parts.iter().map(|(part, value)| (format!("{key}.{part}"), cell(value))));
            }
            None => cells.push((key.clone(), cell(value))),
        }
    }
    cells
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
        let run = json!({"model": "nano", "step": {"p50": 1.5, "p99": 2}});
        let cells: Vec<(String, String)> = [("model", "nano"), ("step.p50", "1.5"), ("step.p99", "2")]
            .map(|(a, b)| (a.into(), b.into()))
            .into();
        assert_eq!(super::cells(&run), cells);
        assert_eq!(cell(&json!("2 threads, \"512\"")), "\"2 threads, \"\"512\"\"\"");
    }
}
