//! Streams into a container: of an exec, of an attach.

use super::link::Link;
use super::readiness;
use crate::protocol::{Reply, Request};
use crate::types::{Error, Exec, Exit};
use std::io::{self, PipeReader, PipeWriter};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::{Arc, Weak};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::unix::pipe;

/// Streams of an exec or attach. Dropping them ends an exec's client side, not the process of an attach.
#[derive(Debug)]
pub struct Streams {
    /// Standard input, if asked for; dropping it is end of file.
    pub stdin: Option<pipe::Sender>,
    /// Standard output (all output with a tty).
    pub stdout: Option<pipe::Receiver>,
    /// Standard error, without a tty.
    pub stderr: Option<pipe::Receiver>,
}

/// A running exec.
#[derive(Debug)]
pub struct Execution {
    /// Its streams.
    pub streams: Streams,
    id: String,
    pid: i32,
    link: Link,
    terminal: Weak<Terminal>,
    exit: Option<Exit>,
}

type Terminal = AsyncFd<OwnedFd>;

/// The other side's ends, to be sent, and ours.
struct Ends {
    theirs: Vec<OwnedFd>,
    streams: Streams,
}

fn ends(stdin: bool, outputs: usize) -> io::Result<Ends> {
    let mut theirs: Vec<OwnedFd> = Vec::new();
    let mut streams = Streams { stdin: None, stdout: None, stderr: None };
    if stdin {
        let (reader, writer) = io::pipe()?;
        theirs.push(reader.into());
        streams.stdin = Some(sender(writer)?);
    }
    for output in [&mut streams.stdout, &mut streams.stderr].into_iter().take(outputs) {
        let (reader, writer) = io::pipe()?;
        theirs.push(writer.into());
        *output = Some(receiver(reader)?);
    }
    Ok(Ends { theirs, streams })
}

fn sender(writer: PipeWriter) -> io::Result<pipe::Sender> {
    pipe::Sender::from_owned_fd(writer.into())
}

fn receiver(reader: PipeReader) -> io::Result<pipe::Receiver> {
    pipe::Receiver::from_owned_fd(reader.into())
}

fn numbers(fds: &[OwnedFd]) -> Vec<RawFd> {
    fds.iter().map(AsRawFd::as_raw_fd).collect()
}

pub(super) async fn exec(id: &str, link: Link, exec: Exec) -> Result<Execution, Error> {
    let doing = |doing| Error::io(id, doing);
    let Exec { command, tty, stdin } = exec;
    let Ends { theirs, streams } = if tty { ends(false, 0) } else { ends(stdin, 2) }.map_err(doing("make pipes"))?;
    let request = Request::Exec { command, tty, stdin };
    let (reply, fds) = link.ask(&request, &numbers(&theirs)).await.map_err(doing("exec in it"))?;
    drop(theirs);
    let pid = match reply {
        Reply::Started { pid } => pid,
        Reply::NotRunning => return Err(Error::NotRunning(id.to_owned())),
        Reply::Failed { failure } => return Err(Error::Exec { code: failure.code, message: failure.message }),
        other => return Err(doing("exec in it")(io::Error::other(format!("unexpected answer {other:?}")))),
    };
    let mut execution = Execution { streams, id: id.to_owned(), pid, link, terminal: Weak::new(), exit: None };
    if tty {
        let terminal = fds.into_iter().next().ok_or_else(|| io::Error::other("no terminal came"));
        let terminal = terminal.and_then(open_terminal).map_err(doing("open the exec's terminal"))?;
        execution.streams = serve_terminal(terminal.clone(), stdin).map_err(doing("serve the exec's terminal"))?;
        execution.terminal = Arc::downgrade(&terminal);
    }
    Ok(execution)
}

