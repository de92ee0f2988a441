//! `exec` and `attach`: a client's channels joined to a process's streams.

use crate::registry::Entry;
use crate::service::{flag, plain};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_streams::{Input, Outcome, Receiver, Sender, Session};
use mainstay_supervisor::{Container, Exec, Execution, Streams};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 32 * 1024;
/// Pieces of standard input between the client and a process that does not read.
const STDIN_LIMIT: usize = 16;
/// What a process left running may go on writing after the command itself has ended.
const LINGER: Duration = Duration::from_millis(500);

type Query = [(String, String)];

#[allow(clippy::result_large_err)] // It is the answer itself, and made once a request.
fn container(entry: &Entry, name: &str) -> Result<Container, Response<String>> {
    let view = entry.view();
    if crate::pod::reference::container(&view.pod, name).is_none() {
        return Err(plain(StatusCode::BAD_REQUEST, format!("container {name} is not valid for pod {}", entry.pod.name)));
    }
    let found = view.containers.get(name).cloned();
    found.ok_or_else(|| plain(StatusCode::INTERNAL_SERVER_ERROR, format!("container not found (\"{name}\")")))
}

/// Runs a command in the container.
pub(crate) fn exec(entry: &Arc<Entry>, name: &str, query: &Query, request: Request<Incoming>) -> Response<String> {
    let container = match container(entry, name) {
        Ok(container) if container.exit().is_none() => container,
        Ok(_) => return plain(StatusCode::INTERNAL_SERVER_ERROR, format!("container not found (\"{name}\")")),
        Err(response) => return response,
    };
    let command: Vec<String> = query.iter().filter(|(k, _)| k == "command").map(|(_, v)| v.clone()).collect();
    if command.is_empty() {
        return plain(StatusCode::BAD_REQUEST, "you must specify at least one command for the container".to_owned());
    }
    let order = Exec { command, tty: flag(query, "tty"), stdin: flag(query, "stdin") };
    mainstay_streams::accept(request, move |session| async move {
        match container.exec(order).await {
            Ok(execution) => run_exec(session, execution).await,
            Err(error) => {
                let (receiver, sender) = session.split();
                end(sender, receiver, Outcome::Failure(format!("error executing command in container: {error}"))).await;
            }
        }
    })
}

/// Joins the container's own streams.
pub(crate) fn attach(entry: &Arc<Entry>, name: &str, query: &Query, request: Request<Incoming>) -> Response<String> {
    let container = match container(entry, name) {
        Ok(container) => container,
        Err(response) => return response,
    };
    let stdin = flag(query, "stdin");
    mainstay_streams::accept(request, move |session| async move {
        let streams = match container.attach(stdin).await {
            Ok(streams) => streams,
            Err(error) => {
                let (receiver, sender) = session.split();
                return end(sender, receiver, Outcome::Failure(error.to_string())).await;
            }
        };
        let (receiver, sender) = session.split();
        let mut wires = Wires::new(receiver, sender, streams);
        let gone = wires.run(&Peer::Container(&container), container.wait()).await;
        if !gone {
            end(wires.sender, wires.receiver, Outcome::Success).await;
        }
    })
}

async fn end(sender: Sender, receiver: Receiver, outcome: Outcome) {
    if let Err(error) = sender.finish(receiver, outcome).await {
        tracing::debug!(%error, "the client of an exec or attach left before its outcome");
    }
}

async fn run_exec(session: Session, mut execution: Execution) {
    let streams = std::mem::replace(&mut execution.streams, Streams { stdin: None, stdout: None, stderr: None });
    let (receiver, sender) = session.split();
    let mut wires = Wires::new(receiver, sender, streams);
    let (sizes, mut wanted) = mpsc::channel(4);
    let mut exit = None;
    let gone = {
        let ended = async {
            loop {
                tokio::select! {
                    result = execution.wait() => {
                        exit = Some(result);
                        return;
                    }
                    Some((columns, rows)) = wanted.recv() => {
                        if let Err(error) = execution.resize(columns, rows).await {
                            tracing::debug!(%error, "a terminal could not be resized");
                        }
                    }
                }
            }
        };
        wires.run(&Peer::Exec(&sizes), ended).await
    };
    if gone {
        return;
    }
    let outcome = match exit {
        Some(Ok(exit)) if exit.code == 0 => Outcome::Success,
        Some(Ok(exit)) => Outcome::ExitCode(exit.code),
        Some(Err(error)) => Outcome::Failure(error.to_string()),
        None => Outcome::Failure("the command's end is not known".to_owned()),
    };
    end(wires.sender, wires.receiver, outcome).await;
}

