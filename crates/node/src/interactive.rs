//! `exec` and `attach`: a client's channels joined to a process's streams.

use crate::registry::Entry;
use crate::service::{flag, plain};
use bytes::BytesMut;
use http::{Request, Response, StatusCode};
use hyper::body::Incoming;
use mainstay_streams::{Event, Events, Outcome, Output, Reader, Session, Wanted, accept_command};
use mainstay_supervisor::{Container, Exec, Execution, Streams};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::unix::pipe;
use tokio::sync::mpsc;

const CHUNK_BYTES: usize = 32 * 1024;
/// What a process left running may go on writing after the command itself has ended.
const LINGER: Duration = Duration::from_millis(500);

type Query = [(String, String)];

fn wanted(query: &Query) -> Wanted {
    Wanted { stdin: flag(query, "stdin"), stdout: flag(query, "stdout"), stderr: flag(query, "stderr"), tty: flag(query, "tty") }
}

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
    let wanted = wanted(query);
    let order = Exec { command, tty: wanted.tty, stdin: wanted.stdin };
    accept_command(request, wanted, move |session| async move {
        match container.exec(order).await {
            Ok(execution) => run_exec(session, execution).await,
            Err(error) => end(session.output, Outcome::Failure(format!("error executing command in container: {error}"))).await,
        }
    })
}

/// Joins the container's own streams.
pub(crate) fn attach(entry: &Arc<Entry>, name: &str, query: &Query, request: Request<Incoming>) -> Response<String> {
    let container = match container(entry, name) {
        Ok(container) => container,
        Err(response) => return response,
    };
    let wanted = wanted(query);
    accept_command(request, wanted, move |session| async move {
        let streams = match container.attach(wanted.stdin).await {
            Ok(streams) => streams,
            Err(error) => return end(session.output, Outcome::Failure(format!("error attaching to container: {error}"))).await,
        };
        let mut wires = Wires::new(session, streams);
        let gone = wires.run(&Peer::Container(&container), container.wait()).await;
        if !gone {
            end(wires.output, Outcome::Success).await;
        }
    })
}

async fn end(output: Output, outcome: Outcome) {
    if let Err(error) = output.finish(outcome).await {
        tracing::debug!(%error, "the client of an exec or attach left before its outcome");
    }
}

async fn run_exec(session: Session, mut execution: Execution) {
    let streams = std::mem::replace(&mut execution.streams, Streams { stdin: None, stdout: None, stderr: None });
    let mut wires = Wires::new(session, streams);
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
    end(wires.output, outcome).await;
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
    events: Events,
    output: Output,
    stdout: Option<pipe::Receiver>,
    stderr: Option<pipe::Receiver>,
}

impl Wires {
    fn new(session: Session, streams: Streams) -> Self {
        let Session { stdin, events, output } = session;
        if let Some((pipe, from)) = streams.stdin.zip(stdin) {
            tokio::spawn(feed(pipe, from));
        }
        Self { events, output, stdout: streams.stdout, stderr: streams.stderr }
    }

    /// Passes output until `ended` and the output's end. `true`: the client went first.
    async fn run<T>(&mut self, peer: &Peer<'_>, ended: impl Future<Output = T>) -> bool {
        let (mut out, mut err) = (BytesMut::new(), BytesMut::new());
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
                    _ => if self.output.stdout(out.split().freeze()).await.is_err() { return true },
                },
                n = read(&mut self.stderr, &mut err) => match n {
                    0 => self.stderr = None,
                    _ => if self.output.stderr(err.split().freeze()).await.is_err() { return true },
                },
                _ = &mut ended, if !over => over = true,
                event = self.events.next() => match event {
                    Event::Resize { columns, rows } => peer.resize(columns, rows).await,
                    Event::Gone => return true,
                },
                () = tokio::time::sleep(LINGER), if over => return false,
            }
        }
    }
}

async fn read(pipe: &mut Option<pipe::Receiver>, into: &mut BytesMut) -> usize {
    match pipe {
        Some(pipe) => {
            into.reserve(CHUNK_BYTES);
            // A terminal's end is an error (EIO), which is an end all the same.
            pipe.read_buf(into).await.unwrap_or(0)
        }
        None => std::future::pending().await,
    }
}

/// Writes to the process, as fast as it reads; dropping the pipe closes its input.
async fn feed(mut pipe: pipe::Sender, mut from: Reader) {
    let given_up = from.given_up();
    while let Some(data) = from.next().await {
        let written = tokio::select! {
            biased;
            written = pipe.write_all(&data) => written,
            // What the process would not read while the client was there, it is not owed.
            () = given_up.cancelled() => return,
        };
        if written.is_err() {
            return;
        }
    }
}
