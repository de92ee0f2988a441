//! The instructions of a Containerfile that this builder knows.

use anyhow::{Context as _, Result, bail};

/// One stage: from its FROM to the next.
#[derive(Debug, Default)]
pub(super) struct Stage {
    /// `scratch`, `debian:12-slim`, or the name of an earlier stage.
    pub from: String,
    /// `AS name`.
    pub name: Option<String>,
    /// What follows, in order.
    pub steps: Vec<Step>,
}

/// One instruction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// A shell line.
    Run(String),
    /// `[--from=stage] [--chmod=mode] source… target`.
    Copy { from: Option<String>, chmod: Option<String>, sources: Vec<String>, target: String },
    /// `key=value`.
    Env(String, String),
    /// `key=value`.
    Label(String, String),
    /// An instruction with a JSON array or a word: USER, WORKDIR, STOPSIGNAL, VOLUME, EXPOSE, ENTRYPOINT, CMD.
    Set(String, Vec<String>),
}

/// Parses a file; an unknown instruction is an error, so that nothing is left out in silence.
pub(super) fn parse(text: &str) -> Result<Vec<Stage>> {
    let mut stages: Vec<Stage> = Vec::new();
    for line in logical_lines(text) {
        let (word, rest) = line.split_once(char::is_whitespace).with_context(|| format!("{line:?} has no argument"))?;
        let rest = rest.trim();
        if word == "FROM" {
            let mut words = rest.split_whitespace();
            let from = words.next().unwrap_or_default().to_owned();
            let name = match words.next() {
                Some("AS") => words.next().map(str::to_owned),
                _ => None,
            };
            stages.push(Stage { from, name, steps: Vec::new() });
            continue;
        }
        let stage = stages.last_mut().context("the first instruction must be FROM")?;
        match word {
            "RUN" => stage.steps.push(Step::Run(rest.to_owned())),
            "COPY" => stage.steps.push(copy(rest)?),
            "ENV" => stage.steps.extend(pairs(rest)?.into_iter().map(|(k, v)| Step::Env(k, v))),
            "LABEL" => stage.steps.extend(pairs(rest)?.into_iter().map(|(k, v)| Step::Label(k, v))),
            "USER" | "WORKDIR" | "STOPSIGNAL" | "VOLUME" | "EXPOSE" | "ENTRYPOINT" | "CMD" => {
                let values = if rest.starts_with('[') { serde_json::from_str(rest).with_context(|| format!("{word}: {rest}"))? } else { rest.split_whitespace().map(str::to_owned).collect() };
                stage.steps.push(Step::Set(word.to_owned(), values));
            }
            other => bail!("instruction {other} is not known here"),
        }
    }
    if stages.is_empty() {
        bail!("no FROM");
    }
    Ok(stages)
}

fn logical_lines(text: &str) -> Vec<String> {
    let mut lines = Vec::new();
    let mut open = String::new();
    for line in text.lines().filter(|l| !l.trim_start().starts_with('#')) {
        match line.strip_suffix('\\') {
            Some(part) => open.push_str(part),
            None => {
                open.push_str(line);
                let whole = std::mem::take(&mut open);
                if !whole.trim().is_empty() {
                    lines.push(whole.trim().to_owned());
                }
            }
        }
    }
    lines
}

fn copy(rest: &str) -> Result<Step> {
    let (mut from, mut chmod, mut words) = (None, None, Vec::new());
    for word in rest.split_whitespace() {
        if let Some(stage) = word.strip_prefix("--from=") {
            from = Some(stage.to_owned());
        } else if let Some(mode) = word.strip_prefix("--chmod=") {
            chmod = Some(mode.to_owned());
        } else if word.starts_with("--") {
            bail!("COPY {word} is not known here");
        } else {
            words.push(word.to_owned());
        }
    }
    let target = words.pop().context("COPY needs a target")?;
    Ok(Step::Copy { from, chmod, sources: words, target })
}

/// `a=b c="d e"`.
fn pairs(rest: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = rest.trim();
    while !rest.is_empty() {
        let (key, after) = rest.split_once('=').with_context(|| format!("{rest:?} is no key=value"))?;
        let (value, next) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"').with_context(|| format!("{after:?}: the quote is not closed"))?,
            None => after.split_once(char::is_whitespace).unwrap_or((after, "")),
        };
        found.push((key.trim().to_owned(), value.to_owned()));
        rest = next.trim();
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn stages_steps_and_continued_lines_are_read() {
        let stages = parse("# note\nFROM debian:12-slim AS build\nRUN a && \\\n    b\nFROM scratch\nCOPY --from=build --chmod=755 /x /y /z/\nENV A=1 B=\"two words\"\nCMD [\"sh\"]\nUSER 999:999\n").unwrap();
        assert_eq!(stages[0].name.as_deref(), Some("build"));
        assert_eq!(stages[0].steps, [Step::Run("a &&     b".into())]);
        assert_eq!(stages[1].from, "scratch");
        assert_eq!(stages[1].steps[0], Step::Copy { from: Some("build".into()), chmod: Some("755".into()), sources: vec!["/x".into(), "/y".into()], target: "/z/".into() });
        assert_eq!(stages[1].steps[2], Step::Env("B".into(), "two words".into()));
        assert_eq!(stages[1].steps[3], Step::Set("CMD".into(), vec!["sh".into()]));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for text in ["RUN x", "FROM a\nADD x y", "FROM a\nCOPY --chown=1 x y", "FROM a\nENV x", ""] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
