//! Snapshots of other people's machines in a libvirt, here or on another host, through `virsh`.
//!
//! Internal snapshots do not work with UEFI (libvirt 9.0), and libvirt cannot go back to external
//! ones by itself before 9.9. So a snapshot is: overlays, put on all disks at one instant by
//! libvirt; what is below is not written to until the snapshot is removed. Going back is a
//! definition with fresh overlays, so that no machine is ever started on what is kept. Removing is
//! a commit by QEMU, of a machine that is off in a QEMU whose processors stand still: libvirt keeps
//! its definition true by itself, which nobody else could do in one step.

mod definition;
mod error;
mod notes;
mod plan;
mod storage;

use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

pub use self::error::{HypervisorError, Refusal};

use self::definition::{Definition, switched};
use self::notes::{KEY, Kept, NAMESPACE, Notes, Overlay, Power, Task};
use self::plan::{Live, Part, Processors, Step, Then, View};
use self::storage::Storage;
use super::xml::{Element, escaped};
use super::{LibvirtError, NOT_RUNNING, virsh};
use crate::clock::Clock;
use crate::driver::DriverError;
use crate::snapshots::{SnapshotName, Snapshots};

const MINUTE: Duration = Duration::from_secs(60);

/// How long merging may take before it is asked for again; QEMU goes on meanwhile.
const MERGE: Duration = Duration::from_secs(3600);
/// How often is looked how far QEMU came.
const PACE: Duration = Duration::from_millis(500);

/// Two steps for each of the most disks, and some.
const MOST_STEPS: usize = 256;
/// QEMU may be done before libvirt has noticed.
const MOST_STUMBLES: usize = 3;

const MOST_FOREIGN: usize = 256;
/// Notes go to virsh as one argument, of which Linux takes 128 KiB.
const LONGEST_NOTES: usize = 96 << 10;

/// What virsh says of a machine that somebody else has just switched on.
const ALREADY_ACTIVE: &str = "already active";

/// A libvirt with machines that are not ours.
#[derive(Debug)]
pub struct Hypervisor {
    uri: String,
    clock: Arc<dyn Clock>,
}

impl Hypervisor {
    /// Names a libvirt by its address: `qemu:///system`, `qemu:///session`,
    /// `qemu+ssh://user@host/system`. It is not asked anything yet.
    ///
    /// # Errors
    /// What is no such address, is not encrypted, or would have libvirt run a program of its own.
    pub fn open(uri: &str, clock: Arc<dyn Clock>) -> Result<Self, HypervisorError> {
        let refused =
            |reason| HypervisorError::Address { uri: uri.chars().take(200).collect(), reason };
        Ok(Self { uri: address(uri).map_err(refused)?, clock })
    }

    /// Where it is, as virsh gets it.
    pub(in crate::libvirt) fn uri(&self) -> &str {
        &self.uri
    }

    pub(in crate::libvirt) fn ask(
        &self,
        command: &'static str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String, LibvirtError> {
        self.ask_within(command, arguments, input, MINUTE)
    }

    pub(in crate::libvirt) fn ask_within(
        &self,
        command: &'static str,
        arguments: &[&str],
        input: Option<&str>,
        patience: Duration,
    ) -> Result<String, LibvirtError> {
        virsh::ask(&self.uri, command, arguments, input, patience)
    }

    /// Finds a machine by its name or UUID.
    fn find(&self, name: &str) -> Result<Machine<'_>, HypervisorError> {
        let is_name = !name.starts_with('-')
            && (1..=255).contains(&name.len())
            && !name.chars().any(|character| character.is_control() || character == '/');
        if !is_name {
            return Err(HypervisorError::Name { machine: name.chars().take(255).collect() });
        }
        let said = self.ask("dumpxml", &["--domain", name, "--inactive"], None);
        let said = said.map_err(|error| {
            if error.lacks_machine() {
                return HypervisorError::NoMachine { machine: name.to_owned() };
            }
            error.into()
        })?;
        let odd = |reason| HypervisorError::Odd { of: name.to_owned(), reason };
        let found = Definition::parse(&said).map_err(odd)?;
        // virsh looks for a number among those of running machines first.
        if found.name != name && found.uuid != name {
            return Err(HypervisorError::Ambiguous { machine: name.to_owned() });
        }
        Ok(Machine { hypervisor: self, name: name.to_owned(), uuid: found.uuid })
    }
}

