#![allow(clippy::unwrap_used)]
use super::*;

const ENDS: [u32; 2] = [90, 91];

fn column(tokens: &[u32], labels: &[&[u32]]) -> ColumnPrompt {
    let labels: Vec<Vec<u32>> = labels.iter().map(|label| label.to_vec()).collect();
    ColumnPrompt { tokens: tokens.to_vec(), trie: Arc::new(Trie::new(&labels).unwrap()) }
}

/// A "model" whose log-probability of a token depends on all tokens before it.
fn logprob(before: &[u32], token: u32) -> f32 {
    let sum: u32 = before.iter().enumerate().map(|(i, t)| (i as u32 + 1) * t).sum();
    ((sum * 7 + token * 13) % 101) as f32 / -10.0
}

/// What the engine would report of a request.
fn run(request: &Request) -> Vec<Vec<f32>> {
    let scores = request.scores.as_ref().unwrap();
    scores.check(request.prompt.len(), 100).unwrap();
    let mut tokens = request.prompt.clone();
    let of = |tokens: &[u32], score: &Score| {
        score.targets.iter().map(|&target| logprob(&tokens[..=score.position], target)).collect()
    };
    let mut all: Vec<Vec<f32>> = scores.prompt.iter().map(|score| of(&tokens, score)).collect();
    for branch in &scores.branches {
        tokens.truncate(branch.from);
        tokens.extend(&branch.tokens);
        all.extend(branch.scores.iter().map(|score| of(&tokens, score)));
    }
    all
}

/// A label's log-probability, token by token.
fn plain(prompt: &[u32], label: &[u32]) -> f64 {
    let mut tokens = prompt.to_vec();
    let mut sum = 0.0;
    for &token in label {
        sum += f64::from(logprob(&tokens, token));
        tokens.push(token);
    }
    sum + ENDS.iter().map(|&end| f64::from(logprob(&tokens, end)).exp()).sum::<f64>().ln()
}

fn check(prompts: &[&[u32]], labels: &[&[&[u32]]], requests: usize, num_input_tokens: u32, computed: usize) {
    let columns = prompts.iter().zip(labels).map(|(prompt, labels)| column(prompt, labels)).collect();
    let row = RowChoices::new(columns, ENDS.into());
    assert_eq!((row.count(), row.num_input_tokens), (requests, num_input_tokens));
    let asked: Vec<Request> = (0..requests).map(|i| row.request(i as u64, i)).collect();
    let of = |r: &Request| {
        r.prompt.len() + r.scores.iter().flat_map(|s| &s.branches).map(|b| b.tokens.len()).sum::<usize>()
    };
    assert_eq!(asked.iter().map(of).sum::<usize>(), computed, "positions");
    let reported: Vec<Vec<Vec<f32>>> = asked.iter().map(run).collect();
    let got = row.label_logprobs(reported.iter().map(Vec::as_slice));
    for ((got, prompt), labels) in got.iter().zip(prompts).zip(labels) {
        for (got, label) in got.iter().zip(*labels) {
            let want = plain(prompt, label);
            assert!((got - want).abs() < 1e-9, "{prompt:?} {label:?}: {got}, not {want}");
        }
    }
}

#[test]
fn each_token_of_the_tree_is_computed_once() {
    let labels: &[&[u32]] = &[&[1], &[1, 2], &[3, 2], &[1, 2, 4], &[1, 5]];
    // Nodes: 1, 1 2, 1 2 4, 1 5, 3, 3 2.
    check(&[&[10, 11, 12]], &[labels], 1, 3, 3 + 6);
    // Two asks behind four tokens; the second ask has two of its own, and labels 1 and 2.
    check(&[&[10, 11, 12, 13, 20], &[10, 11, 12, 13, 30, 31]], &[labels, &[&[1], &[2]]], 1, 7, 5 + 6 + 2 + 2);
}

#[test]
fn the_same_prompt_may_ask_twice() {
    // Its last token is computed again, for its logits.
    check(&[&[10, 11], &[10, 11]], &[&[&[1], &[2]], &[&[3, 4], &[5]]], 1, 2, 2 + 2 + 1 + 3);
}

#[test]
fn a_label_may_go_on_as_another_prompt_does() {
    check(&[&[10, 11], &[10, 11, 1, 7]], &[&[&[1], &[2]], &[&[3], &[4]]], 1, 4, 2 + 2 + 2 + 2);
}

#[test]
fn prompts_that_differ_early_are_requests_of_their_own() {
    check(&[&[10, 11, 12, 13], &[10, 21, 12, 13]], &[&[&[1], &[2]], &[&[3], &[4]]], 2, 7, 8 + 4);
}

#[test]
fn a_thousand_labels_are_one_request() {
    let labels: Vec<[u32; 2]> = (0..1000).map(|i| [i / 40, 30 + i % 40]).collect();
    let labels: Vec<&[u32]> = labels.iter().map(|label| label.as_slice()).collect();
    check(&[&[10, 11, 12]], &[&labels], 1, 3, 3 + 25 + 1000);
}
