//! The type that holds the values of two types, and nothing less exactly.

use crate::input::group_file::ReadError;
use crate::input::types::IN_UTC;
use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::{CastOptions, cast_with_options, concat, take};
use arrow::datatypes::{DataType, Field, FieldRef, TimeUnit};
use std::sync::Arc;

/// Where a field's metadata has the name of its type beyond Arrow's own, and what belongs to it.
const EXTENSION: [&str; 2] = ["ARROW:extension:name", "ARROW:extension:metadata"];

/// The type that holds the values of both, if there is one.
pub fn widest(a: &DataType, b: &DataType) -> Option<DataType> {
    use DataType::*;
    Some(match (a, b) {
        _ if a == b => a.clone(),
        (Null, other) | (other, Null) => other.clone(),
        (Dictionary(a, values), Dictionary(b, others)) => {
            let values = widest(values, others)?;
            let keys = number(a).zip(number(b)).and_then(|(a, b)| wider_number(a, b));
            keys.map_or(values.clone(), |keys| Dictionary(Box::new(keys), Box::new(values)))
        }
        (Dictionary(_, a), b) => widest(a, b)?,
        (a, Dictionary(_, b)) => widest(a, b)?,
        _ if number(a).is_some() && number(b).is_some() => wider_number(number(a)?, number(b)?)?,
        (Utf8 | LargeUtf8 | Utf8View, Utf8 | LargeUtf8 | Utf8View) => LargeUtf8,
        (
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
            Binary | LargeBinary | BinaryView | FixedSizeBinary(_),
        ) => LargeBinary,
        (Date32, Date64) | (Date64, Date32) => Date64,
        (Timestamp(a, zone), Timestamp(b, other)) if zone == other => Timestamp(finer(*a, *b), zone.clone()),
        (Duration(a), Duration(b)) => Duration(finer(*a, *b)),
        (Time32(_), Time32(_)) => Time32(TimeUnit::Millisecond),
        (Time64(_), Time64(_)) => Time64(TimeUnit::Nanosecond),
        (Time32(_), Time64(unit)) | (Time64(unit), Time32(_)) => Time64(*unit),
        (Decimal128(p, s) | Decimal256(p, s), Decimal128(q, t) | Decimal256(q, t)) => {
            let scale = *s.max(t);
            let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
            match u8::try_from(whole + i16::from(scale)).ok()? {
                precision @ ..=38 => Decimal128(precision, scale),
                precision @ ..=76 => Decimal256(precision, scale),
                _ => return None,
            }
        }
        (List(a), List(b)) => List(wider_item(a, b)?),
        (FixedSizeList(a, n), FixedSizeList(b, m)) if n == m => FixedSizeList(wider_item(a, b)?, *n),
        (List(a) | FixedSizeList(a, _), List(b) | FixedSizeList(b, _)) => List(wider_item(a, b)?),
        (List(a) | LargeList(a) | FixedSizeList(a, _), List(b) | LargeList(b) | FixedSizeList(b, _)) => {
            LargeList(wider_item(a, b)?)
        }
        (Struct(a), Struct(b)) if a.len() == b.len() => {
            let fields =
                a.iter().zip(b).map(|(a, b)| if a.name() == b.name() { wider_item(a, b) } else { None });
            Struct(fields.collect::<Option<_>>()?)
        }
        (Map(a, sorted), Map(b, _)) => Map(wider_item(a, b)?, *sorted),
        _ => return None,
    })
}

/// The field that holds the values of both, if there is one. Its name and metadata are those of the first, but for what is said of
/// its type beyond Arrow's own, as of UUIDs and of times in UTC, which only the values of both have.
pub fn wider_field(a: &Field, b: &Field) -> Option<Field> {
    let kind = widest(a.data_type(), b.data_type())?;
    let nullable = a.is_nullable() || b.is_nullable() || [a, b].iter().any(|f| f.data_type().is_null());
    let mut metadata = a.metadata().clone();
    let differs = |key: &&str| a.metadata().get(key) != b.metadata().get(key);
    if kind != *a.data_type() || kind != *b.data_type() || EXTENSION.iter().any(differs) {
        EXTENSION.iter().for_each(|key| drop(metadata.remove(key)));
    }
    if differs(&IN_UTC) {
        metadata.remove(IN_UTC);
    }
    Some(a.clone().with_data_type(kind).with_nullable(nullable).with_metadata(metadata))
}

