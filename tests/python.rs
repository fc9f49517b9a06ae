//! The Python module: built beside the tests, used by Python's own tests in `tests/python`, and packed as a wheel.

#![allow(clippy::unwrap_used, clippy::expect_used)]
#![cfg(unix)]

mod support;

#[path = "../python/sources.rs"]
mod sources;

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The Python of the tests, if it has what a test needs.
fn python(module: &str) -> Option<PathBuf> {
    let python = root().join(".venv/bin/python");
    let has =
        |code: &str| Command::new(&python).args(["-c", code]).output().is_ok_and(|ran| ran.status.success());
    if has(&format!("import pyarrow, {module}")) {
        return Some(python);
    }
    assert!(
        std::env::var_os("REQUIRE_PYTHON").is_none(),
        "REQUIRE_PYTHON is set, and .venv has no pyarrow and {module}"
    );
    eprintln!("SKIPPED: .venv has no pyarrow and {module}; tests/run installs them");
    None
}

/// The module as cargo has built it, which is in the folder of this test.
fn library() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    let ending = if cfg!(target_os = "macos") { "dylib" } else { "so" };
    this.parent().unwrap().join(format!("lib_gristmill.{ending}"))
}

/// Puts the package together in a folder, which is then one to import from.
fn package(folder: &Path) {
    let to = folder.join("gristmill");
    std::fs::create_dir_all(&to).unwrap();
    for entry in std::fs::read_dir(root().join("python/gristmill")).unwrap() {
        let from = entry.unwrap().path();
        if from.is_file() {
            std::fs::copy(&from, to.join(from.file_name().unwrap())).unwrap();
        }
    }
    std::fs::copy(library(), to.join("_gristmill.abi3.so")).unwrap();
}

/// A command that imports the package from a folder.
fn command(program: &Path, folder: &Path) -> Command {
    let mut command = Command::new(program);
    command.env("PYTHONPATH", folder).env("PYTHONDONTWRITEBYTECODE", "1");
    command.env("GRISTMILL", env!("CARGO_BIN_EXE_gristmill")).env_remove("GRISTMILL_FAULTS");
    command
}

fn told(ran: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
    assert!(ran.status.success(), "{}\n{out}\n{err}", ran.status);
    out.into_owned()
}

/// Runs a file of Python's tests.
fn test(name: &str, module: &str) {
    let Some(python) = python(module) else { return };
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let file = root().join("tests/python").join(name);
    told(command(&python, folder.path()).arg(file).output().unwrap());
}

#[test]
fn the_module_is_of_these_sources() {
    let Some(python) = python("polars") else { return };
    let folder = tempfile::tempdir().unwrap();
    package(folder.path());
    let code = "from gristmill import _gristmill; print(_gristmill.SOURCES)";
    let compiled = told(command(&python, folder.path()).args(["-c", code]).output().unwrap());
    assert_eq!(compiled.trim(), sources::digest(root()).unwrap());
}

#[test]
fn rows_in_memory_are_answered_as_those_of_files() {
    test("module.py", "polars, duckdb, pandas");
}
