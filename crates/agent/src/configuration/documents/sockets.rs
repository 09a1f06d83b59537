//! Who listens: TCP and UDP sockets of the host's own network, with the programs that hold them.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Page;
use super::accounts;
use super::host::Host;
use super::page::{Unseen, sorted};

/// Most open files that are looked at to find whose a socket is.
const MOST_OPEN: usize = 200_000;

/// Ports that the kernel chooses, where it does not say which.
const CHOSEN: (u16, u16) = (32_768, 60_999);

struct Socket {
    protocol: &'static str,
    address: IpAddr,
    port: u16,
    uid: u32,
    inode: u64,
}

/// All sockets that wait for somebody.
pub(super) fn sockets(host: &dyn Host) -> Page {
    let mut found = Vec::new();
    for (protocol, path) in [("tcp", "tcp"), ("tcp", "tcp6"), ("udp", "udp"), ("udp", "udp6")] {
        let path = format!("/proc/net/{path}");
        match host.read(&path) {
            Ok(text) => found.extend(waiting(protocol, &String::from_utf8_lossy(&text))),
            // A kernel without IPv6 has no such file.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(Unseen::file(&path, &error)),
        }
    }
    let (first, last) = chosen(host);
    let is_chosen = |port: u16| (first..=last).contains(&port);
    // A port that the kernel chose for a question over UDP is open for its answer alone.
    found.retain(|it| !(it.protocol == "udp" && is_chosen(it.port)));
    let holders = holders(host, &found.iter().map(|it| it.inode).collect())?;
    let names = accounts::names(host);
    let facts = found.iter().map(|it| {
        let address = match it.address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        let port = if is_chosen(it.port) { "*".to_owned() } else { it.port.to_string() };
        let by = names.get(&it.uid).cloned().unwrap_or_else(|| it.uid.to_string());
        let holder = holders.get(&it.inode).map_or("unknown", String::as_str);
        format!("{} {address}:{port} {holder} as {by}", it.protocol)
    });
    Ok(sorted(facts))
}

/// Which ports the kernel chooses by itself.
fn chosen(host: &dyn Host) -> (u16, u16) {
    let range = host.read("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let range = String::from_utf8_lossy(&range).into_owned();
    let mut ports = range.split_whitespace().filter_map(|it| it.parse().ok());
    ports.next().zip(ports.next()).unwrap_or(CHOSEN)
}

/// Sockets of a table of the kernel (proc(5)) that are bound and connected to nobody.
fn waiting(protocol: &'static str, table: &str) -> Vec<Socket> {
    // TCP: listening; UDP: bound and not connected.
    let state = if protocol == "tcp" { "0A" } else { "07" };
    let socket = |line: &str| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let [_, local, _, is, _, _, _, uid, _, inode, ..] = fields[..] else { return None };
        let (address, port) = local.split_once(':')?;
        let is_waiting = is == state;
        let socket = Socket {
            protocol,
            address: address_of(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            uid: uid.parse().ok()?,
            inode: inode.parse().ok()?,
        };
        is_waiting.then_some(socket)
    };
    table.lines().skip(1).filter_map(socket).collect()
}

/// An address as the kernel prints it: words of 32 bits in the processor's order.
fn address_of(text: &str) -> Option<IpAddr> {
    let word = |at: usize| {
        let word = text.get(at..at + 8)?;
        Some(u32::from_str_radix(word, 16).ok()?.to_ne_bytes())
    };
    match text.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut bytes = [0; 16];
            for (place, at) in bytes.chunks_exact_mut(4).zip([0, 8, 16, 24]) {
                place.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(bytes)))
        }
        _ => None,
    }
}

/// The programs that hold sockets.
fn holders(host: &dyn Host, sockets: &BTreeSet<u64>) -> Result<BTreeMap<u64, String>, Unseen> {
    let mut holders: BTreeMap<u64, BTreeSet<String>> = BTreeMap::new();
    let processes = host.names("/proc").map_err(|error| Unseen::file("/proc", &error))?;
    let mut looked = 0;
    for process in processes.iter().filter(|it| it.bytes().all(|it| it.is_ascii_digit())) {
        let directory = format!("/proc/{process}/fd");
        // It may be over by now.
        let Ok(open) = host.names(&directory) else { continue };
        looked += open.len();
        if looked > MOST_OPEN {
            return Err(Unseen::new(format!("processes hold more than {MOST_OPEN} open files")));
        }
        let mut executable = None;
        for file in open {
            let target = host.target(&format!("{directory}/{file}")).unwrap_or_default();
            let inode = target.strip_prefix("socket:[").and_then(|it| it.strip_suffix(']'));
            let Some(inode) = inode.and_then(|it| it.parse().ok()) else { continue };
            if sockets.contains(&inode) {
                let executable = executable.get_or_insert_with(|| executable_of(host, process));
                holders.entry(inode).or_default().insert(executable.clone());
            }
        }
    }
    let joined = |them: BTreeSet<String>| them.into_iter().collect::<Vec<_>>().join(", ");
    Ok(holders.into_iter().map(|(inode, them)| (inode, joined(them))).collect())
}

fn executable_of(host: &dyn Host, process: &str) -> String {
    let path = host.target(&format!("/proc/{process}/exe")).unwrap_or_default();
    // It was replaced while it ran: an update, and no other program.
    let path = path.strip_suffix(" (deleted)").unwrap_or(&path);
    if path.is_empty() { "unknown".to_owned() } else { path.to_owned() }
}

/// The paths of sockets in the file system that somebody listens on.
pub(super) fn listening_paths(host: &dyn Host) -> Result<Vec<String>, Unseen> {
    /// `__SO_ACCEPTCON` (linux/net.h).
    const LISTENS: u32 = 1 << 16;
    let path = "/proc/net/unix";
    let table = host.read(path).map_err(|error| Unseen::file(path, &error))?;
    let listening = |line: &str| {
        let mut fields = line.splitn(8, ' ').filter(|it| !it.is_empty());
        let flags = fields.nth(3)?;
        let path = line.split_once(" /").map(|(_, path)| format!("/{path}"))?;
        let listens = u32::from_str_radix(flags, 16).is_ok_and(|it| it & LISTENS != 0);
        listens.then_some(path)
    };
    let mut paths: Vec<_> = String::from_utf8_lossy(&table).lines().filter_map(listening).collect();
    paths.sort();
    paths.dedup();
    Ok(paths)
}

#[cfg(test)]
mod tests;
