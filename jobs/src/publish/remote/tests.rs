#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::identity::Identity;
use crate::store::fake::{FakeBucket, Fault};

/// A job with two parts, or one object, whose answers are a text.
struct Job {
    state_dir: tempfile::TempDir,
    remote: RemoteOutput,
    folder: bool,
    text: &'static str,
}

impl Job {
    fn new(bucket: &Arc<FakeBucket>, folder: bool, text: &'static str) -> Self {
        let state_dir = tempfile::tempdir().unwrap();
        let url = ObjectUrl::parse("s3://bucket/a/out").unwrap();
        let remote = RemoteOutput { bucket: bucket.clone(), url, state_dir: state_dir.path().to_path_buf() };
        Job { state_dir, remote, folder, text }
    }

    fn manifest(&self) -> Manifest {
        let names = if self.folder { vec!["part-0", "part-1"] } else { vec!["out"] };
        let part = |name: &str| {
            let bytes = self.bytes(name);
            let blake3 = blake3::hash(bytes.as_bytes()).to_hex().to_string();
            Part { name: name.into(), first_row: 0, rows: 1, bytes: bytes.len() as u64, blake3 }
        };
        let identity = Identity::default();
        let identity_blake3 = identity.digest();
        let parts = names.into_iter().map(part).collect();
        Manifest {
            version: "1".into(),
            identity,
            identity_blake3,
            inputs_blake3: Some("i".into()),
            rows: 2,
            aborted: 0,
            unreadable: 0,
            nulls: Vec::new(),
            parts,
        }
    }

    fn bytes(&self, name: &str) -> String {
        format!("{name} of {}", self.text)
    }

    /// What a run does with its output.
    fn run(&self) -> Result<(), JobError> {
        self.remote.check()?;
        self.remote.claim()?;
        self.publish()
    }

    fn publish(&self) -> Result<(), JobError> {
        let manifest = self.manifest();
        let mut staged = Vec::new();
        for part in &manifest.parts {
            let file = self.state_dir.path().join("part");
            std::fs::write(&file, self.bytes(&part.name)).unwrap();
            staged.extend(self.remote.stage(&file, part, self.folder)?);
        }
        self.remote.reveal(staged, &manifest, self.folder)
    }

    /// Everything is there and nothing else, but for objects of others.
    fn is_all_of(&self, bucket: &FakeBucket) {
        let mut expected: Vec<(String, String)> = vec![];
        for part in self.manifest().parts {
            expected.push((self.remote.part_key(&part, self.folder), self.bytes(&part.name)));
        }
        expected.push((manifest_key(&self.remote.url), self.manifest().to_json()));
        expected.sort();
        let there = bucket.objects();
        let there: Vec<(String, String)> =
            there.into_iter().map(|(key, bytes)| (key, String::from_utf8(bytes.to_vec()).unwrap())).collect();
        assert_eq!(there, expected);
        assert_eq!(bucket.uploads(), 0);
        assert!(self.remote.is_published().unwrap());
    }
}

/// Fails each call of a run in turn, before and after it has done its work; the next run makes it good.
#[test]
fn a_call_that_fails_costs_nothing_wherever_it_is() {
    for folder in [true, false] {
        let bucket = Arc::new(FakeBucket::default());
        Job::new(&bucket, folder, "one").run().unwrap();
        let calls = bucket.calls();
        assert!(calls > 10);
        let mut settled = 0;
        for (call, done) in (1..=calls).flat_map(|call| [(call, false), (call, true)]) {
            let bucket = Arc::new(FakeBucket::default());
            let job = Job::new(&bucket, folder, "one");
            bucket.fail(Some(Fault { call, done }));
            let first = job.run();
            bucket.fail(None);
            settled += u64::from(first.is_ok());
            let manifest = bucket.objects().contains_key(&manifest_key(&job.remote.url));
            let parts = bucket.objects().keys().filter(|key| !key.ends_with(".json")).count();
            assert!(
                !manifest || parts == job.manifest().parts.len(),
                "call {call}: a manifest without its parts"
            );
            if first.is_err() {
                job.run().unwrap_or_else(|error| panic!("call {call}, done {done}: {error}"));
            }
            // The claim stays only where its own removal failed; the next run removes it.
            if !bucket.objects().keys().all(|key| !key.ends_with("claim.json")) {
                job.run().unwrap();
            }
            // Also of an upload whose id was lost with the answer to its beginning.
            job.is_all_of(&bucket);
        }
        // The claim, each part and the manifest are found to be there although the answer was lost. What is done when
        // all is published ends no job, nor does a store that lists no uploads, which is asked twice.
        let parts = if folder { 2 } else { 1 };
        assert_eq!(settled, 1 + parts + 1 + 2 * 3);
    }
}

/// Other answers of the same size are half published; then the first ones are wanted again.
#[test]
fn a_publication_that_was_interrupted_can_be_taken_back() {
    for folder in [true, false] {
        let bucket = Arc::new(FakeBucket::default());
        let mut job = Job::new(&bucket, folder, "one");
        job.run().unwrap();
        bucket.fail(None);
        job.text = "two";
        job.run().unwrap();
        for (call, done) in (1..=bucket.calls()).flat_map(|call| [(call, false), (call, true)]) {
            let bucket = Arc::new(FakeBucket::default());
            let mut job = Job::new(&bucket, folder, "one");
            job.run().unwrap();
            job.text = "two";
            bucket.fail(Some(Fault { call, done }));
            let _ = job.run();
            bucket.fail(None);
            job.text = "one";
            // A second run removes a claim whose own removal failed.
            job.run().and_then(|()| job.run()).unwrap_or_else(|error| panic!("call {call}, {done}: {error}"));
            job.is_all_of(&bucket);
        }
    }
}

