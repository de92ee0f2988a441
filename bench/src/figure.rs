//! A figure: samples, their target, and what they stand beside.

/// What a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    Milliseconds,
    Microseconds,
    MiB,
    /// Decimal, as file sizes are.
    Megabytes,
    Kilobytes,
    Percent,
    PerSecond,
}

impl Unit {
    /// Three significant digits and the unit.
    pub(crate) fn show(self, value: f64) -> String {
        match self {
            Self::Milliseconds if value.abs() >= 1000.0 => format!("{:.2} s", value / 1000.0),
            Self::Milliseconds => format!("{} ms", digits(value)),
            Self::Microseconds => format!("{} µs", digits(value)),
            Self::MiB => format!("{} MiB", digits(value)),
            Self::Megabytes => format!("{} MB", digits(value)),
            Self::Kilobytes => format!("{} KB", digits(value)),
            Self::Percent => format!("{} %", digits(value)),
            Self::PerSecond => format!("{}/s", thousands(value)),
        }
    }
}

fn digits(value: f64) -> String {
    match value.abs() {
        v if v >= 100.0 => format!("{value:.0}"),
        v if v >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn thousands(value: f64) -> String {
    let plain = format!("{value:.0}");
    let mut text = String::new();
    for (i, digit) in plain.chars().enumerate() {
        if i > 0 && (plain.len() - i).is_multiple_of(3) && digit.is_ascii_digit() {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What a figure must be.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Target {
    AtMost(f64),
    AtLeast(f64),
    /// The worst of at least [`ENOUGH`] runs against the median.
    WorstWithin(f64),
    /// Shown for what it is.
    None,
}

/// Runs below which a worst case says nothing.
pub(crate) const ENOUGH: usize = 20;

/// What this machine can do at best.
#[derive(Clone, Debug)]
pub(crate) struct Floor {
    /// In the figure's unit, if it is a number.
    pub value: Option<f64>,
    /// What the figure is bound by; how the value comes about.
    pub bound: String,
}

/// One line of the table.
#[derive(Clone, Debug)]
pub(crate) struct Figure {
    pub what: String,
    pub unit: Unit,
    pub samples: Vec<f64>,
    pub target: Target,
    /// Of the real cluster, in its own words.
    pub real: &'static str,
    pub floor: Floor,
    /// How it was measured, where the words above do not say it; what else was seen.
    pub note: String,
}

impl Figure {
    pub(crate) fn new(what: impl Into<String>, unit: Unit, samples: Vec<f64>) -> Self {
        Self { what: what.into(), unit, samples, target: Target::None, real: "–", floor: Floor { value: None, bound: String::new() }, note: String::new() }
    }

    pub(crate) fn target(self, target: Target) -> Self {
        Self { target, ..self }
    }

    pub(crate) fn real(self, real: &'static str) -> Self {
        Self { real, ..self }
    }

    pub(crate) fn floor(self, value: f64, bound: impl Into<String>) -> Self {
        Self { floor: Floor { value: Some(value), bound: bound.into() }, ..self }
    }

    pub(crate) fn bound(self, bound: impl Into<String>) -> Self {
        Self { floor: Floor { value: None, bound: bound.into() }, ..self }
    }

    pub(crate) fn note(self, note: impl Into<String>) -> Self {
        Self { note: note.into(), ..self }
    }

    pub(crate) fn median(&self) -> f64 {
        quantile(&self.samples, 0.5)
    }

    pub(crate) fn p95(&self) -> f64 {
        if matches!(self.target, Target::AtLeast(_)) { quantile(&self.samples, 0.05) } else { quantile(&self.samples, 0.95) }
    }

    /// The slowest, largest, or (of a rate) lowest.
    pub(crate) fn worst(&self) -> f64 {
        if matches!(self.target, Target::AtLeast(_)) { quantile(&self.samples, 0.0) } else { quantile(&self.samples, 1.0) }
    }

    /// `None` where there is no target, or too few runs to tell.
    pub(crate) fn met(&self) -> Option<bool> {
        match self.target {
            Target::AtMost(limit) => Some(self.median() <= limit),
            Target::AtLeast(limit) => Some(self.median() >= limit),
            // One outlier shows the target missed; its absence shows nothing until enough runs were made.
            Target::WorstWithin(factor) if self.samples.len() < ENOUGH => (self.worst() > factor * self.median()).then_some(false),
            Target::WorstWithin(factor) => Some(self.worst() <= factor * self.median()),
            Target::None => None,
        }
    }

    /// `12.3 ms (n 20, p95 14.0, worst 15.2)`.
    pub(crate) fn shown(&self) -> String {
        let n = self.samples.len();
        let median = self.unit.show(self.median());
        match n {
            0 => "no sample".to_owned(),
            1 => format!("{median} (n 1)"),
            2..20 => format!("{median} (n {n}, worst {})", self.unit.show(self.worst())),
            _ => format!("{median} (n {n}, p95 {}, worst {})", self.unit.show(self.p95()), self.unit.show(self.worst())),
        }
    }

    pub(crate) fn target_words(&self) -> String {
        match self.target {
            Target::AtMost(limit) => format!("≤ {}", self.unit.show(limit)),
            Target::AtLeast(limit) => format!("≥ {}", self.unit.show(limit)),
            Target::WorstWithin(factor) => format!("worst ≤ {factor} × median"),
            Target::None => "–".to_owned(),
        }
    }
}

/// Linear between neighbours; 0 for no sample.
pub(crate) fn quantile(samples: &[f64], q: f64) -> f64 {
    let mut sorted = samples.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let at = q * last as f64;
    let (low, high) = (at.floor() as usize, at.ceil() as usize);
    sorted[low] + (sorted[high] - sorted[low]) * (at - at.floor())
}

pub(crate) fn median(samples: &[f64]) -> f64 {
    quantile(samples, 0.5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_with_three_digits_and_their_unit() {
        for (unit, value, words) in [
            (Unit::Milliseconds, 0.456, "0.46 ms"),
            (Unit::Milliseconds, 12.34, "12.3 ms"),
            (Unit::Milliseconds, 2260.0, "2.26 s"),
            (Unit::PerSecond, 51_600.4, "51,600/s"),
            (Unit::PerSecond, 999.0, "999/s"),
            (Unit::Percent, 0.031, "0.03 %"),
        ] {
            assert_eq!(unit.show(value), words);
        }
    }

    #[test]
    fn a_rate_is_worst_where_it_is_lowest_and_a_time_where_it_is_longest() {
        let samples: Vec<f64> = (1..=20).map(f64::from).collect();
        let time = Figure::new("t", Unit::Milliseconds, samples.clone()).target(Target::AtMost(10.0));
        let rate = Figure::new("r", Unit::PerSecond, samples).target(Target::AtLeast(10.0));
        assert_eq!((time.median(), time.worst(), time.met()), (10.5, 20.0, Some(false)));
        assert_eq!((rate.median(), rate.worst(), rate.met()), (10.5, 1.0, Some(true)));
    }

    #[test]
    fn one_run_past_twice_the_median_misses_the_target_of_no_outliers() {
        let with = |runs: usize, worst: f64| {
            let samples = (1..runs).map(|_| 100.0).chain([worst]).collect();
            Figure::new("p", Unit::Milliseconds, samples).target(Target::WorstWithin(2.0)).met()
        };
        assert_eq!((with(20, 190.0), with(20, 400.0)), (Some(true), Some(false)));
        assert_eq!((with(3, 110.0), with(3, 400.0)), (None, Some(false)), "too few runs to say that there are no outliers");
    }
}
