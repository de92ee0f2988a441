//! Is a port free, and if not, who has it.

use anyhow::{Result, bail};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};

/// An error that names the process, if the port on the loopback cannot be had.
pub(crate) fn check(port: u16) -> Result<()> {
    match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
        Ok(_) => Ok(()),
        Err(e) if e.kind() == std::io::ErrorKind::AddrInUse => {
            let owner = owner(port).map_or_else(|| "another process".to_owned(), |(pid, name)| format!("process {pid} ({name})"));
            bail!("port {port} is in use by {owner}: stop it, or choose another with --port")
        }
        Err(e) => bail!("port {port} cannot be used: {e}; choose another with --port"),
    }
}

/// The process that listens on a TCP port.
fn owner(port: u16) -> Option<(u32, String)> {
    let inode = ["/proc/net/tcp", "/proc/net/tcp6"].iter().find_map(|table| listening_inode(&fs::read_to_string(table).ok()?, port))?;
    let wanted = format!("socket:[{inode}]");
    for process in fs::read_dir("/proc").ok()?.flatten() {
        let Some(pid) = process.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
        let holds = fs::read_dir(process.path().join("fd")).into_iter().flatten().flatten().any(|fd| fs::read_link(fd.path()).is_ok_and(|l| l.as_os_str() == wanted.as_str()));
        if holds {
            return Some((pid, fs::read_to_string(process.path().join("comm")).unwrap_or_default().trim().to_owned()));
        }
    }
    None
}

/// `/proc/net/tcp`: field 1 is `address:port` in hexadecimal, 3 the state (0A: listening), 9 the inode.
fn listening_inode(table: &str, port: u16) -> Option<u64> {
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let here = u16::from_str_radix(fields.get(1)?.rsplit(':').next()?, 16).ok()?;
        (here == port && *fields.get(3)? == "0A").then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_taken_port_names_the_process() {
        let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = taken.local_addr().unwrap().port();
        let words = check(port).unwrap_err().to_string();
        assert!(words.contains(&format!("process {}", std::process::id())), "{words}");
        drop(taken);
        check(port).unwrap();
    }
}
