#![allow(clippy::unwrap_used)]
use super::*;
use crate::digest::digest_bytes;
use crate::journal::identity::Identity;
use crate::publish::manifest::Part;
use tempfile::TempDir;

/// A folder with an output, and the state_dir beside it.
struct Place {
    folder: TempDir,
    output: PathBuf,
    state_dir: PathBuf,
}

impl Place {
    fn new() -> Place {
        let folder = tempfile::tempdir().unwrap();
        let (output, state_dir) = (folder.path().join("out"), folder.path().join("out.gristmill"));
        std::fs::create_dir(&state_dir).unwrap();
        Place { folder, output, state_dir }
    }

    fn local(&self, folder: bool) -> LocalOutput<'_> {
        LocalOutput::new(&self.output, &self.state_dir, folder)
    }

    /// Publishes files with these texts, or one file.
    fn publish(&self, texts: &[&str], folder: bool) -> Result<Manifest, JobError> {
        let local = self.local(folder);
        local.prepare()?;
        let aside = local.aside()?;
        let manifest = self.stage(&aside, texts, folder);
        local.reveal(&aside, &manifest)?;
        Ok(manifest)
    }

    fn stage(&self, aside: &Path, texts: &[&str], folder: bool) -> Manifest {
        let part = |(i, text): (usize, &&str)| {
            let name = if folder { format!("part-{i:05}.parquet") } else { "out".into() };
            std::fs::write(aside.join(if folder { &*name } else { FILE }), text).unwrap();
            let blake3 = digest_bytes(text.as_bytes());
            Part { name, first_row: i as u64, rows: 1, bytes: text.len() as u64, blake3 }
        };
        let parts = texts.iter().enumerate().map(part).collect();
        manifest(parts)
    }

    /// What is there, without the state_dir: `text` of a file, `name:text` of each file in a folder.
    fn found(&self) -> Vec<String> {
        let text = |path: &Path| std::fs::read_to_string(path).unwrap();
        match there(&self.output).unwrap() {
            There::Nothing => vec![],
            There::File => vec![text(&self.output)],
            _ => {
                let mut paths: Vec<_> =
                    self.output.read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
                paths.sort();
                paths.iter().map(|path| format!("{}:{}", name_of(path), text(path))).collect()
            }
        }
    }

    fn manifest(&self) -> Option<Manifest> {
        Manifest::find(&self.state_dir, manifest::NAME)
    }
}

fn manifest(parts: Vec<Part>) -> Manifest {
    let identity = Identity::default();
    let identity_blake3 = identity.digest();
    let rows = parts.len() as u64;
    Manifest {
        version: "1".into(),
        identity,
        identity_blake3,
        inputs_blake3: Some("i".into()),
        rows,
        aborted: 0,
        unreadable: 0,
        nulls: Vec::new(),
        parts,
    }
}

fn refused<T: std::fmt::Debug>(result: Result<T, JobError>) -> String {
    match result {
        Err(error @ (JobError::Usage(_) | JobError::OutputExists { .. })) => error.to_string(),
        other => panic!("{other:?}"),
    }
}

#[test]
fn places_where_no_output_can_be_are_refused_before_the_work() {
    let place = Place::new();
    let folder = place.folder.path();
    std::fs::create_dir(folder.join("empty")).unwrap();
    std::fs::create_dir_all(folder.join("full/x")).unwrap();
    std::fs::write(folder.join("file"), "somebody's").unwrap();
    let check = |name: &str, parts: bool| {
        let name =
            if name.is_empty() || name.starts_with('.') { PathBuf::from(name) } else { folder.join(name) };
        LocalOutput::new(&name, &place.state_dir, parts).check()
    };
    for (name, one, parts) in [
        ("new", "", ""),
        ("", "--output is empty", "--output is empty"),
        (".", "names no file or folder of its own", "names no file or folder of its own"),
        ("..", "names no file or folder of its own", "names no file or folder of its own"),
        ("empty/..", "names no file or folder of its own", "names no file or folder of its own"),
        ("new/", "leave its slash out", ""),
        ("new/.", "leave its slash out", ""),
        ("empty", "name a file in it", ""),
        ("full", "name a file in it", "full exists and was not made by this job"),
        ("file", "file exists and was not made by this job", "file exists and was not made by this job"),
    ] {
        for (words, parts) in [(one, false), (parts, true)] {
            match words {
                "" => check(name, parts).unwrap(),
                words => assert!(refused(check(name, parts)).contains(words), "{name:?} {parts}"),
            }
        }
    }
    #[cfg(unix)]
    {
        std::os::unix::fs::symlink("new", folder.join("link")).unwrap();
        assert!(refused(check("link", false)).contains("is a symbolic link"));
        let device = LocalOutput::new(Path::new("/dev/null"), &place.state_dir, false);
        assert!(refused(device.check()).contains("neither a file nor a folder"));
    }
}

