#![allow(clippy::unwrap_used)]
use super::*;

fn start(rows: u64, figures: Option<StartFigures>) -> Start {
    Start { began: 1_000_000_000, active_ms: 1500, rows, figures, ..Start::default() }
}

#[test]
fn a_receipt_that_was_edited_or_is_another_jobs_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let manifest = Manifest {
        version: String::new(),
        identity: Default::default(),
        identity_blake3: "one".into(),
        inputs_blake3: Some("two".into()),
        rows: 0,
        aborted: 0,
        unreadable: 0,
        nulls: vec![],
        parts: vec![],
    };
    assert!(problems(folder.path(), &manifest).is_empty());
    let receipt =
        Receipt { identity_blake3: "one".into(), inputs_blake3: "two".into(), ..Receipt::default() };
    let text = receipt.to_json();
    write(folder.path(), &text).unwrap();
    assert_eq!(problems(folder.path(), &manifest), Vec::<String>::new());
    assert!(serde_json::from_str::<serde_json::Value>(&text).unwrap()[SEAL].is_string());
    let cheaper = text.replace("\"rows\": 0", "\"rows\": 1");
    assert_ne!(cheaper, text);
    write(folder.path(), &cheaper).unwrap();
    assert!(problems(folder.path(), &manifest)[0].contains("is not as it was written"));
    write(folder.path(), "{}").unwrap();
    assert!(problems(folder.path(), &manifest)[0].contains("is not as it was written"));
    write(folder.path(), &Receipt { inputs_blake3: "three".into(), ..receipt }.to_json()).unwrap();
    assert!(problems(folder.path(), &manifest)[0].contains("another job"));
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn what_the_journal_does_not_know_is_said() {
    let known = start(3, Some(StartFigures::default()));
    let endings = Endings::default();
    assert!(notes(std::slice::from_ref(&known), 3, 3, &endings).is_empty());
    let lost = notes(std::slice::from_ref(&known), 5, 5, &endings);
    assert!(
        lost.len() == 1 && lost[0].contains("lack those of 2 rows: the journal was repaired"),
        "{lost:?}"
    );
    let before = notes(&[start(2, None), known.clone()], 5, 5, &endings);
    assert!(before.len() == 1 && before[0].contains("2 rows, which an earlier version"), "{before:?}");
    // A row that is given up is finished by no start.
    let crashed = [(RowErrorKind::CrashedDevice.text().to_string(), 2)];
    let endings = Endings { errors: crashed.into(), ..Endings::default() };
    assert!(notes(&[known], 5, 5, &endings).is_empty());
    assert_eq!(notes(&[], 2, 2, &endings), ["every row is an error"]);
    assert_eq!(notes(&[], 0, 0, &Endings::default()), ["there are no rows, so that nothing was spent"]);
}

/// What a start has done: tokens and microseconds of steps with prompts and of others, and its peaks.
fn figures(prefill: (u64, u64), decode: (u64, u64), pages: u64, memory: u64) -> StartFigures {
    StartFigures {
        machine: "a machine".into(),
        device: "cpu: it".into(),
        prefill_tokens: prefill.0,
        prefill_us: prefill.1,
        decode_tokens: decode.0,
        decode_us: decode.1,
        bound_us: Some([prefill.1 / 4, decode.1 / 2]),
        cached_tokens: 7,
        preemptions: 1,
        kv_pages: 10,
        peak_kv_pages: pages,
        peak_memory: Some(memory),
        ..StartFigures::default()
    }
}

