//! `cargo xtask make-image`: bootable Debian images with security patches pending.
//!
//! ```text
//! mmdebstrap ─► root ─► GPT: ESP (GRUB for EFI) │ ext4 (mke2fs -d) ─► qcow2
//! ```
//!
//! Only `main` of the release itself is installed, as it was at its point release. The image names its
//! security archive as well, so whatever that has published since is pending. Nothing is mounted and no loop device is used:
//! it works for anybody for whom mmdebstrap does. An image is kept and used again for as long as
//! this recipe is the same.

use std::collections::hash_map::DefaultHasher;
use std::fs;
use std::hash::{Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::system::{ensure_packages, root};

/// Options of `cargo xtask make-image`.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Debian release.
    #[arg(value_enum, default_value = "bookworm")]
    release: Release,
    /// What the image is for.
    #[arg(long, value_enum, default_value = "server")]
    profile: Profile,
    /// Build it again, also where there is one.
    #[arg(long)]
    fresh: bool,
}

#[derive(Clone, Copy, Hash, clap::ValueEnum)]
enum Release {
    Bookworm,
    Bullseye,
}

#[derive(Clone, Copy, Hash, clap::ValueEnum)]
enum Profile {
    /// A small web server that boots fast without KVM.
    Minimal,
    /// nginx, PostgreSQL, SSH, and drivers for real machines.
    Server,
}

impl Release {
    const fn name(self) -> &'static str {
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

impl Profile {
    const fn name(self) -> &'static str {
        match self {
            Self::Minimal => "minimal",
            Self::Server => "server",
        }
    }

    const fn packages(self) -> &'static str {
        match self {
            Self::Minimal => {
                "linux-image-amd64,systemd-sysv,udev,initramfs-tools,zstd,dbus,nginx-light"
            }
            Self::Server => {
                "linux-image-amd64,systemd-sysv,udev,initramfs-tools,zstd,dbus,libpam-systemd,\
                 iproute2,openssh-server,nginx,postgresql"
            }
        }
    }

    const fn root_mebibytes(self) -> u64 {
        match self {
            Self::Minimal => 2048,
            Self::Server => 4096,
        }
    }

    /// Which drivers the initial RAM filesystem brings: those of QEMU's machines, or all.
    const fn modules(self) -> &'static str {
        match self {
            Self::Minimal => "list",
            Self::Server => "most",
        }
    }
}

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

/// Prints the path of the image, which is made where it is not there.
pub(crate) fn make(arguments: &Arguments) -> Result<()> {
    ensure_packages()?;
    let images = root().join("target/images");
    fs::create_dir_all(&images)?;
    let name = format!("{}-{}", arguments.release.name(), arguments.profile.name());
    let image = images.join(format!("{name}-{:016x}.qcow2", recipe(arguments)));
    // One at a time: tests of several crates may ask at once.
    let lock = fs::File::create(images.join(format!("{name}.lock")))?;
    lock.lock().context("cannot wait for another make-image")?;
    if arguments.fresh || !image.exists() {
        let place = images.join(format!("{name}.making"));
        remove(&place)?;
        fs::create_dir_all(&place)?;
        let made = Building { arguments, place: &place, images: &images }.build()?;
        forget(&images, &name)?;
        fs::rename(made, &image)?;
        remove(&place)?;
    }
    println!("{}", image.display());
    Ok(())
}

/// Removes images of the same name that an older recipe made.
fn forget(images: &Path, name: &str) -> Result<()> {
    for entry in fs::read_dir(images)? {
        let path = entry?.path();
        let stem = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let is_image = path.extension().is_some_and(|extension| extension == "qcow2");
        if is_image && stem.starts_with(&format!("{name}-")) {
            fs::remove_file(path)?;
        }
    }
    Ok(())
}

/// The same inputs give the same number.
fn recipe(arguments: &Arguments) -> u64 {
    let mut hasher = DefaultHasher::new();
    (arguments.release, arguments.profile, include_str!("image.rs")).hash(&mut hasher);
    hasher.finish()
}

