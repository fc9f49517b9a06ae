//! Templates: minijinja set up to render what Jinja2 renders in transformers, within bounds.
//!
//! A template can read nothing and include nothing. Fuel bounds its time and memory (minijinja charges a
//! unit for each instruction and for every 64 bytes that it makes), and its parser bounds its depth.

use crate::date::strftime;
use crate::error::JobError;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value};
use std::collections::BTreeSet;

/// The most bytes of a template's source.
const SOURCE_BYTES: usize = 1 << 20;

/// Fuel of one rendering, besides what the row's own text costs.
const FUEL: u64 = 400_000;

/// The most bytes of a rendering, besides eight times the row's own text.
const OUTPUT_BYTES: usize = 8 << 20;

/// The name under which a rendering's context holds the character that marks row text; see [`crate::prompt::literal`].
pub const MARK: &str = "__mark__";

/// A compiled template.
#[derive(Debug)]
pub struct Template {
    environment: Environment<'static>,
    what: String,
    tells_date: bool,
}

impl Template {
    /// Compiles a template. `what` names it in messages, such as `--prompt`; `now` is what `strftime_now` tells,
    /// in seconds since 1970, UTC.
    ///
    /// # Errors
    /// [`JobError::Template`] with the line and the reason.
    pub fn new(what: &str, source: &str, now: i64) -> Result<Template, JobError> {
        let fail = |why: String| JobError::Template { what: what.into(), why };
        if source.len() > SOURCE_BYTES {
            return Err(fail(format!("is {} bytes long; at most {SOURCE_BYTES} are taken", source.len())));
        }
        let tells_date = source.contains("strftime_now");
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
            Ok(Ok(Ok(()))) => Ok(Template { environment, what: what.into(), tells_date }),
            Ok(Ok(Err(why))) => Err(fail(why)),
            _ => Err(fail("the template engine gave up on it; simplify it".into())),
        }
    }

    /// Whether it may tell the date.
    pub fn tells_date(&self) -> bool {
        self.tells_date
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
                "{}: makes {} bytes; at most {OUTPUT_BYTES} are taken",
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

/// `tojson` as transformers defines it: `json.dumps(x, ensure_ascii=False, indent=None, separators=None,
/// sort_keys=False)`, nothing escaped for HTML.
fn tojson(state: &State, value: &Value, options: Kwargs) -> Result<Value, Error> {
    let indent = options.get::<Option<Value>>("indent")?;
    let ensure_ascii = options.get::<Option<bool>>("ensure_ascii")?.unwrap_or(false);
    let separators = options.get::<Option<Vec<String>>>("separators")?;
    let sort_keys = options.get::<Option<bool>>("sort_keys")?.unwrap_or(false);
    options.assert_all_used()?;
    let indent = match indent {
        Some(value) if value.kind() == ValueKind::Number => Some(" ".repeat(usize::try_from(value)?.min(16))),
        Some(value) => value.as_str().map(str::to_string),
        None => None,
    };
    let (item, key) = match separators.as_deref() {
        Some([item, key]) => (item.clone(), key.clone()),
        Some(_) => return Err(Error::new(ErrorKind::InvalidOperation, "separators are a pair of strings")),
        None => (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string()),
    };
    let mark = state.lookup(MARK).and_then(|mark| mark.as_str().and_then(|s| s.chars().next()));
    let mut json = Json { out: String::new(), indent, item, key, ensure_ascii, sort_keys, mark, state };
    json.value(value, 0)?;
    Ok(Value::from(json.out))
}

/// Writes JSON as Python's `json.dumps` does.
struct Json<'a, 't, 'e> {
    out: String,
    indent: Option<String>,
    item: String,
    key: String,
    ensure_ascii: bool,
    sort_keys: bool,
    /// Marks row text; never escaped, so that it can be found afterwards.
    mark: Option<char>,
    state: &'a State<'t, 'e>,
}

