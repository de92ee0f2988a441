//! What becomes of one object. Upstream: `attemptToDeleteItem` and `attemptToOrphanWorker`
//! (`pkg/controller/garbagecollector/garbagecollector.go`, 1.36).

use crate::metadata::{Item, Owner};
use std::sync::Arc;

/// Waits for its blocking dependents before it goes.
pub(super) const FOREGROUND: &str = "foregroundDeletion";
/// Lets its dependents go free before it goes.
pub(super) const ORPHAN: &str = "orphan";

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum OwnerState {
    /// It exists, and does not wait for its dependents.
    There,
    /// It is being deleted in the foreground: it waits for this object.
    Waiting,
    /// There is none of this name and uid.
    Absent,
}

/// What names this object as an owner.
#[derive(Clone, Debug)]
pub(super) struct Dependent {
    pub(super) uid: Arc<str>,
    /// Its reference says that it blocks the owner's deletion.
    pub(super) blocks: bool,
    /// It is being deleted in the foreground itself.
    pub(super) foreground: bool,
}

/// What to do.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Look at these dependents.
    Look(Vec<Arc<str>>),
    RemoveFinalizer(&'static str),
    /// Free the dependents, then remove the finalizer `orphan`.
    Orphan,
    /// Write back only these owners.
    KeepOwners(Vec<Owner>),
    /// A dependent waits for this object and this object's owner for it: a circle, broken by no longer blocking.
    Unblock,
    /// Delete it, with this propagation policy.
    Delete(&'static str),
}

/// `owners` as in `item.owners`.
pub(super) fn step(item: &Item, owners: &[OwnerState], dependents: &[Dependent]) -> Step {
    if item.deleting && item.has_finalizer(ORPHAN) {
        return Step::Orphan;
    }
    if item.deleting {
        return if item.has_finalizer(FOREGROUND) { wait_for_dependents(dependents) } else { Step::Nothing };
    }
    if owners.is_empty() {
        return Step::Nothing;
    }
    if owners.contains(&OwnerState::There) {
        return keep_living_owners(item, owners);
    }
    if owners.contains(&OwnerState::Waiting) && !dependents.is_empty() {
        let circle = dependents.iter().any(|dependent| dependent.foreground);
        let blocks = item.owners.iter().any(|owner| owner.block_owner_deletion == Some(true));
        return if circle && blocks { Step::Unblock } else { Step::Delete("Foreground") };
    }
    let policy = if item.has_finalizer(ORPHAN) {
        "Orphan"
    } else if item.has_finalizer(FOREGROUND) {
        "Foreground"
    } else {
        "Background"
    };
    Step::Delete(policy)
}

fn wait_for_dependents(dependents: &[Dependent]) -> Step {
    if !dependents.iter().any(|dependent| dependent.blocks) {
        return Step::RemoveFinalizer(FOREGROUND);
    }
    let rest: Vec<_> = dependents.iter().filter(|dependent| !dependent.foreground).map(|dependent| Arc::clone(&dependent.uid)).collect();
    if rest.is_empty() { Step::Nothing } else { Step::Look(rest) }
}

fn keep_living_owners(item: &Item, owners: &[OwnerState]) -> Step {
    if owners.iter().all(|owner| *owner == OwnerState::There) {
        return Step::Nothing;
    }
    Step::KeepOwners(item.owners.iter().zip(owners).filter(|(_, state)| **state == OwnerState::There).map(|(owner, _)| owner.clone()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `[deleting] [finalizer…] <- owner[!] … -> dependent[!|~] …`, where an owner is `there:a`, `waiting:a` or `absent:a` (`!`: blocks it), and
    /// a dependent `a` (`!`: blocks, `~`: in the foreground itself).
    fn check(text: &str, expected: &str) {
        let (head, dependents) = text.split_once("->").unwrap_or((text, ""));
        let (head, owners) = head.split_once("<-").unwrap_or((head, ""));
        let mut item = Item {
            kind: 0,
            namespace: "default".into(),
            name: "x".into(),
            uid: "x".into(),
            revision: "1".into(),
            deleting: false,
            finalizers: Vec::new(),
            owners: Vec::new(),
        };
        for word in head.split_whitespace() {
            if word == "deleting" { item.deleting = true } else { item.finalizers.push(word.into()) }
        }
        let mut states = Vec::new();
        for word in owners.split_whitespace() {
            let (state, name) = word.split_once(':').expect("state:name");
            states.push(match state {
                "there" => OwnerState::There,
                "waiting" => OwnerState::Waiting,
                _ => OwnerState::Absent,
            });
            let uid = name.trim_end_matches('!').to_owned();
            let block_owner_deletion = Some(name.ends_with('!'));
            item.owners.push(Owner { api_version: "v1".into(), kind: "Pod".into(), name: uid.clone(), uid, controller: None, block_owner_deletion });
        }
        let dependents: Vec<Dependent> = dependents
            .split_whitespace()
            .map(|word| Dependent { uid: word.trim_end_matches(['!', '~']).into(), blocks: word.contains('!'), foreground: word.contains('~') })
            .collect();
        let said = match step(&item, &states, &dependents) {
            Step::KeepOwners(owners) => format!("keep {}", owners.iter().map(|owner| owner.name.as_str()).collect::<Vec<_>>().join(" ")),
            Step::Look(uids) => format!("look at {}", uids.iter().map(|uid| &**uid).collect::<Vec<_>>().join(" ")),
            Step::Delete(policy) => format!("delete {policy}"),
            Step::RemoveFinalizer(name) => format!("remove {name}"),
            other => format!("{other:?}"),
        };
        assert_eq!(said, expected, "{text}");
    }

    #[test]
    fn an_object_goes_with_its_last_owner() {
        check("", "Nothing");
        check("<- there:a", "Nothing");
        check("<- absent:a", "delete Background");
        check("<- absent:a absent:b", "delete Background");
        check("<- there:a absent:b", "keep a");
        check("<- there:a waiting:b", "keep a");
        check("foregroundDeletion <- absent:a", "delete Foreground");
        check("orphan <- absent:a", "delete Orphan");
        check("deleting <- absent:a", "Nothing");
    }

    #[test]
    fn a_foreground_deletion_goes_down_before_it_goes_up() {
        check("deleting foregroundDeletion", "remove foregroundDeletion");
        check("deleting foregroundDeletion -> a", "remove foregroundDeletion");
        check("deleting foregroundDeletion -> a!", "look at a");
        check("deleting foregroundDeletion -> a b!~", "look at a");
        check("deleting foregroundDeletion -> b!~", "Nothing");
        check("<- waiting:a!", "delete Background");
        check("<- waiting:a! -> b", "delete Foreground");
    }

    #[test]
    fn a_circle_of_foreground_deletions_is_broken() {
        check("<- waiting:a! -> a!~", "Unblock");
        check("<- waiting:a -> a!~", "delete Foreground");
    }

    #[test]
    fn orphans_are_freed_before_their_owner_goes() {
        check("deleting orphan -> a b", "Orphan");
        check("deleting orphan", "Orphan");
        check("orphan -> a", "Nothing");
    }
}
