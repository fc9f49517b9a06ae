//! `gristmill.Engine`.

use crate::answers::Answers;
use crate::errors::exception;
use crate::exit::{Visit, stop_at_end};
use crate::keywords::table;
use crate::process;
use crate::slot::{SharedSlot, Slot};
use arrow::array::{RecordBatch, RecordBatchReader};
use arrow::ffi_stream::RecordBatchStreamReader;
use arrow_pyarrow::{FromPyArrow, ToPyArrow};
use jobs::cli::keywords::Keywords;
use jobs::error::JobError;
use jobs::rows::stream::RowStream;
use jobs::rows::{LoadedModel, ROWS};
use jobs::run::open_device;
use pyo3::exceptions::{PyTypeError, PyUserWarning, PyValueError};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyList};
use std::ffi::CString;
use std::path::PathBuf;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How often Ctrl-C is looked for while a model is loaded.
const LOOK: Duration = Duration::from_millis(50);

/// How long a run waits for another that was stopped.
const GIVES_BACK: Duration = Duration::from_secs(10);

/// A model on a device, loaded once, that answers rows.
#[pyclass(module = "gristmill", frozen, subclass)]
pub struct Engine {
    slot: SharedSlot,
    keywords: Keywords,
    #[pyo3(get)]
    model: String,
    #[pyo3(get)]
    device: String,
}

#[pymethods]
impl Engine {
    #[new]
    #[pyo3(signature = (*, job = None, _job_text = None, **options))]
    fn new(
        py: Python<'_>,
        job: Option<PathBuf>,
        // What an actor on another machine has in the place of the file.
        _job_text: Option<String>,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Engine> {
        process::claim().map_err(|error| exception(py, &error))?;
        let _visit = Visit::begin();
        let options = table(options)?;
        let loaded = interruptible(py, move || {
            let keywords = Keywords::new(job, _job_text, options)?;
            let model = LoadedModel::load(&keywords.run_args()?, open_device)?;
            Ok((keywords, model))
        });
        let (keywords, loaded) = loaded?;
        let (model, device) = (loaded.name().to_string(), loaded.device().to_string());
        Ok(Engine { slot: Arc::new(Slot::new(loaded)), keywords, model, device })
    }

    /// Answers all rows of a table.
    #[pyo3(signature = (rows, /, *, first_row = 0, **options))]
    fn run<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        first_row: u64,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let stream = self.begin(py, rows, first_row, options)?;
        let schema = stream.schema().to_pyarrow(py)?;
        let (answers, batches) = (Answers::new(stream), PyList::empty(py));
        while let Some(batch) = answers.next(py)? {
            batches.append(batch.to_pyarrow(py)?)?;
            py.check_signals().inspect_err(|_| answers.stop(py))?;
        }
        py.import("pyarrow")?.getattr("Table")?.call_method1("from_batches", (batches, schema))
    }

    /// Answers rows as they come.
    #[pyo3(signature = (rows, /, *, first_row = 0, **options))]
    fn stream<'py>(
        &self,
        py: Python<'py>,
        rows: &Bound<'py, PyAny>,
        first_row: u64,
        options: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let stream = self.begin(py, rows, first_row, options)?;
        let schema = stream.schema().to_pyarrow(py)?;
        let reader = py.import("pyarrow")?.getattr("RecordBatchReader")?;
        reader.call_method1("from_batches", (schema, Answers::new(stream)))
    }

    /// Frees the model.
    fn close(&self, py: Python<'_>) {
        py.detach(|| self.slot.close());
    }

    fn __enter__(this: Py<Self>) -> Py<Self> {
        this
    }

    #[pyo3(signature = (*_error))]
    fn __exit__(&self, py: Python<'_>, _error: &Bound<'_, PyAny>) {
        self.close(py);
    }

    fn __repr__(&self) -> String {
        format!("<gristmill.Engine {} on {}>", self.model, self.device)
    }
}

