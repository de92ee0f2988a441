//! Quantities, written the one way `resource.Quantity` writes them.
//!
//! Upstream: `ParseQuantity` and `CanonicalizeBytes` (apimachinery, pkg/api/resource/quantity.go): values are rounded up to nano, held at
//! 2^63-1 at most, and keep the family of suffixes they were written with.

/// What upstream says of text that is not a quantity.
pub(crate) const FORMAT: &str = "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'";
const SUFFIX: &str = "unable to parse quantity's suffix";

const NANO: i128 = 1_000_000_000;
const MAX: i128 = i64::MAX as i128 * NANO;
/// Decimal quantities have no maximum upstream; here, what 128 bits hold.
const DECIMAL_MAX: i128 = 10_i128.pow(38);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Family {
    Binary,
    Decimal,
    Exponent,
}

/// The canonical text, or `None` when it is canonical already (the common case, found without allocating).
pub(crate) fn canonical(text: &str) -> Result<Option<String>, &'static str> {
    let trimmed = text.trim();
    let parts = Parts::of(trimmed)?;
    if trimmed == "0" || parts.kept_as_written() {
        return Ok((trimmed.len() != text.len()).then(|| trimmed.to_owned()));
    }
    let nanos = nanos(parts.whole, parts.fraction, parts.family, parts.power);
    Ok(Some(print(if parts.negative { -nanos } else { nanos }, parts.family)).filter(|written| written != text))
}

/// A quantity's text, taken apart; leading zeros are dropped.
struct Parts<'a> {
    negative: bool,
    whole: &'a str,
    fraction: &'a str,
    family: Family,
    /// Of two or ten.
    power: i32,
}

