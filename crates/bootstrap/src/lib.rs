//! Bootable Debian images with security patches pending.
//!
//! ```text
//! mmdebstrap ─► root ─► GPT: ESP (GRUB for EFI) │ ext4 (mke2fs -d) ─► qcow2
//! ```
//!
//! Packages come from the archives that this machine's own apt uses. An image names its security archive, so
//! whatever that has published since is pending in it. Nothing is mounted and no loop device is used: it works
//! for anybody for whom mmdebstrap does. An image is kept and used again for as long as its recipe is the same.
//!
//! ```no_run
//! # fn main() -> Result<(), bootstrap::BootstrapError> {
//! use bootstrap::{Purpose, Recipe, Release};
//!
//! let recipe = Recipe { release: Release::Bookworm, purpose: Purpose::Minimal };
//! let image = bootstrap::make(recipe, "target/images".as_ref(), false)?;
//! # Ok(())
//! # }
//! ```

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

mod seed;

pub use seed::{SEED_LABEL, seed};

/// What an image is made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Recipe {
    /// The Debian release.
    pub release: Release,
    /// What it is for.
    pub purpose: Purpose,
}

/// A Debian release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Release {
    /// Debian 12.
    Bookworm,
    /// Debian 11.
    Bullseye,
}

/// What an image is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Purpose {
    /// A small web server that boots fast without KVM, as it was at the release's last point release.
    Minimal,
    /// nginx, PostgreSQL, SSH, and drivers for real machines; as old.
    Server,
    /// The small web server, at its latest but for [`PENDING`]. It takes up what a seed disk brings when
    /// it starts first, as images of clouds do: see [`seed`](seed()).
    Tenant,
    /// nginx, PostgreSQL and unattended-upgrades, which nothing starts by itself; at its latest but for
    /// [`PENDING_SERVER`]. It takes up a seed disk as well.
    SideBySide,
    /// What people work at, at its latest: SSH, sudo, cron, and two editors that write in different ways, vim
    /// and nvi (which is `vi` there). It takes up a seed disk as well.
    Attended,
}

/// Source packages of which [`Purpose::Tenant`] lacks the security archive's versions.
pub const PENDING: [&str; 2] = ["nginx", "openssl"];

/// Those of which [`Purpose::SideBySide`] lacks them: what a night brings, with the services that are
/// watched. With all that a year brings, unattended-upgrades takes many minutes without KVM before it begins.
pub const PENDING_SERVER: [&str; 3] = ["nginx", "openssl", "postgresql-15"];

/// Programs that are needed, and the Debian packages that have them.
pub const TOOLS: [(&str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap"),
    ("sfdisk", "fdisk"),
    ("mke2fs", "e2fsprogs"),
    ("mformat", "mtools"),
    ("grub-mkimage", "grub-common grub-efi-amd64-bin"),
    ("qemu-img", "qemu-utils"),
    ("apt-get", "apt"),
];

/// Why there is no image.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// A program is not there.
    #[error("cannot start `{program}`: {error}")]
    Start {
        /// The program.
        program: String,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// A program failed.
    #[error("`{program}` ended with {status}:\n{said}")]
    Failed {
        /// The program.
        program: String,
        /// Its exit status.
        status: std::process::ExitStatus,
        /// All that it said.
        said: String,
    },
    /// A file could not be used.
    #[error("cannot use `{}`: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        error: io::Error,
    },
    /// apt names no archive of Debian.
    #[error("this machine's apt sources name no Debian archive to take {release} from")]
    NoArchive {
        /// The release.
        release: &'static str,
    },
}

impl BootstrapError {
    /// What to do next.
    pub fn help(&self) -> Option<String> {
        match self {
            Self::Start { program, .. } => {
                let of = TOOLS.iter().find(|(name, _)| program.ends_with(name));
                of.map(|(_, packages)| format!("`apt-get install {packages}` brings it"))
            }
            Self::NoArchive { .. } => {
                Some("add a source for Debian to /etc/apt/sources.list.d".to_owned())
            }
            Self::Failed { .. } | Self::Io { .. } => None,
        }
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> BootstrapError + use<> {
    let path = path.to_owned();
    move |error| BootstrapError::Io { path, error }
}

type Result<T> = std::result::Result<T, BootstrapError>;

impl Release {
    /// Its code name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bookworm => "bookworm",
            Self::Bullseye => "bullseye",
        }
    }

