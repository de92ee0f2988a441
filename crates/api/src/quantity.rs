//! Quantities (`100m`, `1Gi`, `2e3`): compared and added exactly. Texts are kept as the schema walk has made them.

use std::cmp::Ordering;

/// A quantity in units of 10⁻⁹, which is the finest upstream keeps; what is finer is rounded up, what is bigger saturates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Quantity(i128);

const NANO: i128 = 1_000_000_000;

impl Quantity {
    /// Nothing.
    pub const ZERO: Quantity = Quantity(0);

    /// Reads `<number><suffix>`; `None` when it is no quantity.
    pub fn parse(text: &str) -> Option<Quantity> {
        let (sign, text) = match text.as_bytes().first()? {
            b'-' => (-1, &text[1..]),
            b'+' => (1, &text[1..]),
            _ => (1, text),
        };
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return None;
        }
        let (multiplier, divisor) = scale(suffix)?;
        let mut nanos = digits(whole)?.saturating_mul(NANO).saturating_mul(multiplier);
        let mut place = NANO;
        let mut rest = 0i128;
        for digit in fraction.bytes() {
            // A fraction's digits past 10⁻⁹ still count when a big suffix multiplies them, so the division by the place comes last.
            let worth = i128::from(digit - b'0') * NANO.saturating_mul(multiplier);
            if place > i128::MAX / 10 / NANO {
                break;
            }
            rest = rest.saturating_add(div_up(worth.saturating_mul(NANO), place.saturating_mul(10)));
            place *= 10;
        }
        nanos = nanos.saturating_add(rest);
        Some(Quantity(sign * div_up(nanos, divisor)))
    }

    /// Of a value that the schema walk has left: a string or a number; zero when unset or unreadable.
    pub fn of(value: &serde_json::Value) -> Quantity {
        match value {
            serde_json::Value::String(text) => Quantity::parse(text).unwrap_or_default(),
            serde_json::Value::Number(number) => Quantity::parse(&number.to_string()).unwrap_or_default(),
            _ => Quantity::ZERO,
        }
    }

    /// Below zero.
    pub fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// Zero.
    pub fn is_zero(self) -> bool {
        self.0 == 0
    }

    /// A whole number.
    pub fn is_integer(self) -> bool {
        self.0 % NANO == 0
    }

    /// Whole thousandths.
    pub fn is_milli(self) -> bool {
        self.0 % (NANO / 1000) == 0
    }

    /// Rounded up to whole units.
    pub fn value(self) -> i64 {
        i64::try_from(div_up(self.0, NANO)).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }

    /// Rounded up to thousandths.
    pub fn milli_value(self) -> i64 {
        i64::try_from(div_up(self.0, NANO / 1000)).unwrap_or(if self.0 < 0 { i64::MIN } else { i64::MAX })
    }

    /// Compared by worth, not by text: `1Gi` and `1024Mi` are equal.
    pub fn compare(a: &serde_json::Value, b: &serde_json::Value) -> Ordering {
        Quantity::of(a).cmp(&Quantity::of(b))
    }
}

impl std::ops::Add for Quantity {
    type Output = Quantity;
    fn add(self, other: Quantity) -> Quantity {
        Quantity(self.0.saturating_add(other.0))
    }
}

fn div_up(a: i128, b: i128) -> i128 {
    if a > 0 { (a - 1) / b + 1 } else { a / b }
}

fn digits(text: &str) -> Option<i128> {
    text.bytes().try_fold(0i128, |sum, digit| Some(sum.saturating_mul(10).saturating_add(i128::from(digit.checked_sub(b'0')?))))
}

/// (multiplier, divisor) of a suffix.
fn scale(suffix: &str) -> Option<(i128, i128)> {
    Some(match suffix {
        "" => (1, 1),
        "n" => (1, NANO),
        "u" => (1, 1_000_000),
        "m" => (1, 1000),
        "k" => (1000, 1),
        "M" => (1_000_000, 1),
        "G" => (NANO, 1),
        "T" => (1000 * NANO, 1),
        "P" => (1_000_000 * NANO, 1),
        "E" => (NANO * NANO, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        _ => {
            let exponent: i32 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
            let power = 10i128.checked_pow(exponent.unsigned_abs().min(18))?;
            if exponent < 0 { (1, power) } else { (power, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::Quantity;

    #[test]
    fn quantities_compare_by_worth() {
        let equal = [("1Gi", "1024Mi"), ("1", "1000m"), ("0.5", "500m"), ("1e3", "1k"), ("1.5Gi", "1536Mi"), ("100", "1E2"), ("+2", "2"), (".5", "500m")];
        for (a, b) in equal {
            assert_eq!(Quantity::parse(a), Quantity::parse(b), "{a} {b}");
        }
        let less = [("999m", "1"), ("1G", "1Gi"), ("-1", "0"), ("1023Mi", "1Gi"), ("1n", "2n")];
        for (a, b) in less {
            assert!(Quantity::parse(a) < Quantity::parse(b), "{a} {b}");
        }
    }

    #[test]
    fn what_is_no_quantity_does_not_parse() {
        for text in ["", "Gi", "1 Gi", "1gi", "1.2.3", "one", "-", "1Gib"] {
            assert_eq!(Quantity::parse(text), None, "{text}");
        }
        assert_eq!(Quantity::parse("1500m").map(Quantity::value), Some(2));
        assert_eq!(Quantity::parse("0.1").map(Quantity::milli_value), Some(100));
    }
}
