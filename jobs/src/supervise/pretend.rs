//! A device that only pretends in the place of the one that options name, for tests; only in builds with the feature
//! `faults`.
//!
//! `GRISTMILL_PRETEND` is `STEP,TOKEN`: the microseconds that a step takes, and those that each token in it takes besides.
//! Answers are letters for the model `tests/golden/qwen3`, whose one token in 24 is the end; other models may not end before
//! `max_tokens`.

use crate::error::JobError;
use engine::device::Device;
use engine::pretend::{PretendDevice, letter_or_end};
use std::time::Duration;

/// The environment variable.
pub const PRETEND: &str = "GRISTMILL_PRETEND";

/// The device, if it is asked for.
///
/// # Errors
/// [`JobError::Usage`] if what is asked for cannot be understood.
pub fn device() -> Result<Option<Box<dyn Device>>, JobError> {
    let Ok(text) = std::env::var(PRETEND) else { return Ok(None) };
    let takes = parse(&text)
        .ok_or_else(|| JobError::Usage(format!("{PRETEND}={text} is not STEP,TOKEN in microseconds")))?;
    tracing::warn!("the device only pretends");
    Ok(Some(Box::new(PretendDevice::new(letter_or_end).that_takes(takes[0], takes[1]))))
}

fn parse(text: &str) -> Option<[Duration; 2]> {
    let (step, token) = text.split_once(',')?;
    Some([Duration::from_micros(step.parse().ok()?), Duration::from_micros(token.parse().ok()?)])
}