pub(super) async fn attach(id: &str, link: Link, stdin: bool) -> Result<Streams, Error> {
    let doing = |doing| Error::io(id, doing);
    let Ends { theirs, streams } = ends(stdin, 2).map_err(doing("make pipes"))?;
    let (reply, _) = link.ask(&Request::Attach { stdin }, &numbers(&theirs)).await.map_err(doing("attach to it"))?;
    match reply {
        Reply::Done => Ok(streams),
        Reply::Failed { failure } => Err(doing("attach to it")(io::Error::other(failure.message))),
        other => Err(doing("attach to it")(io::Error::other(format!("unexpected answer {other:?}")))),
    }
}

fn open_terminal(terminal: OwnedFd) -> io::Result<Arc<Terminal>> {
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    let flags = OFlag::from_bits_retain(fcntl(&terminal, FcntlArg::F_GETFL)?);
    fcntl(&terminal, FcntlArg::F_SETFL(flags | OFlag::O_NONBLOCK))?;
    Ok(Arc::new(readiness::register(terminal, Interest::READABLE | Interest::WRITABLE)?))
}

/// Pipes in front of the terminal: output until its last user closed it; input until the client is done, which a terminal cannot be told.
///
/// Who reads the output owns the terminal: when that client goes the terminal closes, and the kernel hangs up the session on it.
fn serve_terminal(terminal: Arc<Terminal>, stdin: bool) -> io::Result<Streams> {
    let (output_reader, output_writer) = io::pipe()?;
    let mut streams = Streams { stdin: None, stdout: Some(receiver(output_reader)?), stderr: None };
    let mut output = sender(output_writer)?;
    let to = Arc::downgrade(&terminal);
    tokio::spawn(async move {
        let mut buffer = vec![0u8; 16 * 1024];
        loop {
            let read = terminal.async_io(Interest::READABLE, |fd| Ok(nix::unistd::read(fd, &mut buffer)?));
            let read = tokio::select! {
                read = read => read,
                _ = output.ready(Interest::ERROR) => return,
            };
            // EIO: nobody has the other side open any more.
            let Ok(length @ 1..) = read else { return };
            if output.write_all(&buffer[..length]).await.is_err() {
                return;
            }
        }
    });
    if stdin {
        let (input_reader, input_writer) = io::pipe()?;
        streams.stdin = Some(sender(input_writer)?);
        let mut input = receiver(input_reader)?;
        tokio::spawn(async move {
            let mut buffer = vec![0u8; 4096];
            while let Ok(length @ 1..) = input.read(&mut buffer).await {
                let Some(to) = to.upgrade() else { return };
                let mut rest = &buffer[..length];
                while !rest.is_empty() {
                    match to.async_io(Interest::WRITABLE, |fd| Ok(nix::unistd::write(fd, rest)?)).await {
                        Ok(written) => rest = &rest[written..],
                        Err(_) => return,
                    }
                }
            }
        });
    }
    Ok(streams)
}

impl Execution {
    /// Its process id, in the host's process namespace.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Terminal size. Without a terminal, or once its reader is gone, nothing happens.
    pub async fn resize(&self, columns: u16, rows: u16) -> Result<(), Error> {
        let Some(terminal) = self.terminal.upgrade() else { return Ok(()) };
        crate::wire::set_terminal_size(terminal.get_ref(), columns, rows).map_err(Error::io(&self.id, "resize an exec's terminal"))
    }

    /// Waits for the command's exit code.
    pub async fn wait(&mut self) -> Result<Exit, Error> {
        if let Some(exit) = &self.exit {
            return Ok(exit.clone());
        }
        match self.link.receive::<Reply>().await.map_err(Error::io(&self.id, "wait for an exec"))? {
            Some((Reply::Exited { exit }, _)) => Ok(self.exit.insert(exit).clone()),
            // The supervisor quits only once the container, and so the command, is gone.
            _ => Err(Error::NotRunning(self.id.clone())),
        }
    }

    /// Kills the command and its process group (an exec probe past its timeout).
    pub async fn kill(&self) -> Result<(), Error> {
        let request = Request::ExecKill { signal: libc::SIGKILL };
        self.link.send(&request, &[]).await.map_err(Error::io(&self.id, "kill an exec"))
    }
}
