#![allow(clippy::unwrap_used)]
use super::*;
use crate::input::batch::Batch;
use crate::input::source::Source;
use arrow::array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use std::path::Path;

/// Writes one Parquet file.
pub(crate) fn write_parquet(path: &Path, columns: &RecordBatch, rows_per_group: usize) {
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_max_row_group_row_count(Some(rows_per_group));
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, columns.schema(), Some(properties.build())).unwrap();
    writer.write(columns).unwrap();
    writer.close().unwrap();
}

fn table(from: i64, to: i64) -> RecordBatch {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(from..to));
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((from..to).map(|i| format!("text {i}"))));
    RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
}

fn name(path: &Path) -> String {
    path.to_str().unwrap().to_string()
}

fn ids(input: &Input, rows: Range<u64>) -> Vec<i64> {
    let mut next = rows.start;
    let mut ids = Vec::new();
    for batch in input.read(vec![0], rows) {
        let batch = batch.unwrap();
        assert_eq!(batch.first_row, next);
        next += batch.columns.num_rows() as u64;
        assert_eq!(batch.columns.num_columns(), 1);
        let column = batch.columns.column(0).as_any().downcast_ref::<Int64Array>().unwrap();
        ids.extend(column.values());
    }
    ids
}

#[test]
fn files_of_a_folder_are_one_table_in_natural_order() {
    let folder = tempfile::tempdir().unwrap();
    for (file, from, to) in [("p-10.parquet", 25, 40), ("p-9.parquet", 10, 25), ("p-1.parquet", 0, 10)] {
        write_parquet(&folder.path().join(file), &table(from, to), 4);
    }
    write_parquet(&folder.path().join("p-2.parquet"), &table(0, 0), 4);
    let input = Input::open(&[name(folder.path())]).unwrap();
    assert_eq!(input.rows, 40);
    assert_eq!(ids(&input, 0..u64::MAX), (0..40).collect::<Vec<_>>());
    assert_eq!(ids(&input, 7..29), (7..29).collect::<Vec<_>>());
    let globbed = Input::open(&[name(&folder.path().join("p-?.parquet"))]).unwrap();
    assert_eq!(ids(&globbed, 0..100), (0..25).collect::<Vec<_>>());
}

#[test]
fn columns_that_differ_are_refused_where_they_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let [a, b, c] = ["a.parquet", "b.parquet", "c.parquet"].map(|name| folder.path().join(name));
    write_parquet(&a, &table(0, 3), 10);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let columns = [("more", texts.clone()), ("text", texts.clone()), ("id", texts)];
    write_parquet(&b, &RecordBatch::try_from_iter(columns).unwrap(), 10);
    write_parquet(&c, &table(3, 5), 10);
    let input = Input::open(&[name(&a), name(&b), name(&c)]).unwrap();
    let names: Vec<_> = input.schema.fields().iter().map(|field| field.name().clone()).collect();
    assert_eq!(names, ["id", "text", "more"]);
    input.refuse_unreadable(&[1]).unwrap();
    let (cells, lost) = read_all(&input, &[1]);
    assert_eq!(
        (cells, lost),
        (
            vec![["text 0", "text 1", "text 2", "x", "text 3", "text 4"].map(String::from).to_vec()],
            vec![vec![]]
        )
    );
    for (column, words) in [
        (0, ["b.parquet, column id: is Utf8, but it is Int64 in", "cast it to Utf8 in"]),
        (2, ["a.parquet, column more: is missing, but it is in", "--keep"]),
    ] {
        let error = input.refuse_unreadable(&[column]).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{error}");
    }
}

