//! Random archives, installations and preferences: our candidates are those of the real apt.
//!
//! A failure names its seed; `PATCHWRIGHT_SEED=N cargo test --test
//! pins_mean_what_they_mean_to_apt` repeats it.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use scratch::Scratch;

use crate::support::{Offer, check_keeping, empty, offers, report, run};

const SEEDS: std::ops::Range<u64> = 1..41;

#[test]
fn candidates_are_apts() {
    let chosen = std::env::var("PATCHWRIGHT_SEED").ok().and_then(|seed| seed.parse().ok());
    let seeds = chosen.map_or(SEEDS, |seed: u64| seed..seed + 1);
    let mut upgrades = 0;
    for seed in seeds {
        let world = World::random(seed);

        let ours = offers(&report(&mut world.check()));
        let apt = world.apt_upgradable();

        assert_eq!(ours, apt, "seed {seed}, see {}", world.directory.display());
        upgrades += apt.len();
    }
    assert!(
        chosen.is_some() || upgrades > 200,
        "only {upgrades} upgrades: the worlds are too dull"
    );
}

/// `SplitMix64`: enough randomness, the same on every machine.
struct Dice(u64);

impl Dice {
    fn below(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % sides as u64).expect("small")
    }

    fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    fn percent(&mut self, chance: usize) -> bool {
        self.below(100) < chance
    }
}

const NAMES: &[&str] =
    &["adns", "bash", "g++", "libssl3", "libz1", "linux-image", "perl", "perl-base", "vim", "x.y"];
const VERSIONS: &[&str] =
    &["1.0-1", "1.0-1+b1", "1.0-2", "1:0.5-1", "2.0~rc1-1", "2.0-1", "2.0-1~bpo1"];

struct Suite {
    name: &'static str,
    release: &'static str,
}

const SUITES: &[Suite] = &[
    Suite {
        name: "stable",
        release: "Suite: stable\nCodename: rex\nOrigin: Debian\nLabel: Debian\nVersion: 12.1\n",
    },
    Suite {
        name: "stable-security",
        release: "Suite: stable-security\nCodename: rex-security\nOrigin: Debian\nLabel: Debian-Security\n",
    },
    Suite {
        name: "backports",
        release: "Suite: backports\nCodename: rex-backports\nOrigin: Debian Backports\nLabel: Debian Backports\nNotAutomatic: yes\nButAutomaticUpgrades: yes\n",
    },
    Suite {
        name: "experimental",
        release: "Suite: experimental\nCodename: rc-buggy\nOrigin: Debian\nLabel: Debian\nNotAutomatic: yes\n",
    },
];

struct World {
    directory: Scratch,
}

impl World {
    fn random(seed: u64) -> Self {
        let mut dice = Dice(seed);
        let directory = empty(&format!("pins/{seed}"));
        let world = Self { directory };
        let mut sources = String::new();
        for suite in SUITES {
            world.make_suite(suite, &mut dice);
            let _ = writeln!(
                sources,
                "deb [trusted=yes arch=amd64,i386] file:{} {} main",
                world.directory.join("archive").display(),
                suite.name
            );
        }
        world.write("all.list", &sources);
        world.write("root/etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=rex\n");
        world.write("root/var/lib/dpkg/arch", "amd64\ni386\n");
        world.write("root/var/lib/dpkg/status", &status(&mut dice));
        world.write("root/etc/apt/preferences", &preferences(&mut dice));
        let default = dice.one(&["", "stable", "rex-backports", "rc-buggy"]);
        let default = if default.is_empty() {
            String::new()
        } else {
            format!("APT::Default-Release \"{default}\";\n")
        };
        world.write("root/etc/apt/apt.conf.d/default", &default);
        world
    }

    fn make_suite(&self, suite: &Suite, dice: &mut Dice) {
        let base = format!("archive/dists/{}", suite.name);
        for architecture in ["amd64", "i386"] {
            let mut index = String::new();
            for name in NAMES {
                let mut versions = BTreeSet::new();
                for _ in 0..dice.below(3) {
                    versions.insert(dice.one(VERSIONS));
                }
                for version in versions {
                    // `x.y` stands for packages of all architectures.
                    let of = if *name == "x.y" { "all" } else { architecture };
                    index.push_str(&stanza(name, of, version, ""));
                    let _ = write!(
                        index,
                        "Filename: pool/{name}_{of}.deb\nSize: 1\nSHA256: {:064}\n\n",
                        0
                    );
                }
            }
            self.write(&format!("{base}/main/binary-{architecture}/Packages"), &index);
        }
        let release =
            run(Command::new("apt-ftparchive").arg("release").arg(self.directory.join(&base)));
        let text =
            format!("{}Architectures: amd64 i386\nComponents: main\n{release}", suite.release);
        self.write(&format!("{base}/Release"), &text);
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.directory.join(path);
        fs::create_dir_all(path.parent().expect("below the world")).expect("writable");
        fs::write(path, text).expect("writable");
    }

