//! Scores are the log-probabilities of the tokens of a prompt, to the bit, wherever a branch goes on.

#![allow(clippy::unwrap_used)]

mod support;

use engine::models::{LoadFormat, Model};
use engine::request::{Branch, Event, FinishReason, Request, SamplingParams, Score, Scores};
use engine::{Engine, EngineConfig};

/// What an engine of one request reports, as bits: of its prompt's tokens, or of its scores.
fn run(device: &str, model: &Model, tokens: usize, request: Request) -> Option<Vec<Vec<u32>>> {
    let config = EngineConfig {
        max_num_batched_tokens: Some(tokens),
        max_model_len: Some(64),
        kv_cache_bytes: Some(1 << 20),
        ..EngineConfig::default()
    };
    let mut engine = Engine::new(model, support::open(device)?, &config).unwrap();
    let scored = request.scores.is_some();
    engine.add(request).unwrap();
    let mut all = Vec::new();
    while !engine.is_idle() {
        for event in engine.step().unwrap() {
            match event {
                Event::Prompt { logprobs, .. } => {
                    all.extend(logprobs.iter().map(|l| vec![l.logprob.to_bits()]));
                }
                Event::Scores { logprobs, .. } => {
                    all.extend(logprobs.iter().map(|l| l.iter().map(|l| l.to_bits()).collect::<Vec<_>>()));
                }
                Event::Token { .. } => assert!(!scored),
                Event::DeadEnd { why, .. } => panic!("{why}"),
                Event::Finished { reason, .. } => assert_eq!(scored, reason == FinishReason::Scored),
            }
        }
    }
    Some(all)
}

/// The log-probability of each token of a sequence after the first.
fn of_prompt(device: &str, model: &Model, tokens: &[u32]) -> Option<Vec<Vec<u32>>> {
    let params = SamplingParams { prompt_logprobs: Some(0), max_tokens: 1, ..SamplingParams::default() };
    run(device, model, 512, Request::new(1, tokens.to_vec(), params))
}

fn compare(device: &str, name: &str) {
    let model = Model::open(&support::golden(name), LoadFormat::Auto).unwrap();
    let prompt: Vec<u32> = (0..19).map(|i| 5 + i * 7 % 40).collect();
    // The second one goes back into the prompt, across the bound of a page.
    let paths = [(19, vec![8, 9, 4]), (14, vec![30, 31, 2, 11, 6])];
    let joined = |i: usize| [&prompt[..paths[i].0], &paths[i].1, &[7]].concat();
    let Some(wants) = (0..2).map(|i| of_prompt(device, &model, &joined(i))).collect::<Option<Vec<_>>>()
    else {
        return;
    };
    // Each asks for the token that follows, and for one that does not, twice.
    let ask = |position: usize, of: &[u32]| Score { position, targets: vec![3, of[position + 1], 3] };
    let branch = |i: usize| {
        let (from, tokens) = paths[i].clone();
        let scores = (from..from + tokens.len()).map(|p| ask(p, &joined(i))).collect();
        Branch { from, tokens, scores }
    };
    let of_prompt = [4, 5, 15, 16, 18].map(|p| ask(p, &joined(0))).to_vec();
    let scores = Scores { prompt: of_prompt, branches: vec![branch(0), branch(1)] };
    for tokens in [512, 3, 1] {
        let request = Request::score(1, prompt.clone(), scores.clone());
        let got = run(device, &model, tokens, request).unwrap();
        let positions = [4, 5, 15, 16, 18, 19, 20, 21].map(|p| (0, p)).into_iter();
        let positions: Vec<_> = positions.chain((14..19).map(|p| (1, p))).collect();
        assert_eq!(got.len(), positions.len());
        for ((path, position), got) in positions.into_iter().zip(got) {
            let want = &wants[path][position];
            assert_eq!(got[1], want[0], "{device}: path {path}, position {position}, {tokens} tokens a step");
            assert!(got[0] == got[2] && got[0] != got[1]);
        }
    }
}

#[test]
fn cpu() {
    compare("cpu", "qwen2-window");
}

#[test]
fn cuda() {
    compare("cuda", "qwen3");
}

#[test]
fn wgpu() {
    compare("wgpu", "qwen2-window");
}
