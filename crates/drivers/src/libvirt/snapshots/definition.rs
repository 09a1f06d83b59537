//! What libvirt says of a domain, and the same with other files for its disks.

use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, Writer, XmlVersion};

use super::notes::{Format, NAMESPACE, Notes, Overlay, is_absolute, is_target};
use crate::libvirt::xml::Element;

const MOST_DISKS: usize = 64;

/// A domain, as it runs or as it will be started next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Definition {
    pub(super) name: String,
    pub(super) uuid: String,
    /// QEMU has it open now.
    pub(super) runs: bool,
    pub(super) disks: Vec<Disk>,
    pub(super) notes: Notes,
    /// A guest agent has its end of the channel open.
    pub(super) hears_agent: bool,
}

/// A disk of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Disk {
    pub(super) target: String,
    pub(super) use_: Use,
    /// The file that it is, and those below as far as they are told. None of what is no file.
    pub(super) layers: Vec<Layer>,
    pub(super) mirror: Option<Mirror>,
}

/// Whether a disk can be kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Use {
    /// The machine writes to it.
    Written,
    /// The machine only reads it.
    Read,
    /// The machine writes to it, and it is nothing that we can keep, as the rest of a sentence.
    Unfit(&'static str),
}

/// A file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Layer {
    pub(super) file: String,
    pub(super) format: String,
}

/// A copy of a disk that is being made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mirror {
    Behind,
    Ready,
}

impl Disk {
    /// The file that it is.
    pub(super) fn top(&self) -> Option<&Layer> {
        self.layers.first()
    }

    /// Whether a file is it, or below.
    pub(super) fn lies_on(&self, file: &str) -> bool {
        self.layers.iter().any(|layer| layer.file == file)
    }

    /// How the file that it is can be written over.
    pub(super) fn format(&self) -> Option<Format> {
        Format::parse(&self.top()?.format)
    }
}

impl Definition {
    pub(super) fn parse(document: &str) -> Result<Self, String> {
        let domain = Element::parse(document)?;
        let text = |name: &str| {
            let found = domain.child(name).map(|child| child.text().to_owned());
            found.filter(|text| !text.is_empty()).ok_or_else(|| format!("it has no {name}"))
        };
        let devices = domain.child("devices").ok_or("it has no devices")?;
        let disks: Vec<_> = devices.all("disk").map(disk).collect::<Result<_, _>>()?;
        if disks.len() > MOST_DISKS {
            return Err(format!("it has more than {MOST_DISKS} disks"));
        }
        let uuid = text("uuid")?;
        if uuid.len() != 36 || !uuid.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
            return Err("its uuid is none".to_owned());
        }
        let hears_agent = devices.all("channel").any(|channel| {
            channel.child("target").is_some_and(|target| {
                target.attribute("name") == Some("org.qemu.guest_agent.0")
                    && target.attribute("state") == Some("connected")
            })
        });
        let notes = Notes::of(domain.child("metadata"), &uuid)?;
        let runs = domain.attribute("id").is_some();
        Ok(Self { name: text("name")?, uuid, runs, disks, notes, hears_agent })
    }

    /// A disk by its target.
    pub(super) fn disk(&self, target: &str) -> Option<&Disk> {
        self.disks.iter().find(|disk| disk.target == target)
    }
}

fn disk(element: &Element) -> Result<Disk, String> {
    let target = element.child("target").and_then(|target| target.attribute("dev"));
    let target = target.filter(|name| is_target(name)).ok_or("a disk has no target")?.to_owned();
    let mut layers = Vec::new();
    let mut place = Some(element);
    while let Some(layer) = place {
        let Some(file) = layer.child("source").and_then(|source| source.attribute("file")) else {
            break;
        };
        // The domain's disk says it with its driver, what is below with an element of its own.
        let of = layer.child("driver").or_else(|| layer.child("format"));
        let format = of.and_then(|of| of.attribute("type")).unwrap_or("raw");
        layers.push(Layer { file: file.to_owned(), format: format.to_owned() });
        place = layer.child("backingStore");
    }
    let mirror = element.child("mirror").map(|mirror| match mirror.attribute("ready") {
        Some("yes") => Mirror::Ready,
        _ => Mirror::Behind,
    });
    Ok(Disk { target, use_: use_of(element, &layers), layers, mirror })
}

