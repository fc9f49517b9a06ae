//! The compile gate: kernels through the real NVRTC, for cards that are not there.
//!
//! NVRTC needs no driver. It comes in the PyPI wheel `nvidia-cuda-nvrtc`, looked for in the folder that
//! `GRISTMILL_CUDA_WHEELS` names (a `site-packages`) or in `.venv` at the repository's root. A gate compiles a [`Unit`]
//! for each of [`ARCHITECTURES`] and holds the assembler's resource report against the unit's [`Budget`].

use std::ffi::{CString, c_char, c_int, c_void};
use std::path::{Path, PathBuf};

/// What every kernel must compile for: A100, L4 and RTX 40, H100, B200, RTX 50.
pub const ARCHITECTURES: [&str; 5] = ["sm_80", "sm_89", "sm_90a", "sm_100", "sm_120"];

/// One source to compile, as the CUDA device would hand it to NVRTC.
#[derive(Debug, Clone)]
pub struct Unit<'a> {
    /// Name for messages, such as `linear.cu`.
    pub name: &'a str,
    /// The source.
    pub source: &'a str,
    /// Headers by the names under which the source includes them.
    pub headers: &'a [(&'a str, &'a str)],
    /// Further options, such as `-DHEAD=128`.
    pub options: &'a [&'a str],
    /// What each of its kernels may use.
    pub budget: Budget,
}

/// Upper limits for each kernel of a unit. Spills, a stack frame and serialized wgmma are always refused.
#[derive(Debug, Clone, Copy)]
pub struct Budget {
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
}

/// What the assembler said of one kernel for one architecture.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// The kernel.
    pub kernel: String,
    /// Registers of a thread.
    pub registers: u32,
    /// Bytes of static shared memory of a block.
    pub shared: u32,
    /// Bytes of a thread's stack frame, spill stores and spill loads.
    pub local: [u32; 3],
}

/// The real NVRTC, loaded from wheels.
pub struct Nvrtc {
    library: libloading::Library,
    _builtins: libloading::Library,
}

type Program = *mut c_void;
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
type Text = unsafe extern "C" fn(Program, *mut c_char) -> c_int;
type Destroy = unsafe extern "C" fn(*mut Program) -> c_int;

impl Nvrtc {
    /// The newest NVRTC of the wheels. Without one: `None`, said loudly; a panic where `REQUIRE_NVRTC` is set.
    ///
    /// # Panics
    /// There is no NVRTC and `REQUIRE_NVRTC` is set.
    pub fn find_or_skip() -> Option<Self> {
        let newest = libraries().into_iter().max_by_key(|(version, _)| *version);
        newest.and_then(|(_, path)| Self::load(&path)).or_else(|| skip("nvidia-cuda-nvrtc"))
    }

    /// The NVRTC of CUDA 12 of the wheels, as for [`Nvrtc::find_or_skip`].
    ///
    /// # Panics
    /// There is none and `REQUIRE_NVRTC` is set.
    pub fn find_old_or_skip() -> Option<Self> {
        let old = libraries().into_iter().find(|(version, _)| *version == 12);
        old.and_then(|(_, path)| Self::load(&path)).or_else(|| skip("nvidia-cuda-nvrtc-cu12"))
    }

    /// A library with its builtins beside it.
    fn load(path: &Path) -> Option<Self> {
        let builtins = |name: &str| name.starts_with("libnvrtc-builtins.so");
        let beside = files(path.parent()?).find(|(name, _)| builtins(name))?.1;
        // SAFETY: NVIDIA's libraries; loading them has no requirements. The builtins come first: NVRTC asks the loader
        // for them by name and is content with what is loaded.
        unsafe {
            let _builtins = libloading::Library::new(beside).ok()?;
            let library = libloading::Library::new(path).ok()?;
            Some(Self { library, _builtins })
        }
    }

    /// Compiles a unit for one architecture to a cubin, and reads the resource report. The error is the whole log.
    ///
    /// # Errors
    /// The compiler refuses the unit, or makes no cubin.
    ///
    /// # Panics
    /// A text holds a zero byte, or the library lacks a function of NVRTC 12.
    pub fn compile(&self, unit: &Unit<'_>, architecture: &str) -> Result<Vec<Resources>, String> {
        let report = self.log(unit, architecture)?;
        if report.contains("serializ") || ["C7510", "C7511", "C7515"].iter().any(|code| report.contains(code))
        {
            return Err(format!("{} for {architecture}: wgmma was serialized:\n{report}", unit.name));
        }
        Ok(read_report(&report))
    }

