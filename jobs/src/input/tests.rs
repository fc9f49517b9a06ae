#![allow(clippy::unwrap_used)]
use super::*;
use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringArray};
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
fn schemas_must_agree() {
    let folder = tempfile::tempdir().unwrap();
    let (a, b) = (folder.path().join("a.parquet"), folder.path().join("b.parquet"));
    write_parquet(&a, &table(0, 3), 10);
    let texts: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    write_parquet(&b, &RecordBatch::try_from_iter([("id", texts.clone()), ("text", texts)]).unwrap(), 10);
    let error = Input::open(&[name(&a), name(&b)]).unwrap_err().to_string();
    assert!(error.contains("b.parquet, column id: is Utf8, but it is Int64 in"), "{error}");
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
            if let Err(corrupt) = batch {
                let error = corrupt.error.to_string();
                assert!(error.contains("a.parquet"), "{error}");
                caught += 1;
            }
        }
    }
    assert!(caught > 0);
}

#[test]
fn rows_after_a_corrupt_row_group_are_read() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    write_parquet(&path, &table(0, 3000), 1000);
    let input = Input::open(&[name(&path)]).unwrap();
    let group = footer(&input.files[0].source.open().unwrap(), &path)
        .unwrap()
        .metadata()
        .row_group(1)
        .column(1)
        .clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let (start, length) = group.byte_range();
    bytes[start as usize..(start + length) as usize].fill(0xee);
    std::fs::write(&path, &bytes).unwrap();
    let (mut rows, mut lost) = (0, Vec::new());
    for batch in input.read(vec![0, 1], 0..3000) {
        match batch {
            Ok(batch) => rows += batch.columns.num_rows(),
            Err(corrupt) => {
                assert!(corrupt.error.to_string().contains("row group 1"), "{}", corrupt.error);
                lost.push(corrupt.rows);
            }
        }
    }
    assert_eq!((rows, lost.as_slice()), (2000, std::slice::from_ref(&(1000..2000))));
}
