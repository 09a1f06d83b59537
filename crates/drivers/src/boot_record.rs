//! What a system noted of its starts: `/var/log/wtmp`, for images whose console keeps quiet.
//!
//! systemd writes one record at each start, with the kernel's release where a host would stand
//! (utmp(5)). Records are of one size on x86-64; nothing in them is followed or trusted.

use std::path::Path;

use domain::files::FileView;

const WTMP: &str = "/var/log/wtmp";
/// A busy server's log of a month has less.
const MAX_WTMP: u64 = 16 << 20;

/// `struct utmp` of glibc on x86-64.
const RECORD: usize = 384;
const TYPE: usize = 0;
const HOST: std::ops::Range<usize> = 76..76 + 256;
const BOOT_TIME: [u8; 2] = 2_u16.to_le_bytes();

/// The kernel of the last start that `disk` knows of and `image`, which it was made from, does not.
pub(crate) fn new_kernel(image: &Path, disk: &Path) -> Option<String> {
    let of = |path: &Path| {
        let target = inspect::open(path, None).ok()?;
        Some(starts(target.files()))
    };
    let before = of(image).unwrap_or_default().len();
    of(disk)?.into_iter().skip(before).next_back()
}

/// The kernels' releases, oldest first.
fn starts(files: &dyn FileView) -> Vec<String> {
    let log = files.read(WTMP, MAX_WTMP).ok().flatten().unwrap_or_default();
    log.chunks_exact(RECORD)
        .filter(|record| record[TYPE..TYPE + 2] == BOOT_TIME)
        .filter_map(|record| {
            let host = &record[HOST];
            let end = host.iter().position(|&byte| byte == 0).unwrap_or(host.len());
            let release = std::str::from_utf8(&host[..end]).ok()?;
            crate::console::is_release(release).then(|| release.to_owned())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn record(kind: u8, host: &str) -> Vec<u8> {
        let mut record = vec![0; RECORD];
        record[TYPE] = kind;
        record[HOST.start..HOST.start + host.len()].copy_from_slice(host.as_bytes());
        record
    }

    fn starts_of(log: Vec<u8>) -> Vec<String> {
        starts(&BTreeMap::from([(WTMP.to_owned(), log)]))
    }

    #[test]
    fn each_start_names_its_kernel() {
        let log = [record(2, "6.1.0-9-amd64"), record(7, "10.0.0.1"), record(2, "6.1.0-32-amd64")];
        assert_eq!(starts_of(log.concat()), ["6.1.0-9-amd64", "6.1.0-32-amd64"]);
    }

    #[test]
    fn a_log_that_is_torn_or_missing_says_less_and_breaks_nothing() {
        let mut torn = record(2, "6.1.0-9-amd64");
        torn.extend(&record(2, "6.1.0-32-amd64")[..100]);
        assert_eq!(starts_of(torn), ["6.1.0-9-amd64"]);
        assert_eq!(starts(&BTreeMap::new()), Vec::<String>::new());
        assert_eq!(starts_of(record(2, "\u{1b}[2J")), Vec::<String>::new());
    }

    proptest::proptest! {
        #[test]
        fn no_log_is_too_strange(log in proptest::collection::vec(proptest::num::u8::ANY, 0..2000)) {
            for release in starts_of(log) {
                proptest::prop_assert!(crate::console::is_release(&release));
            }
        }
    }
}
