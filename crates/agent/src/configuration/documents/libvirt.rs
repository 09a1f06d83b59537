//! Definitions of guests that libvirt keeps on this host.

use super::Pages;
use super::host::{Host, Question};
use super::page::{Unseen, line};

/// The system's own guests, for whom may only read.
const VIRSH: [&str; 4] = ["virsh", "-r", "-c", "qemu:///system"];

/// Most guests.
const MOST: usize = 500;

/// The definition of each guest, as it is at its next start.
pub(super) fn guests(host: &dyn Host) -> Pages {
    // Where none of these is, nobody keeps guests here.
    let is_there = ["/run/libvirt", "/etc/libvirt/qemu"].iter().any(|it| host.status(it).is_ok());
    if !is_there {
        return Ok([].into());
    }
    let argv = [&VIRSH[..], &["list", "--all", "--name"]].concat();
    let names = host.ask(&Question::new(&argv))?.told("virsh")?;
    let names: Vec<_> = names.lines().map(str::trim).filter(|it| !it.is_empty()).collect();
    if names.len() > MOST {
        return Err(Unseen::new(format!("there are more than {MOST} guests")));
    }
    let page = |name: &str| {
        // A name that looks like an option is none.
        let argv = [&VIRSH[..], &["dumpxml", "--inactive", "--domain", name]].concat();
        let text = host.ask(&Question::new(&argv))?.told("virsh")?;
        Ok(definition(&text))
    };
    Ok(names.into_iter().map(|name| (format!("policy:libvirt/{name}"), page(name))).collect())
}

/// As libvirt writes it, in its order; a line of it stays one.
fn definition(xml: &str) -> String {
    xml.lines().map(str::trim_end).filter(|it| !it.is_empty()).fold(
        String::new(),
        |mut text, it| {
            text.push_str(&line(it));
            text.push('\n');
            text
        },
    )
}

#[cfg(test)]
mod tests;