/// The address as virsh gets it.
fn address(uri: &str) -> Result<String, &'static str> {
    const TRANSPORTS: [&str; 6] =
        ["qemu", "qemu+unix", "qemu+ssh", "qemu+libssh", "qemu+libssh2", "qemu+tls"];
    const PARAMETERS: [&str; 5] = ["keyfile", "known_hosts", "mode", "pkipath", "socket"];
    if uri.len() > 1024 || !uri.chars().all(|c| c.is_ascii_graphic()) {
        return Err("it has odd characters or is too long");
    }
    let (scheme, rest) = uri.split_once("://").ok_or("it has no scheme")?;
    if !TRANSPORTS.contains(&scheme) {
        return Err("libvirt is reached by `qemu`, `qemu+ssh` or `qemu+tls` only");
    }
    let (place, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let (host, path) = place.split_once('/').ok_or("it names neither `system` nor `session`")?;
    let (user, host) = host.split_once('@').unwrap_or(("", host));
    if host.starts_with('-') || user.starts_with('-') || user.contains(':') {
        return Err("its host or user is none, or there is a password");
    }
    if !matches!(path, "system" | "session") {
        return Err("it names neither `system` nor `session`");
    }
    let is_known = |it: &str| PARAMETERS.contains(&it.split_once('=').map_or(it, |(name, _)| name));
    if !parameters.split('&').all(|parameter| parameter.is_empty() || is_known(parameter)) {
        return Err("it has a parameter that is not allowed");
    }
    // Nobody is there to be asked for a password.
    Ok(match (scheme, parameters) {
        ("qemu+ssh", "") => format!("{scheme}://{place}?no_tty=1"),
        ("qemu+ssh", _) => format!("{scheme}://{place}?{parameters}&no_tty=1"),
        _ => uri.to_owned(),
    })
}

impl Snapshots for Hypervisor {
    fn name(&self) -> &'static str {
        "libvirt"
    }

    fn take(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError> {
        let machine = self.find(machine)?;
        Ok(machine.come_to(snapshot, |view, random| plan::take(view, snapshot, random))?)
    }

    /// The machine is switched on again where it ran.
    fn revert(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError> {
        let machine = self.find(machine)?;
        machine.refuse_foreign(snapshot)?;
        machine.come_to(snapshot, |view, _| plan::revert(view, snapshot))?;
        // The machine is back. What could not be removed is noted, and goes next time.
        let _ = machine.sweep();
        Ok(())
    }

    fn remove(&self, machine: &str, snapshot: &SnapshotName) -> Result<(), DriverError> {
        let machine = self.find(machine)?;
        machine.refuse_foreign(snapshot)?;
        machine.come_to(snapshot, |view, _| plan::remove(view, snapshot))?;
        Ok(machine.sweep()?)
    }

    fn list(&self, machine: &str) -> Result<Vec<SnapshotName>, DriverError> {
        Ok(self.find(machine)?.look()?.view.names())
    }
}

/// One machine; asked about by its UUID, which virsh takes for nothing else.
#[derive(Debug)]
struct Machine<'a> {
    hypervisor: &'a Hypervisor,
    name: String,
    uuid: String,
}

/// What was seen of it.
struct Look {
    view: View,
    /// Its definition as libvirt tells it, with its secrets.
    document: String,
}

