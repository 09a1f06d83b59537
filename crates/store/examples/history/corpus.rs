//! Histories of configuration files, as they are: few lines alter, some files often and most seldom, sizes
//! from a few hundred bytes to hundreds of kilobytes (median 2 kB, mean about 10 kB). The same seed makes the same.

use std::collections::BTreeMap;
use std::sync::Arc;

/// `SplitMix64`.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end.max(1) as u64)).unwrap_or(0)
    }

    /// Evenly in 0..1.
    fn unit(&mut self) -> f64 {
        f64::from(u32::try_from(self.next() >> 32).unwrap_or(0)) / f64::from(u32::MAX)
    }
}

/// All files of one item that alter at one moment.
pub(crate) struct Batch {
    /// Which moment: they rise.
    pub(crate) moment: usize,
    /// Which item.
    pub(crate) item: usize,
    /// Path and content; none where the file goes.
    pub(crate) files: BTreeMap<String, Option<Arc<[u8]>>>,
}

/// The items of a tenant and how their files alter.
pub(crate) struct Corpus {
    random: Random,
    items: Vec<BTreeMap<String, Vec<String>>>,
    paths: Vec<String>,
    moment: usize,
}

const WORDS: [&str; 48] = [
    "listen",
    "server",
    "timeout",
    "enabled",
    "true",
    "false",
    "path",
    "log",
    "level",
    "warn",
    "max",
    "clients",
    "cache",
    "size",
    "proxy",
    "pass",
    "upstream",
    "host",
    "port",
    "ssl",
    "certificate",
    "key",
    "protocols",
    "ciphers",
    "allow",
    "deny",
    "group",
    "user",
    "mode",
    "source",
    "ensure",
    "present",
    "package",
    "service",
    "require",
    "notify",
    "template",
    "content",
    "class",
    "include",
    "profile",
    "role",
    "monitoring",
    "contact",
    "interval",
    "retry",
    "backup",
    "cluster",
];

impl Corpus {
    /// So many items with so many files each.
    pub(crate) fn new(seed: u64, items: usize, files: usize) -> Self {
        let mut random = Random::new(seed);
        let paths = (0..files)
            .map(|number| {
                let (a, b) = (WORDS[random.below(48)], WORDS[random.below(48)]);
                format!("/etc/{a}/{b}.d/{number:04}-{}.conf", WORDS[random.below(48)])
            })
            .collect();
        Self { random, items: vec![BTreeMap::new(); items], paths, moment: 0 }
    }

    /// The first state of all items, a batch for each.
    pub(crate) fn first(&mut self) -> Vec<Batch> {
        (0..self.items.len())
            .map(|item| {
                let paths = self.paths.clone();
                let made = paths.into_iter().map(|path| {
                    let lines = self.fresh(item, &path);
                    (path, lines)
                });
                let files: BTreeMap<_, _> = made.collect();
                self.items[item].clone_from(&files);
                let files = files.into_iter().map(|(path, lines)| (path, Some(bytes(&lines))));
                self.moment += 1;
                Batch { moment: self.moment, item, files: files.collect() }
            })
            .collect()
    }

    /// One more moment, at which about so many files of an item alter.
    pub(crate) fn next(&mut self, about: usize) -> Batch {
        let item = self.random.below(self.items.len());
        let count = if about == 1 { 1 } else { 1 + self.random.below(about * 2 - 1) };
        let mut files = BTreeMap::new();
        for _ in 0..count {
            // Some files alter often: the square of an even draw prefers the first ones.
            let draw = self.random.unit();
            let at = draw * draw * draw * self.paths.len() as f64;
            let path = self.paths[(at as usize).min(self.paths.len() - 1)].clone();
            let before = self.items[item].remove(&path);
            let after = match before {
                None => Some(self.fresh(item, &path)),
                Some(_) if self.random.below(100) == 0 => None,
                Some(lines) => Some(self.edited(lines)),
            };
            files.insert(path.clone(), after.as_deref().map(bytes));
            if let Some(lines) = after {
                self.items[item].insert(path, lines);
            }
        }
        self.moment += 1;
        Batch { moment: self.moment, item, files }
    }

    /// A new file: mostly like the same one of another item, with what is this item's own.
    fn fresh(&mut self, item: usize, path: &str) -> Vec<String> {
        let other = self.random.below(item.max(1));
        if let Some(lines) = self.items[other].get(path)
            && self.random.below(3) > 0
        {
            let mut lines = lines.clone();
            if self.random.below(2) == 0 {
                lines.insert(0, format!("# {path} of host-{item:04}"));
            }
            return lines;
        }
        // Log-normal: the sum of draws is about normal.
        let normal: f64 = (0..12).map(|_| self.random.unit()).sum::<f64>() - 6.0;
        let lines = ((60.0 * (1.55 * normal).exp()) as usize).clamp(3, 12_000);
        (0..lines).map(|_| self.line()).collect()
    }

    fn line(&mut self) -> String {
        let (a, b, c) = (
            WORDS[self.random.below(48)],
            WORDS[self.random.below(48)],
            WORDS[self.random.below(48)],
        );
        match self.random.below(8) {
            0 => String::new(),
            1 => format!("# {a} {b} of {c} for the {}", WORDS[self.random.below(48)]),
            2 => format!(
                "  {a}_{b}: 10.{}.{}.{}",
                self.random.below(256),
                self.random.below(256),
                self.random.below(256)
            ),
            3 => format!("    {a}: \"{:016x}\"", self.random.next()),
            4 => format!("[{a}.{b}]"),
            5 => format!("  - {a}-{b}.{c}.example.org:{}", 1024 + self.random.below(60_000)),
            _ => format!("{a}.{b} = {c} {}", self.random.below(10_000)),
        }
    }

    fn edited(&mut self, mut lines: Vec<String>) -> Vec<String> {
        for _ in 0..=self.random.below(3) {
            let at = self.random.below(lines.len());
            let many = 1 + self.random.below(4);
            let new: Vec<_> = (0..many).map(|_| self.line()).collect();
            match self.random.below(4) {
                0 => drop(lines.splice(at..at, new)),
                1 if lines.len() > 20 => drop(lines.drain(at..(at + many).min(lines.len()))),
                _ => {
                    let end = (at + 1).min(lines.len());
                    drop(lines.splice(at..end, new.into_iter().take(1)));
                }
            }
        }
        lines
    }
}

fn bytes(lines: &[String]) -> Arc<[u8]> {
    (lines.join("\n") + "\n").into_bytes().into()
}
