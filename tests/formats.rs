//! Journals that an earlier build began and did not finish, resumed by this one. See `tests/journals/README.md`.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::RecordBatch;
use rusqlite::Connection;
use serde_json::Value;
use std::path::{Path, PathBuf};
use std::process::Command;
use support::job::{Bench, Ran, read};

/// A job of an earlier format, copied to a folder of its own.
struct Old {
    bench: Bench,
    from: PathBuf,
    device: String,
    flags: Vec<String>,
    rows: u64,
    answered: u64,
}

impl Old {
    fn copy(name: &str) -> Old {
        Old::copy_of("format-1", name)
    }

    fn copy_of(format: &str, name: &str) -> Old {
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/journals").join(format).join(name);
        let said: Value = serde_json::from_slice(&std::fs::read(from.join("job.json")).unwrap()).unwrap();
        assert_eq!(said["model"], "qwen3");
        let flags =
            said["flags"].as_array().unwrap().iter().map(|flag| flag.as_str().unwrap().into()).collect();
        let device = said["device"].as_str().unwrap().into();
        let number = |key: &str| said[key].as_u64().unwrap();
        let (rows, answered) = (number("rows"), number("answered"));
        let bench = Bench::new();
        std::fs::copy(from.join("in.parquet"), bench.path("in.parquet")).unwrap();
        std::fs::create_dir(bench.path("out.parquet.gristmill")).unwrap();
        for file in std::fs::read_dir(from.join("job")).unwrap() {
            let file = file.unwrap();
            std::fs::copy(file.path(), bench.path("out.parquet.gristmill").join(file.file_name())).unwrap();
        }
        Old { bench, from, device, flags, rows, answered }
    }

    /// A copy whose journal says that its prompts are made as they are now.
    fn with_present_prompts(name: &str) -> Old {
        let old = Old::copy(name);
        let values = (old.number("SELECT max(ordinal) + 1 FROM identity") as i64, "prompts version", "3");
        let mut bytes = Vec::new();
        for (kind, part) in
            [(1u8, &values.0.to_le_bytes()[..]), (3, values.1.as_bytes()), (3, values.2.as_bytes())]
        {
            bytes.push(kind);
            bytes.extend((part.len() as u64).to_le_bytes());
            bytes.extend(part);
        }
        let checksum = i64::from_le_bytes(blake3::hash(&bytes).as_bytes()[..8].try_into().unwrap());
        let insert = "INSERT INTO identity VALUES (?, ?, ?, ?)";
        old.journal().execute(insert, (values.0, values.1, values.2, checksum)).unwrap();
        old
    }

    /// The command that began the job, with further flags.
    fn command(&self, further: &[&str]) -> Command {
        let model = support::golden("qwen3");
        let mut all =
            vec!["run", "--device", &self.device, "--model", model.to_str().unwrap(), "-i", "in.parquet"];
        all.extend(["-o", "out.parquet"]);
        all.extend(self.flags.iter().map(String::as_str));
        all.extend(further);
        self.bench.command(&all)
    }

    fn run(&self, further: &[&str]) -> Ran {
        Ran::of(self.command(further).output().unwrap())
    }

    fn journal(&self) -> Connection {
        Connection::open(self.bench.path("out.parquet.gristmill/journal.sqlite")).unwrap()
    }

    fn number(&self, query: &str) -> u64 {
        self.journal().query_row(query, [], |row| row.get::<_, i64>(0)).unwrap() as u64
    }

    /// Every column of the answers that are there.
    fn records(&self) -> Vec<Vec<rusqlite::types::Value>> {
        let journal = self.journal();
        let mut statement = journal.prepare("SELECT * FROM answers ORDER BY row").unwrap();
        let columns = statement.column_count();
        let record = |row: &rusqlite::Row<'_>| (0..columns).map(|column| row.get(column)).collect();
        statement.query_map([], record).unwrap().map(Result::unwrap).collect()
    }

