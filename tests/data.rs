//! Whole jobs over inputs with damaged cells, long values and odd types: what is kept equals the input, or the row has
//! an error.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, DictionaryArray, Int64Array, RecordBatch, StringArray,
};
use arrow::datatypes::{DataType, Field, Int32Type, Int64Type, Schema, TimeUnit, TimestampMicrosecondType};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::basic::Compression;
use parquet::data_type::{ByteArray, ByteArrayType, Int96, Int96Type};
use parquet::file::properties::WriterProperties;
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::collections::HashMap;
use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use support::job::{Bench, read, text};

const QUICK: [&str; 2] = ["--max-tokens", "1"];

/// Writes columns through the low-level writer, which checks nothing.
fn write_raw(path: &Path, message: &str, properties: WriterProperties, columns: Vec<Raw>) {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let mut writer =
        SerializedFileWriter::new(File::create(path).unwrap(), schema, Arc::new(properties)).unwrap();
    let mut group = writer.next_row_group().unwrap();
    for column in columns {
        let mut to = group.next_column().unwrap().unwrap();
        match column {
            Raw::Bytes(values) => {
                let values: Vec<ByteArray> = values.into_iter().map(ByteArray::from).collect();
                to.typed::<ByteArrayType>().write_batch(&values, None, None).unwrap();
            }
            Raw::Ints(values) => {
                let typed = to.typed::<parquet::data_type::Int64Type>();
                typed.write_batch(&values, None, None).unwrap();
            }
            Raw::Dates(values) => {
                to.typed::<Int96Type>().write_batch(&values, None, None).unwrap();
            }
        }
        to.close().unwrap();
    }
    group.close().unwrap();
    writer.close().unwrap();
}

enum Raw {
    Bytes(Vec<Vec<u8>>),
    Ints(Vec<i64>),
    Dates(Vec<Int96>),
}

fn ids(batch: &RecordBatch) -> Vec<Option<i64>> {
    batch.column_by_name("id").unwrap().as_primitive::<Int64Type>().iter().collect()
}

/// 300 rows with one text that is not UTF-8 in the column `note`, and one in `q`.
fn bad_texts(bench: &Bench) -> String {
    let words = |word: &str, bad: usize| -> Vec<Vec<u8>> {
        let cell = |i| if i == bad { b"caf\xe9".to_vec() } else { format!("{word} {i}").into_bytes() };
        (0..300).map(cell).collect()
    };
    let message =
        "message m { REQUIRED INT64 id; REQUIRED BYTE_ARRAY q (UTF8); REQUIRED BYTE_ARRAY note (UTF8); }";
    let columns =
        vec![Raw::Ints((0..300).collect()), Raw::Bytes(words("grain", 7)), Raw::Bytes(words("mill", 120))];
    write_raw(&bench.path("in.parquet"), message, WriterProperties::default(), columns);
    bench.name("in.parquet")
}

#[test]
fn a_bad_cell_takes_no_sound_one_with_it() {
    let bench = Bench::new();
    let input = bad_texts(&bench);
    let output = bench.name("out.parquet");
    let mut flags = vec!["--prompt-column", "q"];
    flags.extend(QUICK);
    let refused = bench.job("qwen3", &input, &output, &flags);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    for part in ["in.parquet, row group 0, column q", "row 7", "not UTF-8", "--on-corrupt row-errors"] {
        assert!(refused.stderr.contains(part), "{part}: {}", refused.stderr);
    }
    flags.extend(["--on-corrupt", "row-errors"]);
    let ran = bench.job("qwen3", &input, &output, &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("2 errors (1 kept cell that cannot be read, 1 row unreadable)"),
        "{}",
        ran.stderr
    );
    let out = read(Path::new(&output));
    assert_eq!(ids(&out), (0..300).map(Some).collect::<Vec<_>>());
    let (errors, q, note, answers) =
        (text(&out, "error"), text(&out, "q"), text(&out, "note"), text(&out, "generated_text"));
    for row in 0..300 {
        assert_eq!(q[row], (row != 7).then(|| format!("grain {row}")), "{row}");
        assert_eq!(note[row], (row != 120).then(|| format!("mill {row}")), "{row}");
        assert_eq!(answers[row].is_some(), row != 7, "{row}");
        assert_eq!(errors[row].is_some(), row == 7 || row == 120, "{row}");
    }
    assert!(
        errors[7].as_ref().unwrap().starts_with("row unreadable: column q, row 7: the text is not UTF-8")
    );
    assert!(errors[120].as_ref().unwrap().starts_with("row unreadable: column note, row 120: "));
    let verified = bench.run(&["verify", &output]);
    assert_eq!(verified.code, 0, "{}", verified.stderr);
    let status = bench.run(&["status", &output]).stdout;
    assert!(status.contains("unreadable 1 published row lacks kept cells, and has"), "{status}");
    // It counts as an error.
    flags.extend(["--max-errors", "1", "--fresh"]);
    assert_eq!(bench.job("qwen3", &input, &output, &flags).code, 3);
}

