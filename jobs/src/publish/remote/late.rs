//! Owners that were suspended and wake up: before each of their calls in turn another one takes the job over, and what that one does
//! is not undone. (What they put is the matter of [`super::owners`].)
#![allow(clippy::unwrap_used)]

use super::tests::{Job, one_more, take_over};
use super::*;
use crate::store::fake::FakeBucket;

/// Calls what is late, while before its first, second, ... call another does something, and then looks at what came of it. To the
/// end of the calls, and so many there are at least.
fn before_each_call(
    least: u64,
    each: impl Fn(&Arc<FakeBucket>) -> (Box<dyn FnOnce() + Send>, Box<dyn FnOnce()>, Box<dyn FnOnce(u64)>),
) {
    for call in 1.. {
        let bucket = Arc::new(FakeBucket::default());
        let (other, late, look) = each(&bucket);
        bucket.meanwhile(call, other);
        late();
        if bucket.waits() {
            assert!(call > least, "{call}");
            break;
        }
        look(call);
    }
}

fn jobs<const N: usize>(bucket: &Arc<FakeBucket>) -> [Arc<Job>; N] {
    std::array::from_fn(|number| Arc::new(Job::new(bucket, true, ["one", "two", "three"][number])))
}

/// It takes the job over, and has uploaded its parts when the late one goes on.
fn takes_over_and_stages(job: &Arc<Job>, staged: &Arc<Mutex<Vec<Staged>>>) -> Box<dyn FnOnce() + Send> {
    let (job, staged) = (job.clone(), staged.clone());
    Box::new(move || {
        take_over(&job).unwrap();
        job.remote.claim().unwrap();
        *staged.lock().unwrap() = job.stage().unwrap();
    })
}

/// Then it publishes.
fn publishes(
    bucket: &Arc<FakeBucket>,
    job: Arc<Job>,
    staged: Arc<Mutex<Vec<Staged>>>,
) -> Box<dyn FnOnce(u64)> {
    let bucket = bucket.clone();
    Box::new(move |call| {
        let staged = std::mem::take(&mut *staged.lock().unwrap());
        job.reveal(staged).unwrap_or_else(|error| panic!("call {call}: {error}"));
        job.is_all_of(&bucket);
    })
}

#[test]
fn an_owner_that_goes_on_discards_no_upload_of_the_next() {
    before_each_call(4, |bucket| {
        let ([one, two], staged) = (jobs(bucket), Arc::default());
        one.remote.claim().unwrap();
        // Of one whose answer was lost.
        bucket.begin_upload("a/out/part-0").unwrap();
        let late = Box::new(move || drop(one_more(&one.remote).claim()));
        (takes_over_and_stages(&two, &staged), late, publishes(bucket, two, staged))
    });
}

#[test]
fn an_owner_that_takes_over_discards_no_upload_of_the_next() {
    before_each_call(8, |bucket| {
        let ([one, two, three], staged) = (jobs(bucket), Arc::default());
        one.remote.claim().unwrap();
        bucket.begin_upload("a/out/part-0").unwrap();
        let seen = two.remote.seen().unwrap().unwrap();
        let late = Box::new(move || drop(two.remote.take(&seen, 2, &|_| true)));
        (takes_over_and_stages(&three, &staged), late, publishes(bucket, three, staged))
    });
}

#[test]
fn a_late_copy_of_the_journal_is_not_left_beside_what_is_published() {
    before_each_call(3, |bucket| {
        let [one, two] = jobs(bucket);
        one.remote.claim().unwrap();
        let (other, bucket) = (two.clone(), bucket.clone());
        let meanwhile = Box::new(move || {
            take_over(&other).unwrap();
            other.run().unwrap();
        });
        let late = Box::new(move || {
            let file = one.state_dir.path().join("copy");
            std::fs::write(&file, "answers").unwrap();
            let _ = one.remote.put_checkpoint(&file);
        });
        (meanwhile, late, Box::new(move |_| two.is_all_of(&bucket)))
    });
}

/// It publishes more rows than the first, so that it takes over what is published.
#[test]
fn the_claim_of_the_next_owner_is_not_withdrawn() {
    before_each_call(8, |bucket| {
        let [one, two] = jobs(bucket);
        one.remote.claim().unwrap();
        let (other, taken) = (two.clone(), Arc::new(Mutex::new(false)));
        let takes = taken.clone();
        let meanwhile = Box::new(move || {
            let seen = other.remote.seen().unwrap();
            *takes.lock().unwrap() = seen.is_some_and(|seen| other.remote.take(&seen, 3, &|_| true).unwrap());
        });
        let late = Box::new(move || drop(one.publish()));
        let look = move |call| {
            if *taken.lock().unwrap() {
                two.remote.renew().unwrap_or_else(|error| panic!("call {call}: {error}"));
            }
        };
        (meanwhile, late, Box::new(look))
    });
}

/// The first owner has published, and is about to publish other answers in that place.
#[test]
fn what_the_next_owner_was_told_to_be_published_stays() {
    before_each_call(12, |bucket| {
        let mut one = Job::new(bucket, true, "one");
        one.run().unwrap();
        one.text = "two";
        one.restart();
        let ([two], told) = (jobs(bucket), Arc::new(Mutex::new(false)));
        let tells = told.clone();
        let meanwhile = Box::new(move || {
            let seen = two.remote.seen().unwrap();
            let taken = seen.map(|seen| two.remote.take(&seen, 2, &|_| true));
            *tells.lock().unwrap() = matches!(taken, Some(Ok(false)));
        });
        let late = Box::new(move || drop(one.run()));
        let bucket = bucket.clone();
        let look = move |call| {
            let there = bucket.objects()["a/out.gristmill/manifest.json"].clone();
            assert!(!*told.lock().unwrap() || Reservation::parse(&there).is_none(), "call {call}");
        };
        (meanwhile, late, Box::new(look))
    });
}

/// Before it fetches the last copy of the journal, which is an upload, too.
#[test]
fn whoever_takes_over_leaves_no_upload_that_could_be_completed() {
    let bucket = Arc::default();
    let [one, two] = jobs(&bucket);
    one.remote.claim().unwrap();
    assert_eq!((one.stage().unwrap().len(), bucket.uploads()), (2, 2));
    take_over(&two).unwrap();
    assert_eq!(bucket.uploads(), 0);
}
