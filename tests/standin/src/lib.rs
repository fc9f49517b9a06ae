//! Stands in for libcuda, NVRTC and cuBLASLt, so that a machine without a GPU can run the CUDA device.
//!
//! "Compiling" a kernel means calling the machine's C++ compiler (`g++`, or `$CXX`); a launch runs each block's
//! threads as fibers and checks what a card would not: bounds, first use, barriers, races, leaks. `README.md` beside
//! this crate says how kernels must be written and what the environment variables mean.
//!
//! A test calls [`install`] before the first CUDA call of its process. A test that starts another program calls
//! [`build`] and gives the folder to it as `LD_LIBRARY_PATH`.

pub mod gate;
mod sources;

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};

/// What can go wrong before the stand-in is in place.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file of the stand-in could not be written.
    #[error("cannot write the stand-in driver to {path}: {source}; make the folder writable")]
    Write {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: std::io::Error,
    },
    /// The C++ compiler could not be started.
    #[error("cannot start the C++ compiler `{compiler}`: {source}; install g++ 12 or later or set CXX")]
    Compiler {
        /// Its command.
        compiler: String,
        /// The system's error.
        source: std::io::Error,
    },
    /// The C++ compiler refused the stand-in's sources.
    #[error("the C++ compiler `{compiler}` failed on {library}:\n{log}")]
    Compile {
        /// Its command.
        compiler: String,
        /// The library that was to be made.
        library: &'static str,
        /// What it printed.
        log: String,
    },
    /// A library was made but does not load.
    #[error("cannot load {path}: {source}")]
    Load {
        /// The library.
        path: PathBuf,
        /// The loader's error.
        source: libloading::Error,
    },
}

/// Builds the libraries if this version of them is not there yet, and returns their folder: the value for a child
/// process's `LD_LIBRARY_PATH`. They lie in the target folder, or in the system's temporary folder.
///
/// # Errors
/// The folder cannot be written, or there is no working C++ compiler.
pub fn build() -> Result<PathBuf, Error> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let folder = home().join(format!("standin-{}", sources::digest()));
    if folder.join("complete").exists() {
        return Ok(folder);
    }
    let parent = folder.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(parent).map_err(|source| Error::Write { path: parent.into(), source })?;
    let fresh = tempfile::Builder::new()
        .prefix("standin-build-")
        .tempdir_in(parent)
        .map_err(|source| Error::Write { path: parent.into(), source })?;
    for (name, text) in sources::ALL {
        write(&fresh.path().join(name), text)?;
    }
    for library in &sources::LIBRARIES {
        compile(fresh.path(), library)?;
    }
    write(&fresh.path().join("complete"), "")?;
    // Another process may have been faster: then its folder serves as well.
    match std::fs::rename(fresh.path(), &folder) {
        Err(source) if !folder.join("complete").exists() => Err(Error::Write { path: folder, source }),
        _ => Ok(folder),
    }
}

/// Builds the libraries and loads them into this process, so that every later search for libcuda, NVRTC or cuBLASLt
/// by its usual names finds them. Call it before the first CUDA call. Returns the folder as [`build`] does.
///
/// # Errors
/// As [`build`]; or a library does not load.
pub fn install() -> Result<PathBuf, Error> {
    static LOADED: OnceLock<Vec<libloading::Library>> = OnceLock::new();
    let folder = build()?;
    if LOADED.get().is_none() {
        let mut libraries = Vec::new();
        for library in &sources::LIBRARIES {
            let path = folder.join(library.file);
            // SAFETY: the libraries are ours; loading them runs no code beyond C++ static initialisers.
            let loaded = unsafe { libloading::Library::new(&path) };
            libraries.push(loaded.map_err(|source| Error::Load { path, source })?);
        }
        // Kept for the life of the process: kernels and contexts point into them.
        let _ = LOADED.set(libraries);
    }
    Ok(folder)
}

/// The profile's folder of cargo's target folder, where test programs run from.
fn home() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let deps = program.ancestors().find(|folder| folder.file_name().is_some_and(|name| name == "deps"));
    deps.and_then(Path::parent).map_or_else(std::env::temp_dir, Path::to_path_buf)
}

fn write(path: &Path, text: &str) -> Result<(), Error> {
    let put = || {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)?;
        std::fs::File::create(path)?.write_all(text.as_bytes())
    };
    put().map_err(|source| Error::Write { path: path.into(), source })
}

fn compile(folder: &Path, library: &sources::Library) -> Result<(), Error> {
    let compiler = std::env::var("CXX").ok().filter(|c| !c.is_empty()).unwrap_or_else(|| "g++".into());
    let mut command = Command::new(&compiler);
    command.current_dir(folder).args(["-std=c++17", "-O2", "-g1", "-fPIC", "-shared", "-fvisibility=hidden"]);
    command.args(library.sources).arg(format!("-Wl,-soname,{}", library.file)).args(["-o", library.file]);
    command.args(library.links);
    let output = command.output().map_err(|source| Error::Compiler { compiler: compiler.clone(), source })?;
    if output.status.success() {
        return Ok(());
    }
    let log = String::from_utf8_lossy(&output.stderr).into_owned();
    Err(Error::Compile { compiler, library: library.file, log })
}
