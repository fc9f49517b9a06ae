//! The C++ sources of the stand-in and the libraries they become.

macro_rules! sources {
    ($($name:literal),* $(,)?) => { &[$(($name, include_str!(concat!("../", $name)))),*] };
}

/// Every source: its path and its text.
pub(crate) const ALL: &[(&str, &str)] = sources![
    "driver/libcuda.cpp",
    "driver/driver.hpp",
    "driver/block.hpp",
    "driver/settings.cpp",
    "driver/context.cpp",
    "driver/memory.cpp",
    "driver/copy.cpp",
    "driver/stream.cpp",
    "driver/graph.cpp",
    "driver/module.cpp",
    "driver/fiber.cpp",
    "driver/fault.cpp",
    "driver/collective.cpp",
    "driver/block.cpp",
    "driver/worker.cpp",
    "driver/access.cpp",
    "driver/tensor_map.cpp",
    "driver/order.cpp",
    "driver/async.cpp",
    "driver/wgmma.cpp",
    "nvrtc/nvrtc.cpp",
    "nvrtc/options.hpp",
    "nvrtc/scan.hpp",
    "cublaslt/cublaslt.cpp",
    "include/cuda_standin.h",
    "include/standin_kernel.h",
];

/// One shared library.
pub(crate) struct Library {
    /// Its file, which is also its name for the loader.
    pub(crate) file: &'static str,
    pub(crate) sources: &'static [&'static str],
    /// Arguments after the sources.
    pub(crate) links: &'static [&'static str],
}

/// The loader finds a loaded library by exactly the name it carries, so each usual name has a library: the second of
/// a pair holds nothing and points to the first. In an order in which they can be linked and loaded.
pub(crate) const LIBRARIES: [Library; 8] = [
    Library { file: "libcuda.so", sources: &["driver/libcuda.cpp"], links: &["-lpthread", "-ldl"] },
    forwarder("libcuda.so.1", &["-Wl,--no-as-needed", "-L.", "-l:libcuda.so", "-Wl,-rpath,$ORIGIN"]),
    Library { file: "libnvrtc.so", sources: &["nvrtc/nvrtc.cpp"], links: &["-ldl"] },
    Library {
        file: "libcublasLt.so",
        sources: &["cublaslt/cublaslt.cpp"],
        links: &["-L.", "-l:libcuda.so", "-Wl,-rpath,$ORIGIN"],
    },
    forwarder("libcublasLt.so.12", &["-Wl,--no-as-needed", "-L.", "-l:libcublasLt.so", "-Wl,-rpath,$ORIGIN"]),
    forwarder("libcublasLt.so.13", &["-Wl,--no-as-needed", "-L.", "-l:libcublasLt.so", "-Wl,-rpath,$ORIGIN"]),
    forwarder("libnvrtc.so.12", &["-Wl,--no-as-needed", "-L.", "-l:libnvrtc.so", "-Wl,-rpath,$ORIGIN"]),
    forwarder("libnvrtc.so.13", &["-Wl,--no-as-needed", "-L.", "-l:libnvrtc.so", "-Wl,-rpath,$ORIGIN"]),
];

const fn forwarder(file: &'static str, links: &'static [&'static str]) -> Library {
    Library { file, sources: &[], links }
}

/// Names this version of the sources.
pub(crate) fn digest() -> String {
    let mut hasher = blake3::Hasher::new();
    for (name, text) in ALL {
        hasher.update(name.as_bytes()).update(&[0]).update(text.as_bytes()).update(&[0]);
    }
    hasher.finalize().to_hex()[..16].to_string()
}