    /// How the initial RAM filesystem is compressed. That of bullseye knows no levels and takes
    /// zstd's highest, which needs two minutes for all drivers.
    const fn compression(self) -> &'static str {
        match self {
            Self::Bookworm => "COMPRESS=zstd\nCOMPRESSLEVEL=1\n",
            Self::Bullseye => "COMPRESS=gzip\n",
        }
    }
}

impl Purpose {
    const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Server => "server",
            Self::Tenant => "tenant",
            Self::SideBySide => "side-by-side",
            Self::Attended => "attended",
        }
    }

    const fn packages(self) -> &'static str {
        match self {
            Self::Minimal | Self::Tenant => {
                "linux-image-cloud-amd64,systemd-sysv,udev,initramfs-tools,zstd,dbus,nginx-light"
            }
            Self::Server => {
                "linux-image-amd64,systemd-sysv,udev,initramfs-tools,zstd,dbus,libpam-systemd,\
                 iproute2,openssh-server,nginx,postgresql"
            }
            Self::SideBySide => {
                "linux-image-amd64,systemd-sysv,udev,initramfs-tools,zstd,dbus,nginx,postgresql,\
                 unattended-upgrades"
            }
            Self::Attended => {
                "linux-image-cloud-amd64,systemd-sysv,udev,initramfs-tools,zstd,dbus,openssh-server,sudo,\
                 cron,iptables,vim-tiny,nvi"
            }
        }
    }

    const fn root_mebibytes(self) -> u64 {
        match self {
            Self::Minimal | Self::Tenant | Self::Attended => 2048,
            Self::Server | Self::SideBySide => 4096,
        }
    }

    /// Which drivers the initial RAM filesystem brings: those of QEMU's machines, or all.
    const fn modules(self) -> &'static str {
        match self {
            Self::Minimal | Self::Tenant | Self::SideBySide | Self::Attended => "list",
            Self::Server => "most",
        }
    }

    /// apt's preferences while a system is made that takes up a seed disk; they say what is to be pending in
    /// it. `None` for one that takes up none: it knows no security archive until it is made.
    fn seeded(self) -> Option<String> {
        let lacks = |sources: &[&str]| {
            let sources: Vec<String> = sources.iter().map(|it| format!("src:{it}")).collect();
            let packages = sources.join(" ");
            format!("Package: {packages}\nPin: release l=Debian-Security\nPin-Priority: -1\n")
        };
        match self {
            Self::Minimal | Self::Server => None,
            Self::Tenant => Some(lacks(&PENDING)),
            Self::SideBySide => Some(lacks(&PENDING_SERVER)),
            Self::Attended => Some(String::new()),
        }
    }
}

/// Files of a system that takes up a seed disk: a network on which QEMU's own gateway is, and whatever the disk
/// brings.
const SEED_FILES: [(&str, &str); 4] = [
    (
        "/etc/systemd/network/10-cloud.network",
        "[Match]\nName=en*\n\n[Network]\nAddress=10.0.2.15/24\nGateway=10.0.2.2\n\
         LinkLocalAddressing=no\nIPv6AcceptRA=no\n",
    ),
    (
        "/etc/udev/rules.d/90-cloud-seed.rules",
        "SUBSYSTEM==\"block\", ENV{ID_FS_LABEL}==\"pwseed\", TAG+=\"systemd\", \
         ENV{SYSTEMD_WANTS}+=\"cloud-seed.service\"\n",
    ),
    (
        "/etc/systemd/system/cloud-seed.service",
        "[Unit]\n\
         Description=What the cloud hands to this machine at its first start\n\
         ConditionPathExists=!/var/lib/cloud-seeded\n\
         After=local-fs.target sysinit.target\n\n\
         [Service]\n\
         Type=oneshot\n\
         RemainAfterExit=yes\n\
         ExecStart=/bin/mount -t ext4 -o ro /dev/disk/by-label/pwseed /mnt\n\
         ExecStart=/bin/cp -r --preserve=mode,links --no-target-directory /mnt /\n\
         ExecStart=/bin/umount /mnt\n\
         ExecStart=/usr/bin/touch /var/lib/cloud-seeded\n\
         ExecStart=/bin/systemctl daemon-reload\n\
         ExecStart=/bin/systemctl start --no-block patchwright-agent.service\n",
    ),
    // Only the gateway is there, and it is there at once.
    (
        "/etc/systemd/system/systemd-networkd-wait-online.service.d/any.conf",
        "[Service]\nExecStart=\nExecStart=/bin/true\n",
    ),
];

