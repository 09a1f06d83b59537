//! Volumes of a libvirt's storage pools as images, read and never altered.
//!
//! Only files in directories count (pools of the types `dir`, `fs`, `netfs`): of nothing else does
//! libvirt tell when it was written to. When that was is the file's own time of change (`ctime`),
//! which whoever writes to it cannot set.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use lab::Format;

use super::snapshots::{Hypervisor, HypervisorError};
use super::virsh;
use super::xml::Element;
use crate::clock::Clock;
use crate::images::{
    FETCH, Fitness, ImageStore, ImageStoreError, MOST_IMAGES, Sink, StoredImage, shown,
};

/// What virsh says of a volume that is not there.
const NO_VOLUME: &str = "failed to get vol";

/// A pool on the network is read anew for a while.
const REFRESH: Duration = Duration::from_secs(300);

/// How long each volume of a pool may be asked about: over SSH each is a connection of its own.
const LIST: Duration = Duration::from_secs(600);

/// Some pools of a libvirt, here or on another host.
#[derive(Debug)]
pub struct VolumePools {
    hypervisor: Hypervisor,
    pools: Vec<String>,
    clock: Arc<dyn Clock>,
}

impl VolumePools {
    /// Names a libvirt by its address, as [`Hypervisor::open`] does, and its pools that hold images:
    /// in others are the disks of machines. It is not asked anything yet.
    ///
    /// # Errors
    /// What is no address, or no name of a pool.
    pub fn open(
        uri: &str,
        pools: Vec<String>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, HypervisorError> {
        let hypervisor = Hypervisor::open(uri, Arc::clone(&clock))?;
        let odd =
            |of: String| HypervisorError::Odd { of, reason: "it is no pool's name".to_owned() };
        if let Some(pool) = pools.iter().find(|pool| !is_name(pool)) {
            return Err(odd(shown(pool)));
        }
        if pools.is_empty() {
            return Err(odd(String::new()));
        }
        Ok(Self { hypervisor, pools, clock })
    }

    /// Where a pool's files are, where they are files in a directory; else what it is.
    fn directory(&self, pool: &str) -> Result<Result<String, String>, ImageStoreError> {
        let said = self.hypervisor.ask("pool-dumpxml", &["--pool", pool], None)?;
        let told = Element::parse(&said).map_err(|reason| odd(pool, reason))?;
        if told.child("name").map(Element::text) != Some(pool) {
            return Err(odd(pool, "it is another pool".to_owned()));
        }
        let kind = told.attribute("type").unwrap_or("untold");
        if !matches!(kind, "dir" | "fs" | "netfs") {
            return Ok(Err(format!("lies in a pool of the type `{}`", shown(kind))));
        }
        let path = told.child("target").and_then(|target| target.child("path"));
        let path = path.map(|path| path.text().trim_end_matches('/').to_owned());
        path.map(Ok).ok_or_else(|| odd(pool, "it is nowhere".to_owned()))
    }

    fn refresh(&self, pool: &str) -> Result<(), ImageStoreError> {
        self.hypervisor.ask_within("pool-refresh", &["--pool", pool], None, REFRESH)?;
        Ok(())
    }

    /// What libvirt tells of a volume; nothing where there is none.
    fn volume(
        &self,
        pool: &str,
        name: &str,
        directory: &Result<String, String>,
    ) -> Result<Option<StoredImage>, ImageStoreError> {
        let arguments = ["--pool", pool, "--vol", name];
        let said = match self.hypervisor.ask("vol-dumpxml", &arguments, None) {
            Err(error) if error.says(NO_VOLUME) => return Ok(None),
            other => other?,
        };
        let id = format!("{pool}/{name}");
        let volume = Element::parse(&said).map_err(|reason| odd(&id, reason))?;
        // virsh also takes keys and paths.
        if volume.child("name").map(Element::text) != Some(name) {
            return Ok(None);
        }
        let fitness = match directory {
            Ok(_) => fitness(&volume),
            Err(because) => Err(because.clone()),
        };
        let fitness = fitness.unwrap_or_else(|because| Fitness::Unfit { because });
        Ok(Some(StoredImage { id, name: shown(name), size: bytes(&volume, "physical"), fitness }))
    }

    fn find(&self, id: &str) -> Result<StoredImage, ImageStoreError> {
        let none = || ImageStoreError::NoImage { image: shown(id) };
        let (pool, name) = id.split_once('/').ok_or_else(none)?;
        if !self.pools.iter().any(|known| known == pool) || !is_name(name) {
            return Err(none());
        }
        let directory = self.directory(pool)?;
        if let Some(found) = self.volume(pool, name, &directory)? {
            return Ok(found);
        }
        // It may have come since libvirt looked.
        self.refresh(pool)?;
        self.volume(pool, name, &directory)?.ok_or_else(none)
    }
}

impl ImageStore for VolumePools {
    fn kind(&self) -> &'static str {
        "libvirt"
    }

