//! The supervisor's life once the container runs: one loop over poll(2).

use crate::attach::{Attached, Input, Replay, Sink};
use crate::confine::Confinement;
use crate::enter::{self, Arrived, Entering, Stdio};
use crate::launch::Launched;
use crate::sys;
use mainstay_supervisor::cgroup::Cgroup;
use mainstay_supervisor::crilog::{CriLog, Stream};
use mainstay_supervisor::process::Process;
use mainstay_supervisor::protocol::{self, Failure, Reply, Request, VERSION};
use mainstay_supervisor::types::Exit;
use mainstay_supervisor::wire;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{Signal, kill};
use nix::sys::signalfd::SignalFd;
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::rc::Rc;
use std::time::SystemTime;

/// Connections at once; further ones are closed at once.
const MAX_CLIENTS: usize = 256;
/// Attached clients at once.
const MAX_ATTACHED: usize = 32;
/// How long nothing has to happen before memory is given back, and how often a client that does not read is looked at.
const REST_AFTER_MS: u16 = 1000;
/// Read from a stream at once, in bytes.
const CHUNK: usize = 16 * 1024;

/// One container's supervisor.
pub struct Server {
    dir: PathBuf,
    init: Process,
    exit: Option<Exit>,
    confinement: Rc<Confinement>,
    cgroup: Cgroup,
    log: Option<CriLog>,
    stdout: Option<OwnedFd>,
    stderr: Option<OwnedFd>,
    console: Option<OwnedFd>,
    input: Option<Input>,
    stdin_once: bool,
    replay: Option<Replay>,
    attached: Vec<Attached>,
    clients: Vec<Client>,
    listener: OwnedFd,
    signals: SignalFd,
    quit: bool,
    /// Nothing happened since memory was given back.
    rested: bool,
}

/// One connection.
struct Client {
    socket: OwnedFd,
    /// It asked to be told of the container's end.
    waits: bool,
    exec: Option<Exec>,
    /// Its other side is gone, or does not read.
    gone: bool,
}

/// The exec that a connection asked for.
struct Exec {
    pid: i32,
    /// Until its program was executed.
    outcome: Option<OwnedFd>,
    terminal: Option<OwnedFd>,
    exit: Option<Exit>,
    failed: bool,
}

/// What a descriptor in the poll set is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Token {
    Signals,
    Listener,
    Output(Stream),
    Console,
    Input,
    Client(usize),
    Outcome(usize),
    AttachedInput(usize),
    AttachedOutput(usize),
}

impl Server {
    /// Takes over a launched container.
    pub fn new(dir: PathBuf, launched: Launched, listener: OwnedFd, signals: SignalFd) -> Self {
        let Launched { state, confinement, cgroup, streams, log, stdin, stdin_once } = launched;
        // Without CAP_SYS_RESOURCE ours stays as it was; a supervisor killed for memory loses its container's exit code.
        let _ = std::fs::write("/proc/self/oom_score_adj", "-998");
        let interactive = stdin || streams.console.is_some();
        for fd in [&streams.stdout, &streams.stderr, &streams.console].into_iter().flatten() {
            let _ = sys::set_nonblocking(fd);
        }
        let input = match &streams.console {
            Some(console) if stdin => console.try_clone().ok(),
            _ => streams.stdin,
        };
        Self {
            dir,
            init: state.process,
            exit: None,
            confinement,
            cgroup,
            log,
            stdout: streams.stdout,
            stderr: streams.stderr,
            console: streams.console,
            input: input.and_then(|fd| Input::new(fd).ok()),
            stdin_once,
            replay: interactive.then(Replay::default),
            attached: Vec::new(),
            clients: Vec::new(),
            listener,
            signals,
            quit: false,
            rested: false,
        }
    }

    /// The container's first process.
    pub fn pid(&self) -> i32 {
        self.init.pid
    }

