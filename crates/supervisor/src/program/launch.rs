//! Makes the container with libcontainer.
//!
//! libcontainer does namespaces, cgroups, mounts, devices, masked paths and the terminal. The last steps (capabilities, seccomp,
//! no-new-privileges, working directory, execve) are [`crate::confine`]'s, through libcontainer's executor, so that the first process and an
//! exec are confined by the same code. What libcontainer must not see of the specification is taken out before (see `for_libcontainer`).

use crate::cgroupfs::CgroupMounts;
use crate::confine::{Confinement, Filter, report, words};
use crate::{hints, home, seccomp, sys};
use libcontainer::container::builder::ContainerBuilder;
use libcontainer::syscall::syscall::SyscallType;
use libcontainer::workload::{Executor, ExecutorError, ExecutorSetEnvsError, ExecutorValidationError};
use mainstay_supervisor::cgroup::{Cgroup, DeviceRules};
use mainstay_supervisor::crilog::CriLog;
use mainstay_supervisor::process::Process;
use mainstay_supervisor::protocol::{Failure, LaunchFile, StateFile, VERSION};
use oci_spec::runtime::{LinuxDeviceCgroup, LinuxDeviceCgroupBuilder, LinuxDeviceType, LinuxResources, PosixRlimitBuilder, Spec};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::path::Path;
use std::rc::Rc;
use std::time::SystemTime;

/// A container that runs.
pub struct Launched {
    /// As recorded.
    pub state: StateFile,
    /// How its processes are confined.
    pub confinement: Rc<Confinement>,
    /// Its cgroup.
    pub cgroup: Cgroup,
    /// Our ends of its streams.
    pub streams: OurStreams,
    /// Where its output goes.
    pub log: Option<CriLog>,
    /// It reads from us.
    pub stdin: bool,
    /// Its input ends with the first client's.
    pub stdin_once: bool,
}

/// Our ends of a container's streams.
#[derive(Default)]
pub struct OurStreams {
    /// What we write to it.
    pub stdin: Option<OwnedFd>,
    /// What it writes.
    pub stdout: Option<OwnedFd>,
    /// What it writes to standard error.
    pub stderr: Option<OwnedFd>,
    /// Its terminal, instead of the three.
    pub console: Option<OwnedFd>,
}

/// Makes and starts it; returns once its program was executed.
pub fn launch(dir: &Path, file: LaunchFile) -> Result<Launched, Failure> {
    let LaunchFile { id, mut spec, log, stdin, stdin_once, tty, seccomp_filter, .. } = file;
    let log = log.map(CriLog::open).transpose().map_err(broken("open the log"))?;
    let warnings = adapt(&mut spec, tty).map_err(broken("specification"))?;
    let profile = spec.linux().as_ref().and_then(|linux| linux.seccomp().clone());
    let filter = profile.map(|profile| {
        let program = seccomp::filter(&profile, seccomp_filter.as_deref())?;
        Ok(Filter { program, flags: seccomp::flags(&profile) })
    });
    let filter = filter.transpose().map_err(broken("seccomp"))?;
    let confinement = Rc::new(Confinement::new(&spec, filter).map_err(broken("specification"))?);
    let cgroup_path = spec.linux().as_ref().and_then(|linux| linux.cgroups_path().clone()).unwrap_or_default();
    let cgroup = Cgroup::at(&cgroup_path).map_err(broken("cgroup"))?;
    let unrestricted = allows_all_devices(&spec);
    for_libcontainer(&mut spec);
    let cgroup_mounts = CgroupMounts::take(&mut spec).map_err(broken("find the cgroup hierarchies"))?.map(Rc::new);

    let (outcome, report_end) = io::pipe().map_err(broken("pipe"))?;
    let executor = Last { confinement: confinement.clone(), cgroup_mounts, report: report_end.as_raw_fd() };
    hints::send_to(report_end.as_raw_fd());
    let made = Made::create(dir, &id, &spec, executor, stdin, tty);
    hints::stop();
    drop(report_end);
    let mut made = made.map_err(|error| explain(error, outcome.try_clone()))?;
    let checked = check_devices(&cgroup, unrestricted).and_then(|()| {
        let score = confinement.oom_score_adj().to_string();
        // Lower than ours is possible only with CAP_SYS_RESOURCE; `adapt` has seen to that.
        std::fs::write(format!("/proc/{}/oom_score_adj", made.pid), score)?;
        Process::find(made.pid)
    });
    let process = match checked {
        Ok(process) => process,
        Err(error) => {
            let _ = cgroup.kill();
            return Err(broken("start")(error));
        }
    };
    made.start()?;
    if let Some(failure) = read_outcome(outcome).failure {
        return Err(failure);
    }
    let state = StateFile { version: VERSION, process, started_at: SystemTime::now(), cgroup: cgroup_path, warnings };
    Ok(Launched { state, confinement, cgroup, streams: made.streams, log, stdin, stdin_once })
}

