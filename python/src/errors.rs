//! What ends a run, as exceptions of `gristmill.errors`.

use ::engine::error::EngineError;
use jobs::error::JobError;
use pyo3::prelude::*;

mod classes {
    pyo3::import_exception!(gristmill.errors, Error);
    pyo3::import_exception!(gristmill.errors, UsageError);
    pyo3::import_exception!(gristmill.errors, InputError);
    pyo3::import_exception!(gristmill.errors, ModelError);
    pyo3::import_exception!(gristmill.errors, DeviceError);
}

/// The exception of an error, with its message and the exit code that the command line has for it.
pub fn exception(py: Python<'_>, error: &JobError) -> PyErr {
    let text = error.to_string();
    let exception = match error {
        JobError::Usage(_) | JobError::Template { .. } | JobError::Column { .. } => {
            classes::UsageError::new_err(text)
        }
        JobError::Input { .. } => classes::InputError::new_err(text),
        JobError::Model { .. } | JobError::Hub { .. } => classes::ModelError::new_err(text),
        JobError::Engine(EngineError::Option { .. }) => classes::UsageError::new_err(text),
        JobError::Engine(EngineError::Device(_) | EngineError::NoRoomForKv { .. }) => {
            classes::DeviceError::new_err(text)
        }
        JobError::Engine(
            EngineError::File(_)
            | EngineError::Config { .. }
            | EngineError::Architecture { .. }
            | EngineError::Weights { .. },
        ) => classes::ModelError::new_err(text),
        _ => classes::Error::new_err(text),
    };
    // Another error while the code is set says less than this one.
    let _ = exception.value(py).setattr("exit_code", error.exit_code());
    exception
}
