//! An engine of a test's own, so that it may be killed; purged however the test ends.

use mainstay_e2e::{Kubectl, Machine, eventually, repository};
use std::collections::BTreeSet;
use std::ops::Deref;
use std::time::Duration;

/// A machine that is purged when it goes out of scope; a failed test leaves the engine's log in the temporary directory.
pub(crate) struct Own {
    machine: Machine,
    name: &'static str,
}

impl Own {
    /// Starts it with these images.
    #[track_caller]
    pub(crate) fn start(name: &'static str, port: u16, images: &[&str]) -> Self {
        Self { machine: Machine::start_with(name, port, images).expect("the engine starts"), name }
    }

    /// Names its parts and makes the directory of its kubeconfig; starts nothing.
    pub(crate) fn new(name: &'static str, port: u16) -> Self {
        let machine = Machine::new(name, port);
        std::fs::create_dir_all(machine.kubeconfig.parent().expect("kubeconfig has a directory")).expect("make the test's directory");
        Self { machine, name }
    }

    /// `kill -9` of the engine, and up again.
    #[track_caller]
    pub(crate) fn kill_and_up(&self) {
        self.machine.kill().expect("kill -9");
        self.machine.up().expect("up again");
    }
}

impl Deref for Own {
    type Target = Machine;
    fn deref(&self) -> &Machine {
        &self.machine
    }
}

impl Drop for Own {
    fn drop(&mut self) {
        let failed = std::thread::panicking();
        if failed {
            let _ = std::fs::copy(self.machine.data_dir.join("engine.log"), std::env::temp_dir().join(format!("mainstay-e2e-{}-engine.log", self.name)));
        }
        match self.machine.purge() {
            Err(error) if failed => eprintln!("purge {}: {error:#}", self.name),
            purged => purged.expect("purge"),
        }
    }
}

/// A folder of `examples/`, or a file in it.
pub(crate) fn example(path: &str) -> String {
    repository().join("examples").join(path).to_string_lossy().into_owned()
}

/// A command in a pod: its output, or what it said.
pub(crate) fn exec(k: &Kubectl, pod: &str, command: &[&str]) -> Result<String, String> {
    let answer = k.run(&[&["exec", pod, "--"], command].concat());
    if answer.code == 0 { Ok(answer.out.trim().to_owned()) } else { Err(format!("{}{}", answer.out, answer.err)) }
}

/// Waits for a set to have so many ready pods of its newest revision.
#[track_caller]
pub(crate) fn ready(k: &Kubectl, set: &str, replicas: u32, seconds: u64) {
    let object = format!("statefulset/{set}");
    let path = "{.metadata.generation}={.status.observedGeneration} {.status.readyReplicas} {.status.replicas}";
    eventually(&format!("{object} has {replicas} ready"), Duration::from_secs(seconds), || {
        let found = k.run(&["get", &object, "-o", &format!("jsonpath={path}")]);
        let (generations, counts) = found.out.split_once(' ').unwrap_or_default();
        let observed = generations.split_once('=').is_some_and(|(wanted, seen)| wanted == seen);
        if observed && counts == format!("{replicas} {replicas}") { Ok(()) } else { Err(format!("{}{}", found.out, found.err)) }
    });
}

/// Ends a pod at once, as a lost power cable would, and waits for another of its name.
#[track_caller]
pub(crate) fn kill_pod(k: &Kubectl, pod: &str) {
    replace(k, pod, &["--grace-period=0", "--force", "--wait=false"]);
}

/// Deletes a pod in these words, and waits for another of its name.
#[track_caller]
pub(crate) fn replace(k: &Kubectl, pod: &str, words: &[&str]) {
    let object = format!("pod/{pod}");
    let before = k.field(&object, "{.metadata.uid}");
    k.ok(&[&["delete", &object], words].concat());
    eventually(&format!("another {pod}"), Duration::from_secs(60), || {
        let now = k.run(&["get", &object, "-o", "jsonpath={.metadata.uid}"]);
        if now.code == 0 && now.out != before { Ok(()) } else { Err(format!("{}{}", now.out, now.err)) }
    });
}

/// The lines of a pod's log that begin with a word, without it.
pub(crate) fn logged(k: &Kubectl, pod: &str, word: &str) -> BTreeSet<String> {
    k.run(&["logs", pod]).out.lines().filter_map(|line| line.strip_prefix(word)).map(|rest| rest.trim().to_owned()).collect()
}

/// Waits until a client logged so many more acknowledged writes than it has now.
#[track_caller]
pub(crate) fn writes_on(k: &Kubectl, client: &str, word: &str, more: usize, seconds: u64) {
    let before = logged(k, client, word).len();
    eventually(&format!("{client} writes on"), Duration::from_secs(seconds), || {
        let now = logged(k, client, word).len();
        if now >= before + more { Ok(()) } else { Err(format!("{now} writes, {before} before; {}", k.run(&["logs", client, "--tail=3"]).out)) }
    });
}