    /// Serves until told to quit.
    pub fn run(&mut self) {
        crate::launch::forget(&self.dir);
        // It may have ended before anyone looked.
        self.reap();
        while !self.quit {
            let ready = self.wait_for_events();
            if ready.is_empty() && !self.rested {
                self.rest();
                continue;
            }
            self.rested = false;
            for (token, events) in ready {
                self.handle(token, events);
            }
            self.tidy();
        }
    }

    /// For most of its life a supervisor waits. What only a launch or a burst needed is given back once nothing happened for a while.
    fn rest(&mut self) {
        if let Some(log) = &mut self.log {
            log.shrink();
        }
        self.tidy();
        self.rested = !self.is_impatient();
        sys::release_memory();
    }

    /// A client lags: it is looked at again and again, until its time is over.
    fn is_impatient(&self) -> bool {
        self.attached.iter().any(Attached::lags)
    }

    fn wait_for_events(&self) -> Vec<(Token, PollFlags)> {
        let mut tokens = Vec::with_capacity(16);
        let mut fds = Vec::with_capacity(16);
        let mut add = |token, fd, events| {
            tokens.push(token);
            fds.push(PollFd::new(fd, events));
        };
        add(Token::Signals, self.signals.as_fd(), PollFlags::POLLIN);
        add(Token::Listener, self.listener.as_fd(), PollFlags::POLLIN);
        let held_up = self.attached.iter().any(Attached::is_full);
        if !held_up {
            for (fd, token) in [(&self.stdout, Token::Output(Stream::Stdout)), (&self.stderr, Token::Output(Stream::Stderr)), (&self.console, Token::Console)] {
                if let Some(fd) = fd {
                    add(token, fd.as_fd(), PollFlags::POLLIN);
                }
            }
        }
        let input_lags = self.input.as_ref().is_some_and(Input::lags);
        if let Some(input) = self.input.as_ref().filter(|_| input_lags) {
            add(Token::Input, input.fd.as_fd(), PollFlags::POLLOUT);
        }
        for (at, client) in self.clients.iter().enumerate() {
            add(Token::Client(at), client.socket.as_fd(), PollFlags::POLLIN);
            if let Some(outcome) = client.exec.as_ref().and_then(|exec| exec.outcome.as_ref()) {
                add(Token::Outcome(at), outcome.as_fd(), PollFlags::POLLIN);
            }
        }
        for (at, attached) in self.attached.iter().enumerate() {
            if let Some(stdin) = attached.stdin.as_ref().filter(|_| !input_lags) {
                add(Token::AttachedInput(at), stdin.as_fd(), PollFlags::POLLIN);
            }
            for sink in [&attached.stdout, &attached.stderr].into_iter().flatten() {
                add(Token::AttachedOutput(at), sink.fd.as_fd(), if sink.lags() { PollFlags::POLLOUT } else { PollFlags::empty() });
            }
        }
        let timeout = if self.rested { PollTimeout::NONE } else { PollTimeout::from(REST_AFTER_MS) };
        if poll(&mut fds, timeout).is_err() {
            return Vec::new();
        }
        let ready = tokens.into_iter().zip(&fds).map(|(token, fd)| (token, fd.revents().unwrap_or(PollFlags::empty())));
        ready.filter(|(_, events)| !events.is_empty()).collect()
    }

    fn handle(&mut self, token: Token, events: PollFlags) {
        match token {
            Token::Signals => {
                while let Ok(Some(_)) = self.signals.read_signal() {}
                self.reap();
            }
            Token::Listener => self.accept(),
            Token::Output(_) | Token::Console => {
                self.read_output(token);
            }
            Token::Input => self.write_input(&[]),
            Token::Client(at) => self.serve(at),
            Token::Outcome(at) => self.exec_outcome(at),
            Token::AttachedInput(at) => self.read_input(at),
            Token::AttachedOutput(at) => {
                if let Some(attached) = self.attached.get_mut(at) {
                    // A closed pipe shows as POLLERR whether or not something waits to be written.
                    if events.contains(PollFlags::POLLERR) {
                        attached.drop_closed();
                    }
                    attached.flush(false);
                }
            }
        }
    }

