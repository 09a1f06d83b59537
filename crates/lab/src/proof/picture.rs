//! From what a guest said to what is judged. Every byte comes from a guest that may be hostile:
//! what is not understood becomes a problem of the picture, which never counts as good.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{Ipv4Addr, Ipv6Addr};

use domain::inventory::StaleProcess;
use domain::proof::{
    Filesystem, Listener, Picture, ProbeOutcome, Protocol, SpecialPath, SpecialWhy, Unit,
    UnitEvent, UnitStep,
};
use guest::{RawPicture, Special};
use serde::Deserialize;

/// Reads a guest's picture: [`crate::Vm::picture`] gives one.
pub fn read(raw: &RawPicture) -> Picture {
    let listing = inspect::packages::dpkg::parse_status(raw.dpkg_status.as_bytes());
    let mut problems = raw.problems.clone();
    problems.extend(listing.problems);
    if listing.packages.is_empty() {
        problems.push("dpkg's database lists no package".to_owned());
    }
    let units = units(&raw.units);
    if units.is_empty() {
        problems.push("systemd lists no unit".to_owned());
    }
    let kernels: Vec<String> = raw
        .boot_files
        .iter()
        .filter_map(|name| name.strip_prefix("vmlinuz-").map(str::to_owned))
        .collect();
    let mut listeners = BTreeSet::new();
    for name in ["tcp", "tcp6", "udp", "udp6"] {
        let table = raw.sockets.get(name).map_or("", String::as_str);
        listeners.extend(listeners_of(name, table, &mut problems));
    }
    let unit_events = unit_events(&raw.unit_journal);
    if unit_events.is_empty() {
        problems.push("the journal tells nothing of units".to_owned());
    }
    let reboot_required_by = raw.reboot_required.as_ref().map(|packages| {
        let names: BTreeSet<&str> = packages.split_whitespace().collect();
        names.into_iter().map(str::to_owned).collect()
    });
    Picture {
        boot_id: raw.boot_id.clone(),
        kernel_release: raw.kernel_release.clone(),
        kernel_version: raw.kernel_version.clone(),
        newest_kernel: inspect::newest_kernel(&kernels),
        packages: listing.packages,
        units,
        unit_events,
        listeners,
        stale_processes: stale_processes(raw),
        reboot_required_by,
        special_paths: special_paths(raw),
        configuration: raw.configuration.clone(),
        package_files: raw.package_files.clone(),
        filesystems: filesystems(raw),
        errors: errors(&raw.journal_errors),
        probes: raw
            .probes
            .iter()
            .map(|probe| ProbeOutcome { name: probe.name.clone(), failure: probe.failure.clone() })
            .collect(),
        touched: raw.touched.clone(),
        boot_ms: boot_ms(&raw.manager).unwrap_or(raw.uptime_ms),
        problems,
    }
}

/// `systemctl show` writes properties as `Name=value`, and an empty line between units.
fn units(text: &str) -> BTreeMap<String, Unit> {
    let mut units = BTreeMap::new();
    for block in text.split("\n\n") {
        let properties = properties(block);
        let text = |name: &str| properties.get(name).copied().unwrap_or_default().to_owned();
        let name = text("Id");
        if name.is_empty() || name == guest::UNIT || text("LoadState") == "not-found" {
            continue;
        }
        let static_bus = text("Type") == "dbus" && text("UnitFileState") == "static";
        let unit = Unit {
            active: text("ActiveState"),
            sub: text("SubState"),
            kind: text("Type"),
            file_state: text("UnitFileState"),
            on_demand: static_bus || !text("TriggeredBy").is_empty(),
            activated_ms: microseconds(&properties, "ActiveEnterTimestampMonotonic") / 1000,
        };
        units.insert(name, unit);
    }
    units
}

fn properties(block: &str) -> BTreeMap<&str, &str> {
    block.lines().filter_map(|line| line.split_once('=')).collect()
}

fn microseconds(properties: &BTreeMap<&str, &str>, name: &str) -> u64 {
    properties.get(name).and_then(|value| value.parse().ok()).unwrap_or_default()
}

/// When systemd had finished starting, since the kernel's start.
fn boot_ms(manager: &str) -> Option<u64> {
    let finished = microseconds(&properties(manager), "FinishTimestampMonotonic");
    (finished > 0).then_some(finished / 1000)
}