    fn output(&self) -> Vec<u8> {
        std::fs::read(self.bench.path("out.parquet")).unwrap()
    }
}

/// The row of every job whose place is null.
const NULL_ROW: usize = 5;

/// Resumes a job, and runs it again with nothing answered before. Gives the output of both.
fn resumed_and_whole(name: &str) -> (RecordBatch, PathBuf) {
    let resumed = Old::with_present_prompts(name);
    let before = resumed.records();
    assert_eq!(before.len() as u64, resumed.answered);
    let ran = resumed.run(&["--resume", "require"]);
    assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
    let missing = resumed.rows - resumed.answered;
    let last = "SELECT rows FROM starts ORDER BY start DESC LIMIT 1";
    assert_eq!(resumed.number(last), missing, "{name}: only what is missing is run");
    assert_eq!(resumed.number("SELECT count(*) FROM answers"), resumed.rows);
    let after = resumed.records();
    assert!(before.iter().all(|record| after.contains(record)), "{name}: an answer has changed");
    assert_eq!(resumed.number("PRAGMA user_version"), 0, "{name}: it stays a journal of format 1");

    // The same job without its answers: its date is that of the day on which it was begun.
    let whole = Old::with_present_prompts(name);
    whole.journal().execute_batch("DELETE FROM answers; DELETE FROM attempts").unwrap();
    let ran = whole.run(&[]);
    assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
    assert_eq!(whole.number(last), whole.rows);
    if resumed.flags.iter().any(|flag| flag == "--prompt") {
        // The null of this row was once asked about as the word None, and is an error now.
        let rest = |old: &Old| {
            let rows = read(&old.bench.path("out.parquet"));
            [rows.slice(0, NULL_ROW), rows.slice(NULL_ROW + 1, rows.num_rows() - NULL_ROW - 1)]
        };
        assert_eq!(rest(&resumed), rest(&whole), "{name}");
    } else {
        assert!(
            resumed.output() == whole.output(),
            "{name}: the output differs from that of an uninterrupted run"
        );
    }

    let ran = resumed.bench.run(&["verify", "out.parquet"]);
    assert_eq!(ran.code, 0, "{name}: {}", ran.stderr);
    let ran = resumed.bench.run(&["status", "out.parquet"]);
    assert!(ran.stdout.contains(&format!("rows       {} of {0} (100.0 %)", resumed.rows)), "{}", ran.stdout);
    (read(&resumed.bench.path("out.parquet")), resumed.from.join("expected.parquet"))
}

