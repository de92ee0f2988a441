//! Questions to the cluster's DNS, over UDP from the host.

use anyhow::{Result, ensure};
use std::net::Ipv4Addr;
use std::time::{Duration, Instant};
use tokio::net::UdpSocket;
use tokio::time::timeout;

/// A socket to one DNS server.
pub(crate) struct Resolver {
    socket: UdpSocket,
}

impl Resolver {
    pub(crate) async fn open(address: Ipv4Addr) -> Result<Self> {
        let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).await?;
        socket.connect((address, 53)).await?;
        Ok(Self { socket })
    }

    /// Asks for a name's A record until there is one; when it came. A new question as soon as the last was answered with no, after 20 ms without answer.
    pub(crate) async fn until_answered(&self, name: &str, limit: Duration) -> Result<Instant> {
        let begun = Instant::now();
        for id in 0_u16.. {
            ensure!(begun.elapsed() < limit, "{name} has no A record after {limit:?}");
            if self.ask(id, name).await {
                return Ok(Instant::now());
            }
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
        anyhow::bail!("{name}: asked 65,536 times")
    }

    /// Whether there is an A record.
    pub(crate) async fn ask(&self, id: u16, name: &str) -> bool {
        if self.socket.send(&question(id, name)).await.is_err() {
            return false;
        }
        let mut buffer = [0; 1500];
        // A refused port is an error at once; an answer to an earlier question is passed over.
        for _ in 0..4 {
            match timeout(Duration::from_millis(20), self.socket.recv(&mut buffer)).await {
                Ok(Ok(n)) if n >= 12 && buffer[..2] == id.to_be_bytes() => return answered(&buffer[..n]),
                Ok(Ok(_)) => {}
                _ => return false,
            }
        }
        false
    }
}

/// A question for an A record, recursion desired.
pub(crate) fn question(id: u16, name: &str) -> Vec<u8> {
    let mut packet = Vec::with_capacity(name.len() + 18);
    packet.extend(id.to_be_bytes());
    packet.extend([1, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        packet.push(label.len() as u8);
        packet.extend(label.as_bytes());
    }
    packet.extend([0, 0, 1, 0, 1]);
    packet
}

/// No error, and at least one answer.
fn answered(packet: &[u8]) -> bool {
    packet[3] & 0x0f == 0 && packet[6..8] != [0, 0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_what_rfc_1035_says() {
        assert_eq!(question(0x0102, "ab.c"), [1, 2, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 2, b'a', b'b', 1, b'c', 0, 0, 1, 0, 1]);
    }
}