#[test]
fn a_damaged_file_is_an_error_that_names_file_and_row_group() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &table(0, 3000), 1000);
    let good = std::fs::read(&path).unwrap();
    for cut in [0, 3, 11, good.len() / 2, good.len() - 1] {
        std::fs::write(&path, &good[..cut]).unwrap();
        let error = Input::open(&[name(&path)]).unwrap_err().to_string();
        assert!(error.contains("a.parquet") && error.contains("footer is missing"), "{cut}: {error}");
    }
    // Any damage is a typed error or goes unnoticed, whatever byte it hits; it is never a panic.
    let mut caught = 0;
    for at in (4..good.len()).step_by(131) {
        let mut bad = good.clone();
        bad[at] ^= 0xff;
        std::fs::write(&path, &bad).unwrap();
        let Ok(input) = Input::open(&[name(&path)]) else { continue };
        for batch in input.read(vec![0, 1], 0..input.rows) {
            if let Err(error) = batch.and_then(Batch::refuse_lost) {
                let error = error.to_string();
                assert!(error.contains("a.parquet"), "{error}");
                caught += 1;
            }
        }
    }
    assert!(caught > 0);
}

/// Overwrites the pages of a column of a row group, but for the first bytes.
fn damage(path: &Path, group: usize, column: usize, keep: u64) {
    let source = Source::local(path).open().unwrap();
    let metadata = Footer::read(&source, path).unwrap().group(group).unwrap();
    let (start, length) = metadata.metadata().row_group(0).column(column).byte_range();
    let mut bytes = std::fs::read(path).unwrap();
    bytes[(start + keep) as usize..(start + length) as usize].fill(0xee);
    std::fs::write(path, &bytes).unwrap();
}

/// All rows of all columns: the cells by column and row, and the rows that are lost by column.
fn read_all(input: &Input, columns: &[usize]) -> (Vec<Vec<String>>, Vec<Vec<u64>>) {
    let (mut cells, mut lost) = (vec![Vec::new(); columns.len()], vec![Vec::new(); columns.len()]);
    for batch in input.read(columns.to_vec(), 0..u64::MAX) {
        let batch = batch.unwrap();
        for (cells, column) in cells.iter_mut().zip(batch.columns.columns()) {
            let shown = |row| arrow::util::display::array_value_to_string(column, row).unwrap();
            cells.extend((0..column.len()).map(shown));
        }
        for cells in &batch.lost {
            lost[cells.column].extend(cells.rows.iter().map(|&row| batch.first_row + row as u64));
            assert!(cells.rows.iter().all(|&row| batch.columns.column(cells.column).is_null(row)));
        }
    }
    (cells, lost)
}

#[test]
fn a_damaged_column_takes_no_other_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &table(0, 3000), 1000);
    damage(&path, 1, 1, 0);
    let input = Input::open(&[name(&path)]).unwrap();
    let (cells, lost) = read_all(&input, &[0, 1]);
    assert_eq!(lost, [vec![], (1000..2000).collect::<Vec<u64>>()]);
    assert!(cells[0].iter().enumerate().all(|(row, cell)| *cell == row.to_string()));
    for (row, cell) in cells[1].iter().enumerate() {
        let there = !(1000..2000).contains(&row);
        assert_eq!(*cell, if there { format!("text {row}") } else { String::new() });
    }
    let error = input.read(vec![0, 1], 0..3000).find_map(|batch| batch.and_then(Batch::refuse_lost).err());
    let error = error.unwrap().to_string();
    assert!(error.contains("row group 1, column text: 1000 rows from row 1000 on"), "{error}");
}

#[test]
fn rows_before_a_damaged_page_are_read_however_the_batches_fall() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values((0..3000).map(|i| format!("{i:0>40}"))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..3000));
    let properties = parquet::file::properties::WriterProperties::builder()
        .set_dictionary_enabled(false)
        .set_write_batch_size(100)
        .set_data_page_row_count_limit(100);
    let file = std::fs::File::create(&path).unwrap();
    let batch = RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap();
    let mut writer =
        parquet::arrow::ArrowWriter::try_new(file, batch.schema(), Some(properties.build())).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    // The text of row 1510, and the length of the next.
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(4).position(|four| four == b"1510").unwrap();
    bytes[at - 30..at + 60].fill(0xee);
    std::fs::write(&path, &bytes).unwrap();
    let input = Input::open(&[name(&path)]).unwrap();
    let (cells, lost) = read_all(&input, &[0, 1]);
    assert_eq!(lost, [vec![], (1510..3000).collect::<Vec<u64>>()]);
    assert!(cells[0].iter().enumerate().all(|(row, cell)| *cell == row.to_string()));
    assert!((0..1510).all(|row| cells[1][row] == format!("{row:0>40}")));
    for first in [1, 1400, 1509, 1510, 1511] {
        let read: Vec<_> = input.read(vec![1], first..3000).map(Result::unwrap).collect();
        let lost: Vec<u64> = read.iter().flat_map(|batch| batch.lost_rows().into_keys()).collect();
        assert_eq!(lost, (first.max(1510)..3000).collect::<Vec<u64>>());
    }
}

