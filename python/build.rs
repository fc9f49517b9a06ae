//! Compiles in what the module was made of.

#[path = "sources.rs"]
mod sources;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for part in sources::PARTS {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "macos") {
        // What is Python's is found as the module is loaded; other linkers need not be told.
        println!("cargo::rustc-cdylib-link-arg=-undefined\ncargo::rustc-cdylib-link-arg=dynamic_lookup");
    }
    println!("cargo::rustc-env=GRISTMILL_SOURCES={}", sources::digest(&root)?);
    Ok(())
}
