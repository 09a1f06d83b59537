//! Which firmware a disk is made for, told from what lies at its beginning.

use std::path::Path;
use std::sync::Arc;

use super::partition::{self, EFI_SYSTEM_IN_MBR, Kind};
use super::{BlockRead, DiskError, Qcow2Disk, RawDisk, is_qcow2, read_structure};

/// The firmware that finds a disk's boot loader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Firmware {
    /// A BIOS runs the code in the disk's first sector.
    Bios,
    /// UEFI runs a program on the EFI system partition.
    Uefi,
}

/// C12A7328-F81F-11D2-BA4B-00A0C93EC93B, as it lies in a table (UEFI specification 2.10, 5.3.3).
const EFI_SYSTEM: [u8; 16] = [
    0x28, 0x73, 0x2A, 0xC1, 0x1F, 0xF8, 0xD2, 0x11, 0xBA, 0x4B, 0x00, 0xA0, 0xC9, 0x3E, 0xC9, 0x3B,
];

/// 21686148-6449-6E6F-744E-656564454649: where GRUB keeps what does not fit into the first sector.
const BIOS_BOOT: [u8; 16] = *b"Hah!IdontNeedEFI";

/// "Legacy BIOS bootable", bit 2 of a GPT entry's attributes.
const LEGACY_BOOT: u64 = 1 << 2;

/// Where code may lie in the first sector: before the disk's signature.
const BOOT_CODE: usize = 440;

/// Which firmware boots a raw or qcow2 disk image. Of one that is made for both, a BIOS: it needs
/// less.
pub fn firmware_of(path: &Path) -> Result<Firmware, DiskError> {
    let raw = RawDisk::named_by_user(path)?;
    let start = read_structure::<4>(&raw, 0)?.unwrap_or_default();
    let disk: Arc<dyn BlockRead> =
        if is_qcow2(&start) { Arc::new(Qcow2Disk::open(path)?) } else { Arc::new(raw) };
    of(&disk)
}

fn of(disk: &Arc<dyn BlockRead>) -> Result<Firmware, DiskError> {
    let first = read_structure::<512>(&**disk, 0)?.unwrap_or([0; 512]);
    let has_code = first[..BOOT_CODE].iter().any(|&byte| byte != 0);
    let kinds = partition::kinds(disk)?;
    let has_esp = kinds.iter().any(|kind| match kind {
        Kind::Gpt { guid, .. } => *guid == EFI_SYSTEM,
        Kind::Mbr { kind } => *kind == EFI_SYSTEM_IN_MBR,
    });
    // Code alone says little beside an ESP: partitioning tools leave some that only complains.
    let is_for_bios = kinds.iter().any(|kind| match kind {
        Kind::Gpt { guid, attributes } => *guid == BIOS_BOOT || attributes & LEGACY_BOOT != 0,
        Kind::Mbr { .. } => true,
    });
    Ok(if has_esp && !(has_code && is_for_bios) { Firmware::Uefi } else { Firmware::Bios })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Seek as _, SeekFrom, Write as _};
    use std::process::{Command, Stdio};

    use super::*;

    /// A disk that sfdisk lays out, with or without code in its first sector.
    fn disk(table: &str, code: &[u8]) -> Firmware {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("disk.raw");
        fs::File::create(&path).unwrap().set_len(64 << 20).unwrap();
        let mut sfdisk = Command::new("/sbin/sfdisk")
            .arg("--quiet")
            .arg(&path)
            .stdin(Stdio::piped())
            .spawn()
            .expect("fdisk is installed; run `cargo xtask test`");
        sfdisk.stdin.take().unwrap().write_all(table.as_bytes()).unwrap();
        assert!(sfdisk.wait().unwrap().success());
        let mut file = fs::OpenOptions::new().write(true).open(&path).unwrap();
        file.seek(SeekFrom::Start(0)).unwrap();
        file.write_all(code).unwrap();
        firmware_of(&path).unwrap()
    }

    const CODE: &[u8] = &[0xEB, 0x63, 0x90];
    const ESP_AND_ROOT: &str = "label: gpt\nsize=8MiB, type=U\nsize=16MiB, type=L\n";
    const HYBRID: &str = "label: gpt\n\
        size=1MiB, type=21686148-6449-6E6F-744E-656564454649\nsize=8MiB, type=U\ntype=L\n";

    #[test]
    fn an_efi_system_partition_without_code_for_a_bios_means_uefi() {
        assert_eq!(disk(ESP_AND_ROOT, &[]), Firmware::Uefi);
        assert_eq!(disk(ESP_AND_ROOT, CODE), Firmware::Uefi);
        assert_eq!(disk(HYBRID, &[]), Firmware::Uefi);
        assert_eq!(disk("label: dos\nsize=8MiB, type=ef\ntype=83\n", &[]), Firmware::Uefi);
    }

    #[test]
    fn a_disk_for_both_is_booted_by_a_bios() {
        assert_eq!(disk(HYBRID, CODE), Firmware::Bios);
        let attributed = "label: gpt\nsize=8MiB, type=U\ntype=L, attrs=LegacyBIOSBootable\n";
        assert_eq!(disk(attributed, CODE), Firmware::Bios);
        assert_eq!(disk("label: dos\nsize=8MiB, type=ef\ntype=83\n", CODE), Firmware::Bios);
    }

    #[test]
    fn whatever_else_there_is_a_bios_may_try() {
        assert_eq!(disk("label: gpt\ntype=L\n", &[]), Firmware::Bios);
        assert_eq!(disk("label: dos\ntype=83\n", CODE), Firmware::Bios);
        let place = tempfile::tempdir().unwrap();
        let empty = place.path().join("empty.raw");
        fs::write(&empty, "").unwrap();
        assert_eq!(firmware_of(&empty).unwrap(), Firmware::Bios);
    }
    proptest::proptest! {
        /// Tables come from an image: whatever they say, there is an answer or an error.
        #[test]
        fn no_table_is_too_strange(
            entries in proptest::collection::vec(proptest::num::u8::ANY, 64),
            header in proptest::collection::vec(proptest::num::u8::ANY, 504),
        ) {
            let mut bytes = vec![0; 446];
            bytes.extend(&entries);
            bytes.extend([0x55, 0xAA]);
            bytes.extend(b"EFI PART");
            bytes.extend(&header);
            bytes.resize(64 << 10, 0);
            let mut file = tempfile::NamedTempFile::new().unwrap();
            file.write_all(&bytes).unwrap();
            let is_gpt = entries.chunks(16).any(|entry| entry[4] == 0xEE);
            // A checksum that fits by chance does not come up.
            proptest::prop_assert_eq!(firmware_of(file.path()).is_err(), is_gpt);
        }
    }
}
