//! The sections of the page.

use crate::evaluate::figures::Figures;
use crate::receipt::money::amount;
use crate::report::Sources;
use crate::report::chart;
use crate::report::counts::Counts;
use crate::report::page::{Cell, Part, Section, Table, Text, Tile, duration, grouped};
use crate::report::times;
use serde_json::Value;

/// A confusion of more labels is no table that anyone reads.
const MATRIX: usize = 24;

/// The figures that are seen first.
pub fn tiles(sources: &Sources) -> Vec<Tile> {
    let rows = &sources.rows;
    let tile = |name, value: String, detail: String| Tile { name, value, detail };
    let errors = rows.error_rows();
    let share = if rows.rows > 0 { 100.0 * errors as f64 / rows.rows as f64 } else { 0.0 };
    let mut tiles = vec![
        tile("Rows", grouped(rows.rows), String::new()),
        tile("Errors", grouped(errors), format!("{share:.1} % of the rows")),
        tile("Tokens of prompts", grouped(rows.input_tokens.sum() as u64), String::new()),
    ];
    if let Some(generated) = &rows.generated_tokens {
        tiles.push(tile("Tokens generated", grouped(generated.sum() as u64), String::new()));
    }
    let Ok(Some(receipt)) = &sources.receipt else { return tiles };
    // What was spent is of the job, of which the output may be a part.
    let more = receipt["rows"].as_u64().filter(|&of_job| of_job > rows.rows);
    let whole = more.map(|of_job| format!("of all {} rows of the job", grouped(of_job)));
    let of_job = |detail: String| match &whole {
        Some(whole) if detail.is_empty() => whole.clone(),
        Some(whole) => format!("{whole}, {detail}"),
        None => detail,
    };
    if let Some(seconds) = receipt["active_seconds"].as_f64() {
        let starts = receipt["starts"].as_u64().unwrap_or(0);
        let starts = if starts == 1 { "in 1 start".into() } else { format!("in {starts} starts") };
        tiles.push(tile("Active time", duration(seconds), of_job(starts)));
        if let Some(rows) = receipt["rows"].as_f64().filter(|_| seconds > 0.0) {
            tiles.push(tile("Rate", format!("{:.1}", rows / seconds), "rows a second".into()));
        }
    }
    if let Some(joules) = receipt["energy"]["joules"].as_f64() {
        let watts = receipt["energy"]["watts"].as_f64();
        let watts = watts.map_or(String::new(), |watts| format!("{watts:.0} W on average"));
        tiles.push(tile("Energy", format!("{:.3} kWh", joules / 3.6e6), of_job(watts)));
    }
    if let Some(money) = receipt["money"]["job"].as_f64() {
        let rows = receipt["money"]["per_1000_rows"].as_f64();
        let rows = rows.map_or(String::new(), |rows| format!("{} for 1,000 rows", amount(rows)));
        tiles.push(tile("Money", amount(money), of_job(rows)));
    }
    tiles
}

/// All sections.
pub fn sections(sources: &Sources, figures: &[Figures], with_texts: bool) -> Vec<Section> {
    let mut sections =
        vec![receipt(sources), times::section(&sources.journal, sources.rows.rows), tokens(sources)];
    if !sources.rows.columns.is_empty() {
        sections.push(sources.rows.columns.section());
    }
    if !figures.is_empty() {
        sections.push(truths(figures));
    }
    sections.extend([errors(sources, with_texts), settings(sources)]);
    sections
}

/// Each figure of the receipt, by the names that the file has.
fn receipt(sources: &Sources) -> Section {
    let mut section = Section::new("receipt", "Receipt");
    let receipt = match &sources.receipt {
        Ok(Some(receipt)) => receipt,
        Err(problem) => {
            section.note(format!(
                "{problem}. None of its figures is on this page; the command of the job, run again, writes it anew."
            ));
            return section;
        }
        Ok(None) => {
            section.note(
            "There is no receipt: the job was published by an earlier version, or receipt.json of the folder beside its output \
             was not copied along. Running the job's command again writes one, if its journal is there.",
        );
            return section;
        }
    };
    let mut rows = Vec::new();
    flatten("", receipt, &mut rows);
    section.table(Table::new("receipt-figures", "All of receipt.json", &["figure", "value"]).pairs(rows));
    section
}

