//! The driver of a job over a cluster; `gristmill.cluster` is over it.

use crate::errors::exception;
use jobs::cli::driver;
use pyo3::exceptions::PySystemExit;
use pyo3::prelude::*;
use std::ffi::OsString;

/// A job file and flags over it, of a job that a cluster runs in shards.
#[pyclass(module = "gristmill._gristmill", frozen)]
pub struct Driver(driver::Driver);

#[pymethods]
impl Driver {
    /// Reads the flags of `gristmill run`. What is wrong with them is said, with how to call the program, which then ends.
    #[new]
    fn new(py: Python<'_>, flags: Vec<OsString>, usage: &str) -> PyResult<Driver> {
        let arguments: Vec<OsString> =
            ["gristmill", "run"].map(OsString::from).into_iter().chain(flags).collect();
        py.detach(|| driver::Driver::begin(&arguments, usage)).map(Driver).map_err(PySystemExit::new_err)
    }

    /// What `gristmill run-shards` takes.
    #[getter]
    fn flags(&self) -> Vec<OsString> {
        self.0.flags().to_vec()
    }

    #[getter]
    fn output(&self) -> String {
        self.0.output()
    }

    #[getter]
    fn needs_state_dir(&self) -> bool {
        self.0.needs_state_dir()
    }

    #[getter]
    fn has_threads(&self) -> bool {
        self.0.has_threads()
    }

    /// The shards of a job that are left to run.
    fn unfinished(&self, py: Python<'_>, job: &str) -> PyResult<Vec<String>> {
        py.detach(|| self.0.unfinished(job)).map_err(|error| exception(py, &error))
    }

    /// What differs between two descriptions of a job, line by line.
    #[staticmethod]
    fn differences(py: Python<'_>, one: &str, other: &str) -> PyResult<String> {
        driver::Driver::differences(one, other).map_err(|error| exception(py, &error))
    }

    /// Publishes the output of so many shards, and gives the exit code.
    fn publish(&self, py: Python<'_>, shards: u64) -> u8 {
        py.detach(|| self.0.publish(shards))
    }

    /// Prints a line to standard error as the command line does.
    #[staticmethod]
    fn note(line: &str) {
        driver::Driver::note(line);
    }
}