fn wider_item(a: &FieldRef, b: &FieldRef) -> Option<FieldRef> {
    wider_field(a, b).map(Arc::new)
}

/// The kind of a number (`i`, `u` or `f`), and its bits.
fn number(kind: &DataType) -> Option<(char, u8)> {
    Some(match kind {
        DataType::Int8 => ('i', 8),
        DataType::Int16 => ('i', 16),
        DataType::Int32 => ('i', 32),
        DataType::Int64 => ('i', 64),
        DataType::UInt8 => ('u', 8),
        DataType::UInt16 => ('u', 16),
        DataType::UInt32 => ('u', 32),
        DataType::UInt64 => ('u', 64),
        DataType::Float16 => ('f', 16),
        DataType::Float32 => ('f', 32),
        DataType::Float64 => ('f', 64),
        _ => return None,
    })
}

fn wider_number(a: (char, u8), b: (char, u8)) -> Option<DataType> {
    let ((kind, bits), (other, narrow)) = if order(a) >= order(b) { (a, b) } else { (b, a) };
    let bits = match (kind, other) {
        _ if kind == other => bits.max(narrow),
        // A float holds integers of as many bits as its fraction has.
        ('f', _) => [16, 32, 64].into_iter().find(|&f| f >= bits && fraction(f) >= narrow)?,
        // A signed integer holds unsigned ones of fewer bits.
        _ => [8, 16, 32, 64].into_iter().find(|&i| i >= bits && i > narrow)?,
    };
    Some(match (kind, bits) {
        ('i', 8) => DataType::Int8,
        ('i', 16) => DataType::Int16,
        ('i', 32) => DataType::Int32,
        ('i', _) => DataType::Int64,
        ('u', 8) => DataType::UInt8,
        ('u', 16) => DataType::UInt16,
        ('u', 32) => DataType::UInt32,
        ('u', _) => DataType::UInt64,
        (_, 16) => DataType::Float16,
        (_, 32) => DataType::Float32,
        _ => DataType::Float64,
    })
}

fn order((kind, _): (char, u8)) -> usize {
    ['u', 'i', 'f'].iter().position(|&k| k == kind).unwrap_or(0)
}

fn fraction(bits: u8) -> u8 {
    match bits {
        16 => 11,
        32 => 24,
        _ => 53,
    }
}

fn finer(a: TimeUnit, b: TimeUnit) -> TimeUnit {
    [TimeUnit::Nanosecond, TimeUnit::Microsecond, TimeUnit::Millisecond]
        .into_iter()
        .find(|unit| [a, b].contains(unit))
        .unwrap_or(TimeUnit::Second)
}

/// An array in a type that [`widest`] gave, and the rows whose values it does not hold: dates past what a finer unit can.
/// These are null.
///
/// # Errors
/// [`ReadError::Overflow`] where fewer rows may do.
pub fn widened(array: &ArrayRef, kind: &DataType) -> Result<(ArrayRef, Vec<(usize, String)>), ReadError> {
    if array.data_type() == kind {
        return Ok((array.clone(), Vec::new()));
    }
    let options = CastOptions { safe: false, ..CastOptions::default() };
    let whole = match cast_with_options(array, kind, &options) {
        Ok(whole) => return Ok((whole, Vec::new())),
        Err(error) => ReadError::of(error.to_string()),
    };
    if let ReadError::Overflow(_) = whole {
        return Err(whole);
    }
    let (mut rows, mut lost) = (Vec::with_capacity(array.len()), Vec::new());
    for row in 0..array.len() {
        let one = take(array, &UInt64Array::from(vec![row as u64]), None);
        let one = one.and_then(|one| cast_with_options(&one, kind, &options));
        rows.push(one.unwrap_or_else(|error| {
            lost.push((row, format!("cannot be taken as {kind}, which other files have: {error}")));
            arrow::array::new_null_array(kind, 1)
        }));
    }
    let all: Vec<&dyn Array> = rows.iter().map(|array| array.as_ref()).collect();
    Ok((concat(&all).map_err(|error| ReadError::of(error.to_string()))?, lost))
}

