//! What a store has said, without the XML or HTML around it.

/// Characters of what a store has said that are shown, at most.
const SHOWN: usize = 400;

/// What a store has said, on one line: of a body of XML or HTML, its code and message, or its title.
pub(super) fn without_markup(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let body = ["<?xml", "<!doctype", "<html", "<error"].iter().filter_map(|begin| lower.find(begin)).min();
    let (before, body) = text.split_at(body.unwrap_or(text.len()));
    let element = |name: &str| {
        let at = body.len() - body.to_ascii_lowercase().split_once(&format!("<{name}>"))?.1.len();
        let inside = body[at..].split('<').next()?.trim();
        // As a title often says again what the line of status has said.
        (!inside.is_empty() && !before.contains(inside)).then_some(inside)
    };
    let said = [element("code"), element("message"), element("title")];
    let said = said.into_iter().flatten().collect::<Vec<_>>().join(": ");
    let before = before.trim_end_matches([' ', ':', '\n']);
    let line = if said.is_empty() { before.to_string() } else { format!("{before}: {said}") };
    let mut line: String = line.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push_str("...");
    }
    line.replace(char::is_control, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_answers_are_cut_to_what_they_say() {
        let status =
            "Error performing GET http://127.0.0.1:9/mill/a in 2ms - Server returned non-2xx status code:";
        let html = format!(
            "{status} 500 Internal Server Error: <!doctype html>\n<html lang=en>\n<title>500 Internal Server Error</title>\n\
             <h1>Internal Server Error</h1>\n<p>The server encountered an internal error.</p>\n"
        );
        assert_eq!(without_markup(&html), format!("{status} 500 Internal Server Error"));
        let html =
            format!("{status} 502: <HTML><head><TITLE>nginx is out</TITLE></head><body>x</body></HTML>");
        assert_eq!(without_markup(&html), format!("{status} 502: nginx is out"));
        let xml = format!(
            "{status} 501 Not Implemented: <?xml version=\"1.0\"?>\n<Error><Code>NotImplemented</Code>\n<Message>No\n such \
             header</Message><HostId>x</HostId></Error>"
        );
        assert_eq!(
            without_markup(&xml),
            format!("{status} 501 Not Implemented: NotImplemented: No such header")
        );
        assert_eq!(without_markup("a\u{1b}[31m timeout\n"), "a[31m timeout");
        assert_eq!(without_markup(&"x".repeat(10_000)).len(), SHOWN + 3);
        assert_eq!(without_markup("<html"), "");
    }
}
