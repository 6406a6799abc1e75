//! Quantities: `quantity("1.5Gi").isLessThan(quantity("2Gi"))`.

use std::cmp::Ordering;

use object::Quantity;

use super::Answer;
use crate::error::Failure;
use crate::value::Value;

pub(super) fn call(method: bool, name: &str, args: &[&Value]) -> Answer {
    Some(match (name, args) {
        ("quantity", [Value::String(text)]) => {
            let words = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
            Quantity::parse(text).map(Value::Quantity).ok_or_else(|| Failure::new(words))
        }
        ("isQuantity", [Value::String(text)]) => Ok(Value::Bool(Quantity::parse(text).is_some())),
        (_, [Value::Quantity(quantity)]) if method => match name {
            "isInteger" => Ok(Value::Bool(quantity.millis() % 1000 == 0)),
            "asInteger" if quantity.millis() % 1000 == 0 => Ok(Value::Int(quantity.units())),
            "asInteger" => Err(Failure::new("cannot convert value to integer")),
            "asApproximateFloat" => Ok(Value::Double(quantity.millis() as f64 / 1000.0)),
            "sign" => Ok(Value::Int(quantity.cmp(&Quantity::default()) as i64)),
            _ => return None,
        },
        (_, [Value::Quantity(a), Value::Quantity(b)]) if method => {
            let order = a.cmp(b);
            match name {
                "isLessThan" => Ok(Value::Bool(order == Ordering::Less)),
                "isGreaterThan" => Ok(Value::Bool(order == Ordering::Greater)),
                "compareTo" => Ok(Value::Int(order as i64)),
                "add" => Ok(Value::Quantity(a.plus(*b))),
                "sub" => Ok(Value::Quantity(a.minus(*b))),
                _ => return None,
            }
        }
        (_, [Value::Quantity(a), Value::Int(n)]) if method => match name {
            "add" => Ok(Value::Quantity(a.plus(Quantity::from_units(*n)))),
            "sub" => Ok(Value::Quantity(a.minus(Quantity::from_units(*n)))),
            _ => return None,
        },
        _ => return None,
    })
}
