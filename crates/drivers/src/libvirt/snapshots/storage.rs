//! Files beside disks, made and removed by the hypervisor itself: it may be another host, and they
//! are its user's.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

use super::error::HypervisorError;
use super::notes::{Format, KeptDisk, Overlay, pool_name};
use super::{Hypervisor, MINUTE};
use crate::libvirt::xml::{Element, escaped};

const MOST_POOLS: usize = 256;

/// What virsh says of a volume that is not there.
const NO_VOLUME: &str = "failed to get vol";

/// The pools of some directories; those that we had to make are given up when closed.
#[derive(Debug)]
pub(super) struct Storage<'a> {
    hypervisor: &'a Hypervisor,
    pools: BTreeMap<String, String>,
}

impl<'a> Storage<'a> {
    pub(super) fn of(hypervisor: &'a Hypervisor) -> Self {
        Self { hypervisor, pools: BTreeMap::new() }
    }

    /// Makes an overlay over what was kept of a disk, as large as that is.
    pub(super) fn create(
        &mut self,
        overlay: &Overlay,
        over: &KeptDisk,
    ) -> Result<(), HypervisorError> {
        let pool = self.pool(overlay.directory())?;
        let file = over.below.rsplit_once('/').map_or("", |(_, file)| file);
        let said = self.hypervisor.ask("vol-dumpxml", &["--pool", &pool, "--vol", file], None)?;
        let odd = |reason: String| HypervisorError::Odd { of: over.below.clone(), reason };
        let volume = Element::parse(&said).map_err(odd)?;
        // libvirt guesses formats; what a machine wrote into a raw disk must decide nothing.
        let size = match over.format {
            Format::Raw => "physical",
            Format::Qcow2 => "capacity",
        };
        let bytes = volume.child(size).filter(|it| it.attribute("unit") == Some("bytes"));
        let bytes = bytes.and_then(|bytes| bytes.text().parse::<u64>().ok());
        let bytes = bytes.ok_or_else(|| odd(format!("it has no {size}")))?;
        let volume = format!(
            "<volume type='file'><name>{}</name><capacity unit='bytes'>{bytes}</capacity>\
             <target><format type='qcow2'/><compat>1.1</compat>\
             <permissions><mode>0600</mode></permissions></target>\
             <backingStore><path>{}</path><format type='{}'/></backingStore></volume>",
            escaped(overlay.file()),
            escaped(&over.below),
            over.format.name(),
        );
        let arguments = ["--pool", &pool, "--file", "/dev/stdin"];
        self.hypervisor.ask("vol-create", &arguments, Some(&volume))?;
        Ok(())
    }

    /// Removes an overlay; one that is not there is removed already.
    pub(super) fn delete(&mut self, overlay: &Overlay) -> Result<(), HypervisorError> {
        let pool = self.pool(overlay.directory())?;
        match self.hypervisor.ask("vol-delete", &["--pool", &pool, "--vol", overlay.file()], None) {
            Err(error) if !error.says(NO_VOLUME) => Err(error.into()),
            _ => Ok(()),
        }
    }

    /// Gives up the pools that were made for this.
    pub(super) fn close(self) -> Result<(), HypervisorError> {
        for (directory, pool) in &self.pools {
            if *pool == own_pool(directory) {
                self.hypervisor.ask("pool-destroy", &["--pool", pool], None)?;
            }
        }
        Ok(())
    }

    /// The pool of a directory, as it is now. libvirt allows one for each.
    fn pool(&mut self, directory: &str) -> Result<String, HypervisorError> {
        if let Some(pool) = self.pools.get(directory) {
            return Ok(pool.clone());
        }
        let pool = match self.find(directory, &["--name"])? {
            Some(pool) => {
                self.hypervisor.ask_within("pool-refresh", &["--pool", &pool], None, 5 * MINUTE)?;
                pool
            }
            None if self.find(directory, &["--inactive", "--name"])?.is_some() => {
                return Err(HypervisorError::Pool { directory: directory.to_owned() });
            }
            None => {
                let name = own_pool(directory);
                let pool = format!(
                    "<pool type='dir'><name>{name}</name><target><path>{}</path></target></pool>",
                    escaped(directory),
                );
                self.hypervisor.ask_within(
                    "pool-create",
                    &["--file", "/dev/stdin"],
                    Some(&pool),
                    5 * MINUTE,
                )?;
                name
            }
        };
        self.pools.insert(directory.to_owned(), pool.clone());
        Ok(pool)
    }

    fn find(&self, directory: &str, which: &[&str]) -> Result<Option<String>, HypervisorError> {
        let names = self.hypervisor.ask("pool-list", which, None)?;
        for name in names.lines().map(str::trim).take(MOST_POOLS) {
            if name.is_empty() || name.starts_with('-') {
                continue;
            }
            let said = self.hypervisor.ask("pool-dumpxml", &["--pool", name], None)?;
            let odd = |reason| HypervisorError::Odd { of: name.to_owned(), reason };
            let pool = Element::parse(&said).map_err(odd)?;
            let path = pool.child("target").and_then(|target| target.child("path"));
            let is_it = path.is_some_and(|path| path.text().trim_end_matches('/') == directory);
            if is_it && matches!(pool.attribute("type"), Some("dir" | "fs" | "netfs")) {
                return Ok(Some(name.to_owned()));
            }
        }
        Ok(None)
    }
}

fn own_pool(directory: &str) -> String {
    let digest = Sha256::digest(directory.as_bytes());
    let number = digest.iter().take(8).fold(String::new(), |mut number, byte| {
        let _ = write!(number, "{byte:02x}");
        number
    });
    pool_name(&number)
}
