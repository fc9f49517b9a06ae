//! What a schema allows, as a tree.

use serde_json::Value;

/// Up to here each whole number is a float64 of its own: greater bounds would be those of a neighbour.
pub(super) const MAX_EXACT: f64 = 9_007_199_254_740_992.0;

/// The greatest int64 that is a float64, too: an integer is written so that int64 holds it.
pub(super) const MAX_INTEGER: i64 = 9_223_372_036_854_774_784;

/// A set of JSON values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    /// Every value.
    Any,
    /// No value.
    Never,
    Null,
    Boolean,
    Integer(Integers),
    Number(Numbers),
    String(Strings),
    Array(Array),
    Object(Object),
    /// One of these values, which differ and have no numbers beyond 2^53.
    Enum(Vec<Value>),
    /// What one of these allows.
    AnyOf(Vec<Node>),
    /// What a definition allows.
    Ref(usize),
}

/// Whole numbers between two bounds, each of them included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Integers {
    pub min: i64,
    pub max: i64,
    pub multiple_of: Option<u32>,
}

/// Numbers between two bounds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Numbers {
    pub min: f64,
    pub max: f64,
    /// Whether a bound is not allowed itself.
    pub above_min: bool,
    pub below_max: bool,
    /// With which they are whole.
    pub multiple_of: Option<u32>,
}

/// Strings of a number of characters that match a pattern as a whole.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Strings {
    pub min_length: u64,
    pub max_length: Option<u64>,
    /// In Rust's syntax.
    pub pattern: Option<String>,
    pub format: Option<Format>,
}

/// Formats that are enforced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Format {
    Date,
    Time,
    DateTime,
    /// One that stays a string.
    Other,
}

/// Arrays: items by their place, then items that are alike.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Array {
    pub prefix: Vec<Node>,
    pub items: Box<Node>,
    pub min: u64,
    pub max: Option<u64>,
}

/// Objects: properties in the order in which they are written, then others: those whose names match one of some patterns,
/// of which no name matches two, and those whose names match none.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Object {
    pub properties: Vec<Property>,
    /// In Rust's syntax, matching names as a whole.
    pub patterns: Vec<(String, Node)>,
    pub others: Box<Node>,
}

/// A property of an object.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Property {
    pub name: String,
    pub node: Node,
    pub required: bool,
}

impl Object {
    /// Whether there may be properties besides those that are named.
    pub fn is_open(&self) -> bool {
        *self.others != Node::Never || self.patterns.iter().any(|(_, node)| *node != Node::Never)
    }
}

impl Node {
    /// The union of nodes.
    pub fn any_of(nodes: Vec<Node>) -> Node {
        let mut flat = Vec::new();
        for node in nodes {
            match node {
                Node::Never => {}
                Node::Any => return Node::Any,
                Node::AnyOf(inner) => flat.extend(inner),
                node => flat.push(node),
            }
        }
        match flat.len() {
            0 => Node::Never,
            1 => flat.remove(0),
            _ => Node::AnyOf(flat),
        }
    }

    /// The nodes right below.
    pub fn children(&self) -> Vec<&Node> {
        match self {
            Node::Array(array) => array.prefix.iter().chain([&*array.items]).collect(),
            Node::Object(object) => {
                let patterns = object.patterns.iter().map(|(_, node)| node);
                object.properties.iter().map(|p| &p.node).chain(patterns).chain([&*object.others]).collect()
            }
            Node::AnyOf(nodes) => nodes.iter().collect(),
            _ => Vec::new(),
        }
    }
}
