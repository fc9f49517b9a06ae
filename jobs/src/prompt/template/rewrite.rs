//! Operators that Jinja has and minijinja cannot be taught become filters, by their place in the syntax tree:
//! `'...' % x` and `a ~ b`. The value of a slice, that of a filter that makes text, what is compared and what is kept go
//! through filters of their own, so that a null among them is seen and their size and depth have bounds.

use crate::prompt::template::bounds::{ATTRIBUTE, HELD, PRINTED, WALKED};
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

/// Further filters that make text or compare.
const WALK: &[&str] =
    &["join", "format", "map", "select", "reject", "sort", "unique", "groupby", "min", "max"];

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

/// Whether a filter makes text of what it is given, or walks through it.
fn makes_text(filter: &str) -> bool {
    MAKE_TEXT.contains(&filter) || WALK.contains(&filter)
}

fn compares(op: &BinOpKind) -> bool {
    use BinOpKind::{Eq, Gt, Gte, In, Lt, Lte, Ne};
    matches!(op, Eq | Ne | Gt | Gte | Lt | Lte | In)
}

/// Whether an expression is a literal text.
fn is_text(expr: &Expr) -> bool {
    matches!(expr, Expr::Const(constant) if constant.value.kind() == ValueKind::String)
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
        match statement {
            Stmt::Set(set) if !matches!(set.target, Expr::Var(_) | Expr::List(_) | Expr::Tuple(_)) => {
                self.through(&set.expr, ATTRIBUTE);
            }
            Stmt::Set(set) => self.held(&set.expr),
            Stmt::WithBlock(with) => with.assignments.iter().for_each(|(_, value)| self.held(value)),
            Stmt::ForLoop(looped) => self.held(&looped.iter),
            Stmt::CallBlock(block) => block.call.args.iter().map(argument).for_each(|value| self.held(value)),
            Stmt::Do(done) => done.call.args.iter().map(argument).for_each(|value| self.held(value)),
            _ => {}
        }
        statements.into_iter().for_each(|statement| self.statement(statement));
    }

    /// Lets a value that is made here and kept go through the filter for that.
    fn held(&mut self, value: &Expr<'s>) {
        let is_found = matches!(
            value,
            Expr::Var(_)
                | Expr::Const(_)
                | Expr::GetAttr(_)
                | Expr::GetItem(_)
                | Expr::Test(_)
                | Expr::Compare(_)
        );
        if !is_found {
            self.through(value, HELD);
        }
    }

    /// The edits inside an expression come before its own, so that at one place the inner closing comes first.
    fn expr(&mut self, expr: &Expr<'s>) {
        if let Expr::BinOp(op) = expr
            && matches!(op.op, BinOpKind::Concat)
        {
            return self.concat(op);
        }
        let mut children = Vec::new();
        each_child(expr, &mut |child| children.push(child));
        children.into_iter().for_each(|child| self.expr(child));
        match expr {
            Expr::BinOp(op) if matches!(op.op, BinOpKind::Rem) => self.percent(op),
            Expr::Slice(slice) => self.sliced(&slice.expr),
            // A key is looked up, a place in a text is counted up to.
            Expr::GetItem(item) if !is_text(&item.subscript_expr) => self.sliced(&item.expr),
            Expr::BinOp(op) if compares(&op.op) => self.compared(&[&op.left, &op.right]),
            Expr::Compare(compare) => {
                let operands = compare.ops.iter().map(|op| &op.expr);
                self.compared(&operands.chain([&compare.expr]).collect::<Vec<_>>());
            }
            Expr::Call(call) => call.args.iter().map(argument).for_each(|value| self.held(value)),
            Expr::Filter(filter) if self.strict && MAKE_TEXT.contains(&filter.name) => {
                if filter.expr.is_some() {
                    self.insert(filter.span().start_offset as usize, &format!("{TEXT} | "));
                }
                if filter.name == "replace" {
                    filter.args.iter().map(argument).for_each(|argument| self.through(argument, TEXT));
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
            Expr::Filter(filter) if filter.expr.is_some() && makes_text(filter.name) => {
                self.insert(filter.span().start_offset as usize, &format!("{PRINTED} | "));
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

    /// Lets what is compared go through the filter for that. A constant is compared in one step.
    fn compared(&mut self, operands: &[&Expr<'s>]) {
        if !operands.iter().any(|operand| matches!(operand, Expr::Const(_))) {
            operands.iter().for_each(|operand| self.through(operand, WALKED));
        }
    }

    /// `a` becomes `((a) | __text__)`, or so with another filter.
    fn through(&mut self, value: &Expr<'s>, filter: &str) {
        self.insert(start(value), "((");
        self.insert(end(value), &format!(") | {filter})"));
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
