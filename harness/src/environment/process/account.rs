//! Who services run as: Postgres refuses root, so a harness that is root gives its services an unprivileged user.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::Context;
use nix::unistd::{Gid, Uid, User, chown, geteuid};

/// An unprivileged user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub name: String,
    pub uid: u32,
    pub gid: u32,
}

/// `postgres` or `nobody` when the harness is root; `None` when it is not, since services then run as the harness.
pub(crate) fn unprivileged() -> anyhow::Result<Option<Account>> {
    if !geteuid().is_root() {
        return Ok(None);
    }
    for name in ["postgres", "nobody"] {
        if let Some(user) = User::from_name(name)? {
            return Ok(Some(Account { name: name.into(), uid: user.uid.as_raw(), gid: user.gid.as_raw() }));
        }
    }
    anyhow::bail!("the harness is root and there is no user `postgres` or `nobody` to run services as")
}

/// True when the account (or everybody, without one) can enter every folder on the way to `path`.
pub(crate) fn can_enter(account: Option<&Account>, path: &Path) -> bool {
    let Some(account) = account else { return true };
    path.ancestors().all(|folder| {
        std::fs::metadata(folder).is_ok_and(|meta| {
            let shift = match () {
                () if meta.uid() == account.uid => 6,
                () if meta.gid() == account.gid => 3,
                () => 0,
            };
            meta.mode() >> shift & 1 == 1
        })
    })
}

/// Makes a folder that belongs to the account alone.
pub(crate) fn make_private(account: Option<&Account>, folder: &Path) -> anyhow::Result<()> {
    use std::os::unix::fs::DirBuilderExt;
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .with_context(|| format!("make {}", folder.display()))?;
    give(account, folder)
}

/// Gives a folder and all that is in it to the account.
pub(crate) fn give_all(account: Option<&Account>, folder: &Path) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let entry = entry?;
        // A link is followed by neither: what it leads to is somebody else's.
        match entry.file_type()? {
            kind if kind.is_dir() => give_all(account, &entry.path())?,
            kind if kind.is_file() => give(account, &entry.path())?,
            _ => {}
        }
    }
    give(account, folder)
}

/// Gives a file or folder to the account.
pub(crate) fn give(account: Option<&Account>, path: &Path) -> anyhow::Result<()> {
    let Some(account) = account else { return Ok(()) };
    chown(path, Some(Uid::from_raw(account.uid)), Some(Gid::from_raw(account.gid)))
        .with_context(|| format!("give {} to {}", path.display(), account.name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn a_private_folder_on_the_way_bars_others() {
        let outer = tempfile::tempdir().expect("temporary folder");
        let inner = outer.path().join("inner");
        std::fs::create_dir(&inner).expect("inner folder");
        let stranger = Account { name: "stranger".into(), uid: 54321, gid: 54321 };
        let mode = |mode| {
            std::fs::set_permissions(outer.path(), std::fs::Permissions::from_mode(mode)).expect("chmod")
        };
        mode(0o700);
        assert!(!can_enter(Some(&stranger), &inner));
        assert!(can_enter(None, &inner));
        mode(0o711);
        std::fs::set_permissions(&inner, std::fs::Permissions::from_mode(0o711)).expect("chmod");
        assert!(can_enter(Some(&stranger), &inner));
    }
}
