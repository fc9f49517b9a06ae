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
    published_with(folder, rows_per_file, Arc::new(Int64Array::from_iter_values(0..ROWS as i64)))
}

/// [`published`] with these values of the column `id`, of which the input's footers say that none is null.
fn published_with(folder: &Path, rows_per_file: Option<u64>, ids: ArrayRef) -> PathBuf {
    let output = folder.join("out");
    let state_dir = state_dir_beside(&output);
    let (mut journal, _) =
        Journal::open_or_create(&state_dir, &job_identity(), &inputs(ROWS), ResumeMode::Auto).unwrap();
    (0..ROWS).for_each(|row| journal.append(answer(row)).unwrap());
    journal.commit().unwrap();
    let input = RecordBatch::try_from_iter_with_nullable([("id", ids, true)]).unwrap();
    let columns = OutputColumns::new(&input.schema(), None, Returns::default(), 1, None, "").unwrap();
    let identity = &identity();
    let (target, state_dir, columns) = (&Target::Local(output.clone()), &*state_dir, &columns);
    let unanswered = Unanswered::Refuse;
    let publication = Publication {
        target,
        state_dir,
        identity,
        rows: ROWS,
        rows_per_file,
        shard: None,
        columns,
        input_nulls: BTreeMap::from([("id".into(), 0)]),
        unanswered,
        results: None,
        may_appear: &|| Ok(()),
    };
    publication.publish(&journal.reader().unwrap(), std::iter::once(Ok(Batch::whole(0, input)))).unwrap();
    output
}

fn verify_path(output: &Path) -> Result<Verified, JobError> {
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
        let verified = verify_path(&output).unwrap();
        assert_eq!((verified.rows, verified.files), (ROWS, if rows_per_file.is_some() { 4 } else { 1 }));
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

/// A manifest as earlier versions have written it: without a digest of its own.
fn of_earlier(text: &str) -> String {
    let mut manifest: serde_json::Value = serde_json::from_str(text).unwrap();
    let keys = manifest.as_object_mut().unwrap();
    assert!(keys.remove("manifest_blake3").is_some() && keys.remove("inputs_blake3").is_some());
    serde_json::to_string_pretty(&manifest).unwrap()
}

#[test]
fn an_edited_manifest_does_not_pass() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(60));
    let path = state_dir_beside(&output).join(manifest::NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    // Nothing is said of the output by what may be false.
    let only = |problems: String| {
        assert!(problems.lines().count() == 1 && problems.contains("its own digest does not"), "{problems}");
    };
    for edit in [
        text.replace("5e1f", "ffff"),
        text.replace("\"version\"", "\"evil\": 1, \"version\""),
        text.replace("\n", ""),
        format!("{text}\n"),
        text.replace("\"aborted\": 0", "\"aborted\": 5"),
        text.replace("\"rows\": 40", "\"rows\": 41"),
        text.replace("part-00000", "part-00007"),
        text.replace("\"blake3\": \"", "\"blake3\": \"0"),
    ] {
        assert!(edit != text);
        std::fs::write(&path, edit).unwrap();
        only(problems(&output));
    }
    let part = output.join("part-00001.parquet");
    std::fs::rename(&part, folder.path().join("part")).unwrap();
    assert_eq!(problems(&output).lines().count(), 1);
    std::fs::rename(output.join("part-00000.parquet"), &part).unwrap();
    std::fs::rename(folder.path().join("part"), output.join("part-00000.parquet")).unwrap();
    only(problems(&output));
    std::fs::remove_file(output.join("part-00001.parquet")).unwrap();
    assert!(problems(&output).contains("it begins at row 60, not 0"), "{}", problems(&output));
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(60));
    let path = state_dir_beside(&output).join(manifest::NAME);
    let text = of_earlier(&std::fs::read_to_string(&path).unwrap());
    std::fs::write(&path, &text).unwrap();
    verify_path(&output).unwrap();
    for (edit, words) in [
        (text.replace("part-00000", "../part-00000"), "which is no name of a file"),
        (text.replace("part-00000.parquet", "/dev/zero"), "which is no name of a file"),
        (text.replace("\"first_row\": 60", &format!("\"first_row\": {}", u64::MAX)), "it begins at row"),
        (text.replace("\"rows\": 40", &format!("\"rows\": {}", u64::MAX)), "rows, but"),
    ] {
        assert!(edit != text);
        std::fs::write(&path, edit).unwrap();
        let problems = problems(&output);
        assert!(problems.contains(words), "{problems}");
    }
    // Without the digest it is as an earlier version has written it, which knew nothing of the inputs.
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(60));
    let path = state_dir_beside(&output).join(manifest::NAME);
    let text = std::fs::read_to_string(&path).unwrap();
    let (head, _) = text.split_once(",\n  \"manifest_blake3\"").unwrap();
    std::fs::write(&path, format!("{head}\n}}\n")).unwrap();
    only(problems(&output));
    for text in ["{", "[0]", "", &"[".repeat(100_000)] {
        std::fs::write(&path, text).unwrap();
        assert_eq!(verify_path(&output).unwrap_err().exit_code(), crate::error::EXIT_REFUSED);
    }
}