/// Removes what only libcontainer needed: the whole specification again, with its environment.
pub fn forget(dir: &Path) {
    let _ = std::fs::remove_dir_all(dir.join("oci"));
    let _ = std::fs::remove_dir_all(dir.join("bundle"));
}

fn broken(doing: &'static str) -> impl FnOnce(io::Error) -> Failure {
    move |error| Failure { code: 128, message: format!("{doing}: {}", words(&error)) }
}

/// A container that libcontainer created; its program waits to be executed.
struct Made {
    container: libcontainer::container::Container,
    pid: i32,
    streams: OurStreams,
}

impl Made {
    fn create(dir: &Path, id: &str, spec: &Spec, executor: Last, stdin: bool, tty: bool) -> Result<Self, Failure> {
        let bundle = dir.join("bundle");
        let state = dir.join("oci");
        std::fs::create_dir_all(&bundle).and_then(|()| std::fs::create_dir_all(&state)).map_err(broken("create directories"))?;
        spec.save(bundle.join("config.json")).map_err(|error| Failure { code: 128, message: error.to_string() })?;
        let mut builder = ContainerBuilder::new(id.to_owned(), SyscallType::default()).with_root_path(&state).map_err(runtime)?.with_executor(executor);
        let mut ours = OurStreams::default();
        let console = if tty {
            builder = builder.with_console_socket(Some(dir.join("console")));
            Some(listen_for_console(dir).map_err(broken("listen for the terminal"))?)
        } else {
            let (theirs, mine) = pipes(stdin).map_err(broken("pipe"))?;
            ours = mine;
            builder = builder.with_stdin(theirs.0).with_stdout(theirs.1).with_stderr(theirs.2);
            None
        };
        let container = builder.as_init(&bundle).with_systemd(false).with_detach(true).build().map_err(runtime)?;
        if let Some(listener) = console {
            ours.console = Some(receive_console(&listener).map_err(broken("receive the terminal"))?);
            let _ = std::fs::remove_file(dir.join("console"));
        }
        let pid = container.pid().ok_or_else(|| Failure { code: 128, message: "the runtime made no process".into() })?.as_raw();
        Ok(Self { container, pid, streams: ours })
    }

    fn start(&mut self) -> Result<(), Failure> {
        self.container.start().map_err(runtime)
    }
}

/// Bound from inside the directory: its whole path may not fit a socket address.
fn listen_for_console(dir: &Path) -> io::Result<std::os::unix::net::UnixListener> {
    std::env::set_current_dir(dir)?;
    let listener = std::os::unix::net::UnixListener::bind("console");
    std::env::set_current_dir("/")?;
    listener
}

/// The container's ends (input, output, error), then ours.
#[allow(clippy::type_complexity)]
fn pipes(stdin: bool) -> io::Result<((OwnedFd, OwnedFd, OwnedFd), OurStreams)> {
    let (their_input, our_input) = if stdin {
        let (reader, writer) = io::pipe()?;
        (reader.into(), Some(writer.into()))
    } else {
        (File::open("/dev/null")?.into(), None)
    };
    let (our_output, their_output) = io::pipe()?;
    let (our_error, their_error) = io::pipe()?;
    let ours = OurStreams { stdin: our_input, stdout: Some(our_output.into()), stderr: Some(our_error.into()), console: None };
    Ok(((their_input, their_output.into(), their_error.into()), ours))
}

