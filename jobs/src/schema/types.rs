//! The Arrow type of a schema's values.

use super::AnswerSchema;
use super::node::{Format, Node, Object};
use arrow::datatypes::{DataType, Field, Fields, TimeUnit};
use serde_json::Value;
use std::sync::Arc;

/// The field of a struct with the properties that the schema does not name, as JSON.
pub(super) const OTHERS: &str = "additional_properties";

/// A schema of more values within values is a column of JSON as a whole.
const MAX_FIELDS: usize = 4000;
const MAX_DEPTH: usize = 32;

/// A column of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Column {
    pub kind: Kind,
    /// Whether a value may be null.
    pub nullable: bool,
    /// Whether it is one of an enumeration, or a boolean.
    pub chosen: bool,
}

/// What a column holds.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    Integer,
    Number,
    Boolean,
    String,
    Date,
    Time,
    DateTime,
    /// One of these texts.
    Label(Vec<String>),
    List(Box<Column>),
    Struct {
        properties: Vec<(String, Column)>,
        /// Whether there may be others.
        others: bool,
    },
    /// A value that has no type of its own, as it is written.
    Json,
}

impl Column {
    pub fn data_type(&self) -> DataType {
        match &self.kind {
            Kind::Integer => DataType::Int64,
            Kind::Number => DataType::Float64,
            Kind::Boolean => DataType::Boolean,
            Kind::String | Kind::Json => DataType::Utf8,
            Kind::Date => DataType::Date32,
            Kind::Time => DataType::Time64(TimeUnit::Microsecond),
            Kind::DateTime => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
            Kind::Label(_) => DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8)),
            Kind::List(items) => DataType::List(items.item()),
            Kind::Struct { properties, others } => DataType::Struct(fields(properties, *others)),
        }
    }

    /// The field of a list of these.
    pub fn item(&self) -> Arc<Field> {
        Arc::new(Field::new("item", self.data_type(), self.nullable))
    }
}

pub(super) fn fields(properties: &[(String, Column)], others: bool) -> Fields {
    let named = properties.iter().map(|(name, column)| Field::new(name, column.data_type(), column.nullable));
    named.chain(others.then(|| Field::new(OTHERS, DataType::Utf8, true))).collect()
}

impl AnswerSchema {
    /// The type of a column of answers.
    pub fn data_type(&self) -> DataType {
        self.column().0.data_type()
    }

    /// What in the answers has no type of its own and is a string of JSON: the places, as `answer.items[]`.
    pub fn untyped(&self) -> Vec<String> {
        self.column().1
    }

    pub(super) fn column(&self) -> (Column, Vec<String>) {
        let mut planner = Planner {
            definitions: &self.definitions,
            open: Vec::new(),
            left: MAX_FIELDS,
            untyped: Vec::new(),
        };
        let column = planner.column(&self.root, "answer");
        if planner.left == 0 {
            return (Column { kind: Kind::Json, nullable: true, chosen: false }, vec!["answer".into()]);
        }
        (column, planner.untyped)
    }
}

struct Planner<'a> {
    definitions: &'a [Node],
    /// Definitions that are being followed: one that recurs has no type.
    open: Vec<usize>,
    left: usize,
    untyped: Vec<String>,
}