    /// Whether a unit compiles for one architecture, however well.
    ///
    /// # Errors
    /// The compiler's log.
    ///
    /// # Panics
    /// As [`Nvrtc::compile`].
    pub fn takes(&self, unit: &Unit<'_>, architecture: &str) -> Result<(), String> {
        self.log(unit, architecture).map(drop)
    }

    /// Compiles for every architecture and checks the budget. The error lists every violation.
    ///
    /// # Errors
    /// The unit does not compile, holds no kernel, or a kernel exceeds the budget.
    pub fn check(&self, unit: &Unit<'_>) -> Result<(), String> {
        let mut wrong = String::new();
        for architecture in ARCHITECTURES {
            match self.compile(unit, architecture) {
                Err(log) => wrong += &format!("{log}\n"),
                Ok(kernels) if kernels.is_empty() => {
                    wrong += &format!("{}: no kernel for {architecture}\n", unit.name)
                }
                Ok(kernels) => {
                    kernels.iter().for_each(|k| wrong += &unit.budget.violations(unit, k, architecture))
                }
            }
        }
        if wrong.is_empty() { Ok(()) } else { Err(wrong) }
    }

    fn log(&self, unit: &Unit<'_>, architecture: &str) -> Result<String, String> {
        let c = |text: &str| CString::new(text).expect("a zero byte in a source or an option");
        let (source, name) = (c(unit.source), c(unit.name));
        let headers: Vec<CString> = unit.headers.iter().map(|(_, text)| c(text)).collect();
        let includes: Vec<CString> = unit.headers.iter().map(|(name, _)| c(name)).collect();
        let architecture = format!("--gpu-architecture={architecture}");
        let mut options = vec![c(&architecture), c("--std=c++17"), c("--ptxas-options=-v")];
        options.extend(unit.options.iter().map(|o| c(o)));
        let pointers = |texts: &[CString]| texts.iter().map(|t| t.as_ptr()).collect::<Vec<_>>();
        let (headers, includes, options) = (pointers(&headers), pointers(&includes), pointers(&options));
        let mut program: Program = std::ptr::null_mut();
        // SAFETY: signatures as in nvrtc.h; every pointer outlives its call; buffers have the sizes asked for.
        unsafe {
            let count = headers.len() as c_int;
            let create = self.function::<Create>("nvrtcCreateProgram");
            let made = create(
                &mut program,
                source.as_ptr(),
                name.as_ptr(),
                count,
                headers.as_ptr(),
                includes.as_ptr(),
            );
            if made != 0 {
                return Err(format!("nvrtcCreateProgram: error {made}"));
            }
            let status = self.function::<Compile>("nvrtcCompileProgram")(
                program,
                options.len() as c_int,
                options.as_ptr(),
            );
            let mut size = 0;
            self.function::<Size>("nvrtcGetProgramLogSize")(program, &mut size);
            let mut log = vec![0u8; size];
            self.function::<Text>("nvrtcGetProgramLog")(program, log.as_mut_ptr().cast());
            let mut cubin = 0;
            self.function::<Size>("nvrtcGetCUBINSize")(program, &mut cubin);
            self.function::<Destroy>("nvrtcDestroyProgram")(&mut program);
            let log = String::from_utf8_lossy(&log).trim_end_matches('\0').to_string();
            match (status, cubin) {
                (0, 1..) => Ok(log),
                _ => Err(format!(
                    "{} with {architecture}: error {status}, {cubin} bytes of cubin:\n{log}",
                    unit.name
                )),
            }
        }
    }

    /// # Safety
    /// `F` is the function's type.
    unsafe fn function<F: Copy>(&self, name: &str) -> F {
        // SAFETY: the caller's promise.
        *unsafe { self.library.get::<F>(name.as_bytes()) }.expect("a function of NVRTC 12")
    }
}

impl Budget {
    fn violations(&self, unit: &Unit<'_>, used: &Resources, architecture: &str) -> String {
        let mut wrong = String::new();
        let Resources { kernel, registers, shared, local } = used;
        let mut say =
            |what: String| wrong += &format!("{}: {kernel} for {architecture}: {what}\n", unit.name);
        if *registers > self.registers {
            say(format!("{registers} registers, the budget is {}", self.registers));
        }
        if *shared > self.shared {
            say(format!("{shared} bytes of static shared memory, the budget is {}", self.shared));
        }
        if local.iter().any(|bytes| *bytes > 0) {
            say(format!(
                "stack {}, spill stores {}, spill loads {} bytes: none is allowed",
                local[0], local[1], local[2]
            ));
        }
        wrong
    }
}

