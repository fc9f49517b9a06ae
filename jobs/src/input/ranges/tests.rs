#![allow(clippy::unwrap_used)]
use super::*;
use crate::input::Input;
use crate::input::format::InputFormat;
use crate::input::source::Source;
use crate::store::bucket::Bucket;
use crate::store::error::StoreError;
use crate::store::fake::FakeBucket;
use crate::store::location::ObjectUrl;

const SIZE: u64 = 20 << 20;

fn fake() -> (Arc<FakeBucket>, Vec<u8>, Source) {
    let bytes: Vec<u8> = (0..SIZE / 8).flat_map(|i| (i * 0x9e37_79b9).to_le_bytes()).collect();
    let fake = Arc::new(FakeBucket::default());
    fake.put("a", bytes.clone());
    let bucket: Arc<dyn Bucket> = fake.clone();
    let object = Object::find(&bucket, ObjectUrl::parse("s3://b/a").unwrap()).unwrap();
    (fake, bytes, Source::Object(object))
}

#[test]
fn any_bytes_of_an_object_are_those_of_the_object() {
    let (_, bytes, source) = fake();
    let open = source.open().unwrap();
    let mut dice = 1u64;
    for round in 0..2000 {
        if round % 500 == 0 {
            // None at all, small, overlapping and large ones.
            let chunks = [0..0, 100..5000, 3000..SIZE / 2, SIZE / 2..SIZE * 2];
            open.will_read(chunks.into_iter().take(round / 300));
        }
        dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let start = (dice >> 20) % SIZE;
        let length = ((dice >> 45) % 70_000).min(SIZE - start) as usize;
        let expected = &bytes[start as usize..start as usize + length];
        assert!(open.get_bytes(start, length).unwrap() == expected, "{start} {length}");
        let mut read = vec![0; length];
        open.get_read(start).unwrap().read_exact(&mut read).unwrap();
        assert!(read == expected, "{start} {length}");
    }
    assert!(open.get_bytes(SIZE - 3, 4).is_err());
    assert_eq!(source.digest().unwrap(), blake3::hash(&bytes).to_hex().to_string());
}

#[test]
fn a_chunk_that_is_read_in_order_is_fetched_once() {
    let (fake, _, source) = fake();
    let open = source.open().unwrap();
    open.will_read([0..SIZE / 2, SIZE / 2..SIZE].into_iter());
    for at in (0..SIZE / 2).step_by(64 << 10) {
        for start in [at, at + SIZE / 2] {
            open.get_read(start).unwrap().read_exact(&mut [0; 30]).unwrap();
            open.get_bytes(start + 30, (64 << 10) - 30).unwrap();
        }
    }
    assert!(fake.fetched() < SIZE + SIZE / 50, "{}", fake.fetched());
}

#[test]
fn a_changed_object_is_not_read() {
    let (fake, bytes, source) = fake();
    let open = source.open().unwrap();
    let before = source.identify().unwrap();
    open.get_bytes(0, 100).unwrap();
    fake.put("a", bytes[1..].to_vec());
    assert!(open.get_bytes(1000, 100).unwrap_err().to_string().contains("has changed"));
    let failure = open.failure().unwrap();
    // Not about what was read: that would be `JobError::Input`.
    assert!(matches!(failure, JobError::Store { error: StoreError::Changed, .. }));
    let Source::Object(object) = &source else { unreachable!() };
    let now = Object::find(&object.bucket, object.url.clone()).unwrap();
    assert_ne!(Source::Object(now).identify().unwrap(), before);
}

/// As streaming writers leave them: a row group takes a few bytes of the footer, and no more is read for it.
#[test]
fn many_row_groups_are_read_in_proportion() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("a.parquet");
    let rows = 3000;
    let ids: arrow::array::ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..rows));
    let batch = arrow::array::RecordBatch::try_from_iter([("id", ids)]).unwrap();
    crate::input::tests::write_parquet(&path, &batch, 1);
    let bytes = std::fs::read(&path).unwrap();
    let fake = Arc::new(FakeBucket::default());
    fake.put("a", bytes.clone());
    let bucket: Arc<dyn Bucket> = fake.clone();
    let object = Object::find(&bucket, ObjectUrl::parse("s3://b/a").unwrap()).unwrap();
    let source = Source::Object(object);
    let input = Input::of_source(&source, InputFormat::Parquet).unwrap();
    let (before, calls) = (fake.fetched(), fake.calls());
    let read: usize =
        input.read(vec![0], 0..rows as u64).map(|batch| batch.unwrap().columns.num_rows()).sum();
    assert_eq!(read, rows as usize);
    let (fetched, calls) = (fake.fetched() - before, fake.calls() - calls);
    // The footer twice, and each page.
    assert!(
        fetched < 3 * bytes.len() as u64 && calls < rows as u64 + 20,
        "{fetched} of {}, {calls}",
        bytes.len()
    );
}
