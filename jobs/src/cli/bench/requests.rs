//! The requests of the benchmark.

use crate::cli::args::ThroughputArgs;
use crate::error::JobError;
use crate::input::Input;
use crate::model::ModelFolders;
use crate::options::prompt::PromptOptions;
use crate::prompt::prompts::Prompts;
use crate::prompt::tokenizer::Tokenizer;
use engine::models::Model;
use engine::request::{Request, SamplingParams};
use engine::sample::philox;
use std::sync::Arc;

/// The prompts, of a dataset or made up; every answer has the length that was asked for.
pub fn requests(
    args: &ThroughputArgs,
    folders: &ModelFolders,
    model: &Model,
) -> Result<Vec<Request>, JobError> {
    let vocab = model.config.vocab;
    let mut dice = Dice { key: [args.seed as u32, (args.seed >> 32) as u32], next: 0 };
    let prompts = match &args.dataset_path {
        Some(path) => dataset(args, path, folders, model)?,
        None => {
            let prefix: Vec<u32> = (0..args.prefix_len).map(|_| dice.below(vocab)).collect();
            let mut prompt = |_| {
                let len = dice.around(args.input_len, args.random_range_ratio);
                prefix
                    .iter()
                    .copied()
                    .chain((0..len).map(|_| dice.below(vocab)).collect::<Vec<_>>())
                    .collect()
            };
            (0..args.num_prompts).map(&mut prompt).collect::<Vec<Vec<u32>>>()
        }
    };
    let request = |(id, prompt)| {
        let max_tokens = dice.around(args.output_len, args.random_range_ratio) as u32;
        let params = SamplingParams { temperature: 1.0, max_tokens, key: id, ..SamplingParams::default() };
        Request::new(id, prompt, params)
    };
    Ok((0u64..).zip(prompts).map(request).collect())
}

fn dataset(
    args: &ThroughputArgs,
    path: &str,
    folders: &ModelFolders,
    model: &Model,
) -> Result<Vec<Vec<u32>>, JobError> {
    let input = Input::open(&[path.to_string()])?;
    let tokenizer = Arc::new(Tokenizer::open(&folders.tokenizer)?);
    let options =
        PromptOptions { prompt_column: Some(args.prompt_column.clone()), raw: true, ..Default::default() };
    let limit = args.engine.max_model_len.unwrap_or(model.config.max_position_embeddings);
    let limit = limit.saturating_sub(args.output_len).max(2);
    let prompts = Prompts::new(&options, &input, tokenizer, None, limit, model.config.vocab, 0)?;
    let mut made = Vec::new();
    for batch in input.read(prompts.columns().to_vec(), 0..args.num_prompts as u64) {
        let batch = batch?.refuse_lost()?;
        for row in 0..batch.columns.num_rows() {
            let number = batch.first_row + row as u64;
            let prompt = prompts.of_row(&batch.columns, row);
            made.push(
                prompt
                    .map_err(|why| JobError::Usage(format!("--dataset-path {path}, row {number}: {why}")))?,
            );
        }
    }
    Ok(made)
}

/// Numbers that depend on the seed only.
struct Dice {
    key: [u32; 2],
    next: u32,
}

impl Dice {
    fn below(&mut self, end: usize) -> u32 {
        let [word, ..] = philox([self.next, 1, 0, 0], self.key);
        self.next = self.next.wrapping_add(1);
        ((u64::from(word) * end as u64) >> 32) as u32
    }

    /// A length within a share of another; at least 1.
    fn around(&mut self, len: usize, ratio: f64) -> usize {
        let spread = (len as f64 * ratio) as usize;
        (len - spread + self.below(2 * spread + 1) as usize).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_stay_in_their_range_and_depend_on_the_seed() {
        let lengths = |seed| {
            let mut dice = Dice { key: [seed, 0], next: 0 };
            (0..1000).map(|_| dice.around(100, 0.2)).collect::<Vec<_>>()
        };
        let some = lengths(1);
        assert!(some.iter().all(|len| (80..=120).contains(len)));
        assert_eq!((some.iter().min(), some.iter().max()), (Some(&80), Some(&120)));
        assert_eq!(some, lengths(1));
        assert_ne!(some, lengths(2));
        assert_eq!(Dice { key: [0, 0], next: 0 }.around(7, 0.0), 7);
    }
}
