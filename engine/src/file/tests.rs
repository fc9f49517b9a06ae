#![allow(clippy::unwrap_used)]
use super::*;

fn bytes(len: usize) -> Vec<u8> {
    (0..len).map(|i| (i * 31 + i / 251) as u8).collect()
}

fn file(bytes: &[u8]) -> (tempfile::TempDir, Arc<VerifiedFile>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("file");
    std::fs::write(&path, bytes).unwrap();
    (folder, Arc::new(VerifiedFile::new(path)))
}

#[test]
fn a_digest_is_that_of_the_whole_file() {
    let block = SMALL_BLOCK as usize;
    for len in
        [0, 1, 1024, block - 1, block, block + 1, 2 * block, 3 * block + 5, 4 * block, 7 * block + 1024]
    {
        let bytes = bytes(len);
        let (_folder, file) = file(&bytes);
        assert_eq!(file.digest().unwrap(), blake3::hash(&bytes), "{len}");
        let open = file.open().unwrap();
        let len = len as u64;
        for range in [0..len, 0..len / 2, len / 3..len, len.saturating_sub(1)..len] {
            let expected = &bytes[range.start as usize..range.end as usize];
            assert_eq!(open.read(range.clone()).unwrap(), expected, "{len}, {range:?}");
        }
        assert!(open.read(0..len + 1).is_err());
    }
}

#[test]
fn a_large_file_has_large_blocks_and_the_same_digest() {
    let bytes = bytes(SMALL_FILE as usize + 3);
    let (_folder, file) = file(&bytes);
    assert_eq!(file.digest().unwrap(), blake3::hash(&bytes));
    let range = LARGE_BLOCK - 5..3 * LARGE_BLOCK + 5;
    let expected = &bytes[range.start as usize..range.end as usize];
    assert_eq!(file.open().unwrap().read(range).unwrap(), expected);
}

/// Every byte is held against the digest, for as long as the file is used, and whatever its times say.
#[test]
fn bytes_that_were_not_digested_are_never_read() {
    let (folder, block) = (tempfile::tempdir().unwrap(), SMALL_BLOCK);
    let path = folder.path().join("file");
    let good = bytes(3 * block as usize + 100);
    let changed = |read: Result<Vec<u8>, FileError>| matches!(read, Err(FileError::Changed { .. }));
    for at in [0, block - 1, block, 2 * block + 7, 3 * block + 99] {
        std::fs::write(&path, &good).unwrap();
        let file = Arc::new(VerifiedFile::new(&path));
        file.digest().unwrap();
        let before = file.open().unwrap();
        let mut other = good.clone();
        other[at as usize] ^= 1;
        // In place, so that the descriptor sees it.
        std::fs::write(&path, &other).unwrap();
        assert!(changed(before.read(at..at + 1)) && changed(before.read(0..good.len() as u64)), "{at}");
        let elsewhere = if at < block { 2 * block } else { 0 };
        assert!(before.read(elsewhere..elsewhere + 10).is_ok());
        // Another file of that name.
        std::fs::write(&path, &good).unwrap();
        std::fs::write(folder.path().join("other"), &other).unwrap();
        std::fs::rename(folder.path().join("other"), &path).unwrap();
        assert!(changed(file.open().unwrap().read(at..at + 1)), "{at}");
        assert_eq!(before.read(at..at + 1).unwrap(), [good[at as usize]]);
        // The same bytes again are the same file.
        std::fs::write(&path, &good).unwrap();
        let open = file.open().unwrap();
        assert_eq!(open.read(0..good.len() as u64).unwrap(), good);
        drop(open);
        let open = file.open().unwrap();
        std::fs::write(&path, &good[..at as usize]).unwrap();
        assert!(changed(open.read(at..at + 1)), "cut at {at}");
        assert!(file.open().is_err());
    }
}

#[test]
fn what_was_read_before_the_digest_is_held_against_it() {
    let good = bytes(200_000);
    for (at, caught) in [(3u64, true), (100_000, true), (150_000, false)] {
        let (folder, file) = file(&good);
        let open = file.open().unwrap();
        open.read(0..10).unwrap();
        open.read(90_000..110_000).unwrap();
        let mut other = good.clone();
        other[at as usize] ^= 1;
        std::fs::write(folder.path().join("file"), other).unwrap();
        assert_eq!(matches!(file.digest(), Err(FileError::Changed { .. })), caught, "{at}");
    }
}

#[cfg(unix)]
#[test]
fn what_is_no_regular_file_is_refused_and_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let fifo = folder.path().join("fifo");
    assert!(std::process::Command::new("mkfifo").arg(&fifo).status().unwrap().success());
    for (path, kind) in [
        (fifo.as_path(), ErrorKind::InvalidInput),
        (Path::new("/dev/zero"), ErrorKind::InvalidInput),
        (folder.path(), ErrorKind::IsADirectory),
        (&folder.path().join("nothing"), ErrorKind::NotFound),
    ] {
        assert_eq!(open_regular(path).unwrap_err().kind(), kind, "{}", path.display());
    }
}

/// While a file is digested, its first byte changes and then its last: old first and new last were never together.
#[cfg(unix)]
#[test]
fn a_file_that_changes_under_its_digest_is_no_file_that_never_was() {
    use std::os::unix::fs::FileExt;
    let mut mixed = bytes(24 << 20);
    let last = mixed.len() as u64 - 1;
    let (_folder, path) = {
        let (folder, file) = file(&mixed);
        (folder, file.path().to_path_buf())
    };
    mixed[last as usize] ^= 1;
    let never = blake3::hash(&mixed);
    mixed[last as usize] ^= 1;
    for wait in 0..12 {
        std::fs::write(&path, &mixed).unwrap();
        let file = Arc::new(VerifiedFile::new(&path));
        let writer = File::options().write(true).open(&path).unwrap();
        let (first, end) = ([mixed[0] ^ 1], [mixed[last as usize] ^ 1]);
        let digest = std::thread::scope(|scope| {
            scope.spawn(move || {
                std::thread::sleep(std::time::Duration::from_millis(5 + 4 * wait));
                writer.write_all_at(&first, 0).unwrap();
                writer.write_all_at(&end, last).unwrap();
            });
            file.digest()
        });
        assert!(digest.is_err() || digest.is_ok_and(|hash| hash != never), "{wait}");
    }
}

/// Also before it was digested: bytes that are not there are no zeros, and a file that was there is not missing.
#[test]
fn a_file_that_is_cut_or_removed_has_changed() {
    let changed = |error: FileError| matches!(error, FileError::Changed { .. });
    for keep in [0, 1000] {
        let (folder, file) = file(&bytes(200_000));
        let open = file.open().unwrap();
        open.read(0..10).unwrap();
        std::fs::write(folder.path().join("file"), bytes(keep)).unwrap();
        assert!(changed(open.read(keep as u64..150_000).unwrap_err()), "{keep}");
        assert!(changed(file.digest().unwrap_err()), "{keep}");
        std::fs::remove_file(folder.path().join("file")).unwrap();
        assert!(changed(file.open().unwrap_err()), "{keep}");
    }
}
