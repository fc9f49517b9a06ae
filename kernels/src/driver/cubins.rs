//! Cubins on disk: kernels are compiled once for a machine and not for each run.

use crate::driver::nvrtc::Nvrtc;
use crate::kernel::{HEADERS, Kernel};
use std::path::{Path, PathBuf};

/// The default folder of cubins: below `GRISTMILL_CACHE`, or else below the user's cache folder; `None` where there is
/// neither.
pub(crate) fn default_folder() -> Option<PathBuf> {
    let home = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    let root = home("GRISTMILL_CACHE")
        .or_else(|| home("XDG_CACHE_HOME").map(|p| p.join("gristmill")))
        .or_else(|| home("HOME").map(|p| p.join(".cache/gristmill")))
        .or_else(|| home("LOCALAPPDATA").map(|p| p.join("gristmill")))?;
    Some(root.join("cubins"))
}

/// The name of a kernel's cubin: a digest of everything that its bytes depend on.
fn digest(kernel: &Kernel, arch: &str, nvrtc: &Nvrtc) -> String {
    let mut hash = blake3::Hasher::new();
    let mut field = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_le_bytes());
        hash.update(bytes);
    };
    field(kernel.source().as_bytes());
    HEADERS.iter().for_each(|(_, text)| field(text.as_bytes()));
    field(arch.as_bytes());
    kernel.options().iter().for_each(|option| field(option.as_bytes()));
    field(format!("{:?}", nvrtc.version()).as_bytes());
    hash.finalize().to_hex().to_string()
}

/// The kernel's cubin, from disk if it is there.
///
/// # Errors
/// The compiler's messages. A cache that cannot be written is no error.
pub(crate) fn cubin(
    nvrtc: &Nvrtc,
    kernel: &Kernel,
    arch: &str,
    folder: Option<&Path>,
) -> Result<Vec<u8>, String> {
    let path = folder.map(|f| f.join(format!("{}.cubin", digest(kernel, arch, nvrtc))));
    if let Some(bytes) = path.as_ref().and_then(|p| std::fs::read(p).ok()).filter(|b| !b.is_empty()) {
        return Ok(bytes);
    }
    let started = std::time::Instant::now();
    let mut options = kernel.options();
    options.push(format!("--gpu-architecture={arch}"));
    let cubin = nvrtc.compile(kernel.file, &kernel.source(), &HEADERS, &options)?;
    tracing::debug!(kernel = kernel.file, arch, seconds = started.elapsed().as_secs_f32(), "compiled");
    if let Some(path) = path {
        store(&path, &cubin);
    }
    Ok(cubin)
}

/// Writes by rename, so that another process never reads half a file.
fn store(path: &Path, bytes: &[u8]) {
    let Some(folder) = path.parent() else { return };
    let partial = path.with_extension(format!("{}-{:?}", std::process::id(), std::thread::current().id()));
    let done = std::fs::create_dir_all(folder)
        .and_then(|()| std::fs::write(&partial, bytes))
        .and_then(|()| std::fs::rename(&partial, path));
    if let Err(error) = done {
        tracing::debug!(%error, path = %path.display(), "cannot write to the cubin cache");
    }
}
