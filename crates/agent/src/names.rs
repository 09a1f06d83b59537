//! Names of users and groups, as the system's own files have them (passwd(5), group(5)): those by which the history
//! records whose a file is.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use domain::change::Account;

/// Names of users and groups.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    users: BTreeMap<u32, String>,
    groups: BTreeMap<u32, String>,
}

impl Names {
    pub(crate) fn read(root: &Path) -> Self {
        let read = |path: &str| -> BTreeMap<u32, String> {
            let bytes = fs::read(root.join(path.trim_start_matches('/'))).unwrap_or_default();
            let lines = bytes.split(|byte| *byte == b'\n').take(100_000);
            let entry = |line: &[u8]| {
                let line = OsStr::from_bytes(line).to_str()?;
                let mut fields = line.split(':');
                let (name, id) = (fields.next()?, fields.nth(1)?);
                Some((id.parse().ok()?, name.chars().take(64).collect()))
            };
            // The first one counts, as it does for the system.
            let mut names = BTreeMap::new();
            for (id, name) in lines.filter_map(entry) {
                names.entry(id).or_insert(name);
            }
            names
        };
        Self { users: read("/etc/passwd"), groups: read("/etc/group") }
    }

    pub(crate) fn user(&self, id: u32) -> String {
        name(&self.users, id)
    }

    pub(crate) fn group(&self, id: u32) -> String {
        name(&self.groups, id)
    }

    /// The number of an account that is called so here; in words why there is none.
    pub(crate) fn uid(&self, account: &Account) -> Result<u32, String> {
        number(&self.users, account, "account")
    }

    /// The number of a group that is called so here; in words why there is none.
    pub(crate) fn gid(&self, group: &Account) -> Result<u32, String> {
        number(&self.groups, group, "group")
    }
}

fn name(names: &BTreeMap<u32, String>, id: u32) -> String {
    names.get(&id).cloned().unwrap_or_else(|| id.to_string())
}

/// By another name than the one that is told of it, nobody could see that a file is theirs.
fn number(names: &BTreeMap<u32, String>, account: &Account, what: &str) -> Result<u32, String> {
    let text = account.as_str();
    if let Some((id, _)) = names.iter().find(|(_, name)| *name == text) {
        return Ok(*id);
    }
    let id = if *account == Account::root() { Some(0) } else { text.parse().ok() };
    match id.map(|id| (id, names.get(&id))) {
        Some((id, None)) => Ok(id),
        Some((_, Some(name))) => Err(format!("that {what} is called `{name}` here")),
        None => Err(format!("there is no {what} of this name here")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_who_is_told_by_that_name() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("etc")).unwrap();
        let passwd = "root:x:0:0::/root:/bin/sh\nanna:x:1000:100::/:\nalias:x:1000:100::/:\n";
        fs::write(root.path().join("etc/passwd"), passwd).unwrap();
        let names = Names::read(root.path());
        let uid = |name: &str| names.uid(&name.parse().unwrap());

        assert_eq!((uid("root"), uid("anna"), uid("1001")), (Ok(0), Ok(1000), Ok(1001)));
        for id in [0, 1000, 1001] {
            assert_eq!(uid(&names.user(id)), Ok(id), "as it is told");
        }
        assert!(uid("1000").unwrap_err().contains("`anna`"));
        assert!(uid("alias").is_err() && uid("nobody").is_err());
        // Nothing is said of groups here: root is who has the number 0.
        assert_eq!(names.gid(&Account::root()), Ok(0));
        assert_eq!(names.group(0).parse::<Account>(), Ok(Account::root()));
    }
}
