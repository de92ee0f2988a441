//! The README's commands, run as written: its indented lines, in order, in one shell's environment.

use crate::own::Own;
use mainstay_e2e::{Machine, repository};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

pub(crate) const TESTS: &[crate::OwnTest] = &[("every_command_works_as_written", as_written)];

/// The commands of a Markdown text: lines indented by four, without their comments.
fn commands(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| line.split(" #").next().unwrap_or(line).trim().to_owned()).collect()
}

/// `mainstay` on PATH: the program under test, with a data directory, a port and a kubeconfig that are the test's.
fn shim(machine: &Machine) -> String {
    format!(
        "#!/bin/sh\ncase $1 in up) set -- \"$@\" --port {port} --kubeconfig {kubeconfig} ;; down) set -- \"$@\" --yes --kubeconfig {kubeconfig} ;; esac\nexec {program} \"$@\" --data-dir {data}\n",
        port = machine.port,
        kubeconfig = machine.kubeconfig.display(),
        program = machine.program.display(),
        data = machine.data_dir.display(),
    )
}

fn as_written() {
    let machine = Own::new("readme", 16450);
    let bin = machine.kubeconfig.with_file_name("bin");
    std::fs::create_dir_all(&bin).expect("a directory for the shim");
    std::fs::write(bin.join("mainstay"), shim(&machine)).expect("write the shim");
    std::fs::set_permissions(bin.join("mainstay"), std::fs::Permissions::from_mode(0o755)).expect("make it run");
    let kubectl = machine.kubectl();
    if Path::new(kubectl.program()).is_absolute() {
        std::os::unix::fs::symlink(kubectl.program(), bin.join("kubectl")).expect("kubectl on PATH");
    }
    let path = format!("{}:{}", bin.display(), std::env::var("PATH").unwrap_or_default());
    let text = std::fs::read_to_string(repository().join("README.md")).expect("README.md");
    let commands = commands(&text);
    assert!(commands.iter().any(|c| c == "mainstay up") && commands.iter().any(|c| c.starts_with("make demo")), "{commands:?}");
    for command in &commands {
        // `make` builds everything and runs this test: that its targets are there is what can be seen here. `-w` ends when it is stopped.
        let run = match command.split_whitespace().next() {
            Some("make") => format!("{command} --dry-run"),
            _ if command.ends_with(" -w") => format!("timeout 2 {command}; [ $? = 124 ]"),
            _ => command.clone(),
        };
        let output = Command::new("sh").args(["-c", &run]).current_dir(repository()).env("PATH", &path).env("KUBECONFIG", &machine.kubeconfig).output().expect("sh");
        let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success(), "{command}: {}\n{said}", output.status);
        if command.starts_with("kubectl apply") {
            kubectl.until("sts/web", "{.status.readyReplicas}", "3", 60);
        }
    }
    assert!(!machine.data_dir.exists(), "the last command removes everything");
}
