//! The threads of the device, which share out the work of an op.
//!
//! A step is hundreds of ops of a few microseconds to milliseconds each, and waking a thread takes longer than the short
//! ones. So the helpers look for the next op for a while before they sleep, and the leader never waits for one that has
//! not begun: it takes tasks itself, and waits for those that others are at.

use std::cell::UnsafeCell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a helper looks for work before it sleeps: longer than what a step does on one thread between two ops.
const PATIENCE: Duration = Duration::from_micros(100);

/// The helpers at a job, in the lowest bits of the state.
const HELPERS: u64 = 0xffff;
/// The bit of the state that says that helpers may join the job.
const OPEN: u64 = 1 << 16;
/// What is added to the state for each job.
const JOB: u64 = 1 << 17;

/// Threads: the one that calls, and helpers.
pub struct Team {
    shared: Arc<Shared>,
    helpers: Vec<JoinHandle<()>>,
}

/// A job: a function and the tasks that nobody has begun.
struct Job {
    task: *const (dyn Fn(usize) + Sync),
    count: usize,
}

struct Shared {
    /// The number of the job, whether it is open, and how many helpers are at it.
    state: AtomicU64,
    /// Written by the leader while no job is open and no helper is at one.
    job: UnsafeCell<Option<Job>>,
    next: AtomicUsize,
    panicked: AtomicBool,
    ended: AtomicBool,
    asleep: AtomicUsize,
    door: Mutex<()>,
    bell: Condvar,
}

// SAFETY: `job` is written by the leader alone, while nobody may read it; see `Shared::state`. What it points to is `Sync`.
unsafe impl Sync for Shared {}
// SAFETY: the same.
unsafe impl Send for Shared {}

impl Team {
    /// A team of `threads`, with the calling one.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub fn new(threads: usize) -> std::io::Result<Team> {
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            job: UnsafeCell::new(None),
            next: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            ended: AtomicBool::new(false),
            asleep: AtomicUsize::new(0),
            door: Mutex::new(()),
            bell: Condvar::new(),
        });
        let mut team = Team { shared, helpers: Vec::new() };
        for i in 1..threads {
            let shared = team.shared.clone();
            let thread = std::thread::Builder::new().name(format!("cpu-{i}"));
            team.helpers.push(thread.spawn(move || shared.help())?);
        }
        Ok(team)
    }

    /// How many threads there are.
    pub fn threads(&self) -> usize {
        self.helpers.len() + 1
    }

    /// Calls `task` for each of `0..count`, in no order. Tasks must not share out work themselves.
    ///
    /// # Panics
    /// If a task does, once all that have begun are done.
    pub fn share(&mut self, count: usize, task: impl Fn(usize) + Sync) {
        if count <= 1 || self.helpers.is_empty() {
            (0..count).for_each(task);
            return;
        }
        self.shared.open(&task, count);
        // Closes the job and waits for the helpers, also if a task of this thread panics.
        let leader = Leader(&self.shared);
        self.shared.take_tasks(&task, count);
        drop(leader);
        let panicked = self.shared.panicked.swap(false, Ordering::Relaxed);
        assert!(!panicked, "a task of a helper panicked");
    }

    /// Calls `task` for ranges of about `least` of `0..count`, which together are all of it.
    pub fn share_ranges(&mut self, count: usize, least: usize, task: impl Fn(Range<usize>) + Sync) {
        let ranges = (count / least.max(1)).max(1);
        let start = |i: usize| i * count / ranges;
        self.share(ranges, |i| task(start(i)..start(i + 1)));
    }
}

impl Drop for Team {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        self.shared.wake();
        // A helper catches the panics of its tasks, and so does not panic.
        self.helpers.drain(..).for_each(|helper| drop(helper.join()));
    }
}

/// Ends a job when dropped.
struct Leader<'a>(&'a Shared);

impl Drop for Leader<'_> {
    fn drop(&mut self) {
        self.0.state.fetch_and(!OPEN, Ordering::AcqRel);
        let mut turns = 0_u32;
        while self.0.state.load(Ordering::Acquire) & HELPERS > 0 {
            pause(&mut turns);
        }
    }
}

impl Shared {
    fn open(&self, task: &(dyn Fn(usize) + Sync), count: usize) {
        // SAFETY: the lifetime is forgotten for as long as the job is open or a helper is at it, and `Leader` waits for
        // the end of both before the function that was lent ends.
        let task = unsafe {
            std::mem::transmute::<*const (dyn Fn(usize) + Sync), *const (dyn Fn(usize) + Sync + 'static)>(
                task,
            )
        };
        // SAFETY: no job is open and no helper is at one, so nobody else reads.
        unsafe { *self.job.get() = Some(Job { task, count }) };
        self.next.store(0, Ordering::Relaxed);
        self.state.fetch_add(JOB | OPEN, Ordering::SeqCst);
        if self.asleep.load(Ordering::SeqCst) > 0 {
            self.wake();
        }
    }

