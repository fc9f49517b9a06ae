//! Keywords as the keys of a job file.

use pyo3::exceptions::PyTypeError;
use pyo3::prelude::*;
use pyo3::types::{PyBool, PyDict, PyFloat, PyInt, PyList, PyString, PyTuple};
use toml::{Table, Value};

/// The keys of a job file that keywords are. `None` is as if a keyword were not there.
pub fn table(keywords: Option<&Bound<'_, PyDict>>) -> PyResult<Table> {
    let mut table = Table::new();
    for (key, value) in keywords.into_iter().flatten() {
        let key: String = key.extract()?;
        if !value.is_none() {
            let value = of(&value).map_err(|error| named(value.py(), &key, &error))?;
            table.insert(key, value);
        }
    }
    Ok(table)
}

fn named(py: Python<'_>, key: &str, error: &PyErr) -> PyErr {
    PyTypeError::new_err(format!("`{key}`: {}", error.value(py)))
}

/// A value, as text but for booleans: the parser of the command line reads it.
fn of(value: &Bound<'_, PyAny>) -> PyResult<Value> {
    if let Ok(on) = value.cast::<PyBool>() {
        return Ok(Value::Boolean(on.is_true()));
    }
    if value.is_instance_of::<PyDict>() {
        let dumps = value.py().import("json")?.getattr("dumps")?;
        return Ok(Value::String(dumps.call1((value,))?.extract()?));
    }
    if value.is_instance_of::<PyList>() || value.is_instance_of::<PyTuple>() {
        return value.try_iter()?.map(|item| of(&item?)).collect::<PyResult<Vec<_>>>().map(Value::Array);
    }
    let is_text = value.is_instance_of::<PyString>();
    if is_text || value.is_instance_of::<PyInt>() || value.is_instance_of::<PyFloat>() {
        return Ok(Value::String(value.str()?.extract()?));
    }
    // NumPy's numbers and booleans.
    if value.hasattr("dtype")? && value.hasattr("item")? && value.getattr("shape")?.len()? == 0 {
        let item = value.call_method0("item")?;
        // One that Python has no number for stays as it is.
        if !item.hasattr("dtype")? {
            return of(&item);
        }
    }
    if value.hasattr("__fspath__")? {
        return Ok(Value::String(value.call_method0("__fspath__")?.extract()?));
    }
    let kind = value.get_type().name()?;
    Err(PyTypeError::new_err(format!(
        "takes text, numbers, booleans, lists, dicts and paths, and not {kind}"
    )))
}