impl Json<'_, '_, '_> {
    fn value(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.state.consume_fuel(1)?;
        if depth > 64 {
            return Err(Error::new(ErrorKind::InvalidOperation, "tojson: nested deeper than 64"));
        }
        match value.kind() {
            ValueKind::Undefined | ValueKind::None => self.out += "null",
            ValueKind::Bool => self.out += if value.is_true() { "true" } else { "false" },
            ValueKind::Number => self.out += &value.to_string(),
            ValueKind::String => self.string(value.as_str().unwrap_or_default())?,
            ValueKind::Map => self.map(value, depth)?,
            ValueKind::Seq | ValueKind::Iterable => self.list(value, depth)?,
            kind => {
                let why = format!("tojson: {kind} is not JSON serializable");
                return Err(Error::new(ErrorKind::InvalidOperation, why));
            }
        }
        Ok(())
    }

    fn line(&mut self, depth: usize) -> Result<(), Error> {
        if let Some(indent) = &self.indent {
            self.state.consume_fuel((indent.len() * depth) as u64 / 64)?;
            self.out.push('\n');
            self.out += &indent.repeat(depth);
        }
        Ok(())
    }

    /// Writes a separator, which may be long.
    fn separate(&mut self, separator: fn(&Self) -> &String) -> Result<(), Error> {
        let text = separator(self).clone();
        self.state.consume_fuel(text.len() as u64 / 64)?;
        self.out += &text;
        Ok(())
    }

    fn list(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.out.push('[');
        let mut any = false;
        for item in value.try_iter()? {
            if std::mem::replace(&mut any, true) {
                self.separate(|json| &json.item)?;
            }
            self.line(depth + 1)?;
            self.value(&item, depth + 1)?;
        }
        if any {
            self.line(depth)?;
        }
        self.out.push(']');
        Ok(())
    }

    fn map(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        let mut keys: Vec<Value> = value.try_iter()?.collect();
        if self.sort_keys {
            keys.sort();
        }
        self.out.push('{');
        for (i, key) in keys.iter().enumerate() {
            if i > 0 {
                self.separate(|json| &json.item)?;
            }
            self.line(depth + 1)?;
            match key.kind() {
                ValueKind::String => self.string(key.as_str().unwrap_or_default())?,
                ValueKind::Bool => self.string(if key.is_true() { "true" } else { "false" })?,
                ValueKind::None => self.string("null")?,
                _ => self.string(&key.to_string())?,
            }
            self.separate(|json| &json.key)?;
            self.value(&value.get_item(key)?, depth + 1)?;
        }
        if !keys.is_empty() {
            self.line(depth)?;
        }
        self.out.push('}');
        Ok(())
    }

    fn string(&mut self, text: &str) -> Result<(), Error> {
        self.state.consume_fuel(text.len() as u64 / 16)?;
        self.out.push('"');
        for c in text.chars() {
            match c {
                '"' => self.out += "\\\"",
                '\\' => self.out += "\\\\",
                '\n' => self.out += "\\n",
                '\r' => self.out += "\\r",
                '\t' => self.out += "\\t",
                '\u{8}' => self.out += "\\b",
                '\u{c}' => self.out += "\\f",
                c if Some(c) == self.mark => self.out.push(c),
                c if (c as u32) < 0x20 || (self.ensure_ascii && (c as u32) > 0x7e) => {
                    for unit in c.encode_utf16(&mut [0; 2]) {
                        self.out += &format!("\\u{unit:04x}");
                    }
                }
                c => self.out.push(c),
            }
        }
        self.out.push('"');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use minijinja::context;

    fn render(source: &str, context: Value) -> Result<String, String> {
        Template::new("--prompt", source, 0).unwrap().render(context, 0)
    }

    #[test]
    fn renders_as_python_does() {
        let row =
            context! { text => "  Straße <b> ", n => 3, x => 2.0, none => (), yes => true, list => [1, 2] };
        for (source, expected) in [
            ("{{ text.strip().upper() }}", "STRASSE <B>"),
            ("{{ none }} {{ yes }} {{ x }} {{ list }} {{ missing }}", "None True 2.0 [1, 2] "),
            ("{% for i in list %}\n  {{ i }}\n{% endfor %}\n", "  1\n  2\n"),
            ("{% if yes %}\n    {% set z = 1 %}\na\n{% endif %}", "a\n"),
            ("a{% generation %}b{%- endgeneration -%} c", "abc"),
            ("{{ 'a {%} b' }}{%- generation %}c", "a {%} bc"),
            ("{{ {'b': '<ä>', 'a': [1, none]} | tojson }}", r#"{"b": "<ä>", "a": [1, null]}"#),
            (
                "{{ {'b': 'ä😀', 'a': {}} | tojson(ensure_ascii=true) }}",
                r#"{"b": "\u00e4\ud83d\ude00", "a": {}}"#,
            ),
            ("{{ {'b': [1, []]} | tojson(indent=2) }}", "{\n  \"b\": [\n    1,\n    []\n  ]\n}"),
            ("{{ [1, 2] | tojson(separators=(',', ':')) }}", "[1,2]"),
            (
                "{% set ns = namespace(n=0) %}{% for i in list %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}",
                "3",
            ),
            (
                "{% for i in list %}{% if loop.first %}{% continue %}{% endif %}{{ i }}{% break %}{% endfor %}",
                "2",
            ),
        ] {
            assert_eq!(render(source, row.clone()).unwrap(), expected, "{source}");
        }
    }

    #[test]
    fn a_template_can_refuse_a_row() {
        let error = render("\n{{ raise_exception('no system role') }}", context! {}).unwrap_err();
        assert_eq!(error, "--prompt: invalid operation: no system role (line 2)");
    }

    #[test]
    fn bounds_hold() {
        for source in [
            "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
            "{{ 'x' * 1000000000 }}",
            "{% set ns = namespace(s='x' * 1000) %}{% for i in range(100) %}{% set ns.s = ns.s + ns.s %}{% endfor %}",
            "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
            "{{ ('x' * 1000000) | replace('x', 'y' * 1000000) }}",
            "{{ '%1000000000d' | format(1) }}",
            "{{ range(1000000000) | list | length }}",
            "{{ range(9999) | list | tojson(indent='x' * 1000000) }}",
            "{{ range(9999) | list | tojson(separators=['x' * 1000000, ':']) }}",
        ] {
            let error = render(source, context! {}).unwrap_err();
            assert!(error.starts_with("--prompt: "), "{source}: {error}");
        }
        for source in [
            "{% if a %}".repeat(5500) + &"{% endif %}".repeat(5500),
            format!("{{{{ {}1{} }}}}", "(".repeat(20_000), ")".repeat(20_000)),
            "{% include 'secret' %}{{".to_string(),
        ] {
            let error = Template::new("--prompt", &source, 0).unwrap_err().to_string();
            assert!(error.starts_with("--prompt: "), "{error}");
        }
        assert!(render("{% include '/etc/hostname' %}", context! {}).is_err());
    }

    #[test]
    fn names_what_it_reads() {
        let template = Template::new(
            "--prompt",
            "{% set q = 1 %}{{ a.b }}{{ q }}{{ range(c) }}{{ strftime_now('%Y') }}",
            0,
        );
        let names: Vec<String> = template.unwrap().variables().into_iter().collect();
        assert_eq!(names, ["a", "c"]);
    }
}
