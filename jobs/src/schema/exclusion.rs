//! Whether two nodes can be shown to have no value in common.

use super::node::{Node, Object};
use serde_json::Value;
use std::cell::Cell;

/// Whether no value satisfies both; `false` if that cannot be shown. `left` is how many more pairs may be looked at.
pub(super) fn exclude(a: &Node, b: &Node, definitions: &[Node], left: &Cell<usize>) -> bool {
    below(a, b, definitions, left, 0)
}

/// How deep pairs are followed, which `$ref` may do without end.
const MAX_DEPTH: usize = 100;

fn below(a: &Node, b: &Node, definitions: &[Node], left: &Cell<usize>, depth: usize) -> bool {
    if depth > MAX_DEPTH || left.get() == 0 {
        return false;
    }
    left.set(left.get() - 1);
    let deeper = |a: &Node, b: &Node| below(a, b, definitions, left, depth + 1);
    match (a, b) {
        (Node::Never, _) | (_, Node::Never) => true,
        (Node::Any, _) | (_, Node::Any) => false,
        (Node::Ref(at), other) | (other, Node::Ref(at)) => deeper(&definitions[*at], other),
        (Node::AnyOf(nodes), other) | (other, Node::AnyOf(nodes)) => {
            nodes.iter().all(|node| deeper(node, other))
        }
        (Node::Enum(a), Node::Enum(b)) => {
            let cost = a.len().saturating_mul(b.len());
            let affordable = cost <= left.get();
            left.set(left.get().saturating_sub(cost));
            affordable && !a.iter().any(|value| b.contains(value))
        }
        (Node::Enum(values), node) | (node, Node::Enum(values)) => {
            values.iter().all(|value| kind_of(value) != kind(node))
        }
        (Node::Object(a), Node::Object(b)) => differ(a, b, deeper),
        (a, b) => kind(a) != kind(b),
    }
}

/// Whether a property that both require differs.
fn differ(a: &Object, b: &Object, exclude: impl Fn(&Node, &Node) -> bool) -> bool {
    a.properties.iter().filter(|p| p.required).any(|one| {
        let other = b.properties.iter().find(|p| p.required && p.name == one.name);
        other.is_some_and(|other| exclude(&one.node, &other.node))
    })
}

fn kind(node: &Node) -> &'static str {
    match node {
        Node::Null => "null",
        Node::Boolean => "boolean",
        Node::Integer(_) | Node::Number(_) => "number",
        Node::String(_) => "string",
        Node::Array(_) => "array",
        Node::Object(_) => "object",
        _ => "",
    }
}

fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