#[test]
fn figures_of_starts_are_summed_and_divided_as_by_hand() {
    let first =
        StartFigures { shared_input_tokens: Some(17), ..figures((1000, 2_000_000), (90, 1_500_000), 4, 100) };
    let second = figures((500, 1_000_000), (60, 500_000), 9, 50);
    let starts = [
        Start { shared_rows: 2, shared_tokens: 20, ..start(3, Some(first)) },
        Start { active_ms: 4500, began: 1_000_000_100, ..start(5, Some(second)) },
    ];
    let totals = Totals { rows: 8, input_tokens: 800, generated_tokens: 200 };
    let endings = Endings { errors: [("null prompt".to_string(), 3)].into(), ..Endings::default() };
    let prices = Prices { per_hour: Some(3600.0), elsewhere: Some([1e6, 2e6]) };
    let receipt = Receipt::of_figures(totals, endings, &starts, prices, 8);
    let wanted = Receipt {
        version: env!("CARGO_PKG_VERSION"),
        machine: vec!["a machine".into()],
        device: vec!["cpu: it".into()],
        began: Some("2001-09-09T01:46:40Z".into()),
        ended: Some("2001-09-09T01:48:24Z".into()),
        starts: 2,
        active_seconds: 6.0,
        rows: 8,
        output_rows: 8,
        errors: [("null prompt".to_string(), 3)].into(),
        input_tokens: 800,
        generated_tokens: 200,
        shared_rows: 2,
        shared_input_tokens: Some(17),
        shared_generated_tokens: Some(3),
        prefill_tokens: 1500,
        decode_tokens: 150,
        cached_tokens: 14,
        preemptions: 2,
        prefill_seconds: 3.0,
        decode_seconds: 2.0,
        prefill_tokens_per_second: 500.0,
        decode_tokens_per_second: 75.0,
        prefill_roofline_share: Some(0.25),
        decode_roofline_share: Some(0.5),
        peak_memory_bytes: Some(100),
        peak_kv_share: 0.9,
        energy: EnergyUse {
            source: "not measured: an earlier version answered some rows".into(),
            ..EnergyUse::default()
        },
        // 6 seconds at 1 a second, for 5 rows and 1,000 tokens; elsewhere 800 at 1 and 200 at 2.
        money: Money {
            prices,
            job: Some(6.0),
            per_1000_rows: Some(1200.0),
            per_million_tokens: Some(6000.0),
            elsewhere: Some(1200.0),
            times_as_much_elsewhere: Some(200.0),
            notes: vec![],
        },
        ..Receipt::default()
    };
    assert_eq!(receipt, wanted);
    let lines = receipt.lines();
    assert!(lines.contains("saved by equal prompts 17 of prompts and 3 of answers"), "{lines}");
    // Of a start that does not know them apart, neither is said.
    let old = Start { shared_tokens: 20, ..start(3, Some(StartFigures::default())) };
    assert_eq!(shared_tokens(&[starts[0].clone(), old]), None);
    assert!(
        lines
            .contains("500.0 tokens/s in steps with prompts (25 % of the roofline), 75.0 in others (50 % of"),
        "{lines}"
    );
}

#[test]
fn a_receipt_of_more_rows_than_the_output_has_says_so() {
    let known = start(5, Some(StartFigures::default()));
    let said = notes(&[known], 5, 3, &Endings::default());
    assert_eq!(
        said,
        ["all figures are of the 5 rows that the journal has; the output has the first 3 of them (--limit)"]
    );
}

#[test]
fn sums_that_overflow_are_said_to_be_wrong() {
    let most = figures((u64::MAX, u64::MAX), (u64::MAX, u64::MAX), 4, u64::MAX);
    let start = Start {
        active_ms: u64::MAX,
        rows: u64::MAX,
        shared_rows: u64::MAX,
        shared_tokens: u64::MAX,
        figures: Some(most),
        ..Start::default()
    };
    let totals = Totals { rows: u64::MAX, input_tokens: u64::MAX, generated_tokens: u64::MAX };
    let prices = Prices { per_hour: Some(1e12), elsewhere: Some([1e12, 1e12]) };
    let receipt = Receipt::of_figures(totals, Endings::default(), &[start.clone(), start], prices, 0);
    assert!(receipt.notes[0].contains("too great to be added up"), "{:?}", receipt.notes);
    assert!(receipt.money.job.is_some_and(f64::is_finite), "{:?}", receipt.money);
    assert!(receipt.lines().contains("too great to be added up"));
}

#[test]
fn a_receipt_has_at_most_eight_lines() {
    let notes = vec!["one".to_string(); 5];
    let receipt =
        Receipt { prefill_tokens: 1, peak_memory_bytes: Some(3 << 20), notes, ..Receipt::default() };
    let lines = receipt.lines();
    assert!(lines.lines().count() <= 8 && lines.contains("memory: 3 MiB at most"), "{lines}");
    assert!(lines.ends_with("note: one; 2 notes more in receipt.json"), "{lines}");
}

#[test]
fn times_are_shown_whatever_a_clock_has_said() {
    assert_eq!(utc(1_000_000_000, 1500), "2001-09-09T01:46:41Z");
    assert_eq!(utc(u64::MAX, u64::MAX), "9999-12-31T23:59:59Z");
}

#[test]
fn steps_that_pass_the_rates_have_no_share_of_the_roofline() {
    let share = |bound_us: u64| {
        let figures = StartFigures {
            bound_us: Some([bound_us, 500_000]),
            ..figures((1000, 1_000_000), (90, 1_000_000), 4, 100)
        };
        let totals = Totals { rows: 3, ..Totals::default() };
        let endings = Endings::default();
        Receipt::of_figures(totals, endings, &[start(3, Some(figures))], Prices::default(), 3)
    };
    let little = share(1_050_000);
    assert_eq!((little.prefill_roofline_share, little.notes.len()), (Some(1.0), 0));
    let passed = share(2_000_000);
    assert_eq!((passed.prefill_roofline_share, passed.decode_roofline_share), (None, Some(0.5)));
    let lines = passed.lines();
    assert!(lines.contains("--measure-rates") && !lines.contains("200 %"), "{lines}");
}
