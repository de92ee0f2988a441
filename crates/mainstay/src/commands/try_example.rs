//! `mainstay try`: an example, applied and watched until it runs, with what to do next. It does what its README says, with real kubectl.

use super::{Instance, Output, need_root};
use crate::control;
use crate::data_dir::DataDir;
use crate::examples::{self, Example, Workload};
use crate::kubeconfig::{self, Target};
use crate::watch_pods::{Progress, Watch};
use anyhow::{Context as _, Result, bail, ensure};
use comfy_table::{Table, presets};
use mainstay_images::Images;
use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct Args {
    /// The example (--list shows them)
    #[arg(value_name = "SYSTEM", required_unless_present = "list")]
    system: Option<String>,
    /// Show the examples, and which of their images are here
    #[arg(long, conflicts_with_all = ["system", "clean"])]
    list: bool,
    /// Remove the example: its objects, its claims and their data
    #[arg(long)]
    clean: bool,
    /// Give up after so many seconds
    #[arg(long, default_value_t = 300, value_name = "SECONDS")]
    timeout: u64,
    /// Output format of --list
    #[arg(short, long, value_enum, default_value = "table", requires = "list")]
    output: Output,
    #[command(flatten)]
    instance: Instance,
}

/// Commands shown when an example runs.
const NEXT: usize = 3;

pub(super) fn run(args: &Args) -> Result<()> {
    let data = args.instance.open()?;
    let Some(system) = &args.system else { return list(&data, args.output) };
    let example = examples::find(system)?;
    need_root("try")?;
    let status = control::status(&data).map_err(|reason| anyhow::anyhow!("the engine of {} is not running: `mainstay up` starts it ({reason})", data.path().display()))?;
    let kubectl = Kubectl::new(&data, status.port)?;
    if args.clean { clean(&kubectl, &example) } else { apply(&kubectl, &example, &data, Duration::from_secs(args.timeout)) }
}

/// Images of an example that are not on this node.
fn missing(example: &Example, data: &DataDir) -> Result<BTreeSet<String>> {
    let images = Images::open(&data.path().join("images"))?;
    let here: BTreeSet<String> = images.list().into_iter().flat_map(|image| image.names).collect();
    let mut wanted = example.images()?;
    wanted.retain(|image| !mainstay_images::canonical(image).is_ok_and(|name| here.contains(&name)));
    Ok(wanted)
}

fn list(data: &DataDir, output: Output) -> Result<()> {
    data.create()?;
    let mut rows = Vec::new();
    for example in examples::all()? {
        let missing: Vec<String> = missing(&example, data)?.into_iter().collect();
        rows.push((example.name, example.title, missing));
    }
    if output == Output::Json {
        let rows: Vec<_> = rows.iter().map(|(name, title, missing)| serde_json::json!({"name": name, "title": title, "missingImages": missing})).collect();
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(());
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["SYSTEM", "WHAT IT SHOWS", "IMAGES"]);
    table.add_rows(rows.into_iter().map(|(name, title, missing)| [name.to_owned(), title.to_owned(), if missing.is_empty() { "here".to_owned() } else { format!("missing: {}", missing.join(", ")) }]));
    println!("{table}");
    Ok(())
}

fn apply(kubectl: &Kubectl, example: &Example, data: &DataDir, limit: Duration) -> Result<()> {
    for image in missing(example, data)? {
        println!("{image} is not on this node and will be pulled; {}", how_to_get(&image));
    }
    let workloads = example.workloads()?;
    let begun = Instant::now();
    kubectl.with_input(&["apply", "-f", "-"], &example.manifests)?;
    let mut watch = Watch::start(kubectl.command(&["get", "pods", "--all-namespaces", "--watch", "--output=json", "--output-watch-events"]))?;
    let mut progress = Progress::new(&workloads, begun);
    while !progress.complete() {
        let left = limit.checked_sub(begun.elapsed()).filter(|left| !left.is_zero());
        let Some(left) = left else { bail!("not all pods were ready after {} s; `kubectl describe pod` says why. `mainstay try {} --clean` removes them", limit.as_secs(), example.name) };
        if let Some(image) = watch.next(left)?.and_then(|event| progress.see(&event)) {
            bail!("{image} could not be pulled; {}. `mainstay try {} --clean` removes what was applied", how_to_get(&image), example.name);
        }
    }
    progress.finish();
    println!("\n{} ready in {:.1} s", example.name, begun.elapsed().as_secs_f64());
    if let Some(connect) = example.connect {
        println!("connect: {connect}");
    }
    println!("try next:");
    example.next.iter().take(NEXT).for_each(|command| println!("  {command}"));
    Ok(())
}

fn how_to_get(image: &str) -> String {
    let short = image.rsplit('/').next().unwrap_or(image).split(':').next().unwrap_or(image);
    format!("without a registry: `cargo xtask images {short}` in Mainstay's sources, then `mainstay image import .cache/images/{short}.tar`")
}

fn clean(kubectl: &Kubectl, example: &Example) -> Result<()> {
    kubectl.with_input(&["delete", "--ignore-not-found", "-f", "-"], &example.manifests)?;
    for workload in example.workloads()?.iter().filter(|workload| workload.kind == "StatefulSet") {
        let selector = selector(workload);
        kubectl.with_input(&["delete", "persistentvolumeclaims", "--ignore-not-found", "--namespace", &workload.namespace, "--selector", &selector], "")?;
    }
    println!("{} removed", example.name);
    Ok(())
}

fn selector(workload: &Workload) -> String {
    workload.labels.iter().map(|(key, value)| format!("{key}={value}")).collect::<Vec<_>>().join(",")
}

/// The user's kubectl, with this instance's administrator.
struct Kubectl {
    program: PathBuf,
    kubeconfig: PathBuf,
}

impl Kubectl {
    fn new(data: &DataDir, port: u16) -> Result<Self> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = std::env::split_paths(&path).map(|dir| dir.join("kubectl")).find(|file| file.is_file());
        let program = program.context("kubectl is not on PATH: install it (https://kubernetes.io/docs/tasks/tools), or `scripts/kubectl 35 /usr/local/bin/kubectl` in Mainstay's sources")?;
        let target = Target::private(data.run_dir().join("kubeconfig"));
        kubeconfig::merge(data, &target, port)?;
        Ok(Self { program, kubeconfig: target.path })
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.arg("--kubeconfig").arg(&self.kubeconfig).args(args);
        command
    }

    /// Runs it with a text on standard input; its words go to the user.
    fn with_input(&self, args: &[&str], text: &str) -> Result<()> {
        let mut child = self.command(args).stdin(Stdio::piped()).spawn().context("run kubectl")?;
        let written = child.stdin.take().context("kubectl reads")?.write_all(text.as_bytes());
        let status = child.wait().context("wait for kubectl")?;
        ensure!(status.success() && written.is_ok(), "kubectl {} ended with {status}", args[0]);
        Ok(())
    }
}
