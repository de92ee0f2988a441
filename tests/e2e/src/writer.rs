//! A client that writes without pause and records which writes it was told are safe.

use crate::{Kubectl, eventually};
use std::collections::HashSet;
use std::time::Duration;

/// A pod that runs a shell line for 1, 2, 3, … and notes each number for which the line succeeded.
#[derive(Debug)]
pub struct Writer<'a> {
    kubectl: &'a Kubectl,
    name: String,
}

/// Each attempt is bounded, and a write that failed is not repeated: whether it happened is not known, so it is not counted.
const SCRIPT: &str = r#"touch /tmp/acknowledged
number=0
while [ ! -e /tmp/stop ]; do
  number=$((number + 1))
  if timeout 15 bash -c "$WRITE" write "$number" >/dev/null 2>/tmp/last-error; then echo "$number" >>/tmp/acknowledged; else sleep 0.1; fi
done
touch /tmp/stopped
sleep infinity"#;

impl<'a> Writer<'a> {
    /// Starts it. `line` finds its number in `$1`; `env` is added to the container's.
    #[track_caller]
    pub fn start(kubectl: &'a Kubectl, name: &str, image: &str, env: &[(&str, &str)], line: &str) -> Self {
        let env: Vec<_> = env.iter().copied().chain([("WRITE", line)]).map(|(name, value)| serde_json::json!({"name": name, "value": value})).collect();
        let pod = serde_json::json!({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": {"terminationGracePeriodSeconds": 1, "containers": [
            {"name": "writer", "image": image, "imagePullPolicy": "IfNotPresent", "command": ["bash", "-c", SCRIPT], "env": env}]}});
        kubectl.apply(&pod.to_string());
        kubectl.until(&format!("pod/{name}"), "{.status.phase}", "Running", 60);
        let writer = Self { kubectl, name: name.to_owned() };
        writer.advances(5, 60);
        writer
    }

    /// How many writes were acknowledged so far.
    pub fn count(&self) -> usize {
        let answer = self.kubectl.run(&["exec", &self.name, "--", "wc", "-l", "/tmp/acknowledged"]);
        answer.out.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or(0)
    }

    /// Waits until so many more writes are acknowledged.
    #[track_caller]
    pub fn advances(&self, more: usize, seconds: u64) {
        let goal = self.count() + more;
        eventually(&format!("{} acknowledges {more} more writes", self.name), Duration::from_secs(seconds), || {
            let count = self.count();
            if count >= goal { Ok(()) } else { Err(format!("{count} of {goal}; {}", self.kubectl.run(&["exec", &self.name, "--", "cat", "/tmp/last-error"]).out)) }
        });
    }

    /// Ends the writing; the numbers that were acknowledged.
    #[track_caller]
    pub fn stop(self) -> Vec<u64> {
        self.kubectl.ok(&["exec", &self.name, "--", "touch", "/tmp/stop"]);
        eventually("the last write ends", Duration::from_secs(30), || {
            let answer = self.kubectl.run(&["exec", &self.name, "--", "test", "-e", "/tmp/stopped"]);
            if answer.code == 0 { Ok(()) } else { Err(answer.err) }
        });
        let acknowledged = self.kubectl.ok(&["exec", &self.name, "--", "cat", "/tmp/acknowledged"]);
        self.kubectl.ok(&["delete", "pod", &self.name, "--wait=false"]);
        acknowledged.lines().map(|line| line.parse().expect("a number a line")).collect()
    }
}

/// The acknowledged numbers that are not among what was found (numbers separated by white space).
pub fn lost(acknowledged: &[u64], found: &str) -> Vec<u64> {
    let found: HashSet<u64> = found.split_whitespace().filter_map(|n| n.parse().ok()).collect();
    acknowledged.iter().copied().filter(|n| !found.contains(n)).collect()
}