    fn check(&self) -> Command {
        let data = self.directory.join("data");
        let mut command = check_keeping(&self.directory.join("root"), &data);
        command.arg("--sources").arg(self.directory.join("all.list"));
        command
    }

    fn apt_upgradable(&self) -> BTreeSet<Offer> {
        let lists = self.directory.join("apt/lists/partial");
        fs::create_dir_all(lists).expect("writable");
        fs::create_dir_all(self.directory.join("apt/cache/archives/partial")).expect("writable");
        run(self.apt("apt-get").arg("update"));
        run(self.apt("apt").args(["list", "--upgradable"]))
            .lines()
            .filter_map(|line| {
                let (name, rest) = line.split_once('/')?;
                let mut words = rest.split(' ').skip(1);
                let (version, architecture) = (words.next()?, words.next()?);
                Some((name.to_owned(), architecture.to_owned(), version.to_owned()))
            })
            .collect()
    }

    fn apt(&self, program: &str) -> Command {
        let inside = |path: &str| self.directory.join(path).display().to_string();
        let options: BTreeMap<&str, String> = [
            ("Dir::State::status", inside("root/var/lib/dpkg/status")),
            ("Dir::State::Lists", inside("apt/lists")),
            ("Dir::Cache", inside("apt/cache")),
            ("Dir::Etc::SourceList", inside("all.list")),
            ("Dir::Etc::SourceParts", "/dev/null".to_owned()),
            ("Dir::Etc::Preferences", inside("root/etc/apt/preferences")),
            ("Dir::Etc::PreferencesParts", "/dev/null".to_owned()),
            ("APT::Architecture", "amd64".to_owned()),
            ("APT::Architectures", "amd64,i386".to_owned()),
            ("Acquire::Languages", "none".to_owned()),
            ("APT::Sandbox::User", "root".to_owned()),
        ]
        .into();
        let mut command = Command::new(program);
        for (name, value) in options {
            command.arg("-o").arg(format!("{name}={value}"));
        }
        command.arg("-c").arg(Path::new(&inside("root/etc/apt/apt.conf.d/default")));
        command
    }
}

fn stanza(name: &str, architecture: &str, version: &str, status: &str) -> String {
    let source_version = version.strip_suffix("+b1").unwrap_or(version);
    let source = if name.starts_with("perl") { "perl" } else { name };
    format!(
        "Package: {name}\n{status}Architecture: {architecture}\nMulti-Arch: same\n\
         Source: {source} ({source_version})\nVersion: {version}\n\
         Maintainer: Nobody <nobody@example.org>\nDescription: nothing\n"
    )
    .replace(&format!("Source: {source} ({version})\n"), &format!("Source: {source}\n"))
}

fn status(dice: &mut Dice) -> String {
    let mut text = String::new();
    for name in NAMES {
        for architecture in ["amd64", "i386"] {
            if *name == "x.y" && architecture == "i386" || dice.percent(25) {
                continue;
            }
            let of = if *name == "x.y" { "all" } else { architecture };
            let version = dice.one(VERSIONS);
            let want = if dice.percent(10) { "hold" } else { "install" };
            text.push_str(&stanza(name, of, version, &format!("Status: {want} ok installed\n")));
            text.push('\n');
        }
    }
    text
}

fn preferences(dice: &mut Dice) -> String {
    let packages = &[
        "*",
        "*",
        "*",
        "perl",
        "perl*",
        "lib* vim",
        "/^lib/",
        "src:perl",
        "bash:i386",
        "g++",
        "libssl3:any",
        "libz1:native",
        "x.?",
        "/SSL/",
        "[abv]*",
        "src:lib*",
    ];
    let pins = &[
        "release a=stable",
        "release n=rex-backports",
        "release o=Debian",
        "release l=Debian-Security",
        "release a=stable*,o=Debian",
        "release v=12*",
        "release c=main",
        "release b=i386",
        "release rc-buggy",
        "release 12.1",
        "release *",
        "version 1.0*",
        "version 2.0-1",
        "version /bpo/",
        "origin \"\"",
        "origin mirror.example.org",
        "release a=now",
        "release n=/^REX/",
        "release o=debian",
    ];
    let priorities =
        &["-10", "1", "50", "100", "101", "499", "500", "501", "989", "990", "999", "1000", "1001"];
    let mut text = String::new();
    for _ in 0..dice.below(6) {
        let _ = writeln!(
            text,
            "Explanation: made by chance\nPackage: {}\nPin: {}\nPin-Priority: {}\n",
            dice.one(packages),
            dice.one(pins),
            dice.one(priorities)
        );
    }
    text
}
