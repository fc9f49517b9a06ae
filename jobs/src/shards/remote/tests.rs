#![allow(clippy::unwrap_used)]
use super::*;
use crate::journal::identity::Identity;
use crate::options::shard::rows_of_file;
use crate::publish::format::OutputFormat;
use crate::shards::finished::ShardCosts;
use crate::shards::place::ShardPlace;
use crate::store::bucket::Revision;
use crate::store::fake::{FakeBucket, Fault};
use bytes::Bytes;
use std::ops::Range;
use std::sync::{Condvar, Mutex};

/// Shards of the tests' job, each with two files of two rows.
const SHARDS: u64 = 3;

fn job(device: &str) -> ShardedJob {
    let mut identity = Identity::default();
    identity.push("device", device);
    ShardedJob {
        shards: SHARDS,
        rows: 4 * SHARDS,
        rows_per_file: 2,
        version: "1".into(),
        columns: vec!["a".into()],
        schema_blake3: "s".into(),
        date: "2026-11-27".into(),
        inputs_blake3: "i".into(),
        identity,
    }
}

fn place(bucket: Arc<dyn Bucket>) -> RemoteShards {
    RemoteShards::new(bucket, ObjectUrl::parse("s3://bucket/a/out").unwrap())
}

/// Runs a shard whose answers are a text.
fn run(place: &RemoteShards, number: u64, text: &str) -> Result<(), JobError> {
    let (shard, job) = (Shard { number, of: SHARDS }, job("cpu"));
    place.check(&job)?;
    place.claim(&job)?;
    let mut upload = place.upload(shard)?;
    let mut parts = Vec::new();
    let folder = tempfile::tempdir().unwrap();
    for at in shard.files(2 * SHARDS) {
        let (name, rows) = (format!("part-{at:05}.parquet"), rows_of_file(at, job.rows, 2));
        let bytes = format!("{name} of {text}");
        let blake3 = blake3::hash(bytes.as_bytes()).to_hex().to_string();
        let part = Part { name, first_row: rows.start, rows: 2, bytes: bytes.len() as u64, blake3 };
        std::fs::write(folder.path().join("part"), bytes).unwrap();
        upload.put(&folder.path().join("part"), &part)?;
        parts.push(part);
    }
    upload.finish(FinishedShard {
        shard: number,
        first_row: shard.rows(job.rows, 2).start,
        rows: 4,
        unreadable: 0,
        nulls: Vec::new(),
        parts,
        etags: Vec::new(),
        costs: ShardCosts::default(),
        job,
    })
}

fn publish(place: &RemoteShards) -> Result<Manifest, JobError> {
    let (found, said) = place.find_all(SHARDS)?;
    place.publish(&Joined::of("out", job("cpu"), OutputFormat::Parquet, found)?, &said)
}

/// The manifest that stands there; every part that it names must have its bytes.
fn standing(bucket: &FakeBucket) -> Option<Manifest> {
    let objects = bucket.objects();
    let manifest = Manifest::parse(objects.get("a/out.gristmill/manifest.json")?, Path::new("m")).unwrap();
    for part in &manifest.parts {
        let bytes = objects.get(&format!("a/out/{}", part.name)).expect("a part of the manifest is gone");
        assert_eq!(
            blake3::hash(bytes).to_hex().to_string(),
            part.blake3,
            "{} is not the manifest's",
            part.name
        );
    }
    Some(manifest)
}

fn all(place: &RemoteShards) -> Result<(), JobError> {
    (1..=SHARDS).rev().try_for_each(|shard| run(place, shard, "one"))?;
    publish(place).map(drop)
}

/// Fails each call in turn, before and after it has done its work; the next run makes it good.
#[test]
fn a_call_that_fails_costs_nothing_wherever_it_is() {
    let bucket = Arc::new(FakeBucket::default());
    all(&place(bucket.clone())).unwrap();
    let (calls, expected) = (bucket.calls(), bucket.objects());
    assert_eq!(expected.len() as u64, 2 * SHARDS + SHARDS + 2, "parts, shards, claim and manifest");
    for (call, done) in (1..=calls).flat_map(|call| [(call, false), (call, true)]) {
        let bucket = Arc::new(FakeBucket::default());
        let place = place(bucket.clone());
        bucket.fail(Some(Fault { call, done }));
        let first = all(&place);
        bucket.fail(None);
        standing(&bucket);
        if first.is_err() {
            all(&place).unwrap_or_else(|error| panic!("call {call}, done {done}: {error}"));
        }
        // Also of an upload whose id was lost with the answer to its beginning, which the next to put the part discards.
        let keys =
            |objects: &std::collections::BTreeMap<String, Bytes>| objects.keys().cloned().collect::<Vec<_>>();
        assert_eq!(keys(&bucket.objects()), keys(&expected), "call {call}, done {done}");
        assert_eq!(standing(&bucket).unwrap().parts.len() as u64, 2 * SHARDS);
        assert_eq!(bucket.uploads(), 0, "call {call}, done {done}");
    }
}