fn receive_console(listener: &std::os::unix::net::UnixListener) -> io::Result<OwnedFd> {
    // libcontainer connected before it made the container and sent before it said that it was ready.
    let (stream, _) = listener.accept()?;
    crate::enter::receive_terminal(&stream)
}

/// What libcontainer says, with the causes that its texts leave out.
fn runtime(error: libcontainer::error::LibcontainerError) -> Failure {
    let mut message = error.to_string();
    let mut cause = std::error::Error::source(&error);
    while let Some(inner) = cause {
        let text = inner.to_string();
        if !message.contains(&text) {
            message = format!("{message}: {text}");
        }
        cause = inner.source();
    }
    for noise in ["failed to create container: ", "exec process failed with error ", "error in executing process : ", "failed to initialize container process: "] {
        message = message.replace(noise, "");
    }
    Failure { code: 128, message }
}

/// A creation that failed, in the words of the process that knows best: its own failure, else the first error that libcontainer logged (its
/// returned errors have lost the cause: "failed to prepare rootfs"), else what it returned.
fn explain(error: Failure, outcome: io::Result<io::PipeReader>) -> Failure {
    let reported = outcome.map(read_outcome).unwrap_or_default();
    match reported {
        Reported { failure: Some(failure), .. } => failure,
        Reported { hint: Some(hint), .. } => Failure { code: error.code, message: format!("{}: {hint}", error.message) },
        _ => error,
    }
}

/// What came through the pipe to the container's process. No failure: its program was executed, and the pipe closed with that.
#[derive(Default)]
struct Reported {
    failure: Option<Failure>,
    hint: Option<String>,
}

fn read_outcome(mut outcome: io::PipeReader) -> Reported {
    let mut bytes = Vec::new();
    let mut reported = Reported::default();
    if let Err(error) = outcome.read_to_end(&mut bytes) {
        reported.failure = Some(broken("wait for the program")(error));
    }
    for value in serde_json::Deserializer::from_slice(&bytes).into_iter::<serde_json::Value>() {
        match value.map(|value| (value.get("hint").and_then(|hint| hint.as_str().map(str::to_owned)), serde_json::from_value(value))) {
            Ok((Some(hint), _)) => reported.hint = reported.hint.or(Some(hint)),
            Ok((None, Ok(failure))) => reported.failure = Some(failure),
            Ok((None, Err(error))) | Err(error) => reported.failure = Some(Failure { code: 128, message: error.to_string() }),
        }
    }
    reported
}

/// The end of the way: libcontainer calls this inside the container.
#[derive(Clone)]
struct Last {
    confinement: Rc<Confinement>,
    cgroup_mounts: Option<Rc<CgroupMounts>>,
    report: RawFd,
}

impl Executor for Last {
    fn exec(&self, _: &Spec) -> Result<(), ExecutorError> {
        let mounted = self.cgroup_mounts.as_ref().map_or(Ok(()), |mounts| mounts.mount());
        let failure = match mounted {
            Ok(()) => self.confinement.execute(None),
            Err(error) => broken("mount /sys/fs/cgroup")(error),
        };
        report(self.report, &failure);
        Err(ExecutorError::Other(failure.message))
    }

    fn validate(&self, _: &Spec) -> Result<(), ExecutorValidationError> {
        Ok(())
    }

    /// The environment goes to execve as it stands in the specification, in its order; ours is empty.
    fn setup_envs(&self, _: HashMap<String, String>) -> Result<(), ExecutorSetEnvsError> {
        Ok(())
    }
}

