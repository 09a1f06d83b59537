//! What we note in a domain's own definition: what was kept of it, and which work is under way.
//!
//! The definition also says which files the disks are, and libvirt replaces it as a whole: what is
//! noted and what is the case are never torn from each other, and nothing is needed beside it.

use std::fmt::Write as _;

use crate::libvirt::xml::{Element, escaped};
use crate::snapshots::{SNAPSHOT_PREFIX, SnapshotName};

/// The namespace of our element in a domain's metadata.
pub(super) const NAMESPACE: &str = "urn:patchwright:snapshots";
/// Its prefix, which libvirt calls its key.
pub(super) const KEY: &str = "patchwright";

/// More than anybody needs; each makes reading from the disks slower.
pub(super) const MOST_KEPT: usize = 16;
const MOST_DISKS: usize = 64;
/// With so many files that could not be removed, nothing new is begun.
pub(super) const MOST_LEFT: usize = 128;
const MOST_WASTE: usize = 1024;

/// All that is noted of one domain.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Notes {
    /// Oldest first: each lies on those before it.
    pub(super) kept: Vec<Kept>,
    /// What is under way.
    pub(super) task: Option<Task>,
    /// Files of ours that nobody needs any more, or not yet.
    pub(super) waste: Vec<Overlay>,
}

/// What a snapshot keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Kept {
    pub(super) name: SnapshotName,
    pub(super) disks: Vec<KeptDisk>,
}

/// A disk as it was: a file that nobody writes to, and the overlay that takes the writes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct KeptDisk {
    pub(super) target: String,
    pub(super) below: String,
    pub(super) format: Format,
    pub(super) overlay: Overlay,
}

/// How the bytes of a file are laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Raw,
    Qcow2,
}

/// What was begun and must be finished.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Task {
    /// The disks are to be put on fresh overlays, by their targets.
    Revert { name: SnapshotName, fresh: Vec<(String, Overlay)>, power: Power },
    /// They are what they were; the machine is to be switched on.
    Start { name: SnapshotName },
    /// What is above a snapshot is written into what is below.
    Merge { name: SnapshotName, on: On },
}

impl Task {
    pub(super) fn name(&self) -> &SnapshotName {
        match self {
            Self::Revert { name, .. } | Self::Start { name } | Self::Merge { name, .. } => name,
        }
    }

    /// What was asked for.
    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Revert { .. } | Self::Start { .. } => "going back",
            Self::Merge { .. } => "removal",
        }
    }
}

/// Whether a machine ran.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Power {
    On,
    Off,
}

/// By which QEMU is merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum On {
    /// The one in which the machine runs.
    Running,
    /// One that we start with processors that stand still, as the machine is off.
    Paused,
}

impl Format {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Qcow2 => "qcow2",
        }
    }

    pub(super) fn parse(name: &str) -> Option<Self> {
        [Self::Raw, Self::Qcow2].into_iter().find(|format| format.name() == name)
    }
}

/// The path of a file that we had made for one machine, as its name says: only such are removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Overlay {
    directory: String,
    file: String,
}

impl Overlay {
    /// A file that is not there yet, beside another one.
    pub(super) fn beside(
        path: &str,
        snapshot: &SnapshotName,
        machine: &str,
        random: u64,
        target: &str,
    ) -> Option<Self> {
        let (directory, _) = path.rsplit_once('/')?;
        // The end is what libvirt replaces where it makes up names of its own.
        let path = format!("{directory}/{snapshot}.{machine}.{target}.{random:016x}");
        Self::parse(&path, machine)
    }