/// A file with texts, by themselves and as items of lists, some of which are not UTF-8.
fn bytes_as_texts(path: &Path, rows: usize, bad: impl Fn(usize) -> bool) {
    use parquet::data_type::{ByteArray, ByteArrayType, Int64Type};
    let bytes = |row: usize| if bad(row) { b"ab\xff".to_vec() } else { format!("row {row}").into_bytes() };
    let texts: Vec<ByteArray> = (0..rows).map(|row| bytes(row).into()).collect();
    let items: Vec<ByteArray> = texts.iter().flat_map(|text| [b"x".to_vec().into(), text.clone()]).collect();
    let schema = "message schema { REQUIRED INT64 id; REQUIRED BYTE_ARRAY text (UTF8); \
                  REQUIRED group list (LIST) { REPEATED group list { OPTIONAL BYTE_ARRAY item (UTF8); } } }";
    let schema = Arc::new(parquet::schema::parser::parse_message_type(schema).unwrap());
    let file = std::fs::File::create(path).unwrap();
    let mut writer =
        parquet::file::writer::SerializedFileWriter::new(file, schema, Default::default()).unwrap();
    let mut group = writer.next_row_group().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<Int64Type>().write_batch(&Vec::from_iter(0..rows as i64), None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    column.typed::<ByteArrayType>().write_batch(&texts, None, None).unwrap();
    column.close().unwrap();
    let mut column = group.next_column().unwrap().unwrap();
    let levels = |of_row: [i16; 3]| std::iter::repeat_n(of_row, rows).flatten().collect::<Vec<i16>>();
    let (nulls, lists) = (levels([2, 1, 2]), levels([0, 1, 1]));
    column.typed::<ByteArrayType>().write_batch(&items, Some(&nulls), Some(&lists)).unwrap();
    column.close().unwrap();
    group.close().unwrap();
    writer.close().unwrap();
}

#[test]
fn a_text_that_is_not_utf8_is_one_cell() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    for bad in [vec![], vec![1700], vec![0, 5, 1023, 1024, 2999], (0..3000).collect::<Vec<usize>>()] {
        bytes_as_texts(&path, 3000, |row| bad.contains(&row));
        let input = Input::open(&[name(&path)]).unwrap();
        assert_eq!(input.schema.field(1).data_type(), &arrow::datatypes::DataType::Utf8);
        let (cells, lost) = read_all(&input, &[0, 1, 2]);
        let expected: Vec<u64> = bad.iter().map(|&row| row as u64).collect();
        assert_eq!(lost, [vec![], expected.clone(), expected]);
        assert!(cells[0].iter().enumerate().all(|(row, cell)| *cell == row.to_string()));
        for row in (0..3000).filter(|row| !bad.contains(row)) {
            assert_eq!(cells[1][row], format!("row {row}"));
            assert_eq!(cells[2][row], format!("[x, , row {row}]"));
        }
    }
}

