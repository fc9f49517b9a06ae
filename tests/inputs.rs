//! Whole jobs over folders, files of several schemas and formats: every row once, every value as the input has it.

#![allow(clippy::unwrap_used)]

mod support;

use arrow::array::{Array, ArrayRef, AsArray, Float64Array, Int32Array, Int64Array, RecordBatch};
use arrow::datatypes::{DataType, Int32Type, Int64Type};
use std::path::Path;
use std::sync::Arc;
use support::job::{Bench, Ran, columns, read, strings, text, texts};

const QUICK: [&str; 4] = ["--prompt-column", "q", "--max-tokens", "1"];

fn ints(values: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(values.to_vec()))
}

/// A job of one token a row with more flags.
fn job(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> Ran {
    bench.job("qwen3", input, &bench.name(output), &[&QUICK[..], flags].concat())
}

fn answered(bench: &Bench, input: &str, output: &str, flags: &[&str]) -> RecordBatch {
    let ran = job(bench, input, output, flags);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    read(&bench.path(output))
}

fn refused(ran: &Ran, words: &[&str]) {
    assert_eq!(ran.code, 2, "{}", ran.stderr);
    for word in words {
        assert!(ran.stderr.contains(word), "{word}: {}", ran.stderr);
    }
}

/// A folder `in` with a table of two rows.
fn folder(bench: &Bench) {
    std::fs::create_dir(bench.path("in")).unwrap();
    bench.table("in/a.parquet", vec![("q", strings(&[Some("grain"), Some("mill")]))]);
}

#[test]
fn a_file_is_an_input_once() {
    let bench = Bench::new();
    folder(&bench);
    std::fs::copy(bench.path("in/a.parquet"), bench.path("in/b.parquet")).unwrap();
    let file = bench.name("in/a.parquet");
    for again in ["in/a.parquet", "in", "in/../in/a.parquet", "./in/*.parquet"] {
        let ran = job(&bench, &file, "out.parquet", &["-i", again]);
        refused(&ran, &["in/a.parquet is named twice", "answered twice"]);
    }
    // Another file of the same content is another input.
    let out = answered(&bench, &file, "out.parquet", &["-i", "in/b.parquet"]);
    assert_eq!(texts(&out, "q"), ["grain", "mill", "grain", "mill"]);
}

#[test]
fn an_output_is_never_an_input_of_its_job() {
    let bench = Bench::new();
    folder(&bench);
    // Named from here or from the root, by the folder or by a glob, begun and resumed.
    for (input, output) in [("in", "in/answers.parquet"), ("in/*.parquet", "in/b.parquet")] {
        for again in [false, true] {
            let ran = bench.run(
                &[
                    &["run", "--device", "cpu", "--model", support::golden("qwen3").to_str().unwrap()][..],
                    &["-i", input, "-o", &bench.name(output), "--temperature", "0"],
                    &QUICK,
                ]
                .concat(),
            );
            assert_eq!(ran.code, 0, "{}", ran.stderr);
            assert_eq!(ran.stderr.contains("left out"), again, "{}", ran.stderr);
            assert_eq!(texts(&read(&bench.path(output)), "q"), ["grain", "mill"]);
        }
        refused(&job(&bench, &bench.name(output), output, &[]), &["is what the job writes"]);
        // To another job it is an output among files that are none.
        refused(
            &job(&bench, "in", "other.parquet", &["--keep", "q"]),
            &["is the output", "of a job", "answered twice"],
        );
        std::fs::remove_file(bench.path(output)).unwrap();
    }
    // A folder of parts within the folder of the input.
    for rows in [2, 1] {
        let ran = job(&bench, "in", "in/parts", &["--rows-per-file", "1"]);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert_eq!(ran.stderr.contains("left out"), rows == 1, "{}", ran.stderr);
        assert_eq!(texts(&read(&bench.path("in/parts/part-00001.parquet")), "q"), ["mill"]);
    }
    refused(&job(&bench, "in/parts", "in/parts", &["--rows-per-file", "1"]), &["is what the job writes"]);
    // Named by itself, an output is an input as any other.
    let named = answered(&bench, &bench.name("in/parts"), "next.parquet", &["--column-prefix", "x_"]);
    assert_eq!(texts(&named, "q"), ["grain", "mill"]);
}

#[test]
fn an_output_is_of_the_format_that_its_name_says() {
    let bench = Bench::new();
    folder(&bench);
    for name in ["out.arrow", "out.feather", "out.tsv", "out.xlsx", "out.csv.gz"] {
        refused(&job(&bench, "in", name, &[]), &[name, "is not written"]);
        assert!(!bench.path(name).exists() && !bench.path(&format!("{name}.gristmill")).exists());
    }
}

#[test]
fn files_of_a_folder_that_are_not_read_are_counted() {
    let bench = Bench::new();
    folder(&bench);
    for name in ["in/b.jsonl", "in/c.csv", "in/info.json", "in/README.md"] {
        write(&bench, name, "{}\n");
    }
    let ran = job(&bench, "in", "out.parquet", &[]);
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    assert!(
        ran.stderr.contains("only its parquet files are read; it has 2 of other formats"),
        "{}",
        ran.stderr
    );
}

#[test]
fn folders_are_searched_and_name_columns() {
    let bench = Bench::new();
    let names = [
        "year=2023/land=no",
        "year=2024/land=s%C3%A9%2Fx",
        "year=2024/land=__HIVE_DEFAULT_PARTITION__",
        "_tmp/x",
        ".x",
    ];
    for (i, name) in names.iter().enumerate() {
        std::fs::create_dir_all(bench.path("in").join(name)).unwrap();
        bench.table(
            &format!("in/{name}/part-{i}.parquet"),
            vec![("q", strings(&[Some(&format!("text {i}"))]))],
        );
    }
    bench.table("in/year=2023/_metadata.parquet", vec![("other", ints(&[1]))]);
    // By natural order of the paths, in which `%` and `_` come before letters.
    let (rows, lands) = ([0, 2, 1], [Some("no"), None, Some("sé/x")]);
    for (at, input) in
        ["in", "in/*/*/*.parquet", "in/**/part-?.parquet", "./in/year=*/*/part-*"].iter().enumerate()
    {
        if at == 2 {
            std::fs::remove_dir_all(bench.path("in/_tmp")).unwrap();
            std::fs::remove_dir_all(bench.path("in/.x")).unwrap();
        }
        let input = if at == 1 { "in/year*/*/part*.parquet" } else { input };
        let output = format!("out-{at}.parquet");
        let out = answered(&bench, input, &output, &[]);
        let expected: Vec<String> = rows.iter().map(|i| format!("text {i}")).collect();
        assert_eq!(texts(&out, "q"), expected, "{input}");
        assert_eq!(columns(&out)[..3], ["q: Utf8", "year: Int32", "land: Utf8"]);
        let years = out.column_by_name("year").unwrap().as_primitive::<Int32Type>();
        assert_eq!(years.values(), &[2023, 2024, 2024]);
        assert_eq!(text(&out, "land"), lands.map(|land| land.map(String::from)));
        assert_eq!(bench.run(&["verify", &output]).code, 0);
    }
    // What a folder says is read by prompts, and decides them: renamed, it is another job.
    let flags = [
        "--prompt",
        "{{ q }} {{ year }} {{ land | default('', true) }}",
        "--max-tokens",
        "1",
        "--keep",
        "land",
    ];
    let run = || bench.job("qwen3", "in", &bench.name("prompt.parquet"), &flags);
    assert_eq!(run().code, 0);
    std::fs::rename(bench.path("in/year=2023"), bench.path("in/year=2022")).unwrap();
    refused(&run(), &["holds another job", "input 1"]);
    // A file beside the folders lacks their columns, which matters where they are read.
    bench.table("in/part-9.parquet", vec![("q", strings(&[Some("text 9")]))]);
    refused(&job(&bench, "in", "stray.parquet", &[]), &["part-9.parquet, column year: is missing", "--keep"]);
    assert_eq!(answered(&bench, "in", "stray.parquet", &["--keep", "q"]).num_rows(), 4);
}

#[test]
fn columns_differ_where_nobody_reads_them_and_widths_are_widened() {
    let bench = Bench::new();
    let none: ArrayRef = Arc::new(arrow::array::NullArray::new(2));
    let words: ArrayRef = Arc::new(arrow::array::LargeStringArray::from(vec!["c", "d"]));
    let few: ArrayRef = Arc::new(Int32Array::from(vec![1, 2]));
    let fractions: ArrayRef = Arc::new(Float64Array::from(vec![0.5, 1.5]));
    bench.table(
        "a.parquet",
        vec![("id", few), ("q", strings(&[Some("a"), None])), ("note", none), ("odd", fractions)],
    );
    let (many, texts_of) = (ints(&[3, i64::MAX]), strings(&[Some("x"), None]));
    bench.table("b.parquet", vec![("odd", texts_of.clone()), ("note", texts_of), ("q", words), ("id", many)]);
    let flags = ["-i", "b.parquet", "--on-corrupt", "row-errors", "--max-error-rate", "1"];
    let all = [&flags[..], &["--keep", "id,q,note"]].concat();
    let out = answered(&bench, "a.parquet", "out.parquet", &all);
    assert_eq!(columns(&out)[..3], ["id: Int64", "q: LargeUtf8", "note: Utf8"]);
    let id = out.column_by_name("id").unwrap().as_primitive::<Int64Type>();
    assert_eq!(id.values(), &[1, 2, 3, i64::MAX]);
    let q: Vec<_> = out.column_by_name("q").unwrap().as_string::<i64>().iter().collect();
    assert_eq!(q, [Some("a"), None, Some("c"), Some("d")]);
    assert_eq!(text(&out, "note"), [None, None, Some("x".into()), None]);
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    refused(
        &job(&bench, "a.parquet", "all.parquet", &flags),
        &[
            "b.parquet, column odd: is Utf8, but it is Float64 in a.parquet",
            "cast it to Utf8 in a.parquet",
            "--keep",
        ],
    );
    let prompt = ["--prompt", "{{ odd }}", "--keep", "id", "-i", "b.parquet", "--max-tokens", "1"];
    refused(&bench.job("qwen3", "a.parquet", &bench.name("p.parquet"), &prompt), &["column odd"]);
    assert_eq!(out.column_by_name("q").unwrap().data_type(), &DataType::LargeUtf8);
    assert!(Path::new(&bench.name("out.parquet")).exists());
}

/// Writes a file of text.
fn write(bench: &Bench, name: &str, text: &str) {
    std::fs::write(bench.path(name), text).unwrap();
}

#[test]
fn lines_are_inputs_with_the_types_that_they_have() {
    let bench = Bench::new();
    let json = "\u{feff}{\"id\": 9007199254740993, \"q\": \"grain\", \"o\": {\"a\": [1.5]}, \"late\": null}\n\n\
                {\"q\": \"mill\\n\", \"id\": -1, \"o\": null, \"late\": true}\r\n";
    write(&bench, "in.jsonl", json);
    let csv = "\u{feff}id,q,code,day,note\r\n9007199254740993,grain,007,2024-02-29,\"\"\r\n\r\n-1,\"mill\n\",1.50,1999-12-31,\r\n";
    write(&bench, "in.csv", csv);
    write(&bench, "in.txt", &csv.replace("\r\n", "\n").replace(',', "\t"));
    for (input, flags, types) in [
        (
            "in.jsonl",
            &[][..],
            &["id: Int64", "q: Utf8", "o: Struct(\"a\": List(Float64))", "late: Boolean"][..],
        ),
        ("in.csv", &[], &["id: Int64", "q: Utf8", "code: Utf8", "day: Date32", "note: Utf8"]),
        (
            "in.txt",
            &["--input-format", "tsv"],
            &["id: Int64", "q: Utf8", "code: Utf8", "day: Date32", "note: Utf8"],
        ),
    ] {
        let output = format!("{input}.parquet");
        let ran = job(&bench, input, &output, flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        assert!(
            ran.stderr.contains(&format!(
                "inferred: {}",
                types.join(", ").replace(": ", " ").replace("\"a\" ", "\"a\": ")
            )),
            "{}",
            ran.stderr
        );
        let out = read(&bench.path(&output));
        assert_eq!(columns(&out)[..types.len()], *types);
        let id = out.column_by_name("id").unwrap().as_primitive::<Int64Type>();
        assert_eq!(
            (id.values().as_ref(), texts(&out, "q")),
            (&[9_007_199_254_740_993, -1][..], vec!["grain".into(), "mill\n".into()])
        );
        if input != "in.jsonl" {
            assert_eq!(
                (texts(&out, "code"), text(&out, "note")),
                (vec!["007".into(), "1.50".into()], vec![Some("".into()), None])
            );
        }
        assert_eq!(bench.run(&["verify", &output]).code, 0);
        let manifest =
            std::fs::read_to_string(bench.path(&format!("{output}.gristmill/manifest.json"))).unwrap();
        assert!(manifest.contains("\"input_schema\""), "{manifest}");
        // The values read again while publishing are those of the rows, wherever the reading begins.
        let more = job(&bench, input, &output, &[flags, &["--keep", "q", "--limit", "2"]].concat());
        assert_eq!(more.code, 0, "{}", more.stderr);
        assert_eq!(texts(&read(&bench.path(&output)), "q"), ["grain", "mill\n"]);
    }
}

#[test]
fn a_bad_line_is_one_row() {
    let bench = Bench::new();
    let json: String = (0..3000)
        .map(|i| match i {
            17 => "{\"id\": 17, \"q\": \"cut\n".to_string(),
            2000 => "{\"id\": 1}{\"id\": 2}\n".into(),
            i => format!("{{\"id\": {i}, \"q\": \"grain {}\"}}\n", i % 3),
        })
        .collect();
    write(&bench, "in.jsonl", &json);
    let csv: String = std::iter::once("id,q\n".to_string())
        .chain((0..3000).map(|i| match i {
            17 => "17\n".to_string(),
            2000 => "2000,a,b\n".into(),
            i => format!("{i},grain {}\n", i % 3),
        }))
        .collect();
    write(&bench, "in.csv", &csv);
    for (input, line, what) in [("in.jsonl", 18, "is not JSON"), ("in.csv", 19, "the line has 1 fields")] {
        let output = format!("{input}.parquet");
        refused(
            &job(&bench, input, &output, &[]),
            &[&format!("{input}, line {line}: "), what, "--on-corrupt"],
        );
        let flags = ["--on-corrupt", "row-errors", "--limit", "2100"];
        let out = answered(&bench, input, &output, &flags);
        let errors = text(&out, "error");
        for (row, id) in out.column_by_name("id").unwrap().as_primitive::<Int64Type>().iter().enumerate() {
            let bad = [17, 2000].contains(&row);
            assert_eq!((id, errors[row].is_some()), ((!bad).then_some(row as i64), bad), "{row}");
        }
        let error = errors[2000].as_ref().unwrap();
        assert!(error.contains("row 2000") && error.contains(&format!("line {}", line + 1983)), "{error}");
        assert_eq!(bench.run(&["verify", &output]).code, 0);
    }
    for (name, text, words) in [
        ("array.json", "[\n{\"q\": 1},\n{\"q\": 2}\n]\n", &["line 1", "begins an array", "jq -c"][..]),
        ("pretty.json", "{\n  \"q\": 1\n}\n", &["line 1", "one object a line"]),
        ("empty.csv", "", &["is empty"]),
        ("empty.jsonl", "\n\n", &["empty.jsonl: is empty"]),
        ("table.csv", "PAR1xxPAR1", &["table.csv: is a file of Parquet"]),
        ("twice.csv", "q,q\n1,2\n", &["more than one column is named `q`"]),
        (
            "mixed.jsonl",
            "{\"q\": \"x\"}\n{\"q\": [\"y\"]}\n",
            &["column q", "a text or number in some rows and a list in others"],
        ),
        ("in.csv.gz", "x", &["unpack it"]),
        (
            "open.csv",
            "q,id\n\"never closed,1\nx,2\n",
            &["line 2: a quoted field that begins in line 2 is not closed"],
        ),
    ] {
        write(&bench, name, text);
        let flags = ["--on-corrupt", "row-errors", "--max-error-rate", "1"];
        refused(&job(&bench, name, "bad.parquet", &flags), words);
    }
}

#[test]
fn arrow_files_and_streams_are_inputs() {
    use arrow::array::{DictionaryArray, StringArray};
    use arrow::ipc::CompressionType;
    use arrow::ipc::writer::{FileWriter, IpcWriteOptions, StreamWriter};
    let bench = Bench::new();
    let batch = |from: i64| {
        let q: DictionaryArray<Int32Type> =
            (from..from + 1500).map(|i| ["grain", "mill"][i as usize % 2]).collect();
        let note =
            StringArray::from_iter((from..from + 1500).map(|i| (i % 7 > 0).then(|| format!("note {i}"))));
        let columns: [(&str, ArrayRef); 3] = [
            ("id", Arc::new(Int64Array::from_iter_values(from..from + 1500))),
            ("note", Arc::new(note)),
            ("q", Arc::new(q)),
        ];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    };
    let schema = batch(0).schema();
    for packed in [None, Some(CompressionType::LZ4_FRAME), Some(CompressionType::ZSTD)] {
        let options = || IpcWriteOptions::default().try_with_compression(packed).unwrap();
        let file = std::fs::File::create(bench.path("in.feather")).unwrap();
        let mut writer = FileWriter::try_new_with_options(file, &schema, options()).unwrap();
        [0, 1500].into_iter().for_each(|from| writer.write(&batch(from)).unwrap());
        writer.finish().unwrap();
        let file = std::fs::File::create(bench.path("in.arrow")).unwrap();
        let mut writer = StreamWriter::try_new_with_options(file, &schema, options()).unwrap();
        [0, 1500].into_iter().for_each(|from| writer.write(&batch(from)).unwrap());
        writer.finish().unwrap();
        for input in ["in.feather", "in.arrow"] {
            let out = answered(&bench, input, "out.parquet", &["--fresh"]);
            let id = out.column_by_name("id").unwrap().as_primitive::<Int64Type>();
            assert!(id.values().iter().copied().eq(0..3000), "{input}");
            for (row, note) in text(&out, "note").into_iter().enumerate() {
                assert_eq!(note, (row % 7 > 0).then(|| format!("note {row}")));
            }
            assert_eq!(texts(&out, "q")[1501], "mill");
            assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
            let bytes = std::fs::read(bench.path(input)).unwrap();
            for cut in [3, 100, bytes.len() / 2, bytes.len() - 9, bytes.len() - 8] {
                std::fs::write(bench.path("cut.arrow"), &bytes[..cut]).unwrap();
                let ran = job(&bench, "cut.arrow", "cut.parquet", &["--fresh"]);
                // Also a stream that ends between two batches, before the mark of its end.
                assert!(ran.code == 2, "{cut} {}", ran.stderr);
            }
        }
    }
}

#[test]
fn types_that_parquet_does_not_have_are_refused_before_the_work() {
    use arrow::array::{Decimal128Array, IntervalMonthDayNanoArray, StringArray, StructArray, UnionArray};
    use arrow::datatypes::{IntervalMonthDayNano, UnionFields};
    use arrow::ipc::writer::FileWriter;
    let bench = Bench::new();
    let numbers = Arc::new(Int64Array::from(vec![1])) as ArrayRef;
    let fields = UnionFields::from_fields([arrow::datatypes::Field::new("a", DataType::Int64, true)]);
    let union = UnionArray::try_new(fields, vec![0].into(), None, vec![numbers]).unwrap();
    let list = arrow::array::ListArray::new(
        Arc::new(arrow::datatypes::Field::new("item", union.data_type().clone(), true)),
        arrow::buffer::OffsetBuffer::from_lengths([1]),
        Arc::new(union.clone()),
        None,
    );
    let interval = IntervalMonthDayNanoArray::from(vec![IntervalMonthDayNano::new(1, 2, 3)]);
    let decimal = Decimal128Array::from(vec![12]).with_precision_and_scale(10, -2).unwrap();
    let columns: [(&str, ArrayRef); 5] = [
        ("union", Arc::new(union)),
        ("list", Arc::new(list)),
        ("interval", Arc::new(interval)),
        ("empty", Arc::new(StructArray::new_empty_fields(1, None))),
        ("decimal", Arc::new(decimal)),
    ];
    for (name, column) in columns {
        let q: ArrayRef = Arc::new(StringArray::from(vec!["grain"]));
        let batch = RecordBatch::try_from_iter_with_nullable([("q", q, true), (name, column, true)]).unwrap();
        let file = std::fs::File::create(bench.path("in.arrow")).unwrap();
        let mut writer = FileWriter::try_new(file, &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.finish().unwrap();
        let ran = job(&bench, "in.arrow", "out.parquet", &["--fresh"]);
        refused(&ran, &[name, "Parquet cannot hold", "--keep"]);
        assert!(!ran.stderr.contains("tokens/s") && !ran.stderr.contains("panicked"), "{}", ran.stderr);
        let out = answered(&bench, "in.arrow", "out.parquet", &["--fresh", "--keep", "q"]);
        assert_eq!(texts(&out, "q"), ["grain"]);
    }
}

#[test]
fn answers_are_written_as_lines() {
    let bench = Bench::new();
    let list = arrow::array::ListArray::from_iter_primitive::<Int64Type, _, _>([
        Some(vec![Some(1), None]),
        None,
        Some(vec![]),
    ]);
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", ints(&[i64::MAX, 2, 3])),
        ("q", strings(&[Some("grain, \"fine\""), Some("mill\nstone"), Some("")])),
        ("note", strings(&[None, Some(""), Some("x")])),
        ("list", Arc::new(list)),
        ("score", Arc::new(Float64Array::from(vec![0.1, 2.0, 1e-300]))),
    ];
    let input = bench.table("in.parquet", columns.clone());
    let expected = answered(&bench, &input, "out.parquet", &[]);
    for (output, parts) in [("out.jsonl", false), ("out.csv", false), ("out.json", true), ("parts.csv", true)]
    {
        let flags: &[&str] = if parts { &["--rows-per-file", "2"] } else { &[] };
        let ran = job(&bench, &input, output, flags);
        assert_eq!(ran.code, 0, "{}", ran.stderr);
        let verified = bench.run(&["verify", output]);
        assert_eq!(verified.code, 0, "{}", verified.stderr);
        // What was written is read again as it was.
        let again = format!("again-{output}.parquet");
        let flags = ["--column-prefix", "x_", "--keep", "id,q,note,list,score,generated_text,error"];
        let out = answered(&bench, output, &again, &flags);
        for column in ["id", "q", "note", "generated_text", "error"] {
            let (read, written) =
                (out.column_by_name(column).unwrap(), expected.column_by_name(column).unwrap());
            let read = arrow::compute::cast(read, written.data_type()).unwrap();
            assert_eq!(&read, written, "{output} {column}");
        }
        let list = out.column_by_name("list").unwrap();
        match output.contains(".csv") {
            true => assert_eq!(text(&out, "list"), [Some("[1,null]".into()), None, Some("[]".to_string())]),
            false => assert_eq!(list, expected.column_by_name("list").unwrap()),
        }
        // A change is found, with the size the same.
        let file = match parts {
            true => bench
                .path(output)
                .join(format!("part-00001.{}", if output == "out.json" { "jsonl" } else { "csv" })),
            false => bench.path(output),
        };
        let written = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, written.replacen('x', "y", 1)).unwrap();
        assert_eq!(bench.run(&["verify", output]).code, 2);
    }
    let hidden = bench.table(
        "nan.parquet",
        vec![
            ("q", strings(&[Some("a"), Some("b")])),
            ("f", Arc::new(Float64Array::from(vec![1.0, f64::NAN]))),
        ],
    );
    let blob: ArrayRef = Arc::new(arrow::array::BinaryArray::from(vec![&b"x"[..]]));
    let blob = bench.table("blob.parquet", vec![("q", strings(&[Some("a")])), ("b", blob)]);
    for output in ["no.csv", "no.jsonl"] {
        refused(&job(&bench, &hidden, output, &[]), &["column \"f\"", "row 1: it is NaN", "--keep"]);
        refused(&job(&bench, &blob, output, &[]), &["column \"b\"", "Binary has no text", "--keep"]);
        assert_eq!(job(&bench, &blob, &format!("kept-{output}"), &["--keep", "q"]).code, 0);
    }
}

#[test]
fn dictionaries_come_back_as_they_were() {
    use arrow::array::{DictionaryArray, LargeStringArray, StringArray, StructArray, UInt16Array};
    use arrow::datatypes::{Field, Int8Type, UInt16Type};
    let bench = Bench::new();
    let labels = |from: usize, rows: usize| -> DictionaryArray<Int8Type> {
        let texts = (0..rows).map(|i| (i % 7 != 3).then(|| format!("label {}", from + i)));
        texts.collect::<Vec<_>>().iter().map(|text| text.as_deref()).collect()
    };
    // Labels of each file are others; the second column is a dictionary of long strings, the third has one below it.
    let file = |name: &str, from: usize, rows: usize| {
        let values =
            Arc::new(LargeStringArray::from_iter_values((0..2).map(|i| format!("kind {}", from + i))));
        let keys = UInt16Array::from_iter((0..rows).map(|i| (i % 3 > 0).then_some(i as u16 % 2)));
        let kinds = DictionaryArray::<UInt16Type>::new(keys, values);
        let field =
            |name: &str, array: &dyn Array| Arc::new(Field::new(name, array.data_type().clone(), true));
        let inner = labels(from, rows);
        let pairs = StructArray::from(vec![(field("label", &inner), Arc::new(inner) as ArrayRef)]);
        let q = StringArray::from_iter_values((0..rows).map(|i| format!("grain {}", i % 3)));
        bench.table(
            name,
            vec![
                ("q", Arc::new(q) as ArrayRef),
                ("label", Arc::new(labels(from, rows))),
                ("kind", Arc::new(kinds)),
                ("pair", Arc::new(pairs)),
            ],
        );
        read(&bench.path(name))
    };
    let inputs = [file("in-0.parquet", 0, 20), file("in-1.parquet", 20, 20)];
    let kept = |out: &RecordBatch, inputs: &[RecordBatch]| {
        for column in ["label", "kind"] {
            let given: Vec<_> = inputs.iter().flat_map(|input| text(input, column)).collect();
            assert_eq!(text(out, column), given, "{column}");
        }
        let below = |batch: &RecordBatch| {
            let pair = batch.column_by_name("pair").unwrap().as_struct().column(0).clone();
            text(&RecordBatch::try_from_iter([("label", pair)]).unwrap(), "label")
        };
        assert_eq!(below(out), inputs.iter().flat_map(below).collect::<Vec<_>>());
    };
    let pattern = bench.name("in-*.parquet");
    answered(&bench, &pattern, "out.parquet", &["--limit", "9"]);
    let out = answered(&bench, &pattern, "out.parquet", &[]);
    kept(&out, &inputs);
    let schema = |batch: &RecordBatch| batch.schema().fields().iter().take(4).cloned().collect::<Vec<_>>();
    let types = |batch: &RecordBatch| schema(batch).iter().map(|f| f.data_type().clone()).collect::<Vec<_>>();
    assert_eq!(types(&out), types(&inputs[0]));
    assert_eq!(bench.run(&["verify", "out.parquet"]).code, 0);
    // More values than the keys of either file could count.
    let inputs = [file("many-0.parquet", 0, 120), file("many-1.parquet", 120, 120)];
    let out = answered(&bench, &bench.name("many-*.parquet"), "many.parquet", &[]);
    kept(&out, &inputs);
    let wide = DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8));
    assert_eq!(out.schema().field_with_name("label").unwrap().data_type(), &wide);
    assert_eq!(types(&out)[2], types(&inputs[0])[2]);
}

