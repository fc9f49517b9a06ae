//! Owners of one job that all believe in their claims, over a store whose requests and answers come late, in any order, or not
//! at all.
#![allow(clippy::unwrap_used)]

use super::tests::Job;
use super::*;
use crate::store::bucket::ObjectVersion;
use crate::store::error::StoreError;
use crate::store::fake::FakeBucket;
use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Condvar;

/// How a request goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// It is done, and its answer comes.
    Answered,
    /// It is done, and its answer is lost.
    Done,
    /// It is lost.
    Lost,
    /// Its sender gives up on it, and it is done later.
    Late,
}

type Request = Box<dyn FnOnce(&FakeBucket) + Send>;

/// A store, and whose turn it is.
struct World {
    bucket: Arc<FakeBucket>,
    state: Mutex<State>,
    next: Condvar,
}

struct State {
    dice: u64,
    /// Who may go on.
    turn: Option<usize>,
    /// Who waits for a turn; the others have ended.
    waiting: Vec<usize>,
    owners: usize,
    ended: usize,
    /// After how many turns of the first owner the second one comes, and after how many of its own the first goes on to its end;
    /// without this the dice decide.
    plan: Option<[usize; 2]>,
    turns: [usize; 4],
    /// For how many turns each owner is suspended: the others have time for all that they do.
    suspended: [usize; 4],
    /// Requests that their senders have given up.
    late: Vec<Request>,
    /// Of so many requests three do not go as they should; if it is 0, all do: only then does an owner often come to its end.
    faults: usize,
    /// In the last stretch nothing is lost any more.
    calm: bool,
    /// The manifests that have stood, and the first thing that was wrong.
    manifests: Vec<Bytes>,
    wrong: Option<String>,
}

impl State {
    fn below(&mut self, n: usize) -> usize {
        self.dice = self.dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((self.dice >> 33) % n as u64) as usize
    }

    /// From now on nothing is lost, and so many owners send requests.
    fn calm_for(&mut self, owners: usize) {
        (self.calm, self.owners, self.ended) = (true, owners, 0);
    }

    fn fate(&mut self) -> Fate {
        if self.calm || self.faults == 0 {
            return Fate::Answered;
        }
        match self.below(self.faults) {
            0 => Fate::Done,
            1 => Fate::Lost,
            2 => Fate::Late,
            _ => Fate::Answered,
        }
    }
}

impl World {
    fn new(seed: u64, owners: usize) -> Arc<World> {
        let state = State {
            dice: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) + 1,
            turn: None,
            waiting: Vec::new(),
            owners,
            ended: 0,
            plan: None,
            turns: [0; 4],
            suspended: [0; 4],
            late: Vec::new(),
            faults: [0, 0, 400, 50][seed as usize / 20 % 4],
            calm: false,
            manifests: Vec::new(),
            wrong: None,
        };
        Arc::new(World { bucket: Arc::default(), state: Mutex::new(state), next: Condvar::new() })
    }

    /// Waits for a turn, and is suspended more often before a request that `changes` something. All owners but one wait at any time, so that the dice alone decide the order.
    fn wait(&self, owner: usize, changes: bool) {
        let mut state = self.state.lock().unwrap();
        state.waiting.push(owner);
        if state.plan.is_none() && state.below(if changes { 6 } else { 60 }) == 0 {
            state.suspended[owner] = state.below(400);
        }
        self.pass(&mut state);
        let mut state = self.next.wait_while(state, |state| state.turn != Some(owner)).unwrap();
        state.turn = None;
        state.turns[owner] += 1;
        state.waiting.retain(|&waiting| waiting != owner);
    }

    fn end(&self) {
        let mut state = self.state.lock().unwrap();
        state.ended += 1;
        self.pass(&mut state);
    }

    /// Lets somebody go on, when all wait; a late request may be done first.
    fn pass(&self, state: &mut State) {
        if state.waiting.len() + state.ended < state.owners {
            return;
        }
        while !state.late.is_empty() && state.below(40) == 0 {
            let at = state.below(state.late.len());
            let request = state.late.swap_remove(at);
            request(&self.bucket);
            self.look(state);
        }
        state.waiting.sort_unstable();
        state.suspended.iter_mut().for_each(|turns| *turns = turns.saturating_sub(1));
        // When all are suspended, time passes until the first of them is not.
        let passes = state.waiting.iter().map(|owner| state.suspended[*owner]).min().unwrap_or(0);
        state.suspended.iter_mut().for_each(|turns| *turns = turns.saturating_sub(passes));
        let awake: Vec<usize> =
            state.waiting.iter().copied().filter(|owner| state.suspended[*owner] == 0).collect();
        if let Some([first, second]) = state.plan {
            let others = state.turns[0] >= first && state.turns[1] < second;
            state.turn = if others { state.waiting.last() } else { state.waiting.first() }.copied();
            self.next.notify_all();
            return;
        }
        state.turn = match awake.len() {
            0 => None,
            many => Some(awake[state.below(many)]),
        };
        self.next.notify_all();
    }

    /// What must hold at every moment: a manifest names parts that stand as it says.
    fn look(&self, state: &mut State) {
        let objects = self.bucket.objects();
        let Some(text) = objects.get("a/out.gristmill/manifest.json") else {
            if !state.manifests.is_empty() {
                state.wrong.get_or_insert("a manifest was removed".into());
            }
            return;
        };
        if reservation::Reservation::parse(text).is_some() {
            return;
        }
        if state.manifests.last() != Some(text) {
            state.manifests.push(text.clone());
        }
        let manifest = Manifest::parse(text, Path::new("manifest")).unwrap();
        for part in &manifest.parts {
            let key = if part.name == "out" { "a/out".into() } else { format!("a/out/{}", part.name) };
            let why = match objects.get(&key) {
                None => "is missing",
                Some(bytes) if *blake3::hash(bytes).to_hex() != *part.blake3 => "is another's",
                Some(_) => continue,
            };
            state.wrong.get_or_insert(format!("{key} {why} under a manifest"));
        }
    }
}

