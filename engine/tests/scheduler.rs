//! The scheduler without a device, over long random sequences of events.
//!
//! A model of the device stands in for it: it remembers which token of which prefix each KV slot holds,
//! as submitted steps write them in order, and checks what each step reads.

#![allow(clippy::unwrap_used)]

use engine::constraint::{Constraint, Matcher, NoToken};
use engine::numbers::Numbers;
use engine::request::{Branch, Request, SamplingParams, Score, Scores};
use engine::scheduler::{Chunk, Limits, Scheduler};
use proptest::prelude::*;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

/// What a slot holds: a digest of the tokens up to and with its own.
type Content = u64;

/// The token that a sequence "samples" at a position: a function of the row and the position only.
fn sampled(id: u64, position: usize) -> u32 {
    (Numbers(id * 1000 + position as u64).bits() % 50) as u32
}

fn digest(tokens: impl Iterator<Item = u32>) -> Content {
    tokens.fold(1, |h: u64, t| Numbers(h ^ u64::from(t)).bits())
}

#[derive(Clone, Copy, Debug)]
struct Row {
    prompt: usize,
    answer: usize,
    /// Rows of a family begin alike.
    family: usize,
    /// Whether penalties are on.
    history: bool,
    /// Whether the prompt's log-probabilities are wanted.
    scored: bool,
    /// Whether now and then some tokens are forced.
    forced: bool,
    /// Branches of a row that is scored and generates nothing.
    branches: Option<usize>,
}

#[derive(Clone, Debug)]
struct Scenario {
    limits: Limits,
    pages: usize,
    rows: Vec<Row>,
    seed: u64,
}

fn scenarios() -> impl Strategy<Value = Scenario> {
    let limits = (1..12_usize, 1..40_usize, 1..9_usize, any::<bool>());
    let branches = prop::option::weighted(0.4, 0..6_usize);
    let chance = prop::bool::weighted;
    let row = (1..40_usize, 1..20_usize, 0..4_usize, any::<bool>(), chance(0.2), chance(0.3), branches);
    let row = row.prop_map(|(prompt, answer, family, history, scored, forced, branches)| {
        let scored = scored && branches.is_none();
        Row { prompt, answer, family, history, scored, forced, branches }
    });
    (limits, prop::collection::vec(row, 1..40), 0..30_usize, any::<u64>()).prop_map(
        |((seqs, tokens, page_size, prefix_caching), rows, extra, seed)| {
            let max_len = 64;
            let seqs = seqs.min(tokens);
            let limits = Limits {
                seqs,
                tokens,
                outputs: seqs.max(4),
                adjustments: 200,
                targets: MAX_TARGETS + seed as usize % 30,
                page_size,
                max_len,
                prefix_caching,
                late_masks: true,
            };
            Scenario { limits, pages: max_len.div_ceil(page_size) + extra, rows, seed }
        },
    )
}

/// Targets at one position, at most.
const MAX_TARGETS: usize = 12;

fn request(id: usize, row: Row) -> Request {
    let mut tokens: Vec<u32> = (0..row.prompt).map(|i| (row.family * 7 + i) as u32 % 50).collect();
    if row.family > 0 {
        *tokens.last_mut().unwrap() = id as u32 % 50;
    }
    if let Some(branches) = row.branches {
        return Request::score(id as u64, tokens, scores(id, row.prompt, branches));
    }
    let params = SamplingParams {
        max_tokens: row.answer as u32,
        repetition_penalty: if row.history { 1.2 } else { 1.0 },
        prompt_logprobs: row.scored.then_some(0),
        ..SamplingParams::default()
    };
    let runs = Runs { id: id as u64, position: tokens.len() };
    let constraint = row.forced.then(|| Arc::new(runs) as Arc<dyn Constraint>);
    Request { constraint, ..Request::new(id as u64, tokens, params) }
}

/// Forces runs of tokens.
#[derive(Clone, Copy, Debug)]
struct Runs {
    id: u64,
    position: usize,
}