impl Machine<'_> {
    /// Looks and steps until all is as it is to be.
    fn come_to(
        &self,
        snapshot: &SnapshotName,
        next: impl Fn(&View, u64) -> Result<Step, Refusal>,
    ) -> Result<(), HypervisorError> {
        let clock = &self.hypervisor.clock;
        let began = clock.now();
        let (mut steps, mut stumbles) = (0, 0);
        while steps < MOST_STEPS {
            let look = self.look()?;
            let step = next(&look.view, random()).map_err(|refusal| self.refused(refusal))?;
            steps += usize::from(step != Step::Wait);
            match step {
                Step::Done => return Ok(()),
                Step::Finish(notes) => return self.note(&notes),
                Step::Note(notes) => self.note(&notes)?,
                Step::Snapshot(kept) => self.snapshot(&look.view, &kept)?,
                Step::Prepare { kept, power } => self.prepare(&look.view, &kept, power)?,
                Step::Destroy => self.destroy()?,
                Step::Switch { disks, notes, then } => {
                    let document = switched(&look.document, &disks, &notes);
                    let document = document.map_err(|reason| self.odd(reason))?;
                    self.ask("define", &["--file", "/dev/stdin"], Some(&document))?;
                    if then == Then::Done {
                        return Ok(());
                    }
                }
                Step::Start => self.start(&[])?,
                Step::StartPaused => self.start(&["--paused"])?,
                Step::Pivot { target } => {
                    let arguments = ["--domain", &self.uuid, "--path", &target, "--pivot"];
                    self.hypervisor.ask_within("blockjob", &arguments, None, 5 * MINUTE)?;
                }
                Step::Commit { target, base, top, of } => {
                    if of == Part::Inner && self.is_at_work(&target)? {
                        self.wait(snapshot, began)?;
                        steps -= 1;
                    } else if let Err(error) = self.commit(&target, &base, &top, of) {
                        stumbles += 1;
                        if stumbles == MOST_STUMBLES {
                            return Err(error);
                        }
                        self.wait(snapshot, began)?;
                    }
                }
                Step::Wait => self.wait(snapshot, began)?,
            }
        }
        Err(HypervisorError::Restless { machine: self.name.clone(), steps: MOST_STEPS })
    }

    fn look(&self) -> Result<Look, HypervisorError> {
        let of = ["--domain", self.uuid.as_str()];
        let told = self.ask("dominfo", &of, None)?;
        let is = |key: &str, value: &str| {
            told.lines().any(|line| {
                line.split_once(':').is_some_and(|(k, v)| k.trim() == key && v.trim() == value)
            })
        };
        if !is("Persistent", "yes") {
            return Err(HypervisorError::Transient { machine: self.name.clone() });
        }
        if is("Managed save", "yes") {
            return Err(HypervisorError::Saved { machine: self.name.clone() });
        }
        let arguments = ["--domain", &self.uuid, "--inactive", "--security-info"];
        let document = self.ask("dumpxml", &arguments, None)?;
        let definition = Definition::parse(&document).map_err(|reason| self.odd(reason))?;
        let live = self.ask("dumpxml", &of, None)?;
        let live = Definition::parse(&live).map_err(|reason| self.odd(reason))?;
        let live = live.runs.then(|| Live {
            definition: live,
            processors: if is("State", "paused") { Processors::Stand } else { Processors::Run },
        });
        Ok(Look { view: View { definition, live }, document })
    }

    fn note(&self, notes: &Notes) -> Result<(), HypervisorError> {
        let arguments = ["--domain", &self.uuid, "--uri", NAMESPACE, "--key", KEY, "--config"];
        if *notes == Notes::default() {
            self.ask("metadata", &[&arguments[..], &["--remove"]].concat(), None)?;
            return Ok(());
        }
        let xml = notes.bare_xml();
        if xml.len() > LONGEST_NOTES {
            return Err(self.refused(Refusal::TooMany));
        }
        self.ask("metadata", &[&arguments[..], &["--set", &xml]].concat(), None)?;
        Ok(())
    }

    /// Has all disks put on overlays; the names of overlays that libvirt did not take are not
    /// tried again.
    fn snapshot(&self, view: &View, kept: &Kept) -> Result<(), HypervisorError> {
        let xml = snapshot_xml(&view.definition, kept);
        let arguments = [
            "--domain",
            &self.uuid,
            "--xmlfile",
            "/dev/stdin",
            "--disk-only",
            "--atomic",
            "--no-metadata",
        ];
        let mut taken = Err(None);
        if view.live.as_ref().is_some_and(|live| live.definition.hears_agent)
            && self.agent_answers()
        {
            let quiesced = [&arguments[..], &["--quiesce"]].concat();
            taken = self
                .hypervisor
                .ask_within("snapshot-create", &quiesced, Some(&xml), 5 * MINUTE)
                .map_err(Some);
        }
        if taken.is_err() {
            taken = self
                .hypervisor
                .ask_within("snapshot-create", &arguments, Some(&xml), 5 * MINUTE)
                .map_err(Some);
        }
        let Err(Some(error)) = taken else { return Ok(()) };
        match plan::take(&self.look()?.view, &kept.name, random()) {
            Ok(Step::Done) => Ok(()),
            Ok(Step::Snapshot(_)) => {
                let mut notes = view.definition.notes.clone();
                notes.kept.retain(|it| it.name != kept.name);
                notes.waste.extend(kept.disks.iter().map(|disk| disk.overlay.clone()));
                self.note(&notes)?;
                Err(error.into())
            }
            _ => Err(error.into()),
        }
    }

    /// Whether the guest agent is there, so that file systems can be quiesced.
    fn agent_answers(&self) -> bool {
        let ping = "{\"execute\":\"guest-ping\"}";
        let arguments = ["--domain", &self.uuid, "--timeout", "5", "--cmd", ping];
        self.ask("qemu-agent-command", &arguments, None).is_ok()
    }

    /// Fresh overlays over what was kept. Until they are complete they are noted as waste.
    fn prepare(&self, view: &View, kept: &Kept, power: Power) -> Result<(), HypervisorError> {
        let random = random();
        let mut fresh = Vec::new();
        for disk in &kept.disks {
            let overlay =
                Overlay::beside(&disk.below, &kept.name, &self.uuid, random, &disk.target);
            let overlay = overlay.ok_or_else(|| self.odd("our notes are torn".to_owned()))?;
            fresh.push((disk.target.clone(), overlay));
        }
        let mut notes = view.definition.notes.clone();
        notes.waste.extend(fresh.iter().map(|(_, overlay)| overlay.clone()));
        self.note(&notes)?;
        let mut storage = Storage::of(self.hypervisor);
        let created = kept
            .disks
            .iter()
            .zip(&fresh)
            .try_for_each(|(disk, (_, overlay))| storage.create(overlay, disk));
        let closed = storage.close();
        created.and(closed)?;
        notes.waste.retain(|waste| !fresh.iter().any(|(_, overlay)| overlay == waste));
        notes.task = Some(Task::Revert { name: kept.name.clone(), fresh, power });
        self.note(&notes)
    }

    fn destroy(&self) -> Result<(), HypervisorError> {
        match self.ask("destroy", &["--domain", &self.uuid], None) {
            Err(HypervisorError::Libvirt(error)) if error.says(NOT_RUNNING) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn start(&self, how: &[&str]) -> Result<(), HypervisorError> {
        let arguments = [&["--domain", self.uuid.as_str()], how].concat();
        match self.hypervisor.ask_within("start", &arguments, None, 5 * MINUTE) {
            Err(error) if !error.says(ALREADY_ACTIVE) => Err(error.into()),
            _ => Ok(()),
        }
    }

    fn commit(&self, target: &str, base: &str, top: &str, of: Part) -> Result<(), HypervisorError> {
        let arguments = ["--domain", &self.uuid, "--path", target, "--base", base, "--top", top];
        let how: &[&str] = if of == Part::Top { &["--active"] } else { &[] };
        self.ask("blockcommit", &[&arguments[..], how].concat(), None)?;
        Ok(())
    }

    fn is_at_work(&self, target: &str) -> Result<bool, HypervisorError> {
        let arguments = ["--domain", &self.uuid, "--path", target, "--info", "--raw"];
        Ok(!self.ask("blockjob", &arguments, None)?.trim().is_empty())
    }

    fn wait(&self, snapshot: &SnapshotName, began: Duration) -> Result<(), HypervisorError> {
        let clock = &self.hypervisor.clock;
        if clock.now().saturating_sub(began) > MERGE {
            return Err(HypervisorError::Slow {
                machine: self.name.clone(),
                snapshot: snapshot.clone(),
                seconds: MERGE.as_secs(),
            });
        }
        clock.wait(PACE);
        Ok(())
    }

    /// Somebody's snapshot that was made since may lie in a file that is to go.
    fn refuse_foreign(&self, snapshot: &SnapshotName) -> Result<(), HypervisorError> {
        let view = self.look()?.view;
        let kept = view.definition.notes.kept.iter().filter(|kept| kept.name == *snapshot);
        let overlays: Vec<_> =
            kept.flat_map(|kept| &kept.disks).map(|disk| disk.overlay.path()).collect();
        if overlays.is_empty() {
            return Ok(());
        }
        let names = self.ask("snapshot-list", &["--domain", &self.uuid, "--name"], None)?;
        let names: Vec<_> = names.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
        for (number, name) in names.into_iter().enumerate() {
            let foreign = || self.refused(Refusal::Foreign { snapshot: name.to_owned() });
            // What cannot be asked about may be such a one.
            if name.starts_with('-') || number >= MOST_FOREIGN {
                return Err(foreign());
            }
            let arguments = ["--domain", &self.uuid, "--snapshotname", name];
            let said = self.ask("snapshot-dumpxml", &arguments, None)?;
            let told = Element::parse(&said).map_err(|reason| self.odd(reason))?;
            let mut lies_there = |element: &Element| {
                let file = element.attribute("file");
                file.is_some_and(|file| overlays.iter().any(|overlay| overlay == file))
            };
            if told.any(&mut lies_there) {
                return Err(foreign());
            }
        }
        Ok(())
    }

    /// Removes files of ours that nobody needs any more.
    fn sweep(&self) -> Result<(), HypervisorError> {
        let view = self.look()?.view;
        let mut notes = view.definition.notes.clone();
        if notes.waste.is_empty() {
            return Ok(());
        }
        let is_needed = |overlay: &Overlay| {
            let path = overlay.path();
            let lies_on = |it: &Definition| it.disks.iter().any(|disk| disk.lies_on(&path));
            lies_on(&view.definition)
                || view.live.as_ref().is_some_and(|it| lies_on(&it.definition))
        };
        let mut storage = Storage::of(self.hypervisor);
        let mut failed = Ok(());
        notes.waste.retain(|overlay| {
            if is_needed(overlay) {
                return true;
            }
            let deleted = storage.delete(overlay);
            let stays = deleted.is_err();
            if stays {
                failed = deleted;
            }
            stays
        });
        let closed = storage.close();
        self.note(&notes)?;
        failed.and(closed)
    }

    fn ask(
        &self,
        command: &'static str,
        arguments: &[&str],
        input: Option<&str>,
    ) -> Result<String, HypervisorError> {
        Ok(self.hypervisor.ask(command, arguments, input)?)
    }

    fn odd(&self, reason: String) -> HypervisorError {
        HypervisorError::Odd { of: self.name.clone(), reason }
    }

    fn refused(&self, refusal: Refusal) -> HypervisorError {
        HypervisorError::Refused { machine: self.name.clone(), refusal }
    }
}

/// All disks by name, so that libvirt decides about none.
fn snapshot_xml(definition: &Definition, kept: &Kept) -> String {
    let mut xml = "<domainsnapshot><disks>".to_owned();
    for disk in &definition.disks {
        let _ = match kept.disks.iter().find(|kept| kept.target == disk.target) {
            Some(kept) => write!(
                xml,
                "<disk name='{}' snapshot='external' type='file'><driver type='qcow2'/>\
                 <source file='{}'/></disk>",
                kept.target,
                escaped(&kept.overlay.path()),
            ),
            None => write!(xml, "<disk name='{}' snapshot='no'/>", disk.target),
        };
    }
    xml + "</disks></domainsnapshot>"
}

/// What no file's name has yet.
fn random() -> u64 {
    let mut random = [0; 8];
    getrandom::fill(&mut random).expect("the system gives random numbers");
    u64::from_be_bytes(random)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_names_a_libvirt_and_no_program() {
        for (given, told) in [
            ("qemu:///system", "qemu:///system"),
            ("qemu:///session?socket=/run/x", "qemu:///session?socket=/run/x"),
            ("qemu+ssh://root@host-1/system", "qemu+ssh://root@host-1/system?no_tty=1"),
            ("qemu+ssh://h/system?keyfile=/k", "qemu+ssh://h/system?keyfile=/k&no_tty=1"),
            ("qemu+tls://host:16514/system", "qemu+tls://host:16514/system"),
        ] {
            assert_eq!(address(given), Ok(told.to_owned()));
        }
        for refused in [
            "",
            "--version",
            "test:///default",
            "qemu+tcp://host/system",
            "qemu+ext://host/system?command=/x",
            "qemu+ssh://host/system?command=/x",
            "qemu+ssh://host/system?keyfile=/k&netcat=/x",
            "qemu+tls://host/system?no_verify=1",
            "qemu+ssh://-oProxyCommand=x/system",
            "qemu+ssh://-l@host/system",
            "qemu+ssh://user:secret@host/system",
            "qemu:///embed?root=/x",
            "qemu:///system x",
        ] {
            assert!(address(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn names_that_could_be_options_are_not_asked_about() {
        let clock = Arc::new(crate::clock::SystemClock::default());
        let hypervisor = Hypervisor::open("qemu:///session", clock).unwrap();
        for name in ["", "-c", "--all", "a/b", "a\nb", &"x".repeat(256)] {
            let refused = hypervisor.find(name).unwrap_err();
            assert!(matches!(refused, HypervisorError::Name { .. }), "{name}");
        }
    }
}