    /// After each round: who is gone goes; memory of bursts is given back.
    fn tidy(&mut self) {
        let ended = self.exit.is_some() && self.stdout.is_none() && self.stderr.is_none() && self.console.is_none();
        for attached in &mut self.attached {
            attached.flush(ended);
            if ended && attached.stdout.is_none() && attached.stderr.is_none() {
                attached.stdin = None;
            }
        }
        self.attached.retain(|attached| !attached.is_gone());
        self.clients.retain(|client| !client.gone);
        if ended && let Some(log) = &mut self.log {
            log.shrink();
        }
    }

    fn accept(&mut self) {
        while let Ok(socket) = wire::accept(&self.listener) {
            if self.clients.len() < MAX_CLIENTS {
                self.clients.push(Client { socket, waits: false, exec: None, gone: false });
            }
        }
    }

    fn serve(&mut self, at: usize) {
        let Some(client) = self.clients.get_mut(at) else { return };
        match wire::receive::<Request>(&client.socket) {
            Ok(Some((request, fds))) => self.answer(at, request, fds),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) if error.kind() == io::ErrorKind::InvalidData || error.kind() == io::ErrorKind::InvalidInput => {
                self.reply(at, &failed(128, format!("request not understood: {error}")), &[]);
            }
            Ok(None) | Err(_) => client.gone = true,
        }
    }

    fn reply(&mut self, at: usize, reply: &Reply, fds: &[std::os::fd::RawFd]) {
        if let Some(client) = self.clients.get_mut(at) {
            client.gone |= wire::send(&client.socket, reply, fds).is_err();
        }
    }

    fn answer(&mut self, at: usize, request: Request, fds: Vec<OwnedFd>) {
        match request {
            Request::Hello { .. } => self.reply(at, &Reply::Hello { version: VERSION }, &[]),
            Request::Wait => {
                self.clients[at].waits = true;
                self.tell_exit();
            }
            Request::Exec { command, tty, stdin } => self.exec(at, &command, tty, stdin, fds),
            Request::ExecKill { signal } => self.exec_kill(at, signal),
            Request::Attach { stdin } => {
                let reply = self.attach(stdin, fds);
                self.reply(at, &reply, &[]);
            }
            Request::Resize { columns, rows } => {
                let resized = self.console.as_ref().map(|console| wire::set_terminal_size(console, columns, rows));
                let reply = match resized {
                    Some(Ok(())) => Reply::Done,
                    Some(Err(error)) => failed(128, format!("resize: {error}")),
                    None => failed(128, "the container has no terminal".into()),
                };
                self.reply(at, &reply, &[]);
            }
            Request::ReopenLog => {
                let reopened = self.log.as_mut().map_or(Ok(()), CriLog::reopen);
                let reply = reopened.map_or_else(|error| failed(128, format!("reopen log: {error}")), |()| Reply::Done);
                self.reply(at, &reply, &[]);
            }
            Request::Quit => {
                self.quit = self.exit.is_some();
                let reply = if self.quit { Reply::Done } else { failed(128, "the container still runs".into()) };
                self.reply(at, &reply, &[]);
            }
        }
    }

    fn exec(&mut self, at: usize, command: &[String], tty: bool, stdin: bool, fds: Vec<OwnedFd>) {
        if self.exit.is_some() || self.clients[at].exec.is_some() {
            return self.reply(at, &Reply::NotRunning, &[]);
        }
        let mut fds = fds.into_iter();
        let stdio = if tty {
            Some(Stdio::Terminal)
        } else {
            let stdin = if stdin { fds.next() } else { None };
            fds.next().zip(fds.next()).map(|(stdout, stderr)| Stdio::Pipes { stdin, stdout, stderr })
        };
        let Some(stdio) = stdio else {
            return self.reply(at, &failed(128, "an exec without its streams".into()), &[]);
        };
        match enter::enter(self.init, &self.confinement, command, &stdio) {
            Ok(Entering { pid, outcome }) => {
                self.clients[at].exec = Some(Exec { pid, outcome: Some(outcome), terminal: None, exit: None, failed: false });
            }
            Err(failure) => self.reply(at, &Reply::Failed { failure }, &[]),
        }
    }

    fn exec_kill(&mut self, at: usize, signal: i32) {
        // Not reaped yet, so the number is still its own. It leads a session, so the group is all that it started and did not let go.
        if let Some(exec) = self.clients[at].exec.as_ref().filter(|exec| exec.exit.is_none())
            && let Ok(signal) = Signal::try_from(signal)
        {
            let pid = Pid::from_raw(exec.pid);
            let _ = kill(Pid::from_raw(-exec.pid), signal).or_else(|_| kill(pid, signal));
        }
    }

    fn exec_outcome(&mut self, at: usize) {
        let Some(exec) = self.clients.get_mut(at).and_then(|client| client.exec.as_mut()) else { return };
        let Some(outcome) = &exec.outcome else { return };
        let reply = match enter::receive(outcome) {
            Ok(Arrived::Terminal(terminal)) => {
                exec.terminal = Some(terminal);
                return;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
            Ok(Arrived::Executed) => Reply::Started { pid: exec.pid },
            Ok(Arrived::Failed(failure)) => Reply::Failed { failure },
            Err(error) => failed(128, error.to_string()),
        };
        exec.outcome = None;
        exec.failed = matches!(reply, Reply::Failed { .. });
        let terminal = exec.terminal.take();
        let fds: Vec<_> = terminal.iter().map(AsRawFd::as_raw_fd).collect();
        self.reply(at, &reply, &fds);
        self.tell_exec_exit(at);
    }

    fn tell_exec_exit(&mut self, at: usize) {
        let Some(exec) = self.clients.get_mut(at).and_then(|client| client.exec.as_mut()) else { return };
        if exec.outcome.is_some() || exec.exit.is_none() {
            return;
        }
        let exec = self.clients[at].exec.take();
        if let Some(Exec { exit: Some(exit), failed: false, .. }) = exec {
            self.reply(at, &Reply::Exited { exit }, &[]);
        }
    }

    fn attach(&mut self, stdin: bool, fds: Vec<OwnedFd>) -> Reply {
        if self.attached.len() >= MAX_ATTACHED {
            return failed(128, format!("{MAX_ATTACHED} clients are attached already"));
        }
        let mut fds = fds.into_iter();
        let stdin = if stdin { fds.next().filter(|_| self.input.is_some()) } else { None };
        if let Some(stdin) = &stdin {
            let _ = sys::set_nonblocking(stdin);
        }
        let mut sink = || fds.next().map(Sink::new).transpose();
        match (sink(), sink()) {
            (Ok(stdout), Ok(stderr)) => {
                let mut attached = Attached { stdin, stdout, stderr };
                if let Some(replay) = self.replay.take() {
                    replay.play(&mut attached);
                }
                self.attached.push(attached);
                Reply::Done
            }
            (Err(error), _) | (_, Err(error)) => failed(128, error.to_string()),
        }
    }

    /// One read. False: there is nothing more now.
    fn read_output(&mut self, token: Token) -> bool {
        let (fd, stream) = match token {
            Token::Output(Stream::Stderr) => (&mut self.stderr, Stream::Stderr),
            Token::Console => (&mut self.console, Stream::Stdout),
            _ => (&mut self.stdout, Stream::Stdout),
        };
        let mut chunk = [0u8; CHUNK];
        let read = match fd.as_ref().map(|fd| nix::unistd::read(fd, &mut chunk)) {
            None | Some(Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR)) => return false,
            Some(Ok(read)) => read,
            // A terminal gives EIO when nobody has its other side open; between two openers it is not the end.
            Some(Err(nix::errno::Errno::EIO)) if token == Token::Console && self.exit.is_none() => {
                return self.console_idle();
            }
            Some(Err(_)) => 0,
        };
        let now = SystemTime::now();
        if read == 0 {
            *fd = None;
            if let Some(log) = &mut self.log {
                let _ = log.end(stream, now);
            }
            return false;
        }
        let data = &chunk[..read];
        if let Some(log) = &mut self.log {
            // A full disk loses lines; it does not stop the database that writes them.
            let _ = log.write(stream, data, now);
        }
        if self.replay.as_mut().is_some_and(|replay| !replay.keep(stream, data)) {
            self.replay = None;
        }
        for attached in &mut self.attached {
            attached.push(stream, data);
        }
        true
    }

    /// The container's processes all closed the terminal, but it lives: poll would report it without end.
    fn console_idle(&mut self) -> bool {
        std::thread::sleep(std::time::Duration::from_millis(10));
        false
    }

    fn read_input(&mut self, at: usize) {
        let mut chunk = [0u8; CHUNK];
        let Some(stdin) = self.attached.get(at).and_then(|attached| attached.stdin.as_ref()) else { return };
        match nix::unistd::read(stdin, &mut chunk) {
            Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => {}
            Ok(read) if read > 0 => self.write_input(&chunk[..read]),
            _ => {
                self.attached[at].stdin = None;
                // A terminal has no half close.
                if self.stdin_once && self.console.is_none() {
                    if let Some(input) = &mut self.input {
                        input.closing = true;
                    }
                    self.write_input(&[]);
                }
            }
        }
    }

    fn write_input(&mut self, data: &[u8]) {
        if self.input.as_mut().is_some_and(|input| !input.push(data)) {
            self.input = None;
            for attached in &mut self.attached {
                attached.stdin = None;
            }
        }
    }

    fn reap(&mut self) {
        loop {
            let (pid, code, signal) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, code, None),
                Ok(WaitStatus::Signaled(pid, signal, _)) => (pid, 128 + signal as i32, Some(signal as i32)),
                Err(nix::errno::Errno::EINTR) => continue,
                Ok(WaitStatus::StillAlive) | Err(_) => return,
                Ok(_) => continue,
            };
            let exit = Exit { code, signal, oom_killed: false, finished_at: SystemTime::now() };
            if pid.as_raw() == self.init.pid {
                self.record_exit(exit);
            } else if let Some(at) = self.clients.iter().position(|client| client.exec.as_ref().is_some_and(|exec| exec.pid == pid.as_raw())) {
                if let Some(exec) = &mut self.clients[at].exec {
                    exec.exit = Some(exit);
                }
                self.exec_outcome(at);
                self.tell_exec_exit(at);
            }
        }
    }

    /// Log first, then the record, then whoever waits: who sees the end sees all of the output.
    fn record_exit(&mut self, mut exit: Exit) {
        let killed = exit.signal == Some(libc::SIGKILL) || exit.code == 128 + libc::SIGKILL;
        exit.oom_killed = killed && self.cgroup.oom_kills() > 0;
        self.exit = Some(exit.clone());
        self.input = None;
        for token in [Token::Output(Stream::Stdout), Token::Output(Stream::Stderr), Token::Console] {
            while self.read_output(token) {}
        }
        // Recording fails only if the directory is gone; those who wait are told all the same.
        let _ = protocol::write_record(&self.dir, protocol::EXIT, &exit);
        self.tell_exit();
    }

    fn tell_exit(&mut self) {
        let Some(exit) = self.exit.clone() else { return };
        for at in 0..self.clients.len() {
            if std::mem::take(&mut self.clients[at].waits) {
                self.reply(at, &Reply::Exited { exit: exit.clone() }, &[]);
            }
        }
    }
}

fn failed(code: i32, message: String) -> Reply {
    Reply::Failed { failure: Failure { code, message } }
}
