//! `gristmill devices`.

use crate::error::JobError;
use crate::log::print;
use crate::options::devices::{Finding, find};

/// Lists the devices of this machine, one line each.
pub fn devices() -> Result<(), JobError> {
    print(&listing(&find(None)))
}

fn listing(findings: &[Finding]) -> String {
    let line = |f: &Finding| {
        format!("{:<5} {:<10} {}\n", f.kind.to_string(), if f.usable { "usable" } else { "unusable" }, f.what)
    };
    findings.iter().map(line).collect()
}