#[test]
fn a_file_that_changes_is_not_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &table(0, 30_000), 1000);
    let bytes = std::fs::read(&path).unwrap();
    let open = || {
        let input = Input::open(&[name(&path)]).unwrap();
        input.files[0].source.identify().unwrap();
        input
    };
    let changed =
        |error: &JobError| matches!(error, JobError::Changed { path } if path.ends_with("a.parquet"));
    let first = |input: &Input| input.read(vec![0], 0..30_000).next().unwrap();
    // It is cut and written again while it is read, as `cp` does it.
    let input = open();
    let mut batches = input.read(vec![0, 1], 0..30_000);
    assert_eq!(batches.next().unwrap().unwrap().columns.num_rows(), 1000);
    std::fs::write(&path, "").unwrap();
    // What was read already is what it was.
    let error = batches.find_map(Result::err).unwrap();
    assert!(changed(&error), "{error}");
    assert!(batches.next().is_none());
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(first(&input).unwrap().columns.num_rows(), 1000);
    // Another file in its place, with rows that would do.
    write_parquet(&folder.path().join("b.parquet"), &table(5000, 35_000), 1000);
    std::fs::rename(folder.path().join("b.parquet"), &path).unwrap();
    let error = first(&input).unwrap_err();
    assert!(changed(&error), "{error}");
    // Other bytes of the same length, behind a footer that was read before.
    std::fs::write(&path, &bytes).unwrap();
    let input = open();
    let mut other = bytes.clone();
    other[2000] ^= 1;
    std::fs::write(&path, &other).unwrap();
    let error = input.read(vec![0, 1], 0..30_000).find_map(Result::err).unwrap();
    assert!(changed(&error), "{error}");
}

/// The failure is found again where the Parquet library has kept its text only.
#[test]
fn a_read_that_fails_is_not_corrupt() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &table(0, 10), 10);
    let source = Source::local(&path).open().unwrap();
    std::fs::write(&path, "").unwrap();
    let error = Footer::read(&source, &path).err().unwrap();
    assert!(matches!(error, JobError::Changed { .. }), "{error}");
}

#[test]
fn nulls_are_counted_by_the_footers() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let texts: ArrayRef = Arc::new(StringArray::from_iter((0..30).map(|i| (i % 3 == 0).then_some("x"))));
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..30));
    write_parquet(&path, &RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap(), 7);
    let copy = folder.path().join("b.parquet");
    std::fs::copy(&path, &copy).unwrap();
    let input = Input::open(&[name(&path), name(&copy)]).unwrap();
    assert_eq!(input.nulls, [Some(0), Some(40)]);
}

/// Written by pyarrow with `write_page_checksum`. A byte that is another is still UTF-8.
#[test]
fn a_page_with_a_wrong_checksum_is_damaged() {
    use base64::Engine;
    const SOUND: &str = "UEFSMRUAFUQVRBXN/pmVDRwVBhUAFQYVBhwAAAAOAAAAb25lIHNvdW5kIHRleHQDAAAAdHdvBQAAAHRocmVlFQQZLDUAGA\
                         ZzY2hlbWEVAgAVDCUAGAR0ZXh0JQBMHAAAABYGGRwZHCYAHBUMGSUGABkYBHRleHQVABYGFnYWdiYISRwVABUAFQIAPB\
                         YsGQYZBgAAABZ2FgYmCBZ2ACggcGFycXVldC1jcHAtYXJyb3cgdmVyc2lvbiAyNi4wLjEZHBwAAACGAAAAUEFSMQ==";
    let mut bytes = base64::prelude::BASE64_STANDARD.decode(SOUND).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    std::fs::write(&path, &bytes).unwrap();
    let (cells, lost) = read_all(&Input::open(&[name(&path)]).unwrap(), &[0]);
    assert_eq!((cells[0].concat(), lost), ("one sound texttwothree".into(), vec![vec![]]));
    let at = bytes.windows(5).position(|five| five == b"sound").unwrap();
    bytes[at..at + 5].copy_from_slice(b"wrong");
    std::fs::write(&path, &bytes).unwrap();
    let input = Input::open(&[name(&path)]).unwrap();
    assert_eq!(read_all(&input, &[0]).1, [vec![0, 1, 2]]);
    let error = input.read(vec![0], 0..3).find_map(|batch| batch.and_then(Batch::refuse_lost).err());
    let error = error.unwrap().to_string();
    assert!(error.contains("CRC checksum mismatch"), "{error}");
}