/// The requests of one owner.
#[derive(Clone)]
struct Sender {
    owner: usize,
    world: Arc<World>,
}

impl std::fmt::Debug for Sender {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "owner {}", self.owner)
    }
}

impl Sender {
    /// Sends a request: it may arrive late, and so may its answer.
    fn send<T: Send + 'static>(
        &self,
        changes: bool,
        work: impl FnOnce(&FakeBucket) -> Result<T, JobError> + Send + 'static,
    ) -> Result<T, JobError> {
        let world = &self.world;
        world.wait(self.owner, changes);
        let fate = world.state.lock().unwrap().fate();
        let lost = || JobError::Store {
            doing: "ask",
            url: "x".into(),
            error: StoreError::Unreachable("on purpose".into()),
        };
        let answer = match fate {
            Fate::Answered => work(&world.bucket),
            Fate::Done => work(&world.bucket).and_then(|_| Err(lost())),
            Fate::Lost => Err(lost()),
            Fate::Late => {
                let late: Request = Box::new(move |bucket| drop(work(bucket)));
                world.state.lock().unwrap().late.push(late);
                Err(lost())
            }
        };
        world.look(&mut world.state.lock().unwrap());
        world.wait(self.owner, false);
        answer
    }
}

impl Bucket for Sender {
    fn head(&self, key: &str) -> Result<Option<ObjectVersion>, JobError> {
        let key = key.to_string();
        self.send(false, move |bucket| bucket.head(&key))
    }
    fn list(&self, folder: &str, deep: bool) -> Result<Vec<ObjectVersion>, JobError> {
        let folder = folder.to_string();
        self.send(false, move |bucket| bucket.list(&folder, deep))
    }
    fn read(&self, object: &ObjectVersion, range: Range<u64>) -> Result<Bytes, JobError> {
        let object = object.clone();
        self.send(false, move |bucket| bucket.read(&object, range))
    }
    fn get_revision(&self, key: &str) -> Result<Option<(Bytes, Revision)>, JobError> {
        let key = key.to_string();
        self.send(false, move |bucket| bucket.get_revision(&key))
    }
    fn create(&self, key: &str, text: &str) -> Result<bool, JobError> {
        let (key, text) = (key.to_string(), text.to_string());
        self.send(true, move |bucket| bucket.create(&key, &text))
    }
    fn replace(&self, key: &str, text: &str, over: &Revision) -> Result<Option<Revision>, JobError> {
        let (key, text, over) = (key.to_string(), text.to_string(), over.clone());
        self.send(true, move |bucket| bucket.replace(&key, &text, &over))
    }
    fn delete(&self, key: &str) -> Result<(), JobError> {
        let key = key.to_string();
        self.send(true, move |bucket| bucket.delete(&key))
    }
    fn begin_upload(&self, key: &str) -> Result<String, JobError> {
        let key = key.to_string();
        self.send(false, move |bucket| bucket.begin_upload(&key))
    }
    fn upload(&self, key: &str, id: &str, file: &Path) -> Result<Vec<String>, JobError> {
        let (key, id, bytes) = (key.to_string(), id.to_string(), std::fs::read(file).unwrap());
        self.send(false, move |bucket| bucket.upload_bytes(&key, &id, bytes.into()))
    }
    fn complete_upload(&self, key: &str, id: &str, pieces: &[String]) -> Result<(), JobError> {
        let (key, id, pieces) = (key.to_string(), id.to_string(), pieces.to_vec());
        self.send(true, move |bucket| bucket.complete_upload(&key, &id, &pieces))
    }
    fn uploads(&self, key: &str) -> Result<Vec<(String, String)>, JobError> {
        let key = key.to_string();
        self.send(false, move |bucket| Bucket::uploads(bucket, &key))
    }
    fn abort_upload(&self, key: &str, id: &str) -> Result<(), JobError> {
        let (key, id) = (key.to_string(), id.to_string());
        self.send(true, move |bucket| bucket.abort_upload(&key, &id))
    }
}

