//! Energy of the processors, by the counters that Linux has for them (RAPL).

use crate::journal::costs::Energy;
use std::path::{Path, PathBuf};
use std::time::Instant;

/// Where Linux shows them.
const POWERCAP: &str = "/sys/class/powercap";

/// The energy of processors and their memory, from when the counters were found. All that runs on them is in it.
#[derive(Debug)]
pub struct EnergyMeter {
    zones: Vec<Zone>,
    so_far: Energy,
}

/// A counter of microjoules, which begins again at 0 where it passes its range.
#[derive(Debug)]
struct Zone {
    counter: PathBuf,
    range: u64,
    last: u64,
}

impl EnergyMeter {
    /// Looks for the counters of this machine.
    ///
    /// # Errors
    /// Why energy is not measured, in words.
    pub fn begin() -> Result<EnergyMeter, String> {
        EnergyMeter::begin_in(Path::new(POWERCAP))
    }

    fn begin_in(folder: &Path) -> Result<EnergyMeter, String> {
        let begun = Instant::now();
        let absent =
            || "this system has no energy counters that are known (RAPL in /sys/class/powercap)".to_string();
        let entries = std::fs::read_dir(folder).map_err(|_| absent())?;
        let (mut zones, mut names) = (Vec::new(), Vec::new());
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
            zones.push(Zone { counter, range, last });
            names.push(name);
        }
        if zones.is_empty() {
            return Err(absent());
        }
        names.sort();
        let source = format!("RAPL {}, all that ran on them", names.join(", "));
        let reading_us = begun.elapsed().as_micros() as u64;
        Ok(EnergyMeter { zones, so_far: Energy { microjoules: 0, source, reading_us } })
    }

    /// The energy so far; none if a counter cannot be read any more. To be called more often than a counter begins again,
    /// which takes minutes.
    pub fn so_far(&mut self) -> Option<Energy> {
        let begun = Instant::now();
        for zone in &mut self.zones {
            let now = read(&zone.counter).ok()?;
            let passed = if now >= zone.last {
                now - zone.last
            } else {
                (zone.range - zone.last.min(zone.range)) + now
            };
            self.so_far.microjoules += passed;
            zone.last = now;
        }
        self.so_far.reading_us += begun.elapsed().as_micros() as u64;
        Some(self.so_far.clone())
    }
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
        assert!(EnergyMeter::begin_in(folder).unwrap_err().contains("no energy counters"));
        assert!(EnergyMeter::begin_in(&folder.join("none")).unwrap_err().contains("no energy counters"));
        std::fs::create_dir(folder.join("dtpm")).unwrap();
        write(folder, "intel-rapl:0", "package-0", 900);
        write(folder, "intel-rapl:0:0", "core", 5);
        write(folder, "intel-rapl:0:1", "dram", 10);
        write(folder, "intel-rapl:1", "psys", 7);
        let mut meter = EnergyMeter::begin_in(folder).unwrap();
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
        assert!(EnergyMeter::begin_in(folder).unwrap_err().contains("cannot be read"));
    }
}
