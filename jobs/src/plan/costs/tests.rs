use super::*;
use crate::journal::costs::{Energy, StartFigures};

fn left(positions: f64, generated: Bounds) -> Left {
    let positions = exactly(positions);
    Left { requests: 100.0, positions, prompt_tokens: 10.0, generated, longest: 20.0, at_once: 10.0 }
}

fn exactly(tokens: f64) -> Bounds {
    Bounds::exactly(tokens)
}

#[test]
fn steps_are_as_many_as_rows_or_tokens_ask_for() {
    // 100 requests of 10 tokens each, 10 at once: 100 steps of 20 tokens.
    let steps = left(1000.0, exactly(1000.0)).steps(1000.0, 1000.0, 64.0);
    assert_eq!((steps.steps, steps.tokens, steps.load.tokens), (100.0, 2000.0, 20.0));
    assert_eq!((steps.load.seqs, steps.load.attended), (10.0, (5000.0 + 15_000.0) / 100.0));
    // No more than 16 tokens fit in a step.
    assert_eq!(left(1000.0, exactly(1000.0)).steps(1000.0, 1000.0, 16.0).steps, 125.0);
    // Nothing is generated: 1,000 positions in steps of 64.
    assert_eq!(left(1000.0, exactly(0.0)).steps(1000.0, 0.0, 64.0).steps, 16.0);
    let nothing = Left::default().steps(0.0, 0.0, 64.0);
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
    let tokens = (exactly(3e6), generated);
    let costs = PlannedCosts::new(seconds, "it".into(), (None, Some(&taken)), &prices, tokens);
    let joules = Bounds { least: 180_000.0, expected: Some(360_000.0), most: 720_000.0 };
    assert_eq!((costs.left.joules, costs.energy.as_str()), (Some(joules), "RAPL"));
    assert_eq!(costs.left.money, Some(Bounds { least: 1.0, expected: Some(2.0), most: 4.0 }));
    assert_eq!(costs.elsewhere, Some(Bounds { least: 7.0, expected: None, most: 11.0 }));
    assert_eq!(costs.money_line(), "1.00 to 4.00, about 2.00; all tokens elsewhere 7.00 to 11.00");
    // With half an hour and 40 kJ that were taken before, both are said.
    let so_far = SoFar { seconds: 1800.0, joules: Some(40_000.0) };
    let begun = PlannedCosts::new(seconds, "it".into(), (Some(so_far), Some(&taken)), &prices, tokens);
    let whole = begun.whole.clone().unwrap_or_default();
    assert_eq!(whole.seconds, Bounds { least: 3600.0, expected: Some(5400.0), most: 9000.0 });
    assert_eq!(whole.joules, Some(Bounds { least: 220_000.0, expected: Some(400_000.0), most: 760_000.0 }));
    assert_eq!(
        begun.money_line(),
        "1.00 to 4.00, about 2.00 for the rows that are left; 2.00 to 5.00, about 3.00 for the whole job; all tokens \
         elsewhere 7.00 to 11.00"
    );
    // A sample's error is in what its tokens cost elsewhere.
    let sampled = (Bounds { least: 2e6, expected: Some(3e6), most: 4e6 }, exactly(1e6));
    let sampled = PlannedCosts::new(seconds, "it".into(), (None, None), &prices, sampled);
    assert_eq!(sampled.elsewhere, Some(Bounds { least: 6.0, expected: Some(7.0), most: 8.0 }));
    let free = PlannedCosts::new(seconds, "it".into(), (None, None), &PriceOptions::default(), tokens);
    assert_eq!((free.left.joules, free.money_line()), (None, "no price was given (--price-per-hour)".into()));
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
            rates_of: Some(7),
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
        bound: Some((2.0, 7)),
        beside: 1.0,
        watts: Some(1.0),
        energy: "RAPL".into(),
    };
    assert_eq!(taken, Some(wanted));
    let other = |mut start: Start| {
        start.figures.iter_mut().for_each(|figures| figures.rates_of = Some(8));
        start
    };
    let other = Taken::of(&[start(Some(1)), other(start(Some(1)))]);
    assert_eq!(other.and_then(|taken| taken.bound), None);
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

#[test]
fn a_pace_holds_for_steps_that_take_time_by_themselves_and_for_each_token() {
    // 10 steps of 10 tokens took 0.1 s each; what is left is 100 steps of 20 tokens, and 20 at the end.
    let taken =
        Taken { steps: 10.0, tokens: 100.0, seconds: 1.0, bound: Some((0.25, 7)), ..Taken::default() };
    let left = left(1000.0, exactly(1000.0));
    let no_bound = None::<fn(StepLoad) -> f64>;
    let pace = left.at_pace(&taken, 64.0, no_bound);
    assert_eq!((pace.least, pace.most), (10.0, 20.0));
    let between = pace.expected.unwrap_or(0.0);
    assert!((between - 200.0_f64.sqrt()).abs() < 1e-9, "{pace:?}");
    // With a share of 0.25, a step that is bound by 0.04 s takes 0.16.
    let pace = left.at_pace(&taken, 64.0, Some(|_| 0.04));
    assert_eq!(pace.expected, Some(16.0));
    for of_token in [0.0, 0.002, 0.01] {
        let law = |tokens: f64| 0.1 - 10.0 * of_token + of_token * tokens;
        let took = 100.0 * law(20.0);
        assert!(pace.least <= took + 1e-9 && took <= pace.most + 1e-9, "{of_token}: {took}");
    }
    // Where steps hold less than those that were seen, it is the other way round, with the steps at the end.
    let full = Taken { tokens: 400.0, ..taken.clone() };
    let pace = left.at_pace(&full, 64.0, no_bound);
    assert_eq!((pace.least, pace.most), (5.0, 12.0));
    let nothing = Left::default().at_pace(&taken, 64.0, no_bound);
    assert_eq!((nothing.least, nothing.most), (0.0, 0.0));
}

#[test]
fn rates_give_the_least_with_all_of_them_and_the_most_with_the_shares_that_are_reached() {
    let rates = Rates {
        measured: 0,
        bytes_per_second: 1.0,
        flops_per_second: 1.0,
        fp8_flops_per_second: 1.0,
        prefill_share: 0.5,
        decode_share: 0.25,
    };
    // A hundredth of a second for each token.
    let bound = |load: StepLoad| load.tokens / 100.0;
    let generated = Bounds { least: 0.0, expected: None, most: 1000.0 };
    let seconds = left(1024.0, generated).at_rates(&rates, 64.0, bound);
    // At least 16 steps of 64; at most twice that, and 100 steps of 10 with 20 at the end four times.
    assert_eq!((seconds.least, seconds.most), (10.24, 20.48 + 48.0));
    let scored = Left { longest: 0.0, ..left(1024.0, Bounds::default()) };
    assert_eq!(scored.at_rates(&rates, 64.0, bound).most, 20.48);
    let nothing = Left::default().at_rates(&rates, 64.0, bound);
    assert_eq!((nothing.least, nothing.most), (0.0, 0.0));
}