    fn list(&self) -> Result<Vec<StoredImage>, ImageStoreError> {
        let mut found = Vec::new();
        for pool in &self.pools {
            let directory = self.directory(pool)?;
            self.refresh(pool)?;
            let said = self.hypervisor.ask("vol-list", &["--pool", pool], None)?;
            let began = self.clock.now();
            for name in said.lines().filter_map(|line| name(line, directory.as_deref().ok())) {
                let seconds = LIST.as_secs();
                if self.clock.now().saturating_sub(began) > LIST {
                    let command = "vol-dumpxml";
                    return Err(super::LibvirtError::Hangs { command, seconds }.into());
                }
                found.extend(self.volume(pool, name, &directory)?);
                if found.len() > MOST_IMAGES {
                    return Err(ImageStoreError::TooMany);
                }
            }
        }
        Ok(found)
    }

    fn look(&self, id: &str) -> Result<StoredImage, ImageStoreError> {
        self.find(id)
    }

    fn fetch(&self, image: &StoredImage, to: &Path, largest: u64) -> Result<(), ImageStoreError> {
        let (format, wanted) = image.wanted(largest)?;
        let altered = || ImageStoreError::Altered { image: image.id.clone() };
        if self.find(&image.id)? != *image {
            return Err(altered());
        }
        let (pool, name) = image.id.split_once('/').ok_or_else(altered)?;
        let mut sink = Sink::new(&image.id, to, wanted, None)?;
        let arguments = ["--pool", pool, "--vol", name, "--file", "/dev/stdout"];
        let uri = self.hypervisor.uri();
        virsh::stream(uri, "vol-download", &arguments, FETCH, |piece| sink.take(piece))?;
        // Half of the old and half of the new is neither.
        if self.find(&image.id)? != *image {
            return Err(altered());
        }
        sink.finish(format, None)
    }
}

fn odd(of: &str, reason: String) -> ImageStoreError {
    HypervisorError::Odd { of: shown(of), reason }.into()
}

/// What virsh takes for a name and for nothing else.
fn is_name(name: &str) -> bool {
    (1..=255).contains(&name.len())
        && !name.starts_with('-')
        && !name.chars().any(|it| it.is_control() || it == '/')
}

/// The name in a line of `vol-list`, which has the path behind it; names may have spaces. Of other
/// pools, the first word.
fn name<'a>(line: &'a str, directory: Option<&str>) -> Option<&'a str> {
    let line = line.trim();
    let Some(directory) = directory else {
        return line.split_whitespace().next().filter(|name| is_name(name));
    };
    line.match_indices(directory).find_map(|(at, _)| {
        let name = line[..at].trim_end();
        let path = line[at + directory.len()..].strip_prefix('/')?;
        (path == name && is_name(name)).then_some(name)
    })
}

fn bytes(volume: &Element, of: &str) -> Option<u64> {
    let told = volume.child(of).filter(|it| it.attribute("unit") == Some("bytes"))?;
    told.text().parse().ok()
}

