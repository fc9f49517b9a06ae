#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::identity::Identity;
use crate::store::fake::{FakeBucket, Fault};
use std::time::Duration;

/// A job with two parts, or one object, whose answers are a text.
pub(super) struct Job {
    pub(super) state_dir: tempfile::TempDir,
    pub(super) remote: RemoteOutput,
    folder: bool,
    pub(super) text: &'static str,
}

impl Job {
    pub(super) fn new(bucket: &Arc<FakeBucket>, folder: bool, text: &'static str) -> Self {
        Job::of(bucket.clone(), folder, text)
    }

    pub(super) fn of(bucket: Arc<dyn Bucket>, folder: bool, text: &'static str) -> Self {
        // What is written durably takes long on a disk.
        let memory = Path::new("/dev/shm");
        let place = if memory.is_dir() { memory.to_path_buf() } else { std::env::temp_dir() };
        let state_dir = tempfile::tempdir_in(place).unwrap();
        let url = ObjectUrl::parse("s3://bucket/a/out").unwrap();
        let remote = RemoteOutput::new(bucket, url, state_dir.path());
        Job { state_dir, remote, folder, text }
    }

    /// Forgets what the process knew.
    pub(super) fn restart(&mut self) {
        self.remote = one_more(&self.remote);
    }

    pub(super) fn manifest(&self) -> Manifest {
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
    pub(super) fn run(&self) -> Result<(), JobError> {
        self.remote.check()?;
        self.remote.claim()?;
        self.publish()
    }

    pub(super) fn publish(&self) -> Result<(), JobError> {
        self.reveal(self.stage()?)
    }

    pub(super) fn reveal(&self, staged: Vec<Staged>) -> Result<(), JobError> {
        self.remote.reveal(staged, &self.manifest(), self.folder)
    }

    pub(super) fn stage(&self) -> Result<Vec<Staged>, JobError> {
        let manifest = self.manifest();
        let mut staged = Vec::new();
        for part in &manifest.parts {
            let file = self.state_dir.path().join("part");
            std::fs::write(&file, self.bytes(&part.name)).unwrap();
            staged.extend(self.remote.stage(&file, part, self.folder)?);
        }
        Ok(staged)
    }

    /// Everything is there and nothing else, but for objects of others.
    pub(super) fn is_all_of(&self, bucket: &FakeBucket) {
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
        // The claim, its renewal, each part and the manifest are found to be there although the answer was lost, and so is the
        // claim that says that it goes. What is done when all is published ends no job, nor does a store that lists no uploads,
        // which is asked four times.
        let parts = if folder { 2 } else { 1 };
        assert_eq!(settled, 1 + 1 + parts + 1 + 2 * (4 + 3));
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

pub(super) fn one_more(remote: &RemoteOutput) -> RemoteOutput {
    RemoteOutput::new(remote.bucket.clone(), remote.url.clone(), &remote.state_dir)
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

/// Earlier versions wrote neither the number of an owner nor a lease, and renewed nothing.
#[test]
fn a_claim_of_an_earlier_version_is_gone_on_with_and_not_taken_over() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two] = ["one", "two"].map(|text| Job::new(&bucket, true, text));
    let claim = r#"{"host":"mill","job":"5e1f","state_dir":"/there"}"#;
    std::fs::write(one.state_dir.path().join("claim.json"), claim).unwrap();
    bucket.put(&one.remote.claim_key(), claim);
    let refused = two.remote.seen().unwrap_err().to_string();
    assert!(refused.contains("of an earlier version") && refused.contains("on mill;"), "{refused}");
    assert!(one.remote.seen().unwrap().is_none(), "it is its own");
    one.remote.claim().unwrap();
    let seen = two.remote.seen().unwrap().unwrap();
    assert!(!seen.lease().is_zero() && seen.owner().contains("(owner 1, in /there)"));
    one.publish().unwrap();
    one.is_all_of(&bucket);
}

/// By the clock of whoever watches: a claim that is renewed, or gone, is not taken over, and a store that does not answer
/// says nothing.
#[test]
fn a_claim_is_watched_for_a_lease() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two] = ["one", "two"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    // So short that the test need not wait.
    let text = String::from_utf8(bucket.objects()[&one.remote.claim_key()].to_vec()).unwrap();
    bucket.put(&one.remote.claim_key(), text.replace("\"lease_ms\":120000", "\"lease_ms\":1"));
    let seen = two.remote.seen().unwrap().unwrap();
    let mut looks = 0;
    let mut pause = |_| {
        looks += 1;
        // The first look fails, and so the lease begins anew.
        bucket.fail((looks == 1).then_some(Fault { call: 1, done: false }));
        std::thread::sleep(Duration::from_millis(2));
        Ok(())
    };
    two.remote.watch(&seen, &mut pause).unwrap();
    assert_eq!(looks, 2);
    one.remote.claim().unwrap();
    for renew in [true, false] {
        let seen = two.remote.seen().unwrap().unwrap();
        let mut meanwhile = |_| match renew {
            true => one.remote.renew(),
            false => bucket.delete(&one.remote.claim_key()),
        };
        let refused = two.remote.watch(&seen, &mut meanwhile);
        assert!(matches!(refused, Err(JobError::StillAtWork { .. })), "{refused:?}");
    }
}

/// Which copy of the journal a second owner goes on from, and a third that follows a second which has left none.
#[test]
fn the_newest_copy_of_the_journal_is_that_of_the_last_owner_who_made_one() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two, three] = ["one", "two", "three"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    let file = one.state_dir.path().join("copy");
    let fetched = |job: &Job, seen: &seen::Seen| {
        let to = job.state_dir.path().join("fetched");
        job.remote.fetch_checkpoint(seen, &to).unwrap().map(|_| std::fs::read_to_string(to).unwrap())
    };
    let take = |job: &Job| {
        let seen = job.remote.seen().unwrap().unwrap();
        assert!(job.remote.take(&seen, 2, &|_| true).unwrap());
        job.remote.end_take_over().unwrap();
        fetched(job, &seen)
    };
    assert_eq!(fetched(&two, &two.remote.seen().unwrap().unwrap()), None);
    for text in ["a", "b"] {
        std::fs::write(&file, text).unwrap();
        one.remote.put_checkpoint(&file).unwrap();
    }
    assert_eq!(take(&two).as_deref(), Some("b"));
    let late = one.remote.put_checkpoint(&file);
    assert!(matches!(late, Err(JobError::Claimed { .. } | JobError::TakenOver { .. })), "{late:?}");
    assert_eq!(take(&three).as_deref(), Some("b"));
    std::fs::write(&file, "c").unwrap();
    three.remote.put_checkpoint(&file).unwrap();
    three.remote.claim().unwrap();
    let late = two.remote.claim();
    assert!(matches!(late, Err(JobError::TakenOver { owner: 3, .. })), "{late:?}");
    three.publish().unwrap();
    three.is_all_of(&bucket);
}