const MODULES: &str = "virtio_pci\nvirtio_blk\next4\ncrc32c_generic\n";

const ESP_START: u64 = 1;
const ESP_MEBIBYTES: u64 = 32;
const ROOT_START: u64 = ESP_START + ESP_MEBIBYTES;

/// What GRUB looks for from the ESP, and what it then reads from the root. The links at the top of
/// the root always lead to the newest kernel (linux-base).
const EMBEDDED: &str = "search --no-floppy --label --set=root root\n\
                        set prefix=($root)/boot/grub\n\
                        configfile $prefix/grub.cfg\n";
const GRUB: &str = "set timeout=0\n\
                    search --no-floppy --label --set=root root\n\
                    menuentry 'Debian' {\n\
                    \tlinux /vmlinuz root=LABEL=root ro quiet console=ttyS0\n\
                    \tinitrd /initrd.img\n\
                    }\n";

/// The path of an image, which is made where it is not there, or `fresh` asks for another.
///
/// Images of one name are made one at a time, whoever asks.
///
/// # Errors
/// Where a tool is missing or fails, or apt names no archive.
pub fn make(recipe: Recipe, images: &Path, fresh: bool) -> Result<PathBuf> {
    fs::create_dir_all(images).map_err(at(images))?;
    let name = format!("{}-{}", recipe.release.name(), recipe.purpose.name());
    let image = images.join(format!("{name}-{:016x}.qcow2", number(recipe)));
    let lock = images.join(format!("{name}.lock"));
    let lock_file = fs::File::create(&lock).map_err(at(&lock))?;
    lock_file.lock().map_err(at(&lock))?;
    if fresh || !image.exists() {
        let place = images.join(format!("{name}.making"));
        remove(&place)?;
        fs::create_dir_all(&place).map_err(at(&place))?;
        let made = Building { recipe, place: &place, images }.build()?;
        forget(images, &name)?;
        fs::rename(made, &image).map_err(at(&image))?;
        remove(&place)?;
    }
    Ok(image)
}

/// Removes images of the same name that an older recipe made.
fn forget(images: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(images).map_err(at(images))? {
        let path = entry.map_err(at(images))?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_image = path.extension().is_some_and(|extension| extension == "qcow2");
        if is_image && stem.starts_with(&format!("{name}-")) {
            fs::remove_file(&path).map_err(at(&path))?;
        }
    }
    Ok(())
}

/// The same inputs give the same number.
fn number(recipe: Recipe) -> u64 {
    let mut hasher = DefaultHasher::new();
    (recipe, include_str!("lib.rs")).hash(&mut hasher);
    hasher.finish()
}

struct Building<'a> {
    recipe: Recipe,
    place: &'a Path,
    images: &'a Path,
}

