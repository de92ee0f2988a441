//! The examples inside the program. An example's README is the one place that says what it is called, what it applies and what to try.

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Example, file name, text; sorted.
static FILES: &[(&str, &str, &str)] = include!(concat!(env!("OUT_DIR"), "/examples.rs"));

/// One folder of `examples/`.
#[derive(Debug)]
pub(crate) struct Example {
    /// The folder's name.
    pub name: &'static str,
    /// The README's heading.
    pub title: &'static str,
    /// What `kubectl apply -f -` takes: the file or all files that the README's first command names.
    pub manifests: String,
    /// What a client connects to, where the README says it (`Connect: …`).
    pub connect: Option<&'static str>,
    /// The README's commands after the first.
    pub next: Vec<&'static str>,
}

/// What an example runs and how many pods it takes to be complete.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Workload {
    pub kind: String,
    pub namespace: String,
    pub name: String,
    /// Labels of its pods.
    pub labels: BTreeMap<String, String>,
    /// Pods that are to be Ready; of a Job, to have succeeded.
    pub pods: usize,
    /// Whether its pods end.
    pub ends: bool,
}

/// All examples, by name.
pub(crate) fn all() -> Result<Vec<Example>> {
    let names: BTreeSet<&'static str> = FILES.iter().map(|(example, _, _)| *example).collect();
    names.into_iter().map(read).collect()
}

/// One, or an error that names those there are.
pub(crate) fn find(name: &str) -> Result<Example> {
    let all = all()?;
    let names: Vec<&str> = all.iter().map(|example| example.name).collect();
    let words = format!("there is no example {name:?}; there are: {} (`mainstay try --list`)", names.join(", "));
    all.into_iter().find(|example| example.name == name).context(words)
}

fn read(name: &'static str) -> Result<Example> {
    let files: BTreeMap<&str, &'static str> = FILES.iter().filter(|(example, _, _)| *example == name).map(|(_, file, text)| (*file, *text)).collect();
    let readme = files.get("README.md").copied().with_context(|| format!("examples/{name} has a README.md"))?;
    let mut commands = readme.lines().filter_map(|line| line.strip_prefix("    ")).map(without_comment).filter(|command| !command.is_empty());
    let first = commands.next().with_context(|| format!("examples/{name}/README.md has a command"))?;
    let applied = first.split_whitespace().skip_while(|word| *word != "-f").nth(1).and_then(|path| path.strip_prefix("examples/")?.strip_prefix(name)).with_context(|| format!("examples/{name}/README.md begins with kubectl apply -f examples/{name}"))?;
    let manifests: Vec<&str> = match applied.trim_matches('/') {
        "" => files.iter().filter(|(file, _)| file.ends_with(".yaml")).map(|(_, text)| *text).collect(),
        file => files.get(file).copied().into_iter().collect(),
    };
    if manifests.is_empty() {
        bail!("examples/{name}: {applied} is not there");
    }
    Ok(Example {
        name,
        title: readme.lines().next().unwrap_or(name).trim_start_matches("# "),
        manifests: manifests.join("\n---\n"),
        connect: readme.lines().find_map(|line| line.strip_prefix("Connect: ")).map(|line| line.trim_matches('`')),
        next: commands.collect(),
    })
}

fn without_comment(line: &str) -> &str {
    line.split("  #").next().unwrap_or(line).trim()
}

impl Example {
    /// Its documents.
    fn documents(&self) -> Result<Vec<Value>> {
        let mut documents: Vec<Value> = serde_saphyr::from_multiple(&self.manifests).with_context(|| format!("examples/{} is YAML", self.name))?;
        documents.retain(|document| !document.is_null());
        Ok(documents)
    }

    /// What is to run.
    pub(crate) fn workloads(&self) -> Result<Vec<Workload>> {
        Ok(self.documents()?.iter().filter_map(workload).collect())
    }

    /// The images its pods name.
    pub(crate) fn images(&self) -> Result<BTreeSet<String>> {
        let mut images = BTreeSet::new();
        for document in self.documents()? {
            let spec = if document["kind"] == "Pod" { &document["spec"] } else { &document["spec"]["template"]["spec"] };
            for list in ["initContainers", "containers"] {
                images.extend(spec[list].as_array().into_iter().flatten().filter_map(|container| Some(container["image"].as_str()?.to_owned())));
            }
        }
        Ok(images)
    }
}

fn workload(document: &Value) -> Option<Workload> {
    let (kind, spec) = (document["kind"].as_str()?, &document["spec"]);
    let (field, ends) = match kind {
        "StatefulSet" | "Deployment" => ("replicas", false),
        "Job" => ("completions", true),
        _ => return None,
    };
    let labels = spec["template"]["metadata"]["labels"].as_object();
    let mut labels: BTreeMap<String, String> = labels.into_iter().flatten().filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect();
    let name = document["metadata"]["name"].as_str()?.to_owned();
    if ends {
        labels.insert("batch.kubernetes.io/job-name".to_owned(), name.clone());
    }
    let namespace = document["metadata"]["namespace"].as_str().unwrap_or("default").to_owned();
    Some(Workload { kind: kind.to_owned(), namespace, name, labels, pods: spec[field].as_u64().unwrap_or(1) as usize, ends })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_example_says_what_it_is_applies_something_and_has_commands_to_try() {
        let all = all().expect("every README reads");
        assert!(all.iter().any(|example| example.name == "postgres"));
        for example in all {
            assert!(!example.title.is_empty() && !example.workloads().expect("YAML").is_empty() && !example.images().expect("YAML").is_empty(), "{}", example.name);
            assert!(example.next.len() >= 2, "{}: {:?}", example.name, example.next);
        }
    }

    #[test]
    fn a_name_that_is_not_there_is_answered_with_those_that_are() {
        let words = find("oracle").expect_err("there is none").to_string();
        assert!(words.contains("oracle") && words.contains("postgres"), "{words}");
    }
}
