//! Templates: minijinja set up to render what Jinja2 renders in transformers, within bounds.
//!
//! A template can read nothing and include nothing. Fuel bounds its time and memory (minijinja charges a
//! unit for each instruction and for every 64 bytes that it makes), and its parser bounds its depth.

mod tojson;

use crate::date::strftime;
use crate::error::JobError;
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use std::collections::BTreeSet;
use tojson::tojson;

/// A larger source of a template is refused.
const SOURCE_BYTES: usize = 1 << 20;

/// Fuel of one rendering, besides what the row's own text costs.
const FUEL: u64 = 400_000;

/// Bytes of a rendering, besides eight times the row's own text; a larger one is refused.
const OUTPUT_BYTES: usize = 8 << 20;

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    what: String,
    shows_date: bool,
}

impl Template {
    /// Compiles a template. `what` names it in messages, such as `--prompt`; `now` is the time that `strftime_now` shows,
    /// in seconds since 1970, UTC.
    ///
    /// # Errors
    /// [`JobError::Template`] with the line and the reason.
    pub fn new(what: &str, source: &str, now: i64) -> Result<Template, JobError> {
        let fail = |why: String| JobError::Template { what: what.into(), why };
        if source.len() > SOURCE_BYTES {
            return Err(fail(format!("is {} bytes long; at most {SOURCE_BYTES} are accepted", source.len())));
        }
        let shows_date = source.contains("strftime_now");
        let source = without_generation_tags(source);
        let mut environment = environment(now).map_err(|e| fail(explain(&e)))?;
        // Parsing and compiling recurse; the stack of a thread of our own holds any depth the parser allows.
        let compiled = std::thread::scope(|scope| {
            let add = || environment.add_template_owned("template", source).map_err(|e| explain(&e));
            std::thread::Builder::new()
                .stack_size(16 << 20)
                .spawn_scoped(scope, add)
                .map(|thread| thread.join())
        });
        match compiled {
            Ok(Ok(Ok(()))) => Ok(Template { environment, what: what.into(), shows_date }),
            Ok(Ok(Err(why))) => Err(fail(why)),
            _ => Err(fail("the template engine gave up on it; simplify it".into())),
        }
    }

    /// Whether it may show the date.
    pub fn shows_date(&self) -> bool {
        self.shows_date
    }

    /// The names that the template takes from its context, sorted.
    pub fn variables(&self) -> BTreeSet<String> {
        let Ok(template) = self.environment.get_template("template") else { return BTreeSet::new() };
        let known: BTreeSet<&str> = self.environment.globals().map(|(name, _)| name).collect();
        let names = template.undeclared_variables(false).into_iter();
        names.filter(|name| !known.contains(name.as_str())).collect()
    }

    /// Renders. `row_bytes` is the size of the text in the context, which pays for itself.
    ///
    /// # Errors
    /// What the template says or does wrong, with its line.
    pub fn render(&self, context: Value, row_bytes: usize) -> Result<String, String> {
        let mut environment = self.environment.clone();
        environment.set_fuel(Some(FUEL + row_bytes as u64));
        let fail = |error: &Error| format!("{}: {}", self.what, explain(error));
        let template = environment.get_template("template").map_err(|e| fail(&e))?;
        let text = template.render(context).map_err(|e| fail(&e))?;
        if text.len() > OUTPUT_BYTES + 8 * row_bytes {
            return Err(format!(
                "{}: makes {} bytes; at most {OUTPUT_BYTES} are accepted",
                self.what,
                text.len()
            ));
        }
        Ok(text)
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
        text += &format!(" (line {line})");
    }
    text
}

fn environment(now: i64) -> Result<Environment<'static>, Error> {
    let mut environment = Environment::new();
    // As transformers sets Jinja2 up.
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build()?;
    environment.set_syntax(syntax);
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_debug(false);
    environment.set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
    environment.add_filter("tojson", tojson);
    environment.add_function("raise_exception", |message: String| -> Result<Value, Error> {
        Err(Error::new(ErrorKind::InvalidOperation, message))
    });
    environment.add_function("strftime_now", move |format: String| {
        strftime(&format, now).map_err(|why| Error::new(ErrorKind::InvalidOperation, why))
    });
    Ok(environment)
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