fn fitness(volume: &Element) -> Result<Fitness, String> {
    if volume.attribute("type") != Some("file") {
        return Err("is no file".to_owned());
    }
    let backing = volume.child("backingStore").and_then(|it| it.child("path"));
    if backing.is_some_and(|path| !path.text().is_empty()) {
        return Err("is an overlay over another image".to_owned());
    }
    let target = volume.child("target").ok_or("is nowhere")?;
    if target.child("encryption").is_some() {
        return Err("is encrypted".to_owned());
    }
    let format = target.child("format").and_then(|it| it.attribute("type")).unwrap_or("untold");
    let format = match format {
        "raw" => Format::Raw,
        "qcow2" => Format::Qcow2,
        other => return Err(format!("has the format `{}`", shown(other))),
    };
    let times = target.child("timestamps");
    let time = |of: &str| {
        let told = times.and_then(|it| it.child(of)).map(Element::text).unwrap_or_default();
        let is_time = |it: char| it.is_ascii_digit() || it == '.';
        let is_one = (1..=40).contains(&told.len()) && told.chars().all(is_time);
        if is_one { Ok(told) } else { Err("does not tell when it altered") }
    };
    let size = bytes(volume, "physical").ok_or("does not tell how long it is")?;
    let (changed, written) = (time("ctime")?, time("mtime")?);
    Ok(Fitness::Fit { format, version: format!("changed {changed} written {written} size {size}") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_told_from_paths_whatever_they_are() {
        for (line, wanted) in [
            (" web.raw      /srv/images/web.raw", Some("web.raw")),
            (" a b, c'.raw   /srv/images/a b, c'.raw ", Some("a b, c'.raw")),
            (" x /srv/images   /srv/images/x /srv/images", None),
            (" --all   /srv/images/--all", None),
            (" web.raw   /srv/other/web.raw", None),
            ("", None),
        ] {
            assert_eq!(name(line, Some("/srv/images")), wanted, "{line}");
        }
        assert_eq!(name(" lv1   /dev/vg/lv1", None), Some("lv1"));
    }

    fn volume(kind: &str, target: &str) -> Result<Fitness, String> {
        let document = format!(
            "<volume type='{kind}'><name>a</name><physical unit='bytes'>10</physical>{target}</volume>"
        );
        fitness(&Element::parse(&document).unwrap())
    }

    #[test]
    fn what_cannot_be_read_or_does_not_tell_when_it_altered_is_left_out() {
        let times = "<timestamps><atime>9</atime><mtime>1.5</mtime><ctime>2</ctime></timestamps>";
        let target = |format: &str, more: &str| {
            format!("<target><path>/x</path><format type='{format}'/>{more}</target>")
        };
        let version = "changed 2 written 1.5 size 10".to_owned();
        let fit = Fitness::Fit { format: Format::Qcow2, version };
        assert_eq!(volume("file", &target("qcow2", times)), Ok(fit));
        let encrypted = format!("{times}<encryption format='luks'/>");
        let backing =
            format!("<backingStore><path>/b</path></backingStore>{}", target("raw", times));
        for (kind, target, because) in [
            ("file", target("vmdk", times), "has the format `vmdk`"),
            ("file", target("raw", ""), "does not tell when it altered"),
            ("file", target("raw", &encrypted), "is encrypted"),
            ("file", backing, "is an overlay over another image"),
            ("block", target("raw", times), "is no file"),
            ("file", String::new(), "is nowhere"),
        ] {
            assert_eq!(volume(kind, &target), Err(because.to_owned()), "{target}");
        }
    }

    #[test]
    fn only_pools_that_were_named_are_asked() {
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock::default());
        let open = |pools: &[&str]| {
            let pools = pools.iter().map(ToString::to_string).collect();
            VolumePools::open("qemu:///session", pools, Arc::clone(&clock))
        };
        for pools in [&[][..], &["--all"], &["a/b"], &[""]] {
            assert!(open(pools).is_err(), "{pools:?}");
        }
        let store = open(&["images"]).unwrap();
        for id in
            ["", "images", "other/web.raw", "images/", "images/--all", "images/../x", "images/a/b"]
        {
            let refused = store.look(id).unwrap_err();
            assert!(matches!(refused, ImageStoreError::NoImage { .. }), "{id}: {refused}");
        }
    }
}