/// What to do about two types that no other holds, in words: which one to cast to the other.
pub fn remedy(kind: &DataType, file: &str, first_kind: &DataType, first_file: &str) -> String {
    let is_text = |kind: &DataType| matches!(kind, DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View);
    let cast = match (number(kind), number(first_kind)) {
        (Some(('f', _)), Some(_)) => format!("cast it to {kind} in {first_file}"),
        (Some(_), Some(('f', _))) => format!("cast it to {first_kind} in {file}"),
        _ if is_text(kind) => format!("cast it to {kind} in {first_file}"),
        _ => format!("cast it to {first_kind} in {file}"),
    };
    format!("{cast}, or leave it out with --keep")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use arrow::array::{AsArray, Int64Array, TimestampSecondArray};
    use arrow::datatypes::TimestampNanosecondType;
    use std::collections::HashMap;

    #[test]
    fn the_wider_type_loses_nothing() {
        use DataType::*;
        let of = |keys, values| Dictionary(Box::new(keys), Box::new(values));
        let dictionary = of(Int8, Utf8);
        let list = |kind: DataType| List(Arc::new(Field::new("item", kind, true)));
        for (a, b, wide) in [
            (Int32, Int64, Some(Int64)),
            (UInt32, Int32, Some(Int64)),
            (UInt8, Int32, Some(Int32)),
            (UInt64, Int64, None),
            (Float32, Float64, Some(Float64)),
            (Int32, Float32, Some(Float64)),
            (Int8, Float32, Some(Float32)),
            (Int64, Float64, None),
            (Int64, Utf8, None),
            (Utf8, LargeUtf8, Some(LargeUtf8)),
            (dictionary.clone(), Utf8, Some(Utf8)),
            (dictionary.clone(), of(UInt8, Utf8), Some(of(Int16, Utf8))),
            (dictionary.clone(), of(Int32, LargeUtf8), Some(of(Int32, LargeUtf8))),
            (of(UInt64, Utf8), dictionary.clone(), Some(Utf8)),
            (of(Int8, Int64), dictionary.clone(), None),
            (Utf8View, dictionary, Some(LargeUtf8)),
            (Null, list(Utf8), Some(list(Utf8))),
            (list(Int8), list(Int64), Some(list(Int64))),
            (Decimal128(5, 2), Decimal128(6, 4), Some(Decimal128(7, 4))),
            (Decimal128(38, 0), Decimal128(38, 10), Some(Decimal256(48, 10))),
            (Timestamp(TimeUnit::Second, None), Timestamp(TimeUnit::Nanosecond, Some("UTC".into())), None),
            (Date32, Date64, Some(Date64)),
            (Boolean, Int8, None),
            (Date32, Utf8, None),
        ] {
            assert_eq!(widest(&a, &b), wide, "{a} {b}");
            assert_eq!(widest(&b, &a), wide, "{b} {a}");
        }
    }

    #[test]
    fn a_type_beyond_arrows_is_kept_where_all_have_it() {
        let named = |name: &str| HashMap::from([(EXTENSION[0].to_string(), name.to_string())]);
        let of = |kind, metadata| Field::new("id", kind, true).with_metadata(metadata);
        let bytes = DataType::FixedSizeBinary(16);
        let (uuid, plain) = (of(bytes.clone(), named("arrow.uuid")), of(bytes.clone(), HashMap::new()));
        assert_eq!(wider_field(&uuid, &uuid).unwrap(), uuid);
        for other in [plain.clone(), of(bytes.clone(), named("other"))] {
            assert_eq!(wider_field(&uuid, &other).unwrap(), plain);
        }
        let long = of(DataType::LargeBinary, named("arrow.uuid"));
        assert_eq!(wider_field(&uuid, &long).unwrap(), of(DataType::LargeBinary, HashMap::new()));
        let list = |field: &Field| Field::new("ids", DataType::List(Arc::new(field.clone())), true);
        assert_eq!(wider_field(&list(&uuid), &list(&plain)).unwrap(), list(&plain));
    }

    #[test]
    fn what_a_finer_unit_cannot_hold_is_lost_by_itself() {
        let seconds: ArrayRef = Arc::new(TimestampSecondArray::from(vec![Some(1), Some(1 << 40), None]));
        let (wide, lost) = widened(&seconds, &DataType::Timestamp(TimeUnit::Nanosecond, None)).unwrap();
        assert_eq!(lost.iter().map(|(row, _)| *row).collect::<Vec<_>>(), [1]);
        let values: Vec<_> = wide.as_primitive::<TimestampNanosecondType>().iter().collect();
        assert_eq!(values, [Some(1_000_000_000), None, None]);
        let same: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        assert!(widened(&same, &DataType::Int64).unwrap().1.is_empty());
    }
}