/// One file, parts, and back, at one place; `publishing` may be anything that a kill has left.
#[test]
fn an_output_can_turn_from_a_file_to_parts_and_back() {
    let place = Place::new();
    for (texts, folder) in
        [(&["a"][..], false), (&["b", "c"], true), (&["d"], true), (&["e"], false), (&["f"], false)]
    {
        let manifest = place.publish(texts, folder).unwrap();
        assert_eq!(place.manifest(), Some(manifest));
        let expected = |(i, text): (usize, &&str)| match folder {
            true => format!("part-{i:05}.parquet:{text}"),
            false => text.to_string(),
        };
        assert_eq!(place.found(), texts.iter().enumerate().map(expected).collect::<Vec<_>>());
        assert!(!place.state_dir.join(ASIDE).exists() && !place.state_dir.join(manifest::NEXT).exists());
        std::fs::write(place.state_dir.join(ASIDE), "left").unwrap();
    }
}

#[test]
fn what_is_not_this_job_s_is_never_replaced() {
    for folder in [false, true] {
        let place = Place::new();
        place.publish(&["a"], folder).unwrap();
        let part = if folder { place.output.join("part-00000.parquet") } else { place.output.clone() };
        // Of the same size.
        std::fs::write(&part, "b").unwrap();
        refused(place.publish(&["a"], folder));
        std::fs::write(&part, "a").unwrap();
        place.publish(&["a"], folder).unwrap();
        if folder {
            std::fs::write(place.output.join("note"), "").unwrap();
            assert!(refused(place.publish(&["a"], folder)).contains("note"));
            std::fs::remove_file(place.output.join("note")).unwrap();
        }
        // While the job ran.
        let local = place.local(folder);
        let aside = local.aside().unwrap();
        let manifest = place.stage(&aside, &["c"], folder);
        clear(&place.output).unwrap();
        std::fs::write(&place.output, "b").unwrap();
        refused(local.reveal(&aside, &manifest));
        assert_eq!(place.found(), ["b"]);
    }
}

/// The parts are put into a folder one by one, and a kill comes at any of them.
#[test]
fn parts_that_are_put_into_a_mount_are_whole_or_taken_back() {
    let (old, new) = (["a", "b", "c"], ["a", "x"]);
    for done in 0..=4usize {
        let place = Place::new();
        place.publish(&old, true).unwrap();
        let before = place.manifest().unwrap();
        let aside = place.output.join(INSIDE);
        create_folder(&aside).unwrap();
        let next = place.stage(&aside, &new, true);
        std::fs::write(place.state_dir.join(manifest::NEXT), next.to_json()).unwrap();
        // As `fill` does it: what is not in the new one, and then part by part.
        if done > 0 {
            std::fs::remove_file(place.output.join("part-00002.parquet")).unwrap();
        }
        for part in next.parts.iter().take(done.saturating_sub(1)) {
            std::fs::rename(aside.join(&part.name), place.output.join(&part.name)).unwrap();
        }
        let whole = done > 2;
        assert_eq!(holds(&place.output, &next).unwrap(), whole);
        let (found, manifest) = (place.found_parts(), place.manifest());
        place.local(true).prepare().unwrap();
        if whole {
            assert_eq!((place.manifest(), place.found_parts()), (Some(next), found));
        } else {
            assert_eq!((place.manifest(), manifest.as_ref()), (manifest.clone(), Some(&before)));
            assert!(!place.found_parts().iter().any(|part| part.ends_with('x')));
        }
        assert!(!aside.exists() && !place.state_dir.join(manifest::NEXT).exists());
        let local = place.local(true);
        let aside = local.aside().unwrap();
        let manifest = place.stage(&aside, &new, true);
        let inside = place.output.join(INSIDE);
        std::fs::rename(&aside, &inside).unwrap();
        local.reveal(&inside, &manifest).unwrap();
        assert_eq!(place.found(), ["part-00000.parquet:a", "part-00001.parquet:x"]);
        assert_eq!(place.manifest(), Some(manifest));
    }
}

impl Place {
    /// As [`Place::found`], without what is written aside.
    fn found_parts(&self) -> Vec<String> {
        let text = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        entries(&self.output).unwrap().iter().map(text).collect()
    }
}

#[test]
fn an_output_that_was_moved_aside_by_a_kill_comes_back() {
    let place = Place::new();
    place.publish(&["a", "b"], true).unwrap();
    std::fs::rename(&place.output, place.state_dir.join(REPLACED)).unwrap();
    place.local(true).prepare().unwrap();
    assert_eq!(place.found(), ["part-00000.parquet:a", "part-00001.parquet:b"]);
}
