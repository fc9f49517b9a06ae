//! How many rows fit at once on each device that is here.

use crate::options::device::DeviceChoice;
use crate::options::devices::{Open, find};
use crate::options::engine::EngineOptions;
use crate::plan::lengths::Lengths;
use crate::run::job::Job;
use engine::Capacity;
use engine::device::Device;
use serde::Serialize;

/// A device, and what the job would take of it.
#[derive(Debug, Serialize)]
pub struct DevicePlan {
    pub kind: String,
    pub name: String,
    /// Whether a run would use it.
    pub chosen: bool,
    /// Why the job cannot run on it, if so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub memory: Option<DeviceMemory>,
}

/// What the job would take of a device's memory, by what is free now.
#[derive(Debug, Serialize)]
pub struct DeviceMemory {
    pub weight_bytes: usize,
    /// Activations, and what the device takes besides.
    pub other_bytes: usize,
    pub kv_bytes_per_token: usize,
    pub kv_pages: usize,
    pub block_size: usize,
    /// A row with its longest answer: the median row and the longest one.
    pub row_tokens: Pair,
    pub row_kv_bytes: Pair,
    /// How many such rows run at once.
    pub rows_at_once: Pair,
}

/// Of a median row, and of the longest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Pair {
    pub p50: u64,
    pub max: u64,
}

/// The devices that the job can run on here, that of a run first. `reach` is of rows with their longest answers.
pub fn devices(job: &Job, reach: &Lengths, open: Open<'_>) -> Vec<DevicePlan> {
    let options = &job.options.engine;
    let mut plans = vec![match open(options) {
        Ok(device) => plan(job, device.as_ref(), reach, true),
        Err(error) => DevicePlan {
            kind: "none".into(),
            name: "the device of a run".into(),
            chosen: true,
            problem: Some(error.to_string()),
            memory: None,
        },
    }];
    if options.device != DeviceChoice::Auto {
        return plans;
    }
    for found in find(options.threads).into_iter().filter(|found| found.usable) {
        let options = EngineOptions { device: found.choice, ..options.clone() };
        // One that does not go with the job's flags is no device for it.
        let Ok(device) = open(&options) else { continue };
        let info = device.info();
        let known = |plan: &DevicePlan| plan.kind == info.kind.to_string() && plan.name == info.name;
        if !plans.iter().any(known) {
            plans.push(plan(job, device.as_ref(), reach, false));
        }
    }
    plans
}

fn plan(job: &Job, device: &dyn Device, reach: &Lengths, chosen: bool) -> DevicePlan {
    let capacity = Capacity::of(&job.model, device, &job.engine_config());
    let (kind, name) = (device.info().kind.to_string(), device.info().name.clone());
    match capacity {
        Ok(capacity) => {
            DevicePlan { kind, name, chosen, problem: None, memory: Some(DeviceMemory::of(&capacity, reach)) }
        }
        Err(error) => DevicePlan { kind, name, chosen, problem: Some(error.to_string()), memory: None },
    }
}

impl DeviceMemory {
    fn of(capacity: &Capacity, reach: &Lengths) -> DeviceMemory {
        let pair = |of: &dyn Fn(u64) -> u64| Pair { p50: of(reach.p50), max: of(reach.max) };
        let page = capacity.page_size as u64;
        DeviceMemory {
            weight_bytes: capacity.weights,
            other_bytes: capacity.others,
            kv_bytes_per_token: capacity.kv_bytes_per_token,
            kv_pages: capacity.pages,
            block_size: capacity.page_size,
            row_tokens: pair(&|tokens| tokens),
            row_kv_bytes: pair(&|tokens| tokens.div_ceil(page) * page * capacity.kv_bytes_per_token as u64),
            rows_at_once: pair(&|tokens| capacity.rows_at_once(tokens)),
        }
    }
}