fn use_of(disk: &Element, layers: &[Layer]) -> Use {
    match disk.attribute("device").unwrap_or("disk") {
        "cdrom" | "floppy" => return Use::Read,
        "disk" if disk.child("readonly").is_some() => return Use::Read,
        "disk" => {}
        _ => return Use::Unfit("is handed through from the host"),
    }
    match disk.attribute("type") {
        Some("file") => {}
        Some("network") => return Use::Unfit("lies in a network"),
        Some("block") => return Use::Unfit("is a block device of the host"),
        _ => return Use::Unfit("is not a file"),
    }
    let has = |name: &str| {
        disk.child(name).is_some() || disk.child("source").is_some_and(|s| s.child(name).is_some())
    };
    if has("shareable") {
        return Use::Unfit("is shared with other machines");
    }
    if has("transient") {
        return Use::Unfit("forgets by itself");
    }
    if has("encryption") {
        return Use::Unfit("is encrypted, and what is written to an overlay would not be");
    }
    if has("slices") {
        return Use::Unfit("is a part of a file");
    }
    match layers.first() {
        Some(top) if !is_absolute(&top.file) => Use::Unfit("has no plain absolute path"),
        Some(top) if Format::parse(&top.format).is_none() => Use::Unfit("is neither raw nor qcow2"),
        Some(_) => Use::Written,
        None => Use::Unfit("has no file"),
    }
}

/// The same definition with other notes, and other files for the disks with these targets. What
/// else stands in it stays as it is, byte by byte.
pub(super) fn switched(
    document: &str,
    disks: &[(String, Overlay)],
    notes: &Notes,
) -> Result<String, String> {
    let targets: Vec<_> =
        Definition::parse(document)?.disks.into_iter().map(|disk| disk.target).collect();
    let mut reader = Reader::from_str(document);
    let mut writer = Writer::new(Vec::with_capacity(document.len() + 4096));
    let (mut path, mut number, mut switched): (Vec<String>, usize, usize) = (Vec::new(), 0, 0);
    let mut is_written = false;
    loop {
        let mut event = reader.read_event().map_err(|error| error.to_string())?;
        let place = path.join("/");
        let start = match &event {
            Event::Start(start) | Event::Empty(start) => {
                Some(String::from_utf8_lossy(start.name().as_ref()).into_owned())
            }
            _ => None,
        };
        let place = match &start {
            Some(name) if place.is_empty() => name.clone(),
            Some(name) => format!("{place}/{name}"),
            None => place,
        };
        if let Event::Start(start) | Event::Empty(start) = &event
            && place.starts_with("domain/metadata/")
            && path.len() == 2
            && is_ours(start)
        {
            if let Event::Start(start) = &event {
                let end = start.to_end().into_owned();
                reader.read_to_end(end.name()).map_err(|error| error.to_string())?;
            }
            continue;
        }
        if place == "domain/devices/disk/source" && start.is_some() {
            let target = targets.get(number).map_or("", String::as_str);
            if let Some((_, overlay)) = disks.iter().find(|(disk, _)| disk == target) {
                event = match event {
                    Event::Start(start) => Event::Start(with_file(&start, &overlay.path())?),
                    Event::Empty(start) => Event::Empty(with_file(&start, &overlay.path())?),
                    other => other,
                };
                switched += 1;
            }
        }
        match &event {
            Event::Start(_) => path.push(start.unwrap_or_default()),
            Event::End(_) => {
                if place == "domain/metadata" {
                    let own = Event::Text(quick_xml::events::BytesText::from_escaped(notes.xml()));
                    writer.write_event(own).map_err(|error| error.to_string())?;
                    is_written = true;
                }
                number += usize::from(place == "domain/devices/disk");
                path.pop();
            }
            Event::Eof => break,
            _ => {}
        }
        writer.write_event(event).map_err(|error| error.to_string())?;
    }
    if switched != disks.len() || !is_written {
        return Err("its disks and our notes are not where they were".to_owned());
    }
    String::from_utf8(writer.into_inner()).map_err(|error| error.to_string())
}

fn is_ours(start: &BytesStart<'_>) -> bool {
    start.attributes().flatten().any(|attribute| {
        attribute.key.as_ref().starts_with(b"xmlns:")
            && attribute.value.as_ref() == NAMESPACE.as_bytes()
    })
}

