//! What documents cost: tokens a second of documents that are cut into chunks and merged, beside the same prompts of chunks as
//! plain rows, by turns in one run.
//!
//! `cargo bench --bench documents -- --documents 40`. On a device that only pretends, whose steps take a time that is given,
//! `--step-us 2000`, and more for each token, `--token-us 20`: what it stands idle is the host's doing.

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use engine::pretend::{PretendDevice, Work};
use jobs::cli::args::Command;
use jobs::cli::parse::parse;
use jobs::run::run_on;
use jobs::store::location::state_dir_beside;
use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// The model whose tokenizer and limits are used; its weights never are.
const NANO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/nano");

const MAP: &str = "Summarise this customer message in one line.\n\n";
const REDUCE: &str = "Summarise these notes in one line.\n\n{% for note in notes %}{{ note }}\n{% endfor %}";

/// Rounds of each kind; the median counts.
const ROUNDS: usize = 3;

/// Letters without an end, so that each answer has as many tokens as it may.
fn token_of(word: u32) -> u32 {
    64 + word % 900
}

/// What a job did.
struct Took {
    tokens: f64,
    seconds: f64,
    /// The share of it in which the device had work.
    busy: f64,
}

impl Took {
    fn rate(&self) -> f64 {
        self.tokens / self.seconds
    }
}

struct Bench {
    home: tempfile::TempDir,
    step: Duration,
    token: Duration,
}

impl Bench {
    fn run(&self, input: &str, output: &str, flags: &[&str]) -> Result<Took, Box<dyn Error>> {
        let [input, output] = [input, output].map(|name| self.home.path().join(name).display().to_string());
        let mut all = vec!["gristmill", "run", "--fresh", "--model", NANO, "-i", &input, "-o", &output];
        all.extend(["--max-tokens", "60", "--temperature", "1", "--max-num-seqs", "128"]);
        all.extend(["--max-num-batched-tokens", "2048"]);
        all.extend(flags);
        let Command::Run(args) = parse(all.into_iter().map(Into::into))?.command else {
            return Err("not a run".into());
        };
        let work = Arc::new(Work::default());
        let device = PretendDevice::new(token_of).of_memory(8 << 30).that_takes(self.step, self.token);
        let device = device.counting(work.clone());
        run_on(args.job_options()?, |_| Ok(Box::new(device)))?;
        let receipt = std::fs::read(state_dir_beside(Path::new(&output)).join("receipt.json"))?;
        let receipt: serde_json::Value = serde_json::from_slice(&receipt)?;
        let number = |key: &str| receipt[key].as_f64().ok_or(format!("no {key}"));
        let (tokens, seconds) =
            (number("input_tokens")? + number("generated_tokens")?, number("active_seconds")?);
        Ok(Took { tokens, seconds, busy: work.busy.load(Ordering::Relaxed) as f64 / 1e6 / seconds })
    }

    fn write(&self, name: &str, texts: Vec<String>) -> Result<(), Box<dyn Error>> {
        let texts: ArrayRef = Arc::new(StringArray::from(texts));
        let batch = RecordBatch::try_from_iter([("text", texts)])?;
        let file = std::fs::File::create(self.home.path().join(name))?;
        let mut writer = parquet::arrow::ArrowWriter::try_new(file, batch.schema(), None)?;
        writer.write(&batch)?;
        writer.close()?;
        Ok(())
    }

    /// The chunks of all documents of an output, as texts.
    fn chunks(&self, name: &str) -> Result<Vec<String>, Box<dyn Error>> {
        let file = std::fs::File::open(self.home.path().join(name))?;
        let mut chunks = Vec::new();
        for batch in parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder::try_new(file)?.build()? {
            let batch = batch?;
            let column = |name: &str| batch.column_by_name(name).ok_or(format!("no {name}"));
            let texts = column("text")?.as_string::<i32>();
            let lists = column("chunks")?.as_list::<i32>();
            for row in 0..batch.num_rows() {
                let list = lists.value(row);
                let [starts, ends] =
                    [0, 1].map(|i| list.as_struct().column(i).as_primitive::<Int64Type>().clone());
                let text = |i| texts.value(row)[starts.value(i) as usize..ends.value(i) as usize].to_string();
                chunks.extend((0..list.len()).map(text));
            }
        }
        Ok(chunks)
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    let args: Vec<String> = std::env::args().collect();
    let after = |flag: &str| args.iter().position(|a| a == flag).and_then(|i| args.get(i + 1));
    let number = |flag: &str, default: u64| after(flag).map_or(Ok(default), |n| n.parse());
    let micros = |flag: &str, default| number(flag, default).map(Duration::from_micros);
    let (count, messages) = (number("--documents", 40)?, number("--messages", 800)?);
    let home = tempfile::tempdir()?;
    let bench = Bench { home, step: micros("--step-us", 2000)?, token: micros("--token-us", 20)? };
    let message = |i: u64, m: u64| {
        let order = 7 * i + 13 * m;
        format!(
            "My parcel {order} has not arrived, and nobody answers the phone. Please refund order A-{order:05}.\n\n"
        )
    };
    // Of all lengths up to the longest.
    let document = |i: u64| (0..messages * (1 + i % 8) / 8).map(|m| message(i, m)).collect();
    bench.write("documents.parquet", (0..count).map(document).collect())?;
    let documents = serde_json::json!({"column": "text", "map-prompt": format!("{MAP}{{{{ chunk }}}}"), "reduce-prompt": REDUCE});
    let (documents, prompt) = (documents.to_string(), format!("{MAP}{{{{ text }}}}"));
    let (mut of_documents, mut of_rows) = (Vec::new(), Vec::new());
    let mut chunks = 0;
    for _ in 0..ROUNDS {
        let flags = ["--documents", &documents, "--return", "chunks"];
        of_documents.push(bench.run("documents.parquet", "documents-out.parquet", &flags)?);
        let texts = bench.chunks("documents-out.parquet")?;
        chunks = texts.len();
        bench.write("rows.parquet", texts)?;
        of_rows.push(bench.run("rows.parquet", "rows-out.parquet", &["--prompt", &prompt])?);
    }
    println!("{count} documents of {chunks} chunks\n");
    println!("| | tokens | seconds | tokens/s | device busy |\n|---|---:|---:|---:|---:|");
    let mut medians = Vec::new();
    for (name, mut took) in [("documents", of_documents), ("rows", of_rows)] {
        took.sort_by(|a, b| a.rate().total_cmp(&b.rate()));
        let Took { tokens, seconds, busy } = took[ROUNDS / 2];
        let rate = tokens / seconds;
        println!("| {name} | {tokens} | {seconds:.2} | {rate:.0} | {:.1} % |", 100.0 * busy);
        medians.push(rate);
    }
    println!("\n{:.1} % of the rows' tokens/s (limit: 90 %)", 100.0 * medians[0] / medians[1]);
    Ok(())
}
