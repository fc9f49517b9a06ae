//! The program's allocator: the system's, and what is said when that has no memory left.
//!
//! Rust aborts where an allocation fails, which looks like a crash that rows have caused. The thread that could not
//! allocate is known here, and its abort becomes an end like that of any other error that may pass: the job resumes.

use crate::error::EXIT_FAILED;
use crate::log::is_json;
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    /// The bytes that this thread was refused last, until it gets as many; 0 if it was not.
    static REFUSED: Cell<usize> = const { Cell::new(0) };
}

/// The system's allocator; it notes what it is refused.
pub struct Allocator;

/// Notes whether an allocation of so many bytes has failed. Smaller ones may follow before the abort: a backtrace is printed.
fn noted(pointer: *mut u8, bytes: usize) -> *mut u8 {
    // A thread that ends has no such variable any more, and nothing to do that needs memory.
    let _ = REFUSED.try_with(|refused| match pointer.is_null() {
        true => refused.set(bytes),
        false if bytes >= refused.get() => refused.set(0),
        false => {}
    });
    pointer
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are those that it asks for.
        noted(unsafe { System.alloc(layout) }, layout.size())
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { System.alloc_zeroed(layout) }, layout.size())
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { System.realloc(pointer, layout, size) }, size)
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// From now on, a process whose memory is used up says so and ends with [`EXIT_FAILED`], as after any error that may pass.
/// Without [`Allocator`] nothing changes.
#[cfg(unix)]
pub fn end_when_out_of_memory() {
    let handler: extern "C" fn(libc::c_int) = end;
    // SAFETY: the handler calls nothing but what a signal handler may.
    unsafe { libc::signal(libc::SIGABRT, handler as libc::sighandler_t) };
}

/// Other systems have no such signal.
#[cfg(not(unix))]
pub fn end_when_out_of_memory() {}

/// Ends the process if the thread that aborts has been refused memory. It allocates nothing.
#[cfg(unix)]
extern "C" fn end(_: libc::c_int) {
    let refused = REFUSED.try_with(Cell::get).unwrap_or(0);
    if refused == 0 {
        // Another abort, or a signal from outside, which ends the process as if there were no handler.
        // SAFETY: both may be called here. The signal comes when this handler returns.
        unsafe {
            libc::signal(libc::SIGABRT, libc::SIG_DFL);
            libc::raise(libc::SIGABRT);
        }
        return;
    }
    let mut digits = [0; 20];
    let (before, after) =
        if is_json() { ("{\"level\":\"ERROR\",\"message\":\"", "\"}\n") } else { ("error: ", "\n") };
    for text in [
        before,
        "out of memory: the system refused ",
        decimal(refused, &mut digits),
        " bytes more; finished rows are kept, and no row is to blame. Free memory or raise the limit (ulimit -v, or that of \
         the container), lower --max-num-seqs, --max-num-batched-tokens or --max-model-len, or choose a smaller model; \
         the same command goes on",
        after,
    ] {
        // SAFETY: it only reads the text. What cannot be written is dropped.
        unsafe { libc::write(libc::STDERR_FILENO, text.as_ptr().cast(), text.len()) };
    }
    // SAFETY: it never returns, and nothing of this process runs after it.
    unsafe { libc::_exit(EXIT_FAILED.into()) };
}

/// A number without the formatter.
#[cfg(unix)]
fn decimal(mut number: usize, digits: &mut [u8; 20]) -> &str {
    let mut begin = digits.len();
    while begin == digits.len() || number > 0 {
        begin -= 1;
        digits[begin] = b'0' + (number % 10) as u8;
        number /= 10;
    }
    std::str::from_utf8(&digits[begin..]).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_thread_that_gets_as_much_later_is_no_longer_refused() {
        let refused = |bytes| {
            let layout = Layout::from_size_align(bytes, 8).unwrap_or(Layout::new::<u64>());
            // SAFETY: the layout is not empty, and what it gives is given back.
            unsafe {
                let pointer = Allocator.alloc(layout);
                if !pointer.is_null() {
                    Allocator.dealloc(pointer, layout);
                }
            }
            REFUSED.get()
        };
        let (little, much, all) = (64, 1 << 20, 1 << 62);
        assert_eq!([little, all, much].map(refused), [0, all, all]);
        REFUSED.set(much);
        assert_eq!([little, much, little].map(refused), [much, 0, 0]);
    }

    #[cfg(unix)]
    #[test]
    fn numbers_are_written_without_memory() {
        for number in [0, 7, 10, 1_048_576, usize::MAX] {
            assert_eq!(decimal(number, &mut [0; 20]), number.to_string());
        }
    }
}
