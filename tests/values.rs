//! Random tables in random Parquet: every kept value of every row is the input's.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::*;
use arrow::compute::{cast, concat_batches};
use arrow::datatypes::*;
use parquet::arrow::ArrowWriter;
use parquet::basic::{BrotliLevel, Compression, GzipLevel, ZstdLevel};
use parquet::file::properties::{WriterProperties, WriterVersion};
use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use std::fs::File;
use std::sync::Arc;
use support::job::{Bench, read, text};

/// Kinds of columns.
const KINDS: usize = 24;

/// A column: its kind, how many of 8 rows are null, and where its values come from.
type Column = (usize, u64, u64);

/// How a file is written.
#[derive(Clone, Debug)]
struct Way {
    codec: usize,
    version_2: bool,
    dictionaries: bool,
    rows_per_group: usize,
    rows_per_page: usize,
}

/// A sequence of numbers that look random.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut x = self.0;
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn text(&mut self) -> String {
        let words = ["", "grain", "né", "\u{1f33e}", "a,b\n\"c\"", "long ", "\0"];
        let word = words[(self.next() % 7) as usize];
        word.repeat(if word == "long " { (self.next() % 90) as usize } else { 1 })
    }
}

/// An array of so many rows.
fn array((kind, nulls, seed): Column, rows: usize) -> ArrayRef {
    let mut numbers = Numbers(seed);
    let mut of =
        |rows| (0..rows).map(|_| (numbers.next() % 8 >= nulls).then(|| numbers.next())).collect::<Vec<_>>();
    let values: Vec<Option<u64>> = of(rows);
    let texts = || values.iter().map(|value| value.map(|seed| Numbers(seed).text()));
    macro_rules! primitive {
        ($kind:ty) => {
            Arc::new(values.iter().map(|v| v.map(|v| v as _)).collect::<PrimitiveArray<$kind>>()) as ArrayRef
        };
    }
    macro_rules! time {
        ($kind:ty, $zone:expr) => {{
            let times =
                values.iter().map(|v| v.map(|v| (v % 4_000_000_000_000_000) as i64 - 1_000_000_000_000));
            Arc::new(times.collect::<PrimitiveArray<$kind>>().with_timezone_opt($zone)) as ArrayRef
        }};
    }
    let none = None::<Arc<str>>;
    match kind {
        0 => Arc::new(values.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
        1 => primitive!(Int8Type),
        2 => primitive!(Int16Type),
        3 => primitive!(Int32Type),
        4 => primitive!(Int64Type),
        5 => primitive!(UInt8Type),
        6 => primitive!(UInt16Type),
        7 => primitive!(UInt32Type),
        8 => primitive!(UInt64Type),
        9 => Arc::new(values.iter().map(|v| v.map(|v| f32::from_bits(v as u32))).collect::<Float32Array>()),
        10 => Arc::new(values.iter().map(|v| v.map(f64::from_bits)).collect::<Float64Array>()),
        11 => Arc::new(texts().collect::<StringArray>()),
        12 => Arc::new(texts().collect::<LargeStringArray>()),
        13 => Arc::new(texts().collect::<StringViewArray>()),
        14 => Arc::new(
            values
                .iter()
                .map(|v| v.map(|v| v.to_le_bytes()[..(v % 9) as usize].to_vec()))
                .collect::<BinaryArray>(),
        ),
        15 => {
            let bytes = values.iter().map(|v| v.map(|v| v.to_le_bytes()));
            Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(bytes, 8).unwrap())
        }
        16 => {
            Arc::new(values.iter().map(|v| v.map(|v| (v % 90_000) as i32 - 40_000)).collect::<Date32Array>())
        }
        17 => time!(TimestampMicrosecondType, none),
        18 => time!(TimestampNanosecondType, Some("UTC")),
        19 => time!(TimestampMillisecondType, Some("+02:00")),
        20 => {
            let decimals = values.iter().map(|v| v.map(|v| (v as i64) as i128 * 1_000));
            Arc::new(decimals.collect::<Decimal128Array>().with_precision_and_scale(30, 4).unwrap())
        }
        21 => {
            let texts: Vec<Option<String>> = texts().collect();
            Arc::new(texts.iter().map(|text| text.as_deref()).collect::<DictionaryArray<Int32Type>>())
        }
        22 => {
            let items = |v: &u64| (0..v % 4).map(|i| (i != 1).then_some((v >> i) as i32)).collect::<Vec<_>>();
            Arc::new(ListArray::from_iter_primitive::<Int32Type, _, _>(
                values.iter().map(|v| v.as_ref().map(items)),
            ))
        }
        _ => {
            let fields = [(11, "a"), (4, "b"), (22, "c")].map(|(kind, name)| {
                let column = array((kind, nulls, seed ^ 1), rows);
                (Arc::new(Field::new(name, column.data_type().clone(), true)), column)
            });
            let (fields, columns): (Vec<_>, Vec<_>) = fields.into_iter().unzip();
            let valid = values.iter().map(Option::is_some).collect::<Vec<_>>();
            Arc::new(StructArray::new(fields.into(), columns, Some(valid.into())))
        }
    }
}

