//! The domains that a libvirt host has, through libvirt's own `virsh`.

use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, anyhow, bail};
use domain::cloud::{Class, Name, RelationKind};

use crate::failure::helped;

use super::table::Item;

/// Label that keeps a domain's UUID: its name may change, and another host may have one of that name.
const UUID_LABEL: &str = "libvirt/uuid";

/// The domains of a libvirt connection as VMs, running or not; where a host is named, on it.
///
/// # Errors
/// If `virsh` is missing or cannot connect, or a domain has a name that cannot be an item's.
pub(crate) fn domains(uri: &str, host: Option<&str>) -> Result<Vec<Item>> {
    let output = Command::new("virsh")
        .args(["--readonly", "--connect", uri, "list", "--all", "--uuid", "--name"])
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .output()
        .map_err(|error| {
            let is_missing = error.kind() == std::io::ErrorKind::NotFound;
            let error = anyhow::Error::new(error).context("cannot run `virsh`");
            if is_missing {
                helped(error, "install libvirt's clients (`libvirt-clients`)")
            } else {
                error
            }
        })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let error = anyhow!("`virsh` cannot list the domains of `{uri}`: {}", said.trim());
        return Err(helped(error, "name a connection that `virsh --connect URI list` can use"));
    }
    let text = String::from_utf8(output.stdout).context("`virsh` answered with odd bytes")?;
    parse(&text, host)
}

/// Reads `UUID name` lines.
fn parse(text: &str, host: Option<&str>) -> Result<Vec<Item>> {
    let mut items = Vec::new();
    for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let Some((uuid, name)) = line.split_once(' ') else {
            bail!("`virsh` answered with an odd line: {line:?}");
        };
        let uuid = uuid::Uuid::parse_str(uuid)
            .with_context(|| format!("`virsh` answered with an odd line: {line:?}"))?;
        let name: Name = name.trim().parse().map_err(|error: domain::cloud::InvalidName| {
            let help = format!("rename the domain: {}", error.help());
            helped(anyhow::Error::new(error).context(format!("the domain {uuid}")), help)
        })?;
        let key = UUID_LABEL.parse().map_err(|error| anyhow!("{error}"))?;
        let relations =
            host.map(|host| (RelationKind::RunsOn, [host.to_owned()].into())).into_iter().collect();
        let labels = [(key, uuid.to_string())].into();
        items.push(Item { tenant: None, class: Class::Vm, name, labels, relations });
    }
    Ok(items)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn domains_become_vms_on_their_host() {
        let list = " 6695eb01-f6a4-8304-79aa-97f2502e193f test\n\
                    00000000-0000-0000-0000-000000000001  web 1  \n\n";

        let items = parse(list, Some("node-1")).unwrap();

        assert_eq!(items.len(), 2);
        assert_eq!((items[0].name.as_str(), items[1].name.as_str()), ("test", "web 1"));
        assert_eq!(
            items[0].labels[&UUID_LABEL.parse().unwrap()],
            "6695eb01-f6a4-8304-79aa-97f2502e193f"
        );
        assert_eq!(items[0].relations[&RelationKind::RunsOn], ["node-1".to_owned()].into());
        assert!(parse("x\n", None).is_err());
        assert!(parse("not-a-uuid web\n", None).is_err());
    }
}
