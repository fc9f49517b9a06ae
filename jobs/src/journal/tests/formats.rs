//! Journals of every format, and of one that is not known.

use super::*;

const ROWS: u64 = 60;

const ALL: [Format; 4] = [Format::One, Format::Two, Format::Three, Format::Four];

/// A journal of a format with answers to its first rows, closed.
fn begun(state_dir: &Path, format: Format, answers: u64) {
    schema::fill(&schema::path(state_dir), format, &written(format), &inputs(ROWS)).unwrap();
    let (mut journal, finished) = open(state_dir, ROWS);
    assert_eq!(finished.count, 0);
    (0..answers).for_each(|row| journal.append(answer(row)).unwrap());
    journal.close().unwrap();
}

fn sql(state_dir: &Path, statement: &str) {
    rusqlite::Connection::open(schema::path(state_dir)).unwrap().execute_batch(statement).unwrap();
}

fn number(state_dir: &Path) -> i64 {
    let connection = rusqlite::Connection::open(schema::path(state_dir)).unwrap();
    connection.pragma_query_value(None, "user_version", |row| row.get(0)).unwrap()
}

#[test]
fn a_job_is_resumed_in_the_format_in_which_it_was_begun() {
    for (format, stored) in [(Format::One, 0), (Format::Two, 2), (Format::Three, 3), (Format::Four, 4)] {
        let state_dir = tempfile::tempdir().unwrap();
        begun(state_dir.path(), format, 20);
        let (mut journal, finished) = open(state_dir.path(), ROWS);
        assert_eq!((finished.count, journal.identity()), (20, &written(format)));
        (20..ROWS).for_each(|row| journal.append(answer(row)).unwrap());
        journal.commit().unwrap();
        let read = journal.reader().unwrap().answers(0..ROWS).unwrap();
        assert!((0..ROWS).zip(read).all(|(row, read)| read == Some(answer(row))));
        journal.close().unwrap();
        assert_eq!(number(state_dir.path()), stored);
        assert_eq!(Database::open(&schema::path(state_dir.path())).unwrap().format, format);
    }
    let state_dir = tempfile::tempdir().unwrap();
    drop(open(state_dir.path(), ROWS));
    assert_eq!(number(state_dir.path()), 4, "a new journal");
}

#[test]
fn another_identity_is_refused_by_field_in_every_format() {
    for format in ALL {
        let state_dir = tempfile::tempdir().unwrap();
        begun(state_dir.path(), format, 2);
        let mut other = job_identity();
        other.identity = Identity::default();
        other.identity.push("weights", "5e1f");
        other.identity.push("temperature", 0.5);
        other.format1[1].value = Some("0.5".into());
        let refused = Journal::open_or_create(state_dir.path(), &other, &inputs(ROWS), ResumeMode::Auto);
        let message = refused.err().unwrap().to_string();
        assert!(message.contains("temperature: begun with 0, now 0.5\n"), "{message}");
        assert!(!message.contains("weights"), "{message}");
    }
}

#[test]
fn a_journal_of_an_unknown_format_is_refused_by_its_number_and_left_alone() {
    let state_dir = tempfile::tempdir().unwrap();
    begun(state_dir.path(), Format::Three, 20);
    // Whatever else such a format may change.
    sql(
        state_dir.path(),
        "PRAGMA user_version = 7; CREATE TABLE more (x); UPDATE answers SET checksum = 0; PRAGMA journal_mode = DELETE",
    );
    std::fs::write(state_dir.path().join("in-flight"), 3u64.to_le_bytes()).unwrap();
    let before = files(state_dir.path());
    let open =
        |mode| Journal::open_or_create(state_dir.path(), &job_identity(), &inputs(ROWS), mode).err().unwrap();
    for error in [
        open(ResumeMode::Auto),
        open(ResumeMode::Require),
        JournalReader::open(state_dir.path()).err().unwrap(),
        record_death(state_dir.path(), Death::Crash).unwrap_err(),
    ] {
        assert!(matches!(error, JobError::JournalFormat { format: 7, .. }), "{error}");
        let message = error.to_string();
        assert!(message.contains("of format 7") && !message.contains("damaged"), "{message}");
    }
    assert!(matches!(open(ResumeMode::Never), JobError::AlreadyBegun { .. }));
    assert_eq!(files(state_dir.path()), before);
    let fresh = Journal::open_or_create(state_dir.path(), &job_identity(), &inputs(ROWS), ResumeMode::Fresh);
    fresh.unwrap().0.close().unwrap();
    assert_eq!(number(state_dir.path()), 4);
}

#[test]
fn a_job_with_other_prompts_is_to_be_finished_unless_it_is() {
    let state_dir = tempfile::tempdir().unwrap();
    let of_version = |version| {
        let mut identity = identity();
        identity.push("prompts_version", version);
        JobIdentity { identity, format1: Vec::new() }
    };
    let open = |version| {
        Journal::open_or_create(state_dir.path(), &of_version(version), &inputs(9), ResumeMode::Auto)
    };
    let mut journal = open(1).unwrap().0;
    let refused = |words: &str| {
        let message = open(2).err().unwrap().to_string();
        assert!(
            message.contains("prompts_version: begun with 1, now 2") && message.contains(words),
            "{message}"
        );
    };
    journal.append(answer(0)).unwrap();
    journal.close().unwrap();
    refused("finish it with that version");
    journal = open(1).unwrap().0;
    (1..9).for_each(|row| journal.append(answer(row)).unwrap());
    journal.close().unwrap();
    refused("all its rows are answered");
}