impl Constraint for Runs {
    fn matcher(&self) -> Box<dyn Matcher> {
        Box::new(*self)
    }
}

impl Matcher for Runs {
    fn fill_mask(&mut self, _: &mut [u32]) -> Result<(), NoToken> {
        Ok(())
    }

    fn accept(&mut self, token: u32) {
        assert_eq!(token, sampled(self.id, self.position));
        self.position += 1;
    }

    fn forced(&self) -> Vec<u32> {
        let mut n = Numbers(self.id * 31 + self.position as u64);
        let count = if n.below(2) == 0 { 0 } else { n.below(9) };
        (0..count).map(|i| sampled(self.id, self.position + i)).collect()
    }
}

/// Scores at random positions of the prompt and of branches that begin anywhere.
fn scores(id: usize, prompt: usize, branches: usize) -> Scores {
    let mut n = Numbers(id as u64 * 77 + 1);
    let mut at = |start: usize, end: usize| -> Vec<Score> {
        let positions: Vec<usize> = (start..end).filter(|&p| p + 1 == end || n.below(4) == 0).collect();
        let score = |position| Score { position, targets: vec![7; 1 + n.below(MAX_TARGETS)] };
        positions.into_iter().map(score).collect()
    };
    let of_prompt = at(0, prompt);
    let mut len = prompt;
    let mut n = Numbers(id as u64 * 78 + 1);
    let branch = |_| {
        let (from, count) = (1 + n.below(len), 1 + n.below(9));
        len = from + count;
        let tokens = (0..count).map(|_| n.below(50) as u32).collect();
        Branch { from, tokens, scores: at(from, len) }
    };
    let branches = (0..branches).map(branch).collect();
    Scores { prompt: of_prompt, branches }
}

/// The content that each scored position of a request must see, and its targets.
fn seen(id: usize, row: Row) -> Vec<(Content, usize)> {
    let Request { prompt: mut tokens, scores: Some(scores), .. } = request(id, row) else {
        return Vec::new();
    };
    let content =
        |tokens: &[u32], s: &Score| (digest(tokens[..=s.position].iter().copied()), s.targets.len());
    let mut all: Vec<_> = scores.prompt.iter().map(|s| content(&tokens, s)).collect();
    for branch in &scores.branches {
        tokens.truncate(branch.from);
        tokens.extend(&branch.tokens);
        all.extend(branch.scores.iter().map(|s| content(&tokens, s)));
    }
    all
}

