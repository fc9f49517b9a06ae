//! Templates: minijinja set up to render what Jinja2 renders in transformers, within bounds.
//!
//! A template can read nothing and include nothing. Fuel bounds its time and memory (minijinja charges a
//! unit for each instruction and for every 64 bytes that it makes, [`bounds`] for walking through values), and its parser
//! and [`depth`] bound its depth.

mod bounds;
mod depth;
mod filters;
pub mod names;
mod nulls;
mod rewrite;
mod syntax;
mod tojson;

use crate::date::strftime;
use crate::error::JobError;
use depth::refuse_depth;
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use names::{Kind, Names};
use rewrite::rewritten;
use std::collections::BTreeSet;
use std::fmt::Write as _;
use tojson::tojson;

/// A larger source of a template is refused.
pub const SOURCE_BYTES: usize = 1 << 20;

/// Fuel of one rendering, besides what the row's own text costs.
const FUEL: u64 = 400_000;

/// Bytes of a rendering, besides eight times the row's own text; a larger one is refused.
const OUTPUT_BYTES: usize = 8 << 20;

/// How deep macros and recursive loops may call one another.
const RECURSION: usize = 100;

/// What errors begin with that quote the template and nothing else.
const OWN_WORDS: [&str; 12] = [
    "invalid operation: makes a list",
    "invalid operation: a namespace",
    "column `",
    "a null",
    "undefined value",
    "takes too long",
    "makes ",
    "unknown method",
    "unknown function",
    "template not found",
    "missing argument",
    "too many arguments",
];

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    what: String,
    /// As it was given, for messages.
    source: String,
    names: Names,
    /// Whether what is undefined or null is an error where it becomes text.
    strict: bool,
}

impl Template {
    /// Compiles a chat template, by Jinja's rules: what is undefined is empty, and null is `None`. `what` names it
    /// in messages, such as `--chat-template`; `now` is the time that `strftime_now` shows, in seconds since 1970, UTC.
    ///
    /// # Errors
    /// [`JobError::Template`] with the line and the reason.
    pub fn new(what: &str, source: &str, now: i64) -> Result<Template, JobError> {
        Template::compile(what, source, now, false)
    }

    /// Compiles the template of a prompt: what is undefined or null is an error where it becomes text.
    ///
    /// # Errors
    /// As [`Template::new`].
    pub fn prompt(what: &str, source: &str, now: i64) -> Result<Template, JobError> {
        Template::compile(what, source, now, true)
    }

    fn compile(what: &str, source: &str, now: i64, strict: bool) -> Result<Template, JobError> {
        let fail = |why: String| JobError::Template { what: what.into(), why };
        if source.len() > SOURCE_BYTES {
            return Err(fail(format!("is {} bytes long; at most {SOURCE_BYTES} are accepted", source.len())));
        }
        // As Jinja2 reads it.
        let given = source.replace("\r\n", "\n").replace('\r', "\n");
        let source = without_generation_tags(&given);
        // Parsing and compiling recurse; the stack of a thread of our own holds any depth the parser allows.
        let compiled = std::thread::scope(|scope| {
            std::thread::Builder::new()
                .stack_size(16 << 20)
                .spawn_scoped(scope, move || compile(&source, now, strict).map_err(|e| explain(&e)))
                .map(|thread| thread.join())
        });
        let (environment, names) = match compiled {
            Ok(Ok(Ok(compiled))) => compiled,
            Ok(Ok(Err(why))) => return Err(fail(why)),
            // Too little memory, or too many threads; the template is not to blame.
            Err(error) => return Err(JobError::io("start a thread for", what)(error)),
            Ok(Err(_)) => return Err(fail("the template engine gave up on it; simplify it".into())),
        };
        let template = Template { environment, what: what.into(), source: given, names, strict };
        template.check_filters_and_tests()?;
        Ok(template)
    }

    /// Checks that all filters and tests exist.
    fn check_filters_and_tests(&self) -> Result<(), JobError> {
        let state = self.environment.empty_state();
        let known = |name: &str, line: usize, what: &str, known: bool| {
            let why = format!("there is no {what} `{name}` (line {line})");
            if known { Ok(()) } else { Err(JobError::Template { what: self.what.clone(), why }) }
        };
        for (name, line) in &self.names.filters {
            known(name, *line, "filter", minijinja::tests::is_filter(&state, name))?;
        }
        for (name, line) in &self.names.tests {
            known(name, *line, "test", minijinja::tests::is_test(&state, name))?;
        }
        Ok(())
    }