/// What a command with `--take-over` does, without the waiting.
pub(super) fn take_over(job: &Job) -> Result<bool, JobError> {
    let Some(seen) = job.remote.seen()? else { return Ok(false) };
    job.remote.take(&seen, 2, &|_| true)?;
    job.remote.end_take_over()?;
    Ok(true)
}

/// A removal of an earlier claim may come late, and people remove claims, too.
#[test]
fn a_job_whose_claim_is_gone_is_taken_over_by_its_reservation() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two, three, four, five] =
        ["one", "two", "three", "four", "five"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    assert!(take_over(&two).unwrap());
    two.remote.claim().unwrap();
    bucket.delete(&two.remote.claim_key()).unwrap();
    for refused in [three.remote.check(), three.remote.claim()] {
        assert!(refused.unwrap_err().to_string().contains("--take-over goes on with the job here"));
    }
    assert!(!bucket.objects().contains_key(&three.remote.claim_key()), "it is withdrawn");
    let seen = three.remote.seen().unwrap().unwrap();
    assert!(!seen.lease().is_zero() && !seen.has_claim(), "{seen:?}");
    assert!(seen.owner().contains("(owner 2)"), "{}", seen.owner());
    // Its owner, which has not noticed, publishes nothing; it could have begun its command anew.
    let late = two.publish();
    assert!(matches!(late, Err(JobError::ClaimRemoved { .. })), "{late:?}");
    assert!(two.remote.seen().unwrap().is_none());
    assert!(three.remote.take(&seen, 2, &|_| true).unwrap());
    three.remote.end_take_over().unwrap();
    assert_eq!(three.remote.seen().unwrap().map(|seen| seen.owner()), None, "it is its own");
    let late = two.remote.check();
    assert!(matches!(late, Err(JobError::TakenOver { owner: 3, .. })), "{late:?}");
    // One that was seen before another had it is not taken.
    let seen = five.remote.seen().unwrap().unwrap();
    assert!(take_over(&four).unwrap());
    let late = five.remote.take(&seen, 2, &|_| true);
    assert!(matches!(late, Err(JobError::StillAtWork { .. })), "{late:?}");
    four.run().unwrap();
    four.is_all_of(&bucket);
}

