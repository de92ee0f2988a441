//! Times as Go reads and writes them: RFC 3339, in UTC, whole seconds (`Time`) or microseconds (`MicroTime`).

use jiff::Timestamp;

/// Go's name of the layout, for its error text.
const LAYOUT: &str = "2006-01-02T15:04:05Z07:00";
const MICRO_LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";

/// The canonical text, or `None` when it is canonical already.
pub(crate) fn canonical(text: &str, micro: bool) -> Result<Option<String>, String> {
    let layout = if micro { MICRO_LAYOUT } else { LAYOUT };
    if let Some((rest, element)) = mismatch(text) {
        return Err(format!("parsing time {text:?} as {layout:?}: cannot parse {rest:?} as {element:?}"));
    }
    let time: Timestamp = text.parse().map_err(|_| format!("parsing time {text:?}: day out of range"))?;
    let written = print(time, micro);
    Ok((written != text).then_some(written))
}

/// As Go prints it.
pub(crate) fn print(time: Timestamp, micro: bool) -> String {
    time.strftime(if micro { "%Y-%m-%dT%H:%M:%S.%6fZ" } else { "%Y-%m-%dT%H:%M:%SZ" }).to_string()
}

/// The first element of the layout that the text does not have, with the text from there.
fn mismatch(text: &str) -> Option<(&str, &'static str)> {
    const ELEMENTS: &[(&str, usize)] = &[("2006", 4), ("-", 0), ("01", 2), ("-", 0), ("02", 2), ("T", 0), ("15", 2), (":", 0), ("04", 2), (":", 0), ("05", 2)];
    let mut rest = text;
    for (element, digits) in ELEMENTS {
        let length = (*digits).max(1);
        let fits = match rest.as_bytes().get(..length) {
            Some(bytes) if *digits > 0 => bytes.iter().all(u8::is_ascii_digit),
            Some(bytes) => bytes == element.as_bytes(),
            None => false,
        };
        if !fits {
            return Some((rest, element));
        }
        rest = &rest[length..];
    }
    if let Some(fraction) = rest.strip_prefix('.') {
        rest = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
    }
    let zone = rest.as_bytes();
    let offset = zone.len() == 6 && matches!(zone[0], b'+' | b'-') && zone[3] == b':' && [1, 2, 4, 5].iter().all(|i| zone[*i].is_ascii_digit());
    (rest != "Z" && !offset).then_some((rest, "Z07:00"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_utc_with_whole_seconds_or_microseconds() {
        for (text, micro, expected) in [
            ("2026-01-31T12:00:00Z", false, "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00.75Z", false, "2026-01-31T12:00:00Z"),
            ("2026-01-31T12:00:00+02:00", false, "2026-01-31T10:00:00Z"),
            ("2026-01-31T12:00:00.123456Z", true, "2026-01-31T12:00:00.123456Z"),
            ("2026-01-31T12:00:00Z", true, "2026-01-31T12:00:00.000000Z"),
        ] {
            let got = canonical(text, micro).map(|c| c.unwrap_or_else(|| text.to_owned()));
            assert_eq!(got.as_deref(), Ok(expected), "{text}");
        }
    }

    #[test]
    fn a_bad_time_names_what_could_not_be_read() {
        let error = |text: &str| canonical(text, false).unwrap_err();
        assert_eq!(error("abc"), r#"parsing time "abc" as "2006-01-02T15:04:05Z07:00": cannot parse "abc" as "2006""#);
        assert_eq!(error("2026-01-31"), r#"parsing time "2026-01-31" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "T""#);
        assert_eq!(error("2026-02-31T00:00:00Z"), r#"parsing time "2026-02-31T00:00:00Z": day out of range"#);
    }
}
