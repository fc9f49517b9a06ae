//! What structures that are made to harm cost: the time to compile each or to refuse it, the time of its masks, and its memory.
//!
//! `cargo bench --bench hostile_structures`, with `-- --model FOLDER` for the tokens of another model than nano, and `--only TEXT` for
//! the cases whose names have that text. Each case has a process of its own.

#[path = "../tests/support/hostile_structures.rs"]
mod hostile_structures;

use engine::constraint::{Constraint, Matcher};
use engine::numbers::Numbers;
use jobs::prompt::tokenizer::Tokenizer;
use jobs::structured::constraint::Structure;
use jobs::structured::vocabulary::Vocabulary;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

const NANO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nano");

/// Answers that are walked at random, and their longest.
const WALKS: u64 = 4;
const TOKENS: usize = 200;

/// Limits: seconds to compile and of a mask, and MiB beyond what the process had.
const SECONDS: f64 = 1.0;
const MIB: u64 = 64;

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
    let model = after("--model").map_or(NANO, String::as_str);
    if let Some(number) = after("--case") {
        return measure(number.parse()?, Path::new(model));
    }
    let only = after("--only").map_or("", String::as_str);
    println!(
        "| structure | bytes | compiled or refused, ms | first mask, ms | worst mask, ms | MiB | |\n|---|---:|---:|---:|---:|---:|---|"
    );
    let mut beyond = 0;
    for (number, case) in
        hostile_structures::cases().iter().enumerate().filter(|(_, case)| case.name.contains(only))
    {
        let mut child = Command::new(std::env::current_exe()?);
        let ran = child.args(["--case", &number.to_string(), "--model", model]).output()?;
        let text = String::from_utf8_lossy(&ran.stdout).trim().to_string();
        if !ran.status.success() || text.contains("BEYOND") {
            beyond += 1;
        }
        let ended = if ran.status.success() {
            text
        } else {
            format!("{text} {}: {}", ran.status, String::from_utf8_lossy(&ran.stderr))
        };
        println!("| {} | {} | {ended} |", case.name, case.outputs.text().len());
    }
    println!("\n{beyond} beyond {SECONDS} s or {MIB} MiB");
    Ok(())
}

fn measure(number: usize, folder: &Path) -> Result<(), Box<dyn Error>> {
    let case = hostile_structures::cases().swap_remove(number);
    let tokenizer = Arc::new(Tokenizer::open(folder)?);
    let size = (0..).take_while(|id| tokenizer.written_form(*id).is_some()).count();
    let end = if folder == Path::new(NANO) { 2 } else { 0 };
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, size, &[end])?);
    let (before, begun) = (memory("VmRSS")?, Instant::now());
    std::fs::write("/proc/self/clear_refs", "5")?;
    let compiled = Structure::compile(&case.outputs, &vocabulary);
    let made = begun.elapsed();
    let (mut first, mut worst, mut said) = (Duration::ZERO, Duration::ZERO, String::new());
    match &compiled {
        Err(why) => {
            said = format!("refused: {}", why.chars().take(90).collect::<String>().replace(['|', '\n'], " "))
        }
        Ok(structure) => {
            for walk in 0..WALKS {
                let mut matcher = structure.matcher();
                match walk_at_random(matcher.as_mut(), &mut Numbers(walk + 1), size, end) {
                    Ok((begin, later)) => {
                        first = first.max(begin);
                        worst = worst.max(later);
                    }
                    Err(why) => said = format!("row error: {why}"),
                }
            }
        }
    }
    let expected = match (&compiled, case.refused) {
        (Ok(_), None) => "",
        (Err(why), Some(text)) if why.contains(text) => "",
        _ => " UNEXPECTED",
    };
    let mib = memory("VmHWM")?.saturating_sub(before) >> 10;
    let slow = [made, first, worst].iter().any(|time| time.as_secs_f64() > SECONDS);
    let beyond = if slow || mib > MIB { " BEYOND" } else { "" };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!("{:.0} | {:.1} | {:.1} | {mib} | {said}{expected}{beyond}", ms(made), ms(first), ms(worst));
    Ok(())
}

/// The time of the first mask, and of the one that took longest.
fn walk_at_random(
    matcher: &mut dyn Matcher,
    numbers: &mut Numbers,
    size: usize,
    end: u32,
) -> Result<(Duration, Duration), String> {
    let (mut first, mut worst) = (Duration::ZERO, Duration::ZERO);
    for at in 0..TOKENS {
        let (mut mask, begun) = (vec![0u32; size.div_ceil(32)], Instant::now());
        matcher.fill_mask(&mut mask)?;
        let took = begun.elapsed();
        if at == 0 {
            first = took
        } else {
            worst = worst.max(took)
        }
        let mut allowed: Vec<u32> =
            (0..size as u32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect();
        // An answer that goes on is the harder one.
        if allowed.len() > 1 {
            allowed.retain(|token| *token != end);
        }
        let token = allowed[numbers.below(allowed.len())];
        if token == end {
            break;
        }
        let begun = Instant::now();
        matcher.accept(token);
        worst = worst.max(begun.elapsed());
        if matcher.is_ended() {
            break;
        }
    }
    Ok((first, worst))
}

/// A line of `/proc/self/status`, in KiB.
fn memory(line: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let number = found.and_then(|text| text.split_whitespace().next());
    Ok(number.ok_or("no such line")?.parse()?)
}