#[derive(Deserialize)]
struct UnitLine {
    #[serde(rename = "MESSAGE_ID")]
    message: String,
    #[serde(rename = "UNIT")]
    unit: Option<String>,
    #[serde(rename = "__MONOTONIC_TIMESTAMP")]
    at: String,
}

/// systemd's message ids: `sd-messages.h`.
fn unit_events(journal: &str) -> Vec<UnitEvent> {
    let event = |line: &str| {
        let line: UnitLine = serde_json::from_str(line).ok()?;
        let step = match line.message.as_str() {
            "7d4958e842da4a758f6c1cdc7b36dcc5" => UnitStep::Starting,
            "39f53479d3a045ac8e11786248231fbf" => UnitStep::Started,
            "de5b426a63be47a7b6ac3eaac82e2f6f" => UnitStep::Stopping,
            "9d1aaa27d60140bd96365438aad20286" => UnitStep::Stopped,
            "be02cf6855d2428ba40df7e9d022f03d" | "d9b373ed55a64feb8242e02dbe79a49c" => {
                UnitStep::Failed
            }
            _ => return None,
        };
        let microseconds: u64 = line.at.parse().ok()?;
        Some(UnitEvent { at_ms: microseconds / 1000, unit: line.unit?, step })
    };
    journal.lines().filter_map(event).collect()
}

#[derive(Deserialize)]
struct ErrorLine {
    #[serde(rename = "MESSAGE")]
    message: serde_json::Value,
    #[serde(rename = "UNIT")]
    unit: Option<String>,
    #[serde(rename = "_SYSTEMD_UNIT")]
    systemd_unit: Option<String>,
    #[serde(rename = "SYSLOG_IDENTIFIER")]
    identifier: Option<String>,
}

/// Who said what, each once.
fn errors(journal: &str) -> BTreeSet<String> {
    let error = |line: &str| {
        let line: ErrorLine = serde_json::from_str(line).ok()?;
        let who = line.unit.or(line.systemd_unit).or(line.identifier).unwrap_or_default();
        // journald writes a message that is no text as an array of numbers.
        let message = line.message.as_str().unwrap_or("(binary)");
        Some(format!("{who}: {message}"))
    };
    journal.lines().filter_map(error).collect()
}

/// `/proc/net/tcp` and the like: `sl local_address rem_address st …`, addresses as hexadecimal
/// words in the machine's byte order.
fn listeners_of(name: &str, table: &str, problems: &mut Vec<String>) -> Vec<Listener> {
    const TCP_LISTEN: &str = "0A";
    const UDP_UNCONNECTED: &str = "07";
    let (protocol, wanted) = if name.starts_with("tcp") {
        (Protocol::Tcp, TCP_LISTEN)
    } else {
        (Protocol::Udp, UDP_UNCONNECTED)
    };
    if table.is_empty() && !name.ends_with('6') {
        problems.push(format!("there is no /proc/net/{name}"));
    }
    let listener = |line: &str| {
        let mut columns = line.split_whitespace().skip(1);
        let (local, _remote, state) = (columns.next()?, columns.next()?, columns.next()?);
        let (address, port) = local.split_once(':')?;
        let port = u16::from_str_radix(port, 16).ok()?;
        (state == wanted).then_some(())?;
        Some(Listener { protocol, address: address_of(address)?, port })
    };
    table.lines().skip(1).filter_map(listener).collect()
}