/// Runs a scenario to its end and checks everything on the way.
fn run(scenario: &Scenario) -> Result<(), TestCaseError> {
    let Scenario { limits, pages, rows, seed } = scenario;
    let mut n = Numbers(*seed);
    let mut scheduler = Scheduler::new(*limits, *pages);
    let mut slots: HashMap<usize, Content> = HashMap::new();
    let mut arrivals: VecDeque<Request> = rows.iter().enumerate().map(|(i, &r)| request(i, r)).collect();
    let mut scores: HashMap<u64, usize> = HashMap::new();
    let mut in_flight: VecDeque<Vec<Chunk>> = VecDeque::new();
    let mut ended = vec![false; rows.len()];
    let mut generated = vec![0; rows.len()];
    let asked: Vec<_> = rows.iter().enumerate().map(|(id, &row)| seen(id, row)).collect();
    let mut reported = vec![0; rows.len()];
    let mut steps = 0;

    while ended.iter().any(|e| !e) {
        steps += 1;
        prop_assert!(steps < 20_000, "a row starves");
        for _ in 0..n.below(4) {
            if let Some(request) = arrivals.pop_front() {
                scheduler.add(request).map_err(TestCaseError::fail)?;
            }
        }
        if n.below(15) == 0 && !scheduler.running().is_empty() {
            let id = scheduler.running()[n.below(scheduler.running().len())].id;
            scheduler.preempt(id);
        }
        let chunks = scheduler.schedule();
        check_step(&scheduler, limits, &chunks, &mut slots, rows, &mut scores)?;
        check_asked(&scheduler, limits, &chunks, &asked, &mut reported)?;
        // As masks are provided: once every token before is known.
        let known = |s: &engine::sequence::Sequence| s.pending == 1;
        let sampling: Vec<u64> = chunks
            .iter()
            .filter(|c| c.sample && known(&scheduler.running()[c.index]))
            .map(|c| c.id)
            .collect();
        let mut late: Vec<u64> = chunks.iter().filter(|c| c.sample).map(|c| c.id).collect();
        late.retain(|id| !sampling.contains(id));
        scheduler.force(&sampling);
        let stalled = chunks.is_empty();
        if !stalled {
            in_flight.push_back(chunks);
        }
        if in_flight.len() >= 2 || stalled {
            let Some(done) = in_flight.pop_front() else {
                prop_assert!(scheduler.is_idle(), "nothing is on its way and nothing is scheduled");
                continue;
            };
            for chunk in done.iter().filter(|c| !c.asked.is_empty()) {
                let id = chunk.id as usize;
                if !ended[id] && (chunk.asked.end == asked[id].len() || n.below(40) == 0) {
                    scheduler.finish(chunk.id);
                    ended[id] = true;
                }
            }
            let forced = |c: &Chunk| if c.forced { c.score.clone() } else { 0..0 };
            let tokens = done.iter().flat_map(|c| {
                let last = if c.sample { Some(c.start + c.len) } else { None };
                forced(c).chain(last).map(move |position| (c, position))
            });
            for (chunk, position) in tokens {
                let id = chunk.id as usize;
                if scheduler.accept(chunk.id, sampled(chunk.id, position)) {
                    generated[id] += 1;
                    let longest = rows[id].answer.min(limits.max_len - rows[id].prompt);
                    prop_assert!(generated[id] <= longest, "row {id} runs on");
                    if generated[id] == longest || n.below(12) == 0 {
                        scheduler.finish(chunk.id);
                        ended[id] = true;
                    }
                }
            }
        }
        scheduler.force(&late);
    }
    prop_assert_eq!(scheduler.pool().free(), scheduler.pool().count(), "pages leaked");
    for (id, row) in rows.iter().enumerate().filter(|(_, r)| r.scored) {
        prop_assert_eq!(
            scores.get(&(id as u64)).copied().unwrap_or(0),
            row.prompt - 1,
            "scores of row {}",
            id
        );
    }
    Ok(())
}

/// Checks a step against the limits and its pages against what the slots hold.
fn check_step(
    scheduler: &Scheduler,
    limits: &Limits,
    chunks: &[Chunk],
    slots: &mut HashMap<usize, Content>,
    rows: &[Row],
    scores: &mut HashMap<u64, usize>,
) -> Result<(), TestCaseError> {
    let outputs: usize = chunks.iter().map(|c| c.score.len() + c.asked.len() + usize::from(c.sample)).sum();
    prop_assert!(chunks.len() <= limits.seqs && scheduler.running().len() <= limits.seqs);
    prop_assert!(chunks.iter().map(|c| c.len).sum::<usize>() <= limits.tokens);
    prop_assert!(outputs <= limits.outputs, "{outputs} outputs");
    let mut writes = Vec::new();
    for chunk in chunks {
        let sequence = &scheduler.running()[chunk.index];
        prop_assert_eq!(sequence.id, chunk.id);
        prop_assert!(chunk.len > 0);
        let row = rows[chunk.id as usize];
        prop_assert!(!(row.history && chunk.sample && sequence.pending > 1), "penalties need the last token");
        let known = row.branches.map_or(row.prompt, |_| usize::MAX);
        let token = |p: usize| if p < known { sequence.tokens[p] } else { sampled(chunk.id, p) };
        let slot = |p: usize| {
            sequence.pages[p / limits.page_size] as usize * limits.page_size + p % limits.page_size
        };
        for position in chunk.start..chunk.start + chunk.len {
            writes.push((slot(position), digest((0..=position).map(token))));
        }
        // What the chunk reads was written for the very same prefix.
        for position in 0..chunk.start {
            let want = digest((0..=position).map(token));
            prop_assert_eq!(
                slots.get(&slot(position)),
                Some(&want),
                "row {} reads position {}",
                chunk.id,
                position
            );
        }
        let forced = chunk.forced && !chunk.score.is_empty();
        prop_assert!(!forced || chunk.score.start > row.prompt, "row {}", chunk.id);
        let scored = scores.entry(chunk.id).or_default();
        if !chunk.score.is_empty() && !chunk.forced {
            prop_assert_eq!(chunk.score.start, *scored + 1, "scores of row {} are not in order", chunk.id);
            prop_assert!(chunk.score.start > chunk.start && chunk.score.end <= chunk.start + chunk.len + 1);
            *scored += chunk.score.len();
        }
    }
    let count = writes.len();
    writes.sort_unstable();
    writes.dedup_by_key(|w| w.0);
    prop_assert_eq!(writes.len(), count, "two positions write one slot");
    slots.extend(writes);
    Ok(())
}

