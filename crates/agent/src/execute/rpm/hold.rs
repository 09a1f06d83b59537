//! What the owner holds at its version: dnf's `versionlock`, and what its configuration excludes.

use std::fs;
use std::io;
use std::path::Path;

use super::super::packages::PackageFault;
use super::Named;
use super::ini;

/// dnf's own configuration, with `exclude` or `excludepkgs` in its section `main`.
const CONFIGURATION: &str = "etc/dnf/dnf.conf";
/// Locks of dnf's plugin, a pattern in each line.
const LOCKS: &str = "etc/dnf/plugins/versionlock.list";
/// Locks of dnf 5.
const LOCKS_5: &str = "etc/dnf/versionlock.toml";

/// What is held.
#[derive(Debug, Default)]
pub(super) struct Holds {
    /// Patterns of names, or of `name.architecture`.
    excluded: Vec<String>,
    /// Patterns of names.
    locked: Vec<String>,
}

#[derive(serde::Deserialize)]
struct Locks5 {
    #[serde(default)]
    packages: Vec<Lock5>,
}

#[derive(serde::Deserialize)]
struct Lock5 {
    name: String,
}

impl Holds {
    /// What the system below a root holds.
    pub(super) fn read(root: &Path) -> Result<Self, PackageFault> {
        let mut holds = Self::default();
        if let Some(text) = text_of(&root.join(CONFIGURATION))? {
            let sections = ini::parse(&text);
            let main = sections.iter().filter(|(name, _)| name == "main");
            for (key, value) in main.flat_map(|(_, values)| values) {
                if matches!(key.as_str(), "exclude" | "excludepkgs") {
                    holds.excluded.extend(ini::words(value));
                }
            }
        }
        if let Some(text) = text_of(&root.join(LOCKS))? {
            holds.locked.extend(text.lines().filter_map(locked));
        }
        let path = root.join(LOCKS_5);
        if let Some(text) = text_of(&path)? {
            let locks: Locks5 = toml::from_str(&text).map_err(|error| PackageFault::Database {
                reason: format!("`{}`: {error}", path.display()),
            })?;
            holds.locked.extend(locks.packages.into_iter().map(|it| it.name));
        }
        Ok(holds)
    }

    /// Whether a package is held.
    pub(super) fn hold(&self, package: &Named) -> bool {
        let Named { name, architecture, .. } = package;
        let full = format!("{name}.{architecture}");
        self.locked.iter().any(|it| matches(it, name))
            || self.excluded.iter().any(|it| matches(it, name) || matches(it, &full))
    }
}

fn text_of(path: &Path) -> Result<Option<String>, PackageFault> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(PackageFault::disk(path)(error)),
    }
}

/// The name in `name-epoch:version-release.architecture`; one with `!` keeps a version out, and holds
/// nothing.
fn locked(line: &str) -> Option<String> {
    let line = line.split('#').next()?.trim();
    if line.is_empty() || line.starts_with('!') {
        return None;
    }
    let name = line.rsplit_once('-').and_then(|(rest, _)| rest.rsplit_once('-'));
    Some(name.map_or(line, |(name, _)| name).to_owned())
}

/// Whether a name is what a pattern says: `*` stands for any letters, `?` for one.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut at, mut from) = (0, 0);
    let mut star = None;
    while from < name.len() {
        match pattern.get(at) {
            Some(b'*') => {
                star = Some((at + 1, from));
                at += 1;
            }
            Some(b'?') => (at, from) = (at + 1, from + 1),
            Some(byte) if *byte == name[from] => (at, from) = (at + 1, from + 1),
            _ => match star {
                Some((after, taken)) => {
                    star = Some((after, taken + 1));
                    (at, from) = (after, taken + 1);
                }
                None => return false,
            },
        }
    }
    pattern[at..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(name: &str) -> Named {
        let [name, architecture, version] = [name, "x86_64", "1-1"].map(str::to_owned);
        Named { name, architecture, version }
    }

    #[test]
    fn locks_and_exclusions_hold() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("etc/dnf/plugins")).unwrap();
        let write = |path: &str, text: &str| fs::write(root.path().join(path), text).unwrap();
        write(CONFIGURATION, "[main]\ngpgcheck=1\nexcludepkgs = kernel*, tool.x86_64\n\tnode?\n");
        write(LOCKS, "# a comment\nhttpd-0:2.4.57-5.el9.*\n!bash-0:5.1-1.*\nmod_*-0:1-1.*\n");
        write(LOCKS_5, "version = \"1.0\"\n[[packages]]\nname = \"vim\"\n");
        let holds = Holds::read(root.path()).unwrap();

        for name in ["kernel-core", "tool", "nodex", "httpd", "mod_ssl", "vim"] {
            assert!(holds.hold(&named(name)), "{name}");
        }
        for name in ["bash", "tools", "node", "httpd-tools", "xmod_ssl"] {
            assert!(!holds.hold(&named(name)), "{name}");
        }
        assert!(!Holds::read(&root.path().join("nothing")).unwrap().hold(&named("bash")));
    }
}
