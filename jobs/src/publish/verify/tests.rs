#![allow(clippy::unwrap_used)]
use super::*;
use crate::input::batch::Batch;
use crate::journal::tests::{answer, identity, inputs, job_identity};
use crate::journal::{Journal, ResumeMode};
use crate::publish::columns::{OutputColumns, Returns};
use crate::publish::publication::{Publication, Unanswered};
use crate::publish::target::Target;
use arrow::array::{ArrayRef, Int64Array, RecordBatch};
use std::collections::BTreeMap;
use std::sync::Arc;

const ROWS: u64 = 100;

/// Publishes a job and returns its output.
fn published(folder: &Path, rows_per_file: Option<u64>) -> PathBuf {
    let output = folder.join("out");
    let state_dir = state_dir_beside(&output);
    let (mut journal, _) =
        Journal::open_or_create(&state_dir, &job_identity(), &inputs(ROWS), ResumeMode::Auto).unwrap();
    (0..ROWS).for_each(|row| journal.append(answer(row)).unwrap());
    journal.commit().unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..ROWS as i64));
    let input = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let columns = OutputColumns::new(&input.schema(), None, Returns::default(), 1, "").unwrap();
    let identity = &identity();
    let (target, state_dir, columns) = (&Target::Local(output.clone()), &*state_dir, &columns);
    let unanswered = Unanswered::Refuse;
    let publication = Publication {
        target,
        state_dir,
        identity,
        rows: ROWS,
        rows_per_file,
        columns,
        input_nulls: BTreeMap::from([("id".into(), 0)]),
        days: false,
        unanswered,
        may_appear: &|| Ok(()),
    };
    publication.publish(&journal.reader().unwrap(), std::iter::once(Ok(Batch::whole(0, input)))).unwrap();
    output
}

fn verify_path(output: &Path) -> Result<Manifest, JobError> {
    verify(&Location::Local(output.to_path_buf()))
}

fn problems(output: &Path) -> String {
    match verify_path(output) {
        Err(JobError::NotAsPublished { problems, .. }) => problems,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_published_is_verified_and_what_was_changed_is_found() {
    for rows_per_file in [None, Some(30)] {
        let folder = tempfile::tempdir().unwrap();
        let output = published(folder.path(), rows_per_file);
        let manifest = verify_path(&output).unwrap();
        assert_eq!(manifest.parts.len(), if rows_per_file.is_some() { 4 } else { 1 });
        let part = if rows_per_file.is_some() { output.join("part-00001.parquet") } else { output.clone() };
        let sound = std::fs::read(&part).unwrap();
        let mut flipped = sound.clone();
        flipped[sound.len() / 2] ^= 1;
        std::fs::write(&part, flipped).unwrap();
        assert!(problems(&output).contains("its BLAKE3 is"));
        std::fs::write(&part, &sound[1..]).unwrap();
        assert!(problems(&output).contains(&format!("{} were published", sound.len())));
        std::fs::write(&part, sound).unwrap();
        verify_path(&output).unwrap();
        if rows_per_file.is_some() {
            std::fs::write(output.join("part-9.parquet"), "").unwrap();
            assert!(problems(&output).contains("part-9.parquet: not published"));
            std::fs::remove_file(part).unwrap();
            assert_eq!(problems(&output).lines().count(), 2);
        }
    }
}

#[test]
fn an_edited_manifest_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), None);
    let path = state_dir_beside(&output).join(manifest::NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text.replace("5e1f", "ffff")).unwrap();
    assert_eq!(problems(&output).lines().count(), 2);
}

#[test]
fn a_null_that_the_input_has_not_is_found() {
    let nulls = |null, unreadable, input| ColumnNulls { column: "id".into(), null, unreadable, input };
    let count = |null, without_error| NullCount { null, without_error };
    for (found, published, sound) in [
        (count(0, 0), nulls(0, 0, Some(0)), true),
        (count(3, 3), nulls(3, 0, Some(3)), true),
        (count(3, 3), nulls(3, 0, None), true),
        (count(5, 3), nulls(5, 2, Some(3)), true),
        (count(5, 3), nulls(5, 2, None), true),
        // A null row may have an error of its own.
        (count(3, 1), nulls(3, 0, Some(3)), true),
        (count(100, 100), nulls(100, 0, Some(0)), false),
        (count(100, 100), nulls(100, 100, Some(0)), false),
        (count(5, 4), nulls(5, 2, None), false),
        (count(3, 3), nulls(4, 0, None), false),
        (count(3, 3), nulls(3, 0, Some(4)), false),
    ] {
        assert_eq!(found.differs(&published).is_none(), sound, "{found:?} {published:?}");
    }
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), None);
    let path = state_dir_beside(&output).join(manifest::NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    assert!(text.contains("\"null\": 0"), "{text}");
    std::fs::write(&path, text.replace("\"null\": 0", "\"null\": 1")).unwrap();
    assert!(problems(&output).contains("column id: it has 0 nulls, but 1 were published"));
}

#[test]
fn a_folder_is_published_again_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(30));
    assert_eq!(published(folder.path().join("other").as_path(), Some(30)).read_dir().unwrap().count(), 5);
    let (state_dir, before) = (state_dir_beside(&output), verify_path(&output).unwrap());
    Target::Local(output.clone()).check(&state_dir).unwrap();
    std::fs::remove_file(state_dir.join("journal.sqlite")).unwrap();
    assert_eq!(published(folder.path(), Some(50)), output);
    let after = verify_path(&output).unwrap();
    assert_eq!((before.parts.len(), after.parts.len(), output.read_dir().unwrap().count()), (4, 2, 3));
}