    /// Whether it may show the date.
    pub fn shows_date(&self) -> bool {
        let shows = |kind| kind == Kind::Call || (kind == Kind::Value && !self.strict);
        self.names.uses.iter().any(|used| used.name == "strftime_now" && shows(used.kind))
    }

    /// What messages call it.
    pub fn what(&self) -> &str {
        &self.what
    }

    /// The names that the template uses.
    pub fn names(&self) -> &Names {
        &self.names
    }

    /// Whether a name is that of a function which every template can call.
    pub fn is_function(&self, name: &str) -> bool {
        self.environment.globals().any(|(function, _)| function == name)
    }

    /// The names that the template takes from its context, sorted.
    pub fn variables(&self) -> BTreeSet<String> {
        let free =
            self.names.uses.iter().filter(|used| matches!(used.kind, Kind::Value | Kind::Call | Kind::Row));
        free.map(|used| used.name.clone()).filter(|name| !self.is_function(name)).collect()
    }

    /// Renders. `row_bytes` is the size of the text in the context, which pays for itself.
    ///
    /// # Errors
    /// What the template says or does wrong, with its line.
    pub fn render(&self, context: Value, row_bytes: usize) -> Result<String, String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + row_bytes as u64));
        let fail = |error: &Error| format!("{}: {}", self.what, self.explain(error, &context));
        let template = environment.get_template("template").map_err(|e| fail(&e))?;
        let text = template.render(context.clone()).map_err(|e| fail(&e))?;
        if text.len() > OUTPUT_BYTES + 8 * row_bytes {
            return Err(format!(
                "{}: makes {} bytes; at most {OUTPUT_BYTES} are taken",
                self.what,
                text.len()
            ));
        }
        Ok(text)
    }

    /// The line of the template in which an error is.
    fn shown(&self, error: &Error) -> Option<String> {
        let line = self.source.lines().nth(error.line()?.checked_sub(1)?)?.trim();
        let short: String = line.chars().take(80).collect();
        Some(if short.len() < line.len() { format!("{short}...") } else { short })
    }

    /// An error of [`Template::render`] as logs and the screen may show it, without text of the row; `None` if it is
    /// of another template.
    pub fn without_row_text(&self, error: &str) -> Option<String> {
        let why = error.strip_prefix(&self.what)?.strip_prefix(": ")?;
        if OWN_WORDS.iter().any(|words| why.starts_with(words)) {
            return Some(why.into());
        }
        let (kind, said) = why.split_once(": ").unwrap_or((why, ""));
        let (said, line) = said.rsplit_once(" (line ").unwrap_or((said, ""));
        let source = self.environment.get_template("template");
        if source.is_ok_and(|template| template.source().contains(said))
            || is_of_operands(said)
            || is_of_loops(said)
        {
            return Some(why.into());
        }
        let line: String = line.chars().take_while(char::is_ascii_digit).collect();
        Some(format!(
            "{kind} in line {line}; its text may quote the row, and only --log-level debug shows it"
        ))
    }

    /// What went wrong, with the line and, in the template of a prompt, with the nulls that it is about.
    fn explain(&self, error: &Error, context: &Value) -> String {
        if !self.strict {
            return explain(error);
        }
        let reads = error.range().map(|range| self.names.at(&range)).unwrap_or_default();
        let columns = reads.iter().filter_map(|name| Some((name, context.get_attr(name).ok()?)));
        let (nulls, others): (Vec<_>, Vec<_>) =
            columns.filter(|(_, value)| !value.is_undefined()).partition(|(_, value)| value.is_none());
        let listed = |columns: &[(&String, Value)]| {
            let names: Vec<String> = columns.iter().map(|(name, _)| format!("`{name}`")).collect();
            names.join(", ")
        };
        let is_null = error.detail() == Some(nulls::NULL);
        if !is_null {
            let mut text = explain(error);
            let undefined = error.kind() == ErrorKind::UndefinedError;
            if undefined
                && nulls.is_empty()
                && let Some(shown) = self.shown(error)
            {
                let _ =
                    write!(text, " in {shown}; say what to write instead, as in {{{{ x.y | default('') }}}}");
            }
            if error.detail().is_some_and(is_of_loops)
                && let Some(shown) = self.shown(error)
            {
                let _ = write!(text, " in {shown}; loop over a list, or test it with `is iterable`");
            }
            let about_null = undefined || error.detail().is_some_and(|detail| detail.contains("none"));
            if !nulls.is_empty() && about_null {
                let _ = write!(text, "; column {} is null in this row", listed(&nulls));
            }
            return text;
        }
        let mut text = match (nulls.as_slice(), others.as_slice()) {
            ([], []) => "a null would become text".to_string(),
            ([], others) => format!("a null in column {} would become text", listed(others)),
            (nulls, _) => format!("column {} is null in this row", listed(nulls)),
        };
        if let Some(line) = error.line() {
            let _ = write!(text, " (line {line})");
        }
        text + "; say what to write instead, as in {{ x | default('', true) }}, or test it with `is not none`"
    }
}

