//! Bounds on the values of a template: how deep they are nested, and what it costs to walk through them.
//!
//! The engine's fuel pays for instructions and for texts that it makes. It does not pay for walking a value, and a value
//! can be much larger than what made it (`[a, a]` over and over), or so deep that printing or dropping it overflows the
//! stack. So what a template keeps (`set`, `with`, loops, arguments) goes through [`HELD`], which refuses deep values and
//! makes lists of lazy ones; what it compares, prints or makes text of is walked through and paid for first.

use minijinja::value::{ObjectRepr, Rest, Tuple, ValueKind, ValueOrKwargs};
use minijinja::{Environment, Error, ErrorKind, State, Value};

/// The filter of a value that the template keeps.
pub const HELD: &str = "__held__";
/// The filter of a value that becomes an attribute of a namespace.
pub const ATTRIBUTE: &str = "__attribute__";
/// The filter of a value that is walked through, as one that is compared.
pub const WALKED: &str = "__walked__";
/// The filter of a value that is printed or becomes text.
pub const PRINTED: &str = "__printed__";

/// Lists and mappings that are nested deeper are refused.
const DEPTH: usize = 64;

/// Shares of a unit of fuel: what it costs to walk past a value, and to compare it. The engine itself charges for the
/// lists that filters make.
const SHARES: u64 = 32;
const WALK: u64 = 1;
const COMPARE: u64 = 64;

/// Values that a list or mapping may hold at any depth, each counted as often as it is there.
const VALUES: u64 = 1 << 18;

/// Bytes of text within a list or a mapping that one unit pays for: printing them costs more than copying.
const BYTES_A_UNIT: u64 = 16;

/// Adds the filters, and functions and a formatter that keep the bounds.
pub fn add(environment: &mut Environment<'static>) {
    environment.add_filter(HELD, |state: &State, value: Value| {
        let settled = Walk::new(state).settled(&value, 0)?;
        Ok::<_, Error>(settled.unwrap_or(value))
    });
    environment.add_filter(ATTRIBUTE, |state: &State, value: Value| {
        let settled = Walk { namespaces: false, ..Walk::new(state) }.settled(&value, 0)?;
        Ok::<_, Error>(settled.unwrap_or(value))
    });
    environment.add_filter(WALKED, |state: &State, value: Value| compared(state, &value).map(|()| value));
    environment.add_filter(PRINTED, |state: &State, value: Value| printed(state, &value).map(|()| value));
    environment.add_function("namespace", |state: &mut State, arguments: Rest<ValueOrKwargs>| {
        let arguments = arguments.into_values();
        for argument in &arguments {
            for (_, value) in
                argument.as_object().and_then(|object| object.try_iter_pairs()).into_iter().flatten()
            {
                Walk { namespaces: false, ..Walk::new(state) }.settled(&value, 0)?;
            }
        }
        Value::from_function(minijinja::functions::namespace).call(state, &arguments)
    });
    environment.set_formatter(|out, state, value| {
        printed(state, value)?;
        minijinja::escape_formatter(out, state, value)
    });
}

/// Pays for comparing a value.
///
/// # Errors
/// A value that is too deep or too large.
pub fn compared(state: &State, value: &Value) -> Result<(), Error> {
    if is_container(value) { Walk { cost: COMPARE, ..Walk::new(state) }.visit(value, 0) } else { Ok(()) }
}

/// Pays for the text of a value, before it is made.
///
/// # Errors
/// A value that is too deep or too large.
pub fn printed(state: &State, value: &Value) -> Result<(), Error> {
    if is_container(value) { Walk { printing: true, ..Walk::new(state) }.visit(value, 0) } else { Ok(()) }
}

/// Pays for reading a text from end to end.
///
/// # Errors
/// Too little fuel.
pub fn read(state: &State, value: &Value) -> Result<(), Error> {
    value.as_str().map_or(Ok(()), |text| state.consume_fuel(text.len() as u64 / 64))
}

/// Pays for what a format makes of values: its widths, and each value at each of its places.
///
/// # Errors
/// Too little fuel, or a value that is too deep.
pub fn formatted(state: &State, format: &str, values: &[Value]) -> Result<(), Error> {
    let mut cost = 0u64;
    let mut number = 0u64;
    for c in format.chars().chain([' ']) {
        match c.to_digit(10) {
            Some(digit) => number = number.saturating_mul(10).saturating_add(digit.into()),
            None => cost = cost.saturating_add(std::mem::take(&mut number)),
        }
    }
    let places = format.matches(['{', '%']).count() as u64;
    // A width may be a value too.
    let inner =
        format.contains('*') || format.split('{').any(|field| field.contains(':') && !field.contains('}'));
    for value in values {
        printed(state, value)?;
        let length = match value.as_str() {
            Some(text) => text.len() as u64,
            None if is_container(value) => value.to_string().len() as u64,
            None => value.as_i64().filter(|_| inner).map_or(0, i64::unsigned_abs),
        };
        cost = cost.saturating_add(places.saturating_mul(length));
    }
    state.consume_fuel(cost / 64)
}

