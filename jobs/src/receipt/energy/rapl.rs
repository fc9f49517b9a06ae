//! Energy of the processors, by the counters that Linux has for them (RAPL).

use crate::receipt::energy::{Counter, Counters};
use std::path::{Path, PathBuf};

/// Where Linux shows them.
pub const POWERCAP: &str = "/sys/class/powercap";

/// The counters of processors and their memory, in microjoules. Each begins again at 0 where it passes its range.
///
/// # Errors
/// Why there are none, in words.
pub fn counters(folder: &Path) -> Result<Counters, String> {
    let absent =
        || "this system has no energy counters that are known (RAPL in /sys/class/powercap)".to_string();
    let entries = std::fs::read_dir(folder).map_err(|_| absent())?;
    let (mut counters, mut names) = (Vec::new(), Vec::new());
    for zone in entries.filter_map(Result::ok).map(|entry| entry.path()) {
        let Some(name) = text(&zone, "name") else { continue };
        // What a package holds is in it; memory stands beside it. The whole platform would count both again.
        if !name.starts_with("package") && name != "dram" {
            continue;
        }
        let counter = zone.join("energy_uj");
        let last = read(&counter).map_err(|error| {
            format!("{} cannot be read ({error}); it takes the right to read it", counter.display())
        })?;
        let range = text(&zone, "max_energy_range_uj").and_then(|range| range.parse().ok());
        let range = range.ok_or_else(|| format!("{} has no range", zone.display()))?;
        counters.push(of_file(counter, range, last));
        names.push(name);
    }
    if counters.is_empty() {
        return Err(absent());
    }
    names.sort();
    Ok(Counters { counters, source: format!("RAPL {}, all that ran on them", names.join(", ")) })
}

fn of_file(path: PathBuf, range: u64, last: u64) -> Counter {
    Counter { read: Box::new(move || read(&path).ok()), unit: 1, range: Some(range), last }
}

fn text(zone: &Path, name: &str) -> Option<String> {
    Some(std::fs::read_to_string(zone.join(name)).ok()?.trim().to_string())
}

fn read(counter: &Path) -> std::io::Result<u64> {
    let text = std::fs::read_to_string(counter)?;
    text.trim().parse().map_err(|_| std::io::Error::other("it is no number"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::journal::costs::Energy;
    use crate::receipt::energy::EnergyMeter;

    fn write(folder: &Path, zone: &str, name: &str, energy: u64) {
        let zone = folder.join(zone);
        std::fs::create_dir_all(&zone).unwrap();
        for (file, text) in [("name", name.to_string()), ("energy_uj", energy.to_string())] {
            std::fs::write(zone.join(file), text + "\n").unwrap();
        }
        std::fs::write(zone.join("max_energy_range_uj"), "1000\n").unwrap();
    }

    #[test]
    fn counters_add_up_and_may_begin_again() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        assert!(EnergyMeter::begin_in(None, folder).err().unwrap().contains("no energy counters"));
        assert!(
            EnergyMeter::begin_in(None, &folder.join("none")).err().unwrap().contains("no energy counters")
        );
        std::fs::create_dir(folder.join("dtpm")).unwrap();
        write(folder, "intel-rapl:0", "package-0", 900);
        write(folder, "intel-rapl:0:0", "core", 5);
        write(folder, "intel-rapl:0:1", "dram", 10);
        write(folder, "intel-rapl:1", "psys", 7);
        let mut meter = EnergyMeter::begin_in(None, folder).unwrap();
        assert_eq!(meter.so_far().unwrap().microjoules, 0);
        write(folder, "intel-rapl:0", "package-0", 950);
        write(folder, "intel-rapl:0:0", "core", 500);
        write(folder, "intel-rapl:0:1", "dram", 13);
        write(folder, "intel-rapl:1", "psys", 900);
        assert_eq!(meter.so_far().unwrap().microjoules, 53);
        // 50 to the end of the range, and 20 from its beginning.
        write(folder, "intel-rapl:0", "package-0", 20);
        let Energy { microjoules, source, .. } = meter.so_far().unwrap();
        assert_eq!((microjoules, &*source), (123, "RAPL dram, package-0, all that ran on them"));
        std::fs::write(folder.join("intel-rapl:0/energy_uj"), "much").unwrap();
        assert_eq!(meter.so_far(), None);
        assert!(EnergyMeter::begin_in(None, folder).err().unwrap().contains("cannot be read"));
    }
}
