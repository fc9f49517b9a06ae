//! A terminal for a program to run in, with a test at the keyboard.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// How long a program may take to show what it is waited for.
const PATIENCE: Duration = Duration::from_secs(120);

/// A program in a terminal of its own.
pub struct Terminal {
    child: Child,
    keyboard: File,
    shown: Arc<Mutex<String>>,
    reader: JoinHandle<()>,
}

impl Terminal {
    /// Starts a program in the foreground of a new terminal.
    pub fn start(command: Command) -> Terminal {
        Terminal::of_columns(80, command)
    }

    /// The same, in a terminal of so many columns.
    pub fn of_columns(ws_col: u16, mut command: Command) -> Terminal {
        let (mut screen, mut program) = (0, 0);
        let size = libc::winsize { ws_row: 24, ws_col, ws_xpixel: 0, ws_ypixel: 0 };
        // SAFETY: all pointers are to live values or null, which the function allows.
        let made = unsafe {
            libc::openpty(&mut screen, &mut program, std::ptr::null_mut(), std::ptr::null(), &size)
        };
        assert_eq!(made, 0, "{}", std::io::Error::last_os_error());
        // SAFETY: both are open and nobody else's.
        let (screen, program) = unsafe { (OwnedFd::from_raw_fd(screen), OwnedFd::from_raw_fd(program)) };
        let (number, screen_number) = (program.as_raw_fd(), screen.as_raw_fd());
        let own_session = move || {
            // SAFETY: these calls may be made between fork and exec.
            let done = unsafe {
                libc::close(screen_number);
                libc::setsid() != -1 && libc::ioctl(number, libc::TIOCSCTTY, 0) != -1
            };
            if done { Ok(()) } else { Err(std::io::Error::last_os_error()) }
        };
        let end = || program.try_clone().unwrap();
        command.stdin(end()).stdout(end()).stderr(end());
        // SAFETY: the closure allocates nothing and takes no lock.
        unsafe { command.pre_exec(own_session) };
        let child = command.spawn().unwrap();
        // The command holds ends of the terminal, too, which must close for the reader to come to the end.
        drop((command, program));
        let keyboard = File::from(screen);
        let shown = Arc::new(Mutex::new(String::new()));
        let reader = {
            let (mut screen, shown) = (keyboard.try_clone().unwrap(), shown.clone());
            std::thread::spawn(move || {
                let mut bytes = [0; 4096];
                // The last program that leaves the terminal ends it with an error.
                while let Ok(read @ 1..) = screen.read(&mut bytes) {
                    shown.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..read]));
                }
            })
        };
        Terminal { child, keyboard, shown, reader }
    }

    /// The process id of the program.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What the program has shown so far.
    pub fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    /// Waits until what the program has shown is as wanted.
    pub fn wait_until(&self, wanted: impl Fn(&str) -> bool) {
        let begun = Instant::now();
        while !wanted(&self.shown()) {
            assert!(begun.elapsed() < PATIENCE, "{}", self.shown());
            assert!(!self.reader.is_finished(), "it ended: {}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Presses a key with Ctrl.
    pub fn press_ctrl(&mut self, key: char) {
        self.keyboard.write_all(&[key as u8 & 0x1f]).unwrap();
    }

    /// Waits for the end, and returns the exit code and all that was shown.
    pub fn end(mut self) -> (Option<i32>, String) {
        let begun = Instant::now();
        let status = loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                break status;
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end: {}", self.shown());
            std::thread::sleep(Duration::from_millis(5));
        };
        self.reader.join().unwrap();
        let shown = self.shown.lock().unwrap().clone();
        (status.code(), shown)
    }
}