#[test]
fn a_dictionary_with_more_values_than_its_keys_count_is_read() {
    use arrow::array::{DictionaryArray, StringArray};
    use arrow::datatypes::Int8Type;
    use parquet::arrow::ArrowWriter;
    let bench = Bench::new();
    // As of a table whose parts have dictionaries of their own.
    let part = |from: usize| {
        let texts: Vec<String> = (from..from + 100).map(|i| format!("label {i}")).collect();
        let labels: DictionaryArray<Int8Type> = texts.iter().map(String::as_str).collect();
        let q = StringArray::from_iter_values((0..100).map(|i| format!("grain {}", i % 3)));
        let columns: [(&str, ArrayRef); 2] = [("q", Arc::new(q)), ("label", Arc::new(labels))];
        RecordBatch::try_from_iter_with_nullable(columns.map(|(name, array)| (name, array, true))).unwrap()
    };
    let file = std::fs::File::create(bench.path("in.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new(file, part(0).schema(), None).unwrap();
    [0, 100].into_iter().for_each(|from| writer.write(&part(from)).unwrap());
    writer.close().unwrap();
    let out = answered(&bench, &bench.name("in.parquet"), "out.parquet", &[]);
    assert_eq!(texts(&out, "label"), (0..200).map(|i| format!("label {i}")).collect::<Vec<_>>());
}

#[test]
fn a_time_in_seconds_keeps_its_zone() {
    use arrow::array::TimestampMillisecondArray;
    use arrow::datatypes::{Field, Schema, TimeUnit};
    use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
    use parquet::arrow::encode_arrow_schema;
    use parquet::file::metadata::KeyValue;
    use parquet::file::properties::WriterProperties;
    let bench = Bench::new();
    let at = |unit, zone: &str| DataType::Timestamp(unit, Some(zone.into()));
    let schema = |kind| {
        Arc::new(Schema::new(vec![Field::new("q", DataType::Utf8, true), Field::new("at", kind, true)]))
    };
    // As pyarrow writes them: milliseconds, and a schema that says that they were seconds.
    let said = encode_arrow_schema(&schema(at(TimeUnit::Second, "Europe/Oslo")));
    let entry = KeyValue::new("ARROW:schema".to_string(), said);
    let properties = WriterProperties::builder().set_key_value_metadata(Some(vec![entry])).build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let times = TimestampMillisecondArray::from(vec![Some(1000), None]).with_timezone("UTC");
    let columns: Vec<ArrayRef> = vec![strings(&[Some("grain"), Some("mill")]), Arc::new(times)];
    let batch = RecordBatch::try_new(schema(at(TimeUnit::Millisecond, "UTC")), columns).unwrap();
    let file = std::fs::File::create(bench.path("in.parquet")).unwrap();
    let mut writer = ArrowWriter::try_new_with_options(file, batch.schema(), options).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let out = answered(&bench, &bench.name("in.parquet"), "out.parquet", &[]);
    let kept = out.schema().field_with_name("at").unwrap().data_type().clone();
    assert_eq!(kept, at(TimeUnit::Millisecond, "Europe/Oslo"));
}