#[test]
fn a_reservation_without_a_claim_is_watched_for_a_lease() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two, three] = ["one", "two", "three"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    assert!(take_over(&two).unwrap());
    let [claim, manifest] = [two.remote.claim_key(), manifest_key(&two.remote.url)];
    bucket.delete(&claim).unwrap();
    let seen = three.remote.seen().unwrap().unwrap();
    let comes_back = |_| two.remote.claim();
    let published = |_| {
        bucket.delete(&claim)?;
        bucket.put(&manifest, "{}");
        Ok(())
    };
    for mut meanwhile in [&comes_back as &dyn Fn(Duration) -> Result<(), JobError>, &published] {
        let refused = three.remote.watch(&seen, &mut meanwhile);
        assert!(matches!(refused, Err(JobError::StillAtWork { .. })), "{refused:?}");
    }
}

/// An owner that was taken over takes its job back; each call of that fails in turn, and then the claim is removed or stays.
#[test]
fn a_take_over_that_was_interrupted_goes_on_whatever_became_of_its_claim() {
    for (call, done) in (1..).flat_map(|call| [(call, false), (call, true)]) {
        let mut calls = 0;
        for removed in [false, true] {
            let bucket = Arc::new(FakeBucket::default());
            let [mut one, two] = ["one", "two"].map(|text| Job::new(&bucket, true, text));
            one.remote.claim().unwrap();
            assert!(take_over(&two).unwrap());
            if removed {
                bucket.delete(&one.remote.claim_key()).unwrap();
            }
            bucket.fail(Some(Fault { call, done }));
            let _ = take_over(&one);
            calls = bucket.calls();
            bucket.fail(None);
            if removed {
                bucket.delete(&one.remote.claim_key()).unwrap();
            }
            one.restart();
            take_over(&one).unwrap_or_else(|error| panic!("call {call}, {done}, {removed}: {error}"));
            one.run().unwrap_or_else(|error| panic!("call {call}, {done}, {removed}: {error}"));
            one.is_all_of(&bucket);
        }
        if calls < call {
            break;
        }
    }
}

/// A claim that was put, and is gone before anything was put in the place of the manifest.
#[test]
fn a_take_over_goes_on_where_nothing_of_it_is_left() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two] = ["one", "two"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    let seen = two.remote.seen().unwrap().unwrap();
    // Two listings, two looks, and the claim; then nothing comes through.
    bucket.fail(Some(Fault { call: 6, done: false }));
    assert!(two.remote.take(&seen, 2, &|_| true).is_err());
    bucket.fail(None);
    assert!(!bucket.objects().contains_key(&manifest_key(&two.remote.url)));
    bucket.delete(&two.remote.claim_key()).unwrap();
    let refused = two.remote.check().unwrap_err().to_string();
    assert!(refused.contains("give --take-over again"), "{refused}");
    assert!(take_over(&two).unwrap());
    two.run().unwrap();
    two.is_all_of(&bucket);
}

/// A manifest whose answer was lost, of an owner that was taken over just then by one that is gone, too.
#[test]
fn an_owner_that_has_published_takes_nothing_back() {
    let bucket = Arc::new(FakeBucket::default());
    let [one, two] = ["one", "two"].map(|text| Job::new(&bucket, true, text));
    one.remote.claim().unwrap();
    one.run().unwrap();
    let claim = claim_text::ClaimText::new(2, two.state_dir.path());
    bucket.put(&one.remote.claim_key(), claim.to_json());
    let seen = one.remote.seen().unwrap().unwrap();
    assert!(!one.remote.take(&seen, 2, &|_| true).unwrap());
    one.is_all_of(&bucket);
}