/// Checks that each score that was asked for is asked for once, in order, at a position that sees what it should.
fn check_asked(
    scheduler: &Scheduler,
    limits: &Limits,
    chunks: &[Chunk],
    asked: &[Vec<(Content, usize)>],
    reported: &mut [usize],
) -> Result<(), TestCaseError> {
    prop_assert!(chunks.iter().map(|c| c.targets).sum::<usize>() <= limits.targets);
    for chunk in chunks.iter().filter(|c| !c.asked.is_empty()) {
        let (id, sequence) = (chunk.id as usize, &scheduler.running()[chunk.index]);
        prop_assert_eq!(chunk.asked.start, reported[id], "scores of row {} are not in order", id);
        reported[id] = chunk.asked.end;
        let mut targets = 0;
        let walk = sequence.walk.as_ref().unwrap();
        for (score, want) in walk.scores(chunk.asked.clone()).iter().zip(&asked[id][chunk.asked.clone()]) {
            prop_assert!((chunk.start..chunk.start + chunk.len).contains(&score.position), "row {id}");
            let sees = digest(sequence.tokens[..=score.position].iter().copied());
            prop_assert_eq!((sees, score.targets.len()), *want, "row {}, position {}", id, score.position);
            targets += score.targets.len();
        }
        prop_assert_eq!(targets, chunk.targets, "targets of row {}", id);
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_page_leaks_no_row_starves_and_every_read_is_of_its_own_prefix(scenario in scenarios()) {
        run(&scenario)?;
    }
}

#[test]
fn a_request_that_can_never_be_served_is_refused() {
    let limits = Limits {
        seqs: 4,
        tokens: 8,
        outputs: 4,
        adjustments: 100,
        targets: MAX_TARGETS,
        page_size: 4,
        max_len: 32,
        prefix_caching: true,
        late_masks: true,
    };
    let mut scheduler = Scheduler::new(limits, 6);
    let refuse = |s: &mut Scheduler, prompt, answer| {
        let row =
            Row { prompt, answer, family: 0, history: false, scored: false, forced: false, branches: None };
        s.add(request(0, row)).unwrap_err()
    };
    let score = |position, targets| vec![Score { position, targets: vec![1; targets] }];
    let scored = |prompt: usize, targets, tokens: usize| {
        let branch = Branch { from: 1, tokens: vec![1; tokens], scores: score(tokens, 1) };
        Request::score(
            0,
            vec![1; prompt],
            Scores { prompt: score(prompt - 1, targets), branches: vec![branch] },
        )
    };
    assert!(refuse(&mut scheduler, 32, 1).contains("leaves no room"));
    assert!(refuse(&mut scheduler, 20, 12).contains("need 8 KV pages; there are 6"));
    let mut refuse = |request| scheduler.add(request).unwrap_err();
    assert!(refuse(scored(8, 1, 32)).contains("33 with its longest continuation; max_model_len is 32"));
    assert!(refuse(scored(25, 1, 1)).contains("need 7 KV pages; there are 6"));
    assert!(refuse(scored(8, MAX_TARGETS + 1, 1)).contains("13 targets at one position; at most 12 fit"));
}
