//! The paths: grow the new, shrink the old, keep proportions. Upstream: rolling.go, recreate.go and sync.go (pkg/controller/deployment).

use super::limits::{Strategy, max_surge, max_unavailable, replicas, strategy};
use super::sets::Member;
use k8s_openapi::api::apps::v1::Deployment;
use std::cmp::Reverse;

/// A deployment's sets; `newest` is the one of its template.
#[derive(Debug)]
pub(crate) struct Sets<'a> {
    pub(crate) deployment: &'a Deployment,
    pub(crate) members: Vec<Member>,
    pub(crate) newest: Option<usize>,
}

impl Sets<'_> {
    /// All but the newest.
    pub(crate) fn old(&self) -> impl Iterator<Item = usize> + use<> {
        let newest = self.newest;
        (0..self.members.len()).filter(move |i| Some(*i) != newest)
    }

    fn active(&self) -> Vec<usize> {
        (0..self.members.len()).filter(|i| self.members[*i].replicas > 0).collect()
    }

    fn active_old(&self) -> Vec<usize> {
        let mut old: Vec<usize> = self.old().filter(|i| self.members[*i].replicas > 0).collect();
        old.sort_by(|a, b| self.members[*a].age().cmp(&self.members[*b].age()));
        old
    }

    /// Pods asked for by all.
    pub(crate) fn total(&self) -> i32 {
        self.members.iter().map(|member| member.replicas).sum()
    }

    fn scale(&mut self, index: usize, to: i32) -> bool {
        let changed = self.members[index].replicas != to;
        if changed {
            self.members[index].scale(self.deployment, to);
        }
        changed
    }

    /// How many pods the newest set may ask for now.
    pub(crate) fn newest_size(&self) -> i32 {
        let wish = replicas(self.deployment);
        let Some(newest) = self.newest.map(|i| &self.members[i]) else { return 0 };
        if strategy(self.deployment) == Strategy::Recreate {
            return wish;
        }
        let room = wish.saturating_add(max_surge(self.deployment)).saturating_sub(self.total());
        if room <= 0 { newest.replicas } else { newest.replicas + room.min(wish - newest.replicas) }
    }

    /// Whether the newest set changes its size.
    pub(crate) fn grow_newest(&mut self) -> bool {
        let Some(newest) = self.newest else { return false };
        let (has, wish) = (self.members[newest].replicas, replicas(self.deployment));
        if has == wish {
            return false;
        }
        let to = if has > wish { wish } else { self.newest_size() };
        self.scale(newest, to)
    }

    /// Old pods that are not available go first, then available ones as far as enough remain. Whether any set shrinks.
    pub(crate) fn shrink_old(&mut self) -> bool {
        let Some(newest) = self.newest else { return false };
        let old = self.active_old();
        if old.is_empty() {
            return false;
        }
        let enough = replicas(self.deployment) - max_unavailable(self.deployment);
        let coming = self.members[newest].replicas - self.members[newest].available();
        let spare = self.total() - enough - coming;
        if spare <= 0 {
            return false;
        }
        let unhealthy = self.shrink(&old, spare, |member| member.replicas - member.available());
        let available: i32 = self.members.iter().map(Member::available).sum();
        let healthy = self.shrink(&old, available - enough, |member| member.replicas);
        unhealthy || healthy
    }

    /// Takes up to `most` pods away, from each set what `part` allows.
    fn shrink(&mut self, sets: &[usize], most: i32, part: impl Fn(&Member) -> i32) -> bool {
        let mut left = most.max(0);
        let mut changed = false;
        for index in sets {
            let member = &self.members[*index];
            let take = part(member).clamp(0, member.replicas).min(left);
            left -= take;
            let to = member.replicas - take;
            changed |= self.scale(*index, to);
        }
        changed
    }

    /// Recreate: all old sets to nothing. Whether any changes.
    pub(crate) fn empty_old(&mut self) -> bool {
        let old = self.active_old();
        old.into_iter().fold(false, |changed, index| self.scale(index, 0) | changed)
    }

    /// The wish changed, or the deployment is paused: no progress, the same proportions.
    pub(crate) fn keep_proportions(&mut self) {
        let wish = replicas(self.deployment);
        if let Some(only) = self.active_or_latest() {
            self.scale(only, wish);
            return;
        }
        if self.newest.is_some_and(|newest| self.saturated(newest)) {
            self.empty_old();
            return;
        }
        if strategy(self.deployment) == Strategy::Recreate {
            return;
        }
        let mut sets = self.active();
        let most = if wish > 0 { wish.saturating_add(max_surge(self.deployment)) } else { 0 };
        let to_add = most - self.total();
        // The largest first; of equals the newer one when growing, the older one when shrinking.
        if to_add > 0 {
            sets.sort_by_key(|i| Reverse((self.members[*i].replicas, self.members[*i].age())));
        } else {
            sets.sort_by_key(|i| (Reverse(self.members[*i].replicas), self.members[*i].age()));
        }
        let mut added = 0;
        let mut sizes: Vec<i32> = Vec::with_capacity(sets.len());
        for index in &sets {
            let part = self.proportion(&self.members[*index], to_add, added);
            added += part;
            sizes.push(self.members[*index].replicas + part);
        }
        if let Some(first) = sizes.first_mut() {
            *first = (*first + to_add - added).max(0);
        }
        for (index, to) in sets.into_iter().zip(sizes) {
            // Also when its size stays: what it was scaled for has changed.
            self.members[index].scale(self.deployment, to);
        }
    }

    /// The only set with pods, or where none has any the newest one; `None` when several have.
    fn active_or_latest(&self) -> Option<usize> {
        match self.active()[..] {
            [] => self.newest.or_else(|| self.old().max_by(|a, b| self.members[*a].age().cmp(&self.members[*b].age()))),
            [only] => Some(only),
            _ => None,
        }
    }

    fn saturated(&self, index: usize) -> bool {
        let (member, wish) = (&self.members[index], replicas(self.deployment));
        member.replicas == wish && member.desired() == Some(i64::from(wish)) && member.available() == wish
    }

    /// A set's part of what is added or taken away. Upstream: `GetReplicaSetProportion`.
    fn proportion(&self, member: &Member, to_add: i32, added: i32) -> i32 {
        if member.replicas == 0 || to_add == 0 || to_add == added {
            return 0;
        }
        let (part, allowed) = (self.fraction(member), to_add - added);
        if to_add > 0 { part.min(allowed) } else { part.max(allowed) }
    }

    fn fraction(&self, member: &Member) -> i32 {
        let wish = replicas(self.deployment);
        if wish == 0 {
            return -member.replicas;
        }
        let most = i64::from(wish) + i64::from(max_surge(self.deployment));
        let stored = self.deployment.status.as_ref().and_then(|status| status.replicas).unwrap_or(0);
        let before = member.max().filter(|max| *max != 0).unwrap_or_else(|| i64::from(stored));
        if before == 0 {
            return 0;
        }
        // Rounded to the nearest, halves up; all are positive.
        let size = (i64::from(member.replicas) * most * 2 + before) / (before * 2);
        i32::try_from(size).unwrap_or(i32::MAX) - member.replicas
    }
}
