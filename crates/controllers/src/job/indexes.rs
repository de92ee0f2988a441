//! Sets of indexes, as status writes them: `1,3-5,7`. Upstream: pkg/controller/job/indexed_job_utils.go.

use std::collections::BTreeSet;

/// Indexes below `completions`; what cannot be read is left out.
pub(crate) fn parse(text: &str, completions: i32) -> BTreeSet<i32> {
    let range = |part: &str| -> Option<std::ops::RangeInclusive<i32>> {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        Some(first.parse().ok()?..=last.parse::<i32>().ok()?.min(completions - 1))
    };
    text.split(',').filter_map(range).flatten().filter(|index| (0..completions).contains(index)).collect()
}

/// Three or more in a row are a range.
pub(crate) fn print(indexes: &BTreeSet<i32>) -> String {
    let mut runs: Vec<(i32, i32)> = Vec::new();
    for index in indexes {
        match runs.last_mut() {
            Some((_, last)) if *last + 1 == *index => *last = *index,
            _ => runs.push((*index, *index)),
        }
    }
    let text = |(first, last): (i32, i32)| match last - first {
        0 => first.to_string(),
        1 => format!("{first},{last}"),
        _ => format!("{first}-{last}"),
    };
    runs.into_iter().map(text).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn indexes_are_written_in_ranges_and_read_back() {
        for (text, indexes) in [("", &[][..]), ("0", &[0]), ("1,2", &[1, 2]), ("1,3-5,7", &[1, 3, 4, 5, 7]), ("0-9", &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9])] {
            let set: BTreeSet<i32> = indexes.iter().copied().collect();
            assert_eq!((print(&set).as_str(), parse(text, 10)), (text, set));
        }
        assert_eq!(parse("1,8-12,x", 10), [1, 8, 9].into(), "a job that was made smaller");
    }
}
