//! The scores of a row without content, by which columns are calibrated.

use crate::choices::Choices;
use crate::choices::requests::RowChoices;
use crate::error::JobError;
use engine::Engine;
use engine::request::{Event, FinishReason};

impl Choices {
    /// The log-probabilities of the labels of each column that is calibrated, for this row without content. The engine
    /// has nothing else to do.
    ///
    /// # Errors
    /// [`JobError::Engine`]; [`JobError::Usage`] if the engine cannot serve it.
    pub fn calibrate(
        &self,
        row: Option<&RowChoices>,
        engine: &mut Engine,
    ) -> Result<Vec<Option<Vec<f64>>>, JobError> {
        let Some(row) = row else { return Ok(vec![None; self.columns.len()]) };
        let refuse = |why: &str| JobError::Usage(format!("calibrate: a row without content: {why}"));
        let mut reported = vec![Vec::new(); row.count()];
        for number in 0..row.count() {
            engine.add(row.request(number as u64, number))?;
        }
        while !engine.is_idle() {
            for event in engine.step()? {
                match event {
                    Event::Scores { id, logprobs } => reported[id as usize].extend(logprobs),
                    Event::Finished { reason: FinishReason::NotFinite, .. } => {
                        return Err(refuse("the model's logits are not finite"));
                    }
                    _ => {}
                }
            }
        }
        let labels = row.label_logprobs(reported.iter().map(Vec::as_slice));
        let columns = self.columns.iter().zip(labels);
        Ok(columns.map(|(column, labels)| column.calibrate.map(|_| labels)).collect())
    }
}
