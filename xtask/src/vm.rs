//! `cargo xtask vm`: the program on a host that this one is not: systemd, cgroup v2 and nothing else, in a QEMU guest.
//!
//! Debian's cloud kernel and a minimal userland, made with `mmdebstrap` and kept in `.cache/vm`; the disk of a run holds the program, kubectl, the
//! images and `tests/vm/guest.sh`, whose lines this command shows. The guest is emulated unless `--kvm` is
//! given: minutes instead of seconds.

use anyhow::{Context as _, Result, bail, ensure};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// What the guest is made of.
const PACKAGES: &str = "systemd-sysv,linux-image-cloud-amd64,iproute2,kmod,procps,udev,ca-certificates";

/// Arguments of `cargo xtask vm`.
#[derive(clap::Args)]
pub struct Args {
    /// The program to try
    #[arg(long, default_value = "target/debug/mainstay")]
    mainstay: PathBuf,
    /// kubectl for the guest
    #[arg(long, default_value = ".cache/bin/kubectl")]
    kubectl: PathBuf,
    /// Use /dev/kvm: fast, but where it is itself virtual it may fail (seen: "KVM internal error")
    #[arg(long)]
    kvm: bool,
    /// Give up after so many minutes
    #[arg(long, default_value_t = 20)]
    minutes: u64,
}

/// Builds what is missing, boots, and fails unless the guest says that everything passed.
pub fn run(args: &Args) -> Result<()> {
    ensure!(nix::unistd::geteuid().is_root(), "building the guest's disk needs root: run it with sudo");
    for (tool, package) in [("mmdebstrap", "mmdebstrap"), ("mke2fs", "e2fsprogs"), ("qemu-system-x86_64", "qemu-system-x86")] {
        ensure!(on_path(tool), "{tool} is missing: apt-get install --no-install-recommends {package}");
    }
    ensure!(args.mainstay.is_file(), "{} is missing: build it, or name another with --mainstay", args.mainstay.display());
    ensure!(args.kubectl.is_file(), "{} is missing: scripts/kubectl 35 .cache/bin/kubectl, or name another with --kubectl", args.kubectl.display());
    let cache = Path::new(".cache/vm");
    fs::create_dir_all(cache)?;
    let base = cache.join("base.tar");
    if !base.is_file() {
        userland(&base)?;
    }
    let work = cache.join(format!("run-{}", std::process::id()));
    let outcome = disk(&base, &work, args).and_then(|()| boot(&work, args));
    fs::remove_dir_all(&work).with_context(|| format!("remove {}", work.display()))?;
    outcome
}

fn on_path(tool: &str) -> bool {
    std::env::var_os("PATH").is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(tool).is_file()))
}

fn userland(base: &Path) -> Result<()> {
    println!("making the guest's userland ({PACKAGES}), once");
    let part = base.with_extension("part.tar");
    succeed(Command::new("mmdebstrap").args(["--quiet", "--variant=minbase", &format!("--include={PACKAGES}"), "bookworm"]).arg(&part))?;
    fs::rename(&part, base).context("keep the userland")
}

