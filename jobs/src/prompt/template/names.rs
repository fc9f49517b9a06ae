//! The names that a template reads, by our own visit of its syntax tree.
//!
//! The visit knows what a name stands for at each place as the engine does when it renders: a variable that the
//! template has set there, or else a column, or else a function. `if` opens no scope; `for`, `with`, `macro`,
//! `call`, filter and other blocks do.

use crate::prompt::template::syntax::{argument, each_child};
use minijinja::machinery::ast::{Call, Expr, Macro, Spanned, Stmt};
use minijinja::value::ValueKind;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;

/// The name that stands for all columns, so that one of any name can be read: `row['my col']`.
pub const ROW: &str = "row";

/// How a name is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Read as a value that the template has not set at this place.
    Value,
    /// Called.
    Call,
    /// The literal key of `row['key']` or `row.key`.
    RowKey,
    /// `row` itself, or with a key that is not literal.
    Row,
    /// A variable that the template has set at this place.
    Variable,
    /// A literal such as `true`, which is no name.
    Literal,
}

/// One use of a name.
#[derive(Clone, Debug)]
pub struct Use {
    pub name: String,
    pub kind: Kind,
    /// The line in the source, from 1.
    pub line: usize,
    /// The names that the value is made of, as far as they are not the template's own.
    pub reads: BTreeSet<String>,
}

/// An expression that is printed or filtered.
#[derive(Clone, Debug)]
pub struct Place {
    /// Bytes of the source.
    pub range: Range<usize>,
    /// The names that its value is made of.
    pub reads: BTreeSet<String>,
}

/// All names of a template.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// In the order of the template.
    pub uses: Vec<Use>,
    /// Names that the template sets anywhere.
    pub set: BTreeSet<String>,
    pub places: Vec<Place>,
    /// Filters with the lines of their use, and tests.
    pub filters: Vec<(String, usize)>,
    pub tests: Vec<(String, usize)>,
}

impl Names {
    /// Visits the tree of a source.
    pub fn of(tree: &Stmt, source: &str) -> Names {
        let mut visit = Visit { source, names: Names::default(), scopes: vec![BTreeMap::new()] };
        visit.statement(tree);
        visit.names
    }

    /// Whether the template reads or calls a name that it has not set.
    pub fn reads(&self, name: &str) -> bool {
        self.uses.iter().any(|used| used.name == name && matches!(used.kind, Kind::Value | Kind::Call))
    }

    /// The names that the value of an expression is made of; of the smallest one around a range.
    pub fn at(&self, range: &Range<usize>) -> BTreeSet<String> {
        let around = |place: &&Place| place.range.start <= range.start && range.end <= place.range.end;
        let place = self.places.iter().filter(around).min_by_key(|place| place.range.len());
        place.map(|place| place.reads.clone()).unwrap_or_default()
    }
}

struct Visit<'s> {
    source: &'s str,
    names: Names,
    /// Variables with the names that their values are made of, the innermost scope last.
    scopes: Vec<BTreeMap<String, BTreeSet<String>>>,
}

