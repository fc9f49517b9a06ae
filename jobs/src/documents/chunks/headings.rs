//! Headings of Markdown at the end of a text.

/// Where the headings begin, with the blank lines between them, that a text ends with; none if it ends with another line.
pub fn at_end(text: &str) -> Option<usize> {
    let (mut found, mut end) = (None, text.len());
    for line in text.split_inclusive('\n').rev() {
        end -= line.len();
        match line.trim() {
            "" => {}
            line if is_heading(line) => found = Some(end),
            _ => break,
        }
    }
    found
}

/// Whether a line without the space around it is a heading: up to six `#`, and a space or nothing behind them.
fn is_heading(line: &str) -> bool {
    let rest = line.trim_start_matches('#');
    (1..=6).contains(&(line.len() - rest.len())) && (rest.is_empty() || rest.starts_with([' ', '\t']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headings_at_the_end_are_found() {
        for (text, from) in [
            ("# A", Some(0)),
            ("Text.\n\n## A b\n\n", Some(7)),
            ("Text.\n# A\n\n## B\n", Some(6)),
            ("# A\n\nText.\n", None),
            ("\n\n", None),
            ("#tag\n", None),
            ("####### a\n", None),
            ("", None),
        ] {
            assert_eq!(at_end(text), from, "{text:?}");
        }
    }
}
