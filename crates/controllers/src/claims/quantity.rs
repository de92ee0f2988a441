//! Sizes: `10Gi`, `500M`, `1e9`, `1.5Ti`.

/// Bytes, rounded up; `None` when it is no quantity. Upstream: `apimachinery/pkg/api/resource/quantity.go`.
pub(super) fn bytes(text: &str) -> Option<u128> {
    let end = text.find(|c: char| !(c.is_ascii_digit() || c == '.')).unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() {
        return None;
    }
    let digits: u128 = format!("0{whole}{fraction}").parse().ok()?;
    let below = 10_u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    let (times, over) = scale(suffix)?;
    Some(digits.checked_mul(times)?.div_ceil(below.checked_mul(over)?))
}

/// What a suffix multiplies and divides by.
fn scale(suffix: &str) -> Option<(u128, u128)> {
    let binary = ["Ki", "Mi", "Gi", "Ti", "Pi", "Ei"];
    if let Some(power) = binary.iter().position(|known| *known == suffix) {
        return Some((1 << (10 * (power + 1)), 1));
    }
    Some(match suffix {
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
        exponent => {
            let power: i32 = exponent.strip_prefix(['e', 'E'])?.parse().ok()?;
            let factor = 10_u128.checked_pow(power.unsigned_abs())?;
            if power < 0 { (1, factor) } else { (factor, 1) }
        }
    })
}

#[cfg(test)]
mod tests {
    use super::bytes;

    #[test]
    fn sizes_are_read_as_kubernetes_reads_them() {
        for (text, expected) in [
            ("10Gi", Some(10 << 30)),
            ("0.5Gi", Some(1 << 29)),
            ("500M", Some(500_000_000)),
            ("1e3", Some(1_000)),
            ("1E3", Some(1_000)),
            ("12E", Some(12_000_000_000_000_000_000)),
            ("100m", Some(1)),
            ("1500m", Some(2)),
            (".5k", Some(500)),
            ("", None),
            ("Gi", None),
            ("1Gb", None),
            ("-1", None),
        ] {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }
}
