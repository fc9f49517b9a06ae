//! Runs programs with `interpose.cpp` preloaded between them and the C library.

// Every test binary compiles this module and uses a part of it.
#![allow(dead_code, clippy::unwrap_used)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The resources that a program used: the largest peak of memory of its processes, and the sum of their time.
#[derive(Clone, Copy, Debug, Default)]
pub struct Usage {
    /// The largest peak of resident memory of a process, in KiB.
    pub peak_kib: u64,
    /// CPU time of all processes, in ms.
    pub cpu_ms: u64,
    /// Writes and syncs below the watched folder.
    pub writes: u64,
}

/// The library, compiled once per test program; `None`, with a message, without a C++ compiler.
pub fn library() -> Option<&'static Path> {
    static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
    let library = LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/support/interpose.cpp");
        let library = Path::new(env!("CARGO_TARGET_TMPDIR")).join("interpose.so");
        let new = library.with_extension(std::process::id().to_string());
        let compiler = std::env::var("CXX").ok().filter(|c| !c.is_empty()).unwrap_or_else(|| "g++".into());
        let mut command = Command::new(&compiler);
        command.args(["-std=c++17", "-O2", "-fPIC", "-shared", "-o"]).arg(&new).arg(source).arg("-ldl");
        match command.output() {
            Err(error) => {
                eprintln!("SKIPPED: the C++ compiler {compiler} cannot be started: {error}");
                None
            }
            Ok(ran) => {
                assert!(ran.status.success(), "{}", String::from_utf8_lossy(&ran.stderr));
                std::fs::rename(new, &library).unwrap();
                Some(library)
            }
        }
    });
    library.as_deref()
}

/// Preloads the library into a program.
pub fn preload(command: &mut Command, library: &Path) {
    command.env("LD_PRELOAD", library);
}

/// Runs a program with `run`, and returns what it used.
pub fn measured<T>(mut command: Command, library: &Path, run: impl FnOnce(Command) -> T) -> (T, Usage) {
    let report = tempfile::NamedTempFile::new().unwrap();
    preload(&mut command, library);
    command.env("INTERPOSE_REPORT", report.path());
    let result = run(command);
    let mut usage = Usage::default();
    for line in std::fs::read_to_string(report.path()).unwrap().lines() {
        let mut numbers = line.split(' ').map(|number| number.parse::<u64>().unwrap());
        let mut number = || numbers.next().unwrap();
        usage.peak_kib = usage.peak_kib.max(number());
        usage.cpu_ms += number();
        usage.writes += number();
    }
    assert!(usage.peak_kib > 0, "no process reported what it used");
    (result, usage)
}

/// Points of a job at which a file below a folder is looked at, opened or read, by all its processes.
pub struct Points {
    counter: tempfile::NamedTempFile,
}

impl Points {
    /// Watches the files below a folder, and has `act` happen at a point ("N", or "N:M" to undo it at another).
    pub fn watch(command: &mut Command, library: &Path, folder: &Path, point: &str, act: &str) -> Points {
        let counter = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(counter.path(), [0; 8]).unwrap();
        preload(command, library);
        command.env("INTERPOSE_READS", folder).env("INTERPOSE_COUNTER", counter.path());
        command.env("INTERPOSE_POINT", point).env("INTERPOSE_ACT", act);
        Points { counter }
    }

    /// How many there were.
    pub fn count(&self) -> u64 {
        let bytes = std::fs::read(self.counter.path()).unwrap();
        u64::from_ne_bytes(bytes.try_into().unwrap())
    }
}
