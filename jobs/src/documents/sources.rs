//! The sentences of a text that notes rest on: those that have words in common with them.

use std::collections::HashSet;

/// Characters of a word that says something, at least.
const WORD: usize = 4;

/// The sentences of a text that share words with notes, the ones with most of them first.
pub fn sources<'a>(text: &'a str, notes: &[&str]) -> Vec<&'a str> {
    let said: HashSet<String> = notes.iter().flat_map(|note| words(note)).collect();
    let mut found: Vec<(usize, &str)> = sentences(text)
        .map(|sentence| (words(sentence).collect::<HashSet<_>>().intersection(&said).count(), sentence))
        .filter(|(shared, _)| *shared > 0)
        .collect();
    // Stable: of equals, the first of the text.
    found.sort_by_key(|(shared, _)| std::cmp::Reverse(*shared));
    let mut seen = HashSet::new();
    found.into_iter().map(|(_, sentence)| sentence).filter(|sentence| seen.insert(*sentence)).collect()
}

fn words(text: &str) -> impl Iterator<Item = String> {
    text.split(|c: char| !c.is_alphanumeric())
        .filter(|word| word.chars().nth(WORD - 1).is_some() || word.contains(char::is_numeric))
        .map(str::to_lowercase)
}

/// The sentences of a text, without the space around them.
fn sentences(text: &str) -> impl Iterator<Item = &str> {
    let mut before = ' ';
    let ends = text.split_inclusive(move |c: char| {
        let end = c == '\n' || (c.is_whitespace() && matches!(before, '.' | '!' | '?' | '。' | '！' | '？'));
        before = c;
        end
    });
    ends.map(str::trim).filter(|sentence| !sentence.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_with_the_words_of_notes_come_first() {
        let text =
            "Thanks for all. The parcel 1234 was late!  It rained.\nI want my money for parcel 1234, please.";
        let found = sources(text, &["Parcel 1234 came late, and the customer wants the money."]);
        assert_eq!(found, ["The parcel 1234 was late!", "I want my money for parcel 1234, please."]);
        assert!(sources(text, &[]).is_empty() && sources("", &["parcel"]).is_empty());
    }
}
