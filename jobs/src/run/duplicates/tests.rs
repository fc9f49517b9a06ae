use super::*;
use crate::choices::requests::{ColumnPrompt, RowChoices};
use crate::choices::trie::Trie;
use crate::run::sampling::{KeepLogprobs, Sampling};
use engine::request::SamplingParams;
use std::sync::Arc;

fn request(row: u64, prompt: &[u32], temperature: f32) -> RowRequest {
    let params = SamplingParams { temperature, ..SamplingParams::default() };
    let sampling = Arc::new(Sampling::of_params(params));
    RowRequest {
        row,
        part: None,
        prompt: prompt.to_vec(),
        sampling,
        structure: None,
        choices: None,
        alone: false,
    }
}

fn key(row: u64) -> RequestKey {
    RequestKey { row, part: None }
}

fn take_up(rows: &mut Duplicates, row: u64, prompt: &[u32]) -> Turn {
    rows.take_up(&request(row, prompt, 0.0))
}

fn result(tokens: usize) -> Result<RowResult, RowError> {
    let completion = Generated { token_logprobs: vec![-1.0; tokens], ..Generated::default() };
    Ok(RowResult {
        num_input_tokens: 2,
        completions: vec![completion],
        prompt_logprobs: None,
        choices: None,
        structure: None,
        keep: KeepLogprobs::default(),
        prompt: None,
    })
}

#[test]
fn rows_wait_for_the_first_of_their_prompt_and_end_as_it_did() {
    let mut rows = Duplicates::new(true);
    assert!(matches!(take_up(&mut rows, 3, &[1, 2]), Turn::Runs));
    assert!(matches!(take_up(&mut rows, 4, &[2, 1]), Turn::Runs));
    assert!(matches!(take_up(&mut rows, 5, &[1, 2]), Turn::Waits));
    assert!(matches!(take_up(&mut rows, 6, &[1, 2]), Turn::Waits));
    assert!(rows.end(key(4), &result(1)).is_empty());
    assert_eq!(rows.end(key(3), &result(7)), [key(5), key(6)]);
    assert_eq!(rows.waiting, 0);
    let Turn::Ends(Ok(ending)) = take_up(&mut rows, 7, &[1, 2]) else { panic!("7 has no answer") };
    assert_eq!(ending.completions[0].token_logprobs.len(), 7);
    // What never ran has no prompt.
    assert!(rows.end(key(8), &result(1)).is_empty());
    let longer = SamplingParams { temperature: 0.0, max_tokens: 17, ..SamplingParams::default() };
    let other = RowRequest { sampling: Arc::new(Sampling::of_params(longer)), ..request(9, &[1, 2], 0.0) };
    assert!(matches!(rows.take_up(&other), Turn::Runs), "another sampling");
    assert!(matches!(rows.take_up(&request(10, &[1, 2], 0.5)), Turn::Runs), "not greedy");
    let mut apart = Duplicates::new(false);
    assert!((0..3).all(|row| matches!(take_up(&mut apart, row, &[1]), Turn::Runs)));
}

#[test]
fn what_was_asked_is_not_kept_with_an_answer() {
    let mut rows = Duplicates::new(true);
    let trie = Arc::new(Trie { nodes: Vec::new(), labels: 0 });
    let choices = Arc::new(RowChoices::new(vec![ColumnPrompt { tokens: vec![1], trie }], Arc::default()));
    let asked = |row| RowRequest { choices: Some(choices.clone()), ..request(row, &[1], 0.0) };
    assert!(matches!(rows.take_up(&asked(1)), Turn::Runs));
    rows.end(key(1), &result(1).map(|result| result.of(&asked(1))));
    assert_eq!(Arc::strong_count(&choices), 1, "it is held with the answer");
    let Turn::Ends(Ok(ending)) = rows.take_up(&asked(2)) else { panic!("2 has no answer") };
    assert!(ending.choices.is_some_and(|of_row| Arc::ptr_eq(&of_row, &choices)));
}

#[test]
fn what_is_kept_and_what_waits_is_bounded() {
    let mut rows = Duplicates::new(true);
    for row in 0..200u32 {
        assert!(matches!(take_up(&mut rows, row.into(), &[row]), Turn::Runs));
        rows.end(key(row.into()), &result(100_000));
        assert!(rows.bytes <= KEPT_BYTES && rows.ended.len() == rows.order.len());
    }
    assert!(matches!(take_up(&mut rows, 500, &[199]), Turn::Ends(_)));
    assert!(matches!(take_up(&mut rows, 501, &[0]), Turn::Runs), "the oldest went first");
    let waiting =
        (502..).take_while(|&row| rows.have_room() && matches!(take_up(&mut rows, row, &[0]), Turn::Waits));
    assert_eq!(waiting.count(), WAITING);
}
