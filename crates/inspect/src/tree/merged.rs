//! The layers of a container image merged into one tree, in memory
//! (OCI image specification, `layer.md`).
//!
//! All names are kept, but content only of files that somebody may ask for: package databases,
//! configuration, keyrings. Everything counts against a limit.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::resolve::{Resolved, resolve};
use super::{Child, Named, NodeError, Nodes};

/// Files below these, and files of exactly these names, are kept with their content.
const KEPT: [&str; 12] = [
    "etc/",
    "lib/apk/",
    "usr/lib/apk/",
    "usr/lib/os-release",
    "usr/lib/sysimage/rpm/",
    "usr/share/distro-info/",
    "usr/share/keyrings/",
    "var/lib/apt/extended_states",
    "var/lib/dpkg/arch",
    "var/lib/dpkg/status",
    "var/lib/dpkg/updates/",
    "var/lib/rpm/",
];

/// Content kept in total.
const MAX_BYTES: u64 = 512 << 20;

/// Names kept: a large image has 200,000.
const MAX_NODES: usize = 2_000_000;

/// Names looked up while merging: a large image needs 5 million.
const MAX_STEPS: u64 = 200_000_000;

/// Deepest path.
const MAX_DEPTH: usize = 256;

/// Marks of a layer (`layer.md`, "Whiteouts").
const WHITEOUT: &[u8] = b".wh.";
const OPAQUE: &[u8] = b".wh..wh..opq";

const ROOT: usize = 0;

/// What a layer has at a path.
#[derive(Debug)]
pub(crate) enum Piece {
    Directory,
    File(Vec<u8>),
    /// A file whose content nobody will ask for.
    Unkept,
    Link(Vec<u8>),
    /// The same file as at this path.
    SameAs(Vec<u8>),
    Other,
}

/// A limit was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Full {
    pub(crate) limit: u64,
    pub(crate) unit: &'static str,
}

#[derive(Debug, Clone)]
enum Content {
    Directory(BTreeMap<Vec<u8>, usize>),
    File(Arc<[u8]>),
    Unkept,
    Link(Arc<[u8]>),
    Other,
}

#[derive(Debug)]
struct Node {
    content: Content,
    /// The last layer that set it or something below it.
    touched: u32,
    /// The last layer below which nothing lower is visible in this directory.
    cleared: u32,
}

/// The merged tree.
#[derive(Debug)]
pub(crate) struct MergedTree {
    nodes: Vec<Node>,
    layer: u32,
    bytes: u64,
    /// Names looked up: links in paths could ask for more and more.
    steps: AtomicU64,
}

impl Default for MergedTree {
    fn default() -> Self {
        let root = Node { content: Content::Directory(BTreeMap::new()), touched: 0, cleared: 0 };
        Self { nodes: vec![root], layer: 0, bytes: 0, steps: AtomicU64::new(0) }
    }
}

impl MergedTree {
    /// Whether the content of the file at `path` is worth keeping.
    pub(crate) fn keeps(path: &[u8]) -> bool {
        let path = path.strip_prefix(b"./").unwrap_or(path);
        let path = path.strip_prefix(b"/").unwrap_or(path);
        KEPT.iter().any(|kept| path.starts_with(kept.as_bytes()))
    }

    /// What is added from now on lies over everything before.
    pub(crate) fn begin_layer(&mut self) {
        self.layer += 1;
    }

    /// Reserves room for content.
    pub(crate) fn room_for(&mut self, size: u64) -> Result<(), Full> {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > MAX_BYTES {
            return Err(Full { limit: MAX_BYTES, unit: "bytes" });
        }
        Ok(())
    }

    /// Adds a member of the present layer, or carries out the whiteout that its name is.
    pub(crate) fn add(&mut self, path: &[u8], piece: Piece) -> Result<(), Full> {
        let mut components: Vec<&[u8]> = path
            .split(|&byte| byte == b'/')
            .filter(|name| !name.is_empty() && *name != b".")
            .collect();
        // The root itself: nothing to add.
        let Some(name) = components.pop() else { return Ok(()) };
        if components.len() > MAX_DEPTH {
            return Err(Full { limit: MAX_DEPTH as u64, unit: "directories on a path" });
        }
        if *self.steps.get_mut() > MAX_STEPS {
            return Err(Full { limit: MAX_STEPS, unit: "steps along paths" });
        }
        if let Some(hidden) = name.strip_prefix(WHITEOUT) {
            if let Some(parent) = self.find_directory(&components) {
                if name == OPAQUE {
                    self.hide_below(parent);
                } else {
                    self.hide(parent, hidden);
                }
            }
            return Ok(());
        }
        let Some(parent) = self.make_directory(&components)? else { return Ok(()) };
        self.touch(&components);
        let content = match piece {
            Piece::Directory => {
                // A directory over a directory adds to it; over anything else it replaces it.
                self.directory_in(parent, name)?;
                return Ok(());
            }
            Piece::File(content) => Content::File(content.into()),
            Piece::Unkept => Content::Unkept,
            Piece::Link(target) => Content::Link(target.into()),
            Piece::SameAs(path) => self.same_as(&path),
            Piece::Other => Content::Other,
        };
        self.put(parent, name, content).map(|_| ())
    }

