//! Whether answers can end.

use super::error::SchemaError;
use super::node::{Array, Node, Object};

/// Refuses a schema that no answer satisfies, and `$ref` in a circle: such a definition has no answer that ends, or comes
/// to itself before anything is written.
pub(super) fn check(root: &Node, definitions: &[Node]) -> Result<(), SchemaError> {
    let mut known = vec![false; definitions.len()];
    loop {
        let next: Vec<bool> = definitions.iter().map(|node| ends(node, &known)).collect();
        if next == known {
            break;
        }
        known = next;
    }
    if !ends(root, &known) {
        return Err(SchemaError::new("", "no answer satisfies it"));
    }
    if known.contains(&false) && reaches_endless(root, definitions, &known) {
        let why = "a `$ref` leads to a schema that no answer satisfies, such as one that needs itself";
        return Err(SchemaError::new("", why));
    }
    let mut state = vec![State::New; definitions.len()];
    for at in 0..definitions.len() {
        visit(at, definitions, &mut state)?;
    }
    Ok(())
}

/// Whether a value of a node exists, given the definitions of which that is known.
fn ends(node: &Node, known: &[bool]) -> bool {
    match node {
        Node::Never => false,
        Node::Ref(at) => known[*at],
        Node::AnyOf(nodes) => nodes.iter().any(|node| ends(node, known)),
        Node::Array(Array { prefix, items, min, .. }) => {
            (0..*min as usize).take(prefix.len() + 1).all(|i| ends(prefix.get(i).unwrap_or(items), known))
        }
        Node::Object(Object { properties, .. }) => {
            properties.iter().filter(|p| p.required).all(|p| ends(&p.node, known))
        }
        _ => true,
    }
}

/// Whether a definition without a value is used: a model would walk into it and not come out.
fn reaches_endless(root: &Node, definitions: &[Node], known: &[bool]) -> bool {
    fn below(node: &Node, known: &[bool]) -> bool {
        match node {
            Node::Ref(at) => !known[*at],
            node => node.children().into_iter().any(|child| below(child, known)),
        }
    }
    below(root, known) || definitions.iter().any(|node| below(node, known))
}

#[derive(Clone, Copy, PartialEq)]
enum State {
    New,
    Open,
    Done,
}

/// Follows `$ref` and unions, which write nothing.
fn visit(at: usize, definitions: &[Node], state: &mut [State]) -> Result<(), SchemaError> {
    fn through(node: &Node, definitions: &[Node], state: &mut [State]) -> Result<(), SchemaError> {
        match node {
            Node::Ref(at) => visit(*at, definitions, state),
            Node::AnyOf(nodes) => nodes.iter().try_for_each(|node| through(node, definitions, state)),
            _ => Ok(()),
        }
    }
    match state[at] {
        State::Done => return Ok(()),
        State::Open => {
            return Err(SchemaError::new("", "a `$ref` leads back to itself without anything between"));
        }
        State::New => state[at] = State::Open,
    }
    through(&definitions[at], definitions, state)?;
    state[at] = State::Done;
    Ok(())
}
