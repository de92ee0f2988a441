//! Ages in columns, as apimachinery's `duration.HumanDuration` writes them.

/// `5s`, `3m20s`, `47h`, `9d`, … of a length in seconds. A little less than nothing is `0s` (clocks differ); more is `<invalid>`.
pub(crate) fn human_duration(seconds: i64) -> String {
    let pair = |big: i64, unit: char, small: i64, sub: char| {
        if small == 0 { format!("{big}{unit}") } else { format!("{big}{unit}{small}{sub}") }
    };
    let (minutes, hours) = (seconds / 60, seconds / 3600);
    match () {
        () if seconds < -1 => "<invalid>".to_owned(),
        () if seconds < 0 => "0s".to_owned(),
        () if seconds < 120 => format!("{seconds}s"),
        () if minutes < 10 => pair(minutes, 'm', seconds % 60, 's'),
        () if minutes < 180 => format!("{minutes}m"),
        () if hours < 8 => pair(hours, 'h', minutes % 60, 'm'),
        () if hours < 48 => format!("{hours}h"),
        () if hours < 24 * 8 => pair(hours / 24, 'd', hours % 24, 'h'),
        () if hours < 24 * 365 * 2 => format!("{}d", hours / 24),
        () if hours < 24 * 365 * 8 => pair(hours / 24 / 365, 'y', hours / 24 % 365, 'd'),
        () => format!("{}y", hours / 24 / 365),
    }
}

/// Seconds since the epoch of an RFC 3339 time, with or without fractions.
pub(crate) fn parse(time: &str) -> Option<i64> {
    time.parse::<jiff::Timestamp>().ok().map(jiff::Timestamp::as_second)
}

/// The age of a time; `<unknown>` when it is not set.
pub(crate) fn since(time: &str, now: i64) -> String {
    parse(time).map_or_else(|| "<unknown>".to_owned(), |t| human_duration(now - t))
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_length_is_written_in_at_most_two_units() {
        let table = [
            (-5, "<invalid>"), (-1, "0s"), (0, "0s"), (119, "119s"), (120, "2m"), (125, "2m5s"), (599, "9m59s"), (600, "10m"),
            (179 * 60, "179m"), (3 * 3600, "3h"), (3 * 3600 + 1200, "3h20m"), (8 * 3600, "8h"), (47 * 3600, "47h"),
            (48 * 3600, "2d"), (49 * 3600, "2d1h"), (9 * 86400, "9d"), (730 * 86400, "2y"), (731 * 86400, "2y1d"), (2920 * 86400, "8y"),
        ];
        for (seconds, text) in table {
            assert_eq!(super::human_duration(seconds), text);
        }
    }
}