    fn parse(path: &str, machine: &str) -> Option<Self> {
        let (directory, file) = path.rsplit_once('/')?;
        let mut parts = file.split('.');
        let (name, of, target, random) =
            (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let is_random = random.len() == 16 && random.chars().all(|c| c.is_ascii_hexdigit());
        let is_ours = parts.next().is_none()
            && name.parse::<SnapshotName>().is_ok()
            && of == machine
            && is_random
            && is_target(target);
        (is_absolute(path) && is_ours)
            .then(|| Self { directory: directory.to_owned(), file: file.to_owned() })
    }

    pub(super) fn directory(&self) -> &str {
        if self.directory.is_empty() { "/" } else { &self.directory }
    }

    pub(super) fn file(&self) -> &str {
        &self.file
    }

    pub(super) fn path(&self) -> String {
        format!("{}/{}", self.directory, self.file)
    }
}

/// A path that means one file, whoever reads it.
pub(super) fn is_absolute(path: &str) -> bool {
    path.starts_with('/')
        && path.len() < 4096
        && !path.chars().any(char::is_control)
        && path.split('/').skip(1).all(|part| !matches!(part, "" | "." | ".."))
}

/// What libvirt calls a disk: `vda`.
pub(super) fn is_target(name: &str) -> bool {
    (1..=16).contains(&name.len()) && name.chars().all(|c| c.is_ascii_alphanumeric())
}

impl Notes {
    /// Reads the notes out of a domain's metadata; none where there is no element of ours.
    pub(super) fn of(metadata: Option<&Element>, machine: &str) -> Result<Self, &'static str> {
        const ODD: &str = "our notes in it are not as we write them";
        let own = metadata.into_iter().flat_map(|metadata| &metadata.children).find(|element| {
            let prefix = element.name.split_once(':').map_or("", |(prefix, _)| prefix);
            element.attribute(&format!("xmlns:{prefix}")) == Some(NAMESPACE)
        });
        own.map_or_else(|| Ok(Self::default()), |own| read(own, machine).ok_or(ODD))
    }

    /// As an element of a domain's metadata.
    pub(super) fn xml(&self) -> String {
        self.written(&format!("{KEY}:"), &format!(" xmlns:{KEY}='{NAMESPACE}'"))
    }

    /// As `virsh metadata` takes it, which gives it its namespace and refuses another.
    pub(super) fn bare_xml(&self) -> String {
        self.written("", "")
    }

    fn written(&self, key: &str, namespace: &str) -> String {
        let mut xml = format!("<{key}snapshots{namespace}>");
        for kept in &self.kept {
            let _ = write!(xml, "<{key}snapshot name='{}'>", kept.name);
            for disk in &kept.disks {
                let _ = write!(
                    xml,
                    "<{key}disk target='{}' below='{}' format='{}' overlay='{}'/>",
                    disk.target,
                    escaped(&disk.below),
                    disk.format.name(),
                    escaped(&disk.overlay.path()),
                );
            }
            let _ = write!(xml, "</{key}snapshot>");
        }
        let _ = match &self.task {
            None => Ok(()),
            Some(Task::Revert { name, fresh, power }) => {
                let power = if *power == Power::On { "on" } else { "off" };
                let _ = write!(xml, "<{key}revert name='{name}' power='{power}'>");
                for (target, overlay) in fresh {
                    let overlay = escaped(&overlay.path());
                    let _ = write!(xml, "<{key}disk target='{target}' overlay='{overlay}'/>");
                }
                write!(xml, "</{key}revert>")
            }
            Some(Task::Start { name }) => write!(xml, "<{key}start name='{name}'/>"),
            Some(Task::Merge { name, on }) => {
                let on = if *on == On::Paused { "paused" } else { "running" };
                write!(xml, "<{key}merge name='{name}' on='{on}'/>")
            }
        };
        for overlay in &self.waste {
            let _ = write!(xml, "<{key}waste file='{}'/>", escaped(&overlay.path()));
        }
        let _ = write!(xml, "</{key}snapshots>");
        xml
    }
}

fn read(own: &Element, machine: &str) -> Option<Notes> {
    let mut notes = Notes::default();
    for element in &own.children {
        let name = || element.attribute("name")?.parse::<SnapshotName>().ok();
        let task = match local(element) {
            "snapshot" => {
                let disks = element.children.iter().map(|disk| kept_disk(disk, machine));
                let disks = disks.collect::<Option<Vec<_>>>()?;
                notes.kept.push(Kept { name: name()?, disks });
                None
            }
            "waste" => {
                notes.waste.push(Overlay::parse(element.attribute("file")?, machine)?);
                None
            }
            "revert" => {
                let fresh = element.children.iter().map(|disk| {
                    let overlay = Overlay::parse(disk.attribute("overlay")?, machine)?;
                    Some((target(disk)?, overlay))
                });
                let power = match element.attribute("power")? {
                    "on" => Power::On,
                    "off" => Power::Off,
                    _ => return None,
                };
                Some(Task::Revert { name: name()?, fresh: fresh.collect::<Option<_>>()?, power })
            }
            "start" => Some(Task::Start { name: name()? }),
            "merge" => {
                let on = match element.attribute("on")? {
                    "paused" => On::Paused,
                    "running" => On::Running,
                    _ => return None,
                };
                Some(Task::Merge { name: name()?, on })
            }
            _ => return None,
        };
        if task.is_some() && notes.task.is_some() {
            return None;
        }
        notes.task = notes.task.or(task);
    }
    let is_bounded = notes.kept.len() <= MOST_KEPT
        && notes.waste.len() <= MOST_WASTE
        && notes.kept.iter().all(|kept| (1..=MOST_DISKS).contains(&kept.disks.len()));
    is_bounded.then_some(notes)
}