#[test]
fn a_format_does_not_pass_for_another() {
    for (format, other) in [(Format::One, 2), (Format::Two, 0)] {
        let state_dir = tempfile::tempdir().unwrap();
        begun(state_dir.path(), format, 2);
        sql(state_dir.path(), &format!("PRAGMA user_version = {other}"));
        let refused =
            Journal::open_or_create(state_dir.path(), &job_identity(), &inputs(ROWS), ResumeMode::Auto);
        assert!(matches!(refused.err(), Some(JobError::JournalDamaged { .. })));
    }
}

#[test]
fn a_damaged_journal_is_repaired_in_its_own_format() {
    for format in ALL {
        let state_dir = tempfile::tempdir().unwrap();
        begun(state_dir.path(), format, 20);
        sql(state_dir.path(), "UPDATE answers SET text = 'other' WHERE row = 3");
        let (journal, finished) = open(state_dir.path(), ROWS);
        assert_eq!((finished.count, finished.contains(3), journal.identity()), (19, false, &written(format)));
        let read = journal.reader().unwrap().answers(0..20).unwrap();
        assert!((0..20).zip(read).all(|(row, read)| read == (row != 3).then(|| answer(row))));
        journal.close().unwrap();
        assert_eq!(Database::open(&schema::path(state_dir.path())).unwrap().format, format);
    }
}

#[test]
fn a_count_of_deaths_that_is_damaged_blames_nobody() {
    for format in ALL {
        let state_dir = tempfile::tempdir().unwrap();
        begun(state_dir.path(), format, 20);
        sql(state_dir.path(), "INSERT INTO attempts VALUES (30, 3, 0, 0)");
        let (journal, finished) = open(state_dir.path(), ROWS);
        assert_eq!((finished.count, finished.errors, journal.alone()), (20, 2, &[][..]));
    }
}

#[test]
fn format_2_has_no_settings_and_format_3_none_that_are_not_known() {
    for (format, settings, known) in [
        (Format::Two, r#"{"max_tokens":64}"#, false),
        (Format::Three, r#"{"max_tokens":64}"#, true),
        (Format::Three, r#"{"temperature":1}"#, false),
    ] {
        let state_dir = tempfile::tempdir().unwrap();
        begun(state_dir.path(), format, 0);
        let mut database = Database::open(&schema::path(state_dir.path())).unwrap();
        database.settings = Some(settings.into());
        assert!(database.insert(&answer(1)).unwrap());
        drop(database);
        let read =
            Journal::open_or_create(state_dir.path(), &job_identity(), &inputs(ROWS), ResumeMode::Auto);
        match read {
            Ok((_, finished)) => assert!(known && finished.contains(1)),
            Err(error) => assert!(!known && matches!(error, JobError::JournalDamaged { .. }), "{error}"),
        }
    }
}

/// Another job with answers of its own to the same rows.
fn other_job(state_dir: &Path) {
    let mut identity = Identity::default();
    identity.push("weights", "5e1f");
    identity.push("temperature", 1);
    schema::fill(&schema::path(state_dir), Format::Three, &identity, &inputs(ROWS)).unwrap();
    let other = JobIdentity { identity, format1: Vec::new() };
    let (mut journal, _) =
        Journal::open_or_create(state_dir, &other, &inputs(ROWS), ResumeMode::Auto).unwrap();
    (0..20).for_each(|row| journal.append(Answer::failed(row, None, "other")).unwrap());
    journal.close().unwrap();
}

#[test]
fn records_of_another_job_are_not_believed() {
    let (state_dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    begun(state_dir.path(), Format::Three, 20);
    other_job(other.path());
    let take = format!(
        "ATTACH '{}' AS other; REPLACE INTO answers SELECT * FROM other.answers WHERE row IN (4, 30)",
        schema::path(other.path()).display()
    );
    sql(state_dir.path(), &take);
    let (_, finished) = open(state_dir.path(), ROWS);
    assert_eq!((finished.count, finished.contains(4), finished.contains(30)), (19, false, false));
}

#[test]
fn a_journal_that_took_the_place_of_an_open_one_is_not_believed() {
    let (state_dir, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    begun(state_dir.path(), Format::Three, 20);
    other_job(other.path());
    let (mut journal, _) = open(state_dir.path(), ROWS);
    journal.append(answer(20)).unwrap();
    for name in ["journal.sqlite-wal", "journal.sqlite-shm", "journal.sqlite"] {
        let _ = std::fs::remove_file(state_dir.path().join(name));
    }
    std::fs::copy(schema::path(other.path()), schema::path(state_dir.path())).unwrap();
    let journal = journal.end().unwrap();
    let read = journal.reader.answers(0..21).unwrap();
    assert!((0..).zip(read).all(|(row, read)| read == Some(answer(row))));
}