#[test]
fn lines_are_read_from_any_row_on() {
    let folder = tempfile::tempdir().unwrap();
    let rows = 20_000u64;
    let json: String = (0..rows).map(|i| format!("{{\"id\": {i}, \"text\": \"x\"}}\n\n")).collect();
    let csv: String =
        std::iter::once("id,text\n".into()).chain((0..rows).map(|i| format!("{i},\"a\nb\"\r\n"))).collect();
    for (file, text) in [("a.jsonl", json), ("a.csv", csv)] {
        std::fs::write(folder.path().join(file), text).unwrap();
        let input = Input::open(&[name(&folder.path().join(file))]).unwrap();
        assert_eq!((input.rows, input.files[0].row_groups.len()), (rows, 3));
        for first in [0, 1, 8191, 8192, 8193, 16_384, rows - 1] {
            let expected: Vec<i64> = (first as i64..rows.min(first + 9000) as i64).collect();
            assert_eq!(ids(&input, first..first + 9000), expected, "{file} from {first}");
        }
        // A file that changes is met at the first byte of it.
        std::fs::write(folder.path().join(file), vec![b'\n'; 100]).unwrap();
        let error = input.read(vec![0], 0..rows).next().unwrap().unwrap_err();
        assert!(error.to_string().contains("has changed"), "{error}");
    }
}

/// Cells by row and column.
type Cells = Vec<Vec<Option<String>>>;

/// The cells of a file, and its rows that are lost.
fn cells_of(folder: &Path, file: &str, text: &str) -> (Cells, Vec<(u64, String)>) {
    std::fs::write(folder.join(file), text).unwrap();
    let input = Input::open(&[name(&folder.join(file))]).unwrap();
    let (mut cells, mut lost) = (Vec::new(), Vec::new());
    for batch in input.read((0..input.schema.fields().len()).collect(), 0..u64::MAX) {
        let batch = batch.unwrap();
        lost.extend(batch.lost_rows());
        for row in 0..batch.columns.num_rows() {
            let shown = |column: &ArrayRef| arrow::util::display::array_value_to_string(column, row).unwrap();
            let columns = batch.columns.columns().iter();
            cells.push(columns.map(|column| column.is_valid(row).then(|| shown(column))).collect());
        }
    }
    (cells, lost)
}

#[test]
fn a_record_that_may_hold_other_rows_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.csv");
    for (bad, words) in [
        // Closed by nothing, by a quote that opens another field, and by one that stands in its middle.
        (
            "20,\"never closed",
            &[", line 22: ", "begins in line 22 is not closed by the end of the file: close it"][..],
        ),
        ("20,x\n21,\"a\nb\"\n22,\"c\n\n", &[", line 25: "]),
        (
            "20,\"open\n21,x\n22,\"y\"",
            &["lines 22 to 24: the record", "behind its closing quote", "how many rows"],
        ),
        ("20,\"open\n21,x\n22\",y", &["lines 22 to 24: the record has 3 fields", "how many rows"]),
    ] {
        let rows = |from: u64, to: u64| (from..to).map(|i| format!("{i},x\r\n")).collect::<String>();
        std::fs::write(&path, format!("id,q\n{}{bad}\n{}", rows(0, 20), rows(30, 50))).unwrap();
        let error = Input::open(&[name(&path)]).unwrap_err().to_string();
        assert!(words.iter().all(|word| error.contains(word)), "{bad}: {error}");
    }
    for (header, words) in
        [("id,\"q\n1,x\n", "line 1: a quoted"), ("id,\"q\"x\n1,x\n", "line 1: the line has a field")]
    {
        std::fs::write(&path, header).unwrap();
        let error = Input::open(&[name(&path)]).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
}

