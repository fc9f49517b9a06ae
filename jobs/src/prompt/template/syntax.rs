//! The syntax tree of a template: what each node is made of.

use minijinja::machinery::ast::{CallArg, Expr, Stmt};

/// Calls `each` for every expression directly inside an expression.
pub fn each_child<'t, 's>(expr: &'t Expr<'s>, each: &mut dyn FnMut(&'t Expr<'s>)) {
    match expr {
        Expr::Var(_) | Expr::Const(_) => {}
        Expr::Slice(slice) => {
            each(&slice.expr);
            [&slice.start, &slice.stop, &slice.step].into_iter().flatten().for_each(each);
        }
        Expr::UnaryOp(op) => each(&op.expr),
        Expr::BinOp(op) => {
            each(&op.left);
            each(&op.right);
        }
        Expr::Compare(compare) => {
            each(&compare.expr);
            compare.ops.iter().for_each(|op| each(&op.expr));
        }
        Expr::IfExpr(choice) => {
            each(&choice.test_expr);
            each(&choice.true_expr);
            choice.false_expr.iter().for_each(each);
        }
        Expr::Filter(filter) => {
            filter.expr.iter().for_each(&mut *each);
            filter.args.iter().map(argument).for_each(each);
        }
        Expr::Test(test) => {
            each(&test.expr);
            test.args.iter().map(argument).for_each(each);
        }
        Expr::GetAttr(attribute) => each(&attribute.expr),
        Expr::GetItem(item) => {
            each(&item.expr);
            each(&item.subscript_expr);
        }
        Expr::Call(call) => {
            each(&call.expr);
            call.args.iter().map(argument).for_each(each);
        }
        Expr::List(list) => list.items.iter().for_each(each),
        Expr::Tuple(tuple) => tuple.items.iter().for_each(each),
        Expr::Map(map) => map.keys.iter().zip(&map.values).for_each(|(key, value)| {
            each(key);
            each(value);
        }),
    }
}

/// The expression of an argument.
pub fn argument<'t, 's>(argument: &'t CallArg<'s>) -> &'t Expr<'s> {
    match argument {
        CallArg::Pos(expr)
        | CallArg::Kwarg(_, expr)
        | CallArg::PosSplat(expr)
        | CallArg::KwargSplat(expr) => expr,
    }
}

/// Calls `expr` for every expression directly inside a statement, and `stmt` for every statement.
pub fn each_part<'t, 's>(
    statement: &'t Stmt<'s>,
    expr: &mut dyn FnMut(&'t Expr<'s>),
    stmt: &mut dyn FnMut(&'t Stmt<'s>),
) {
    match statement {
        Stmt::Template(template) => template.children.iter().for_each(stmt),
        Stmt::EmitExpr(emit) => expr(&emit.expr),
        Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
        Stmt::ForLoop(looped) => {
            expr(&looped.iter);
            looped.filter_expr.iter().for_each(expr);
            looped.body.iter().chain(&looped.else_body).for_each(stmt);
        }
        Stmt::IfCond(choice) => {
            expr(&choice.expr);
            choice.true_body.iter().chain(&choice.false_body).for_each(stmt);
        }
        Stmt::WithBlock(with) => {
            with.assignments.iter().for_each(|(_, value)| expr(value));
            with.body.iter().for_each(stmt);
        }
        Stmt::Set(set) => expr(&set.expr),
        Stmt::SetBlock(set) => {
            set.filter.iter().for_each(expr);
            set.body.iter().for_each(stmt);
        }
        Stmt::AutoEscape(escape) => {
            expr(&escape.enabled);
            escape.body.iter().for_each(stmt);
        }
        Stmt::FilterBlock(block) => {
            expr(&block.filter);
            block.body.iter().for_each(stmt);
        }
        Stmt::Block(block) => block.body.iter().for_each(stmt),
        Stmt::Import(import) => expr(&import.expr),
        Stmt::FromImport(import) => expr(&import.expr),
        Stmt::Extends(extends) => expr(&extends.name),
        Stmt::Include(include) => expr(&include.name),
        Stmt::Macro(declared) => {
            declared.defaults.iter().for_each(expr);
            declared.body.iter().for_each(stmt);
        }
        Stmt::CallBlock(block) => {
            expr(&block.call.expr);
            block.call.args.iter().map(argument).for_each(&mut *expr);
            block.macro_decl.defaults.iter().for_each(expr);
            block.macro_decl.body.iter().for_each(stmt);
        }
        Stmt::Do(done) => {
            expr(&done.call.expr);
            done.call.args.iter().map(argument).for_each(expr);
        }
    }
}

/// The first byte of an expression in its source, without parentheses around it.
pub fn start(expr: &Expr) -> usize {
    match expr {
        Expr::GetAttr(attribute) => start(&attribute.expr),
        Expr::GetItem(item) => start(&item.expr),
        Expr::Slice(slice) => start(&slice.expr),
        Expr::Call(call) => start(&call.expr),
        Expr::Filter(filter) => filter.expr.as_ref().map_or(filter.span().start_offset as usize, start),
        Expr::Test(test) => start(&test.expr),
        Expr::Compare(compare) => start(&compare.expr),
        Expr::IfExpr(choice) => start(&choice.true_expr),
        other => other.span().start_offset as usize,
    }
}

/// The byte after an expression in its source, without parentheses around it.
pub fn end(expr: &Expr) -> usize {
    expr.span().end_offset as usize
}