fn local(element: &Element) -> &str {
    element.name.rsplit_once(':').map_or(&element.name, |(_, local)| local)
}

fn target(disk: &Element) -> Option<String> {
    disk.attribute("target").filter(|target| is_target(target)).map(str::to_owned)
}

fn kept_disk(disk: &Element, machine: &str) -> Option<KeptDisk> {
    Some(KeptDisk {
        target: target(disk)?,
        below: disk.attribute("below").filter(|path| is_absolute(path))?.to_owned(),
        format: Format::parse(disk.attribute("format")?)?,
        overlay: Overlay::parse(disk.attribute("overlay")?, machine)?,
    })
}

/// How a pool is called that we had made because there was none for a directory.
pub(super) fn pool_name(number: &str) -> String {
    format!("{SNAPSHOT_PREFIX}pool-{number}")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: &str = "01de6d04-5ee2-4379-a8fb-7931c8e956cb";

    fn name(id: &str) -> SnapshotName {
        SnapshotName::new(id).unwrap()
    }

    fn overlay(random: u64) -> Overlay {
        Overlay::beside("/im'ages/a&b.raw", &name("1"), MACHINE, random, "vda").unwrap()
    }

    fn notes(task: Task) -> Notes {
        let disk = KeptDisk {
            target: "vda".to_owned(),
            below: "/im'ages/a&b.raw".to_owned(),
            format: Format::Raw,
            overlay: overlay(1),
        };
        let kept = Kept { name: name("1"), disks: vec![disk] };
        Notes { kept: vec![kept], task: Some(task), waste: vec![overlay(3)] }
    }

    fn read_again(xml: &str) -> Result<Notes, &'static str> {
        let metadata = Element::parse(&format!("<metadata><a:b/>{xml}</metadata>")).unwrap();
        Notes::of(Some(&metadata), MACHINE)
    }

    #[test]
    fn what_is_noted_is_read_again() {
        let fresh = vec![("vda".to_owned(), overlay(2))];
        for task in [
            Task::Revert { name: name("1"), fresh: fresh.clone(), power: Power::On },
            Task::Revert { name: name("1"), fresh, power: Power::Off },
            Task::Start { name: name("1") },
            Task::Merge { name: name("1"), on: On::Paused },
            Task::Merge { name: name("1"), on: On::Running },
        ] {
            let noted = notes(task);
            assert_eq!(read_again(&noted.xml()), Ok(noted));
        }
        assert_eq!(Notes::of(None, MACHINE), Ok(Notes::default()));
        assert_eq!(read_again(""), Ok(Notes::default()));
    }

    #[test]
    fn notes_that_name_anybody_elses_files_are_not_ours() {
        let noted = notes(Task::Start { name: name("1") }).xml();
        let path = overlay(3).path();
        let waste = escaped(&path);
        for forged in [
            "/var/lib/libvirt/images/web.qcow2".to_owned(),
            waste.replace("ages/", "ages/../etc/"),
            waste.replace(MACHINE, "11de6d04-5ee2-4379-a8fb-7931c8e956cb"),
            waste.replace("patchwright-snp_1", "web"),
            waste.trim_start_matches('/').to_owned(),
        ] {
            let forged =
                noted.replace(&format!("waste file='{waste}'"), &format!("waste file='{forged}'"));
            assert_ne!(forged, noted);
            assert!(read_again(&forged).is_err(), "{forged}");
        }
        assert!(read_again(&noted.replace("raw' overlay", "vmdk' overlay")).is_err());
        assert!(read_again(&noted.replace("target='vda'", "target='../a'")).is_err());
    }
}
