//! Energy, by the counters that processors and cards have for it.

#[cfg(feature = "nvml")]
mod nvml;
mod rapl;

use crate::journal::costs::Energy;
use std::path::Path;
use std::time::Instant;

/// The energy of what computes, from when its counters were found. All that runs there is in it.
pub struct EnergyMeter {
    counters: Vec<Counter>,
    so_far: Energy,
}

/// A counter of energy.
struct Counter {
    /// Its count now; none if it cannot be read any more.
    read: Box<dyn Fn() -> Option<u64> + Send>,
    /// Microjoules of one count.
    unit: u64,
    /// The count after which it begins again at 0; none if it never does.
    range: Option<u64>,
    last: u64,
}

/// What was found to be measured.
struct Counters {
    counters: Vec<Counter>,
    /// Of what, and by which counters.
    source: String,
}

impl EnergyMeter {
    /// Looks for the counters of what computes: of a card at this place on the PCI bus, empty if that is not known, and of
    /// the processors beside it; or of the processors alone.
    ///
    /// # Errors
    /// Why energy is not measured, in words.
    pub fn begin(card: Option<&str>) -> Result<EnergyMeter, String> {
        EnergyMeter::begin_in(card, Path::new(rapl::POWERCAP))
    }

    fn begin_in(card: Option<&str>, powercap: &Path) -> Result<EnergyMeter, String> {
        let begun = Instant::now();
        let processors = rapl::counters(powercap);
        let Counters { counters, source } = match card {
            None => processors?,
            // The processors alone would be a part that is taken for all.
            Some(card) => with_processors(of_card(card)?, processors),
        };
        let reading_us = begun.elapsed().as_micros() as u64;
        Ok(EnergyMeter { counters, so_far: Energy { microjoules: 0, source, reading_us } })
    }

    /// The energy so far; none if a counter cannot be read any more. To be called more often than a counter begins again,
    /// which takes minutes.
    pub fn so_far(&mut self) -> Option<Energy> {
        let begun = Instant::now();
        for counter in &mut self.counters {
            self.so_far.microjoules += counter.passed()?;
        }
        self.so_far.reading_us += begun.elapsed().as_micros() as u64;
        Some(self.so_far.clone())
    }
}

impl Counter {
    /// Microjoules since it was read before.
    fn passed(&mut self) -> Option<u64> {
        let now = (self.read)()?;
        let counts = match self.range {
            _ if now >= self.last => now - self.last,
            Some(range) => (range - self.last.min(range)) + now,
            // It was set back, and what it had counted by then is lost.
            None => return None,
        };
        self.last = now;
        Some(counts * self.unit)
    }
}

/// The counters of a card with those of the processors beside it, where they can be read.
fn with_processors(mut card: Counters, processors: Result<Counters, String>) -> Counters {
    match processors {
        Ok(processors) => {
            card.counters.extend(processors.counters);
            card.source += &format!("; {}", processors.source);
        }
        Err(why) => card.source += &format!("; without the processors: {why}"),
    }
    card
}

#[cfg(feature = "nvml")]
fn of_card(pci_bus_id: &str) -> Result<Counters, String> {
    match pci_bus_id {
        "" => {
            Err("the card does not tell its place on the PCI bus, by which its counter would be found".into())
        }
        place => nvml::counters(place),
    }
}

#[cfg(not(feature = "nvml"))]
fn of_card(_: &str) -> Result<Counters, String> {
    Err("this build reads no counters of cards (feature nvml)".into())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU64, Ordering};

    fn counter(count: &Arc<AtomicU64>, unit: u64, range: Option<u64>) -> Counter {
        let (read, last) = (count.clone(), count.load(Ordering::Relaxed));
        Counter { read: Box::new(move || Some(read.load(Ordering::Relaxed))), unit, range, last }
    }

    #[test]
    fn a_card_and_its_processors_are_added_in_one_unit() {
        let (card, processor) = (Arc::new(AtomicU64::new(70)), Arc::new(AtomicU64::new(900)));
        let mut meter = EnergyMeter {
            counters: vec![counter(&card, 1000, None), counter(&processor, 1, Some(1000))],
            so_far: Energy::default(),
        };
        card.store(73, Ordering::Relaxed);
        processor.store(20, Ordering::Relaxed);
        assert_eq!(meter.so_far().unwrap().microjoules, 3000 + 120);
        card.store(75, Ordering::Relaxed);
        assert_eq!(meter.so_far().unwrap().microjoules, 5000 + 120);
        // A driver that was loaded again counts from 0, and nobody knows what it had counted by then.
        card.store(2, Ordering::Relaxed);
        assert_eq!(meter.so_far(), None);
    }

    #[test]
    fn what_is_measured_is_said() {
        let of = |source: &str| Counters { counters: vec![], source: source.into() };
        assert_eq!(with_processors(of("a card"), Ok(of("RAPL"))).source, "a card; RAPL");
        let alone = with_processors(of("a card"), Err("no right to".into()));
        assert_eq!(alone.source, "a card; without the processors: no right to");
    }

    /// Here or anywhere: no card is at this place.
    #[test]
    fn a_card_that_cannot_be_measured_is_no_error_but_words() {
        for place in ["", "ffff:ff:1f.0"] {
            let why = EnergyMeter::begin(Some(place)).err().unwrap();
            assert!(why.contains("card") || why.contains("libnvidia-ml"), "{why}");
        }
    }
}
