//! Who logged in, and from where: what the host keeps of it (wtmp(5)).

use std::io;

use domain::configuration::login::{Layout, sessions};

use super::Page;
use super::host::Host;
use super::page::{Unseen, in_order};

const WTMP: &str = "/var/log/wtmp";

/// Sessions, the oldest first.
pub(super) fn logins(host: &dyn Host) -> Page {
    match host.read(WTMP) {
        Ok(bytes) => {
            let told = sessions(&bytes, Layout::of_this_machine());
            Ok(in_order(told.iter().map(ToString::to_string)))
        }
        // Systems without it keep this elsewhere, or not at all.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            Err(Unseen::new(format!("there is no `{WTMP}`")))
        }
        Err(error) => Err(Unseen::file(WTMP, &error)),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::super::tests::Recorded;
    use super::*;

    /// What util-linux makes of records in words.
    fn wtmp(records: &str) -> Vec<u8> {
        let mut child = Command::new("utmpdump")
            .arg("--reverse")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(records.as_bytes()).unwrap();
        child.wait_with_output().unwrap().stdout
    }

    #[test]
    fn real_records_are_told_as_sessions() {
        let host = Recorded::default();
        let records = "\
[7] [01234] [ts/0] [anna    ] [pts/0       ] [192.0.2.7           ] [192.0.2.7      ] [2026-11-30T12:00:00,000000+00:00]
[7] [01300] [tty1] [root    ] [tty1        ] [                    ] [0.0.0.0        ] [2026-11-30T12:30:00,000000+00:00]
[8] [01234] [ts/0] [        ] [pts/0       ] [                    ] [0.0.0.0        ] [2026-11-30T13:00:00,000000+00:00]
";
        host.file(WTMP, wtmp(records));

        assert_eq!(
            logins(&host).unwrap(),
            "2026-11-30T12:00:00Z anna on pts/0 from 192.0.2.7 until 2026-11-30T13:00:00Z\n\
             2026-11-30T12:30:00Z root on tty1 from - until now\n"
        );
    }

    #[test]
    fn where_nothing_is_kept_that_is_said() {
        let because = logins(&Recorded::default()).unwrap_err().to_string();
        assert_eq!(because, "there is no `/var/log/wtmp`");
    }
}
