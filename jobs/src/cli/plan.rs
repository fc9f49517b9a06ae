//! `gristmill plan`: what a job would take.

use crate::cli::args::PlanArgs;
use crate::error::JobError;
use crate::log::print;
use crate::options::devices;
use crate::plan::{Plan, PlanOptions};

/// Prints what a job would take. Without a pilot it loads no weights, writes nothing but the rates of the device and leaves a
/// job that was begun alone.
///
/// # Errors
/// What a run would refuse before its first row.
pub fn plan(args: PlanArgs) -> Result<(), JobError> {
    let PlanArgs { run, sample, pilot, measure_rates, json } = args;
    if run.shard.is_some() {
        return Err(JobError::Usage("--shard: a plan is of the whole job; leave it out".into()));
    }
    if pilot.is_some() && run.output.is_none() {
        let why = "--pilot: rows that are answered are kept for the job; name its output with --output";
        return Err(JobError::Usage(why.into()));
    }
    let options = PlanOptions { sample, pilot, measure_rates };
    let plan = Plan::of(run.reading_options()?, options, &devices::open)?;
    print(&match json {
        true => {
            serde_json::to_string_pretty(&plan).map_err(|error| JobError::Internal(error.to_string()))? + "\n"
        }
        false => plan.to_string(),
    })
}
