//! Kept columns of types that files of the output have otherwise, or that few writers write.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{
    Array, ArrayRef, AsArray, BooleanArray, Date32Array, Date64Array, Date64Builder, Decimal128Array,
    DictionaryArray, FixedSizeListBuilder, Int8Array, Int8Builder, Int64Array, Int64Builder,
    LargeListBuilder, LargeStringBuilder, ListBuilder, MapBuilder, RecordBatch, StringArray,
    StringDictionaryBuilder, StructArray, Time32SecondArray, Time64MicrosecondArray, TimestampSecondArray,
};
use arrow::buffer::NullBuffer;
use arrow::compute::concat;
use arrow::datatypes::{DataType, Field, Int8Type, Schema, TimeUnit, TimestampMillisecondType};
use arrow::ipc::writer::FileWriter;
use base64::prelude::{BASE64_STANDARD, Engine};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::arrow::encode_arrow_schema;
use parquet::basic::LogicalType;
use parquet::column::writer::ColumnWriter;
use parquet::data_type::{ByteArray, FixedLenByteArray};
use parquet::file::metadata::KeyValue;
use parquet::file::properties::WriterProperties;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::parser::parse_message_type;
use std::fs::File;
use std::sync::Arc;
use support::job::{Bench, read, text, texts};

fn answered(bench: &Bench, input: &str, output: &str) -> RecordBatch {
    let ran = bench.job("qwen3", input, &bench.name(output), &["--prompt-column", "q", "--max-tokens", "1"]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(bench.run(&["verify", output]).code, 0);
    read(&bench.path(output))
}

fn of(columns: Vec<(&str, ArrayRef)>) -> RecordBatch {
    let q: ArrayRef = Arc::new(StringArray::from(vec!["grain", "mill", "river"]));
    let columns = std::iter::once(("q", q)).chain(columns);
    RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
}

/// As pyarrow writes it: plain values, and a schema that says that columns are dictionaries.
fn write_as_dictionaries(bench: &Bench, name: &str, batch: &RecordBatch) {
    let dictionary = |kind: &DataType| DataType::Dictionary(DataType::Int8.into(), kind.clone().into());
    let schema = batch.schema();
    let fields = schema.fields().iter().map(|field| match field.name().as_str() {
        "q" => field.clone(),
        _ => Arc::new(field.as_ref().clone().with_data_type(dictionary(field.data_type()))),
    });
    let said = encode_arrow_schema(&Schema::new(fields.collect::<Vec<_>>()));
    let entry = KeyValue::new("ARROW:schema".to_string(), said);
    let properties = WriterProperties::builder().set_coerce_types(true);
    let properties = properties.set_key_value_metadata(Some(vec![entry])).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let file = File::create(bench.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

fn write_ipc(bench: &Bench, name: &str, batch: &RecordBatch) {
    let mut writer = FileWriter::try_new(File::create(bench.path(name)).unwrap(), &batch.schema()).unwrap();
    writer.write(batch).unwrap();
    writer.finish().unwrap();
}

#[test]
fn dictionaries_of_which_the_parquet_library_reads_none_are_their_values() {
    let bench = Bench::new();
    let prices = Decimal128Array::from(vec![Some(110), None, Some(220)]).with_precision_and_scale(10, 2);
    let given = of(vec![
        ("price", Arc::new(prices.unwrap())),
        ("sold", Arc::new(BooleanArray::from(vec![Some(true), None, Some(false)]))),
        ("day", Arc::new(Date64Array::from(vec![Some(86_400_000), None, Some(0)]))),
    ]);
    write_as_dictionaries(&bench, "in.parquet", &given);
    let out = answered(&bench, &bench.name("in.parquet"), "out.parquet");
    for column in ["price", "sold", "day"] {
        assert_eq!(out.column_by_name(column), given.column_by_name(column), "{column}");
    }
}

#[test]
fn a_dictionary_has_no_order_that_is_not_the_inputs() {
    let bench = Bench::new();
    let sizes: DictionaryArray<Int8Type> = DictionaryArray::new(
        Int8Array::from(vec![Some(2), None, Some(0)]),
        Arc::new(StringArray::from(vec!["small", "middle", "large"])),
    );
    let plain = of(vec![("size", Arc::new(sizes))]);
    let schema = plain.schema();
    let fields = schema.fields().iter().map(|f| f.as_ref().clone().with_dict_is_ordered(true));
    let ordered = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
    let batch = RecordBatch::try_new(ordered, plain.columns().to_vec()).unwrap();
    write_ipc(&bench, "in.arrow", &batch);
    let out = answered(&bench, &bench.name("in.arrow"), "out.parquet");
    assert_eq!(out.schema().field_with_name("size").unwrap().dict_is_ordered(), Some(false));
    let size = arrow::compute::cast(out.column_by_name("size").unwrap(), &DataType::Utf8).unwrap();
    let size: Vec<Option<&str>> = size.as_string::<i32>().iter().collect();
    assert_eq!(size, [Some("large"), None, Some("small")]);
}

#[test]
fn seconds_of_arrow_files_are_milliseconds_that_all_readers_know() {
    let bench = Bench::new();
    let times = TimestampSecondArray::from(vec![Some(1_700_000_000), None, Some(-5)]);
    let batch = of(vec![
        ("at", Arc::new(times.clone())),
        ("there", Arc::new(times.with_timezone("Europe/Oslo"))),
        ("hour", Arc::new(Time32SecondArray::from(vec![Some(3600), None, Some(1)]))),
    ]);
    write_ipc(&bench, "in.arrow", &batch);
    let out = answered(&bench, &bench.name("in.arrow"), "out.parquet");
    for (column, zone) in [("at", None), ("there", Some("Europe/Oslo".into()))] {
        let at = out.column_by_name(column).unwrap();
        assert_eq!(at.data_type(), &DataType::Timestamp(TimeUnit::Millisecond, zone));
        let at: Vec<Option<i64>> = at.as_primitive::<TimestampMillisecondType>().iter().collect();
        assert_eq!(at, [Some(1_700_000_000_000), None, Some(-5000)]);
    }
    let field = out.schema().field_with_name("hour").unwrap().clone();
    assert_eq!(field, Field::new("hour", DataType::Time32(TimeUnit::Millisecond), true));
}

/// What readers that know nothing of Arrow's schema see of a column and what is below it.
fn logical_types(bench: &Bench, output: &str, column: &str) -> Vec<Option<LogicalType>> {
    let reader = SerializedFileReader::new(File::open(bench.path(output)).unwrap()).unwrap();
    let schema = reader.metadata().file_metadata().schema_descr_ptr();
    let of_column = schema.columns().iter().filter(|leaf| leaf.path().parts()[0] == column);
    of_column.map(|leaf| leaf.logical_type_ref().cloned()).collect()
}

#[test]
fn dates_of_arrow_files_in_milliseconds_are_dates() {
    let bench = Bench::new();
    let days = Date64Array::from(vec![Some(86_400_000), None, Some(-86_400_000)]);
    let keys = Int8Array::from(vec![Some(0), None, Some(1)]);
    let again = DictionaryArray::new(keys, Arc::new(Date64Array::from(vec![86_400_000, -86_400_000])));
    let mut lists = ListBuilder::new(Date64Builder::new());
    lists.append_value([Some(0), None]);
    lists.append_null();
    lists.append_value([Some(172_800_000)]);
    let lists: ArrayRef = Arc::new(lists.finish());
    let batch =
        of(vec![("day", Arc::new(days.clone())), ("again", Arc::new(again)), ("days", lists.clone())]);
    write_ipc(&bench, "in.arrow", &batch);
    let out = answered(&bench, &bench.name("in.arrow"), "out.parquet");
    assert_eq!(out.column_by_name("day").unwrap().as_ref(), &days as &dyn Array);
    let again = arrow::compute::cast(out.column_by_name("again").unwrap(), &DataType::Date64).unwrap();
    assert_eq!(again.as_ref(), &days as &dyn Array);
    let values = |lists: &ArrayRef| lists.as_list::<i32>().iter().collect::<Vec<_>>();
    assert_eq!(values(out.column_by_name("days").unwrap()), values(&lists));
    for column in ["day", "again", "days"] {
        assert_eq!(logical_types(&bench, "out.parquet", column), [Some(LogicalType::Date)], "{column}");
    }
}

#[test]
fn values_that_parquet_has_no_place_for_are_refused_before_the_work() {
    let bench = Bench::new();
    let noon = Date64Array::from(vec![Some(0), None, Some(43_200_000)]);
    let keys = Int8Array::from(vec![Some(0), None, Some(1)]);
    let again = DictionaryArray::new(keys, Arc::new(Date64Array::from(vec![0, 43_200_000])));
    let hidden = NullBuffer::from(vec![true, true, false]);
    let field = Arc::new(Field::new("day", DataType::Date64, true));
    let within = |nulls| {
        Arc::new(StructArray::new(vec![field.clone()].into(), vec![Arc::new(noon.clone())], nulls))
            as ArrayRef
    };
    let far = TimestampSecondArray::from(vec![Some(0), None, Some(i64::MAX / 10)]);
    for (name, column, why) in [
        ("day", Arc::new(noon.clone()) as ArrayRef, "row 2: the Date64 1970-01-01T12:00:00 is no day"),
        ("again", Arc::new(again), "row 2: the Date64 1970-01-01T12:00:00 is no day"),
        ("within", within(None), "row 2: the Date64 1970-01-01T12:00:00 is no day"),
        ("far", Arc::new(far), "row 2: 922337203685477580 s after 1970 are more milliseconds"),
    ] {
        let input = bench.name(&format!("{name}.arrow"));
        write_ipc(&bench, &input, &of(vec![(name, column)]));
        let output = bench.name(&format!("{name}.parquet"));
        let flags = ["--prompt-column", "q", "--max-tokens", "1"];
        let ran = bench.job("qwen3", &input, &output, &flags);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(name) && ran.stderr.contains(why), "{}", ran.stderr);
        assert!(ran.stderr.contains("--keep"), "{}", ran.stderr);
        let ran = bench.job("qwen3", &input, &output, &[&flags[..], &["--keep", "q"]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
    }
    // What is below a null is no value.
    write_ipc(&bench, "hidden.arrow", &of(vec![("within", within(Some(hidden)))]));
    answered(&bench, &bench.name("hidden.arrow"), "hidden.parquet");
}

#[test]
fn an_arrow_file_is_read_by_its_footer_where_its_first_message_is_none() {
    let bench = Bench::new();
    let kinds: DictionaryArray<Int8Type> = [Some("flour"), None, Some("bran")].into_iter().collect();
    let batch = of(vec![("id", Arc::new(Int64Array::from(vec![1, 2, 3]))), ("kind", Arc::new(kinds))]);
    write_ipc(&bench, "in.arrow", &batch);
    let sound = std::fs::read(bench.path("in.arrow")).unwrap();
    let first = sound.windows(4).position(|four| four == [255; 4]).unwrap();
    // As polars 2 writes it: the schema before the batches without the message around it. Its first number, which is where in it
    // the schema's table is, is then a length, of 4 bytes or, with two dictionaries, of 8.
    for (name, head) in [
        ("four", [4, 0, 0, 0, 0xf2, 255, 255, 255, 20, 0, 0, 0]),
        ("eight", [8, 0, 0, 0, 0, 0, 0, 0, 0xf2, 255, 255, 255]),
    ] {
        let mut bytes = sound.clone();
        bytes[first..first + 12].copy_from_slice(&head);
        let (input, cut) = (bench.name(&format!("{name}.arrow")), bench.name(&format!("{name}-cut.arrow")));
        std::fs::write(&input, &bytes).unwrap();
        let out = answered(&bench, &input, &bench.name(&format!("{name}.parquet")));
        assert_eq!(out.column_by_name("id"), batch.column_by_name("id"));
        let kind = arrow::compute::cast(out.column_by_name("kind").unwrap(), &DataType::Utf8).unwrap();
        assert_eq!(kind.as_string::<i32>().iter().collect::<Vec<_>>(), [Some("flour"), None, Some("bran")]);
        assert_eq!(texts(&out, "q"), ["grain", "mill", "river"]);
        // Without its end it is still cut short, and a footer that says that messages are elsewhere is not believed.
        let after = |at: usize, bytes: &[u8]| {
            at + sound[at..].windows(bytes.len()).position(|all| all == bytes).unwrap()
        };
        let dictionary = after(first + 12, &[255; 4]);
        let mut lies = bytes.clone();
        lies[after(dictionary + 4, &(dictionary as u64).to_le_bytes())] += 8;
        for (bytes, why) in [(&bytes[..bytes.len() - 9], "is cut short"), (&lies[..], "message at byte")] {
            std::fs::write(&cut, bytes).unwrap();
            let flags = ["--prompt-column", "q", "--max-tokens", "1"];
            let ran = bench.job("qwen3", &cut, &bench.name("cut.parquet"), &flags);
            assert_eq!(ran.code, 2, "{}", ran.stderr);
            assert!(ran.stderr.contains(why), "{}", ran.stderr);
        }
    }
}

/// An Arrow file with a column of integers of 64 bits, which its schema says to be of 128: so polars writes such.
fn write_wide(bench: &Bench, name: &str, batch: &RecordBatch) {
    write_ipc(bench, name, batch);
    let mut bytes = std::fs::read(bench.path(name)).unwrap();
    let number = |at: usize| i32::from_le_bytes(bytes[at..at + 4].try_into().unwrap()) as usize;
    let (marker, end) = (bytes.windows(4).position(|four| four == [255; 4]).unwrap(), bytes.len() - 10);
    let first = marker + 8..marker + 8 + number(marker + 4);
    let footer = end - number(end)..end;
    for head in [first, footer] {
        let at = bytes[head.clone()].windows(4).rposition(|four| four == 64i32.to_le_bytes()).unwrap();
        bytes[head.start + at] = 128;
    }
    std::fs::write(bench.path(name), &bytes).unwrap();
}

#[test]
fn a_column_of_an_arrow_file_of_a_type_that_is_not_known_is_refused_by_name() {
    let bench = Bench::new();
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let mut lists = ListBuilder::new(Int64Builder::new());
    (0..3).for_each(|_| lists.append_null());
    let sold: ArrayRef = Arc::new(BooleanArray::from(vec![true, false, true]));
    write_wide(&bench, "wide.arrow", &of(vec![("sold", sold.clone()), ("wide", wide)]));
    write_wide(&bench, "lists.arrow", &of(vec![("sold", sold.clone()), ("lists", Arc::new(lists.finish()))]));
    for (input, why) in [
        ("wide.arrow", "wide.arrow, column wide: it is an integer of 128 bits"),
        ("lists.arrow", "lists.arrow, column lists: is a list of an integer of 128 bits"),
    ] {
        let flags = ["--prompt-column", "q", "--max-tokens", "1"];
        let ran = bench.job("qwen3", &bench.name(input), &bench.name("out.parquet"), &flags);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(ran.stderr.contains(why) && ran.stderr.contains("cast it"), "{}", ran.stderr);
    }
    let flags = ["--prompt-column", "q", "--max-tokens", "1", "--keep", "q,sold"];
    let out = bench.answers("qwen3", &bench.name("wide.arrow"), &flags);
    assert_eq!(out.column_by_name("sold"), Some(&sold));
}

/// Two rows of the columns that a file with UUIDs and JSON has.
fn write_leaves(bench: &Bench, name: &str, message: &str, order: &[u8]) -> String {
    let schema = Arc::new(parse_message_type(message).unwrap());
    let file = File::create(bench.path(name)).unwrap();
    let mut writer = SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut write = |values: &[&[u8]], levels: Option<&[i16]>, lists: Option<&[i16]>| {
        let mut column = group.next_column().unwrap().unwrap();
        let bytes: Vec<ByteArray> = values.iter().map(|bytes| ByteArray::from(bytes.to_vec())).collect();
        let fixed = || bytes.iter().cloned().map(FixedLenByteArray::from).collect::<Vec<_>>();
        match column.untyped() {
            ColumnWriter::FixedLenByteArrayColumnWriter(column) => {
                column.write_batch(&fixed(), levels, lists)
            }
            ColumnWriter::ByteArrayColumnWriter(column) => column.write_batch(&bytes, levels, lists),
            _ => unreachable!(),
        }
        .unwrap();
        column.close().unwrap();
    };
    write(&[b"grain", b"mill"], None, None);
    write(&[b"0123456789abcdef"], Some(&[1, 0]), None);
    write(&[order], Some(&[0, 1]), None);
    write(&[b"0123456789abcdef"], Some(&[3, 0]), Some(&[0, 0]));
    group.close().unwrap();
    writer.close().unwrap();
    bench.name(name)
}

/// UUIDs and JSON as DuckDB writes them, without an Arrow schema.
const UUIDS: &str = "message schema {
    REQUIRED BYTE_ARRAY q (UTF8);
    OPTIONAL FIXED_LEN_BYTE_ARRAY (16) id (UUID);
    OPTIONAL BYTE_ARRAY order (JSON);
    OPTIONAL group ids (LIST) { REPEATED group list { OPTIONAL FIXED_LEN_BYTE_ARRAY (16) element (UUID); } }
}";

#[test]
fn uuids_and_json_stay_that_where_all_files_have_them() {
    let bench = Bench::new();
    let order = b"{\"mill\": 1}";
    let named = write_leaves(&bench, "named.parquet", UUIDS, order);
    let plain = UUIDS.replace(" (UUID)", "").replace("(JSON)", "(UTF8)");
    let plain = write_leaves(&bench, "plain.parquet", &plain, order);
    let out = answered(&bench, &named, "out.parquet");
    assert_eq!(text(&out, "order"), [None, Some("{\"mill\": 1}".to_string())]);
    let of =
        |output: &str| ["id", "order", "ids"].map(|column| logical_types(&bench, output, column).remove(0));
    assert_eq!(
        of("out.parquet"),
        [Some(LogicalType::Uuid), Some(LogicalType::Json), Some(LogicalType::Uuid)]
    );
    // The names of Arrow's own readers.
    let schema = out.schema();
    let extension = |column: &str| schema.field_with_name(column).unwrap().extension_type_name();
    assert_eq!((extension("id"), extension("order")), (Some("arrow.uuid"), Some("arrow.json")));
    // The output is an input as its input was; of a file with no such types, all are without.
    let renamed = ["--column-prefix", "again_", "--keep", "q,id,order,ids"];
    let flags = [&["--prompt-column", "q", "--max-tokens", "1"][..], &renamed].concat();
    let ran = bench.job("qwen3", &bench.name("out.parquet"), &bench.name("again.parquet"), &flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert_eq!(of("again.parquet"), of("out.parquet"));
    for (inputs, output) in [([&named, &plain], "a.parquet"), ([&plain, &named], "b.parquet")] {
        let flags = ["-i", inputs[1].as_str(), "--prompt-column", "q", "--max-tokens", "1"];
        let ran = bench.job("qwen3", inputs[0], &bench.name(output), &flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(of(output), [None, Some(LogicalType::String), None], "{output}");
    }
    // A text that is none is one bad cell, as in other columns.
    let damaged = write_leaves(&bench, "damaged.parquet", UUIDS, b"\xff");
    let flags = ["--prompt-column", "q", "--max-tokens", "1", "--on-corrupt", "row-errors"];
    let ran = bench.job(
        "qwen3",
        &damaged,
        &bench.name("c.parquet"),
        &[&flags[..], &["--max-error-rate", "1"]].concat(),
    );
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let errors = text(&read(&bench.path("c.parquet")), "error");
    assert!(
        errors[0].is_none()
            && errors[1].as_ref().unwrap().contains("column order, row 1: the text is not UTF-8")
    );
    assert_eq!(of("c.parquet"), of("out.parquet"));
}

/// Writes Parquet whose Arrow schema says that the integers of 64 bits are of 128, and whose lists have items of another name than
/// that says: so polars writes such.
fn write_wide_parquet(bench: &Bench, name: &str, batch: &RecordBatch) {
    let mut said = BASE64_STANDARD.decode(encode_arrow_schema(&batch.schema())).unwrap();
    let at = said.windows(4).rposition(|four| four == 64i32.to_le_bytes()).unwrap();
    said[at] = 128;
    write_said(bench, name, batch, BASE64_STANDARD.encode(said));
}

/// Writes Parquet with an Arrow schema that is given.
fn write_said(bench: &Bench, name: &str, batch: &RecordBatch, said: String) {
    let entry = KeyValue::new("ARROW:schema".to_string(), said);
    let properties = WriterProperties::builder().set_coerce_types(true);
    let properties = properties.set_key_value_metadata(Some(vec![entry])).build();
    write_unsaid(bench, name, batch, properties);
}

/// Writes Parquet without the Arrow schema.
fn write_unsaid(bench: &Bench, name: &str, batch: &RecordBatch, properties: WriterProperties) {
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let file = File::create(bench.path(name)).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
    writer.write(batch).unwrap();
    writer.close().unwrap();
}

#[test]
fn a_column_of_an_unknown_type_does_not_hide_lists_beside_it() {
    let bench = Bench::new();
    let wide: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let mut pairs = FixedSizeListBuilder::new(Int8Builder::new(), 2);
    let mut kinds = ListBuilder::new(StringDictionaryBuilder::<Int8Type>::new());
    let mut names = LargeListBuilder::new(LargeStringBuilder::new());
    for row in 0..3 {
        pairs.values().append_slice(&[row, 7]);
        pairs.append(row != 1);
        kinds.values().append_value("flour");
        kinds.append(row != 1);
        names.values().append_value("bran");
        names.append(row != 1);
    }
    let (pairs, kinds, names) = (pairs.finish(), kinds.finish(), names.finish());
    let lists: [(&str, ArrayRef); 3] =
        [("pairs", Arc::new(pairs)), ("kinds", Arc::new(kinds)), ("names", Arc::new(names))];
    for (name, list) in lists {
        write_wide_parquet(&bench, "wide.parquet", &of(vec![("list", list.clone()), ("wide", wide.clone())]));
        let flags = ["--prompt-column", "q", "--max-tokens", "1"];
        let ran = bench.job("qwen3", &bench.name("wide.parquet"), &bench.name("no.parquet"), &flags);
        assert_eq!(ran.code, 2, "{}", ran.stderr);
        assert!(
            ran.stderr.contains("wide.parquet, column wide: it is an integer of 128 bits"),
            "{}",
            ran.stderr
        );
        let output = format!("{name}.parquet");
        let flags = [&flags[..], &["--keep", "q,list"]].concat();
        let ran = bench.job("qwen3", &bench.name("wide.parquet"), &bench.name(&output), &flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        // As beside columns that are all known.
        let known = format!("{name}-known.parquet");
        let batch = of(vec![("list", list)]);
        write_said(&bench, &known, &batch, encode_arrow_schema(&batch.schema()));
        let known = answered(&bench, &bench.name(&known), &format!("{name}-known-out.parquet"));
        assert_eq!(read(&bench.path(&output)).column_by_name("list"), known.column_by_name("list"));
    }
}

/// As DuckDB writes its TIMETZ.
#[test]
fn times_in_utc_stay_that_where_all_files_have_them() {
    let bench = Bench::new();
    let times: ArrayRef = Arc::new(Time64MicrosecondArray::from(vec![Some(1), None, Some(86_399_000_000)]));
    let write = |name: &str, in_utc: bool| {
        let batch = of(vec![("at", times.clone())]);
        let schema = batch.schema();
        let fields = schema.fields().iter().map(|field| match (field.name().as_str(), in_utc) {
            ("at", true) => {
                let utc = [("adjusted_to_utc".to_string(), String::new())];
                Arc::new(field.as_ref().clone().with_metadata(utc))
            }
            _ => field.clone(),
        });
        let schema = Arc::new(Schema::new(fields.collect::<Vec<_>>()));
        let batch = RecordBatch::try_new(schema, batch.columns().to_vec()).unwrap();
        write_unsaid(&bench, name, &batch, WriterProperties::default());
        bench.name(name)
    };
    let is_utc = |output: &str| {
        let kind = logical_types(&bench, output, "at").remove(0).unwrap();
        let LogicalType::Time(time) = kind else { panic!("{kind:?}") };
        time.is_adjusted_to_u_t_c
    };
    let (zoned, local) = (write("zoned.parquet", true), write("local.parquet", false));
    assert!(is_utc("zoned.parquet") && !is_utc("local.parquet"));
    let out = answered(&bench, &zoned, "out.parquet");
    assert_eq!(out.column_by_name("at"), Some(&times));
    assert!(is_utc("out.parquet"));
    answered(&bench, &local, "out-local.parquet");
    assert!(!is_utc("out-local.parquet"));
    // The output is an input as its input was; of a file with other times, all are without.
    let keep = ["--prompt-column", "q", "--max-tokens", "1", "--column-prefix", "again_", "--keep", "q,at"];
    let ran = bench.job("qwen3", &bench.name("out.parquet"), &bench.name("again.parquet"), &keep);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(is_utc("again.parquet"));
    for (first, second, output) in [(&zoned, &local, "a.parquet"), (&local, &zoned, "b.parquet")] {
        let flags = [&["-i", second.as_str()][..], &keep].concat();
        let ran = bench.job("qwen3", first, &bench.name(output), &flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(!is_utc(output));
    }
}

#[test]
fn dates_in_days_and_in_milliseconds_are_one_column() {
    let bench = Bench::new();
    let days: ArrayRef = Arc::new(Date32Array::from(vec![Some(1), None, Some(-1)]));
    let milliseconds = Date64Array::from(vec![Some(86_400_000), None, Some(-86_400_000)]);
    write_ipc(&bench, "days.arrow", &of(vec![("day", days)]));
    write_ipc(&bench, "milliseconds.arrow", &of(vec![("day", Arc::new(milliseconds.clone()))]));
    for (first, second) in [("days", "milliseconds"), ("milliseconds", "days")] {
        let [first_file, second_file] = [first, second].map(|name| bench.name(&format!("{name}.arrow")));
        let flags = ["-i", second_file.as_str(), "--prompt-column", "q", "--max-tokens", "1"];
        let output = format!("{first}.parquet");
        let ran = bench.job("qwen3", &first_file, &bench.name(&output), &flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let out = read(&bench.path(&output));
        let day = out.column_by_name("day").unwrap();
        assert_eq!(day.as_ref(), &concat(&[&milliseconds, &milliseconds]).unwrap());
        assert_eq!(logical_types(&bench, &output, "day"), [Some(LogicalType::Date)]);
    }
}

#[test]
fn uuids_are_their_text_in_prompts_and_in_lines() {
    let bench = Bench::new();
    let input = write_leaves(&bench, "in.parquet", UUIDS, b"{}");
    let uuid = "30313233-3435-3637-3839-616263646566";
    let flags = ["--prompt-column", "q", "--max-tokens", "1", "--keep", "id,ids"];
    for (output, line) in [
        ("out.jsonl", format!("{{\"id\":\"{uuid}\",\"ids\":[\"{uuid}\"],")),
        ("out.csv", format!("\n{uuid},\"[\"\"{uuid}\"\"]\",")),
    ] {
        let ran = bench.job("qwen3", &input, &bench.name(output), &flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let lines = std::fs::read_to_string(bench.path(output)).unwrap();
        assert!(lines.contains(&line), "{lines}");
    }
    let model = bench.model("qwen3");
    for (how, prompt, shown) in [
        ("--prompt", "{{ id }} {{ ids[0] }} {{ row.ids }}", format!("{uuid} {uuid} [\"{uuid}\"]")),
        ("--prompt-column", "id", uuid.to_string()),
    ] {
        let job =
            ["show", "--model", model.to_str().unwrap(), "-i", &input, "--row", "0", "--max-tokens", "1"];
        let ran = bench.run(&[&job[..], &[how, prompt]].concat());
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(ran.stdout.replace('\'', "\"").contains(&shown), "{}", ran.stdout);
    }
    // Bytes of any other meaning have none.
    let plain = write_leaves(&bench, "plain.parquet", &UUIDS.replace(" (UUID)", ""), b"{}");
    let ran = bench.job("qwen3", &plain, &bench.name("no.jsonl"), &flags);
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    assert!(ran.stderr.contains("FixedSizeBinary(16) has no text"), "{}", ran.stderr);
}

#[test]
fn values_without_text_are_refused_in_plain_words() {
    let bench = Bench::new();
    let far: ArrayRef = Arc::new(Date32Array::from(vec![Some(0), Some(i32::MAX), None]));
    let mut maps = MapBuilder::new(None, Int64Builder::new(), Int64Builder::new());
    for row in 0..3 {
        maps.keys().append_value(row);
        maps.values().append_value(row);
        maps.append(true).unwrap();
    }
    let maps: ArrayRef = Arc::new(maps.finish());
    let unheld =
        "row 1: the Date32 2147483647 is past the dates that have a text, as the infinity of DuckDB is";
    for (name, column, why) in
        [("far", far, unheld), ("maps", maps, "a map's keys are Int64 and not strings, so that")]
    {
        let input = bench.name(&format!("{name}.parquet"));
        write_unsaid(
            &bench,
            &format!("{name}.parquet"),
            &of(vec![(name, column)]),
            WriterProperties::default(),
        );
        for format in ["jsonl", "csv"] {
            let output = format!("{name}.{format}");
            let ran = bench.job(
                "qwen3",
                &input,
                &bench.name(&output),
                &["--prompt-column", "q", "--max-tokens", "1"],
            );
            assert_eq!(ran.code, 2, "{}", ran.stderr);
            assert!(ran.stderr.contains(name) && ran.stderr.contains(why), "{}", ran.stderr);
            assert!(ran.stderr.contains("--keep"), "{}", ran.stderr);
        }
    }
    let model = bench.model("qwen3");
    let job = [
        "show",
        "--model",
        model.to_str().unwrap(),
        "-i",
        &bench.name("far.parquet"),
        "--row",
        "1",
        "--max-tokens",
        "1",
    ];
    let ran = bench.run(&[&job[..], &["--prompt", "{{ far }}"]].concat());
    let said = ran.stdout + &ran.stderr;
    assert!(said.contains("the Date32 2147483647 is past the dates that have a text"), "{said}");
}
