//! What is watched while containers run: their probes, and the ends of those that ran before this process began.

use super::{Message, Worker};
use crate::pod::reference;
use crate::probes::{self, Kind, Target};
use mainstay_supervisor::Container;
use tokio::task::JoinSet;

impl Worker {
    pub(super) fn start_probes(&mut self, name: &str) {
        let Some((running, attempt)) = self.state.container(name).and_then(|k| Some((k.running()?.clone(), k.attempt))) else { return };
        let (Some(spec), Some(container)) = (reference::container(&self.pod, name).cloned(), self.containers.get(name).cloned()) else { return };
        if running.stopping || self.state.stopping.is_some() {
            return;
        }
        let kinds: &[Kind] = if running.started { &[Kind::Readiness, Kind::Liveness] } else { &[Kind::Startup] };
        let mut tasks = JoinSet::new();
        for kind in kinds.iter().copied().filter(|k| k.of(&spec).is_some()) {
            let target = Target { pod: self.pod.clone(), spec: spec.clone(), container: container.clone(), ip: self.ip() };
            let healthy = match kind {
                Kind::Startup => false,
                Kind::Readiness => running.ready,
                Kind::Liveness => true,
            };
            let (events, outbox, name) = (self.events.clone(), self.outbox.clone(), name.to_owned());
            tasks.spawn(probes::run(kind, target, healthy, events, move |ok, words| {
                let (outbox, name) = (outbox.clone(), name.clone());
                async move {
                    let _ = outbox.send(Message::Probed(name, attempt, kind, ok, words)).await;
                }
            }));
        }
        self.probes.insert(name.to_owned(), tasks);
    }

    /// Who was running before this process began: watched from now on.
    pub(super) fn begin_adopted(&mut self) {
        let adopted: Vec<(String, u32, Container)> = self
            .state
            .containers
            .iter()
            .filter(|(_, known)| known.running().is_some())
            .filter_map(|(name, known)| Some((name.clone(), known.attempt, self.containers.get(name)?.clone())))
            .collect();
        for (name, attempt, container) in adopted {
            if let Some(spec) = reference::container(&self.pod, &name).cloned() {
                self.watch_end(&name, attempt, container, &spec);
            }
        }
    }

    pub(super) fn probe_adopted(&mut self) {
        let unprobed: Vec<String> = self
            .state
            .containers
            .iter()
            .filter(|(name, known)| known.running().is_some_and(|r| r.post_started) && !self.probes.contains_key(*name))
            .map(|(name, _)| name.clone())
            .collect();
        unprobed.iter().for_each(|name| self.start_probes(name));
    }
}
