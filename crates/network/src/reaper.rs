//! Takes sandboxes apart in the background, all that wait at once: the kernel needs 30 ms for one veth and no more for a group of them.

use crate::record::{self, Paths};
use crate::{Error, link, netns, pool::Pool, wire::Wire};
use parking_lot::Mutex;
use std::net::Ipv4Addr;
use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How long the dead wait after the newest of them, or after a sandbox was made. Removing a veth holds the kernel's one lock over all interfaces for
/// 30 ms, and the pod that replaces the one which has just ended must not wait for it.
const QUIET: Duration = Duration::from_millis(100);
/// How long they wait at most.
const LIMIT: Duration = Duration::from_secs(1);

/// A sandbox nobody uses any more; its record says so already.
#[derive(Debug)]
pub(crate) struct Dead {
    /// Pod uid.
    pub pod: String,
    /// Host side of the pair.
    pub interface: String,
    /// Rests from the moment it is gone.
    pub address: Ipv4Addr,
}

#[derive(Debug)]
enum Order {
    Bury(Dead),
    Tell(oneshot::Sender<()>),
}

/// The thread's handle; the thread ends, its queue done, when this is dropped. The queue is bounded by the number of addresses.
#[derive(Debug)]
pub(crate) struct Reaper {
    orders: mpsc::Sender<Order>,
    disturbed: Arc<Mutex<Instant>>,
}

impl Reaper {
    /// Starts in the calling thread's network namespace.
    pub(crate) fn start(paths: Paths, pool: Arc<Mutex<Pool>>, group: u32) -> Result<Self, Error> {
        let (orders, queue) = mpsc::channel();
        let mut wire = Wire::open()?;
        let disturbed = Arc::new(Mutex::new(Instant::now()));
        let newest = disturbed.clone();
        let work = move || {
            while let Ok(first) = queue.recv() {
                let (dead, waiting) = gather(first, &queue, &newest);
                bury(&mut wire, &paths, &pool, group, &dead);
                for answer in waiting {
                    // Nobody waits any more: fine.
                    let _ = answer.send(());
                }
            }
        };
        std::thread::Builder::new().name("net-reaper".into()).spawn(work).map_err(|e| Error::kernel("start a thread", e))?;
        Ok(Self { orders, disturbed })
    }

    /// A sandbox is being made: what waits for burial shall wait on.
    pub(crate) fn disturb(&self) {
        *self.disturbed.lock() = Instant::now();
    }

    /// Queues one.
    pub(crate) fn bury(&self, dead: Dead) {
        if self.orders.send(Order::Bury(dead)).is_err() {
            tracing::error!("the thread that removes pod interfaces has ended; the next start removes them");
        }
    }

    /// Returns when everything queued before is gone.
    pub(crate) async fn idle(&self) {
        let (answer, told) = oneshot::channel();
        if self.orders.send(Order::Tell(answer)).is_ok() {
            // An error means that the thread has ended: nothing to wait for.
            let _ = told.await;
        }
    }
}

/// What is to be buried together, and who waits for it: whoever waits ends the waiting, as does the end of all orders.
fn gather(first: Order, queue: &mpsc::Receiver<Order>, disturbed: &Mutex<Instant>) -> (Vec<Dead>, Vec<oneshot::Sender<()>>) {
    let limit = Instant::now() + LIMIT;
    let (mut dead, mut waiting) = (Vec::new(), Vec::new());
    let mut next = Some(first);
    loop {
        match next.take() {
            Some(Order::Bury(one)) => {
                dead.push(one);
                *disturbed.lock() = Instant::now();
            }
            Some(Order::Tell(answer)) => waiting.push(answer),
            None => {}
        }
        let until = if waiting.is_empty() { (*disturbed.lock() + QUIET).min(limit) } else { Instant::now() };
        let left = until.saturating_duration_since(Instant::now());
        next = match queue.recv_timeout(left) {
            Ok(order) => Some(order),
            Err(mpsc::RecvTimeoutError::Timeout) if waiting.is_empty() && Instant::now() < limit && disturbed.lock().elapsed() < QUIET => None,
            Err(_) => return (dead, waiting),
        };
    }
}

fn bury(wire: &mut Wire, paths: &Paths, pool: &Mutex<Pool>, group: u32, dead: &[Dead]) {
    let names: Vec<String> = dead.iter().map(|d| d.interface.clone()).collect();
    let mut gone = link::delete(wire, &names, group);
    for one in dead {
        let unpinned = netns::remove(&paths.netns(&one.pod));
        if gone.is_ok() {
            gone = unpinned;
        }
    }
    if let Err(error) = gone {
        tracing::error!(%error, "pod interfaces not removed; the next start tries again");
        return;
    }
    for one in dead {
        if let Err(error) = record::remove(&paths.sandbox(&one.pod)) {
            tracing::error!(%error, pod = one.pod, "record of a removed sandbox stays");
        }
        pool.lock().release(one.address, Instant::now());
    }
}