/// No such NVRTC.
fn skip(package: &str) -> Option<Nvrtc> {
    let why = format!(
        "no NVRTC of {package} in {:?}: the kernels were NOT compiled for real cards; \
         `python3 -m venv .venv && .venv/bin/pip install -r tests/requirements.txt`, or set GRISTMILL_CUDA_WHEELS",
        places()
    );
    assert!(std::env::var_os("REQUIRE_NVRTC").is_none_or(|v| v.is_empty() || v == "0"), "{why}");
    eprintln!("SKIPPED: {why}");
    None
}

/// Every `libnvrtc.so.<version>` in `nvidia/<anything>/lib` of the places, with its version.
fn libraries() -> Vec<(u32, PathBuf)> {
    let packages = places().into_iter().flat_map(|site_packages| files(&site_packages.join("nvidia")));
    let files = packages.flat_map(|(_, package)| files(&package.join("lib")));
    files.filter_map(|(name, path)| Some((name.strip_prefix("libnvrtc.so.")?.parse().ok()?, path))).collect()
}

/// The names and paths in a folder; none if it cannot be read.
fn files(folder: &Path) -> impl Iterator<Item = (String, PathBuf)> + use<> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
}

/// The `site-packages` folders that may hold the wheels.
fn places() -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> =
        std::env::var_os("GRISTMILL_CUDA_WHEELS").map(PathBuf::from).into_iter().collect();
    let environment = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../.venv/lib");
    places.extend(files(&environment).map(|(_, python)| python.join("site-packages")));
    places
}

/// Reads the report of `--ptxas-options=-v`: for each function a line with its name, one with its local memory, and for
/// kernels one with registers and shared memory.
fn read_report(log: &str) -> Vec<Resources> {
    let number_before = |line: &str, unit: &str| {
        let at = line.find(unit)?;
        line[..at].trim_end().rsplit(|c: char| !c.is_ascii_digit()).next()?.parse().ok()
    };
    let mut kernels: Vec<Resources> = Vec::new();
    for line in log.lines() {
        if let Some((_, rest)) = line.split_once("Compiling entry function '") {
            let kernel = rest.split('\'').next().unwrap_or_default().to_string();
            kernels.push(Resources { kernel, ..Resources::default() });
        }
        let Some(last) = kernels.last_mut() else { continue };
        if line.contains("bytes stack frame") {
            let units = [" bytes stack frame", " bytes spill stores", " bytes spill loads"];
            // Functions that were not inlined report theirs too: the kernel's is the largest of each.
            for (largest, unit) in last.local.iter_mut().zip(units) {
                *largest = (*largest).max(number_before(line, unit).unwrap_or(0));
            }
        }
        if line.contains("Used ") {
            last.registers = number_before(line, " registers").unwrap_or(0);
            last.shared = number_before(line, " bytes smem").unwrap_or(0);
        }
    }
    kernels
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn reads_the_assemblers_report() {
        let log = "ptxas info    : 0 bytes gmem
ptxas info    : Compiling entry function 'a' for 'sm_90a'
ptxas info    : Function properties for a
ptxas         .     0 bytes stack frame, 0 bytes spill stores, 0 bytes spill loads
ptxas info    : Used 63 registers, used 1 barriers, 512 bytes smem, 388 bytes cmem[0]
ptxas info    : Compiling entry function 'b' for 'sm_90a'
ptxas info    : Function properties for b
ptxas         .     40 bytes stack frame, 24 bytes spill stores, 36 bytes spill loads
ptxas info    : Used 255 registers, used 0 barriers";
        let a = Resources { kernel: "a".into(), registers: 63, shared: 512, local: [0, 0, 0] };
        let b = Resources { kernel: "b".into(), registers: 255, shared: 0, local: [40, 24, 36] };
        assert_eq!(read_report(log), [a, b.clone()]);
        let budget = Budget { registers: 128, shared: 0 };
        let unit = Unit { name: "u.cu", source: "", headers: &[], options: &[], budget };
        let wrong = budget.violations(&unit, &b, "sm_90a");
        assert!(wrong.contains("255 registers") && wrong.contains("spill stores 24"), "{wrong}");
    }
}
