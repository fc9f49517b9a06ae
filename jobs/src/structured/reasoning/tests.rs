#![allow(clippy::unwrap_used)]
use super::*;
use crate::prompt::tokenizer::tests::byte_level;
use crate::structured::StructuredOutputs;
use crate::structured::constraint::Structure;
use engine::constraint::Constraint;

fn tokens_of(mask: &[u32]) -> Vec<u32> {
    (0..mask.len() as u32 * 32).filter(|t| mask[*t as usize / 32] >> (t % 32) & 1 == 1).collect()
}

#[test]
fn the_structure_begins_behind_the_reasoning() {
    let tokenizer = Arc::new(byte_level());
    let size = (0..).find(|&id| tokenizer.written_form(id).is_none()).unwrap() as usize;
    let id = |text: &str| tokenizer.id(text).unwrap();
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, size, &[id("<|im_end|>")]).unwrap());
    let structure = Structure::compile(&StructuredOutputs::Regex("a+b".into()), &vocabulary).unwrap();
    // `</think>` is a token, and may be spelt with others; `.` is a part of none.
    for (end, said) in [
        ("</think>", vec![id("h"), id("</think>")]),
        ("</think>", ["<", "/", "t", "h", "i", "n", "k", ">"].map(id).to_vec()),
        ("haa", ["h", "h", "aa"].map(id).to_vec()),
        ("<|im_start|>", vec![id("a"), id("<|im_start|>")]),
    ] {
        let reasoning = Reasoning::new(end, &vocabulary).unwrap();
        let mut matcher = structure.clone().after(reasoning.clone()).matcher();
        for &token in &said {
            let mut mask = vec![0; size.div_ceil(32)];
            matcher.fill_mask(&mut mask).unwrap();
            let allowed = tokens_of(&mask);
            assert!(allowed.contains(&token) && allowed.contains(&id("<|im_end|>")), "{end}: {token}");
            assert!(matcher.forced().is_empty() && !matcher.is_ended());
            matcher.accept(token);
        }
        let mut mask = vec![0; size.div_ceil(32)];
        matcher.fill_mask(&mut mask).unwrap();
        assert!(
            tokens_of(&mask).iter().all(|&t| tokenizer.decode(&[t], true).unwrap().starts_with('a')),
            "{end}"
        );
        let answer = [said.clone(), vec![id("aa"), id("b")]].concat();
        assert_eq!(reasoning.len(&answer), Some(said.len()));
        let (text, ended) = reasoning.join(&answer, true).unwrap();
        assert!(ended && text.ends_with(&format!("{end}aab")), "{text}");
        assert_eq!(reasoning.len(&said[..said.len() - 1]), None);
    }
    // A token that would end the reasoning and go on is not allowed.
    let mut matcher = structure.clone().after(Reasoning::new("ha", &vocabulary).unwrap()).matcher();
    matcher.accept(id("h"));
    let mut mask = vec![0; size.div_ceil(32)];
    matcher.fill_mask(&mut mask).unwrap();
    let allowed = tokens_of(&mask);
    assert!(allowed.contains(&id("a")) && !allowed.contains(&id("aa")) && allowed.contains(&id("b")));
    assert!(Reasoning::new("\u{1F980}x\0", &vocabulary).is_ok());
    assert!(Reasoning::new("", &vocabulary).is_err());
    let reasoning = Reasoning::new("</think>", &vocabulary).unwrap();
    let prompt = [id("<think>"), id("Ċ"), id("</think>"), id("ĊĊ")];
    assert!(reasoning.is_closed_by(&prompt) && !reasoning.is_closed_by(&prompt[..2]));
}

#[test]
fn what_a_special_token_is_called_is_not_said() {
    let tokenizer = Arc::new(byte_level());
    let size = (0..).find(|&id| tokenizer.written_form(id).is_none()).unwrap() as usize;
    let id = |text: &str| tokenizer.id(text).unwrap();
    let (im_start, im_end) = (id("<|im_start|>"), id("<|im_end|>"));
    let vocabulary = Arc::new(Vocabulary::new(&tokenizer, size, &[im_end]).unwrap());
    let structure = Structure::compile(&StructuredOutputs::Regex("a+b".into()), &vocabulary).unwrap();
    // The first, an inner and the last part of their names, and more than their names.
    for end in ["<", "<|im_", "m_", "n", "t", "d|>", "|>", "<|im_end|>h", "h<|im_end|>"] {
        let reasoning = Reasoning::new(end, &vocabulary).unwrap();
        let mut matcher = structure.clone().after(reasoning.clone()).matcher();
        let tokens = [id("a"), im_start, im_end, id("aa"), im_end];
        for token in tokens {
            let mut mask = vec![0; size.div_ceil(32)];
            matcher.fill_mask(&mut mask).unwrap();
            assert!(tokens_of(&mask).contains(&token), "{end}: {token}");
            matcher.accept(token);
        }
        assert!(!matcher.is_ended());
        assert_eq!(reasoning.len(&tokens), None, "{end}");
        for skip in [true, false] {
            let (text, ended) = reasoning.join(&tokens, skip).unwrap();
            assert!(!ended && split(&text, end) == (text.as_str(), None), "{end}: {text}");
            assert!(text.starts_with('a') && text.contains("aa"), "{end}: {text}");
        }
    }
    // Text goes on behind a special token, as it does where special tokens are not shown.
    let reasoning = Reasoning::new("ha", &vocabulary).unwrap();
    let tokens = [id("h"), im_start, id("a"), id("aa"), id("b")];
    assert_eq!(reasoning.len(&tokens), Some(3));
    for (skip, expected) in [(true, "haaab"), (false, "h<|im_start|>ahaaab")] {
        assert_eq!(reasoning.join(&tokens, skip).unwrap(), (expected.into(), true));
    }
}

#[test]
fn a_text_is_reasoning_and_answer() {
    for (text, expected) in [
        ("so\n</think>{}", ("so\n", Some("{}"))),
        ("<think>\nso</think>a</think>b", ("\nso", Some("a</think>b"))),
        ("<think> so", (" so", None)),
        ("</think>x", ("", Some("x"))),
    ] {
        assert_eq!(split(text, "</think>"), expected);
    }
    assert_eq!(split("so END x", "END"), ("so ", Some(" x")));
}