/// Who gets a new terminal size.
enum Peer<'a> {
    Container(&'a Container),
    Exec(&'a mpsc::Sender<(u16, u16)>),
}

impl Peer<'_> {
    async fn resize(&self, columns: u16, rows: u16) {
        match self {
            Self::Container(container) => {
                if let Err(error) = container.resize(columns, rows).await {
                    tracing::debug!(%error, "a terminal could not be resized");
                }
            }
            Self::Exec(sizes) => {
                let _ = sizes.send((columns, rows)).await;
            }
        }
    }
}

struct Wires {
    receiver: Receiver,
    sender: Sender,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
    stdin: Option<mpsc::Sender<Bytes>>,
}

impl Wires {
    fn new(receiver: Receiver, sender: Sender, streams: Streams) -> Self {
        let stdin = streams.stdin.map(|pipe| {
            let (to, from) = mpsc::channel(STDIN_LIMIT);
            tokio::spawn(feed(pipe, from));
            to
        });
        Self { receiver, sender, stdout: streams.stdout, stderr: streams.stderr, stdin }
    }

    /// Passes bytes until `ended` and the output's end. `true`: the client went first.
    async fn run<T>(&mut self, peer: &Peer<'_>, ended: impl Future<Output = T>) -> bool {
        let (mut out, mut err) = (vec![0; CHUNK_BYTES], vec![0; CHUNK_BYTES]);
        tokio::pin!(ended);
        let mut over = false;
        loop {
            if over && self.stdout.is_none() && self.stderr.is_none() {
                return false;
            }
            tokio::select! {
                biased;
                n = read(&mut self.stdout, &mut out) => match n {
                    0 => self.stdout = None,
                    n => if self.sender.stdout(&out[..n]).await.is_err() { return true },
                },
                n = read(&mut self.stderr, &mut err) => match n {
                    0 => self.stderr = None,
                    n => if self.sender.stderr(&err[..n]).await.is_err() { return true },
                },
                _ = &mut ended, if !over => over = true,
                input = next(&mut self.receiver, self.stdin.as_ref()) => match input {
                    Input::Stdin(data) => {
                        if self.stdin.as_ref().is_some_and(|stdin| stdin.try_send(data).is_err()) {
                            self.stdin = None;
                        }
                    }
                    Input::StdinClosed => self.stdin = None,
                    Input::Resize { columns, rows } => peer.resize(columns, rows).await,
                    Input::Gone => return true,
                },
                () = tokio::time::sleep(LINGER), if over => return false,
            }
        }
    }
}

/// What the client sends next, once there is room for it.
async fn next(receiver: &mut Receiver, stdin: Option<&mpsc::Sender<Bytes>>) -> Input {
    if let Some(stdin) = stdin {
        // Only a hint: nobody else sends.
        if let Ok(permit) = stdin.reserve().await {
            drop(permit);
        }
    }
    receiver.receive().await
}

async fn read(pipe: &mut Option<pipe::Receiver>, into: &mut [u8]) -> usize {
    match pipe {
        // A terminal's end is an error (EIO), which is an end all the same.
        Some(pipe) => pipe.read(into).await.unwrap_or(0),
        None => std::future::pending().await,
    }
}

/// Writes to the process; dropping the channel closes its input.
async fn feed(mut pipe: pipe::Sender, mut from: mpsc::Receiver<Bytes>) {
    while let Some(data) = from.recv().await {
        if pipe.write_all(&data).await.is_err() {
            return;
        }
    }
}
