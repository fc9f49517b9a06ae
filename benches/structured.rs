//! What a structure costs: tokens a second of rows under a JSON schema, beside free ones, by turns in one run.
//!
//! `cargo bench --bench structured -- --rows 256`. Once with nano on the processor, and once with a device that only
//! pretends, whose steps take a time that is given: `--step-ms 10`.

use engine::constraint::Constraint;
use engine::cpu::CpuDevice;
use engine::models::{LoadFormat, Model};
use engine::pretend::PretendDevice;
use engine::request::{Event, Request, SamplingParams};
use engine::{Engine, EngineConfig};
use jobs::prompt::tokenizer::Tokenizer;
use jobs::structured::StructuredOutputs;
use jobs::structured::constraint::Structure;
use jobs::structured::vocabulary::Vocabulary;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NANO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nano");

/// nano's end token.
const END: u32 = 2;

const SCHEMA: &str = r#"{"type": "object", "additionalProperties": false,
    "properties": {
        "order_number": {"type": ["string", "null"], "maxLength": 12},
        "topic": {"enum": ["delivery", "billing", "refund", "quality", "account", "website", "service", "stock"]},
        "sentiment": {"enum": ["positive", "neutral", "negative"]},
        "amount": {"type": ["integer", "null"], "minimum": 0, "maximum": 99999},
        "urgent": {"type": "boolean"}},
    "required": ["order_number", "topic", "sentiment", "amount", "urgent"]}"#;

/// Rounds of each kind; the median counts.
const ROUNDS: usize = 5;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
    let number = |flag: &str, default: u64| after(flag).map_or(Ok(default), |n| n.parse());
    let (rows, step) = (number("--rows", 256)?, Duration::from_millis(number("--step-ms", 10)?));
    let model = Model::open(Path::new(NANO), LoadFormat::Auto)?;
    let tokenizer = Arc::new(Tokenizer::open(Path::new(NANO))?);
    let begun = Instant::now();
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, model.config.vocab, &[END])?);
    let made = begun.elapsed();
    let outputs = StructuredOutputs::Json(serde_json::from_str(SCHEMA)?);
    let structure = Structure::compile(&outputs, &vocabulary)?;
    println!("vocabulary of {}: {made:.0?}; grammar: {:.0?}\n", model.config.vocab, begun.elapsed() - made);
    let prompts: Vec<Vec<u32>> = (0..rows)
        .map(|i| {
            tokenizer.encode_plain(&format!("Order A-{i:05}: the kettle is late, I paid {i}.90. What now?"))
        })
        .collect::<Result<_, _>>()?;
    println!(
        "| device | free, tokens/s | under a schema, tokens/s | share (limit: 95 %) | processor time a token, of each | \
         tokens a row |"
    );
    println!("|---|---:|---:|---:|---:|---:|");
    let config = EngineConfig { force_tokens: true, ..EngineConfig::default() };
    let cpu = Box::new(CpuDevice::new(None)?);
    compare("nano on the processor", &mut Engine::new(&model, cpu, &config)?, &prompts, &structure)?;
    let pretended = Box::new(PretendDevice::new(|word| word % 8192).that_takes(step, Duration::ZERO));
    let name = format!("one that pretends, {} ms a step", step.as_millis());
    compare(&name, &mut Engine::new(&model, pretended, &config)?, &prompts, &structure)
}

/// Runs both kinds by turns and prints the medians of their rates.
fn compare(
    name: &str,
    engine: &mut Engine,
    prompts: &[Vec<u32>],
    structure: &Structure,
) -> Result<(), Box<dyn Error>> {
    let constraint: Arc<dyn Constraint> = Arc::new(structure.clone());
    // Each free row is as long as the other of its prompt, so that as many run in the last steps.
    let most = vec![200; prompts.len()];
    let (lengths, _) = run(engine, prompts, Some(&constraint), &most)?;
    let tokens: u32 = lengths.iter().sum();
    let (mut free, mut held, mut costs) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new()]);
    let cost = |begun: f64| (processor_time() - begun) * 1e6 / f64::from(tokens);
    for _ in 0..ROUNDS {
        let begun = processor_time();
        let (generated, time) = run(engine, prompts, None, &lengths)?;
        costs[0].push(cost(begun));
        assert_eq!(generated, lengths);
        free.push(f64::from(tokens) / time.as_secs_f64());
        let begun = processor_time();
        let (generated, time) = run(engine, prompts, Some(&constraint), &most)?;
        assert_eq!(generated, lengths);
        held.push(f64::from(tokens) / time.as_secs_f64());
        costs[1].push(cost(begun));
    }
    let (free, held) = (median(&mut free), median(&mut held));
    let [of_free, of_held] = costs.each_mut().map(|costs| median(costs));
    let (share, mean) = (100.0 * held / free, f64::from(tokens) / prompts.len() as f64);
    println!(
        "| {name} | {free:.0} | {held:.0} | {share:.1} % | {of_free:.0} and {of_held:.0} µs | {mean:.0} |"
    );
    Ok(())
}

/// Processor time of this process so far, in seconds; 0 where there is no `/proc`.
fn processor_time() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // After the name; user and system time are fields 14 and 15, in hundredths of a second.
    let fields = stat.rsplit(") ").next().unwrap_or_default().split(' ').skip(11).take(2);
    fields.map(|ticks| ticks.parse().unwrap_or(0.0)).sum::<f64>() / 100.0
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    rates[rates.len() / 2]
}

/// Answers all prompts with up to so many tokens, and says how many each had and how long it took.
fn run(
    engine: &mut Engine,
    prompts: &[Vec<u32>],
    constraint: Option<&Arc<dyn Constraint>>,
    most: &[u32],
) -> Result<(Vec<u32>, Duration), Box<dyn Error>> {
    let begun = Instant::now();
    for ((id, prompt), &max_tokens) in (0..).zip(prompts).zip(most) {
        let params = SamplingParams {
            max_tokens,
            stop_token_ids: constraint.map_or(Vec::new(), |_| vec![END]),
            key: id,
            ..SamplingParams::default()
        };
        engine
            .add(Request { constraint: constraint.cloned(), ..Request::new(id, prompt.clone(), params) })?;
    }
    let mut tokens = vec![0; prompts.len()];
    while !engine.is_idle() {
        for event in engine.step()? {
            match event {
                Event::Token { id, .. } => tokens[id as usize] += 1,
                Event::DeadEnd { why, .. } => return Err(why.to_string().into()),
                _ => {}
            }
        }
    }
    Ok((tokens, begun.elapsed()))
}
