//! Operators that Jinja has and minijinja cannot be taught become filters, by their place in the syntax tree:
//! `'...' % x` everywhere; in a prompt's own template also `a ~ b`. There the value of a slice and that of a filter
//! that makes text go through a filter of their own, so that a null among them is seen.

use crate::prompt::template::syntax::{argument, each_child, each_part, end, start};
use minijinja::Error;
use minijinja::machinery::ast::{BinOp, BinOpKind, Expr, Filter, Spanned, Stmt};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;

/// The filter that stands for `%` with a string on its left.
pub const PERCENT: &str = "__percent__";
/// The filter that stands for `~`.
pub const CONCAT: &str = "__concat__";
/// The filter that a value goes through before it becomes text or a part of it.
pub const TEXT: &str = "__text__";
/// The filter that the value of a slice goes through.
pub const SLICED: &str = "__sliced__";

/// Filters that make text of what they are given, a null's included.
const MAKE_TEXT: &[&str] = &[
    "string",
    "upper",
    "lower",
    "title",
    "capitalize",
    "trim",
    "replace",
    "escape",
    "e",
    "safe",
    "indent",
    "center",
    "truncate",
    "wordcount",
    "split",
    "lines",
    "pprint",
];

/// The source with filters in place of operators; every line stays where it is.
///
/// # Errors
/// What does not parse.
pub fn rewritten(source: &str, syntax: SyntaxConfig, strict: bool) -> Result<String, Error> {
    let tree = parse(source, "template", syntax)?;
    let mut rewriting = Rewriting { source, strict, edits: Vec::new() };
    rewriting.statement(&tree);
    Ok(rewriting.apply())
}

/// Whether a filter is `map` with the name of one that makes text, or a number, of each item.
fn maps_to_text(filter: &Filter) -> bool {
    let Some(Expr::Const(name)) = filter.args.first().map(argument) else { return false };
    let Some(name) = name.value.as_str().filter(|_| filter.name == "map") else { return false };
    MAKE_TEXT.contains(&name) || (matches!(name, "int" | "float") && filter.args.len() == 1)
}

struct Rewriting<'s> {
    source: &'s str,
    strict: bool,
    /// From where, bytes to replace, by what.
    edits: Vec<(usize, usize, String)>,
}

impl<'s> Rewriting<'s> {
    fn statement(&mut self, statement: &Stmt<'s>) {
        let (mut exprs, mut statements) = (Vec::new(), Vec::new());
        each_part(statement, &mut |expr| exprs.push(expr), &mut |statement| statements.push(statement));
        exprs.into_iter().for_each(|expr| self.expr(expr));
        statements.into_iter().for_each(|statement| self.statement(statement));
    }

    /// The edits inside an expression come before its own, so that at one place the inner closing comes first.
    fn expr(&mut self, expr: &Expr<'s>) {
        if let Expr::BinOp(op) = expr
            && matches!(op.op, BinOpKind::Concat)
            && self.strict
        {
            return self.concat(op);
        }
        let mut children = Vec::new();
        each_child(expr, &mut |child| children.push(child));
        children.into_iter().for_each(|child| self.expr(child));
        match expr {
            Expr::BinOp(op) if matches!(op.op, BinOpKind::Rem) => self.percent(op),
            Expr::Slice(slice) if self.strict => self.sliced(&slice.expr),
            Expr::Filter(filter) if self.strict && MAKE_TEXT.contains(&filter.name) => {
                if filter.expr.is_some() {
                    self.insert(filter.span().start_offset as usize, &format!("{TEXT} | "));
                }
                if filter.name == "replace" {
                    filter.args.iter().map(argument).for_each(|argument| self.made_text(argument));
                }
            }
            // With an argument they say what a null stands for.
            Expr::Filter(filter)
                if self.strict
                    && matches!(filter.name, "int" | "float")
                    && filter.args.is_empty()
                    && filter.expr.is_some() =>
            {
                self.insert(filter.span().start_offset as usize, &format!("{TEXT} | "));
            }
            Expr::Filter(filter) if self.strict && filter.expr.is_some() && maps_to_text(filter) => {
                self.insert(filter.span().start_offset as usize, &format!("{TEXT} | "));
            }
            _ => {}
        }
    }

    /// `a ~ b ~ c` becomes `((a) | __concat__((b), (c)))`.
    fn concat(&mut self, last: &Spanned<BinOp<'s>>) {
        let from = last.span().start_offset;
        let mut chain = vec![last];
        while let Some(Expr::BinOp(left)) = chain.last().map(|op| &op.left)
            && matches!(left.op, BinOpKind::Concat)
            && left.span().start_offset == from
        {
            chain.push(left);
        }
        chain.reverse();
        self.expr(&chain[0].left);
        chain.iter().for_each(|op| self.expr(&op.right));
        let places: Option<Vec<usize>> = chain.iter().map(|op| self.after(end(&op.left), '~')).collect();
        if let Some(places) = places {
            self.insert(from as usize, "((");
            for (i, place) in places.into_iter().enumerate() {
                let call = if i == 0 { format!(") | {CONCAT}((") } else { "), (".into() };
                self.edits.push((place, 1, call));
            }
            self.insert(last.span().end_offset as usize, ")))");
        }
    }

    /// `'...' % x` becomes `(('...') | __percent__((x)))`.
    fn percent(&mut self, op: &Spanned<BinOp<'s>>) {
        let literal = matches!(&op.left, Expr::Const(left) if left.value.kind() == ValueKind::String);
        let Some(place) = self.after(end(&op.left), '%').filter(|_| literal) else { return };
        self.insert(op.span().start_offset as usize, "((");
        self.edits.push((place, 1, format!(") | {PERCENT}((")));
        self.insert(op.span().end_offset as usize, ")))");
    }

    /// `a` becomes `((a) | __text__)`.
    fn made_text(&mut self, value: &Expr<'s>) {
        self.insert(start(value), "((");
        self.insert(end(value), &format!(") | {TEXT})"));
    }

    /// `a[:9]` becomes `(a | __sliced__)[:9]`.
    fn sliced(&mut self, value: &Expr<'s>) {
        let Some(bracket) = self.after(end(value), '[') else { return };
        let closed = self.source[end(value)..bracket].matches(')').count();
        let mut from = start(value);
        for _ in 0..closed {
            let Some(open) = self.source[..from].trim_end().strip_suffix('(') else { return };
            from = open.len();
        }
        self.insert(from, "(");
        self.insert(bracket, &format!(" | {SLICED})"));
    }

    /// Where an operator stands behind an operand and the parentheses around that.
    fn after(&self, end: usize, operator: char) -> Option<usize> {
        let rest = self.source[end..].trim_start_matches(|c: char| c == ')' || c.is_whitespace());
        rest.starts_with(operator).then_some(self.source.len() - rest.len())
    }

    fn insert(&mut self, at: usize, text: &str) {
        self.edits.push((at, 0, text.into()));
    }

    /// Edits of one place keep their order.
    fn apply(mut self) -> String {
        self.edits.sort_by_key(|&(at, ..)| at);
        let (mut out, mut done) = (String::with_capacity(self.source.len() + 64), 0);
        for (at, bytes, text) in self.edits {
            out += &self.source[done..at];
            out += &text;
            done = at + bytes;
        }
        out + &self.source[done..]
    }
}