/// What came of a command that did not fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Came {
    /// It has brought the job to its end.
    Ended,
    /// It has found that another machine had. What is left of that one's claim is left alone.
    Found,
}

/// An owner that believes in its claim from its first request on: it begins the job or takes it over, renews its claim, copies
/// its journal, and publishes answers of its own. When a request fails, its command is given again.
struct Owner {
    job: Job,
    world: Arc<World>,
}

impl Owner {
    fn new(world: &Arc<World>, number: usize, folder: bool) -> Owner {
        let sender: Arc<dyn Bucket> = Arc::new(Sender { owner: number, world: world.clone() });
        let text = ["the first", "the second", "the third", "the last"][number];
        Owner { job: Job::of(sender, folder, text), world: world.clone() }
    }

    /// What a command does, with a claim that is taken to be nobody's as soon as it is seen.
    fn run(&mut self, takes_over: bool) -> Result<Came, JobError> {
        self.job.restart();
        let remote = &self.job.remote;
        let seen = if takes_over { remote.seen()? } else { None };
        match seen {
            Some(seen) => {
                let fetched = self.job.state_dir.path().join("fetched");
                remote.fetch_checkpoint(&seen, &fetched)?;
                let own = self.job.manifest();
                if !remote.take(&seen, own.rows, &|manifest| manifest.identity == own.identity)? {
                    return Ok(Came::Ended);
                }
                remote.fetch_checkpoint(&seen, &fetched)?;
                remote.end_take_over()?;
            }
            // What another machine has published is done.
            None if takes_over && remote.published_elsewhere(&|_| true)?.is_some() => {
                return Ok(Came::Found);
            }
            None => remote.check()?,
        }
        remote.claim()?;
        let copy = self.job.state_dir.path().join("copy");
        std::fs::write(&copy, self.job.text).unwrap();
        for _ in 0..2 {
            // Neither ends a job when the store does not answer.
            for done in [remote.renew(), remote.put_checkpoint(&copy)] {
                if let Err(
                    error @ (JobError::TakenOver { .. }
                    | JobError::ClaimRemoved { .. }
                    | JobError::Claimed { .. }),
                ) = done
                {
                    return Err(error);
                }
            }
        }
        self.job.publish().map(|()| Came::Ended)
    }

    /// Gives the command up to three times, with or without `--take-over`.
    fn run_until(&mut self, takes_over: [bool; 3]) -> bool {
        let done = takes_over.into_iter().any(|takes_over| self.run(takes_over).is_ok());
        self.world.end();
        done
    }

    /// Publishes before all others, and has other answers from then on.
    fn publish_before(&mut self) {
        self.world.state.lock().unwrap().calm_for(1);
        let text = std::mem::replace(&mut self.job.text, "before");
        assert_eq!(self.run(false).unwrap(), Came::Ended);
        self.job.text = text;
    }
}

/// What owners of a job do.
#[derive(Clone, Copy)]
struct Case {
    owners: usize,
    folder: bool,
    /// Whether the job was published before, with other answers.
    again: bool,
    /// Whether the first owner takes the job back when it is given its command again.
    back: bool,
}

/// The owners of a job, once they have ended, and how many of them say that the job is done.
fn play(world: &Arc<World>, case: Case) -> (Vec<Owner>, usize) {
    let Case { owners, folder, again, back } = case;
    let mut first = Owner::new(world, 0, folder);
    if again {
        first.publish_before();
        let mut state = world.state.lock().unwrap();
        (state.calm, state.owners, state.turns) = (false, owners, [0; 4]);
    }
    let mut all = vec![first];
    all.extend((1..owners).map(|number| Owner::new(world, number, folder)));
    let done = std::thread::scope(|scope| {
        let run = |(number, owner): (usize, &mut Owner)| match number {
            0 => owner.run_until([false, back, back]),
            _ => owner.run_until([true; 3]),
        };
        let running: Vec<_> =
            all.iter_mut().enumerate().map(|owner| scope.spawn(move || run(owner))).collect();
        running.into_iter().map(|running| running.join().unwrap()).filter(|done| *done).count()
    });
    (all, done)
}

