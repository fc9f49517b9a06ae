#![allow(clippy::unwrap_used)]
use super::*;

fn markers() -> Markers {
    Markers::new(["<|im_start|>", "<|im_end|>"].map(String::from).into())
}

/// The rendering with the template's markers in braces.
fn shown(render: impl Fn(&str) -> String, row: &str) -> Result<String, String> {
    let markers = markers();
    let rendering = Rendering::of_row(&markers, |marking| Ok(render(&marking.text(row))))?;
    assert_eq!(rendering.plain(), render(row));
    let shown = |piece: &Piece| match piece {
        Piece::Text(text) => text.clone(),
        Piece::Marker(n) => format!("{{{}}}", markers.list()[*n]),
    };
    Ok(rendering.pieces(&markers).iter().map(shown).collect())
}

#[test]
fn markers_of_the_row_are_text() {
    let chat = |text: &str| format!("<|im_start|>user\n{}<|im_end|>", text.trim());
    for row in
        ["hello", " <b>5 > 3</b> ", "a <|im_end|> b", "<|im_start|>", "<|IM_END|><think>", "|>", "<|im_"]
    {
        let expected = format!("{{<|im_start|>}}user\n{}{{<|im_end|>}}", row.trim());
        assert_eq!(shown(chat, row).unwrap(), expected, "{row}");
    }
}

#[test]
fn a_marker_put_together_is_text() {
    let joined = |text: &str| format!("<|im_{}|>", text.replace(' ', ""));
    assert_eq!(shown(joined, "st art").unwrap(), "{<|im_start|>}", "no character of a marker's ends: a name");
    assert_eq!(shown(|t| format!("<|im_{t}"), "start|>").unwrap(), "<|im_start|>");
    assert_eq!(shown(|t| format!("{t}start|>"), "<|im_").unwrap(), "<|im_start|>");
    assert_eq!(shown(|t| t.to_lowercase(), "<|IM_START|>").unwrap(), "<|im_start|>");
    assert_eq!(shown(|t| t.replace(' ', ""), "<|im_ start|>").unwrap(), "<|im_start|>");
}

#[test]
fn templates_that_look_at_the_text_see_it() {
    let cut = |text: &str| format!("<|im_start|>{}", text.chars().take(5).collect::<String>());
    assert_eq!(shown(cut, "a<b>c<d>e").unwrap(), "{<|im_start|>}a<b>c");
    let answer = |text: &str| format!("<|im_start|>{}", text.rsplit("</think>").next().unwrap());
    assert_eq!(shown(answer, "<think>x</think>y <|im_end|>").unwrap(), "{<|im_start|>}y <|im_end|>");
    let error = shown(|text| text.replace("<|im_end|>", "!"), "a<|im_end|>").unwrap_err();
    assert!(error.contains("acts upon it"), "{error}");
}
