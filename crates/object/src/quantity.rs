//! Resource quantities (`100m`, `1.5Gi`, `2e3`), exact: the semantics of `apimachinery/pkg/api/resource`.

use std::fmt;

/// A quantity in nano-units, exact between 1n and about 1.7e29. Compares by value; prints its canonical form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Default, Hash)]
pub struct Quantity {
    nanos: i128,
}

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// `value` whole units (bytes, cores, pods).
    pub fn from_units(value: i64) -> Self {
        Self { nanos: i128::from(value) * NANO }
    }
    /// `value` thousandths (millicores).
    pub fn from_millis(value: i64) -> Self {
        Self { nanos: i128::from(value) * (NANO / 1000) }
    }
    /// Whole units, rounded up, as `Value()`.
    pub fn units(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO))
    }
    /// Thousandths, rounded up, as `MilliValue()`.
    pub fn millis(self) -> i64 {
        clamp(ceil_div(self.nanos, NANO / 1000))
    }
    /// True below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }
    /// True at zero.
    pub fn is_zero(self) -> bool {
        self.nanos == 0
    }
    /// Sum.
    pub fn plus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_add(other.nanos) }
    }
    /// Difference.
    pub fn minus(self, other: Self) -> Self {
        Self { nanos: self.nanos.saturating_sub(other.nanos) }
    }

    /// Parses a quantity; `None` when the text is none. Fractions below one nano-unit round away from zero.
    pub fn parse(text: &str) -> Option<Self> {
        Self::parse_as(text).map(|(quantity, _)| quantity)
    }

    fn parse_as(text: &str) -> Option<(Self, Format)> {
        let (negative, rest) = match text.as_bytes().first()? {
            b'-' => (true, &text[1..]),
            b'+' => (false, &text[1..]),
            _ => (false, text),
        };
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, suffix) = rest.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') || number.len() > 60 {
            return None;
        }
        let (base, exponent, format) = scale(suffix)?;
        // value = digits * 10^-fraction.len() * base^exponent, wanted in nanos
        let mut digits: i128 = 0;
        for d in whole.bytes().chain(fraction.bytes()) {
            digits = digits.checked_mul(10)?.checked_add(i128::from(d - b'0'))?;
        }
        let ten = 9 - i32::try_from(fraction.len()).ok()? + if base == 10 { exponent } else { 0 };
        let two = if base == 2 { u32::try_from(exponent).ok()? } else { 0 };
        let mut nanos = digits.checked_mul(1i128.checked_shl(two)?)?;
        if ten >= 0 {
            nanos = nanos.checked_mul(10i128.checked_pow(ten.unsigned_abs())?)?;
        } else {
            nanos = match 10i128.checked_pow(ten.unsigned_abs()) {
                Some(divisor) => ceil_div(nanos, divisor),
                None => i128::from(nanos > 0),
            };
        }
        Some((Self { nanos: if negative { -nanos } else { nanos } }, format))
    }

    /// The canonical text of a quantity string, as the API server stores it (`1024Mi` -> `1Gi`, `0.5` -> `500m`).
    pub fn canonical(text: &str) -> Option<String> {
        let (quantity, format) = Self::parse_as(text)?;
        Some(quantity.print(format))
    }

    /// The canonical text in the manner of another: with its kind of suffixes.
    pub fn print_like(self, text: &str) -> String {
        self.print(Self::parse_as(text).map_or(Format::Decimal, |(_, format)| format))
    }
    /// The canonical text with binary suffixes (memory).
    pub fn to_binary_string(self) -> String {
        self.print(Format::Binary)
    }

    fn print(self, format: Format) -> String {
        let (sign, nanos) = if self.nanos < 0 { ("-", -self.nanos) } else { ("", self.nanos) };
        if nanos == 0 {
            return "0".into();
        }
        if format == Format::Binary && nanos % NANO == 0 && nanos / NANO >= 1024 {
            let mut units = nanos / NANO;
            let mut step = 0;
            while units % 1024 == 0 && step < 6 {
                units /= 1024;
                step += 1;
            }
            return format!("{sign}{units}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
        }
        let (mut digits, mut exponent) = (nanos, -9);
        while digits % 1000 == 0 && exponent < 18 {
            digits /= 1000;
            exponent += 3;
        }
        match format {
            Format::Exponent if exponent != 0 => format!("{sign}{digits}e{exponent}"),
            _ => {
                let suffixes = ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"];
                let at = usize::try_from((exponent + 9) / 3).unwrap_or(0);
                format!("{sign}{digits}{}", suffixes[at])
            }
        }
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.print(Format::Decimal))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Decimal,
    Binary,
    Exponent,
}

/// (base, exponent, format) of a suffix.
fn scale(suffix: &str) -> Option<(u8, i32, Format)> {
    let decimal = |e| Some((10, e, Format::Decimal));
    let binary = |e| Some((2, e, Format::Binary));
    match suffix {
        "n" => decimal(-9),
        "u" => decimal(-6),
        "m" => decimal(-3),
        "" => decimal(0),
        "k" => decimal(3),
        "M" => decimal(6),
        "G" => decimal(9),
        "T" => decimal(12),
        "P" => decimal(15),
        "E" => decimal(18),
        "Ki" => binary(10),
        "Mi" => binary(20),
        "Gi" => binary(30),
        "Ti" => binary(40),
        "Pi" => binary(50),
        "Ei" => binary(60),
        other => {
            let exponent = other.strip_prefix(['e', 'E'])?;
            let exponent: i32 = exponent.parse().ok()?;
            (-30..=30).contains(&exponent).then_some((10, exponent, Format::Exponent))
        }
    }
}

fn ceil_div(value: i128, divisor: i128) -> i128 {
    value.div_euclid(divisor) + i128::from(value.rem_euclid(divisor) != 0)
}

fn clamp(value: i128) -> i64 {
    i64::try_from(value).unwrap_or(if value < 0 { i64::MIN } else { i64::MAX })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn canonical_forms() {
        let check = |text: &str, wanted: &str| assert_eq!(Quantity::canonical(text).as_deref(), Some(wanted), "{text}");
        check("0.5", "500m");
        check("1024Mi", "1Gi");
        check("1.5Gi", "1536Mi");
        check("1000", "1k");
        check("100m", "100m");
        check("2e3", "2e3");
        check("0", "0");
        check("-1Ki", "-1Ki");
        check("1000m", "1");
        check("128974848", "128974848");
        for bad in ["", "x", "1.2.3", "1X", "--1", "1e99", "Ki"] {
            assert_eq!(Quantity::canonical(bad), None, "{bad}");
        }
    }

    #[test]
    fn values_round_up() {
        let q = Quantity::parse("1500m").unwrap();
        assert_eq!((q.units(), q.millis()), (2, 1500));
        assert_eq!(Quantity::parse("128Mi").unwrap().units(), 134_217_728);
        assert!(Quantity::parse("1").unwrap() < Quantity::parse("1Ki").unwrap());
    }
}