/// Earlier versions put the manifest of a folder among its parts.
#[test]
fn a_manifest_among_the_parts_is_moved_beside_them() {
    let bucket = Arc::new(FakeBucket::default());
    let job = Job::new(&bucket, true, "one");
    job.run().unwrap();
    let [beside, inside] = [manifest_key(&job.remote.url), manifest_key_inside(&job.remote.url)];
    bucket.put(&inside, bucket.objects()[&beside].clone());
    bucket.delete(&beside).unwrap();
    assert!(job.remote.is_published().unwrap());
    job.run().unwrap();
    job.is_all_of(&bucket);
    let other = Job::new(&bucket, true, "two");
    bucket.put(&inside, "{}");
    assert!(matches!(other.remote.check(), Err(JobError::OutputExists { .. })));
}

#[test]
fn nothing_shows_before_the_manifest_stands() {
    let bucket = Arc::new(FakeBucket::default());
    let job = Job::new(&bucket, true, "one");
    job.remote.claim().unwrap();
    let manifest = job.manifest();
    let file = job.state_dir.path().join("part");
    std::fs::write(&file, job.bytes("part-0")).unwrap();
    let staged = job.remote.stage(&file, &manifest.parts[0], true).unwrap();
    assert_eq!((bucket.objects().len(), bucket.uploads()), (1, 1), "the claim, and an upload");
    drop(staged);
    job.run().unwrap();
    job.is_all_of(&bucket);
}

#[test]
fn one_job_publishes_to_a_place() {
    for folder in [true, false] {
        let bucket = Arc::new(FakeBucket::default());
        let [one, two] = ["one", "two"].map(|text| Job::new(&bucket, folder, text));
        one.remote.check().unwrap();
        two.remote.check().unwrap();
        one.remote.claim().unwrap();
        for refused in [two.remote.check(), two.run()] {
            assert!(matches!(refused, Err(JobError::Claimed { .. })), "{refused:?}");
        }
        one.run().unwrap();
        for refused in [two.remote.check(), two.remote.claim(), two.run()] {
            assert!(matches!(refused, Err(JobError::OutputExists { .. })), "{refused:?}");
        }
        one.is_all_of(&bucket);
        // Again, with nothing to do, and with something: another answer, and another form.
        one.run().unwrap();
        one.is_all_of(&bucket);
        for (folder, text) in [(folder, "three"), (!folder, "three"), (!folder, "four")] {
            let again =
                Job { folder, text, remote: one_more(&one.remote), state_dir: tempfile::tempdir().unwrap() };
            again.run().unwrap();
            again.is_all_of(&bucket);
        }
    }
}

fn one_more(remote: &RemoteOutput) -> RemoteOutput {
    RemoteOutput {
        bucket: remote.bucket.clone(),
        url: remote.url.clone(),
        state_dir: remote.state_dir.clone(),
    }
}

/// A claim can be removed by hand, and what is not gristmill knows of none.
#[test]
fn a_manifest_of_another_is_neither_replaced_nor_published_over() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two] = ["one", "two"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    bucket.delete(&one.remote.claim_key()).unwrap();
    two.run().unwrap();
    for refused in [one.publish(), one.run()] {
        assert!(matches!(refused, Err(JobError::OutputExists { .. })), "{refused:?}");
    }
    assert!(!one.remote.is_published().unwrap());
    one.remote.discard_uploads().unwrap();
    bucket.delete(&one.remote.claim_key()).unwrap();
    two.is_all_of(&bucket);
}

/// Whenever it comes, it stands, and the job knows that it has not published.
#[test]
fn a_manifest_of_another_that_comes_meanwhile_stands() {
    let mut refusals = 0;
    for call in 1.. {
        let bucket = Arc::new(FakeBucket::default());
        let job = Job::new(&bucket, true, "one");
        let key = manifest_key(&job.remote.url);
        bucket.intrude(call, &key);
        let ran = job.run();
        if bucket.calls() < call {
            ran.unwrap();
            break;
        }
        let there = bucket.objects()[&key].clone();
        match ran {
            Err(JobError::OutputExists { .. }) => {
                refusals += 1;
                assert_eq!(there, "{}");
                assert!(!job.remote.is_published().unwrap());
            }
            // It came over the job's own.
            other => other.unwrap(),
        }
    }
    assert!(refusals > 12, "{refusals}");
}

#[test]
fn objects_in_the_way_are_left_alone() {
    for key in ["a/out", "a/out/x/y"] {
        let bucket = Arc::new(FakeBucket::default());
        bucket.put(key, "somebody's");
        bucket.put("a/outer", "not in the way");
        let job = Job::new(&bucket, true, "one");
        for refused in [job.remote.check(), job.remote.claim()] {
            assert!(matches!(refused, Err(JobError::OutputExists { .. })), "{refused:?}");
        }
        assert_eq!(bucket.objects().len(), 2, "the claim is withdrawn");
    }
}
