//! The command line, which the console script calls.

use pyo3::prelude::*;
use std::ffi::OsString;

/// Runs the command line and gives its exit code. `arguments` begin with the name of the program; `program` is what starts
/// it again, as a supervisor does.
#[pyfunction]
pub fn main(py: Python<'_>, arguments: Vec<OsString>, program: Vec<OsString>) -> u8 {
    py.detach(|| jobs::cli::main_of(arguments, program))
}