#[test]
fn a_damaged_column_loses_its_row_group_and_nothing_else() {
    let bench = Bench::new();
    let texts: Vec<String> = (0..300).map(|i| format!("note number {i}")).collect();
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..300))),
        ("q", Arc::new(StringArray::from_iter_values((0..300).map(|i| format!("grain {i}"))))),
        ("note", Arc::new(StringArray::from_iter_values(&texts))),
    ];
    let input = bench.batch("in.parquet", &RecordBatch::try_from_iter(columns).unwrap(), 100);
    let mut bytes = std::fs::read(&input).unwrap();
    let at = bytes.windows(15).position(|at| at == b"note number 150").unwrap();
    bytes[at - 700..at].fill(0xee);
    std::fs::write(&input, bytes).unwrap();
    let output = bench.name("out.parquet");
    let mut flags = vec!["--prompt-column", "q", "--on-corrupt", "row-errors", "--max-error-rate", "0.1"];
    flags.extend(QUICK);
    let ran = bench.job("qwen3", &input, &output, &flags);
    // A third of the rows are more errors than allowed, and all are published.
    assert_eq!(ran.code, 3, "{}", ran.stderr);
    assert!(ran.stderr.contains("100 errors (100 kept cell that cannot be read)"), "{}", ran.stderr);
    let out = read(Path::new(&output));
    assert_eq!(ids(&out), (0..300).map(Some).collect::<Vec<_>>());
    let (errors, notes) = (text(&out, "error"), text(&out, "note"));
    assert!(text(&out, "generated_text").iter().all(Option::is_some));
    for row in 0..300 {
        let lost = (100..200).contains(&row);
        assert_eq!(notes[row], (!lost).then(|| texts[row].clone()), "{row}");
        let begin = format!("row unreadable: column note, row {row}: ");
        assert_eq!(
            errors[row].as_ref().map(|error| error.starts_with(&begin)),
            lost.then_some(true),
            "{row}"
        );
    }
    assert_eq!(bench.run(&["verify", &output]).code, 0);
}

/// Days since 4713 BC, and nanoseconds of the day.
fn int96(days_since_1970: i64, nanos: u64) -> Int96 {
    let mut date = Int96::new();
    date.set_data(nanos as u32, (nanos >> 32) as u32, (days_since_1970 + 2_440_588) as u32);
    date
}