/// The same tag with another `file`.
fn with_file(start: &BytesStart<'_>, file: &str) -> Result<BytesStart<'static>, String> {
    let name = String::from_utf8_lossy(start.name().as_ref()).into_owned();
    let mut other = BytesStart::new(name);
    for attribute in start.attributes() {
        let attribute = attribute.map_err(|error| error.to_string())?;
        let key = String::from_utf8_lossy(attribute.key.as_ref()).into_owned();
        let value = attribute
            .normalized_value(XmlVersion::Implicit1_0)
            .map_err(|error| error.to_string())?;
        let value = if key == "file" { file } else { value.as_ref() };
        other.push_attribute((key.as_str(), value));
    }
    Ok(other)
}

#[cfg(test)]
mod tests {
    use super::super::notes::Task;
    use super::*;
    use crate::snapshots::SnapshotName;

    const MACHINE: &str = "01de6d04-5ee2-4379-a8fb-7931c8e956cb";

    fn domain(metadata: &str, devices: &str) -> String {
        format!(
            "<domain type='kvm'>\n  <name>web &amp; 1</name>\n  <uuid>{MACHINE}</uuid>\n  \
             <metadata>{metadata}</metadata>\n  <devices>{devices}<graphics passwd='&lt;x'/>\
             </devices>\n</domain>\n"
        )
    }

    fn use_of(disk: &str) -> Use {
        let disk = disk.replace("</disk>", "<target dev='vda' bus='virtio'/></disk>");
        Definition::parse(&domain("", &disk)).unwrap().disks[0].use_
    }

    #[test]
    fn what_a_machine_only_reads_is_left_alone_and_what_cannot_be_kept_has_a_reason() {
        let file = "<driver name='qemu' type='qcow2'/><source file='/a'/>";
        let disk = |more: &str| use_of(&format!("<disk type='file'>{file}{more}</disk>"));
        assert_eq!(disk(""), Use::Written);
        assert_eq!(disk("<readonly/>"), Use::Read);
        assert_eq!(use_of("<disk type='file' device='cdrom'></disk>"), Use::Read);

        for unfit in [
            disk("<shareable/>"),
            disk("<transient/>"),
            disk("<encryption format='luks'/>"),
            use_of("<disk type='network'><source protocol='rbd' name='a'/></disk>"),
            use_of("<disk type='block'><source dev='/dev/sda'/></disk>"),
            use_of("<disk type='volume'><source pool='a' volume='b'/></disk>"),
            use_of("<disk type='block' device='lun'><source dev='/dev/sda'/></disk>"),
            use_of("<disk type='file'></disk>"),
            use_of("<disk type='file'><source file='a'/></disk>"),
            use_of("<disk type='file'><source file='/a/../b'/></disk>"),
            use_of("<disk type='file'><driver type='vmdk'/><source file='/a'/></disk>"),
            use_of("<disk type='file'><source file='/a'><slices/></source></disk>"),
        ] {
            assert!(matches!(unfit, Use::Unfit(_)), "{unfit:?}");
        }
    }

    #[test]
    fn the_files_below_a_disk_and_its_mirror_are_seen() {
        let disk = "<disk type='file'><driver type='qcow2'/><source file='/c'/>\
                    <backingStore type='file'><format type='qcow2'/><source file='/b'/>\
                    <backingStore type='file'><format type='raw'/><source file='/a'/>\
                    <backingStore/></backingStore></backingStore>\
                    <mirror job='active-commit' ready='yes'/><target dev='vda'/></disk>\
                    <channel><target name='org.qemu.guest_agent.0' state='connected'/></channel>";
        let definition = Definition::parse(&domain("", disk)).unwrap();

        let seen = definition.disk("vda").unwrap();
        assert_eq!(seen.top().unwrap().file, "/c");
        assert!(seen.lies_on("/a") && !seen.lies_on("/d"));
        assert_eq!(seen.layers[2].format, "raw");
        assert_eq!(seen.mirror, Some(Mirror::Ready));
        assert!(definition.hears_agent);
        assert_eq!(definition.name, "web & 1");
    }

    #[test]
    fn only_the_files_of_disks_and_our_notes_are_altered() {
        let name = SnapshotName::new("1").unwrap();
        let devices = "<disk type='file'>\n  <source file='/a &amp; b' startupPolicy='optional'>\
                       <seclabel model='dac'/></source><backingStore type='file'><source file='/0'/>\
                       </backingStore><target dev='vda'/></disk>\
                       <disk type='file'><source file='/b'/><target dev='vdb'/></disk>";
        let old = Notes { task: Some(Task::Start { name: name.clone() }), ..Notes::default() };
        let document = domain(&format!("<x:y xmlns:x='urn:x'><z/></x:y>{}", old.xml()), devices);
        let fresh = Overlay::beside("/a", &name, MACHINE, 7, "vda").unwrap();
        let notes = Notes { waste: vec![fresh.clone()], ..Notes::default() };

        let altered = switched(&document, &[("vda".to_owned(), fresh.clone())], &notes).unwrap();

        let expected = document
            .replace(
                "<source file='/a &amp; b' startupPolicy='optional'>",
                &format!("<source file=\"{}\" startupPolicy=\"optional\">", fresh.path()),
            )
            .replace(&old.xml(), &notes.xml());
        assert_eq!(altered, expected);
        assert_eq!(Definition::parse(&altered).unwrap().notes, notes);
        assert!(switched(&document, &[("vdz".to_owned(), fresh)], &notes).is_err());
    }
}