    fn same_as(&self, path: &[u8]) -> Content {
        let components = path.split(|&byte| byte == b'/').filter(|name| !name.is_empty());
        let mut node = ROOT;
        for name in components {
            match self.children_of(node).and_then(|children| children.get(name)) {
                Some(&child) => node = child,
                None => return Content::Other,
            }
        }
        match &self.nodes[node].content {
            Content::Directory(_) => Content::Other,
            content => content.clone(),
        }
    }

    fn children_of(&self, node: usize) -> Option<&BTreeMap<Vec<u8>, usize>> {
        match &self.nodes[node].content {
            Content::Directory(children) => Some(children),
            _ => None,
        }
    }

    fn what(&self, node: usize) -> Child<usize, usize> {
        match &self.nodes[node].content {
            Content::Directory(_) => Child::Directory(node),
            Content::File(_) | Content::Unkept => Child::File(node),
            Content::Link(target) => Child::Link(target.to_vec()),
            Content::Other => Child::Other,
        }
    }

    fn put(&mut self, parent: usize, name: &[u8], content: Content) -> Result<usize, Full> {
        let number = self.nodes.len();
        if number >= MAX_NODES {
            return Err(Full { limit: MAX_NODES as u64, unit: "names" });
        }
        self.nodes.push(Node { content, touched: self.layer, cleared: self.layer });
        if let Content::Directory(children) = &mut self.nodes[parent].content {
            children.insert(name.to_vec(), number);
        }
        Ok(number)
    }

    /// The directory `name` in `parent`, made where there is none.
    fn directory_in(&mut self, parent: usize, name: &[u8]) -> Result<usize, Full> {
        let present = self.children_of(parent).and_then(|children| children.get(name)).copied();
        match present.filter(|&node| self.children_of(node).is_some()) {
            Some(node) => {
                self.nodes[node].touched = self.layer;
                Ok(node)
            }
            None => self.put(parent, name, Content::Directory(BTreeMap::new())),
        }
    }

    /// The directory at a path, through links, as unpacking into a root would go; `None` where
    /// a link leads to no directory: nobody could ask for what would lie there.
    fn make_directory(&mut self, components: &[&[u8]]) -> Result<Option<usize>, Full> {
        if let Some(found) = self.find_directory(components) {
            return Ok(Some(found));
        }
        let mut directory = ROOT;
        for (depth, name) in components.iter().enumerate() {
            let link = self
                .children_of(directory)
                .and_then(|children| children.get(*name))
                .is_some_and(|&child| matches!(self.nodes[child].content, Content::Link(_)));
            directory = if link {
                match self.find_directory(&components[..=depth]) {
                    Some(behind) => behind,
                    None => return Ok(None),
                }
            } else {
                self.directory_in(directory, name)?
            };
        }
        Ok(Some(directory))
    }

    fn find_directory(&self, components: &[&[u8]]) -> Option<usize> {
        match resolve(self, &components.join(&b'/')) {
            Ok(Resolved::Directory(trail)) => Some(*trail.last()),
            _ => None,
        }
    }

    /// Marks the directories on a path: this layer has something below them.
    fn touch(&mut self, components: &[&[u8]]) {
        if let Ok(Resolved::Directory(trail)) = resolve(self, &components.join(&b'/')) {
            for &directory in trail.all() {
                self.nodes[directory].touched = self.layer;
            }
        }
    }

    /// Removes what lower layers have at `name`; what this layer added stays.
    fn hide(&mut self, parent: usize, name: &[u8]) {
        let Some(&node) = self.children_of(parent).and_then(|children| children.get(name)) else {
            return;
        };
        if self.nodes[node].touched == self.layer {
            self.hide_below(node);
        } else if let Content::Directory(children) = &mut self.nodes[parent].content {
            children.remove(name);
        }
    }

    /// Each directory is cleared once per layer, so that many whiteouts cost no more than one.
    fn hide_below(&mut self, directory: usize) {
        let mut pending = vec![directory];
        while let Some(directory) = pending.pop() {
            if self.nodes[directory].cleared == self.layer {
                continue;
            }
            self.nodes[directory].cleared = self.layer;
            let Some(children) = self.children_of(directory) else { continue };
            let (ours, lower): (Vec<_>, Vec<_>) = children
                .iter()
                .map(|(name, &node)| (name.clone(), node))
                .partition(|&(_, node)| self.nodes[node].touched == self.layer);
            if let Content::Directory(children) = &mut self.nodes[directory].content {
                for (name, _) in lower {
                    children.remove(&name);
                }
            }
            pending.extend(ours.into_iter().map(|(_, node)| node));
        }
    }
}

impl Nodes for MergedTree {
    type Directory = usize;
    type File = usize;

    fn root(&self) -> usize {
        ROOT
    }

    fn child(
        &self,
        directory: &usize,
        name: &[u8],
    ) -> Result<Option<Child<usize, usize>>, NodeError> {
        self.steps.fetch_add(1, Ordering::Relaxed);
        let child = self.children_of(*directory).and_then(|children| children.get(name));
        Ok(child.map(|&node| self.what(node)))
    }