impl<'a> Parts<'a> {
    fn of(text: &'a str) -> Result<Self, &'static str> {
        if text.is_empty() {
            return Err(FORMAT);
        }
        let rest = text.strip_prefix(['-', '+']).unwrap_or(text);
        let (whole, rest) = split_digits(rest);
        let (fraction, suffix) = rest.strip_prefix('.').map_or(("", rest), split_digits);
        check_suffix(suffix)?;
        let (family, power) = family_of(suffix).ok_or(SUFFIX)?;
        Ok(Self { negative: text.starts_with('-'), whole: whole.trim_start_matches('0'), fraction, family, power })
    }

    /// Upstream keeps the text of a number that its fast path finds in canonical form, even `+5` and `12.345`.
    fn kept_as_written(&self) -> bool {
        let digits = self.whole.len() + self.fraction.len();
        if self.whole.is_empty() || digits > 18 {
            return false;
        }
        if self.family == Family::Binary {
            let low = self.whole[self.whole.len().saturating_sub(3)..].parse::<u32>().unwrap_or(0);
            return self.fraction.is_empty() && digits as i32 + self.power * 3 / 10 < 15 && low % 8 != 0;
        }
        let scale = self.power.saturating_sub(self.fraction.len() as i32);
        let last = |n: usize| self.whole.bytes().chain(self.fraction.bytes()).rev().nth(n);
        scale >= -9 && scale % 3 == 0 && (0..3).any(|n| last(n) != Some(b'0'))
    }
}

fn split_digits(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

/// The form `[eEinumkKMGTP]*[-+]?[0-9]*`.
fn check_suffix(suffix: &str) -> Result<(), &'static str> {
    let rest = suffix.trim_start_matches(|c| "eEinumkKMGTP".contains(c));
    let rest = rest.strip_prefix(['-', '+']).unwrap_or(rest);
    if rest.bytes().all(|b| b.is_ascii_digit()) { Ok(()) } else { Err(FORMAT) }
}

/// The family, and the power of two or ten.
fn family_of(suffix: &str) -> Option<(Family, i32)> {
    Some(match suffix {
        "Ki" => (Family::Binary, 10),
        "Mi" => (Family::Binary, 20),
        "Gi" => (Family::Binary, 30),
        "Ti" => (Family::Binary, 40),
        "Pi" => (Family::Binary, 50),
        "Ei" => (Family::Binary, 60),
        "n" => (Family::Decimal, -9),
        "u" => (Family::Decimal, -6),
        "m" => (Family::Decimal, -3),
        "" => (Family::Decimal, 0),
        "k" => (Family::Decimal, 3),
        "M" => (Family::Decimal, 6),
        "G" => (Family::Decimal, 9),
        "T" => (Family::Decimal, 12),
        "P" => (Family::Decimal, 15),
        "E" => (Family::Decimal, 18),
        _ => {
            let exponent = suffix.strip_prefix(['e', 'E'])?;
            (Family::Exponent, exponent.parse::<i32>().ok()?)
        }
    })
}

/// Rounded away from zero, held at the maximum.
fn nanos(whole: &str, fraction: &str, family: Family, power: i32) -> i128 {
    let fraction = fraction.trim_end_matches('0');
    let digits = || whole.bytes().chain(fraction.bytes()).skip_while(|b| *b == b'0');
    if family == Family::Binary {
        // At most 19 significant digits can matter before the maximum; more of a fraction is below a nano unit.
        let mut value: i128 = 0;
        for byte in whole.bytes() {
            value = value.saturating_mul(10).saturating_add(i128::from(byte - b'0')).min(MAX);
        }
        let mut nanos = value.saturating_mul(1 << power).saturating_mul(NANO).min(MAX);
        // The first 18 digits of a fraction decide; what comes after only rounds up.
        let mut part: i128 = 0;
        let kept = fraction.len().min(18);
        for byte in fraction[..kept].bytes() {
            part = part * 10 + i128::from(byte - b'0');
        }
        let part = part << power;
        if kept <= 9 {
            nanos = nanos.saturating_add(part.saturating_mul(10_i128.pow(9 - kept as u32)));
        } else {
            let scale = 10_i128.pow(kept as u32 - 9);
            nanos = nanos.saturating_add(part / scale + i128::from(part % scale != 0));
        }
        return nanos.min(MAX);
    }
    // value = digits × 10^(power - fraction digits); in nano units nine powers more.
    let shift = i64::from(power) - fraction.len() as i64 + 9;
    let count = digits().count() as i64;
    if count == 0 {
        return 0;
    }
    if count + shift > 38 {
        return DECIMAL_MAX;
    }
    let keep = (count + shift.min(0)).max(0);
    let mut value: i128 = 0;
    let mut rest = false;
    for (at, byte) in digits().enumerate() {
        if (at as i64) < keep {
            value = value * 10 + i128::from(byte - b'0');
        } else {
            rest |= byte != b'0';
        }
    }
    value = value.saturating_add(i128::from(rest));
    for _ in 0..shift.max(0) {
        value = value.saturating_mul(10);
    }
    value
}

fn print(nanos: i128, family: Family) -> String {
    if nanos == 0 {
        return "0".to_owned();
    }
    let small = nanos > -1024 * NANO && nanos < 1024 * NANO;
    if family == Family::Binary && !small && nanos % NANO == 0 {
        let (mut number, mut step) = (nanos / NANO, 0);
        while number % 1024 == 0 && step < 6 {
            number /= 1024;
            step += 1;
        }
        return format!("{number}{}", ["", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei"][step]);
    }
    let (mut number, mut exponent) = (nanos, -9);
    while number % 1000 == 0 && (exponent < 18 || family == Family::Exponent) {
        number /= 1000;
        exponent += 3;
    }
    match (family, exponent) {
        (_, 0) => number.to_string(),
        (Family::Exponent, _) => format!("{number}e{exponent}"),
        _ => format!("{number}{}", ["n", "u", "m", "", "k", "M", "G", "T", "P", "E"][((exponent + 9) / 3) as usize]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_written_as_upstream_writes_them() {
        for (text, expected) in [
            ("1024Mi", "1Gi"), ("0.5", "500m"), ("1000m", "1"), ("1e3", "1e3"), ("1.5Gi", "1536Mi"), ("100m", "100m"), ("1", "1"), ("0", "0"),
            ("0Mi", "0"), ("1000Ki", "1000Ki"), ("1048576", "1048576"), ("1000", "1k"), ("1500", "1500"), ("1000000", "1M"), ("1Ki", "1Ki"), ("512", "512"),
            ("0.5Ki", "512"), ("1.5", "1500m"), ("1.0001", "1000100u"), ("0.0000000001", "1n"), ("-1", "-1"), ("-1.5Gi", "-1536Mi"), (" 5 ", "5"), ("2048Mi", "2Gi"),
            ("1E", "1E"), ("1e-3", "1e-3"), ("1.5e3", "1500"), ("10e3", "10e3"), ("1e39", "1e39"), ("1000k", "1M"), ("1234567890123", "1234567890123"), ("0.1", "100m"),
            ("100Ei", "9223372036854775807"), ("0.1Gi", "107374182400m"), ("1.1Ki", "1126400m"), (".5", "500m"), ("10Gi", "10Gi"), ("12e6", "12e6"), ("1000Mi", "1000Mi"),
            ("9223372036854775808", "9223372036854775808"), ("0.100", "100m"), ("000", "0"), (".", "0"), ("Gi", "0"), ("1.0", "1"), ("2.50", "2500m"), ("1.2345678912", "1234567892n"),
            // Kept as written, because upstream's fast path takes them for canonical.
            ("+5", "+5"), ("12.345", "12.345"), ("00010", "00010"),
        ] {
            let got = canonical(text).map(|c| c.unwrap_or_else(|| text.to_owned()));
            assert_eq!(got.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused_in_upstreams_words() {
        for (text, expected) in [("", FORMAT), ("abc", FORMAT), ("1KB", FORMAT), ("1 Gi", FORMAT), ("1g", FORMAT), ("true", FORMAT), ("1K", SUFFIX), ("1mm", SUFFIX), ("1e", SUFFIX)] {
            assert_eq!(canonical(text), Err(expected), "{text}");
        }
    }
}
