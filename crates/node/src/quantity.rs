//! Kubernetes quantities as integers.

/// `100m`, `0.5`, `1Gi`, `12e6` in thousandths, rounded up, saturating. `None` if it does not parse.
pub(crate) fn milli(text: &str) -> Option<i128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.' || c == '+' || c == '-')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (negative, digits) = match number.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, number.strip_prefix('+').unwrap_or(number)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    if (whole.is_empty() && fraction.is_empty()) || whole.len() > 20 || fraction.len() > 12 {
        return None;
    }
    // In units of 10^-12, so that `n` and `u` keep their digits.
    let mut value: i128 = format!("{whole}{fraction:0<12}").parse().ok()?;
    let (multiply, divide): (i128, i128) = match suffix {
        "" => (1, 1),
        "n" => (1, 1_000_000_000),
        "u" => (1, 1_000_000),
        "m" => (1, 1_000),
        "k" => (1_000, 1),
        "M" => (1_000_000, 1),
        "G" => (1_000_000_000, 1),
        "T" => (1_000_000_000_000, 1),
        "P" => (1_000_000_000_000_000, 1),
        "E" => (1_000_000_000_000_000_000, 1),
        "Ki" => (1 << 10, 1),
        "Mi" => (1 << 20, 1),
        "Gi" => (1 << 30, 1),
        "Ti" => (1 << 40, 1),
        "Pi" => (1 << 50, 1),
        "Ei" => (1 << 60, 1),
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let ten = 10_i128.checked_pow(power.unsigned_abs()).filter(|_| power.abs() <= 18)?;
            if power < 0 { (1, ten) } else { (ten, 1) }
        }
    };
    value = value.saturating_mul(multiply);
    let per_milli = divide.checked_mul(1_000_000_000)?;
    let milli = value / per_milli + i128::from(value % per_milli != 0);
    Some(if negative { -milli } else { milli })
}

/// Whole units, rounded up.
pub(crate) fn units(text: &str) -> Option<i64> {
    let milli = milli(text)?;
    i64::try_from(milli.div_euclid(1000) + i128::from(milli.rem_euclid(1000) != 0)).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_suffix_counts_in_thousandths() {
        for (text, want) in [
            ("1", Some(1000)),
            ("100m", Some(100)),
            ("0.5", Some(500)),
            ("1Ki", Some(1_024_000)),
            ("1.5Gi", Some(1_610_612_736_000)),
            ("2k", Some(2_000_000)),
            ("12e3", Some(12_000_000)),
            ("5E2", Some(500_000)),
            ("1u", Some(1)),
            ("-1", Some(-1000)),
            ("1x", None),
            ("", None),
        ] {
            assert_eq!(milli(text), want, "{text}");
        }
        assert_eq!(units("1500m"), Some(2));
        assert_eq!(units("1E"), Some(1_000_000_000_000_000_000));
    }
}
