//! Worlds for the drivers' tests: real images, whole or broken.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, reason = "helpers of tests")]

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use drivers::{Conditions, Driver, Limits, Observer, Outcome, Step, SystemClock, TrialError};
use lab::BaseImage;
use scratch::Scratch;

/// Where the root begins on the disks of `make-image`.
const ROOT_OFFSET: u64 = 33 << 20;

/// Runs a program to its end and returns its output; a failure fails the test with everything.
pub fn run(command: &mut Command) -> String {
    let output = command.env("LC_ALL", "C").output().unwrap_or_else(|error| {
        panic!("cannot start {command:?}: {error}; run `cargo xtask test`")
    });
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    String::from_utf8(output.stdout).expect("the tool speaks UTF-8")
}

/// The image that `cargo xtask make-image` makes, or made before.
pub fn image() -> BaseImage {
    let path = run(Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--package", "xtask", "--", "make-image", "bookworm"])
        .args(["--profile", "minimal"])
        .current_dir(env!("CARGO_MANIFEST_DIR")));
    BaseImage::open(Path::new(path.trim())).unwrap()
}

/// A copy of an image whose boot loader is told something else; nothing is mounted.
pub fn with_grub(image: &BaseImage, place: &Path, name: &str, configuration: &str) -> BaseImage {
    let raw = place.join(format!("{name}.raw"));
    run(Command::new("qemu-img").args(["convert", "-O", "raw"]).arg(image.path()).arg(&raw));
    let file = place.join(format!("{name}.cfg"));
    fs::write(&file, configuration).unwrap();
    let script = place.join(format!("{name}.debugfs"));
    let put = format!("rm /boot/grub/grub.cfg\nwrite {} /boot/grub/grub.cfg\n", file.display());
    fs::write(&script, put).unwrap();
    run(Command::new("/sbin/debugfs")
        .arg("-w")
        .arg("-f")
        .arg(&script)
        .arg(format!("{}?offset={ROOT_OFFSET}", raw.display())));
    BaseImage::open(&raw).unwrap()
}

/// An entry of GRUB that boots the image's kernel with this command line, or without its initial
/// RAM filesystem.
pub fn entry(command_line: &str, initrd: bool) -> String {
    let initrd = if initrd { "initrd /initrd.img\n" } else { "" };
    format!(
        "set timeout=0\nsearch --no-floppy --label --set=root root\n\
         menuentry 'Debian' {{\nlinux /vmlinuz {command_line}\n{initrd}}}\n"
    )
}

/// A fresh, empty directory of this test run.
pub fn empty(name: &str) -> Scratch {
    Scratch::empty(Path::new(env!("CARGO_TARGET_TMPDIR")).join(name))
}

/// Small machines, and time for those without KVM.
pub fn limits() -> Limits {
    Limits { processors: 1, memory_mib: 512, boot: Duration::from_secs(300), ..Limits::default() }
}

/// Prints where a trial is.
#[derive(Debug)]
pub struct Printed(pub &'static str);

impl Observer for Printed {
    fn step(&self, step: Step, elapsed: Duration) {
        eprintln!("{}: {:>6.1} s {step}", self.0, elapsed.as_secs_f64());
    }
}

pub fn attempt<T>(
    name: &'static str,
    driver: &dyn Driver,
    image: &BaseImage,
    limits: &Limits,
    scan: impl FnOnce(&Path) -> T,
) -> Result<Outcome<T>, TrialError> {
    let clock = SystemClock::default();
    let conditions = Conditions { limits, observer: &Printed(name), clock: &clock };
    drivers::trial(driver, image, &conditions, scan)
}

/// What the tests look at on a disk.
#[derive(Debug)]
pub struct Scanned {
    pub newest_kernel: String,
    pub machine_id: String,
}

pub fn scan(disk: &Path) -> Scanned {
    let target = inspect::open(disk, None).unwrap();
    let kernels = target.inventory().unwrap().installed_kernels;
    let id = target.files().read("/etc/machine-id", 100).unwrap().unwrap();
    Scanned {
        newest_kernel: inspect::newest_kernel(&kernels).unwrap(),
        machine_id: String::from_utf8(id).unwrap().trim().to_owned(),
    }
}

/// Processes of QEMU that have files below this directory open or work there.
pub fn machines_in(place: &Path) -> Vec<u32> {
    let Ok(place) = place.canonicalize() else { return Vec::new() };
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").unwrap().flatten() {
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else { continue };
        let command = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        let told = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let works_at = fs::read_link(entry.path().join("cwd")).unwrap_or_default();
        let told = String::from_utf8_lossy(&told).into_owned();
        let is_there = works_at.starts_with(&place) || told.contains(&*place.to_string_lossy());
        if command.starts_with("qemu-system") && is_there {
            found.push(pid);
        }
    }
    found
}

pub fn files(directory: &Path) -> usize {
    fs::read_dir(directory).map(Iterator::count).unwrap_or_default()
}

pub fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let began = Instant::now();
    while !holds() {
        assert!(began.elapsed() < Duration::from_secs(120), "it does not come about that {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
