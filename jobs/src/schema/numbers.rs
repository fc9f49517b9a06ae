//! Integers and numbers: their bounds.

use super::error::SchemaError;
use super::node::{Integers, MAX_EXACT, MAX_INTEGER, Node, Numbers};
use super::reader::Reader;
use serde_json::{Map, Value};

/// A greater `multipleOf` is refused, and so are several that are more together: a lexer has a state for each remainder, which
/// takes 2 µs and 350 bytes to compile, and more where there are a million.
const MAX_MULTIPLE: f64 = 1e5;

impl Reader<'_> {
    pub(super) fn integer(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        let bound = |name| bound(keys, name, at);
        // The first whole number within a bound.
        let above = bound("exclusiveMinimum")?.map(|x| x.floor() as i64 + 1);
        let min = [bound("minimum")?.map(|x| x.ceil() as i64), above].into_iter().flatten().max();
        let below = bound("exclusiveMaximum")?.map(|x| x.ceil() as i64 - 1);
        let max = [bound("maximum")?.map(|x| x.floor() as i64), below].into_iter().flatten().min();
        let (min, max) = (min.unwrap_or(-MAX_INTEGER), max.unwrap_or(MAX_INTEGER));
        let place = format!("{at}/multipleOf");
        let multiple_of = match keys.get("multipleOf") {
            None => None,
            Some(value) => match value.as_f64() {
                Some(x) if x >= 1.0 && x.fract() == 0.0 && x <= MAX_MULTIPLE => {
                    self.count_multiple(x as u32, &place)?;
                    Some(x as u32)
                }
                _ => {
                    let why = format!("`multipleOf` {value} is no whole number from 1 to {MAX_MULTIPLE}");
                    return Err(SchemaError::new(&place, why));
                }
            },
        };
        if min > max {
            return Ok(Node::Never);
        }
        match multiple_of {
            // Whether there is a multiple between the bounds must be known.
            Some(m)
                if (min as i128 + i128::from(m) - 1).div_euclid(m.into())
                    > (max as i128).div_euclid(m.into()) =>
            {
                Ok(Node::Never)
            }
            multiple_of => Ok(Node::Integer(Integers { min, max, multiple_of })),
        }
    }

    /// Counts a `multipleOf`, of which equal ones are one.
    fn count_multiple(&mut self, multiple: u32, place: &str) -> Result<(), SchemaError> {
        self.multiples.insert(multiple);
        if self.multiples.iter().map(|&multiple| u64::from(multiple)).sum::<u64>() as f64 > MAX_MULTIPLE {
            let why = format!(
                "all different `multipleOf` together are more than {MAX_MULTIPLE}, which is not taken"
            );
            return Err(SchemaError::new(place, why));
        }
        Ok(())
    }

    pub(super) fn number(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        if keys.contains_key("multipleOf") {
            return self.multiples(keys, at);
        }
        let bound = |name| bound(keys, name, at);
        let (min, above) = (bound("minimum")?, bound("exclusiveMinimum")?);
        let (max, below) = (bound("maximum")?, bound("exclusiveMaximum")?);
        let above_min = above.is_some_and(|above| min.is_none_or(|min| above >= min));
        let below_max = below.is_some_and(|below| max.is_none_or(|max| below <= max));
        let min = if above_min { above } else { min }.unwrap_or(-MAX_EXACT);
        let max = if below_max { below } else { max }.unwrap_or(MAX_EXACT);
        if min > max || (min == max && (above_min || below_max)) {
            return Ok(Node::Never);
        }
        let one_sign = min >= 0.0 || max <= 0.0;
        if (above_min || below_max) && one_sign && min.trunc() == max.trunc() {
            let name = if above_min { "exclusiveMinimum" } else { "exclusiveMaximum" };
            let why = format!("`{name}` is not taken where both bounds have one whole part, {}", min.trunc());
            return Err(SchemaError::new(&format!("{at}/{name}"), why));
        }
        Ok(Node::Number(Numbers { min, max, above_min, below_max, multiple_of: None }))
    }

    /// Numbers that are a multiple of a whole number: they are whole themselves.
    fn multiples(&mut self, keys: &Map<String, Value>, at: &str) -> Result<Node, SchemaError> {
        Ok(match self.integer(keys, at)? {
            Node::Integer(Integers { min, max, multiple_of }) => {
                let bound = |bound: i64| (bound as f64).clamp(-MAX_EXACT, MAX_EXACT);
                let (min, max) = (bound(min), bound(max));
                Node::Number(Numbers { min, max, above_min: false, below_max: false, multiple_of })
            }
            node => node,
        })
    }
}

pub(super) fn bound(keys: &Map<String, Value>, name: &str, at: &str) -> Result<Option<f64>, SchemaError> {
    let Some(value) = keys.get(name) else { return Ok(None) };
    let exact = value.as_i64().is_none_or(|whole| whole.unsigned_abs() <= MAX_EXACT as u64);
    let number = value.as_f64().filter(|x| exact && x.abs() <= MAX_EXACT);
    let why =
        || SchemaError::new(&format!("{at}/{name}"), format!("{value} is no number between -2^53 and 2^53"));
    // There is one zero.
    number.map(|x| Some(x + 0.0)).ok_or_else(why)
}
