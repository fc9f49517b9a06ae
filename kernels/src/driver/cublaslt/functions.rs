//! The functions of cuBLASLt that are called here, found at run time, and the objects that it makes.

use crate::driver::library;
use cudarc::cublaslt::sys::{
    cublasLtMatmulAlgo_t as Algorithm, cublasLtMatmulHeuristicResult_t as HeuristicResult,
};
use engine::device::{DeviceError, DeviceKind};
use libloading::Library;
use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

/// A handle, a descriptor, a layout or a preference.
pub(super) type Object = *mut c_void;
pub(super) type Status = u32;
pub(super) type Destroy = unsafe extern "C" fn(Object) -> Status;
pub(super) type Set = unsafe extern "C" fn(Object, u32, *const c_void, usize) -> Status;
pub(super) type Heuristic = unsafe extern "C" fn(
    Object,
    Object,
    Object,
    Object,
    Object,
    Object,
    Object,
    c_int,
    *mut HeuristicResult,
    *mut c_int,
) -> Status;
pub(super) type Matmul = unsafe extern "C" fn(
    Object,
    Object,
    *const f32,
    u64,
    Object,
    u64,
    Object,
    *const f32,
    u64,
    Object,
    u64,
    Object,
    *const Algorithm,
    u64,
    usize,
    *mut c_void,
) -> Status;

/// The functions that are called here, as `cublasLt.h` declares them; device pointers are integers.
pub(super) struct Functions {
    pub(super) create: unsafe extern "C" fn(*mut Object) -> Status,
    pub(super) destroy: Destroy,
    pub(super) desc_create: unsafe extern "C" fn(*mut Object, u32, u32) -> Status,
    pub(super) desc_set: Set,
    pub(super) desc_destroy: Destroy,
    pub(super) layout_create: unsafe extern "C" fn(*mut Object, u32, u64, u64, i64) -> Status,
    pub(super) layout_destroy: Destroy,
    pub(super) preference_create: unsafe extern "C" fn(*mut Object) -> Status,
    pub(super) preference_set: Set,
    pub(super) preference_destroy: Destroy,
    pub(super) heuristic: Heuristic,
    pub(super) matmul: Matmul,
    /// Keeps the code of the functions above in memory.
    _library: Library,
}

impl Functions {
    /// Those of this process, found on first use.
    pub(super) fn get() -> Result<&'static Functions, DeviceError> {
        static FUNCTIONS: OnceLock<Result<Functions, String>> = OnceLock::new();
        FUNCTIONS.get_or_init(Functions::load).as_ref().map_err(|why| DeviceError::Absent(why.clone()))
    }

    fn load() -> Result<Functions, String> {
        let (of_13, of_12) =
            (["libcublasLt.so.13", "cublasLt64_13.dll"], ["libcublasLt.so.12", "cublasLt64_12.dll"]);
        let names = library::names_for_driver(of_13, of_12, "libcublasLt.so");
        let library = library::open(&names, None).ok_or(
            "libcublasLt not found: pip install nvidia-cublas, set CUDA_HOME to a CUDA toolkit, or use the built-in \
             kernels",
        )?;
        // SAFETY: the signatures are those of cublasLt.h (CUDA 12 and 13).
        unsafe {
            Ok(Functions {
                create: function(&library, "cublasLtCreate")?,
                destroy: function(&library, "cublasLtDestroy")?,
                desc_create: function(&library, "cublasLtMatmulDescCreate")?,
                desc_set: function(&library, "cublasLtMatmulDescSetAttribute")?,
                desc_destroy: function(&library, "cublasLtMatmulDescDestroy")?,
                layout_create: function(&library, "cublasLtMatrixLayoutCreate")?,
                layout_destroy: function(&library, "cublasLtMatrixLayoutDestroy")?,
                preference_create: function(&library, "cublasLtMatmulPreferenceCreate")?,
                preference_set: function(&library, "cublasLtMatmulPreferenceSetAttribute")?,
                preference_destroy: function(&library, "cublasLtMatmulPreferenceDestroy")?,
                heuristic: function(&library, "cublasLtMatmulAlgoGetHeuristic")?,
                matmul: function(&library, "cublasLtMatmul")?,
                _library: library,
            })
        }
    }
}

/// A function of the library.
///
/// # Safety
/// `T` must be its type.
unsafe fn function<T: Copy>(library: &Library, name: &str) -> Result<T, String> {
    // SAFETY: passed on to the caller.
    let found = unsafe { library.get::<T>(name.as_bytes()) };
    found.map(|f| *f).map_err(|e| format!("libcublasLt is too old, CUDA 12 or later is needed: {e}"))
}

/// An object of the library, destroyed when it is dropped.
pub(super) struct Owned {
    pub(super) object: Object,
    destroy: Destroy,
}

impl Drop for Owned {
    fn drop(&mut self) {
        // SAFETY: made by the library and destroyed once; an error here has no remedy.
        unsafe { (self.destroy)(self.object) };
    }
}

/// Makes an object; `create` is one of the library's functions with its arguments.
pub(super) fn own(
    create: impl FnOnce(*mut Object) -> Status,
    destroy: Destroy,
    what: &'static str,
) -> Result<Owned, DeviceError> {
    let mut object: Object = std::ptr::null_mut();
    check(create(&mut object), what)?;
    Ok(Owned { object, destroy })
}

pub(super) fn check(status: Status, what: &'static str) -> Result<(), DeviceError> {
    match status {
        0 => Ok(()),
        _ => Err(DeviceError::Lost {
            device: DeviceKind::Cuda,
            why: format!("{what} returned cublasStatus_t {status}"),
        }),
    }
}
