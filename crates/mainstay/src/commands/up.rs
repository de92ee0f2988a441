//! `mainstay up`.

use super::{need_root, serve};
use crate::data_dir::DataDir;
use crate::notify::{self, Message};
use crate::{control, kubeconfig, port};
use anyhow::{Context as _, Result, bail};
use std::fs::OpenOptions;
use std::io::IsTerminal as _;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    serve: serve::Args,
}

/// Long enough for a slow disk's recovery; shorter than a person's patience.
const START_LIMIT: Duration = Duration::from_secs(120);

pub(super) fn run(args: &Args) -> Result<()> {
    need_root("up")?;
    let data = args.serve.instance.open()?;
    let begun = Instant::now();
    let running = control::status(&data).ok();
    if let Some(status) = &running {
        println!("mainstay is already running (pid {}, {})", status.pid, status.url);
    } else {
        start(&data, &args.serve)?;
    }
    let port = running.map_or(args.serve.port, |s| s.port);
    let target = kubeconfig::target(args.serve.kubeconfig.as_deref())?;
    let context = kubeconfig::merge(&data, &target, port)?;
    println!("kubectl context {context:?} is current in {}", target.path.display());
    println!("ready in {:.2} s; try: kubectl get nodes", begun.elapsed().as_secs_f64());
    Ok(())
}

/// Starts an engine that outlives this command, and follows its start.
pub(super) fn start(data: &DataDir, args: &serve::Args) -> Result<()> {
    port::check(args.port)?;
    data.create()?;
    let socket = notify::Listener::bind(&data.run_dir())?;
    let log_path = data.path().join("engine.log");
    let log = OpenOptions::new().create(true).append(true).open(&log_path).with_context(|| format!("open {}", log_path.display()))?;
    let mut command = Command::new(std::env::current_exe().context("find this program")?);
    command.arg("serve").arg("--data-dir").arg(data.path()).args(["--port", &args.port.to_string()]);
    if let Some(file) = &args.kubeconfig {
        command.arg("--kubeconfig").arg(std::path::absolute(file)?);
    }
    command.env(notify::VARIABLE, socket.path()).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir("/").process_group(0);
    let mut child = command.spawn().context("start the engine")?;
    follow(&socket, &mut child).with_context(|| format!("the engine did not start (its log: {})", log_path.display()))
}

fn follow(socket: &notify::Listener, child: &mut Child) -> Result<()> {
    let (begun, terminal) = (Instant::now(), std::io::stderr().is_terminal());
    let spinner = indicatif::ProgressBar::new_spinner().with_message("starting");
    if terminal {
        spinner.enable_steady_tick(Duration::from_millis(80));
    }
    let outcome = loop {
        if begun.elapsed() > START_LIMIT {
            let _ = child.kill();
            break Err(anyhow::anyhow!("not ready after {} s", START_LIMIT.as_secs()));
        }
        match socket.receive(Duration::from_millis(100))? {
            Some(Message::Status(step)) => {
                spinner.println(format!("  {step}"));
                if !terminal {
                    println!("  {step}");
                }
                spinner.set_message("starting");
            }
            Some(Message::Ready) => break Ok(()),
            Some(Message::Failed(words)) => break Err(anyhow::anyhow!("{words}")),
            None => {
                if let Some(status) = child.try_wait()? {
                    break Err(anyhow::anyhow!("it ended with {status}"));
                }
            }
        }
    };
    spinner.finish_and_clear();
    match outcome {
        Ok(()) => Ok(()),
        // The engine's own words are the whole story.
        Err(error) if child.try_wait()?.is_none() => {
            let _ = child.wait();
            bail!(error)
        }
        Err(error) => Err(error),
    }
}