#[test]
fn far_dates_stay_what_they_are_or_are_errors() {
    let bench = Bench::new();
    let message = "message m { REQUIRED INT64 id; REQUIRED BYTE_ARRAY q (UTF8); REQUIRED INT96 valid_to; }";
    let write = |name: &str, dates: Vec<Int96>| {
        let n = dates.len();
        let columns = vec![
            Raw::Ints((0..n as i64).collect()),
            Raw::Bytes(vec![b"grain".to_vec(); n]),
            Raw::Dates(dates),
        ];
        write_raw(&bench.path(name), message, WriterProperties::default(), columns);
        bench.name(name)
    };
    // 9999-12-31, 2024-01-01T00:00:01.000002, 0001-01-01.
    let sound = [int96(2_932_896, 0), int96(19_723, 1_000_002_000), int96(-719_162, 0)];
    let input = write("in.parquet", sound.to_vec());
    let flags = ["--prompt-column", "q", "--max-tokens", "1"];
    let out = bench.answers("qwen3", &input, &flags);
    let dates = out.column_by_name("valid_to").unwrap();
    assert_eq!(dates.data_type(), &DataType::Timestamp(TimeUnit::Microsecond, None));
    let day = 86_400_000_000i64;
    let expected = [2_932_896 * day, 19_723 * day + 1_000_002, -719_162 * day];
    assert_eq!(dates.as_primitive::<TimestampMicrosecondType>().values(), &expected);
    // Digits that microseconds do not hold, and a date past all that 64 bits hold.
    let odd = [sound[0], int96(19_723, 7), int96(4_000_000_000 - 2_440_588, 0)];
    let input = write("odd.parquet", odd.to_vec());
    let output = bench.name("odd-out.parquet");
    let refused = bench.job("qwen3", &input, &output, &flags);
    assert_eq!(refused.code, 2, "{}", refused.stderr);
    assert!(
        refused.stderr.contains("column valid_to: row 1: the INT96 date has digits below"),
        "{}",
        refused.stderr
    );
    let mut flags = flags.to_vec();
    flags.extend(["--on-corrupt", "row-errors", "--max-error-rate", "1"]);
    let ran = bench.job("qwen3", &input, &output, &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let out = read(Path::new(&output));
    let dates = out.column_by_name("valid_to").unwrap().as_primitive::<TimestampMicrosecondType>().clone();
    assert_eq!(dates.iter().collect::<Vec<_>>(), [Some(expected[0]), None, None]);
    let errors = text(&out, "error");
    assert!(errors[0].is_none() && errors[1].is_some(), "{errors:?}");
    assert!(errors[2].as_ref().unwrap().contains("row 2: the date is past what"), "{errors:?}");
}

#[test]
fn long_values_that_many_rows_share_are_read_and_published() {
    // 2,100 rows of 1 MiB are more than one array of texts holds, of which the file has one.
    let (document, rows) = (format!("the mill {}", "a".repeat(1 << 20)), 2100);
    let keys = arrow::array::Int32Array::from(vec![0; rows]);
    let values: ArrayRef = Arc::new(StringArray::from(vec![document.as_str()]));
    let columns: [(&str, ArrayRef); 3] = [
        ("id", Arc::new(Int64Array::from_iter_values(0..rows as i64))),
        ("q", Arc::new(StringArray::from(vec!["grain"; rows]))),
        ("document", Arc::new(DictionaryArray::<Int32Type>::try_new(keys, values).unwrap())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    // Read as a dictionary, or as plain texts.
    for plain in [false, true] {
        let bench = Bench::new();
        let properties = WriterProperties::builder().set_dictionary_page_size_limit(8 << 20).build();
        let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(plain);
        let file = File::create(bench.path("in.parquet")).unwrap();
        let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
        writer.write(&batch).unwrap();
        writer.close().unwrap();
        let (input, output) = (bench.name("in.parquet"), bench.name("out.parquet"));
        let ran = bench.job("qwen3", &input, &output, &["--prompt-column", "q", "--max-tokens", "1"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(output).unwrap()).unwrap();
        let mut seen = 0;
        for batch in reader.with_batch_size(16).build().unwrap() {
            let batch = batch.unwrap();
            let column = batch.column_by_name("document").unwrap();
            assert_eq!(matches!(column.data_type(), DataType::Dictionary(..)), !plain);
            let documents = arrow::compute::cast(column, &DataType::Utf8).unwrap();
            let documents = documents.as_string::<i32>();
            assert!(documents.iter().all(|text| text == Some(&document)));
            seen += batch.num_rows();
        }
        assert_eq!(seen, rows);
    }
}

#[test]
fn what_is_not_corruption_is_refused_as_what_it_is() {
    let bench = Bench::new();
    let columns: [(&str, ArrayRef); 2] = [
        ("q", Arc::new(StringArray::from(vec!["grain"; 20]))),
        ("doc", Arc::new(BinaryArray::from_iter_values((0..20).map(|i| [i; 9])))),
    ];
    let input = bench.batch("in.parquet", &RecordBatch::try_from_iter(columns).unwrap(), 20);
    // The footer's word for the codec of the last column: field 4, an i32, UNCOMPRESSED, which becomes LZO (3).
    let mut bytes = std::fs::read(&input).unwrap();
    let name = [&[0x19, 0x18, 3][..], b"doc", &[0x15, 0]].concat();
    let at = bytes.windows(name.len()).position(|at| at == name).unwrap();
    bytes[at + name.len() - 1] = 6;
    std::fs::write(&input, bytes).unwrap();
    let output = bench.name("out.parquet");
    for how in ["refuse", "row-errors"] {
        let flags = ["--prompt-column", "q", "--max-tokens", "1", "--on-corrupt", how];
        let ran = bench.job("qwen3", &input, &output, &flags);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("is compressed with LZO") && ran.stderr.contains("--keep"),
            "{}",
            ran.stderr
        );
        assert!(!bench.path("out.parquet").exists());
    }
    let ran =
        bench.job("qwen3", &input, &output, &["--prompt-column", "q", "--max-tokens", "1", "--keep", "q"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
}

#[test]
fn dates_names_and_metadata_are_kept() {
    let bench = Bench::new();
    let dates = arrow::array::Date64Array::from(vec![Some(0), Some(-86_400_000), None]);
    let metadata = HashMap::from([
        (
            "huggingface".to_string(),
            r#"{"info":{"features":{"day":{"dtype":"date64"},"q":{"dtype":"string"}}}}"#.into(),
        ),
        ("licence".to_string(), "CC0".to_string()),
    ]);
    let fields = vec![Field::new("q", DataType::Utf8, true), Field::new("day", DataType::Date64, true)];
    let schema = Schema::new(fields).with_metadata(metadata);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["grain"; 3]));
    let batch = RecordBatch::try_new(Arc::new(schema), vec![texts.clone(), Arc::new(dates.clone())]).unwrap();
    let properties = WriterProperties::builder().set_coerce_types(true).set_compression(Compression::SNAPPY);
    let file = File::create(bench.path("in.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let input = bench.name("in.parquet");
    let out = bench.answers("qwen3", &input, &["--prompt-column", "q", "--max-tokens", "1", "--keep", "day"]);
    assert_eq!(out.column_by_name("day").unwrap().as_ref(), &dates as &dyn Array);
    let schema = out.schema();
    assert_eq!(schema.metadata().get("licence").map(String::as_str), Some("CC0"));
    let features = schema.metadata().get("huggingface").map(String::as_str);
    assert_eq!(features, Some(r#"{"info":{"features":{"day":{"dtype":"date64"}}}}"#));
    // A reader without Arrow's schema sees a date too.
    let reader =
        parquet::file::reader::SerializedFileReader::new(File::open(bench.path("out.parquet")).unwrap());
    let reader = reader.unwrap();
    let column =
        parquet::file::reader::FileReader::metadata(&reader).file_metadata().schema_descr().column(0);
    assert_eq!(column.converted_type(), parquet::basic::ConvertedType::DATE);
    // Two columns of one name.
    let fields = vec![Field::new("q", DataType::Utf8, true), Field::new("q", DataType::Utf8, true)];
    let batch = RecordBatch::try_new(Arc::new(Schema::new(fields)), vec![texts.clone(), texts]).unwrap();
    let input = bench.batch("twice.parquet", &batch, 10);
    let ran = bench.job("qwen3", &input, &bench.name("twice-out.parquet"), &["--prompt-column", "q"]);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("more than one column is named `q`"), "{}", ran.stderr);
}

#[test]
fn a_column_of_an_unknown_type_is_refused_or_kept_out() {
    let bench = Bench::new();
    let wide = arrow::array::FixedSizeBinaryArray::try_from_iter([[0u8; 16], [1; 16]].into_iter()).unwrap();
    let texts: ArrayRef = Arc::new(arrow::array::LargeStringArray::from(vec!["grain"; 2]));
    let columns: [(&str, ArrayRef); 2] = [("q", texts), ("wide", Arc::new(wide))];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    // The schema that Polars writes for such a column: an integer of 64 bits, made one of 128.
    let described =
        vec![Field::new("q", DataType::LargeUtf8, false), Field::new("wide", DataType::Int64, false)];
    let mut message = base64_decoded(&parquet::arrow::encode_arrow_schema(&Schema::new(described)));
    let at = message.windows(4).rposition(|at| at == 64i32.to_le_bytes()).unwrap();
    message[at] = 128;
    let entry = parquet::file::metadata::KeyValue::new("ARROW:schema".into(), base64_encoded(&message));
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![entry])).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let file = File::create(bench.path("in.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let input = bench.name("in.parquet");
    let flags = ["--prompt-column", "q", "--max-tokens", "1"];
    let ran = bench.job("qwen3", &input, &bench.name("out.parquet"), &flags);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("column wide: it is an integer of 128 bits"), "{}", ran.stderr);
    let out = bench.answers("qwen3", &input, &["--prompt-column", "q", "--max-tokens", "1", "--keep", "q"]);
    // The other columns are as their Arrow schema says.
    assert_eq!(out.column_by_name("q").unwrap().data_type(), &DataType::LargeUtf8);
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

fn base64_decoded(text: &str) -> Vec<u8> {
    let (mut bytes, mut bits, mut held) = (Vec::new(), 0u32, 0);
    for digit in text.bytes().filter_map(|c| BASE64.iter().position(|&digit| digit == c)) {
        bits = (bits << 6 | digit as u32) & 0xfff_ffff;
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push((bits >> held) as u8);
        }
    }
    bytes
}

fn base64_encoded(bytes: &[u8]) -> String {
    let digits = |chunk: &[u8]| {
        let bits = (0..3).fold(0usize, |bits, i| bits << 8 | usize::from(*chunk.get(i).unwrap_or(&0)));
        let digit = |i: usize| if i <= chunk.len() { BASE64[bits >> (18 - 6 * i) & 63] as char } else { '=' };
        [digit(0), digit(1), digit(2), digit(3)]
    };
    bytes.chunks(3).flat_map(digits).collect()
}
