use super::*;
use crate::journal::costs::{Energy, StartFigures};

fn left(positions: f64, generated: Bounds) -> Left {
    Left { requests: 100.0, positions, prompt_tokens: 10.0, generated, longest: 20.0, at_once: 10.0 }
}

fn exactly(tokens: f64) -> Bounds {
    Bounds { least: tokens, expected: Some(tokens), most: tokens }
}

#[test]
fn steps_are_as_many_as_rows_or_tokens_ask_for() {
    // 100 requests of 10 tokens each, 10 at once: 100 steps of 20 tokens.
    let steps = left(1000.0, exactly(1000.0)).steps(1000.0, 64.0);
    assert_eq!((steps.steps, steps.tokens, steps.load.tokens), (100.0, 2000.0, 20.0));
    assert_eq!((steps.load.seqs, steps.load.attended), (10.0, (5000.0 + 15_000.0) / 100.0));
    // No more than 16 tokens fit in a step.
    assert_eq!(left(1000.0, exactly(1000.0)).steps(1000.0, 16.0).steps, 125.0);
    // Nothing is generated: 1,000 positions in steps of 64.
    assert_eq!(left(1000.0, exactly(0.0)).steps(0.0, 64.0).steps, 16.0);
    let nothing = Left::default().steps(0.0, 64.0);
    assert_eq!((nothing.steps, nothing.load.tokens), (0.0, 0.0));
}

#[test]
fn energy_and_money_are_as_by_hand() {
    let seconds = Bounds { least: 1800.0, expected: Some(3600.0), most: 7200.0 };
    let prices = PriceOptions {
        price_per_hour: Some(2.0),
        compare_price: Some(crate::options::prices::ComparePrice { input: 1.0, output: 4.0 }),
    };
    let taken = Taken { watts: Some(100.0), energy: "RAPL".into(), ..Taken::default() };
    let generated = Bounds { least: 1e6, expected: None, most: 2e6 };
    let costs = PlannedCosts::new(seconds, "it".into(), Some(&taken), &prices, (3e6, generated));
    let joules = Bounds { least: 180_000.0, expected: Some(360_000.0), most: 720_000.0 };
    assert_eq!((costs.joules, costs.energy.as_str()), (Some(joules), "RAPL"));
    assert_eq!(costs.money, Some(Bounds { least: 1.0, expected: Some(2.0), most: 4.0 }));
    assert_eq!(costs.elsewhere, Some(Bounds { least: 7.0, expected: None, most: 11.0 }));
    assert_eq!(costs.money_line(), "1.00 to 4.00, about 2.00; all tokens elsewhere 7.00 to 11.00");
    let free = PlannedCosts::new(seconds, "it".into(), None, &PriceOptions::default(), (3e6, generated));
    assert_eq!((free.joules, free.money_line()), (None, "no price was given (--price-per-hour)".into()));
    assert!(free.energy.contains("--pilot"), "{}", free.energy);
}

#[test]
fn what_starts_have_taken_is_summed() {
    let start = |energy: Option<u64>| {
        let of = |microjoules| Energy { microjoules, source: "RAPL".into(), reading_us: 0 };
        let figures = StartFigures {
            steps: 10,
            prefill_us: 1_000_000,
            decode_us: 3_000_000,
            prefill_tokens: 100,
            decode_tokens: 60,
            bound_us: Some([500_000, 500_000]),
            no_energy: energy.is_none().then(|| "no counter".into()),
            energy: energy.map(of),
            ..StartFigures::default()
        };
        Start { active_ms: 5000, figures: Some(figures), ..Start::default() }
    };
    let taken = Taken::of(&[start(Some(1_000_000)), start(Some(9_000_000)), Start::default()]);
    let wanted = Taken {
        steps: 20.0,
        tokens: 320.0,
        seconds: 8.0,
        bound: Some(2.0),
        beside: 1.0,
        watts: Some(1.0),
        energy: "RAPL".into(),
    };
    assert_eq!(taken, Some(wanted));
    let part = Taken::of(&[start(Some(1)), start(None)]).map(|taken| (taken.watts, taken.energy));
    assert_eq!(part, Some((None, "not measured: no counter".into())));
    assert_eq!(Taken::of(&[Start::default()]), None);
}

#[test]
fn an_estimate_without_an_error_says_nothing_of_the_bounds() {
    let bounds = Bounds::of(Estimate { value: 50.0, error: Some(10.0) }, 55.0);
    assert_eq!(bounds, Bounds { least: 40.0, expected: Some(50.0), most: 55.0 });
    let bounds = Bounds::of(Estimate { value: 50.0, error: None }, 99.0);
    assert_eq!(bounds, Bounds { least: 0.0, expected: Some(50.0), most: 99.0 });
}
