//! Real kubectl.

use crate::{eventually, repository};
use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

/// kubectl in one namespace. `$KUBECTL` names another binary.
#[derive(Clone, Debug)]
pub struct Kubectl {
    program: OsString,
    kubeconfig: PathBuf,
    namespace: String,
}

/// How a call ended.
#[derive(Clone, Debug)]
pub struct Answer {
    /// Exit code.
    pub code: i32,
    /// Standard output.
    pub out: String,
    /// Standard error.
    pub err: String,
}

impl Kubectl {
    pub(crate) fn new(kubeconfig: &Path, namespace: &str) -> Self {
        let fetched = repository().join(".cache/bin/kubectl");
        let program = std::env::var_os("KUBECTL").unwrap_or_else(|| if fetched.is_file() { fetched.into() } else { "kubectl".into() });
        Self { program, kubeconfig: kubeconfig.to_owned(), namespace: namespace.to_owned() }
    }

    /// The same in another namespace.
    pub fn within(&self, namespace: &str) -> Self {
        Self { namespace: namespace.to_owned(), ..self.clone() }
    }

    /// The same with another binary.
    pub fn using(&self, program: &std::ffi::OsStr) -> Self {
        Self { program: program.to_owned(), ..self.clone() }
    }

    /// The binary: a path, or a name on PATH.
    pub fn program(&self) -> &std::ffi::OsStr {
        &self.program
    }

    /// The command, for a test that needs more than its output.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.env("KUBECONFIG", &self.kubeconfig).args(["--namespace", &self.namespace]).args(args);
        command
    }

    /// Runs it with text on standard input.
    #[track_caller]
    pub fn with_input(&self, args: &[&str], input: &str) -> Answer {
        let mut child = self.command(args).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("kubectl runs");
        let mut stdin = child.stdin.take().expect("it was piped");
        let text = input.to_owned();
        let writer = std::thread::spawn(move || { let _ = stdin.write_all(text.as_bytes()); });
        let output = child.wait_with_output().expect("kubectl ends");
        let _ = writer.join();
        Answer { code: output.status.code().unwrap_or(-1), out: String::from_utf8_lossy(&output.stdout).into_owned(), err: String::from_utf8_lossy(&output.stderr).into_owned() }
    }

    /// Runs it.
    #[track_caller]
    pub fn run(&self, args: &[&str]) -> Answer {
        self.with_input(args, "")
    }

    /// Runs it; it must succeed. Standard output without the last newline.
    #[track_caller]
    pub fn ok(&self, args: &[&str]) -> String {
        let answer = self.run(args);
        assert_eq!(answer.code, 0, "kubectl {}\n{}{}", args.join(" "), answer.out, answer.err);
        answer.out.trim_end().to_owned()
    }

    /// Runs it; it must fail, and its words must hold these.
    #[track_caller]
    pub fn fails(&self, args: &[&str], words: &str) {
        self.refuses(args, "", words);
    }

    /// Applies a manifest that must be refused with these words.
    #[track_caller]
    pub fn refuses(&self, args: &[&str], input: &str, words: &str) {
        let answer = self.with_input(args, &as_yaml(input));
        assert!(answer.code != 0 && answer.err.contains(words), "kubectl {} should fail with {words:?}, but: {answer:?}", args.join(" "));
    }

    /// `kubectl apply -f -`.
    #[track_caller]
    pub fn apply(&self, manifest: &str) -> String {
        let answer = self.with_input(&["apply", "-f", "-"], &as_yaml(manifest));
        assert_eq!(answer.code, 0, "kubectl apply: {}{}\n{manifest}", answer.out, answer.err);
        answer.out
    }

    /// A field, by JSONPath.
    #[track_caller]
    pub fn field(&self, object: &str, path: &str) -> String {
        self.ok(&["get", object, "-o", &format!("jsonpath={path}")])
    }

    /// Waits until a field has a value.
    #[track_caller]
    pub fn until(&self, object: &str, path: &str, value: &str, seconds: u64) {
        let jsonpath = format!("jsonpath={path}");
        eventually(&format!("{object} {path} = {value:?}"), Duration::from_secs(seconds), || {
            let found = self.run(&["get", object, "-o", &jsonpath]);
            if found.code == 0 && found.out == value { Ok(()) } else { Err(format!("{}{}", found.out, found.err)) }
        });
    }

    /// Waits for an event with this reason on an object, and returns its message.
    #[track_caller]
    pub fn event(&self, name: &str, reason: &str, seconds: u64) -> String {
        let selector = format!("involvedObject.name={name},reason={reason}");
        eventually(&format!("event {reason} on {name}"), Duration::from_secs(seconds), || {
            let found = self.run(&["get", "events", "--field-selector", &selector, "-o", "jsonpath={.items[*].message}"]);
            if found.out.is_empty() { Err(found.err) } else { Ok(found.out) }
        })
    }
}

/// kubectl up to 1.32 takes a text that begins with a brace for JSON; it may be YAML in flow style.
fn as_yaml(manifest: &str) -> String {
    if manifest.starts_with('{') { format!("---\n{manifest}") } else { manifest.to_owned() }
}