struct Building<'a> {
    arguments: &'a Arguments,
    place: &'a Path,
    images: &'a Path,
}

impl Building<'_> {
    fn build(&self) -> Result<PathBuf> {
        let system = self.root()?;
        let disk = self.place.join("disk.raw");
        self.partition(&disk)?;
        self.boot_loader(&disk)?;
        let blocks = format!("{}M", self.arguments.profile.root_mebibytes());
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
        let Arguments { release, profile, .. } = *self.arguments;
        let initramfs = format!("MODULES={}\n{}", profile.modules(), release.compression());
        let release = release.name();
        let write = |path: &str, text: &str| self.file(path, text);
        let initramfs = write("initramfs", &initramfs)?;
        let modules = write("modules", MODULES)?;
        let fstab = write("fstab", "LABEL=root / ext4 errors=remount-ro 0 1\n")?;
        let grub = write("grub.cfg", GRUB)?;
        let empty = write("machine-id", "")?;
        let security = write("security.sources", &security(release)?)?;
        // Packages that were fetched once are kept for the next image of the release.
        let kept = self.images.join(format!("{release}-archives"));
        fs::create_dir_all(&kept)?;
        let upload = |from: &str, to: &str| format!("upload {from} {to}");
        let mut command = Command::new("mmdebstrap");
        command
            .arg("--variant=minbase")
            .args(["--architectures=amd64", "--skip=download/empty", "--skip=essential/unlink"])
            .arg("--aptopt=Acquire::Languages \"none\"")
            .arg("--dpkgopt=force-unsafe-io")
            .arg(format!("--include={}", profile.packages()))
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
                upload(&security, "/etc/apt/sources.list.d/security.sources")
            ))
            .arg("--customize-hook=echo web-1 > \"$1/etc/hostname\"")
            .arg(release)
            .arg(&system)
            .arg(mirror(release)?);
        tool(&mut command)?;
        Ok(system)
    }

    fn partition(&self, disk: &Path) -> Result<()> {
        let mebibytes = ROOT_START + self.arguments.profile.root_mebibytes() + 1;
        fs::File::create(disk)?.set_len(mebibytes << 20)?;
        let table = format!(
            "label: gpt\n\
             start={ESP_START}MiB, size={ESP_MEBIBYTES}MiB, type=U, name=esp\n\
             start={ROOT_START}MiB, size={}MiB, type=L, name=root\n",
            self.arguments.profile.root_mebibytes()
        );
        let table = fs::File::open(self.file("table", &table)?)?;
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
        fs::write(&path, text)?;
        path.to_str().map(str::to_owned).context("the checkout's path is not UTF-8")
    }
}

/// The archive of a release: this machine's own mirror, whichever release it runs itself.
fn mirror(release: &str) -> Result<String> {
    archive(release, |suite| !suite.contains('-') && suite.starts_with(['b', 't', 'f']))
}

/// A source for the patches of a release.
fn security(release: &str) -> Result<String> {
    let uri = archive(release, |suite| suite.ends_with("-security"))?;
    Ok(format!(
        "Types: deb\nURIs: {uri}\nSuites: {release}-security\nComponents: main\n\
         Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg\n"
    ))
}

fn archive(release: &str, is_wanted: fn(&str) -> bool) -> Result<String> {
    let output = Command::new("apt-get")
        .args(["indextargets", "--format", "$(REPO_URI) $(RELEASE)", "Created-By: Packages"])
        .output()
        .context("cannot ask apt for its sources")?;
    let targets = String::from_utf8_lossy(&output.stdout).into_owned();
    let mirror =
        targets.lines().filter_map(|line| line.split_once(' ')).find(|(_, suite)| is_wanted(suite));
    match mirror {
        Some((uri, _)) => Ok(uri.to_owned()),
        None => bail!(
            "this machine's apt sources name no Debian archive to take {release} from\n\
             help: add a source for Debian to /etc/apt/sources.list.d"
        ),
    }
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
        .with_context(|| format!("cannot start `{program}`"))?;
    if !output.status.success() {
        bail!(
            "`{program}` ended with {}:\n{}{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(())
}