#[test]
fn jobs_whose_prompts_were_made_otherwise_are_refused() {
    for name in ["plain", "prompts", "sampling", "types"] {
        let job = Old::copy(name);
        let before = job.records();
        let ran = job.run(&[]);
        assert_eq!(ran.code, 2, "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("  prompts version: begun with 1, now 3\n"), "{name}: {}", ran.stderr);
        assert!(ran.stderr.contains("begun by another version of gristmill"), "{name}: {}", ran.stderr);
        assert_eq!(ran.stderr.matches(": begun with").count(), 1, "{name}: {}", ran.stderr);
        assert_eq!(job.records(), before);
    }
}

#[test]
fn jobs_of_format_1_are_resumed() {
    for name in ["plain", "prompts", "sampling", "types"] {
        let (output, expected) = resumed_and_whole(name);
        let expected = read(&expected);
        assert_eq!(output.schema().fields(), expected.schema().fields(), "{name}");
        assert_eq!(output.columns(), expected.columns(), "{name}: not what the earlier build answers");
    }
}

#[test]
fn a_job_of_format_1_on_wgpu_is_resumed() {
    if support::open("wgpu").is_none() {
        return;
    }
    // Drivers differ in the last bits, so that only the greedy tokens are compared with the earlier build's.
    let (output, expected) = resumed_and_whole("wgpu");
    assert_eq!(output.column_by_name("generated_text"), read(&expected).column_by_name("generated_text"));
}

#[test]
fn a_job_of_format_2_is_finished_in_format_2() {
    let job = Old::copy_of("format-2", "tokens");
    let before = job.records();
    assert_eq!(before.len() as u64, job.answered);
    let ran = job.run(&["--retry", "errors"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("is of format 2, which has no place for rows that run again"),
        "{}",
        ran.stderr
    );
    assert_eq!(job.records(), before);
    let ran = job.run(&["--resume", "require"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let missing = job.rows - job.answered;
    assert_eq!(job.number("SELECT rows FROM starts ORDER BY start DESC LIMIT 1"), missing);
    let after = job.records();
    assert!(before.iter().all(|record| after.contains(record)), "an answer has changed");
    assert_eq!(job.number("PRAGMA user_version"), 2, "it stays a journal of format 2");
    let (output, expected) = (read(&job.bench.path("out.parquet")), read(&job.from.join("expected.parquet")));
    assert_eq!(output.schema().fields(), expected.schema().fields());
    assert_eq!(output.columns(), expected.columns(), "not what the earlier build answers");
    assert_eq!(job.bench.run(&["verify", "out.parquet"]).code, 0);
}

/// Its records are keyed with the job.
#[test]
fn records_of_another_job_are_not_believed_in_format_2() {
    let job = Old::copy_of("format-2", "tokens");
    let other = Old::copy_of("format-2", "tokens");
    let ran = other.run(&["--fresh", "--seed", "8"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let from = other.bench.name("out.parquet.gristmill/journal.sqlite");
    let take =
        format!("ATTACH '{from}' AS other; REPLACE INTO answers SELECT * FROM other.answers WHERE row < 20");
    job.journal().execute_batch(&take).unwrap();
    let ran = job.run(&[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(ran.stderr.contains("checksum does not match"), "{}", ran.stderr);
    let (output, expected) = (read(&job.bench.path("out.parquet")), read(&job.from.join("expected.parquet")));
    assert_eq!(output.columns(), expected.columns());
}

#[test]
fn a_job_of_format_1_with_other_options_is_refused_by_field() {
    for (name, further, line) in [
        ("plain", &["--temperature", "0.5"][..], "temperature: begun with 0.6, now 0.5"),
        ("plain", &["--dtype", "float16"], "dtype: begun with Auto, now Float16"),
        ("plain", &["--quantization", "q8_0"], "quantization: begun with (none), now q8_0"),
        ("plain", &["--min-tokens", "2"], "min_tokens: begun with 0, now 2"),
        (
            "prompts",
            &["--chat-template-kwargs", r#"{"mood": "wild"}"#],
            "chat template kwargs: begun with Some({",
        ),
        (
            "prompts",
            &["--return", "generated_tokens"],
            "return: begun with [TokenLogprobs, GeneratedTokens], now [",
        ),
        (
            "sampling",
            &["--stop", "x"],
            r#"stop: begun with ["qq", "a \"b\"\n"], now ["qq", "a \"b\"\n", "x"]"#,
        ),
        (
            "sampling",
            &["--logit-bias", "5:1"],
            "logit_bias: begun with [(5, -1.5), (6, 2.0)], now [(5, 1.0)]",
        ),
        ("types", &["--kv-cache-dtype", "auto"], "kv cache dtype: begun with Float32, now Auto"),
        (
            "types",
            &["--float32-matmul-precision", "highest"],
            "float32 matmul precision: begun with medium, now highest",
        ),
    ] {
        let job = Old::with_present_prompts(name);
        let before = job.records();
        let ran = job.run(further);
        assert_eq!(ran.code, 2, "{further:?}: {}", ran.stderr);
        assert!(ran.stderr.contains(line), "{further:?}: {}", ran.stderr);
        assert_eq!(ran.stderr.matches(": begun with").count(), 1, "{further:?}: {}", ran.stderr);
        assert_eq!(job.records(), before);
    }
}