#[test]
fn another_job_and_other_objects_are_refused() {
    let bucket = Arc::new(FakeBucket::default());
    let place = place(bucket.clone());
    bucket.put("a/out/stranger", "x");
    assert!(matches!(run(&place, 1, "one"), Err(JobError::OutputExists { .. })));
    assert_eq!(bucket.objects().len(), 1, "no claim is left");
    bucket.delete("a/out/stranger").unwrap();
    run(&place, 1, "one").unwrap();
    // The kind of device is a part of the identity.
    let error = place.check(&job("cuda sm_90a")).unwrap_err().to_string();
    assert!(error.contains("device: begun with cpu, now cuda sm_90a"), "{error}");
    let error = publish(&place).unwrap_err();
    assert!(matches!(error, JobError::UnfinishedShards { .. }) && error.exit_code() == 1, "{error}");
    assert!(
        error.to_string().contains("shard 2/3 is not finished") && !error.to_string().contains("1/3"),
        "{error}"
    );
    run(&place, 2, "one").unwrap();
    run(&place, 3, "one").unwrap();
    // One that was run on another kind of device, and brought here by hand.
    let said = bucket.objects()["a/out.gristmill/shards/2-of-3.json"].clone();
    let finished = FinishedShard::parse(std::str::from_utf8(&said).unwrap()).unwrap();
    let other = FinishedShard { job: job("cuda sm_90a"), ..finished };
    bucket.put("a/out.gristmill/shards/2-of-3.json", other.to_json());
    let error = publish(&place).unwrap_err();
    assert!(matches!(error, JobError::WrongShards { .. }) && error.exit_code() == 2, "{error}");
    assert!(error.to_string().contains("shard 2/3 is of another job"), "{error}");
    bucket.put("a/out.gristmill/shards/2-of-3.json", said);
    for (key, bytes, words) in [
        (
            "a/out/part-00001.parquet",
            "part-00001.parquet of two",
            "shard 1/3: part-00001.parquet is not what",
        ),
        ("a/out/part-00003.parquet", "cut", "shard 2/3: part-00003.parquet is not what"),
        ("a/out/stranger", "x", "a/out/stranger exists and was not made by this job"),
    ] {
        let before = bucket.objects().get(key).cloned();
        bucket.put(key, bytes);
        let error = publish(&place).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
        bucket.delete(key).unwrap();
        before.into_iter().for_each(|before| bucket.put(key, before));
    }
    // The same bytes in another version are another machine's that ran the same shard.
    let bytes = bucket.objects()["a/out/part-00001.parquet"].to_vec();
    bucket.put("a/out/part-00001.parquet", bytes);
    publish(&place).unwrap();
    standing(&bucket).unwrap();
}

/// A bucket whose calls come one at a time, each of a thread that the dice choose; a thread may be killed before one of its.
#[derive(Debug)]
struct Turns {
    bucket: Arc<FakeBucket>,
    turn: Mutex<Turn>,
    next: Condvar,
}

#[derive(Debug)]
struct Turn {
    whose: usize,
    alive: [bool; 2],
    dice: u64,
    /// Of eight turns, those of the first thread.
    share: u64,
    /// Calls that each thread has left.
    left: [u64; 2],
}

impl Turn {
    fn pass(&mut self) {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let next = usize::from((self.dice >> 40) % 8 >= self.share);
        self.whose = if self.alive[next] { next } else { 1 - next };
    }
}

/// The calls of one thread.
#[derive(Debug)]
struct OfThread(usize, Arc<Turns>);

impl OfThread {
    fn call<T>(&self, work: impl FnOnce(&FakeBucket) -> Result<T, JobError>) -> Result<T, JobError> {
        let OfThread(own, turns) = self;
        let turn = turns.turn.lock().unwrap();
        let mut turn = turns.next.wait_while(turn, |turn| turn.whose != *own).unwrap();
        let left = turn.left[*own];
        turn.left[*own] = left.saturating_sub(1);
        let result = match left {
            0 => Err(JobError::Internal("killed".into())),
            _ => work(&turns.bucket),
        };
        turn.pass();
        turns.next.notify_all();
        result
    }

    fn end(&self) {
        let mut turn = self.1.turn.lock().unwrap();
        turn.alive[self.0] = false;
        turn.pass();
        self.1.next.notify_all();
    }
}