    fn wake(&self) {
        // Whoever is about to sleep holds the door until it sleeps.
        drop(self.door.lock().unwrap_or_else(PoisonError::into_inner));
        self.bell.notify_all();
    }

    fn take_tasks(&self, task: &(dyn Fn(usize) + Sync), count: usize) {
        loop {
            let i = self.next.fetch_add(1, Ordering::Relaxed);
            if i >= count {
                return;
            }
            task(i);
        }
    }

    /// The life of a helper.
    fn help(&self) {
        let mut done = 0;
        while let Some(job) = self.find(done) {
            done = job;
            let state = self.state.load(Ordering::Acquire);
            if state / JOB != job || state & OPEN == 0 {
                continue;
            }
            if self.state.compare_exchange(state, state + 1, Ordering::AcqRel, Ordering::Relaxed).is_err() {
                // Another helper came first, or the job was closed.
                done = job - 1;
                continue;
            }
            // SAFETY: this helper is at the job, so that it stays as it is and what it points to is alive.
            let Some(Job { task, count }) = (unsafe { &*self.job.get() }) else { return };
            // SAFETY: the same.
            let tasks = || self.take_tasks(unsafe { &**task }, *count);
            if catch_unwind(AssertUnwindSafe(tasks)).is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.state.fetch_sub(1, Ordering::Release);
        }
    }

    /// The number of an open job after `done`; none when the team has ended.
    fn find(&self, done: u64) -> Option<u64> {
        let open = || {
            let state = self.state.load(Ordering::SeqCst);
            (state & OPEN > 0 && state / JOB != done).then_some(state / JOB)
        };
        let (mut since, mut turns) = (Instant::now(), 0);
        loop {
            if self.ended.load(Ordering::SeqCst) {
                return None;
            }
            if let Some(job) = open() {
                return Some(job);
            }
            pause(&mut turns);
            if turns.is_multiple_of(16) && since.elapsed() > PATIENCE {
                let door = self.door.lock().unwrap_or_else(PoisonError::into_inner);
                self.asleep.fetch_add(1, Ordering::SeqCst);
                if open().is_none() && !self.ended.load(Ordering::SeqCst) {
                    drop(self.bell.wait(door).unwrap_or_else(PoisonError::into_inner));
                }
                self.asleep.fetch_sub(1, Ordering::SeqCst);
                (since, turns) = (Instant::now(), 0);
            }
        }
    }
}

/// Waits a moment. After a while other threads may have the core.
fn pause(turns: &mut u32) {
    *turns += 1;
    if *turns < 256 {
        for _ in 0..8 {
            std::hint::spin_loop();
        }
    } else {
        std::thread::yield_now();
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn every_task_is_done_once() {
        for threads in [1, 2, 5] {
            let mut team = Team::new(threads).unwrap();
            for round in 0..3000 {
                let done: Vec<AtomicUsize> = (0..round % 37).map(|_| AtomicUsize::new(0)).collect();
                team.share(done.len(), |i| {
                    done[i].fetch_add(1, Ordering::Relaxed);
                });
                assert!(done.iter().all(|n| n.load(Ordering::Relaxed) == 1), "round {round}");
                if round % 1000 == 0 {
                    // Long enough for the helpers to sleep.
                    std::thread::sleep(20 * PATIENCE);
                }
            }
        }
    }

    #[test]
    fn ranges_are_all_of_it() {
        let mut team = Team::new(3).unwrap();
        for (count, least) in [(0, 1), (1, 5), (7, 0), (100, 1), (101, 9)] {
            let sum = AtomicUsize::new(0);
            team.share_ranges(count, least, |range| {
                sum.fetch_add(range.map(|i| i + 1).sum(), Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), count * (count + 1) / 2);
        }
    }

    #[test]
    fn a_task_that_panics_ends_the_job_and_not_the_team() {
        let mut team = Team::new(2).unwrap();
        for _ in 0..50 {
            let begun = AtomicUsize::new(0);
            let job =
                || team.share(64, |i| assert!(begun.fetch_add(1, Ordering::Relaxed) < usize::MAX && i != 40));
            assert!(catch_unwind(AssertUnwindSafe(job)).is_err());
            let sum = AtomicUsize::new(0);
            team.share(10, |i| {
                sum.fetch_add(i, Ordering::Relaxed);
            });
            assert_eq!(sum.into_inner(), 45);
        }
    }
}
