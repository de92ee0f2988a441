//! Whom a container runs as: numbers from the pod, names from the image's own `/etc/passwd` and `/etc/group`.

use std::io::Read;
use std::path::Path;

/// Numbers for the runtime.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    /// Home directory of the account, for `HOME`.
    pub(crate) home: String,
}

/// What pod and container ask for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wish {
    pub(crate) run_as_user: Option<u32>,
    pub(crate) run_as_group: Option<u32>,
    pub(crate) run_as_non_root: bool,
    pub(crate) supplemental_groups: Vec<u32>,
    pub(crate) fs_group: Option<u32>,
    /// `supplementalGroupsPolicy: Strict`: the image's memberships do not count.
    pub(crate) strict_groups: bool,
}

/// Files an image's accounts are in never need more.
const FILE_LIMIT_BYTES: u64 = 1 << 20;

/// Reads a file of the image; a symbolic link in it never leads out of `root`.
pub(crate) fn read_in_root(root: &Path, file: &str) -> String {
    use nix::fcntl::{OFlag, OpenHow, ResolveFlag, open, openat2};
    use nix::sys::stat::Mode;
    let mut text = String::new();
    let Ok(dir) = open(root, OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC, Mode::empty()) else { return text };
    let how = OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK).resolve(ResolveFlag::RESOLVE_IN_ROOT);
    if let Ok(fd) = openat2(&dir, file, how) {
        let _ = std::fs::File::from(fd).take(FILE_LIMIT_BYTES).read_to_string(&mut text);
    }
    text
}

/// `image_user`: `""`, `postgres`, `999`, `999:999`, `postgres:postgres`. Errors are messages of a CreateContainerConfigError.
pub(crate) fn resolve(image_user: &str, wish: &Wish, passwd: &str, group: &str) -> Result<User, String> {
    let (user_word, group_word) = match image_user.split_once(':') {
        Some((u, g)) => (u, Some(g)),
        None => (image_user, None),
    };
    let accounts: Vec<Vec<&str>> = passwd.lines().map(|l| l.split(':').collect()).filter(|f: &Vec<&str>| f.len() >= 6).collect();
    let number = |text: &str| text.parse::<u32>().ok();
    let by_uid = |uid: u32| accounts.iter().find(|f| number(f[2]) == Some(uid));
    let (uid, account) = match wish.run_as_user {
        Some(uid) => (uid, by_uid(uid)),
        None if user_word.is_empty() => (0, by_uid(0)),
        None => match (number(user_word), accounts.iter().find(|f| f[0] == user_word)) {
            (Some(uid), _) => (uid, by_uid(uid)),
            (None, Some(account)) => (number(account[2]).ok_or_else(|| format!("user {user_word:?} of the image has no number"))?, Some(account)),
            (None, None) => return Err(format!("unable to find user {user_word}: no matching entries in passwd file")),
        },
    };
    if wish.run_as_non_root {
        if wish.run_as_user.is_none() && number(user_word).is_none() && !user_word.is_empty() {
            return Err(format!("container has runAsNonRoot and image has non-numeric user ({user_word}), cannot verify user is non-root"));
        }
        if uid == 0 {
            let whose = if wish.run_as_user == Some(0) { "container's runAsUser breaks non-root policy" } else { "container has runAsNonRoot and image will run as root" };
            return Err(whose.to_owned());
        }
    }
    let groups: Vec<Vec<&str>> = group.lines().map(|l| l.split(':').collect()).filter(|f: &Vec<&str>| f.len() >= 4).collect();
    let gid = match (wish.run_as_group, group_word) {
        (Some(gid), _) => gid,
        (None, Some(word)) if wish.run_as_user.is_none() => match number(word) {
            Some(gid) => gid,
            None => groups.iter().find(|f| f[0] == word).and_then(|f| number(f[2])).ok_or_else(|| format!("unable to find group {word}: no matching entries in group file"))?,
        },
        _ => account.and_then(|f| number(f[3])).unwrap_or(0),
    };
    let mut extra: Vec<u32> = Vec::new();
    if let (Some(account), false) = (account, wish.strict_groups) {
        extra.extend(groups.iter().filter(|f| f[3].split(',').any(|m| m == account[0])).filter_map(|f| number(f[2])));
    }
    extra.extend(&wish.supplemental_groups);
    extra.extend(wish.fs_group);
    extra.sort_unstable();
    extra.dedup();
    extra.retain(|g| *g != gid);
    let home = account.map_or("/", |f| f[5]).to_owned();
    Ok(User { uid, gid, groups: extra, home: if home.is_empty() { "/".into() } else { home } })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\npostgres:x:999:998::/var/lib/postgresql:/bin/sh\n";
    const GROUP: &str = "root:x:0:\npostgres:x:998:\nssl-cert:x:101:postgres\n";

    #[test]
    fn names_come_from_the_image_and_numbers_from_the_pod() {
        let user = |uid, gid, groups: &[u32], home: &str| Ok(User { uid, gid, groups: groups.to_vec(), home: home.into() });
        let wish = Wish::default();
        for (image, wish, want) in [
            ("", wish.clone(), user(0, 0, &[], "/root")),
            ("postgres", wish.clone(), user(999, 998, &[101], "/var/lib/postgresql")),
            ("999", wish.clone(), user(999, 998, &[101], "/var/lib/postgresql")),
            ("1000:50", wish.clone(), user(1000, 50, &[], "/")),
            ("postgres:root", wish.clone(), user(999, 0, &[101], "/var/lib/postgresql")),
            ("postgres", Wish { run_as_user: Some(1000), fs_group: Some(70), ..wish.clone() }, user(1000, 0, &[70], "/")),
            ("postgres", Wish { strict_groups: true, supplemental_groups: vec![5], ..wish.clone() }, user(999, 998, &[5], "/var/lib/postgresql")),
            ("nobody", wish.clone(), Err("unable to find user nobody: no matching entries in passwd file".into())),
            ("", Wish { run_as_non_root: true, ..wish.clone() }, Err("container has runAsNonRoot and image will run as root".into())),
            (
                "postgres",
                Wish { run_as_non_root: true, ..wish.clone() },
                Err("container has runAsNonRoot and image has non-numeric user (postgres), cannot verify user is non-root".into()),
            ),
            ("", Wish { run_as_user: Some(0), run_as_non_root: true, ..wish.clone() }, Err("container's runAsUser breaks non-root policy".into())),
        ] {
            assert_eq!(resolve(image, &wish, PASSWD, GROUP), want, "{image} {wish:?}");
        }
    }
}
