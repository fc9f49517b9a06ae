//! For how long a worker has shown no progress, as far as it could have made any.

use std::time::{Duration, Instant};

/// The supervisor looks at the clock so often, at least.
const LOOK: Duration = Duration::from_secs(1);

/// Counts the time since a worker's last heartbeat in which the supervisor itself ran: who suspends a job, or a machine,
/// suspends both.
pub(super) struct HangClock {
    process: u32,
    limit: Duration,
    idle: Duration,
    /// The part of `idle` in which the worker had processor time.
    computing: Duration,
    looked: Instant,
    /// The processor time of the worker at the last look, where the system tells it.
    computed: Option<Duration>,
}

impl HangClock {
    /// A clock for a process that has just begun.
    pub fn start(process: u32, limit: Duration) -> Self {
        let computed = processor_time(process);
        let (idle, computing) = (Duration::ZERO, Duration::ZERO);
        HangClock { process, limit, idle, computing, looked: Instant::now(), computed }
    }

    /// Starts again with another limit.
    pub fn restart(&mut self, limit: Duration) {
        *self = HangClock::start(self.process, limit);
    }

    /// The time until the next look.
    pub fn pause(&self) -> Duration {
        self.longest().min(self.limit.saturating_sub(self.idle))
    }

    /// Counts the time since the last look. More than a pause cannot pass unless the supervisor was held up, and then
    /// the worker may have been, too.
    pub fn look(&mut self) {
        let passed = self.looked.elapsed().min(self.longest());
        let computed = processor_time(self.process);
        // On a busy machine it gets a part of the time only; one that waits for something still wakes now and then.
        let used = |(before, now): (Duration, Duration)| now.saturating_sub(before) >= passed / 100;
        if self.computed.zip(computed).is_none_or(used) {
            self.computing += passed;
        }
        self.idle += passed;
        self.computed = computed;
        self.looked = Instant::now();
    }

    fn longest(&self) -> Duration {
        LOOK.min(self.limit / 4)
    }

    /// Whether the limit has passed.
    pub fn is_over(&self) -> bool {
        self.idle >= self.limit
    }

    /// Whether the worker has computed for at least half of the limit, and not waited for a disk, a lock or whoever
    /// suspended it. Where the system does not tell, it has.
    pub fn has_computed(&self) -> bool {
        self.computing >= self.limit / 2
    }
}

/// The processor time that a process has used, all its threads together.
#[cfg(target_os = "linux")]
fn processor_time(process: u32) -> Option<Duration> {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are to live values of their types.
    let told = unsafe {
        libc::clock_getcpuclockid(process as libc::pid_t, &mut clock) == 0
            && libc::clock_gettime(clock, &mut time) == 0
    };
    told.then(|| Duration::new(time.tv_sec as u64, time.tv_nsec as u32))
}

#[cfg(not(target_os = "linux"))]
fn processor_time(_: u32) -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn time_in_which_nobody_ran_does_not_count() {
        let mut clock = HangClock::start(std::process::id(), MINUTE);
        for _ in 0..59 {
            // A look that comes hours late.
            clock.looked -= 60 * MINUTE;
            clock.look();
            assert!(!clock.is_over(), "{:?}", clock.idle);
        }
        clock.looked -= MINUTE;
        clock.look();
        assert!(clock.is_over() && clock.pause().is_zero());
        clock.restart(MINUTE);
        assert!(!clock.is_over());
        // A limit below the usual pause is looked at more often.
        let mut clock = HangClock::start(std::process::id(), Duration::from_secs(1));
        clock.looked -= MINUTE;
        clock.look();
        assert!(!clock.is_over());
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn who_waits_has_not_computed() {
        let watch = |process| {
            let mut clock = HangClock::start(process, Duration::from_millis(400));
            while !clock.is_over() {
                if process == std::process::id() {
                    let begun = Instant::now();
                    while begun.elapsed() < clock.pause() {}
                } else {
                    std::thread::sleep(clock.pause());
                }
                clock.look();
            }
            clock.has_computed()
        };
        assert!(watch(std::process::id()));
        let sleeping = std::process::Command::new("sleep").arg("60").spawn();
        if let Ok(mut sleeping) = sleeping {
            assert!(!watch(sleeping.id()));
            let _ = sleeping.kill().and_then(|()| sleeping.wait());
        }
    }
}
