//! Cron schedules: five fields, `@daily` and the like, `@every 5m`. Upstream: github.com/robfig/cron/v3, `ParseStandard`; its errors in its words.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A schedule that never comes (31 February) is looked for so many years ahead.
const YEARS_AHEAD: i16 = 5;

/// Why a text is no schedule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Invalid(String);

/// When something is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Schedule(Form);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Form {
    Fields(Fields),
    Every(SignedDuration),
}

/// A bit for every value of a field.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Days of month and of week are alternatives, unless one of them is a star.
    any_day: bool,
    any_weekday: bool,
}

struct Bounds {
    min: u32,
    max: u32,
    names: &'static [&'static str],
}

const MINUTES: Bounds = Bounds { min: 0, max: 59, names: &[] };
const HOURS: Bounds = Bounds { min: 0, max: 23, names: &[] };
const DAYS: Bounds = Bounds { min: 1, max: 31, names: &[] };
const MONTHS: Bounds = Bounds { min: 1, max: 12, names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] };
const WEEKDAYS: Bounds = Bounds { min: 0, max: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

fn invalid<T>(text: impl Into<String>) -> Result<T, Invalid> {
    Err(Invalid(text.into()))
}

impl Schedule {
    /// From `*/5 * * * *`, `@hourly`, `@every 1h30m`.
    pub fn parse(text: &str) -> Result<Self, Invalid> {
        let standard = match text.trim() {
            "" => return invalid("empty spec string"),
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            other => match other.strip_prefix("@every ") {
                Some(length) => return Ok(Self(Form::Every(every(other, length)?))),
                None if other.starts_with('@') => return invalid(format!("unrecognized descriptor: {other}")),
                None => other,
            },
        };
        let words: Vec<&str> = standard.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = words[..] else {
            return invalid(format!("expected exactly 5 fields, found {}: [{}]", words.len(), words.join(" ")));
        };
        let star = |field: &str| field.split(',').any(|part| part.starts_with(['*', '?']));
        Ok(Self(Form::Fields(Fields {
            minutes: field(minutes, &MINUTES)?,
            hours: field(hours, &HOURS)?,
            days: field(days, &DAYS)?,
            months: field(months, &MONTHS)?,
            weekdays: field(weekdays, &WEEKDAYS)?,
            any_day: star(days),
            any_weekday: star(weekdays),
        })))
    }

    /// The first time after `after`, on the clock of `zone`. `None`: never.
    pub fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match &self.0 {
            Form::Every(length) => Timestamp::from_second(after.as_second()).ok()?.checked_add(*length).ok(),
            Form::Fields(fields) => fields.next(after, zone),
        }
    }
}

fn has(bits: u64, value: i8) -> bool {
    u32::try_from(value).is_ok_and(|value| bits & (1 << value) != 0)
}

impl Fields {
    fn on(&self, date: Date) -> bool {
        let day = has(self.days, date.day());
        let weekday = has(self.weekdays, date.weekday().to_sunday_zero_offset());
        has(self.months, date.month()) && if self.any_day || self.any_weekday { day && weekday } else { day || weekday }
    }

    fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let start = after.to_zoned(zone.clone()).datetime();
        let mut date = start.date();
        let last = start.year().saturating_add(YEARS_AHEAD);
        while date.year() <= last {
            if self.on(date)
                && let Some(found) = self.on_day(date, after, zone)
            {
                return Some(found);
            }
            date = date.checked_add(1.day()).ok()?;
        }
        None
    }

    /// The first time on a day that is after `after`. An hour that the clock leaps over is skipped.
    fn on_day(&self, date: Date, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        let times = (0..24).filter(|hour| has(self.hours, *hour)).flat_map(|hour| (0..60).filter(|minute| has(self.minutes, *minute)).map(move |minute| (hour, minute)));
        let mut times = times.filter_map(|(hour, minute)| {
            let wall: DateTime = date.at(hour, minute, 0, 0);
            let zoned = wall.to_zoned(zone.clone()).ok()?;
            (zoned.datetime() == wall).then(|| zoned.timestamp())
        });
        times.find(|time| *time > after)
    }
}

fn field(text: &str, bounds: &Bounds) -> Result<u64, Invalid> {
    text.split(',').filter(|part| !part.is_empty()).try_fold(0, |bits, part| Ok(bits | range(part, bounds)?))
}

