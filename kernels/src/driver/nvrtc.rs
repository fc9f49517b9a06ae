//! NVRTC, loaded at run time. cudarc's binding does not find `.so.13` and returns PTX only; we need cubins.

use crate::driver::library;
use engine::device::DeviceError;
use libloading::Library;
use std::ffi::{CString, c_char, c_int};
use std::sync::OnceLock;

type Program = *mut std::ffi::c_void;
type Create = unsafe extern "C" fn(
    *mut Program,
    *const c_char,
    *const c_char,
    c_int,
    *const *const c_char,
    *const *const c_char,
) -> c_int;
type Compile = unsafe extern "C" fn(Program, c_int, *const *const c_char) -> c_int;
type Size = unsafe extern "C" fn(Program, *mut usize) -> c_int;
type Bytes = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;
type Version = unsafe extern "C" fn(*mut c_int, *mut c_int) -> c_int;

/// The compiler of kernels.
pub(crate) struct Nvrtc {
    create: Create,
    compile: Compile,
    destroy: Destroy,
    log: (Size, Bytes),
    cubin: (Size, Bytes),
    version: (c_int, c_int),
    /// Keeps the code of the functions above in memory.
    _library: Library,
}

impl Nvrtc {
    /// The library of this process, found on first use.
    ///
    /// # Errors
    /// [`DeviceError::Absent`] with the remedy.
    pub(crate) fn get() -> Result<&'static Nvrtc, DeviceError> {
        static NVRTC: OnceLock<Result<Nvrtc, String>> = OnceLock::new();
        NVRTC.get_or_init(Nvrtc::load).as_ref().map_err(|why| DeviceError::Absent(why.clone()))
    }

    fn load() -> Result<Nvrtc, String> {
        let names = library::names_for_driver(
            ["libnvrtc.so.13", "nvrtc64_130_0.dll"],
            ["libnvrtc.so.12", "nvrtc64_120_0.dll"],
            "libnvrtc.so",
        );
        let library = library::open(&names, Some("libnvrtc-builtins.so"))
            .ok_or("libnvrtc not found: pip install nvidia-cuda-nvrtc, or set CUDA_HOME to a CUDA toolkit")?;
        let lacks = |e: libloading::Error| format!("libnvrtc is too old, CUDA 12 or later is needed: {e}");
        // SAFETY: the signatures are those of nvrtc.h (CUDA 11.1 and later).
        unsafe {
            let version: Version = *library.get(b"nvrtcVersion").map_err(lacks)?;
            let (mut major, mut minor) = (0, 0);
            version(&mut major, &mut minor);
            Ok(Nvrtc {
                create: *library.get(b"nvrtcCreateProgram").map_err(lacks)?,
                compile: *library.get(b"nvrtcCompileProgram").map_err(lacks)?,
                destroy: *library.get(b"nvrtcDestroyProgram").map_err(lacks)?,
                log: (
                    *library.get(b"nvrtcGetProgramLogSize").map_err(lacks)?,
                    *library.get(b"nvrtcGetProgramLog").map_err(lacks)?,
                ),
                cubin: (
                    *library.get(b"nvrtcGetCUBINSize").map_err(lacks)?,
                    *library.get(b"nvrtcGetCUBIN").map_err(lacks)?,
                ),
                version: (major, minor),
                _library: library,
            })
        }
    }

    /// Major and minor version.
    pub(crate) fn version(&self) -> (i32, i32) {
        self.version
    }

    /// Compiles `text`, a file `name`, which may include `headers` (names and texts), to a cubin.
    ///
    /// # Errors
    /// The compiler's messages.
    pub(crate) fn compile(
        &self,
        name: &str,
        text: &str,
        headers: &[(&str, &str)],
        options: &[String],
    ) -> Result<Vec<u8>, String> {
        let c = |s: &str| CString::new(s).map_err(|_| format!("{name}: a NUL in source or options"));
        let (name_c, text_c) = (c(name)?, c(text)?);
        let headers: Vec<(CString, CString)> =
            headers.iter().map(|(n, t)| Ok((c(n)?, c(t)?))).collect::<Result<_, String>>()?;
        let options: Vec<CString> = options.iter().map(|o| c(o)).collect::<Result<_, _>>()?;
        let texts: Vec<*const c_char> = headers.iter().map(|(_, t)| t.as_ptr()).collect();
        let names: Vec<*const c_char> = headers.iter().map(|(n, _)| n.as_ptr()).collect();
        let options: Vec<*const c_char> = options.iter().map(|o| o.as_ptr()).collect();
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: all strings outlive the program, and the counts are those of the arrays.
        unsafe {
            let code = (self.create)(
                &mut program,
                text_c.as_ptr(),
                name_c.as_ptr(),
                headers.len() as c_int,
                texts.as_ptr(),
                names.as_ptr(),
            );
            if code != 0 {
                return Err(format!("{name}: NVRTC cannot create a program (error {code})"));
            }
            let code = (self.compile)(program, options.len() as c_int, options.as_ptr());
            let result = if code == 0 {
                self.fetch(self.cubin, program)
            } else {
                let log = self.fetch(self.log, program).unwrap_or_default();
                let log = String::from_utf8_lossy(&log);
                Err(format!("{name}: NVRTC error {code}\n{}", log.trim_end_matches('\0')))
            };
            (self.destroy)(&mut program);
            result
        }
    }

    /// # Safety
    /// `program` has been created and not destroyed.
    unsafe fn fetch(&self, (size, bytes): (Size, Bytes), program: Program) -> Result<Vec<u8>, String> {
        let mut count = 0;
        // SAFETY: the library writes `count` bytes, which the buffer has.
        unsafe {
            if size(program, &mut count) != 0 {
                return Err("NVRTC has no result for this program".into());
            }
            let mut buffer = vec![0u8; count];
            if bytes(program, buffer.as_mut_ptr().cast()) != 0 {
                return Err("NVRTC does not give its result".into());
            }
            Ok(buffer)
        }
    }
}