fn flatten(name: &str, value: &Value, rows: &mut Vec<Vec<Cell>>) {
    let inner = |key: &str| if name.is_empty() { key.to_string() } else { format!("{name}.{key}") };
    match value {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| flatten(&inner(key), value, rows)),
        Value::Array(items) if items.iter().any(|item| item.is_object() || item.is_array()) => {
            items.iter().enumerate().for_each(|(i, item)| flatten(&inner(&i.to_string()), item, rows));
        }
        Value::Array(items) => {
            items.iter().for_each(|item| flatten(name, item, rows));
        }
        Value::String(text) => rows.push(vec![Cell::text(name), Cell::text(text)]),
        other => rows.push(vec![Cell::text(name), Cell::number(other)]),
    }
}

fn tokens(sources: &Sources) -> Section {
    let mut section = Section::new("tokens", "Tokens");
    for note in &sources.rows.notes {
        section.note(note);
    }
    let rows = &sources.rows;
    if rows.rows == 0 {
        section.note("The output has no rows.");
    }
    histogram(&mut section, "input_tokens", "Tokens of prompts", &rows.input_tokens);
    match &rows.generated_tokens {
        Some(counts) => histogram(&mut section, "generated_tokens", "Tokens generated", counts),
        None => section.note("Choices are scored, so that no tokens are generated."),
    }
    if !rows.finish_reasons.is_empty() {
        let all = rows.finish_reasons.values().sum();
        let reasons = rows.finish_reasons.iter();
        let reasons =
            reasons.map(|(reason, &n)| vec![Cell::text(reason), Cell::number(n), Cell::share(n, all)]);
        section.table(
            Table::new("finish_reasons", "How answers ended", &["finish_reason", "answers", "share"])
                .with(reasons),
        );
    }
    for (name, counts) in &rows.documents {
        histogram(&mut section, name, name, counts);
    }
    section
}

fn histogram(section: &mut Section, id: &str, title: &str, counts: &Counts) {
    section.parts.push(Part::Heading(Text::of(title)));
    let number = |n: Option<u64>| n.map_or_else(|| Cell::number("-"), Cell::number);
    let figures = [
        ("rows", Cell::number(counts.len())),
        ("sum", Cell::number(counts.sum())),
        ("mean", Cell::real(counts.mean(), 1)),
        ("least", number(counts.min())),
        ("p50", number(counts.percentile(50))),
        ("p90", number(counts.percentile(90))),
        ("p99", number(counts.percentile(99))),
        ("greatest", number(counts.max())),
    ];
    let figures = figures.map(|(name, cell)| vec![Cell::text(name), cell]);
    section.table(Table::new(format!("{id}-figures"), "", &["", "count"]).pairs(figures));
    let bins = counts.bins();
    section.parts.extend(chart::histogram(title, title, &bins).map(Part::Chart));
    let bins = bins.into_iter().map(|(from, to, n)| {
        let range = if from == to { from.to_string() } else { format!("{from} to {to}") };
        vec![Cell::text(range), Cell::number(n), Cell::share(n, counts.len())]
    });
    section.table(
        Table::new(format!("{id}-histogram"), format!("{title}, by row"), &["number", "rows", "share"])
            .with(bins)
            .folded(),
    );
}