fn is_container(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable | ValueKind::Map)
}

fn is_namespace(value: &Value) -> bool {
    value.as_object().is_some_and(|object| object.type_name().ends_with("::Namespace"))
}

/// A walk through a value, which costs fuel.
struct Walk<'w, 't, 'e> {
    state: &'w State<'t, 'e>,
    /// Shares that are not paid for yet.
    shares: u64,
    /// What a value costs.
    cost: u64,
    seen: u64,
    /// Pay for the bytes of texts.
    printing: bool,
    /// Whether there may be a namespace in it. One within another could hold itself.
    namespaces: bool,
}

/// What is done with each key and item of a container. A list has no keys.
type Each<'a, W> = dyn FnMut(&mut W, Option<Value>, Value) -> Result<(), Error> + 'a;

impl<'w, 't, 'e> Walk<'w, 't, 'e> {
    fn new(state: &'w State<'t, 'e>) -> Self {
        Walk { state, shares: 0, cost: WALK, seen: 0, printing: false, namespaces: true }
    }

    fn pay(&mut self, shares: u64) -> Result<(), Error> {
        self.shares += shares;
        let units = self.shares / SHARES;
        self.shares %= SHARES;
        if units > 0 { self.state.consume_fuel(units) } else { Ok(()) }
    }

    fn step(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.pay(self.cost)?;
        self.seen += 1;
        if self.seen > VALUES {
            let why = format!("makes a list or mapping of more than {VALUES} values");
            return Err(Error::new(ErrorKind::InvalidOperation, why));
        }
        if self.printing
            && let Some(text) = value.as_str()
        {
            self.state.consume_fuel(text.len() as u64 / BYTES_A_UNIT)?;
        }
        let why = if is_container(value) && depth > DEPTH {
            format!("makes a list or mapping that is nested deeper than {DEPTH}")
        } else if !self.namespaces && is_namespace(value) {
            "a namespace cannot hold a namespace".into()
        } else {
            return Ok(());
        };
        Err(Error::new(ErrorKind::InvalidOperation, why))
    }

    /// What a value holds directly: keys and values of a mapping, items of a list.
    fn each(&mut self, value: &Value, depth: usize, each: &mut Each<Self>) -> Result<(), Error> {
        self.step(value, depth)?;
        let Some(object) = value.as_object().filter(|_| depth == 0 || !is_namespace(value)) else {
            return Ok(());
        };
        match object.repr() {
            ObjectRepr::Map => {
                for (key, item) in object.try_iter_pairs().into_iter().flatten() {
                    each(self, Some(key), item)?;
                }
            }
            ObjectRepr::Seq | ObjectRepr::Iterable => {
                for item in object.try_iter().into_iter().flatten() {
                    each(self, None, item)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn visit(&mut self, value: &Value, depth: usize) -> Result<(), Error> {
        self.each(value, depth, &mut |walk, key, item| {
            key.map_or(Ok(()), |key| walk.step(&key, depth))?;
            walk.visit(&item, depth + 1)
        })
    }

    /// The value with a list in place of each lazy one, whose own depth would not show; `None` if it has none.
    fn settled(&mut self, value: &Value, depth: usize) -> Result<Option<Value>, Error> {
        if !is_container(value) || is_namespace(value) {
            return self.step(value, depth).map(|()| None);
        }
        let (mut keys, mut items) = (Vec::new(), Vec::new());
        let is_map = value.kind() == ValueKind::Map;
        let mut same = is_map || value.is_tuple() || value.downcast_object_ref::<Vec<Value>>().is_some();
        self.each(value, depth, &mut |walk, key, item| {
            let settled = walk.settled(&item, depth + 1)?;
            same &= settled.is_none();
            keys.extend(key);
            items.push(settled.unwrap_or(item));
            Ok(())
        })?;
        Ok(match () {
            () if same => None,
            () if is_map => Some(Value::from_pairs(keys.into_iter().zip(items))),
            () if value.is_tuple() => Some(Value::from(Tuple::from(items))),
            () => Some(Value::from(items)),
        })
    }
}
