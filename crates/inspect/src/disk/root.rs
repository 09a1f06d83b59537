//! Finding the volume that holds the system.

use std::sync::Arc;

use domain::files::FileView;

use super::filesystem::{Content, recognise};
use super::{BlockRead, DiskError, Volume, partition};
use crate::os_release;
use crate::tree::{Ext4Tree, Tree};

/// The root filesystem of a disk.
#[derive(Debug)]
pub(crate) struct RootVolume {
    pub(crate) tree: Tree<Ext4Tree>,
    /// What the reader should know about the disk besides.
    pub(crate) notes: Vec<String>,
}

/// Looks through the volumes of a disk for the filesystem that says which system it is.
pub(crate) fn find_root(disk: Arc<dyn BlockRead>) -> Result<RootVolume, DiskError> {
    let mut volumes = partition::partitions(&disk)?;
    if volumes.is_empty() {
        volumes.push(Volume::whole(disk));
    }
    let mut search = Search::default();
    for volume in volumes {
        search.look_at(volume)?;
    }
    search.finish()
}

#[derive(Default)]
struct Search {
    roots: Vec<(String, Tree<Ext4Tree>)>,
    seen: Vec<String>,
    unread: Option<DiskError>,
    damaged: Option<DiskError>,
}

impl Search {
    fn look_at(&mut self, volume: Volume) -> Result<(), DiskError> {
        let name = volume.name().to_owned();
        let content = recognise(&volume)?;
        self.seen.push(format!("{name}: {}", content.name()));
        match content {
            Content::Ext => match Ext4Tree::open(Box::new(volume)) {
                Ok(tree) => {
                    let tree = Tree(tree);
                    if says_which_system(&tree) {
                        self.roots.push((name, tree));
                    }
                }
                Err(reason) => {
                    let damaged =
                        DiskError::DamagedFilesystem { filesystem: "ext4", volume: name, reason };
                    self.damaged.get_or_insert(damaged);
                }
            },
            Content::Unread(filesystem) => {
                let unread = DiskError::UnsupportedFilesystem { volume: name, filesystem };
                self.unread.get_or_insert(unread);
            }
            Content::NoSystem(_) | Content::Unknown => {}
        }
        Ok(())
    }

    fn finish(self) -> Result<RootVolume, DiskError> {
        let mut roots = self.roots.into_iter();
        let Some((name, tree)) = roots.next() else {
            // A damaged filesystem is the likelier root than one we cannot read; either is a
            // better answer than "nothing found".
            return Err(self
                .damaged
                .or(self.unread)
                .unwrap_or(DiskError::NoRoot { volumes: self.seen }));
        };
        let mut notes = tree.0.notes().to_vec();
        let others: Vec<String> = roots.map(|(other, _)| other).collect();
        if !others.is_empty() {
            notes.push(format!(
                "{name} was read; {} hold{} a system too",
                others.join(", "),
                if others.len() == 1 { "s" } else { "" }
            ));
        }
        Ok(RootVolume { tree, notes })
    }
}

fn says_which_system(files: &dyn FileView) -> bool {
    os_release::PATHS.iter().any(|path| matches!(files.read(path, 1 << 20), Ok(Some(_))))
}
