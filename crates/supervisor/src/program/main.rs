//! The supervisor: one process a container, with one thread.
//!
//! Started with the container's directory as its only argument and, as standard input, a socket on which it says once how the launch went
//! ([`mainstay_supervisor::protocol::Reply`]). From then on it serves the socket in that directory until it is told to quit.

mod attach;
mod cgroupfs;
mod confine;
mod enter;
mod hints;
mod home;
mod launch;
mod seccomp;
mod serve;
mod sys;

use mainstay_supervisor::process::Process;
use mainstay_supervisor::protocol::{self, Failure, Reply};
use mainstay_supervisor::wire;
use std::path::PathBuf;
use std::process::ExitCode;

fn main() -> ExitCode {
    let Some(dir) = std::env::args_os().nth(1).map(PathBuf::from) else {
        eprintln!("mainstay-supervisor: started by mainstay, with a container's directory");
        return ExitCode::from(2);
    };
    let launcher = match sys::detach() {
        Ok(launcher) => launcher,
        Err(error) => {
            eprintln!("mainstay-supervisor: {error}");
            return ExitCode::from(2);
        }
    };
    match start(&dir) {
        Ok(mut server) => {
            // Whoever launched us may be gone; then nobody reads this.
            let _ = wire::send(&launcher, &Reply::Started { pid: server.pid() }, &[]);
            drop(launcher);
            // A program run from a sealed memfd is called by the number of its descriptor; people look for it in `ps`.
            let _ = std::fs::write("/proc/self/comm", "mainstay-super");
            server.run();
            ExitCode::SUCCESS
        }
        Err(failure) => {
            let _ = protocol::write_record(&dir, protocol::ERROR, &failure);
            let _ = wire::send(&launcher, &Reply::Failed { failure }, &[]);
            ExitCode::from(1)
        }
    }
}

fn start(dir: &std::path::Path) -> Result<serve::Server, Failure> {
    let broken = |error: std::io::Error| Failure { code: 128, message: format!("{}: {error}", dir.display()) };
    protocol::write_record(dir, protocol::SUPERVISOR, &Process::find(std::process::id() as i32).map_err(broken)?).map_err(broken)?;
    let file: protocol::LaunchFile = protocol::read_record(dir, protocol::LAUNCH)
        .and_then(|file| file.ok_or_else(|| std::io::ErrorKind::NotFound.into()))
        .map_err(broken)?;
    let signals = sys::child_signals().map_err(broken)?;
    let launched = launch::launch(dir, file)?;
    let listener = wire::listen(dir, protocol::SOCKET).map_err(broken)?;
    protocol::write_record(dir, protocol::STATE, &launched.state).map_err(broken)?;
    Ok(serve::Server::new(dir.to_owned(), launched, listener, signals))
}
