//! gristmill as a Python module: `gristmill._gristmill`, which the package `gristmill` wraps.
//!
//! Rows come as Arrow streams and go back as such; options are the keys of a job file. The interpreter's lock is free while
//! the engine works.

mod answers;
mod command;
mod driver;
mod engine;
mod errors;
mod exit;
mod keywords;
mod process;
mod slot;

use pyo3::prelude::*;

#[global_allocator]
static ALLOCATOR: jobs::allocator::Allocator = jobs::allocator::Allocator;

/// The compiled half of the package.
#[pymodule]
mod _gristmill {
    use super::*;

    #[pymodule_export]
    use crate::command::main;
    #[pymodule_export]
    use crate::driver::Driver;
    #[pymodule_export]
    use crate::engine::Engine;

    #[pymodule_init]
    fn init(module: &Bound<'_, PyModule>) -> PyResult<()> {
        let py = module.py();
        let end = wrap_pyfunction!(crate::exit::end, module)?;
        py.import("atexit")?.call_method1("register", (end,)).map(drop)
    }

    /// The version of gristmill.
    #[pymodule_export]
    #[allow(non_upper_case_globals)]
    const __version__: &str = env!("CARGO_PKG_VERSION");

    /// The digest of all sources that this file was compiled of.
    #[pymodule_export]
    const SOURCES: &str = env!("GRISTMILL_SOURCES");
}
