//! Memory for the structures that rows hold: while they take more than a limit, no others are compiled.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The bytes that are taken, and who waits for some to be given back.
#[derive(Debug)]
pub struct Room {
    state: Mutex<State>,
    changed: Condvar,
    limit: usize,
}

#[derive(Debug, Default)]
struct State {
    taken: usize,
    /// Nobody gives anything back any more.
    closed: bool,
}

/// Bytes that are taken until it is dropped.
#[derive(Debug)]
pub struct Taken {
    room: Arc<Room>,
    bytes: usize,
}

impl Room {
    pub fn new(limit: usize) -> Room {
        Room { state: Mutex::default(), changed: Condvar::new(), limit }
    }

    /// Waits until no more than the limit is taken, or nobody gives anything back.
    pub fn wait(&self) {
        let full = |state: &mut State| state.taken > self.limit && !state.closed;
        drop(self.changed.wait_while(self.lock(), full).unwrap_or_else(PoisonError::into_inner));
    }

    /// Takes so much, whether it is there or not: how much a structure takes is known when it is compiled.
    pub fn take(self: &Arc<Room>, bytes: usize) -> Taken {
        self.lock().taken += bytes;
        Taken { room: self.clone(), bytes }
    }

    /// Says whether those who hold something go on.
    pub fn close(&self, closed: bool) {
        self.lock().closed = closed;
        self.changed.notify_all();
    }

    #[cfg(test)]
    pub fn taken(&self) -> usize {
        self.lock().taken
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        self.room.lock().taken -= self.bytes;
        self.room.changed.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;
    use std::time::Duration;

    #[test]
    fn who_waits_goes_on_when_enough_is_given_back_or_nobody_gives_any() {
        let room = Arc::new(Room::new(10));
        let (first, second) = (room.take(8), room.take(8));
        let (send, ended) = channel();
        let waits = |name: &'static str| {
            let (room, send) = (room.clone(), send.clone());
            std::thread::spawn(move || {
                room.wait();
                send.send(name)
            })
        };
        waits("one");
        assert!(ended.recv_timeout(Duration::from_millis(50)).is_err());
        drop(first);
        assert_eq!(ended.recv(), Ok("one"));
        let third = room.take(8);
        waits("two");
        assert!(ended.recv_timeout(Duration::from_millis(50)).is_err());
        room.close(true);
        assert_eq!(ended.recv(), Ok("two"));
        drop((second, third));
        assert_eq!(room.taken(), 0);
    }
}
