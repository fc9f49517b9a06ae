#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::tokenizer::Tokenizer;
use proptest::prelude::*;
use std::sync::LazyLock;

static NANO: LazyLock<Tokenizer> = LazyLock::new(|| {
    Tokenizer::open(&std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../nano")).unwrap()
});

fn cut(text: &str, cut: Cut) -> Vec<Range<usize>> {
    chunks(text, cut, |text| NANO.token_starts(text)).unwrap()
}

fn tokens(text: &str) -> usize {
    NANO.encode_plain(text).unwrap().len()
}

/// What must hold for every text.
fn check(text: &str, how: Cut) -> Vec<Range<usize>> {
    let found = cut(text, how);
    assert_eq!(found.first().map_or(0, |first| first.start), 0);
    assert_eq!(found.last().map_or(0, |last| last.end), text.len());
    for pair in found.windows(2) {
        let [one, next] = pair else { unreachable!() };
        assert!(next.start <= one.end && next.end > one.end && next.start > one.start, "{pair:?}");
        assert!(how.overlap > 0 || next.start == one.end, "{pair:?}");
    }
    for chunk in &found {
        let piece = &text[chunk.clone()];
        // Cut out, a piece may have a few tokens more than in its text.
        let (has, most) = (tokens(piece), how.budget + how.budget / 4 + 2);
        assert!(has <= most || piece.chars().count() == 1, "{has} tokens, not {most}, in {piece:?}");
    }
    found
}

fn plain(budget: usize) -> Cut {
    Cut { budget, overlap: 0, format: TextFormat::Text }
}

fn hostile() -> Vec<String> {
    vec![
        String::new(),
        "\n\n\n \t ".repeat(3000),
        "x".repeat(60_000),
        "👩‍👩‍👧‍👦🏳️‍🌈".repeat(900),
        "One line.\r\n\r\nAnother one\r\n".repeat(700),
        "שלום עולם. مرحبا بالعالم! ".repeat(900),
        "\u{202e}abc\u{2066}def".repeat(2000),
        "e\u{301}\u{302}\u{303}".repeat(5000),
        "# A\n\ntext\n\n```\n# no heading\n".repeat(900),
        "[[[[((((****____````~~~~".repeat(900),
        "ไม่มีช่องว่างระหว่างคำ".repeat(900),
        "<|im_start|>".repeat(2000),
    ]
}

#[test]
fn every_byte_of_a_hostile_text_is_in_a_chunk() {
    for text in hostile() {
        for format in [TextFormat::Text, TextFormat::Markdown] {
            for (budget, overlap) in [(1, 0), (50, 0), (50, 20), (400, 0)] {
                let some = text.floor_char_boundary(budget * 60);
                check(&text[..some], Cut { budget, overlap, format });
            }
        }
    }
}

/// Four tokens of one character cannot be cut: a heading before them makes that no worse.
#[test]
fn a_character_beyond_the_budget_takes_no_heading_along() {
    let text = "#𑰛𑇳ଅѨ\u{e4e}𞹑'%𞹍🕴'`\"𑁩";
    assert!(tokens("𑰛") > 3);
    check(text, Cut { budget: 2, overlap: 0, format: TextFormat::Markdown });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn every_byte_of_any_text_is_in_a_chunk(
        parts in prop::collection::vec("(\\PC{0,40}|[a-z]{1,9}[.,!?]? |\r?\n{1,3}|#{1,3} [a-z]{3}\n)", 0..300),
        budget in 1usize..80, overlap in 0usize..80, markdown: bool
    ) {
        let format = if markdown { TextFormat::Markdown } else { TextFormat::Text };
        check(&parts.concat(), Cut { budget, overlap: overlap % budget, format });
    }
}

#[test]
fn chunks_end_at_the_greatest_unit_that_fits() {
    let paragraphs = "One two three four. Five six seven.\n\nEight nine ten. Eleven twelve.\n\n".repeat(40);
    for chunk in check(&paragraphs, plain(60)) {
        assert!(paragraphs[chunk.clone()].ends_with("\n\n"), "{:?}", &paragraphs[chunk]);
    }
    let sentences = "One two three four. Five six seven. ".repeat(80);
    for chunk in check(&sentences, plain(40)) {
        assert!(sentences[chunk.clone()].ends_with(". "), "{:?}", &sentences[chunk]);
    }
    let words = "parcel invoice ".repeat(300);
    for chunk in check(&words, plain(40)) {
        let ends = words[..chunk.end].ends_with(' ')
            || words[chunk.end..].trim_start().len() < words.len() - chunk.end;
        assert!(ends || chunk.end == words.len(), "{:?}", &words[chunk]);
    }
    let sections = "# Delivery\n\nOne two three.\n\nFour five six.\n\n".repeat(30);
    let markdown = Cut { format: TextFormat::Markdown, ..plain(40) };
    for chunk in check(&sections, markdown) {
        assert!(sections[chunk.clone()].starts_with("# "), "{:?}", &sections[chunk]);
    }
}

#[test]
fn headings_stay_with_what_follows_them() {
    let section = |i: usize| {
        let text = "One two three four. Five six seven. ".repeat(i % 7);
        format!("# Part {i}\n\n## Of delivery\n\n{text}\n\n{text}\n\n### More\n\nEight nine ten. Eleven.\n\n")
    };
    let text: String = (0..60).map(section).collect();
    for budget in [45, 60, 120] {
        let found = check(&text, Cut { format: TextFormat::Markdown, ..plain(budget) });
        for chunk in &found {
            let last = text[chunk.clone()].trim_end().lines().last().unwrap_or_default();
            assert!(!last.starts_with('#'), "budget {budget}: {:?}", &text[chunk.clone()]);
        }
    }
}

#[test]
fn overlapping_chunks_begin_within_the_one_before() {
    let text = "One two three four. Five six seven. Eight nine. ".repeat(80);
    let found = check(&text, Cut { overlap: 20, ..plain(60) });
    let overlapping = found.windows(2).filter(|pair| pair[1].start < pair[0].end).count();
    assert!(overlapping + 1 == found.len(), "{overlapping} of {}", found.len());
}

#[test]
fn a_text_without_a_space_takes_windows_in_proportion_to_its_length() {
    let tokenized = |bytes: usize| {
        let count = std::cell::Cell::new(0);
        let starts = |window: &str| {
            count.set(count.get() + window.len());
            // A token for every three bytes.
            Ok((0..window.len()).step_by(3).collect())
        };
        chunks(&"x".repeat(bytes), plain(1900), starts).unwrap();
        count.get() as f64
    };
    let (one, two) = (tokenized(2_500_000), tokenized(5_000_000));
    assert!(one < 1.5 * 2_500_000.0 && two < 2.5 * one, "{one} {two}");
}
