//! The answers of a run, batch by batch.

use crate::errors::exception;
use crate::exit::{Visit, is_ending};
use crate::process;
use arrow::array::RecordBatch;
use arrow_pyarrow::ToPyArrow;
use jobs::rows::stream::{Next, RowStream};
use pyo3::exceptions::PyRuntimeError;
use pyo3::prelude::*;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// How often Ctrl-C is looked for.
const LOOK: Duration = Duration::from_millis(50);

/// An iterator of `pyarrow.RecordBatch`.
#[pyclass(module = "gristmill._gristmill", frozen)]
pub struct Answers(Mutex<Option<RowStream>>);

impl Answers {
    pub fn new(stream: RowStream) -> Answers {
        Answers(Mutex::new(Some(stream)))
    }

    /// The next batch; `None` at the end.
    pub fn next(&self, py: Python<'_>) -> PyResult<Option<RecordBatch>> {
        process::claim().map_err(|error| exception(py, &error))?;
        let _visit = Visit::begin();
        loop {
            if is_ending() {
                return Err(PyRuntimeError::new_err("the interpreter ends"));
            }
            let next = py.detach(|| {
                let mut stream = self.0.lock().unwrap_or_else(PoisonError::into_inner);
                let next = stream.as_ref().map_or(Ok(Next::End), |stream| stream.next(LOOK));
                if matches!(next, Ok(Next::End) | Err(_)) {
                    *stream = None;
                }
                next
            });
            match next.map_err(|error| exception(py, &error))? {
                Next::Batch(batch) => return Ok(Some(batch)),
                Next::End => return Ok(None),
                Next::Waits => {}
            }
            py.check_signals().inspect_err(|_| self.stop(py))?;
        }
    }

    /// Gives up what has no answer yet.
    pub fn stop(&self, py: Python<'_>) {
        // Rows may be freed, which needs the lock of the interpreter where they are Python's.
        py.detach(|| drop(self.0.lock().unwrap_or_else(PoisonError::into_inner).take()));
    }
}

#[pymethods]
impl Answers {
    fn __iter__(this: Py<Self>) -> Py<Self> {
        this
    }

    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        self.next(py)?.map(|batch| batch.to_pyarrow(py)).transpose()
    }
}

impl Drop for Answers {
    fn drop(&mut self) {
        let stream = self.0.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        let Some(stream) = stream else { return };
        if process::is_fork() {
            std::mem::forget(stream);
            return;
        }
        // As in `stop`.
        Python::try_attach(|py| py.detach(|| stream.stop()));
    }
}