impl Engine {
    /// Begins to answer rows.
    fn begin(
        &self,
        py: Python<'_>,
        rows: &Bound<'_, PyAny>,
        first_row: u64,
        options: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<RowStream> {
        process::claim().map_err(|error| exception(py, &error))?;
        let _visit = Visit::begin();
        let options = table(options)?;
        if !rows.hasattr("__arrow_c_stream__")? {
            let kind = rows.get_type().name()?;
            return Err(PyTypeError::new_err(format!(
                "rows are a table or a reader of pyarrow, Polars, DuckDB or pandas, or what else has __arrow_c_stream__, and \
                 not {kind}"
            )));
        }
        let reader = reader(rows)?;
        let begun = py.detach(|| {
            let options = self.keywords.with(options)?.run_args()?.row_options()?;
            let mut model = self.slot.take(GIVES_BACK)?;
            match model.job(options, &reader.schema()) {
                Ok(job) => {
                    let (slot, warnings) = (self.slot.clone(), job.warnings());
                    let done = move |model| slot.give_back(model);
                    let begun = RowStream::begin(model, job, batches(reader), first_row, done);
                    begun.inspect_err(|_| self.slot.give_back(None)).map(|stream| (stream, warnings))
                }
                Err(error) => {
                    self.slot.give_back(Some(model));
                    Err(error)
                }
            }
        });
        let (stream, warnings) = begun.map_err(|error| exception(py, &error))?;
        stop_at_end(stream.stopper());
        for warning in warnings {
            let text = CString::new(warning.replace('\0', ""))?;
            PyErr::warn(py, &py.get_type::<PyUserWarning>(), &text, 1)?;
        }
        Ok(stream)
    }
}

/// A reader of rows.
fn reader(rows: &Bound<'_, PyAny>) -> PyResult<RecordBatchStreamReader> {
    let py = rows.py();
    let pyarrow = py.import("pyarrow")?;
    // What others export is not all by the letter (a column of nulls of Polars has a buffer); what pyarrow makes of it is.
    let reader = pyarrow.getattr("RecordBatchReader")?.call_method1("from_stream", (rows,));
    let reader = reader.and_then(|reader| RecordBatchStreamReader::from_pyarrow_bound(&reader));
    reader.map_err(|error| {
        // Types that Arrow does not have. What a library says of its own stays as it is.
        let of_arrow = pyarrow.getattr("ArrowException").is_ok_and(|kind| error.is_instance(py, &kind));
        if !of_arrow && !error.is_instance_of::<PyValueError>(py) {
            return error;
        }
        let why = format!("cannot be read: {}; cast or drop what is named there", error.value(py));
        let wrong = JobError::Input { path: ROWS.into(), place: String::new(), why };
        let wrong = exception(py, &wrong);
        wrong.set_cause(py, Some(error));
        wrong
    })
}

/// The batches of a reader. After an error there are no more.
fn batches(reader: RecordBatchStreamReader) -> impl Iterator<Item = Result<RecordBatch, JobError>> + Send {
    let visit = Visit::begin();
    let wrong = |error: arrow::error::ArrowError| JobError::Input {
        path: ROWS.into(),
        place: String::new(),
        why: format!("the reader failed: {error}"),
    };
    reader.map(move |batch| {
        let _ = &visit;
        batch.map_err(wrong)
    })
}

/// Does work on another thread, so that Ctrl-C is seen meanwhile. What it makes after that is dropped.
fn interruptible<T: Send + 'static>(
    py: Python<'_>,
    work: impl FnOnce() -> Result<T, JobError> + Send + 'static,
) -> PyResult<T> {
    let (done, result) = channel();
    let result = Mutex::new(result);
    let wait = || {
        let result = result.lock().unwrap_or_else(PoisonError::into_inner);
        result.recv_timeout(LOOK)
    };
    let work = move || drop(done.send(work()));
    let thread = std::thread::Builder::new().name("load".into()).spawn(work);
    thread.map_err(|error| exception(py, &JobError::io("start a thread for", "the model")(error)))?;
    loop {
        match py.detach(wait) {
            Ok(result) => return result.map_err(|error| exception(py, &error)),
            Err(RecvTimeoutError::Timeout) => py.check_signals()?,
            Err(RecvTimeoutError::Disconnected) => {
                let lost = JobError::Internal("the thread that loads the model ended".into());
                return Err(exception(py, &lost));
            }
        }
    }
}