impl Planner<'_> {
    fn column(&mut self, node: &Node, at: &str) -> Column {
        let before = self.untyped.len();
        let column = self.typed(node, at);
        if column.kind == Kind::Json {
            // What is below needs no word of its own.
            self.untyped.truncate(before);
            self.untyped.push(at.into());
        }
        column
    }

    fn typed(&mut self, node: &Node, at: &str) -> Column {
        let plain = |kind| Column { kind, nullable: false, chosen: false };
        let json = Column { kind: Kind::Json, nullable: true, chosen: false };
        self.left = self.left.saturating_sub(1);
        if self.left == 0 || self.open.len() > MAX_DEPTH {
            return json;
        }
        match node {
            Node::Any | Node::Never | Node::Null => json,
            Node::Boolean => Column { chosen: true, ..plain(Kind::Boolean) },
            Node::Integer(_) => plain(Kind::Integer),
            Node::Number(_) => plain(Kind::Number),
            Node::String(strings) => plain(match strings.format {
                Some(Format::Date) => Kind::Date,
                Some(Format::Time) => Kind::Time,
                Some(Format::DateTime) => Kind::DateTime,
                Some(Format::Other) | None => Kind::String,
            }),
            Node::Array(array) if array.prefix.is_empty() && *array.items != Node::Never => {
                plain(Kind::List(Box::new(self.column(&array.items, &format!("{at}[]")))))
            }
            Node::Array(_) => plain(Kind::Json),
            Node::Object(object) => self.object(object, at),
            Node::Enum(values) => of_values(values),
            Node::AnyOf(nodes) => self.union(nodes, at),
            Node::Ref(number) if self.open.contains(number) => json,
            Node::Ref(number) => {
                self.open.push(*number);
                let definitions = self.definitions;
                let column = self.typed(&definitions[*number], at);
                self.open.pop();
                column
            }
        }
    }

    fn object(&mut self, object: &Object, at: &str) -> Column {
        let others = object.is_open();
        let named = object.properties.iter().filter(|p| p.node != Node::Never);
        let mut properties = Vec::new();
        for property in named {
            let mut column = self.column(&property.node, &format!("{at}.{}", property.name));
            column.nullable |= !property.required;
            properties.push((property.name.clone(), column));
        }
        let unnamed = properties.iter().any(|(name, _)| name.is_empty() || (others && name == OTHERS));
        let kind = match properties.is_empty() || unnamed {
            true => Kind::Json,
            false => Kind::Struct { properties, others },
        };
        Column { kind, nullable: false, chosen: false }
    }

    /// What one of several nodes allows: the type that all have but null.
    fn union(&mut self, nodes: &[Node], at: &str) -> Column {
        let typed = nodes.iter().filter(|node| **node != Node::Null);
        let columns: Vec<Column> = typed.map(|node| self.typed(node, at)).collect();
        let nullable = columns.len() < nodes.len() || columns.iter().any(|column| column.nullable);
        let chosen = !columns.is_empty() && columns.iter().all(|column| column.chosen);
        let mut kinds = columns.into_iter().map(|column| column.kind);
        let first = kinds.next().unwrap_or(Kind::Json);
        let kind = kinds.try_fold(first, united);
        Column { kind: kind.unwrap_or(Kind::Json), nullable, chosen }
    }
}

/// The kind of values of two kinds, if it is more than JSON.
fn united(a: Kind, b: Kind) -> Option<Kind> {
    let column = |a: Column, b: Column| {
        let (nullable, chosen) = (a.nullable || b.nullable, a.chosen && b.chosen);
        Some(Column { kind: united(a.kind, b.kind)?, nullable, chosen })
    };
    match (a, b) {
        (Kind::Label(mut all), Kind::Label(more)) => {
            let new = more.into_iter().filter(|label| !all.contains(label)).collect::<Vec<_>>();
            all.extend(new);
            Some(Kind::Label(all))
        }
        (Kind::List(a), Kind::List(b)) => Some(Kind::List(Box::new(column(*a, *b)?))),
        (Kind::Struct { properties: a, others }, Kind::Struct { properties: b, others: of_b })
            if others == of_b =>
        {
            // All properties of the one are among those of the other.
            let (mut few, many) = if a.len() <= b.len() { (a, b) } else { (b, a) };
            let mut properties = Vec::with_capacity(many.len());
            for (name, of_many) in many {
                let at = few.iter().position(|(other, _)| *other == name);
                let united = match at.map(|at| few.remove(at)) {
                    Some((_, of_few)) => column(of_few, of_many)?,
                    None => Column { nullable: true, ..of_many },
                };
                properties.push((name, united));
            }
            few.is_empty().then_some(Kind::Struct { properties, others })
        }
        (a, b) => (a == b).then_some(a),
    }
}

fn of_values(values: &[Value]) -> Column {
    let nullable = values.contains(&Value::Null);
    let others: Vec<&Value> = values.iter().filter(|value| !value.is_null()).collect();
    let all = |is: fn(&Value) -> bool| !others.is_empty() && others.iter().all(|value| is(value));
    let kind = if all(Value::is_string) {
        Kind::Label(others.iter().filter_map(|value| value.as_str()).map(str::to_string).collect())
    } else if all(Value::is_i64) {
        Kind::Integer
    } else if all(Value::is_number) {
        Kind::Number
    } else if all(Value::is_boolean) {
        Kind::Boolean
    } else {
        Kind::Json
    };
    Column { kind, nullable, chosen: true }
}