fn address_of(text: &str) -> Option<String> {
    let word = |text: &str| u32::from_str_radix(text, 16).ok().map(u32::to_le_bytes);
    match text.len() {
        8 => Some(Ipv4Addr::from(word(text)?).to_string()),
        32 => {
            let mut bytes = [0; 16];
            for (index, place) in bytes.chunks_exact_mut(4).enumerate() {
                place.copy_from_slice(&word(text.get(index * 8..index * 8 + 8)?)?);
            }
            Some(format!("[{}]", Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

fn stale_processes(raw: &RawPicture) -> Vec<StaleProcess> {
    let stale = raw.processes.iter().filter_map(|process| {
        let deleted_files = inspect::deleted_code(&process.deleted_maps.join("\n"));
        let unit = inspect::unit_of_cgroup(&process.cgroup);
        (!deleted_files.is_empty() && unit.as_deref() != Some(guest::UNIT)).then(|| StaleProcess {
            pid: process.pid,
            command: process.command.clone(),
            unit,
            deleted_files,
            packages: BTreeSet::new(),
        })
    });
    stale.collect()
}

fn special_paths(raw: &RawPicture) -> BTreeSet<SpecialPath> {
    let path = |file: &guest::SpecialFile| SpecialPath {
        path: file.path.clone(),
        why: match file.why {
            Special::SetId => SpecialWhy::SetId,
            Special::WorldWritable => SpecialWhy::WorldWritable,
            Special::Device => SpecialWhy::Device,
            Special::ConffileLeftover => SpecialWhy::ConffileLeftover,
        },
        rights: format!("{:04o} {}:{}", file.mode, file.uid, file.gid),
    };
    raw.special_files.iter().map(path).collect()
}

fn filesystems(raw: &RawPicture) -> BTreeMap<String, Filesystem> {
    let filesystem = |usage: &guest::FilesystemUse| {
        let filesystem = Filesystem {
            total: usage.total,
            available: usage.available,
            free_inodes: usage.free_inodes,
            read_only: usage.read_only,
        };
        (usage.mount_point.clone(), filesystem)
    };
    raw.filesystems.iter().map(filesystem).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listening_sockets_are_read_as_the_kernel_writes_them() {
        let tcp = "  sl  local_address rem_address   st\n   \
                   0: 0100007F:1538 00000000:0000 0A 0:0\n   \
                   1: 0100007F:1538 0100007F:9999 01 0:0\n";
        let tcp6 = "  sl\n   0: 00000000000000000000000001000000:0016 0:0 0A\n";
        let mut problems = Vec::new();

        let listening = listeners_of("tcp", tcp, &mut problems);
        let listening6 = listeners_of("tcp6", tcp6, &mut problems);

        assert_eq!(listening[0].to_string(), "tcp 127.0.0.1 port 5432");
        assert_eq!(listening.len(), 1, "connections are no listeners");
        assert_eq!(listening6[0].to_string(), "tcp [::1] port 22");
        assert!(problems.is_empty());
    }

    #[test]
    fn units_are_read_but_our_own() {
        let text = "Id=a.service\nLoadState=loaded\nActiveState=active\nSubState=running\n\
                    Type=dbus\nUnitFileState=static\nActiveEnterTimestampMonotonic=1500000\n\n\
                    Id=patchwright-guest.service\nLoadState=loaded\nActiveState=active\n\n\
                    Id=gone.service\nLoadState=not-found\nActiveState=inactive\n";

        let units = units(text);

        assert_eq!(units.len(), 1);
        assert!(units["a.service"].on_demand);
        assert_eq!(units["a.service"].activated_ms, 1500);
    }

    proptest::proptest! {
        /// A guest may say anything in any field.
        #[test]
        fn whatever_a_guest_says_is_read(text in "(\\PC|[\\n=: 0-9A-F{}\"]){0,200}") {
            let sockets = ["tcp", "udp6"].map(|name| (name.to_owned(), text.clone()));
            let picture = read(&RawPicture {
                dpkg_status: text.clone(),
                units: text.clone(),
                manager: text.clone(),
                sockets: sockets.into(),
                journal_errors: text.clone(),
                unit_journal: text.clone(),
                ..RawPicture::default()
            });
            proptest::prop_assert!(!picture.problems.is_empty());
        }
    }

    #[test]
    fn a_picture_without_packages_is_no_good_picture() {
        let picture = read(&RawPicture::default());
        assert!(picture.problems.len() >= 3, "{:?}", picture.problems);
    }

    #[test]
    fn the_journal_tells_of_units_and_of_errors() {
        let line = r#"{"MESSAGE_ID":"de5b426a63be47a7b6ac3eaac82e2f6f","UNIT":"a.service","__MONOTONIC_TIMESTAMP":"2000000"}"#;
        let event = UnitEvent { at_ms: 2000, unit: "a.service".into(), step: UnitStep::Stopping };
        assert_eq!(unit_events(&format!("{line}\nnonsense\n")), [event]);

        let error = r#"{"MESSAGE":"no","SYSLOG_IDENTIFIER":"x"}"#;
        assert_eq!(errors(&format!("{error}\n{error}")), ["x: no".to_owned()].into());
    }
}