/// Lowers what this host does not allow, and adds what people expect to be there. Returns what was lowered.
fn adapt(spec: &mut Spec, tty: bool) -> io::Result<Vec<String>> {
    let mut warnings = Vec::new();
    let root = spec.root().as_ref().map(|root| root.path().clone()).unwrap_or_default();
    let mut linux = spec.linux().clone().unwrap_or_default();
    if linux.resources().as_ref().is_none_or(|resources| resources.devices().as_ref().is_none_or(Vec::is_empty)) {
        let mut resources: LinuxResources = linux.resources().clone().unwrap_or_default();
        resources.set_devices(Some(vec![deny_all()?]));
        linux.set_resources(Some(resources));
    }
    spec.set_linux(Some(linux));
    let Some(mut process) = spec.process().clone() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "it has no process"));
    };
    process.set_terminal(Some(tty));
    let mut environment = process.env().clone().unwrap_or_default();
    let has = |environment: &[String], name: &str| environment.iter().any(|variable| variable.split('=').next() == Some(name));
    if !has(&environment, "HOME") {
        environment.push(format!("HOME={}", home::home_of(&root, process.user().uid())));
    }
    if tty && !has(&environment, "TERM") {
        environment.push("TERM=xterm".into());
    }
    process.set_env(Some(environment));
    if !sys::may_raise_limits() {
        warnings.extend(lower_limits(&mut process));
    }
    spec.set_process(Some(process));
    Ok(warnings)
}

/// Without CAP_SYS_RESOURCE neither a hard limit can be raised nor the memory score lowered; trying fails the whole create.
fn lower_limits(process: &mut oci_spec::runtime::Process) -> Vec<String> {
    let mut warnings = Vec::new();
    let mut limits = process.rlimits().clone().unwrap_or_default();
    for limit in &mut limits {
        let ours = sys::hard_limit(limit.typ() as u32);
        if limit.hard() > ours {
            warnings.push(format!("{:?} lowered from {} to {ours}: no CAP_SYS_RESOURCE here", limit.typ(), limit.hard()));
            let lowered = PosixRlimitBuilder::default().typ(limit.typ()).hard(ours).soft(limit.soft().min(ours)).build();
            if let Ok(lowered) = lowered {
                *limit = lowered;
            }
        }
    }
    process.set_rlimits(Some(limits));
    if let Some(score) = process.oom_score_adj() {
        let least = std::fs::read_to_string("/proc/self/oom_score_adj").ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        if score < least {
            warnings.push(format!("oom_score_adj raised from {score} to {least}: no CAP_SYS_RESOURCE here"));
            process.set_oom_score_adj(Some(least));
        }
    }
    warnings
}

fn deny_all() -> io::Result<LinuxDeviceCgroup> {
    LinuxDeviceCgroupBuilder::default().allow(false).typ(LinuxDeviceType::A).access("rwm").build().map_err(io::Error::other)
}

/// Takes out what [`crate::confine`] does itself, and what libcontainer does wrongly: it writes `oom_score_adj` to its caller; loads seccomp after the
/// capabilities are gone when no-new-privileges is `Some(false)`; swaps mask and value of masked seccomp comparisons.
fn for_libcontainer(spec: &mut Spec) {
    if let Some(mut process) = spec.process().clone() {
        process.set_oom_score_adj(None);
        process.set_no_new_privileges(None);
        process.set_capabilities(None);
        process.set_cwd("/".into());
        spec.set_process(Some(process));
    }
    if let Some(mut linux) = spec.linux().clone() {
        linux.set_seccomp(None);
        spec.set_linux(Some(linux));
    }
}

/// The specification's last word on all devices.
fn allows_all_devices(spec: &Spec) -> bool {
    let rules = spec.linux().as_ref().and_then(|linux| linux.resources().as_ref()).and_then(|resources| resources.devices().clone());
    let everything = |rule: &&LinuxDeviceCgroup| rule.typ().unwrap_or(LinuxDeviceType::A) == LinuxDeviceType::A && rule.major().is_none() && rule.minor().is_none();
    rules.iter().flatten().rfind(everything).is_some_and(LinuxDeviceCgroup::allow)
}

/// Fails closed: with no rule in force, root in the container reaches the host's disks.
fn check_devices(cgroup: &Cgroup, unrestricted: bool) -> io::Result<()> {
    if unrestricted {
        return Ok(());
    }
    let holds = match cgroup.device_rules()? {
        DeviceRules::List(rules) => !rules.lines().any(|rule| rule.starts_with('a')),
        DeviceRules::Program(dir) => sys::device_programs(&dir)? > 0,
    };
    if holds { Ok(()) } else { Err(io::Error::other("the device rules did not take: the container would reach every device of the host")) }
}
