//! Every kernel and variant compiles for every card, without spills and within its budget, and its structs lie in memory
//! as those of the host.
#![allow(clippy::unwrap_used)]

use gristmill_standin::gate::{ARCHITECTURES, Budget, Nvrtc, Unit};
use kernels::{HEADERS, Kernel, variants};

/// The largest shared memory of a block in bytes (CUDA C++ Programming Guide, "Technical Specifications per
/// Compute Capability").
fn max_shared(architecture: &str) -> u32 {
    match architecture {
        "sm_80" => 163 << 10,
        "sm_89" | "sm_120" => 99 << 10,
        _ => 227 << 10,
    }
}

/// A variant as the gate takes it, with more options.
fn with_unit<R>(kernel: &Kernel, more: &[&str], ask: impl FnOnce(&Unit<'_>) -> R) -> R {
    let options = kernel.options();
    let options = options.iter().map(String::as_str).filter(|o| !o.starts_with("--std"));
    let options: Vec<&str> = options.chain(more.iter().copied()).collect();
    let budget = Budget { registers: kernel.budget.registers, shared: kernel.budget.shared };
    let source = kernel.source();
    ask(&Unit { name: kernel.file, source: &source, headers: &HEADERS, options: &options, budget })
}

/// Compiles one variant for one card and says what is wrong with it.
fn check(nvrtc: &Nvrtc, kernel: &Kernel, architecture: &str) -> Option<String> {
    let budget = kernel.budget;
    let what = format!("{} {:?} for {architecture}", kernel.file, kernel.defines);
    let used = match with_unit(kernel, &["--define-macro=OFFSETS"], |unit| nvrtc.compile(unit, architecture))
    {
        Ok(used) => used,
        Err(log) => return Some(format!("{what}: {log}")),
    };
    let [used] = used.as_slice() else { return Some(format!("{what}: {} kernels, not one", used.len())) };
    let shared = used.shared + kernel.dynamic_shared;
    let wrong = used.registers > budget.registers
        || shared > budget.shared
        || shared > max_shared(architecture)
        || used.local.iter().any(|&bytes| bytes > 0)
        || used.kernel != kernel.entry;
    wrong.then(|| format!("{what}: {used:?}, {shared} bytes shared in all; {:?}", kernel.budget))
}

/// Compiles every variant for one architecture, on all processors.
fn kernels_fit(architecture: &str) {
    let Some(nvrtc) = Nvrtc::find_or_skip() else { return };
    assert!(ARCHITECTURES.contains(&architecture));
    let work = variants(architecture, max_shared(architecture));
    let next = std::sync::atomic::AtomicUsize::new(0);
    let take = || {
        let mut wrong = Vec::new();
        while let Some(kernel) = work.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
            wrong.extend(check(&nvrtc, kernel, architecture));
        }
        wrong
    };
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(take)).collect();
        workers.into_iter().flat_map(|w| w.join().unwrap()).collect()
    });
    eprintln!("{} kernels compiled for {architecture}", work.len());
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), work.len(), wrong.join("\n"));
}

macro_rules! every_card {
    ($($architecture:ident),*) => {
        $(#[test]
        fn $architecture() {
            kernels_fit(stringify!($architecture));
        })*

        #[test]
        fn no_card_is_forgotten() {
            assert_eq!(ARCHITECTURES, [$(stringify!($architecture)),*]);
        }
    };
}

every_card!(sm_80, sm_89, sm_90a, sm_100, sm_120);

/// The compiler of an older toolkit, which a card's machine may have, takes every source too. That of CUDA 12.8 makes
/// products by wgmma wait for each other, which is right but slow.
#[test]
fn an_old_compiler_takes_every_source() {
    let Some(nvrtc) = Nvrtc::find_old_or_skip() else { return };
    for architecture in ["sm_80", "sm_90a"] {
        let mut seen = Vec::new();
        for kernel in variants(architecture, max_shared(architecture)) {
            if !seen.contains(&kernel.file) {
                if let Err(log) = with_unit(&kernel, &[], |unit| nvrtc.takes(unit, architecture)) {
                    panic!("{log}");
                }
                seen.push(kernel.file);
            }
        }
    }
}

/// A field of a source's struct that lies elsewhere than the host's does not compile.
#[test]
fn a_moved_field_is_refused() {
    let Some(nvrtc) = Nvrtc::find_or_skip() else { return };
    let mut kernel = variants("sm_80", max_shared("sm_80")).into_iter().find(|k| k.entry == "add").unwrap();
    assert_eq!(check(&nvrtc, &kernel, "sm_80"), None);
    let moved = kernel.text.replace("u32 a_stride;\n    u32 b_stride;", "u32 b_stride;\n    u32 a_stride;");
    assert_ne!(moved, kernel.text);
    kernel.text = moved.leak();
    let wrong = check(&nvrtc, &kernel, "sm_80").unwrap();
    assert!(wrong.contains("static assertion failed") && wrong.contains("Args::a_stride"), "{wrong}");
    let larger = kernel.text.replace("u32 out_stride;", "u32 out_stride;\n    u32 more[2];");
    kernel.text = larger.leak();
    assert!(check(&nvrtc, &kernel, "sm_80").unwrap().contains("size of Args"));
}