/// `work/{disk,vmlinuz,initrd}`.
fn disk(base: &Path, work: &Path, args: &Args) -> Result<()> {
    let root = work.join("root");
    fs::create_dir_all(&root)?;
    succeed(Command::new("tar").arg("-xpf").arg(base).arg("-C").arg(&root))?;
    let opt = root.join("opt/mainstay");
    fs::create_dir_all(opt.join("images"))?;
    fs::create_dir_all(root.join("usr/local/bin"))?;
    fs::copy(&args.mainstay, root.join("usr/local/bin/mainstay"))?;
    fs::copy(&args.kubectl, root.join("usr/local/bin/kubectl"))?;
    fs::copy("dist/mainstay.service", root.join("etc/systemd/system/mainstay.service"))?;
    fs::copy("tests/vm/guest.sh", opt.join("guest.sh"))?;
    for image in ["busybox", "nginx"] {
        let name = format!("{image}.tar");
        fs::copy(Path::new(".cache/images").join(&name), opt.join("images").join(&name)).with_context(|| format!(".cache/images/{name}: run cargo xtask images"))?;
    }
    succeed(Command::new("cp").args(["-r", "examples"]).arg(&opt))?;
    let unit = "[Unit]\nAfter=multi-user.target systemd-networkd.service\n[Service]\nType=oneshot\nExecStart=/bin/sh /opt/mainstay/guest.sh\nStandardOutput=tty\nStandardError=tty\nTTYPath=/dev/ttyS0\n";
    fs::write(root.join("etc/systemd/system/guest.service"), unit)?;
    fs::write(root.join("etc/systemd/network/10-all.network"), "[Match]\nName=e*\n[Network]\nAddress=10.99.0.2/24\nGateway=10.99.0.1\n")?;
    let wants = root.join("etc/systemd/system/default.target.wants");
    fs::create_dir_all(&wants)?;
    std::os::unix::fs::symlink("/etc/systemd/system/guest.service", wants.join("guest.service"))?;
    std::os::unix::fs::symlink("/lib/systemd/system/systemd-networkd.service", wants.join("systemd-networkd.service"))?;
    for (file, prefix) in [("vmlinuz", "vmlinuz-"), ("initrd", "initrd.img-")] {
        let found = fs::read_dir(root.join("boot"))?.flatten().map(|e| e.path()).find(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(prefix)));
        fs::copy(found.with_context(|| format!("the guest has no /boot/{prefix}*"))?, work.join(file))?;
    }
    let image = work.join("disk");
    succeed(Command::new("mke2fs").args(["-q", "-t", "ext4", "-d"]).arg(&root).arg(&image).arg("4G"))?;
    fs::remove_dir_all(&root).context("remove the unpacked disk")
}

/// Shows the guest's lines; its last word decides.
fn boot(work: &Path, args: &Args) -> Result<()> {
    let begun = Instant::now();
    let drive = format!("file={},if=virtio,format=raw", work.join("disk").display());
    let mut guest = Command::new("qemu-system-x86_64")
        .args(["-accel", if args.kvm { "kvm" } else { "tcg,thread=multi" }, "-cpu", "max", "-smp", "2", "-m", "2048", "-nographic", "-no-reboot", "-nic", "user,restrict=on,model=virtio-net-pci,net=10.99.0.0/24"])
        .arg("-kernel").arg(work.join("vmlinuz"))
        .arg("-initrd").arg(work.join("initrd"))
        .args(["-append", "root=/dev/vda rw console=ttyS0 quiet loglevel=3 systemd.show_status=0 systemd.mask=serial-getty@ttyS0.service systemd.unified_cgroup_hierarchy=1", "-drive", &drive])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .context("start qemu-system-x86_64")?;
    let lines = BufReader::new(guest.stdout.take().context("the guest's console")?);
    let (said, hear) = std::sync::mpsc::channel();
    std::thread::spawn(move || lines.split(b'\n').map_while(Result::ok).try_for_each(|line| said.send(String::from_utf8_lossy(&line).trim_end().to_owned())));
    let deadline = begun + Duration::from_secs(args.minutes * 60);
    let mut passed = None;
    while let Ok(line) = hear.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
        println!("{:>6.1} s  {line}", begun.elapsed().as_secs_f64());
        match line.as_str() {
            "GUEST: PASSED" => passed = Some(true),
            "GUEST: END" => break,
            other if other.starts_with("GUEST: ") => passed = Some(false),
            _ => {}
        }
    }
    guest.kill().context("end the guest")?;
    guest.wait().context("wait for the guest")?;
    match passed {
        Some(true) => Ok(()),
        Some(false) => bail!("the guest's checks failed; see the lines above"),
        None => bail!("the guest said nothing for {} minutes, or ended early", args.minutes),
    }
}

fn succeed(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("run {}", command.get_program().to_string_lossy()))?;
    ensure!(status.success(), "{} ended with {status}", command.get_program().to_string_lossy());
    Ok(())
}