/// Output and manifest belong together, and to another job than the journal's.
#[test]
fn the_output_of_another_job_is_found_where_the_journal_is() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), None);
    let state_dir = state_dir_beside(&output);
    let journal = state_dir.join("journal.sqlite");
    std::fs::remove_file(&journal).unwrap();
    drop(Journal::open_or_create(&state_dir, &job_identity(), &inputs(ROWS + 1), ResumeMode::Auto).unwrap());
    let found = problems(&output);
    assert!(found.contains("the output of another job") && found.contains("other inputs"), "{found}");
    std::fs::remove_file(&journal).unwrap();
    let mut identity = job_identity();
    identity.identity.push("seed", 17);
    drop(Journal::open_or_create(&state_dir, &identity, &inputs(ROWS), ResumeMode::Auto).unwrap());
    let found = problems(&output);
    assert!(found.contains("the output of another job") && found.contains("seed"), "{found}");
    std::fs::remove_file(&journal).unwrap();
    verify_path(&output).unwrap();
}

#[test]
fn a_folder_without_its_manifest_is_checked_by_its_footers() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(30));
    let state_dir = state_dir_beside(&output);
    let manifest = state_dir.join(manifest::NAME);
    // As earlier versions left it: in the folder alone, or in both places.
    std::fs::copy(&manifest, output.join(manifest::NAME)).unwrap();
    assert_eq!(verify_path(&output).unwrap().without_manifest, None);
    std::fs::remove_dir_all(&state_dir).unwrap();
    assert_eq!(verify_path(&output).unwrap().without_manifest, None);
    std::fs::remove_file(output.join(manifest::NAME)).unwrap();
    let verified = verify_path(&output).unwrap();
    assert_eq!((verified.rows, verified.files), (ROWS, 4));
    assert_eq!(verified.without_manifest, Some(manifest.display().to_string()));
    std::fs::write(output.join("other.txt"), "text").unwrap();
    assert!(problems(&output).contains("other.txt"));
    std::fs::remove_file(output.join("other.txt")).unwrap();
    std::fs::copy(output.join("part-00001.parquet"), output.join("x.parquet")).unwrap();
    assert!(problems(&output).contains("x.parquet: it begins at row 30, as"));
    std::fs::remove_file(output.join("x.parquet")).unwrap();
    std::fs::remove_file(output.join("part-00001.parquet")).unwrap();
    assert!(problems(&output).contains("part-00002.parquet: it begins at row 60, not 30"));
}

/// A kill before the last step of publishing.
#[test]
fn what_stands_by_the_next_manifest_is_as_published() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(30));
    let state_dir = state_dir_beside(&output);
    let [name, next] = [manifest::NAME, manifest::NEXT].map(|name| state_dir.join(name));
    std::fs::rename(&name, &next).unwrap();
    assert_eq!(verify_path(&output).unwrap().without_manifest, None);
    Target::Local(output.clone()).prepare(&state_dir, true).unwrap();
    assert!(name.exists() && !next.exists());
    verify_path(&output).unwrap();
}

/// Nothing is waited for, and nothing is read without end.
#[cfg(unix)]
#[test]
fn what_is_no_file_is_refused_at_once() {
    use rustix::fs::{CWD, FileType, Mode, mknodat};
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(60));
    let manifest = state_dir_beside(&output).join(manifest::NAME);
    for path in [output.join("part-00000.parquet"), manifest] {
        let sound = std::fs::read(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        mknodat(CWD, &path, FileType::Fifo, Mode::from_raw_mode(0o600), 0).unwrap();
        let refused = verify_path(&output).unwrap_err();
        assert_eq!(refused.exit_code(), crate::error::EXIT_REFUSED, "{refused}");
        assert!(
            refused.to_string().contains("no regular file but a device, a FIFO or a socket"),
            "{refused}"
        );
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, sound).unwrap();
    }
    verify_path(&output).unwrap();
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
    let text = of_earlier(&std::fs::read_to_string(&path).unwrap());
    assert!(text.contains("\"null\": 0"), "{text}");
    std::fs::write(&path, text.replace("\"null\": 0", "\"null\": 1")).unwrap();
    assert!(problems(&output).contains("column id: it has 0 nulls, but 1 were published"));
}

/// A publisher that loses a value on its way: the manifest agrees with the output, and neither with the input.
#[test]
fn a_value_that_the_publisher_lost_is_found() {
    let folder = tempfile::tempdir().unwrap();
    let ids = |lost: Option<i64>| -> ArrayRef {
        Arc::new((0..ROWS as i64).map(|id| (Some(id) != lost).then_some(id)).collect::<Int64Array>())
    };
    let output = published_with(folder.path(), None, ids(None));
    verify_path(&output).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let output = published_with(folder.path(), None, ids(Some(17)));
    let words = "column id: it has 1 nulls in rows without an error, but the input has 0 nulls";
    assert!(problems(&output).contains(words), "{}", problems(&output));
}

#[test]
fn a_folder_is_published_again_over_itself() {
    let folder = tempfile::tempdir().unwrap();
    let output = published(folder.path(), Some(30));
    assert_eq!(published(folder.path().join("other").as_path(), Some(30)).read_dir().unwrap().count(), 4);
    let (state_dir, before) = (state_dir_beside(&output), verify_path(&output).unwrap());
    Target::Local(output.clone()).prepare(&state_dir, true).unwrap();
    std::fs::remove_file(state_dir.join("journal.sqlite")).unwrap();
    assert_eq!(published(folder.path(), Some(50)), output);
    let after = verify_path(&output).unwrap();
    assert_eq!((before.files, after.files, output.read_dir().unwrap().count()), (4, 2, 2));
}