    fn children(
        &self,
        directory: &usize,
        limit: usize,
    ) -> Result<Vec<Named<usize, usize>>, NodeError> {
        let children = self.children_of(*directory).into_iter().flatten().take(limit);
        Ok(children.map(|(name, &node)| (name.clone(), Some(self.what(node)))).collect())
    }

    fn read(&self, file: &usize, limit: u64) -> Result<Option<Vec<u8>>, NodeError> {
        match &self.nodes[*file].content {
            Content::File(content) if content.len() as u64 > limit => Err(NodeError::TooLarge),
            Content::File(content) => Ok(Some(content.to_vec())),
            Content::Unkept => Err(NodeError::failed(
                "of a container image only configuration and package databases are kept",
            )),
            _ => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use domain::files::FileView;

    use super::*;
    use crate::tree::Tree;

    fn file(content: &str) -> Piece {
        Piece::File(content.as_bytes().to_vec())
    }

    fn layers(layers: Vec<Vec<(&str, Piece)>>) -> Tree<MergedTree> {
        let mut tree = MergedTree::default();
        for layer in layers {
            tree.begin_layer();
            for (path, piece) in layer {
                tree.add(path.as_bytes(), piece).unwrap();
            }
        }
        Tree(tree)
    }

    fn read(tree: &Tree<MergedTree>, path: &str) -> Option<String> {
        tree.read(path, 1000).unwrap().map(|content| String::from_utf8(content).unwrap())
    }

    #[test]
    fn upper_layers_win_and_whiteouts_hide_lower_ones() {
        let tree = layers(vec![
            vec![
                ("etc/a", file("low")),
                ("etc/b", file("low")),
                ("etc/d/x", file("low")),
                ("etc/d/y", file("low")),
                ("etc/e/deep/z", file("low")),
            ],
            vec![
                ("./etc/a", file("high")),
                ("etc/.wh.b", file("")),
                ("etc/d/new", file("high")),
                ("etc/d/.wh..wh..opq", file("")),
                ("etc/.wh.e", file("")),
                ("etc/e/again", file("high")),
            ],
        ]);

        assert_eq!(read(&tree, "/etc/a").as_deref(), Some("high"));
        assert_eq!(read(&tree, "/etc/b"), None);
        assert_eq!(read(&tree, "/etc/d/x"), None);
        assert_eq!(read(&tree, "/etc/d/new").as_deref(), Some("high"));
        assert_eq!(read(&tree, "/etc/e/deep/z"), None);
        assert_eq!(read(&tree, "/etc/e/again").as_deref(), Some("high"));
    }

    #[test]
    fn a_whiteout_after_its_own_layers_file_spares_it() {
        let tree = layers(vec![
            vec![("etc/e/old", file("low"))],
            vec![("etc/e/new", file("high")), ("etc/.wh.e", file(""))],
        ]);

        assert_eq!(read(&tree, "/etc/e/new").as_deref(), Some("high"));
        assert_eq!(read(&tree, "/etc/e/old"), None);
    }

    #[test]
    fn members_go_through_links_and_never_out() {
        let tree = layers(vec![
            vec![
                ("usr/lib/apk/db/installed", file("one")),
                ("lib", Piece::Link(b"usr/lib".to_vec())),
                ("etc/out", Piece::Link(b"../../../../etc/x".to_vec())),
                ("etc/x", file("inside")),
                ("etc/loop", Piece::Link(b"loop".to_vec())),
            ],
            vec![("lib/apk/db/installed", file("two")), ("etc/loop/below", file("lost"))],
        ]);

        assert_eq!(read(&tree, "/usr/lib/apk/db/installed").as_deref(), Some("two"));
        assert_eq!(read(&tree, "/etc/out").as_deref(), Some("inside"));
        assert!(tree.read("/etc/loop", 10).is_err());
    }

    #[test]
    fn hard_links_and_replaced_kinds() {
        let tree = layers(vec![
            vec![("etc/a", file("same")), ("etc/b", Piece::SameAs(b"etc/a".to_vec()))],
            vec![("etc/a", Piece::Directory), ("etc/a/in", file("x"))],
            vec![("usr/bin/tool", Piece::Unkept), ("etc/a", file("file again"))],
        ]);

        assert_eq!(read(&tree, "/etc/b").as_deref(), Some("same"));
        assert_eq!(read(&tree, "/etc/a").as_deref(), Some("file again"));
        assert_eq!(read(&tree, "/etc/a/in"), None);
        assert_eq!(tree.list("/usr/bin").unwrap().len(), 1);
        assert!(tree.read("/usr/bin/tool", 10).unwrap_err().to_string().contains("only"));
    }

    #[test]
    fn too_much_is_refused() {
        let mut tree = MergedTree::default();

        assert_eq!(tree.room_for(MAX_BYTES), Ok(()));
        assert_eq!(tree.room_for(1), Err(Full { limit: MAX_BYTES, unit: "bytes" }));
        assert!(tree.add("a/".repeat(MAX_DEPTH + 2).as_bytes(), Piece::Directory).is_err());
    }
}
