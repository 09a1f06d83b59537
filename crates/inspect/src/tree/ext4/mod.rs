//! ext2, ext3 and ext4, read-only, straight from the blocks (kernel documentation,
//! `filesystems/ext4/`).
//!
//! Only what a question needs is read: no table is loaded up front, a name costs its directory,
//! a file costs its blocks. Nothing is mounted and no rights are needed. A journal that was not
//! replayed (a snapshot of a running VM) is replayed in memory.
//!
//! Hostile filesystems are bounded by construction: extent trees have at most five levels,
//! directories and link targets a greatest size, and no loop runs longer than the bytes it was
//! asked for. Checksums of metadata are not verified: they find bit rot, not attackers.

mod blocks;
mod directory;
mod inline;
mod inode;
mod journal;
mod superblock;
#[cfg(test)]
mod tests;

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::walk::Attributes;
use super::{Answer, Child, Named, NodeError, Nodes};
use crate::disk::BlockRead;
use directory::Names;
use inode::{Inode, Kind};
use journal::Replay;
use superblock::Superblock;

/// Blocks of metadata kept (inode tables, extents, directories).
const CACHE_BYTES: usize = 8 << 20;

/// Largest directory read: some 100,000 names.
const MAX_DIRECTORY: u64 = 4 << 20;

/// Directories kept with an index of their names.
const KEPT_DIRECTORIES: usize = 8;

/// Bytes of directories read in all; links in large directories could ask for more and more.
const MAX_DIRECTORY_WORK: u64 = 1 << 30;

/// Longest link target (`PATH_MAX`).
const MAX_LINK: u64 = 4096;

/// The inode of the root directory.
const ROOT: u32 = 2;

/// What is wrong with a filesystem, in words.
pub(crate) type Damage = String;

/// An opened filesystem.
#[derive(Debug)]
pub(crate) struct Ext4Tree {
    disk: Box<dyn BlockRead>,
    superblock: Superblock,
    replay: Replay,
    cache: Mutex<HashMap<u64, Arc<[u8]>>>,
    directories: Mutex<VecDeque<(u32, Arc<Names>)>>,
    directory_work: AtomicU64,
    root: Arc<Inode>,
    notes: Vec<String>,
}

impl Ext4Tree {
    pub(crate) fn open(disk: Box<dyn BlockRead>) -> Result<Self, Damage> {
        let superblock = Superblock::read(&*disk)?;
        let mut tree = Self {
            disk,
            superblock,
            replay: Replay::default(),
            cache: Mutex::default(),
            directories: Mutex::default(),
            directory_work: AtomicU64::new(0),
            root: Arc::new(Inode::empty_directory()),
            notes: Vec::new(),
        };
        if let Some(inode) = tree.superblock.journal_to_replay {
            let (replay, notes) = journal::replay(&tree, inode)?;
            (tree.replay, tree.notes) = (replay, notes);
            // What was read on the way is as old as the journal is new.
            tree.cache = Mutex::default();
        }
        tree.root = Arc::new(tree.inode(ROOT)?);
        if tree.root.kind != Kind::Directory {
            return Err("the root inode is no directory".to_owned());
        }
        Ok(tree)
    }

    /// What the reader should know about the filesystem.
    pub(crate) fn notes(&self) -> &[String] {
        &self.notes
    }