impl Bucket for OfThread {
    fn head(&self, key: &str) -> Result<Option<ObjectVersion>, JobError> {
        self.call(|bucket| bucket.head(key))
    }
    fn list(&self, folder: &str, deep: bool) -> Result<Vec<ObjectVersion>, JobError> {
        self.call(|bucket| bucket.list(folder, deep))
    }
    fn read(&self, object: &ObjectVersion, range: Range<u64>) -> Result<Bytes, JobError> {
        self.call(|bucket| bucket.read(object, range))
    }
    fn get_revision(&self, key: &str) -> Result<Option<(Bytes, Revision)>, JobError> {
        self.call(|bucket| bucket.get_revision(key))
    }
    fn create(&self, key: &str, text: &str) -> Result<bool, JobError> {
        self.call(|bucket| bucket.create(key, text))
    }
    fn replace(&self, key: &str, text: &str, over: &Revision) -> Result<Option<Revision>, JobError> {
        self.call(|bucket| bucket.replace(key, text, over))
    }
    fn delete(&self, key: &str) -> Result<(), JobError> {
        self.call(|bucket| bucket.delete(key))
    }
    fn begin_upload(&self, key: &str) -> Result<String, JobError> {
        self.call(|bucket| bucket.begin_upload(key))
    }
    fn upload(&self, key: &str, id: &str, file: &Path) -> Result<Vec<String>, JobError> {
        self.call(|bucket| bucket.upload(key, id, file))
    }
    fn complete_upload(&self, key: &str, id: &str, pieces: &[String]) -> Result<(), JobError> {
        self.call(|bucket| bucket.complete_upload(key, id, pieces))
    }
    fn uploads(&self, key: &str) -> Result<Vec<(String, String)>, JobError> {
        self.call(|bucket| Bucket::uploads(bucket, key))
    }
    fn abort_upload(&self, key: &str, id: &str) -> Result<(), JobError> {
        self.call(|bucket| bucket.abort_upload(key, id))
    }
}

/// Somebody publishes while rows of a shard run again. However their calls interleave, also if the shard is killed, no
/// manifest is left over parts that it does not name.
#[test]
fn no_manifest_is_left_over_parts_of_another() {
    let (mut stood, mut refused) = (0, 0);
    for seed in 0..400_u64 {
        let bucket = Arc::new(FakeBucket::default());
        let before = place(bucket.clone());
        (1..=SHARDS).for_each(|shard| run(&before, shard, "one").unwrap());
        if seed % 2 == 0 {
            publish(&before).unwrap();
        }
        // One in three shards is killed somewhere.
        let left = if seed % 3 == 2 { seed / 6 % 40 } else { u64::MAX };
        // An ETag of the fake is a place in memory, which is not to be another object's meanwhile.
        let _old = bucket.objects();
        // With no share the publisher comes when the shard has ended.
        let (share, left) = ([0, 1, 4, 7][seed as usize / 2 % 4], [u64::MAX, left]);
        let turn = Turn { whose: 1, alive: [true; 2], dice: seed, share, left };
        let turns = Arc::new(Turns { bucket: bucket.clone(), turn: Mutex::new(turn), next: Condvar::new() });
        let [publisher, shard] = [0, 1].map(|thread| Arc::new(OfThread(thread, turns.clone())));
        let (published, ran) = std::thread::scope(|scope| {
            let publishing = scope.spawn(|| {
                let published = publish(&place(publisher.clone()));
                publisher.end();
                published.is_ok()
            });
            let running = scope.spawn(|| {
                let ran = run(&place(shard.clone()), 2, "two");
                shard.end();
                ran.is_ok()
            });
            (publishing.join().unwrap(), running.join().unwrap())
        });
        if !ran {
            // Killed, it runs again; nobody else is told that it is finished before.
            run(&before, 2, "two").unwrap();
        }
        stood += u64::from(standing(&bucket).is_some());
        refused += u64::from(!published);
        let manifest = publish(&before).unwrap();
        assert_eq!(standing(&bucket).as_ref(), Some(&manifest), "seed {seed}");
        let two = blake3::hash(b"part-00002.parquet of two").to_hex().to_string();
        assert_eq!(manifest.parts[2].blake3, two, "seed {seed}");
    }
    assert!(stood > 20 && refused > 20, "{stood} manifests stood, {refused} publishers were refused");
}

/// Of shards that say nothing of themselves nothing is asked.
#[test]
fn shards_that_are_not_finished_cost_no_request() {
    let bucket = Arc::new(FakeBucket::default());
    let here = place(bucket.clone());
    run(&here, 2, "one").unwrap();
    bucket.fail(None);
    let found = ShardPlace::Remote(here).find_all(SHARDS).unwrap();
    assert!(
        matches!(found[..], [Found::Unfinished(_), Found::Finished(_), Found::Unfinished(_)]),
        "{found:?}"
    );
    assert_eq!(bucket.calls(), 2, "a listing, and what one shard says");
}

/// A machine that was believed to be dead wakes up before any of its calls, when another one has done its shard and all is
/// published. The manifest that stands then stays.
#[test]
fn a_late_machine_removes_no_manifest_that_has_its_parts() {
    for call in 1.. {
        let bucket = Arc::new(FakeBucket::default());
        let [here, others] = [(); 2].map(|()| place(bucket.clone()));
        [1, 3].into_iter().for_each(|shard| run(&here, shard, "one").unwrap());
        bucket.meanwhile(call, move || all(&others).unwrap());
        // It may find its upload discarded.
        let ran = run(&here, 2, "one");
        if bucket.waits() {
            ran.unwrap();
            assert!(call > 15, "{call}");
            break;
        }
        assert_eq!(standing(&bucket).map(|manifest| manifest.parts.len()), Some(6), "before call {call}");
        run(&here, 2, "one").and_then(|()| publish(&here)).unwrap();
    }
}