fn range(text: &str, bounds: &Bounds) -> Result<u64, Invalid> {
    let mut parts = text.split('/');
    let (span, step, extra) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let mut ends = span.split('-');
    let (first, second, third) = (ends.next().unwrap_or_default(), ends.next(), ends.next());
    let star = matches!(first, "*" | "?");
    let (start, mut end) = match (star, second) {
        (true, _) => (bounds.min, bounds.max),
        (false, None) => (value(first, bounds)?, value(first, bounds)?),
        (false, Some(_)) if third.is_some() => return invalid(format!("too many hyphens: {text}")),
        (false, Some(second)) => (value(first, bounds)?, value(second, bounds)?),
    };
    if extra.is_some() {
        return invalid(format!("too many slashes: {text}"));
    }
    let step = match step {
        None => 1,
        Some(step) => {
            let step = number(step)?;
            // `5/15` is `5-59/15`.
            if second.is_none() {
                end = bounds.max;
            }
            step
        }
    };
    match () {
        () if start < bounds.min => invalid(format!("beginning of range ({start}) below minimum ({}): {text}", bounds.min)),
        () if end > bounds.max => invalid(format!("end of range ({end}) above maximum ({}): {text}", bounds.max)),
        () if start > end => invalid(format!("beginning of range ({start}) beyond end of range ({end}): {text}")),
        () if step == 0 => invalid(format!("step of range should be a positive number: {text}")),
        () => Ok((start..=end).step_by(step as usize).fold(0, |bits, value| bits | (1 << value))),
    }
}

fn value(text: &str, bounds: &Bounds) -> Result<u32, Invalid> {
    match bounds.names.iter().position(|name| name.eq_ignore_ascii_case(text)) {
        Some(found) => Ok(bounds.min + found as u32),
        None => number(text),
    }
}

fn number(text: &str) -> Result<u32, Invalid> {
    match text.parse::<i64>() {
        Ok(number) if number < 0 => invalid(format!("negative number ({number}) not allowed: {text}")),
        Ok(number) => Ok(u32::try_from(number).unwrap_or(u32::MAX)),
        Err(_) => invalid(format!("failed to parse int from {text}: strconv.Atoi: parsing {text:?}: invalid syntax")),
    }
}

/// Go's `1h30m`, in whole seconds, at least one.
fn every(whole: &str, text: &str) -> Result<SignedDuration, Invalid> {
    let wrong = || Invalid(format!("failed to parse duration {whole}: time: invalid duration {text:?}"));
    let (mut seconds, mut rest) = (0.0, text);
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        let unit = &rest[digits..];
        let letters = unit.find(|c: char| c.is_ascii_digit()).unwrap_or(unit.len());
        seconds += number * match &unit[..letters] {
            "h" => 3600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return Err(wrong()),
        };
        rest = &unit[letters..];
    }
    if text.is_empty() { Err(wrong()) } else { Ok(SignedDuration::from_secs((seconds as i64).max(1))) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> String {
        let zone = TimeZone::get(zone).expect("a zone");
        let found = Schedule::parse(schedule).expect("a schedule").next(after.parse().expect("a time"), &zone);
        found.map_or_else(|| "never".to_owned(), |time| time.to_string())
    }

    #[test]
    fn the_next_time_is_the_first_one_after() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-31T12:00:30Z", "2026-01-31T12:01:00Z"),
            ("* * * * *", "2026-01-31T12:01:00Z", "2026-01-31T12:02:00Z"),
            ("*/15 * * * *", "2026-01-31T12:46:00Z", "2026-01-31T13:00:00Z"),
            ("5/20 3 * * *", "2026-01-31T03:06:00Z", "2026-01-31T03:25:00Z"),
            ("0 2 * * *", "2026-01-31T02:00:00Z", "2026-02-01T02:00:00Z"),
            ("30 1 29 2 *", "2026-01-31T00:00:00Z", "2028-02-29T01:30:00Z"),
            ("0 0 1,15 * 3", "2026-01-31T00:00:00Z", "2026-02-01T00:00:00Z"),
            ("0 0 * * mon-tue", "2026-01-31T00:00:00Z", "2026-02-02T00:00:00Z"),
            ("@hourly", "2026-01-31T12:00:30Z", "2026-01-31T13:00:00Z"),
            ("@weekly", "2026-01-31T12:00:30Z", "2026-02-01T00:00:00Z"),
            ("@every 1h30m", "2026-01-31T12:00:30Z", "2026-01-31T13:30:30Z"),
            ("0 0 31 2 *", "2026-01-31T00:00:00Z", "never"),
        ] {
            assert_eq!(next(schedule, after, "UTC"), expected, "{schedule}");
        }
    }

    #[test]
    fn a_zone_has_its_own_clock() {
        assert_eq!(next("0 9 * * *", "2026-01-31T00:00:00Z", "Asia/Tokyo"), "2026-02-01T00:00:00Z");
        // 2026-03-29 has no 02:30 in Berlin.
        assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", "Europe/Berlin"), "2026-03-30T00:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_told_in_upstreams_words() {
        for (text, expected) in [
            ("nightly", "expected exactly 5 fields, found 1: [nightly]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("@fortnightly", "unrecognized descriptor: @fortnightly"),
        ] {
            assert_eq!(Schedule::parse(text).map_err(|why| why.to_string()), Err(expected.to_owned()), "{text}");
        }
    }
}
