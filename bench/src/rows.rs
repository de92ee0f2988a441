//! What is measured: a row of the table, a function.

mod disk;
mod exec;
mod fanout;
mod load;
mod memory;
mod objects;
mod pods;
mod postgres;
mod scale;
mod sets;
mod start;

use crate::figure::Figure;
use crate::lab::Lab;
use anyhow::Result;

/// A row; it may give several figures.
pub(crate) struct Row {
    pub name: &'static str,
    pub about: &'static str,
}

/// In the order in which they run: what needs a cluster without pods comes first.
pub(crate) const ALL: &[Row] = &[
    Row { name: "start", about: "start → /readyz, node Ready, DNS answering" },
    Row { name: "memory", about: "memory of all processes, idle and with 10 idle pods" },
    Row { name: "idle-cpu", about: "idle CPU, no pods" },
    Row { name: "set-ordered", about: "apply of a 3-replica OrderedReady set → third Ready" },
    Row { name: "set-parallel", about: "apply of a 3-replica Parallel set → third Ready" },
    Row { name: "first-instruction", about: "one pod, create → first instruction" },
    Row { name: "delete", about: "pod deleted → replacement Ready" },
    Row { name: "force-delete", about: "force delete → replacement Ready, never two at once" },
    Row { name: "kill", about: "container killed → restarted" },
    Row { name: "scale", about: "scale a Parallel set 1 → 10 and 10 → 1" },
    Row { name: "dns", about: "Ready → headless A record answered" },
    Row { name: "exec", about: "kubectl exec -- true beyond kubectl's own start" },
    Row { name: "create", about: "durable creates" },
    Row { name: "get", about: "get, 64 clients" },
    Row { name: "list", about: "LIST of 10,000 and memory per stored object" },
    Row { name: "fan-out", about: "watch fan-out, 1,000 watchers" },
    Row { name: "disk", about: "binaries on disk" },
    Row { name: "postgres", about: "examples/postgres: apply → three streaming, beside the same by hand" },
];

pub(crate) async fn run(row: &Row, lab: &mut Lab) -> Result<Vec<Figure>> {
    match row.name {
        "start" => start::run(lab).await,
        "memory" => memory::run(lab).await,
        "idle-cpu" => memory::idle_cpu(lab).await,
        "set-ordered" => sets::ordered(lab).await,
        "set-parallel" => sets::parallel(lab).await,
        "first-instruction" => pods::first_instruction(lab).await,
        "delete" => pods::delete(lab).await,
        "force-delete" => pods::force_delete(lab).await,
        "kill" => pods::kill(lab).await,
        "scale" => scale::run(lab).await,
        "dns" => scale::dns(lab).await,
        "exec" => exec::run(lab).await,
        "create" => load::create(lab).await,
        "get" => load::get(lab).await,
        "list" => objects::run(lab).await,
        "fan-out" => fanout::run(lab).await,
        "disk" => disk::run(lab),
        "postgres" => postgres::run(lab).await,
        other => anyhow::bail!("row {other} has no function"),
    }
}
