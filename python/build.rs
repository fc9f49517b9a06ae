//! Compiles in what the module was made of.

#[path = "sources.rs"]
mod sources;

use std::path::Path;

fn main() -> std::io::Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for part in sources::PARTS {
        println!("cargo::rerun-if-changed={}", root.join(part).display());
    }
    println!("cargo::rustc-env=GRISTMILL_SOURCES={}", sources::digest(&root)?);
    Ok(())
}
