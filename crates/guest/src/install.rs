//! Installing packages from the read-only disk, with apt, asking nobody anything.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use guest::{Downgrades, HOME, InstallRequest, Installed, PACKAGE_DISK};
use probes::command;
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

use crate::{System, picture};

const MAX_OUTPUT: usize = 1 << 20;

/// Nobody is there to answer, and configuration files stay as the administrator left them.
const ENVIRONMENT: [(&str, &str); 4] = [
    ("DEBIAN_FRONTEND", "noninteractive"),
    ("APT_LISTCHANGES_FRONTEND", "none"),
    ("NEEDRESTART_MODE", "a"),
    ("UCF_FORCE_CONFFOLD", "1"),
];

/// apt looks at the given files and at what is installed, and nowhere else.
const OPTIONS: [&str; 13] = [
    "--yes",
    "--no-install-recommends",
    "--option=Dpkg::Options::=--force-confdef",
    "--option=Dpkg::Options::=--force-confold",
    "--option=Dpkg::Use-Pty=0",
    "--option=DPkg::Lock::Timeout=120",
    "--option=Dir::Etc::SourceList=/dev/null",
    "--option=Dir::Etc::SourceParts=/dev/null",
    "--option=Dir::State::Lists=/run/patchwright/lists",
    "--option=Dir::Cache::pkgcache=",
    "--option=Dir::Cache::srcpkgcache=",
    "--option=APT::Sandbox::User=root",
    "--option=APT::Get::allow-change-held-packages=true",
];

/// Asked by `invoke-rc.d` and `deb-systemd-invoke` before each start of a service (Debian Policy
/// 9.3.3.2); 101 forbids it.
const POLICY: &str = "/usr/sbin/policy-rc.d";
const FORBIDS: &str = "#!/bin/sh\nexit 101\n";

pub(crate) fn install(request: &InstallRequest, system: System) -> Result<Installed, String> {
    let disk = MountedDisk::mount()?;
    let _none_starts = (system == System::Still).then(NoService::starts).transpose()?;
    let files = packages(&disk.path.join(&request.directory))?;
    let mut argv = vec!["apt-get"];
    argv.extend(OPTIONS);
    if system == System::Still {
        // A proof may see what apt would take away for a patch; an image is not to lose it unseen.
        argv.push("--no-remove");
    }
    if request.downgrades == Downgrades::Allowed {
        argv.push("--allow-downgrades");
    }
    argv.push("install");
    argv.extend(files.iter().map(String::as_str));
    let removals: Vec<String> = request.remove.iter().map(|name| format!("{name}-")).collect();
    argv.extend(removals.iter().map(String::as_str));

    let began = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    let (began_uptime_ms, clock) = (picture::uptime_ms(), Instant::now());
    let limit = Duration::from_secs(request.seconds);
    let epoch = request.source_date_epoch.map(|epoch| epoch.to_string());
    let mut environment = ENVIRONMENT.to_vec();
    environment.extend(epoch.as_deref().map(|epoch| ("SOURCE_DATE_EPOCH", epoch)));
    let output = command::run_with(&argv, &environment, limit, MAX_OUTPUT)?;
    Ok(Installed {
        exit: output.exit,
        timed_out: output.timed_out,
        output: output.text,
        began: i64::try_from(began.as_nanos()).unwrap_or(i64::MAX),
        began_uptime_ms,
        took_ms: u64::try_from(clock.elapsed().as_millis()).unwrap_or(u64::MAX),
    })
}

/// The `.deb` files of a directory, in the order of their names.
fn packages(directory: &Path) -> Result<Vec<String>, String> {
    let entries = fs::read_dir(directory)
        .map_err(|error| format!("no `{}` on the package disk: {error}", directory.display()))?;
    let mut files: Vec<String> = entries
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "deb"))
        .map(|path| path.display().to_string())
        .collect();
    files.sort();
    Ok(files)
}

/// No service of the image starts for as long as this lives.
struct NoService {
    /// The image's own answer, where it has one.
    before: Option<PathBuf>,
}

impl NoService {
    fn starts() -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("`{POLICY}`: {error}");
        let before = PathBuf::from(format!("{POLICY}.before-patchwright"));
        let had = fs::symlink_metadata(POLICY).is_ok();
        if had {
            fs::rename(POLICY, &before).map_err(failed)?;
        }
        fs::write(POLICY, FORBIDS).map_err(failed)?;
        fs::set_permissions(POLICY, fs::Permissions::from_mode(0o755)).map_err(failed)?;
        Ok(Self { before: had.then_some(before) })
    }
}

impl Drop for NoService {
    fn drop(&mut self) {
        let _ = match &self.before {
            Some(before) => fs::rename(before, POLICY),
            None => fs::remove_file(POLICY),
        };
    }
}

/// The package disk, mounted for as long as this lives.
struct MountedDisk {
    path: PathBuf,
}

impl MountedDisk {
    fn mount() -> Result<Self, String> {
        let device = device().ok_or("the package disk is not attached")?;
        let path = Path::new(HOME).join("disk");
        fs::create_dir_all(&path).map_err(|error| error.to_string())?;
        fs::create_dir_all(Path::new(HOME).join("lists/partial"))
            .map_err(|error| error.to_string())?;
        let flags =
            MountFlags::RDONLY | MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC;
        mount(&device, &path, "ext4", flags, c"noload")
            .map_err(|error| format!("cannot mount the package disk: {error}"))?;
        Ok(Self { path })
    }
}

impl Drop for MountedDisk {
    fn drop(&mut self) {
        let _ = unmount(&self.path, UnmountFlags::DETACH);
    }
}

/// The disk with our serial number.
fn device() -> Option<PathBuf> {
    fs::read_dir("/sys/class/block").ok()?.flatten().find_map(|entry| {
        let serial = fs::read_to_string(entry.path().join("serial")).ok()?;
        (serial.trim() == PACKAGE_DISK).then(|| Path::new("/dev").join(entry.file_name()))
    })
}
