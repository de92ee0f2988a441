//! How figures are shown: a terminal table, Markdown, JSON for the next comparison.

use crate::figure::Figure;
use anyhow::{Context as _, Result};
use comfy_table::{Cell, Color, ContentArrangement, Table, presets};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::IsTerminal as _;
use std::path::Path;

/// A row, or why it could not be measured.
pub(crate) struct Measured {
    pub row: &'static str,
    pub about: &'static str,
    pub figures: Result<Vec<Figure>>,
}

/// Medians by what they are of.
pub(crate) type Earlier = BTreeMap<String, f64>;

/// Reads what `--json` wrote.
pub(crate) fn earlier(file: &Path) -> Result<Earlier> {
    let text = std::fs::read_to_string(file).with_context(|| format!("read {}", file.display()))?;
    let value: Value = serde_json::from_str(&text).with_context(|| format!("{} was not written by --json", file.display()))?;
    let figures = value["figures"].as_array().into_iter().flatten();
    Ok(figures.filter_map(|f| Some((key(f["row"].as_str()?, f["what"].as_str()?), f["median"].as_f64()?))).collect())
}

fn key(row: &str, what: &str) -> String {
    format!("{row}\n{what}")
}

pub(crate) fn terminal(results: &[Measured], earlier: Option<&Earlier>) -> String {
    let mut table = Table::new();
    table.load_preset(presets::UTF8_FULL_CONDENSED).set_content_arrangement(ContentArrangement::Dynamic);
    if !std::io::stdout().is_terminal() {
        table.set_width(180);
    }
    let mut header = vec!["what", "median", "target", "", "real Kubernetes", "floor here, and what bounds it"];
    if earlier.is_some() {
        header.insert(2, "earlier");
    }
    table.set_header(header);
    for result in results {
        match &result.figures {
            Ok(figures) => figures.iter().for_each(|figure| {
                table.add_row(cells(result.row, figure, earlier));
            }),
            Err(error) => {
                table.add_row(vec![Cell::new(result.about), Cell::new(format!("not measured: {}", words(error))).fg(Color::Red)]);
            }
        }
    }
    table.to_string()
}

fn cells(row: &str, figure: &Figure, earlier: Option<&Earlier>) -> Vec<Cell> {
    let mut cells = vec![Cell::new(&figure.what), Cell::new(figure.shown())];
    if let Some(earlier) = earlier {
        let before = earlier.get(&key(row, &figure.what));
        cells.push(Cell::new(before.map_or_else(String::new, |b| format!("{} (× {:.2})", figure.unit.show(*b), figure.median() / b))));
    }
    cells.push(Cell::new(figure.target_words()));
    cells.push(match figure.met() {
        Some(true) => Cell::new("met").fg(Color::Green),
        Some(false) => Cell::new("MISSED").fg(Color::Red),
        None => Cell::new(""),
    });
    cells.push(Cell::new(figure.real));
    cells.push(Cell::new(floor_words(figure)));
    cells
}

/// An error as one cell bears it.
fn words(error: &anyhow::Error) -> String {
    let all = format!("{error:#}").replace(['|', '\n'], " ");
    if all.chars().count() > 300 { all.chars().take(300).chain("…".chars()).collect() } else { all }
}

fn floor_words(figure: &Figure) -> String {
    match figure.floor.value {
        Some(value) => format!("{}: {}", figure.unit.show(value), figure.floor.bound),
        None => figure.floor.bound.clone(),
    }
}

pub(crate) fn markdown(machine: &str, results: &[Measured]) -> String {
    let mut text = String::from("# Figures\n\n");
    let _ = writeln!(text, "Written by `cargo xtask bench --write`. {machine}\n");
    text.push_str("A figure is the median; in parentheses the number of runs, the 95th percentile and the worst. Real Kubernetes is 1.36.3 (API server, etcd, kubelet,\n");
    text.push_str("containerd, CoreDNS) on such a machine. The floor is what this machine does at best for the work that cannot be left out, measured in the same run.\n\n");
    text.push_str("| what | ours | target | | real Kubernetes | floor here, and what bounds it |\n|---|---|---|---|---|---|\n");
    for result in results {
        match &result.figures {
            Ok(figures) => {
                for figure in figures {
                    let met = figure.met().map_or("", |met| if met { "met" } else { "**missed**" });
                    let _ = writeln!(text, "| {} | {} | {} | {met} | {} | {} |", figure.what, figure.shown(), figure.target_words(), figure.real, floor_words(figure));
                }
            }
            Err(error) => {
                let _ = writeln!(text, "| {} | not measured: {} | | | | |", result.about, words(error));
            }
        }
    }
    let notes: Vec<_> = results.iter().filter_map(|r| r.figures.as_ref().ok()).flatten().filter(|f| !f.note.is_empty()).collect();
    if !notes.is_empty() {
        text.push_str("\n## How, and what else was seen\n\n");
        for figure in notes {
            let _ = writeln!(text, "* **{}**: {}", figure.what, figure.note);
        }
    }
    text
}

pub(crate) fn json(machine: &str, results: &[Measured]) -> String {
    let figures: Vec<Value> = results
        .iter()
        .filter_map(|r| Some((r.row, r.figures.as_ref().ok()?)))
        .flat_map(|(row, figures)| {
            figures.iter().map(move |f| {
                json!({
                    "row": row, "what": f.what, "unit": format!("{:?}", f.unit), "n": f.samples.len(), "median": f.median(), "p95": f.p95(), "worst": f.worst(),
                    "target": f.target_words(), "met": f.met(), "real": f.real, "floor": f.floor.value, "bound": f.floor.bound, "note": f.note, "samples": f.samples,
                })
            })
        })
        .collect();
    let failed: Vec<Value> = results.iter().filter_map(|r| Some(json!({"row": r.row, "error": format!("{:#}", r.figures.as_ref().err()?)}))).collect();
    format!("{:#}\n", json!({"machine": machine, "figures": figures, "notMeasured": failed}))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::figure::{Target, Unit};

    #[test]
    fn a_missed_target_and_a_row_that_failed_are_both_shown() {
        let missed = Figure::new("slow", Unit::Milliseconds, vec![30.0]).target(Target::AtMost(20.0)).floor(1.0, "the disk");
        let results = [
            Measured { row: "a", about: "a", figures: Ok(vec![missed]) },
            Measured { row: "b", about: "the broken one", figures: Err(anyhow::anyhow!("no answer")) },
        ];
        for text in [markdown("here", &results), terminal(&results, None)] {
            assert!(text.to_lowercase().contains("missed") && text.contains("no answer"), "{text}");
        }
    }

    #[test]
    fn what_json_wrote_is_read_for_comparison() {
        let results = [Measured { row: "a", about: "a", figures: Ok(vec![Figure::new("x", Unit::MiB, vec![3.0, 1.0, 2.0])]) }];
        let file = std::env::temp_dir().join(format!("bench-json-{}", std::process::id()));
        std::fs::write(&file, json("here", &results)).expect("writes");
        let read = earlier(&file).expect("reads");
        std::fs::remove_file(&file).expect("removes");
        assert_eq!(read.get(&key("a", "x")), Some(&2.0));
    }
}