    /// One block through the cache; `block` counts from the filesystem's beginning.
    fn block(&self, block: u64) -> Result<Arc<[u8]>, Damage> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(content) = cache.get(&block) {
            return Ok(Arc::clone(content));
        }
        let mut content = vec![0; self.superblock.block_size_usize()];
        self.read_blocks(block, &mut content)?;
        let content: Arc<[u8]> = content.into();
        if (cache.len() + 1).saturating_mul(content.len()) > CACHE_BYTES {
            cache.clear();
        }
        cache.insert(block, Arc::clone(&content));
        Ok(content)
    }

    /// Reads contiguous blocks, with what the journal has newer. `content` may end within a block.
    fn read_blocks(&self, first: u64, content: &mut [u8]) -> Result<(), Damage> {
        let size = self.superblock.block_size_usize();
        let count = content.len().div_ceil(size) as u64;
        let end = first.checked_add(count).filter(|&end| end <= self.superblock.blocks);
        let Some(end) = end else {
            return Err(format!(
                "block {first} is asked for, but there are {}",
                self.superblock.blocks
            ));
        };
        self.disk
            .read_at(first * self.superblock.block_size, content)
            .map_err(|error| error.to_string())?;
        for (block, newer) in self.replay.within(first, end) {
            let at = usize::try_from(block - first).unwrap_or(usize::MAX) * size;
            let piece = &mut content[at..];
            let length = piece.len().min(size);
            newer.read(&*self.disk, self.superblock.block_size, &mut piece[..length])?;
        }
        Ok(())
    }

    fn inode(&self, number: u32) -> Result<Inode, Damage> {
        let (table_block, offset) = self.inode_place(number)?;
        let size = self.superblock.block_size_usize();
        let block = self.block(table_block.saturating_add((offset / size) as u64))?;
        let at = offset % size;
        let bytes = block
            .get(at..)
            .and_then(|rest| rest.get(..self.superblock.inode_size))
            .ok_or_else(|| format!("inode {number} is cut off"))?;
        Inode::parse(number, bytes)
    }

    /// First block of the inode table, and the inode's offset in it.
    fn inode_place(&self, number: u32) -> Result<(u64, usize), Damage> {
        let index = number.checked_sub(1).filter(|_| number <= self.superblock.inodes).ok_or_else(
            || format!("inode {number} is asked for, but there are {}", self.superblock.inodes),
        )?;
        let group = index / self.superblock.inodes_per_group;
        let within = index % self.superblock.inodes_per_group;
        let (block, at) = self.superblock.descriptor_place(group);
        let descriptors = self.block(block)?;
        let table = self
            .superblock
            .inode_table(&descriptors, at)
            .ok_or_else(|| format!("the descriptor of group {group} is cut off"))?;
        Ok((table, within as usize * self.superblock.inode_size))
    }

    /// The content of an inode that is known not to be larger than the caller can bear.
    fn content(&self, inode: &Inode) -> Result<Vec<u8>, Damage> {
        if inode.is_encrypted() {
            return Err("it is encrypted".to_owned());
        }
        if inode.is_inline() {
            return inline::content(inode);
        }
        blocks::content(self, inode)
    }

    /// The names in a directory, read once and kept for a while.
    fn names(&self, directory: &Inode) -> Result<Arc<Names>, Damage> {
        let mut kept = self.directories.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, names)) = kept.iter().find(|(number, _)| *number == directory.number) {
            return Ok(Arc::clone(names));
        }
        if directory.size > MAX_DIRECTORY {
            return Err(format!("a directory of {} bytes is beyond reason", directory.size));
        }
        if self.directory_work.fetch_add(directory.size, Ordering::Relaxed) > MAX_DIRECTORY_WORK {
            return Err("its directories are too large and too entangled".to_owned());
        }
        let content = self.content(directory)?;
        let names = if directory.is_inline() {
            directory::inline_names(&content, self.superblock.typed_entries)?
        } else {
            let block_size = self.superblock.block_size_usize();
            directory::names(&content, block_size, self.superblock.typed_entries)?
        };
        let names = Arc::new(names);
        if kept.len() == KEPT_DIRECTORIES {
            kept.pop_front();
        }
        kept.push_back((directory.number, Arc::clone(&names)));
        Ok(names)
    }

    fn child_of(&self, number: u32) -> Result<Child<Arc<Inode>, Arc<Inode>>, Damage> {
        let inode = Arc::new(self.inode(number)?);
        Ok(match inode.kind {
            Kind::Directory => Child::Directory(inode),
            Kind::File => Child::File(inode),
            Kind::Link => Child::Link(self.link_target(&inode)?),
            Kind::Other => Child::Other,
        })
    }
}

impl Nodes for Ext4Tree {
    type Directory = Arc<Inode>;
    type File = Arc<Inode>;

    fn root(&self) -> Arc<Inode> {
        Arc::clone(&self.root)
    }

    fn child(
        &self,
        directory: &Arc<Inode>,
        name: &[u8],
    ) -> Result<Option<Child<Arc<Inode>, Arc<Inode>>>, NodeError> {
        let names = self.names(directory).map_err(NodeError::Failed)?;
        names.get(name).map(|&number| self.child_of(number)).transpose().map_err(NodeError::Failed)
    }

    fn children(
        &self,
        directory: &Arc<Inode>,
        limit: usize,
    ) -> Result<Vec<Named<Arc<Inode>, Arc<Inode>>>, NodeError> {
        let names = self.names(directory).map_err(NodeError::Failed)?;
        Ok(names
            .iter()
            .filter(|(name, _)| !matches!(name.as_slice(), b"." | b".."))
            .take(limit)
            .map(|(name, &number)| (name.clone(), self.child_of(number).ok()))
            .collect())
    }

    fn attributes(&self, directory: &Arc<Inode>, name: &[u8]) -> Answer<Option<Attributes>> {
        let names = self.names(directory).map_err(NodeError::Failed)?;
        let Some(&number) = names.get(name) else { return Ok(None) };
        let inode = self.inode(number).map_err(NodeError::Failed)?;
        Ok(Some(Attributes { mode: inode.mode, uid: inode.uid, gid: inode.gid }))
    }

    fn read(&self, file: &Arc<Inode>, limit: u64) -> Result<Option<Vec<u8>>, NodeError> {
        if file.size > limit {
            return Err(NodeError::TooLarge);
        }
        self.content(file).map(Some).map_err(NodeError::Failed)
    }
}

impl Ext4Tree {
    fn link_target(&self, link: &Inode) -> Result<Vec<u8>, Damage> {
        if link.size > MAX_LINK {
            return Err(format!("a link target of {} bytes is beyond reason", link.size));
        }
        match link.short_target() {
            Some(target) => Ok(target.to_vec()),
            None => self.content(link),
        }
    }
}