fn write(bench: &Bench, name: &str, rows: &RecordBatch, way: &Way) {
    let codecs = [
        Compression::UNCOMPRESSED,
        Compression::SNAPPY,
        Compression::GZIP(GzipLevel::default()),
        Compression::BROTLI(BrotliLevel::default()),
        Compression::LZ4,
        Compression::LZ4_RAW,
        Compression::ZSTD(ZstdLevel::default()),
    ];
    let properties = WriterProperties::builder()
        .set_compression(codecs[way.codec])
        .set_writer_version(if way.version_2 {
            WriterVersion::PARQUET_2_0
        } else {
            WriterVersion::PARQUET_1_0
        })
        .set_dictionary_enabled(way.dictionaries)
        .set_max_row_group_row_count(Some(way.rows_per_group))
        .set_data_page_row_count_limit(way.rows_per_page)
        .set_write_batch_size(way.rows_per_page);
    let file = File::create(bench.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new(file, rows.schema(), Some(properties.build())).unwrap();
    writer.write(rows).unwrap();
    writer.close().unwrap();
}

/// Runs a job over two files of the same columns, written in two ways, and compares.
fn every_value_is_kept(columns: &[Column], rows: [usize; 2], ways: &[Way; 2]) {
    let bench = Bench::new();
    let mut inputs = Vec::new();
    for (file, (rows, way)) in rows.into_iter().zip(ways).enumerate() {
        let texts: ArrayRef =
            Arc::new(StringArray::from_iter_values((0..rows).map(|row| format!("grain {}", row % 3))));
        let mut arrays = vec![("q".to_string(), texts)];
        for (at, &(kind, nulls, seed)) in columns.iter().enumerate() {
            arrays.push((format!("c{at}"), array((kind, nulls, seed ^ file as u64), rows)));
        }
        let batch = RecordBatch::try_from_iter_with_nullable(
            arrays.into_iter().map(|(name, array)| (name, array, true)),
        );
        write(&bench, &format!("in-{file}.parquet"), batch.as_ref().unwrap(), way);
        inputs.push(batch.unwrap());
    }
    let flags = ["--prompt-column", "q", "--max-tokens", "1"];
    let out = bench.answers("qwen3", &bench.name("in-*.parquet"), &flags);
    assert!(text(&out, "error").iter().all(Option::is_none));
    let input = concat_batches(&inputs[0].schema(), &inputs).unwrap();
    for (field, column) in input.schema().fields().iter().zip(input.columns()) {
        let kept = out.column_by_name(field.name()).unwrap();
        assert_eq!(kept.data_type(), column.data_type());
        // Dictionaries are compared by their values.
        let plain = |array: &ArrayRef| match array.data_type() {
            DataType::Dictionary(_, values) => cast(array, values).unwrap(),
            _ => array.clone(),
        };
        assert_eq!(&bits(&plain(kept)), &bits(&plain(column)), "column {}", field.name());
    }
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    assert_eq!(read(&bench.path("out.parquet")).num_rows(), rows[0] + rows[1]);
}

/// Floats by their bits, in which NaN equals itself.
fn bits(array: &ArrayRef) -> ArrayRef {
    match array.data_type() {
        DataType::Float32 => {
            let floats = array.as_primitive::<Float32Type>();
            Arc::new(floats.iter().map(|v| v.map(f32::to_bits)).collect::<UInt32Array>())
        }
        DataType::Float64 => {
            let floats = array.as_primitive::<Float64Type>();
            Arc::new(floats.iter().map(|v| v.map(f64::to_bits)).collect::<UInt64Array>())
        }
        _ => array.clone(),
    }
}

#[test]
fn every_kept_value_is_that_of_the_input() {
    let cases = std::env::var("GRISTMILL_TABLES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(6);
    let way = || {
        let way = (0..7usize, any::<bool>(), any::<bool>(), 1..60usize, 1..20usize);
        way.prop_map(|(codec, version_2, dictionaries, rows_per_group, rows_per_page)| Way {
            codec,
            version_2,
            dictionaries,
            rows_per_group,
            rows_per_page,
        })
    };
    let columns = prop::collection::vec((0..KINDS, 0..9u64, any::<u64>()), 1..12);
    let tables = (columns, [0..50usize, 1..50usize], [way(), way()]);
    let mut runner = TestRunner::new(Config { cases, failure_persistence: None, ..Config::default() });
    runner
        .run(&tables, |(columns, rows, ways)| {
            every_value_is_kept(&columns, rows, &ways);
            Ok(())
        })
        .unwrap();
    println!("{cases} random tables");
    // Each codec and each kind, whatever was drawn.
    let all: Vec<Column> = (0..KINDS).map(|kind| (kind, 2, kind as u64)).collect();
    for codec in 0..7 {
        let way = Way {
            codec,
            version_2: codec % 2 == 0,
            dictionaries: codec < 4,
            rows_per_group: 40,
            rows_per_page: 7,
        };
        every_value_is_kept(&all, [61, 9], &[way.clone(), way]);
    }
}
