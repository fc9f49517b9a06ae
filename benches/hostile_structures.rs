//! What structures that are made to harm cost: the processor time to compile each or to refuse it, that of its masks, and its memory.
//!
//! `cargo bench --bench hostile_structures`, with `-- --model FOLDER` for the tokens of another model than nano, and `--only TEXT` for
//! the cases whose names have that text. Each case has a process of its own.

#[path = "../tests/support/hostile_structures.rs"]
mod hostile_structures;

use engine::constraint::Constraint;
use engine::numbers::Numbers;
use hostile_structures::walk_at_random;
use jobs::prompt::tokenizer::Tokenizer;
use jobs::structured::constraint::Structure;
use jobs::structured::vocabulary::Vocabulary;
use std::error::Error;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

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
        "| structure | bytes | compiled or refused, ms (1000) | first mask, ms (1000) | worst step, ms (1000) | MiB (64) | MiB with \
         {WALKS} answers | |\n|---|---:|---:|---:|---:|---:|---:|---|"
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
        println!("| {} | {} | {ended} |", case.name.replace('|', "\\|"), case.outputs.text().len());
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
    let (before, begun) = (memory("VmRSS")?, processor_time());
    std::fs::write("/proc/self/clear_refs", "5")?;
    let compiled = Structure::compile(&case.outputs, &vocabulary);
    let made = processor_time() - begun;
    let mib = memory("VmHWM")?.saturating_sub(before) >> 10;
    let (mut first, mut worst, mut said, mut as_said) = (Duration::ZERO, Duration::ZERO, String::new(), true);
    match &compiled {
        Err(why) => {
            said = format!("refused: {}", why.chars().take(90).collect::<String>().replace(['|', '\n'], " "))
        }
        Ok(structure) => {
            for walk in 0..WALKS {
                let mut matcher = structure.matcher();
                let numbers = &mut Numbers(walk + 1);
                match walk_at_random(matcher.as_mut(), numbers, (size, end), TOKENS, processor_time) {
                    Ok(walked) => {
                        first = first.max(walked.first);
                        worst = worst.max(walked.worst);
                    }
                    Err(why) => {
                        said = format!("row error: {why}");
                        as_said &= case.row_error.is_some_and(|text| why.contains(text));
                    }
                }
            }
        }
    }
    as_said &= match (&compiled, case.refused) {
        (Ok(_), None) => true,
        (Err(why), Some(text)) => why.contains(text),
        _ => false,
    };
    let expected = if as_said { "" } else { " UNEXPECTED" };
    let walked = memory("VmHWM")?.saturating_sub(before) >> 10;
    let slow = [made, first, worst].iter().any(|time| time.as_secs_f64() > SECONDS);
    let beyond = if slow || mib > MIB { " BEYOND" } else { "" };
    let ms = |time: Duration| time.as_secs_f64() * 1e3;
    println!(
        "{:.0} | {:.1} | {:.1} | {mib} | {walked} | {said}{expected}{beyond}",
        ms(made),
        ms(first),
        ms(worst)
    );
    Ok(())
}

/// The processor time of all threads of the process, which other processes do not change.
fn processor_time() -> Duration {
    // SAFETY: getrusage writes a whole rusage, which is numbers alone, into the one it is given.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut used);
        used
    };
    let of = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    of(used.ru_utime) + of(used.ru_stime)
}

/// A line of `/proc/self/status`, in KiB.
fn memory(line: &str) -> Result<u64, Box<dyn Error>> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let found = status.lines().find_map(|text| text.strip_prefix(line)?.strip_prefix(':'));
    let number = found.and_then(|text| text.split_whitespace().next());
    Ok(number.ok_or("no such line")?.parse()?)
}
