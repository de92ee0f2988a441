//! Clients of every transport against the accepting side, over in-memory connections.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod channels;
mod client;
mod forward;
mod spdy;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use mainstay_streams::{Event, Outcome, Session, Wanted, accept_command, accept_forwards};
use std::convert::Infallible;
use tokio::io::DuplexStream;

/// What the commands of these tests do: echo until end of input, tell sizes, fail on `die`.
async fn command(session: Session) {
    let Session { stdin, mut events, output } = session;
    let Some(mut stdin) = stdin else { return output.finish(Outcome::Failure("no input".into())).await.unwrap() };
    loop {
        tokio::select! {
            data = stdin.next() => match data {
                Some(data) if &data[..] == b"die" => return output.finish(Outcome::ExitCode(3)).await.unwrap(),
                Some(data) if &data[..] == b"stall" => return std::future::pending().await,
                Some(data) => if output.stdout(data).await.is_err() { return },
                None => {
                    // An error: the client is gone.
                    let _ = output.stderr("eof".into()).await;
                    let _ = output.finish(Outcome::Success).await;
                    return;
                }
            },
            event = events.next() => match event {
                Event::Resize { columns, rows } => output.stdout(format!("{columns}x{rows}").into()).await.unwrap(),
                Event::Gone => return,
            },
        }
    }
}

fn query<'a>(request: &'a Request<Incoming>, name: &str) -> Option<&'a str> {
    request.uri().query().unwrap_or_default().split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A connection to a node that runs [`command`] on `/exec` and forwards to this machine's own ports on `/portForward`.
fn connect() -> DuplexStream {
    let (client, server) = tokio::io::duplex(8192);
    tokio::spawn(async move {
        let service = service_fn(|request: Request<Incoming>| async move {
            let asked: Vec<String> = query(&request, "ports").map(str::to_owned).into_iter().collect();
            let response = if request.uri().path() == "/portForward" {
                accept_forwards(request, asked.iter().map(String::as_str), forward::serve)
            } else {
                let wanted = Wanted { stdin: query(&request, "stdin") != Some("false"), stdout: true, stderr: true, tty: query(&request, "tty") == Some("true") };
                accept_command(request, wanted, command)
            };
            Ok::<_, Infallible>(response.map(|text| Full::new(Bytes::from(text))))
        });
        let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(server), service).with_upgrades().await;
    });
    client
}
