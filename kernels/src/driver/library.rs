//! Finds the driver, NVRTC and cuBLASLt.
//!
//! cudarc looks for fixed names on the loader's path and panics where there are none. So this looks first,
//! in more places, and keeps what it finds loaded: a later `dlopen` of the same soname then succeeds.

use engine::device::DeviceError;
use libloading::Library;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

/// Folders that may hold CUDA libraries, besides the loader's own path: the toolkit, the driver of WSL and of
/// containers, and the wheels of a Python environment.
fn folders() -> Vec<PathBuf> {
    let mut found = Vec::new();
    for name in ["CUDA_HOME", "CUDA_PATH"] {
        if let Some(home) = std::env::var_os(name).map(PathBuf::from) {
            found.extend([home.join("lib64"), home.join("lib"), home.join("lib/x64"), home.join("bin")]);
        }
    }
    for folder in ["/usr/local/cuda/lib64", "/usr/lib/wsl/lib", "/usr/local/nvidia/lib64"] {
        found.push(folder.into());
    }
    for name in ["VIRTUAL_ENV", "CONDA_PREFIX"] {
        found.extend(std::env::var_os(name).iter().flat_map(|env| wheels(Path::new(env))));
    }
    found.extend(wheels(Path::new(".venv")));
    found.extend(std::env::var_os("HOME").iter().flat_map(|home| wheels(&Path::new(home).join(".local"))));
    found.extend(["/usr/local", "/usr"].into_iter().flat_map(|root| wheels(Path::new(root))));
    found
}

/// The `nvidia/*/lib` folders of a Python environment, the newest toolkit first.
fn wheels(env: &Path) -> Vec<PathBuf> {
    let list = |folder: PathBuf| -> Vec<PathBuf> {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut paths: Vec<PathBuf> = entries.map(|e| e.path()).collect();
        paths.sort_unstable_by(|a, b| b.cmp(a));
        paths
    };
    let pythons = list(env.join("lib"));
    let sites = ["site-packages/nvidia", "dist-packages/nvidia"];
    let packages = pythons.iter().flat_map(|p| sites.map(|site| list(p.join(site)))).flatten();
    packages.flat_map(|p| [p.join("lib"), p.join("bin")]).filter(|p| p.is_dir()).collect()
}

/// The names of a library in CUDA 13 and in CUDA 12, and the one without a number, in the order in which to look for
/// them: a library that is newer than the driver makes code that the driver refuses.
pub(crate) fn names_for_driver(
    of_13: [&'static str; 2],
    of_12: [&'static str; 2],
    plain: &'static str,
) -> Vec<&'static str> {
    let (first, last) = if driver_version() >= 13_000 { (of_13, of_12) } else { (of_12, of_13) };
    [&first[..], &[plain], &last[..]].concat()
}

/// The version of CUDA that the driver speaks, as in 12_030; 0 if there is none.
pub(crate) fn driver_version() -> i32 {
    let mut version = 0;
    if driver().is_ok() {
        // SAFETY: writes one integer; where it fails, the version stays 0.
        let _ = unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) };
    }
    version
}

/// Opens the first library whose name starts with one of `names`: the loader's path first, then
/// [`folders`]. `companion` is loaded from the same folder first, for a library that looks it up by name.
pub(crate) fn open(names: &[&str], companion: Option<&str>) -> Option<Library> {
    // SAFETY: these are NVIDIA's libraries (or the stand-ins of the tests); their initialisers may run
    // at any time, and no symbol of them is used here.
    let load = |path: &std::ffi::OsStr| unsafe { open_globally(path) };
    if let Some(library) = names.iter().find_map(|name| load(name.as_ref())) {
        return Some(library);
    }
    for folder in folders() {
        let mut files: Vec<PathBuf> =
            std::fs::read_dir(&folder).into_iter().flatten().flatten().map(|e| e.path()).collect();
        files.sort_unstable();
        let starts = |path: &Path, name: &str| {
            path.file_name().and_then(|f| f.to_str()).is_some_and(|f| f.starts_with(name))
        };
        if let Some(path) = companion.and_then(|c| files.iter().find(|p| starts(p, c))) {
            // Kept for the life of the process: it is only there to be found by its soname.
            std::mem::forget(load(path.as_os_str()));
        }
        let hit = names
            .iter()
            .find_map(|name| files.iter().filter(|p| starts(p, name)).find_map(|p| load(p.as_os_str())));
        if hit.is_some() {
            return hit;
        }
    }
    None
}

/// # Safety
/// As for [`Library::new`]: the library's initialisers run.
#[cfg(unix)]
unsafe fn open_globally(path: &std::ffi::OsStr) -> Option<Library> {
    use libloading::os::unix;
    // SAFETY: passed on to the caller.
    unsafe { unix::Library::open(Some(path), unix::RTLD_NOW | unix::RTLD_GLOBAL) }.ok().map(Library::from)
}

/// # Safety
/// As for [`Library::new`]: the library's initialisers run.
#[cfg(not(unix))]
unsafe fn open_globally(path: &std::ffi::OsStr) -> Option<Library> {
    // SAFETY: passed on to the caller.
    unsafe { Library::new(path) }.ok()
}

/// Makes sure that cudarc will find the driver.
///
/// # Errors
/// [`DeviceError::Absent`] with the remedy.
pub(crate) fn driver() -> Result<(), DeviceError> {
    static PRESENT: AtomicBool = AtomicBool::new(false);
    if !PRESENT.load(Ordering::Acquire) {
        // The library stays loaded for the life of the process, as cudarc's own handle does.
        std::mem::forget(open(&["libcuda.so.1", "libcuda.so", "nvcuda.dll"], None));
        // SAFETY: only tries to load the library by cudarc's own list of names.
        PRESENT.store(unsafe { cudarc::driver::sys::is_culib_present() }, Ordering::Release);
    }
    if PRESENT.load(Ordering::Acquire) {
        return Ok(());
    }
    Err(DeviceError::Absent("no NVIDIA driver (libcuda.so.1) found: install the driver of the card".into()))
}
