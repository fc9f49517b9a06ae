//! What this machine is, and how much of its memory this process took.

use std::fs::read_to_string;

/// The machine in words: system, processor, processors, memory; what cannot be told is left out.
pub fn machine() -> String {
    let info = read_to_string("/proc/cpuinfo").unwrap_or_default();
    let memory = read_to_string("/proc/meminfo").unwrap_or_default();
    let processors = std::thread::available_parallelism().map_or(1, usize::from);
    describe(&info, &memory, processors)
}

fn describe(info: &str, memory: &str, processors: usize) -> String {
    let mut parts = vec![format!("{} {}", std::env::consts::OS, std::env::consts::ARCH)];
    let name = info.lines().find_map(|line| line.strip_prefix("model name"));
    parts.extend(name.and_then(|name| Some(name.split_once(':')?.1.trim().to_string())));
    parts.push(match processors {
        1 => "1 processor".into(),
        many => format!("{many} processors"),
    });
    parts.extend(kib(memory, "MemTotal:").map(|kib| format!("{:.1} GiB", kib as f64 / f64::from(1 << 20))));
    parts.join(", ")
}

/// The peak of this process's memory in bytes, where the system tells.
pub fn peak_memory() -> Option<u64> {
    kib(&read_to_string("/proc/self/status").ok()?, "VmHWM:").map(|kib| kib << 10)
}

/// A number of KiB from a file of the kernel.
fn kib(text: &str, name: &str) -> Option<u64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name))?;
    value.trim().strip_suffix("kB")?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_told_is_left_out() {
        let info = "processor\t: 0\nmodel name\t: AMD EPYC 7B13\ncpu MHz\t: 2449.998\n";
        let told = describe(info, "MemTotal:       25165824 kB\nMemFree: 1 kB\n", 2);
        assert!(told.ends_with(", AMD EPYC 7B13, 2 processors, 24.0 GiB"), "{told}");
        assert!(describe("", "MemTotal: much", 1).ends_with(", 1 processor"));
    }
}
