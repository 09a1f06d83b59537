//! KVM where it works, TCG otherwise.
//!
//! That `/dev/kvm` is there says little: nested virtualisation may be so slow that a guest never
//! comes up, or hang. So both run the same small guest, a boot sector that counts, and KVM is
//! taken only if it finishes no later than TCG does. A hanging KVM costs as long as TCG took.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crate::machine::QEMU;

/// How guests' code is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Accelerator {
    /// By the processor, through the kernel.
    Kvm,
    /// Translated, by QEMU alone: works everywhere, an order of magnitude slower.
    Tcg,
}

/// As reports name it.
impl std::fmt::Display for Accelerator {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(match self {
            Self::Kvm => "KVM",
            Self::Tcg => "TCG",
        })
    }
}

impl Accelerator {
    /// QEMU's name for it, with its options.
    pub(crate) const fn argument(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Tcg => "tcg,thread=multi,tb-size=256",
        }
    }

    /// The processor as QEMU is told it.
    pub(crate) const fn cpu(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            // AMD's are not open to Meltdown, so that the kernel keeps one set of page tables: each system
            // call of a guest that keeps two throws TCG's translations away. A boot takes a quarter less.
            Self::Tcg => "Nehalem,vendor=AuthenticAMD",
        }
    }

    /// The processor model that it runs best.
    pub const fn processor(self) -> &'static str {
        match self {
            Self::Kvm => "host",
            // x86-64-v2: what TCG emulates cheaply. `max` costs a third more (38 s of processor
            // time against 27 s for one boot of a small bookworm).
            Self::Tcg => "Nehalem",
        }
    }

    /// The better of the two on this machine, found out once for each process.
    pub fn of_this_machine() -> Self {
        static FOUND: OnceLock<Accelerator> = OnceLock::new();
        *FOUND.get_or_init(|| {
            let usable = OpenOptions::new().read(true).write(true).open("/dev/kvm").is_ok();
            if usable && is_kvm_faster().unwrap_or(false) { Self::Kvm } else { Self::Tcg }
        })
    }
}

/// TCG needs about half a second; a busy machine more.
const TCG_LIMIT: Duration = Duration::from_secs(20);

/// What QEMU ends with when the boot sector has written 16 to the exit device: `16 << 1 | 1`.
const DONE: i32 = 33;

fn is_kvm_faster() -> io::Result<bool> {
    let place = tempfile::tempdir()?;
    let disk = place.path().join("count.img");
    fs::write(&disk, boot_sector())?;
    let Some(tcg) = time(Accelerator::Tcg, &disk, TCG_LIMIT)? else { return Ok(false) };
    Ok(time(Accelerator::Kvm, &disk, tcg)?.is_some())
}

/// How long the boot sector takes, `None` where it fails or exceeds the limit.
fn time(accelerator: Accelerator, disk: &Path, limit: Duration) -> io::Result<Option<Duration>> {
    let began = Instant::now();
    let mut child = Command::new(QEMU)
        .args(["-accel", accelerator.argument(), "-cpu", accelerator.cpu()])
        .args(["-machine", "pc", "-m", "16", "-nodefaults", "-no-user-config"])
        .args(["-display", "none", "-no-reboot", "-device", "isa-debug-exit,iobase=0xf4"])
        .args(["-drive", &format!("if=ide,format=raw,file={}", disk.display())])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()?;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok((status.code() == Some(DONE)).then(|| began.elapsed()));
        }
        if began.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(Duration::from_millis(5));
    }
}

/// Counts down from a hundred million in real mode, then ends the machine.
fn boot_sector() -> [u8; 512] {
    const CODE: [u8; 16] = [
        0x66, 0xB9, 0x00, 0xE1, 0xF5, 0x05, // mov ecx, 100_000_000
        0x66, 0x49, // dec ecx
        0x75, 0xFC, // jnz -4
        0xB0, 0x10, // mov al, 16
        0xE6, 0xF4, // out 0xF4, al
        0xF4, // hlt
        0x90,
    ];
    let mut sector = [0; 512];
    sector[..CODE.len()].copy_from_slice(&CODE);
    sector[510..].copy_from_slice(&[0x55, 0xAA]);
    sector
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_boot_sector_ends_under_tcg_and_a_limit_ends_it_before() {
        let place = tempfile::tempdir().unwrap();
        let disk = place.path().join("count.img");
        fs::write(&disk, boot_sector()).unwrap();

        assert!(time(Accelerator::Tcg, &disk, TCG_LIMIT).unwrap().is_some());
        assert_eq!(time(Accelerator::Tcg, &disk, Duration::from_millis(1)).unwrap(), None);
    }
}