/// What went wrong, with the line.
fn explain(error: &Error) -> String {
    let mut text = match (error.kind(), error.detail()) {
        (ErrorKind::OutOfFuel, _) => "takes too long or makes too much".to_string(),
        (kind, Some(detail)) => format!("{kind}: {detail}"),
        (kind, None) => kind.to_string(),
    };
    if let Some(line) = error.line() {
        let _ = write!(text, " (line {line})");
    }
    if error
        .detail()
        .is_some_and(|detail| detail.starts_with("tried to use % operator on unsupported types string"))
    {
        text +=
            "; `%` formats text only where a literal stands on its left: write '...' | format(x) or x ~ y";
    }
    text
}

/// Whether a text is that of an operator which does not take the types of its operands.
fn is_of_operands(said: &str) -> bool {
    const WORDS: &str = "tried to use operator on unsupported types and string number none bool sequence map iterable \
                         undefined plain + - * / // % **";
    said.starts_with("tried to use ")
        && said.split(' ').all(|word| WORDS.split(' ').any(|known| known == word))
}

/// Whether a text is that of a loop over what is no list, which names the value's type alone.
fn is_of_loops(said: &str) -> bool {
    const KINDS: [&str; 7] = ["number", "bool", "none", "bytes", "string", "plain object", "object"];
    said.strip_suffix(" is not iterable").is_some_and(|kind| KINDS.contains(&kind))
}

/// The environment with the compiled template, and the template's names.
fn compile(source: &str, now: i64, strict: bool) -> Result<(Environment<'static>, Names), Error> {
    // As transformers sets Jinja2 up.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    let mut environment = environment(now);
    environment.set_syntax(syntax.clone());
    if strict {
        nulls::refuse(&mut environment);
    }
    refuse_depth(source, syntax.clone())?;
    let source = rewritten(source, syntax.clone(), strict)?;
    let names = Names::of(&parse(&source, "template", syntax)?, &source);
    environment.add_template_owned("template", source)?;
    Ok((environment, names))
}

fn environment(now: i64) -> Environment<'static> {
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(false);
    environment.set_recursion_limit(RECURSION);
    bounds::add(&mut environment);
    filters::add(&mut environment);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        strftime(&format, now).map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
    });
    environment
}

/// Removes `{% generation %}` and `{% endgeneration %}`, which mark spans for training only.
fn without_generation_tags(source: &str) -> String {
    let mut out = String::with_capacity(source.len());
    let mut rest = source;
    while let Some(open) = rest.find("{%") {
        let Some(close) = rest[open + 2..].find("%}").map(|at| open + at + 4) else { break };
        let inside = rest[open + 2..close - 2].trim_matches(['-', '+']).trim();
        if matches!(inside, "generation" | "endgeneration") {
            let (left, right) = (rest[open + 2..].starts_with('-'), rest[..close - 2].ends_with('-'));
            // A comment keeps the whitespace control of the tag that it stands for.
            out += &rest[..open];
            out += if left { "{#-" } else { "{#" };
            out += if right { "-#}" } else { "#}" };
            rest = &rest[close..];
        } else {
            // What looks like the beginning of a tag may be part of a string.
            out += &rest[..open + 2];
            rest = &rest[open + 2..];
        }
    }
    out + rest
}

#[cfg(test)]
mod tests;
