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