impl Building<'_> {
    fn build(&self) -> Result<PathBuf> {
        let system = self.root()?;
        let disk = self.place.join("disk.raw");
        self.partition(&disk)?;
        self.boot_loader(&disk)?;
        let blocks = format!("{}M", self.recipe.purpose.root_mebibytes());
        tool(
            as_root("mke2fs")
                .args(["-q", "-F", "-t", "ext4", "-L", "root", "-d"])
                .arg(&system)
                .args(["-E", &format!("offset={}", ROOT_START << 20)])
                .arg(&disk)
                .arg(blocks),
        )?;
        let image = self.place.join("disk.qcow2");
        tool(Command::new("qemu-img").args(["convert", "-O", "qcow2"]).arg(&disk).arg(&image))?;
        Ok(image)
    }

    /// The root directory, as mmdebstrap makes it from the mirror that this machine's apt uses.
    fn root(&self) -> Result<PathBuf> {
        let system = self.place.join("root");
        let Recipe { release, purpose } = self.recipe;
        let initramfs = format!("MODULES={}\n{}", purpose.modules(), release.compression());
        let release = release.name();
        let write = |path: &str, text: &str| self.file(path, text);
        let initramfs = write("initramfs", &initramfs)?;
        let modules = write("modules", MODULES)?;
        let fstab = write("fstab", "LABEL=root / ext4 errors=remount-ro 0 1\n")?;
        let grub = write("grub.cfg", GRUB)?;
        let empty = write("machine-id", "")?;
        // One of them names all archives by itself.
        let seeded = purpose.seeded();
        let (listed, lists) = match seeded {
            Some(_) => ("debian.sources", sources(self.recipe.release)?),
            None => ("security.sources", security(release)?),
        };
        let lists = write(listed, &lists)?;
        // Packages that were fetched once are kept for the next image of the release.
        let kept = self.images.join(format!("{release}-archives"));
        fs::create_dir_all(&kept).map_err(at(&kept))?;
        let upload = |from: &str, to: &str| format!("upload {from} {to}");
        let mut command = Command::new("mmdebstrap");
        command
            .arg("--variant=minbase")
            .args(["--architectures=amd64", "--skip=download/empty", "--skip=essential/unlink"])
            .arg("--aptopt=Acquire::Languages \"none\"")
            .arg("--dpkgopt=force-unsafe-io")
            .arg(format!("--include={}", purpose.packages()))
            .arg("--setup-hook=mkdir -p \"$1/var/cache/apt/archives\" \"$1/etc/initramfs-tools/conf.d\"")
            .arg(format!("--setup-hook=sync-in {} /var/cache/apt/archives", kept.display()))
            .arg(format!("--setup-hook={}", upload(&initramfs, "/etc/initramfs-tools/conf.d/image")))
            .arg(format!("--setup-hook={}", upload(&modules, "/etc/initramfs-tools/modules")))
            .arg("--customize-hook=rm -f \"$1\"/var/cache/apt/archives/lock")
            .arg(format!("--customize-hook=sync-out /var/cache/apt/archives {}", kept.display()))
            .arg("--customize-hook=mkdir -p \"$1/boot/grub\"")
            .arg(format!("--customize-hook={}", upload(&grub, "/boot/grub/grub.cfg")))
            .arg(format!("--customize-hook={}", upload(&fstab, "/etc/fstab")))
            .arg(format!("--customize-hook={}", upload(&empty, "/etc/machine-id")))
            .arg(format!(
                "--customize-hook={}",
                upload(&lists, &format!("/etc/apt/sources.list.d/{listed}"))
            ))
            .arg("--customize-hook=echo web-1 > \"$1/etc/hostname\"")
            // There are no logical volumes to look for, which takes a tenth of a start without KVM.
            .arg("--customize-hook=systemctl --root=\"$1\" mask e2scrub_reap.service");
        if let Some(pins) = &seeded {
            self.take_up_seeds(&mut command, pins)?;
        }
        if purpose == Purpose::SideBySide {
            let timers = "apt-daily.timer apt-daily-upgrade.timer";
            command.arg(format!("--customize-hook=systemctl --root=\"$1\" mask {timers}"));
        }
        command.arg(release).arg(&system).arg(mirror(release)?);
        if seeded.is_some() {
            let uri = archive(release, |suite| suite.ends_with("-security"))?;
            command.arg(format!("deb {uri} {release}-security main"));
        }
        tool(&mut command)?;
        Ok(system)
    }

    /// The latest of all but what is to be pending, and the files that take up a seed disk.
    fn take_up_seeds(&self, command: &mut Command, pins: &str) -> Result<()> {
        let pins = self.file("pins", pins)?;
        command
            .arg("--setup-hook=mkdir -p \"$1/etc/apt/preferences.d\"")
            .arg(format!("--setup-hook=upload {pins} /etc/apt/preferences.d/pending"))
            .arg("--customize-hook=rm \"$1/etc/apt/preferences.d/pending\"")
            .arg("--customize-hook=rm -f \"$1/etc/apt/sources.list\"");
        for (number, (path, text)) in SEED_FILES.iter().enumerate() {
            let file = self.file(&format!("seed-{number}"), text)?;
            let directory = Path::new(path).parent().unwrap_or(Path::new("/"));
            command
                .arg(format!("--customize-hook=mkdir -p \"$1{}\"", directory.display()))
                .arg(format!("--customize-hook=upload {file} {path}"));
        }
        command.arg("--customize-hook=systemctl --root=\"$1\" enable systemd-networkd.service");
        Ok(())
    }

    fn partition(&self, disk: &Path) -> Result<()> {
        let mebibytes = ROOT_START + self.recipe.purpose.root_mebibytes() + 1;
        fs::File::create(disk).and_then(|file| file.set_len(mebibytes << 20)).map_err(at(disk))?;
        let table = format!(
            "label: gpt\n\
             start={ESP_START}MiB, size={ESP_MEBIBYTES}MiB, type=U, name=esp\n\
             start={ROOT_START}MiB, size={}MiB, type=L, name=root\n",
            self.recipe.purpose.root_mebibytes()
        );
        let table = PathBuf::from(self.file("table", &table)?);
        let table = fs::File::open(&table).map_err(at(&table))?;
        tool(Command::new("/sbin/sfdisk").arg("--quiet").arg(disk).stdin(table))
    }

    /// GRUB as one EFI program at the place where firmware looks without being told.
    fn boot_loader(&self, disk: &Path) -> Result<()> {
        let embedded = self.file("embedded.cfg", EMBEDDED)?;
        let program = self.place.join("BOOTX64.EFI");
        tool(
            Command::new("grub-mkimage")
                .args(["--format=x86_64-efi", "--prefix=/boot/grub", "--config", &embedded])
                .arg("--output")
                .arg(&program)
                .args(["part_gpt", "ext2", "search", "search_label", "normal", "configfile"])
                .args(["linux", "echo", "boot", "minicmd"]),
        )?;
        let esp = format!("{}@@{ESP_START}M", disk.display());
        let sectors = (ESP_MEBIBYTES << 11).to_string();
        let mtools = |program: &str| {
            let mut command = Command::new(program);
            command.env("MTOOLS_SKIP_CHECK", "1").args(["-i", &esp]);
            command
        };
        tool(mtools("mformat").args(["-T", &sectors, "-h", "64", "-s", "32", "-v", "ESP", "::"]))?;
        tool(mtools("mmd").args(["::/EFI", "::/EFI/BOOT"]))?;
        tool(mtools("mcopy").arg(&program).arg("::/EFI/BOOT/BOOTX64.EFI"))
    }

    fn file(&self, name: &str, text: &str) -> Result<String> {
        let path = self.place.join(name);
        fs::write(&path, text).map_err(at(&path))?;
        let odd = || io::Error::other("the path is not UTF-8");
        path.to_str().map(str::to_owned).ok_or_else(odd).map_err(at(&path))
    }
}

