//! Arrays and objects.

use super::error::SchemaError;
use super::matching::disjoint;
use super::node::{Array, Node, Object, Property};
use super::pattern;
use super::quoted::within_json;
use super::reader::{Draft, Reader, whole_number};
use serde_json::{Map, Value};

/// Greater counts of items are refused as bounds.
const MAX_ITEMS: u64 = 10_000;
/// Patterns of names are compared with each other.
const MAX_PATTERNS: usize = 32;

impl Reader<'_> {
    pub(super) fn array(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let min = whole_number(keys, "minItems", MAX_ITEMS, at)?.unwrap_or(0);
        let mut max = whole_number(keys, "maxItems", MAX_ITEMS, at)?;
        let wrong = |name: &str, why: &str| Err(SchemaError::new(&format!("{at}/{name}"), why));
        match keys.get("uniqueItems") {
            None | Some(Value::Bool(false)) => {}
            Some(Value::Bool(true)) if max.is_some_and(|max| max < 2) => {}
            _ => return wrong("uniqueItems", "`uniqueItems` cannot be enforced; leave it out"),
        }
        let (list, rest) = match (self.draft, keys.get("items")) {
            (Draft::Draft7, Some(Value::Array(_))) => ("items", "additionalItems"),
            _ => ("prefixItems", "items"),
        };
        let mut prefix = Vec::new();
        match keys.get(list) {
            None => {}
            Some(Value::Array(schemas)) => {
                for (i, schema) in schemas.iter().enumerate() {
                    prefix.push(self.schema(schema, &format!("{at}/{list}/{i}"))?);
                }
            }
            Some(_) => return wrong(list, "is no array"),
        }
        let mut items = match keys.get(rest) {
            None => Node::Any,
            Some(schema) => self.schema(schema, &format!("{at}/{rest}"))?,
        };
        // An item that cannot be ends what an array may hold.
        if let Some(end) = prefix.iter().position(|node| *node == Node::Never) {
            prefix.truncate(end);
            items = Node::Never;
        }
        if items == Node::Never {
            max = Some(max.unwrap_or(u64::MAX).min(prefix.len() as u64));
        }
        if let Some(max) = max {
            prefix.truncate(max as usize);
            if max < min {
                return Ok(Node::Never);
            }
            if max == prefix.len() as u64 {
                items = Node::Never;
            }
        }
        Ok(Node::Array(Array { prefix, items: Box::new(items), min, max }))
    }

    pub(super) fn object(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let wrong = |name: &str, why: &str| SchemaError::new(&format!("{at}/{name}"), why);
        let others = match keys.get("additionalProperties") {
            None => Node::Any,
            Some(schema) => self.schema(schema, &format!("{at}/additionalProperties"))?,
        };
        let patterns = self.patterns(keys, at)?;
        let mut properties = Vec::new();
        if let Some(value) = keys.get("properties") {
            let map = value.as_object().ok_or_else(|| wrong("properties", "is no object"))?;
            self.count_properties(map.len(), at)?;
            for (name, schema) in map {
                let place = format!("{at}/properties/{}", name.replace('~', "~0").replace('/', "~1"));
                let node = self.schema(schema, &place)?;
                let node = self.also_by_pattern(node, name, &patterns, &place)?;
                properties.push(Property { name: name.clone(), node, required: false });
            }
        }
        if let Some(value) = keys.get("required") {
            let names = value.as_array().ok_or_else(|| wrong("required", "is no array"))?;
            for name in names {
                let name =
                    name.as_str().ok_or_else(|| wrong("required", "names a property that is no text"))?;
                match properties.iter_mut().find(|property| property.name == name) {
                    Some(property) => property.required = true,
                    None => {
                        self.count_properties(1, at)?;
                        let by_pattern = self.pattern_of(name, &patterns, at)?;
                        let node = by_pattern.map_or(others.clone(), |(_, node)| node.clone());
                        properties.push(Property { name: name.into(), node, required: true });
                    }
                }
            }
        }
        let required = properties.iter().filter(|p| p.required).count() as u64;
        let possible = properties.iter().filter(|p| p.node != Node::Never).count() as u64;
        let closed = others == Node::Never && patterns.iter().all(|(_, node)| *node == Node::Never);
        let min = whole_number(keys, "minProperties", u64::MAX, at)?.unwrap_or(0);
        if min > required {
            let why =
                "`minProperties` above the number of `required` properties cannot be enforced; leave it out";
            return Err(wrong("minProperties", why));
        }
        let max = whole_number(keys, "maxProperties", u64::MAX, at)?;
        if max.is_some_and(|max| !closed || max < possible) {
            let why = "`maxProperties` cannot be enforced where more properties are possible; leave it out";
            return Err(wrong("maxProperties", why));
        }
        if properties.iter().any(|p| p.required && p.node == Node::Never) {
            return Ok(Node::Never);
        }
        Ok(Node::Object(Object { properties, patterns, others: Box::new(others) }))
    }

    /// `patternProperties`, with patterns of one schema as one.
    fn patterns(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Vec<(String, Node)>, SchemaError> {
        let place = format!("{at}/patternProperties");
        let wrong = |why: String| SchemaError::new(&place, why);
        let Some(value) = keys.get("patternProperties") else { return Ok(Vec::new()) };
        let map = value.as_object().ok_or_else(|| wrong("is no object".into()))?;
        if map.len() > MAX_PATTERNS {
            return Err(wrong(format!("more than {MAX_PATTERNS} patterns are not taken")));
        }
        let mut patterns: Vec<(String, Node)> = Vec::new();
        for (text, schema) in map {
            let pattern = pattern::whole(text).map_err(|why| wrong(format!("{text:?}: {why}")))?;
            if within_json(&pattern).as_ref() != Ok(&pattern) {
                // Names are also matched to tell which are left for `additionalProperties`.
                let why = "a class of it has U+0000 and lacks `\"` or `\\`, which is not taken; leave U+0000 out, as in \
                           `[^\"\\\\\\u0000]`";
                return Err(wrong(format!("{text:?}: {why}")));
            }
            let node =
                self.schema(schema, &format!("{place}/{}", text.replace('~', "~0").replace('/', "~1")))?;
            match patterns.iter_mut().find(|(_, known)| *known == node) {
                Some((known, _)) => *known = format!("{known}|{pattern}"),
                None => patterns.push((pattern, node)),
            }
        }
        for (i, (a, _)) in patterns.iter().enumerate() {
            if patterns[i + 1..].iter().any(|(b, _)| !disjoint(a, b)) {
                let why = "a name may match two patterns with different schemas, which is not taken; write patterns that exclude \
                           each other";
                return Err(wrong(why.into()));
            }
        }
        Ok(patterns)
    }

    fn pattern_of<'p>(
        &mut self,
        name: &str,
        patterns: &'p [(String, Node)],
        at: &str,
    ) -> Result<Option<&'p (String, Node)>, SchemaError> {
        for pattern in patterns {
            if self.matching.matches(&pattern.0, name).map_err(|why| SchemaError::new(at, why))? {
                return Ok(Some(pattern));
            }
        }
        Ok(None)
    }

    /// A named property whose name may match a pattern, too, with which it is taken where one of the two says all.
    fn also_by_pattern(
        &mut self,
        node: Node,
        name: &str,
        patterns: &[(String, Node)],
        at: &str,
    ) -> Result<Node, SchemaError> {
        Ok(match self.pattern_of(name, patterns, at)? {
            Some((_, of_pattern))
                if *of_pattern != Node::Any && node != Node::Never && node != *of_pattern =>
            {
                match (&node, of_pattern) {
                    (Node::Any, of_pattern) => of_pattern.clone(),
                    (_, Node::Never) => Node::Never,
                    _ => {
                        let why = format!(
                            "{name:?} is named and matches one of `patternProperties`, with two schemas; write both into its own, \
                             and a pattern that it does not match"
                        );
                        return Err(SchemaError::new(at, why));
                    }
                }
            }
            _ => node,
        })
    }
}
