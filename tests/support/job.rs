//! Runs whole jobs through the binary.

// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::DataType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;

/// A folder for a job's files.
pub struct Bench {
    folder: tempfile::TempDir,
}

/// The result of a run of the binary.
#[derive(Debug)]
pub struct Ran {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Ran {
    pub fn of(output: Output) -> Ran {
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let Output { status, stdout, stderr } = output;
        Ran { code: status.code().unwrap_or(-1), stdout: text(stdout), stderr: text(stderr) }
    }
}

impl Bench {
    pub fn new() -> Bench {
        Bench { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub fn name(&self, name: &str) -> String {
        self.path(name).to_str().unwrap().to_string()
    }

    /// Writes a Parquet file and returns its name.
    pub fn table(&self, name: &str, columns: Vec<(&str, ArrayRef)>) -> String {
        let columns = columns.into_iter().map(|(name, array)| (name, array, true));
        self.batch(name, &RecordBatch::try_from_iter_with_nullable(columns).unwrap(), 1000)
    }

    pub fn batch(&self, name: &str, batch: &RecordBatch, rows_per_group: usize) -> String {
        let path = self.path(name);
        let properties =
            WriterProperties::builder().set_max_row_group_row_count(Some(rows_per_group)).build();
        let file = File::create(&path).unwrap();
        let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
        writer.write(batch).unwrap();
        writer.close().unwrap();
        self.name(name)
    }

    /// Copies a golden model, so that a test can change it.
    pub fn model(&self, golden: &str) -> PathBuf {
        let to = self.path("model");
        std::fs::create_dir_all(&to).unwrap();
        for entry in std::fs::read_dir(super::golden(golden)).unwrap() {
            let from = entry.unwrap().path();
            if from.file_name().unwrap() != "expected.safetensors" {
                std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
            }
        }
        to
    }

    /// The binary, to run in the folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_gristmill"));
        command
            .current_dir(self.folder.path())
            .args(arguments)
            .env_remove("RUST_LOG")
            .env("HF_HUB_OFFLINE", "1")
            // Rates that are measured beside other tests are those of no device.
            .env("GRISTMILL_CACHE", env!("CARGO_TARGET_TMPDIR"));
        command
    }

    /// Runs the binary in the folder.
    pub fn run(&self, arguments: &[&str]) -> Ran {
        Ran::of(self.command(arguments).output().unwrap())
    }

    /// Runs a job on a golden model, greedily unless the flags say otherwise and with any number of errors, and reads its
    /// output.
    pub fn answers(&self, model: &str, input: &str, flags: &[&str]) -> RecordBatch {
        let output = self.name("out.parquet");
        let ran = self.job(model, input, &output, &[flags, &["--max-error-rate", "1"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        read(Path::new(&output))
    }

    pub fn job(&self, model: &str, input: &str, output: &str, flags: &[&str]) -> Ran {
        Ran::of(self.job_command(model, input, output, flags).output().unwrap())
    }

    pub fn job_command(&self, model: &str, input: &str, output: &str, flags: &[&str]) -> Command {
        let model = if model.contains('/') { model.into() } else { super::golden(model) };
        let mut all =
            vec!["run", "--device", "cpu", "--model", model.to_str().unwrap(), "-i", input, "-o", output];
        for (flag, value) in [("--temperature", "0"), ("--max-tokens", "16")] {
            if !flags.contains(&flag) {
                all.extend([flag, value]);
            }
        }
        all.extend(flags);
        self.command(&all)
    }
}

/// Reads a Parquet file.
pub fn read(path: &Path) -> RecordBatch {
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    concat_batches(&schema, &batches).unwrap()
}

pub fn strings(values: &[Option<&str>]) -> ArrayRef {
    Arc::new(StringArray::from(values.to_vec()))
}

/// A column of strings of the output, or of a dictionary of them.
pub fn text(batch: &RecordBatch, column: &str) -> Vec<Option<String>> {
    let array = cast(batch.column_by_name(column).unwrap(), &DataType::Utf8).unwrap();
    array.as_string::<i32>().iter().map(|text| text.map(String::from)).collect()
}

/// A text column without nulls.
pub fn texts(batch: &RecordBatch, column: &str) -> Vec<String> {
    text(batch, column).into_iter().map(Option::unwrap).collect()
}

/// An int32 column of the output.
pub fn ints(batch: &RecordBatch, column: &str) -> Vec<Option<i32>> {
    let array = batch.column_by_name(column).unwrap();
    array.as_primitive::<arrow::datatypes::Int32Type>().iter().collect()
}

/// A list<int32> row.
pub fn int_list(batch: &RecordBatch, column: &str, row: usize) -> Vec<i32> {
    let row = batch.column_by_name(column).unwrap().as_list::<i32>().value(row);
    row.as_primitive::<arrow::datatypes::Int32Type>().values().to_vec()
}

/// A list<float> row.
pub fn float_list(batch: &RecordBatch, column: &str, row: usize) -> Vec<f32> {
    let row = batch.column_by_name(column).unwrap().as_list::<i32>().value(row);
    assert_eq!(row.null_count(), 0);
    row.as_primitive::<arrow::datatypes::Float32Type>().values().to_vec()
}

/// Names and types of the columns.
pub fn columns(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|f| format!("{}: {}", f.name(), f.data_type())).collect()
}
