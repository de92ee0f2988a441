//! What is installed.

use crate::figure::{Figure, Target, Unit};
use crate::lab::Lab;
use anyhow::Result;

pub(crate) fn run(lab: &Lab) -> Result<Vec<Figure>> {
    let bytes = std::fs::metadata(&lab.mainstay)?.len();
    Ok(vec![
        Figure::new("binaries on disk", Unit::Megabytes, vec![bytes as f64 / 1e6])
            .target(Target::AtMost(40.0))
            .real("≈ 600 MB")
            .bound("one file: engine, command line, and the supervisor inside it"),
    ])
}