#[test]
fn what_follows_on_a_closing_quote_makes_a_line_wrong() {
    let folder = tempfile::tempdir().unwrap();
    let text = "id,q\n1,\"a\"b\n2,\"x\"\"y\"\n3,\"x\"y\"z\"\n4,a \"b\"\n5,\"x\" \n\"6\",\"\"\r\n7\n";
    let (cells, lost) = cells_of(folder.path(), "a.csv", text);
    let ids = [None, Some("2"), None, Some("4"), None, Some("6"), None];
    assert_eq!(cells.iter().map(|row| row[0].as_deref()).collect::<Vec<_>>(), ids);
    let texts = [None, Some("x\"y"), None, Some("a \"b\""), None, Some(""), None];
    assert_eq!(cells.iter().map(|row| row[1].as_deref()).collect::<Vec<_>>(), texts);
    assert_eq!(lost.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [0, 2, 4, 6]);
    let (row, why) = &lost[1];
    assert!(*row == 2 && why.starts_with("row 2: the line has a field with something behind"), "{why}");
    assert!(why.ends_with("a.csv, line 4)") && why.matches("line 4").count() == 1, "{why}");
}

#[test]
fn a_blank_line_is_a_null_where_there_is_one_column() {
    let folder = tempfile::tempdir().unwrap();
    for end in ["\n", "\r\n", "\r"] {
        let text = "\u{feff}\n\"q\"\n\na\n\n\n\"\"\n\"b\n\nc\"\n\n".replace('\n', end);
        let (cells, lost) = cells_of(folder.path(), "one.csv", &text);
        let long = format!("b{end}{end}c");
        let expected = [None, Some("a"), None, None, Some(""), Some(&long), None];
        assert_eq!(cells.iter().map(|row| row[0].as_deref()).collect::<Vec<_>>(), expected, "{end:?}");
        assert!(lost.is_empty());
        let (cells, lost) = cells_of(folder.path(), "two.csv", &"a,b\n\n1,2\n\n\n3,4".replace('\n', end));
        assert_eq!((cells.len(), lost), (2, vec![]));
    }
    // From any row on, with a mark that is a field's own where a block begins.
    let rows: String =
        (0..10_000).map(|i| if i % 2 == 1 { "\r\n".into() } else { format!("\u{feff}{i}\r\n") }).collect();
    let (cells, _) = cells_of(folder.path(), "many.csv", &format!("q\r\n{rows}"));
    assert_eq!(cells.len(), 10_000);
    for (row, cell) in cells.iter().enumerate() {
        assert_eq!(cell[0], (row % 2 == 0).then(|| format!("\u{feff}{row}")));
    }
}

#[test]
fn lines_are_read_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("requests.jsonl");
    let line = |i: usize| match i % 5 {
        0 => b"\xff\x00 no UTF-8".to_vec(),
        1 => b"{\"a\": ".to_vec(),
        _ => format!(" {i} ").into_bytes(),
    };
    let text =
        |i: usize| [line(i), if i.is_multiple_of(3) { b"\r\n".to_vec() } else { b"\n\n".to_vec() }].concat();
    std::fs::write(&path, (0..9000).flat_map(text).collect::<Vec<_>>()).unwrap();
    let search = Search { format: Some(InputFormat::Lines), ..Search::default() };
    for input in [name(&path), name(folder.path())] {
        let input = Input::search(&[input], &search).unwrap();
        assert_eq!((input.rows, input.inferred()), (9000, None));
        for rows in [0..9000, 8190..8195, 8999..9000] {
            let mut read = Vec::new();
            for batch in input.read(vec![0], rows.clone()) {
                let batch = batch.unwrap();
                assert!(batch.lost.is_empty());
                let lines = arrow::array::AsArray::as_binary::<i32>(batch.columns.column(0));
                read.extend(lines.iter().map(|line| line.unwrap().to_vec()));
            }
            assert_eq!(read, (rows.start as usize..rows.end as usize).map(line).collect::<Vec<_>>());
        }
    }
    std::fs::write(&path, "PAR1").unwrap();
    assert!(Input::search(&[name(&path)], &search).is_err());
}