/// Labels against the truth.
fn truths(figures: &[Figures]) -> Section {
    let mut section = Section::new("truth", "Truth");
    for f in figures {
        section.parts.push(Part::Heading(Text::of(format!("{} against {}", f.column, f.truth))));
        let id = |what: &str| format!("{what}-{}", f.column);
        let percent = |share: Option<f64>| Cell::real(share.map(|share| 100.0 * share), 2);
        let about = [
            ("rows with a truth", Cell::number(f.rows)),
            ("rows without", Cell::number(f.without_truth)),
            ("rows without a label", Cell::number(f.unlabelled)),
            ("right", Cell::number(f.right)),
            ("accuracy in percent", percent(f.accuracy)),
            ("macro F1", Cell::real(f.macro_f1, 4)),
            ("expected calibration error", Cell::real(f.expected_calibration_error, 4)),
        ];
        let about = about.map(|(name, cell)| vec![Cell::text(name), cell]);
        section.table(Table::new(id("truth"), "", &["", "figure"]).pairs(about));
        let classes = f.classes.iter().map(|class| {
            let of = |share| percent(share);
            vec![
                Cell::text(&class.label),
                Cell::number(class.support),
                of(class.precision),
                of(class.recall),
                Cell::real(class.f1, 3),
            ]
        });
        let head = ["label", "rows", "precision, %", "recall, %", "F1"];
        section.table(Table::new(id("classes"), "Labels", &head).with(classes));
        if f.classes.len() <= MATRIX {
            let pairs = f.confusion.iter().flat_map(|(truth, given)| {
                given.iter().map(move |(label, &n)| {
                    let label = if label.is_empty() { "(none)" } else { label };
                    vec![Cell::text(truth), Cell::text(label), Cell::number(n)]
                })
            });
            section.table(
                Table::new(id("confusion"), "Which label rows of a truth have", &["truth", "label", "rows"])
                    .with(pairs),
            );
        }
        let dots: Vec<(f64, f64, u64)> = f
            .calibration
            .iter()
            .filter_map(|bin| Some((bin.mean_probability?, bin.accuracy?, bin.rows)))
            .collect();
        let caption = "How often labels of a probability are right; on the line both are equal";
        section.parts.extend(chart::calibration(caption, &dots).map(Part::Chart));
        let bins = f.calibration.iter().map(|bin| {
            vec![
                Cell::text(format!("{:.3} to {:.3}", bin.from, bin.to)),
                Cell::number(bin.rows),
                Cell::real(bin.mean_probability, 4),
                Cell::real(bin.accuracy, 4),
            ]
        });
        let caption = "Calibration: how often labels of a probability are right";
        let head = ["probability", "rows", "mean probability", "share that is right"];
        section.table(Table::new(id("calibration"), caption, &head).with(bins).folded());
    }
    section
}

fn errors(sources: &Sources, with_texts: bool) -> Section {
    let mut section = Section::new("errors", "Errors");
    let errors = &sources.rows.errors;
    if errors.is_empty() {
        section.note("No row has an error.");
        return section;
    }
    let kinds = errors.iter().map(|(kind, errors)| {
        let mut rows: Vec<String> = errors.first.iter().map(|(row, _)| row.to_string()).collect();
        let more = errors.rows - rows.len() as u64;
        if more > 0 {
            rows.push(format!("and {more} more"));
        }
        vec![
            Cell::text(kind),
            Cell::number(errors.rows),
            Cell::share(errors.rows, sources.rows.rows),
            Cell::text(rows.join(", ")),
        ]
    });
    let head = ["kind", "rows", "share", "which, counted from 0"];
    section.table(Table::new("errors-kinds", "Errors by kind", &head).with(kinds));
    if !with_texts {
        section.note("Texts of errors may quote rows, and are here only with --with-texts.");
        return section;
    }
    let texts = errors.iter().flat_map(|(kind, errors)| {
        errors.first.iter().map(move |(row, text)| {
            vec![Cell::number(row), Cell::text(kind), Cell::text(text.as_deref().unwrap_or_default())]
        })
    });
    section.table(Table::new("errors-texts", "The first of each kind", &["row", "kind", "text"]).with(texts));
    section
}

fn settings(sources: &Sources) -> Section {
    let mut section = Section::new("settings", "Settings");
    match sources.identity() {
        None => section.note(
            "What the job was asked for is in its manifest, in the folder beside the output, which is not there or cannot be \
             read.",
        ),
        Some(identity) => {
            let fields = identity.fields().iter().map(|field| vec![Cell::text(&field.field), Cell::text(field.shown())]);
            section.table(Table::new("settings-fields", "What decided the answers", &["field", "value"]).pairs(fields));
        }
    }
    if let Ok(journal) = &sources.journal {
        let inputs = journal.inputs().0.iter().map(|input| {
            vec![Cell::text(input.path.to_string_lossy()), Cell::number(input.rows), Cell::number(input.size)]
        });
        section.table(Table::new("settings-inputs", "Inputs", &["file", "rows", "bytes"]).with(inputs));
    }
    if let Some(manifest) = &sources.manifest {
        let parts = manifest.parts.iter();
        let parts =
            parts.map(|part| vec![Cell::text(&part.name), Cell::number(part.rows), Cell::number(part.bytes)]);
        section.table(
            Table::new("settings-parts", "Files of the output", &["file", "rows", "bytes"]).with(parts),
        );
    }
    section
}