impl Visit<'_> {
    fn statements(&mut self, statements: &[Stmt]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn scoped(&mut self, inside: impl FnOnce(&mut Self)) {
        self.scopes.push(BTreeMap::new());
        inside(self);
        self.scopes.pop();
    }

    /// Visits and returns the names that are read on the way.
    fn reads(&mut self, inside: impl FnOnce(&mut Self)) -> BTreeSet<String> {
        let before = self.names.uses.len();
        inside(self);
        self.names.uses[before..].iter().flat_map(|used| used.reads.iter().cloned()).collect()
    }

    fn statement(&mut self, statement: &Stmt) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::EmitExpr(emit) => {
                let reads = self.reads(|visit| visit.expr(&emit.expr));
                let span = emit.span();
                let range = span.start_offset as usize..span.end_offset as usize;
                self.names.places.push(Place { range, reads });
            }
            Stmt::ForLoop(looped) => {
                let reads = self.reads(|visit| visit.expr(&looped.iter));
                self.scoped(|visit| {
                    visit.assign(&looped.target, &reads);
                    looped.filter_expr.iter().for_each(|filter| visit.expr(filter));
                    visit.variable("loop", &BTreeSet::new());
                    visit.statements(&looped.body);
                });
                self.statements(&looped.else_body);
            }
            Stmt::IfCond(choice) => {
                self.expr(&choice.expr);
                self.statements(&choice.true_body);
                self.statements(&choice.false_body);
            }
            Stmt::WithBlock(with) => self.scoped(|visit| {
                for (target, value) in &with.assignments {
                    let reads = visit.reads(|visit| visit.expr(value));
                    visit.assign(target, &reads);
                }
                visit.statements(&with.body);
            }),
            Stmt::Set(set) => {
                let reads = self.reads(|visit| visit.expr(&set.expr));
                self.assign(&set.target, &reads);
            }
            Stmt::SetBlock(set) => {
                let reads = self.reads(|visit| {
                    visit.statements(&set.body);
                    set.filter.iter().for_each(|filter| visit.expr(filter));
                });
                self.assign(&set.target, &reads);
            }
            Stmt::AutoEscape(escape) => {
                self.expr(&escape.enabled);
                self.statements(&escape.body);
            }
            Stmt::FilterBlock(block) => {
                self.statements(&block.body);
                self.expr(&block.filter);
            }
            Stmt::Block(block) => self.scoped(|visit| {
                visit.variable("super", &BTreeSet::new());
                visit.statements(&block.body);
            }),
            Stmt::Import(import) => {
                self.expr(&import.expr);
                self.assign(&import.name, &BTreeSet::new());
            }
            Stmt::FromImport(import) => {
                self.expr(&import.expr);
                for (name, alias) in &import.names {
                    self.assign(alias.as_ref().unwrap_or(name), &BTreeSet::new());
                }
            }
            Stmt::Extends(extends) => self.expr(&extends.name),
            Stmt::Include(include) => self.expr(&include.name),
            Stmt::Macro(declared) => {
                self.variable(declared.name, &BTreeSet::new());
                self.macro_body(declared);
            }
            Stmt::CallBlock(block) => {
                self.call(&block.call);
                self.macro_body(&block.macro_decl);
            }
            Stmt::Do(done) => self.call(&done.call),
        }
    }

    fn macro_body(&mut self, declared: &Macro) {
        self.scoped(|visit| {
            visit.variable("caller", &BTreeSet::new());
            declared.defaults.iter().for_each(|value| visit.expr(value));
            declared.args.iter().for_each(|argument| visit.assign(argument, &BTreeSet::new()));
            visit.statements(&declared.body);
        });
    }

    fn assign(&mut self, target: &Expr, reads: &BTreeSet<String>) {
        match target {
            Expr::Var(variable) => self.variable(variable.id, reads),
            Expr::List(list) => list.items.iter().for_each(|item| self.assign(item, reads)),
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.assign(item, reads)),
            // `ns.x`: the namespace is read.
            other => self.expr(other),
        }
    }

    fn variable(&mut self, name: &str, reads: &BTreeSet<String>) {
        self.names.set.insert(name.into());
        if let Some(scope) = self.scopes.last_mut() {
            scope.insert(name.into(), reads.clone());
        }
    }

    fn expr(&mut self, expr: &Expr) {
        match expr {
            Expr::Var(variable) => self.name(variable.id, variable.span().start_line, Kind::Value),
            Expr::Const(constant) => {
                let span = constant.span();
                if matches!(constant.value.kind(), ValueKind::Bool | ValueKind::None)
                    && let Some(text) = self.source.get(span.start_offset as usize..span.end_offset as usize)
                {
                    self.record(text, span.start_line, Kind::Literal, BTreeSet::new());
                }
            }
            Expr::GetAttr(attribute) if self.is_row(&attribute.expr) => {
                self.name(attribute.name, attribute.span().start_line, Kind::RowKey);
            }
            Expr::GetItem(item) if self.is_row(&item.expr) => match &item.subscript_expr {
                Expr::Const(key) if key.value.kind() == ValueKind::String => {
                    let name = key.value.to_string();
                    self.name(&name, item.span().start_line, Kind::RowKey);
                }
                _ => self.children(expr),
            },
            Expr::Call(call) => self.call(call),
            Expr::Filter(filter) => {
                let reads = self.reads(|visit| visit.children(expr));
                let span = filter.span();
                let range = span.start_offset as usize..span.end_offset as usize;
                self.names.places.push(Place { range, reads });
                self.names.filters.push((filter.name.into(), span.start_line.into()));
            }
            Expr::Test(test) => {
                self.names.tests.push((test.name.into(), test.span().start_line.into()));
                self.children(expr);
            }
            _ => self.children(expr),
        }
    }

    fn children(&mut self, expr: &Expr) {
        let mut children = Vec::new();
        each_child(expr, &mut |child| children.push(child));
        children.into_iter().for_each(|child| self.expr(child));
    }

    fn call(&mut self, call: &Spanned<Call>) {
        match &call.expr {
            Expr::Var(function) => self.name(function.id, function.span().start_line, Kind::Call),
            // A method of `row` or of `self`, not a key.
            Expr::GetAttr(method) => match &method.expr {
                Expr::Var(own) if own.id == "self" => self.name(own.id, own.span().start_line, Kind::Call),
                object => self.expr(object),
            },
            other => self.expr(other),
        }
        call.args.iter().map(argument).for_each(|argument| self.expr(argument));
    }

    /// Whether an expression is `row`, and that not a variable.
    fn is_row(&self, expr: &Expr) -> bool {
        matches!(expr, Expr::Var(variable) if variable.id == ROW && self.set_here(ROW).is_none())
    }

    fn set_here(&self, name: &str) -> Option<&BTreeSet<String>> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name))
    }

    fn name(&mut self, name: &str, line: u16, kind: Kind) {
        let variable = self.set_here(name).filter(|_| kind != Kind::RowKey).cloned();
        let (kind, reads) = match variable {
            Some(reads) => (Kind::Variable, reads),
            None if name == ROW && kind == Kind::Value => (Kind::Row, BTreeSet::from([ROW.to_string()])),
            None => (kind, BTreeSet::from([name.to_string()])),
        };
        self.record(name, line, kind, reads);
    }

    fn record(&mut self, name: &str, line: u16, kind: Kind, reads: BTreeSet<String>) {
        self.names.uses.push(Use { name: name.into(), kind, line: line.into(), reads });
    }
}