/// The archive of a release: this machine's own mirror, whichever release it runs itself.
fn mirror(release: &'static str) -> Result<String> {
    archive(release, |suite| !suite.contains('-') && suite.starts_with(['b', 't', 'f']))
}

/// A source for the patches of a release.
fn security(release: &'static str) -> Result<String> {
    let uri = archive(release, |suite| suite.ends_with("-security"))?;
    Ok(format!(
        "Types: deb\nURIs: {uri}\nSuites: {release}-security\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    ))
}

fn archive(release: &'static str, is_wanted: fn(&str) -> bool) -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
        .output()
        .map_err(|error| BootstrapError::Start { program: "apt-get".to_owned(), error })?;
    let targets = String::from_utf8_lossy(&output.stdout).into_owned();
    let mirror =
        targets.lines().filter_map(|line| line.split_once(' ')).find(|(_, suite)| is_wanted(suite));
    mirror.map(|(uri, _)| uri.to_owned()).ok_or(BootstrapError::NoArchive { release })
}

/// A command that sees root's view of files which mmdebstrap made.
fn as_root(program: &str) -> Command {
    let is_root =
        fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0);
    if is_root {
        return Command::new(program);
    }
    let mut command = Command::new("mmdebstrap");
    command.args(["--unshare-helper", program]);
    command
}

fn remove(directory: &Path) -> Result<()> {
    if directory.exists() {
        tool(as_root("rm").args(["-rf", "--one-file-system"]).arg(directory))?;
    }
    Ok(())
}

/// Runs a tool; what it says is shown only where it fails.
fn tool(command: &mut Command) -> Result<()> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .env("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
        .output()
        .map_err(|error| BootstrapError::Start { program: program.clone(), error })?;
    if !output.status.success() {
        let mut said = String::from_utf8_lossy(&output.stdout).into_owned();
        said.push_str(&String::from_utf8_lossy(&output.stderr));
        return Err(BootstrapError::Failed { program, status: output.status, said });
    }
    Ok(())
}

/// deb822 sources for everything that a release publishes, from the archives that this machine's apt uses.
///
/// # Errors
/// Where apt names none.
pub fn sources(release: Release) -> Result<String> {
    let release = release.name();
    let main = mirror(release)?;
    Ok(format!(
        "Types: deb\nURIs: {main}\nSuites: {release} {release}-updates\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n\n{}",
        security(release)?
    ))
}