#[test]
fn owners_that_believe_in_their_claims_publish_once() {
    let number = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap());
    let cases = number("GRISTMILL_OWNERS").unwrap_or(CASES);
    let first = number("GRISTMILL_OWNERS_FROM").unwrap_or(0);
    let mut came: BTreeMap<(bool, usize), usize> = BTreeMap::new();
    for seed in first..first + cases {
        let owners = 2 + seed as usize % 2;
        let (folder, again, back) = (seed % 4 < 2, seed % 5 == 4, seed % 3 == 0);
        let world = World::new(seed, owners);
        let (mut all, done) = play(&world, Case { owners, folder, again, back });
        let before = {
            let mut state = world.state.lock().unwrap();
            for request in std::mem::take(&mut state.late) {
                request(&world.bucket);
                world.look(&mut state);
            }
            assert_eq!(state.wrong, None, "seed {seed}");
            let manifests = state.manifests.len();
            assert!(manifests <= 1 + usize::from(again), "seed {seed}: {manifests} manifests");
            state.calm_for(1);
            manifests
        };
        *came.entry((again, before)).or_default() += 1;
        assert!(done <= owners);
        // Either a machine that has not had the job, or one of those.
        let last = match seed as usize % 7 {
            number if number < owners => all.swap_remove(number),
            _ => Owner::new(&world, 3, folder),
        };
        bring_to_an_end(last, again, &format!("seed {seed}"));
    }
    let published = came.iter().filter(|((again, before), _)| *before > usize::from(*again));
    let published: usize = published.map(|(_, cases)| cases).sum();
    println!(
        "{cases} cases of owners that believe in their claims, from seed {first}: {published} published by them, all by the next"
    );
    // Whether the job was published before, and manifests: neither the one who publishes nor none is the rule.
    assert!(came.get(&(false, 0)).is_some_and(|cases| *cases > 10), "{came:?}");
    assert!(came.get(&(false, 1)).is_some_and(|cases| *cases > 10), "{came:?}");
}

const CASES: u64 = 250;

/// Whatever was left, one more owner brings it to an end, unless that has been done.
fn bring_to_an_end(mut last: Owner, again: bool, case: &str) {
    let world = last.world.clone();
    let before = {
        let mut state = world.state.lock().unwrap();
        state.plan = None;
        state.calm_for(1);
        state.manifests.len()
    };
    // Where the owner before had published and not said so, the first command only finds that out.
    let ran = last.run(true).or_else(|_| last.run(true));
    let state = world.state.lock().unwrap();
    assert_eq!(state.wrong, None, "{case}");
    match ran {
        Ok(Came::Found) => assert!(before > 0, "{case}"),
        Ok(Came::Ended) => {
            let objects = world.bucket.objects();
            let left: Vec<_> = objects.keys().filter(|key| key.contains(".gristmill/")).collect();
            assert_eq!(left, ["a/out.gristmill/manifest.json"], "{case}");
            assert!(state.manifests.len() <= 1 + usize::from(again), "{case}");
        }
        Err(error) => assert!(
            before > 0 && matches!(error, JobError::OutputExists { .. }),
            "{case}: {error}, after {before} manifests"
        ),
    }
}

/// The first owner is suspended before or after each of its requests. Meanwhile the second takes the job over, and comes to its
/// end, or is suspended itself near to it while the first goes on to its own.
#[test]
fn an_owner_that_is_suspended_anywhere_publishes_nothing_late() {
    for (folder, again) in [(true, false), (false, false), (false, true)] {
        let (mut second, mut dice) = (None, 7_usize);
        for first in 0.. {
            let mut first_ended = false;
            for case in 0..4 {
                dice = dice.wrapping_mul(1_103_515_245).wrapping_add(12_345) & 0x7fff_ffff;
                let until = match (case, second) {
                    (0, _) | (_, None) => usize::MAX,
                    (_, Some(all)) => usize::saturating_sub(all, (dice >> 8) % 60),
                };
                let world = World::new(0, 2);
                {
                    let mut state = world.state.lock().unwrap();
                    (state.plan, state.faults) = (Some([first, until]), 0);
                }
                play(&world, Case { owners: 2, folder, again, back: false });
                let case = format!("{folder} {again} {first} {until}");
                {
                    let state = world.state.lock().unwrap();
                    assert_eq!(state.wrong, None, "{case}");
                    let manifests = state.manifests.len();
                    assert!(manifests <= 1 + usize::from(again), "{case}: {manifests} manifests");
                    first_ended = state.turns[0] <= first;
                    if until == usize::MAX {
                        second = Some(state.turns[1]);
                    }
                }
                bring_to_an_end(Owner::new(&world, 3, folder), again, &case);
            }
            if first_ended {
                break;
            }
        }
    }
}
