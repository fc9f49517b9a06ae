//! Rows in memory: record batches go in, and come out with their answers.
//!
//! The way of a row is that of a job, from its prompt to its columns: the same [`Job`] over an input that has only a schema.
//! In the place of files stands who hands in batches, in that of the journal a window over the rows on their way, and
//! nothing is published. So nothing survives a kill; a row that cannot be answered has its `error` as ever.

mod readable;
mod reading;
pub mod stream;
mod window;

use crate::cli::args::RunArgs;
use crate::date;
use crate::error::JobError;
use crate::input::Input;
use crate::model::ModelFolders;
use crate::options::engine::{EngineOptions, engine_config};
use crate::options::job::JobOptions;
use crate::run::job::Job;
use arrow::datatypes::SchemaRef;
use engine::device::Device;
use engine::models::Model;
use engine::{Engine, EngineConfig};
use std::sync::Arc;

/// What rows are called in messages, where a job names its file.
pub const ROWS: &str = "the rows";

/// A model that is loaded once, for many runs.
pub struct LoadedModel {
    folders: ModelFolders,
    model: Arc<Model>,
    engine: Engine,
    /// The job of the run before, with the schema of its rows.
    last: Option<(SchemaRef, Arc<Job>)>,
}

impl LoadedModel {
    /// Loads the model that options name, on a device.
    ///
    /// # Errors
    /// [`JobError::Usage`] without a model; what is wrong with its files or the device.
    pub fn load(
        args: &RunArgs,
        open: impl FnOnce(&EngineOptions) -> Result<Box<dyn Device>, JobError>,
    ) -> Result<LoadedModel, JobError> {
        let folders = ModelFolders::find(&args.model)?;
        let model = Arc::new(Model::open(&folders.model, args.model.load_format.into())?);
        let device = open(&args.engine)?;
        // A later run may have a structure. Whether tokens are forced changes no answer.
        let config = EngineConfig { force_tokens: true, ..engine_config(&args.engine) };
        let engine = Engine::new(&model, device, &config)?;
        Ok(LoadedModel { folders, model, engine, last: None })
    }

    /// The name of the model.
    pub fn name(&self) -> &str {
        &self.folders.name
    }

    /// The name of the device.
    pub fn device(&self) -> &str {
        &self.engine.device().info().name
    }

    /// What options mean for rows of a schema: that of the run before, if they are the same.
    ///
    /// # Errors
    /// [`JobError::Usage`], and what is wrong with a file.
    pub fn job(&mut self, options: JobOptions, schema: &SchemaRef) -> Result<Arc<Job>, JobError> {
        let date = date::today();
        if let Some((before, job)) = &self.last
            && before == schema
            && job.options == options
            && job.date == date
        {
            return Ok(job.clone());
        }
        let input = Input::of_schema(schema, ROWS)?;
        let job = Job::of(options, input, self.folders.clone(), self.model.clone(), date)?;
        let job = Arc::new(job);
        self.last = Some((schema.clone(), job.clone()));
        Ok(job)
    }
}
