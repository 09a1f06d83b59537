//! Who logged in: sessions as a host's `wtmp` has them (utmp(5)), and as lines of a document.
//!
//! ```text
//! /var/log/wtmp ─► sessions ─► lines ─► profile:logins ─► history ─► sessions ─► the item's timeline
//! ```
//!
//! The file is written by whoever may, and read as what anybody may have written: records of a fixed size, of which
//! each is looked at by itself.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;

/// The document in which they are told.
pub const LOGINS: &str = "profile:logins";

/// Most sessions that are told, the newest.
pub const MOST: usize = 500;

/// Types of records (utmp(5)).
const RUN_LEVEL: i16 = 1;
const BOOT_TIME: i16 = 2;
const USER_PROCESS: i16 = 7;
const DEAD_PROCESS: i16 = 8;

/// How glibc lays a record out on a machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Times of 32 bits, 384 bytes: where programs of 32 bits read the same file, as on x86.
    Short,
    /// Times of 64 bits, 400 bytes: everywhere else.
    Long,
}

/// A session that began with a login.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Login {
    /// When it began.
    pub from: Timestamp,
    /// Whose account.
    pub account: String,
    /// On which terminal.
    pub line: String,
    /// From where; `None` on the host itself.
    pub host: Option<String>,
    /// How it ended.
    pub end: End,
}

/// How a session ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// It did not, as far as the host tells.
    Open,
    /// Somebody logged out.
    At(Timestamp),
    /// The host went down or came up anew.
    Down(Timestamp),
}

/// A line that tells no session.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the line tells of no login")]
pub struct NoLogin;

impl Layout {
    /// That of this machine.
    pub const fn of_this_machine() -> Self {
        if cfg!(any(target_arch = "x86_64", target_arch = "x86")) {
            Self::Short
        } else {
            Self::Long
        }
    }

    const fn size(self) -> usize {
        match self {
            Self::Short => 384,
            Self::Long => 400,
        }
    }

    /// Seconds since 1970.
    fn time(self, record: &[u8]) -> Option<i64> {
        match self {
            Self::Short => {
                record.get(340..344)?.try_into().ok().map(|it| i64::from(u32::from_ne_bytes(it)))
            }
            Self::Long => record.get(344..352)?.try_into().ok().map(i64::from_ne_bytes),
        }
    }
}

/// The sessions that a `wtmp` tells, the oldest first, at most the newest [`MOST`].
pub fn sessions(wtmp: &[u8], layout: Layout) -> Vec<Login> {
    let mut logins: Vec<Login> = Vec::new();
    let mut open: BTreeMap<String, usize> = BTreeMap::new();
    for record in wtmp.chunks_exact(layout.size()) {
        let Some(kind) = record.get(..2).and_then(|it| it.try_into().ok()).map(i16::from_ne_bytes)
        else {
            continue;
        };
        let time = layout.time(record).and_then(|second| Timestamp::from_second(second).ok());
        let Some(time) = time else { continue };
        let text = |from: usize, to: usize| record.get(from..to).map(word).unwrap_or_default();
        let (line, account) = (text(8, 40), text(44, 76));
        let mut ends = |login: Option<usize>, end| {
            if let Some(login) = login.and_then(|login| logins.get_mut(login)) {
                login.end = end;
            }
        };
        match kind {
            USER_PROCESS if !account.is_empty() && !line.is_empty() => {
                // Whoever was on the terminal before is not any more.
                ends(open.remove(&line), End::At(time));
                open.insert(line.clone(), logins.len());
                let host = Some(text(76, 332)).filter(|host| !host.is_empty() && host != "-");
                logins.push(Login { from: time, account, line, host, end: End::Open });
            }
            DEAD_PROCESS => ends(open.remove(&line), End::At(time)),
            BOOT_TIME => {
                for it in std::mem::take(&mut open).into_values() {
                    ends(Some(it), End::Down(time));
                }
            }
            RUN_LEVEL if account == "shutdown" => {
                for it in std::mem::take(&mut open).into_values() {
                    ends(Some(it), End::Down(time));
                }
            }
            _ => {}
        }
    }
    let left_out = logins.len().saturating_sub(MOST);
    logins.split_off(left_out)
}

/// Up to its zero, as one word of letters that can be seen.
fn word(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|&byte| byte == 0).unwrap_or(bytes.len());
    let text = String::from_utf8_lossy(&bytes[..end]);
    let is_odd = |c: char| {
        c.is_whitespace()
            || c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{206f}')
    };
    text.chars().map(|c| if is_odd(c) { '_' } else { c }).collect()
}

impl fmt::Display for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let host = self.host.as_deref().unwrap_or("-");
        write!(f, "{} {} on {} from {host} until ", self.from, self.account, self.line)?;
        match self.end {
            End::Open => f.write_str("now"),
            End::At(at) => write!(f, "{at}"),
            End::Down(at) => write!(f, "down {at}"),
        }
    }
}

impl FromStr for Login {
    type Err = NoLogin;

    fn from_str(text: &str) -> Result<Self, NoLogin> {
        let words: Vec<&str> = text.split(' ').collect();
        let [from, account, "on", line, "from", host, "until", end @ ..] = &words[..] else {
            return Err(NoLogin);
        };
        let time = |text: &str| text.parse::<Timestamp>().map_err(|_| NoLogin);
        let end = match end {
            ["now"] => End::Open,
            ["down", at] => End::Down(time(at)?),
            [at] => End::At(time(at)?),
            _ => return Err(NoLogin),
        };
        let host = Some((*host).to_owned()).filter(|host| host != "-");
        let (from, account, line) = (time(from)?, (*account).to_owned(), (*line).to_owned());
        Ok(Self { from, account, line, host, end })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn record(
        layout: Layout,
        kind: i16,
        line: &str,
        account: &str,
        host: &str,
        second: i64,
    ) -> Vec<u8> {
        let mut record = vec![0; layout.size()];
        record[..2].copy_from_slice(&kind.to_ne_bytes());
        record[8..8 + line.len()].copy_from_slice(line.as_bytes());
        record[44..44 + account.len()].copy_from_slice(account.as_bytes());
        record[76..76 + host.len()].copy_from_slice(host.as_bytes());
        match layout {
            Layout::Short => {
                let second = u32::try_from(second).unwrap();
                record[340..344].copy_from_slice(&second.to_ne_bytes());
            }
            Layout::Long => record[344..352].copy_from_slice(&second.to_ne_bytes()),
        }
        record
    }

    fn wtmp(layout: Layout) -> Vec<u8> {
        [
            record(layout, BOOT_TIME, "~", "reboot", "6.1.0", 100),
            record(layout, USER_PROCESS, "pts/0", "anna", "192.0.2.7", 200),
            record(layout, USER_PROCESS, "tty1", "root", "", 210),
            record(layout, DEAD_PROCESS, "pts/0", "", "", 300),
            record(layout, USER_PROCESS, "pts/0", "b\u{1b}[2J b", "h", 310),
            record(layout, USER_PROCESS, "pts/0", "carl", "h", 320),
            record(layout, BOOT_TIME, "~", "reboot", "6.1.0", 400),
            record(layout, USER_PROCESS, "pts/1", "dora", "2001:db8::1", 500),
        ]
        .concat()
    }

    #[test]
    fn sessions_begin_and_end() {
        for layout in [Layout::Short, Layout::Long] {
            let told: Vec<_> =
                sessions(&wtmp(layout), layout).iter().map(ToString::to_string).collect();
            assert_eq!(
                told,
                [
                    "1970-01-01T00:03:20Z anna on pts/0 from 192.0.2.7 until 1970-01-01T00:05:00Z",
                    "1970-01-01T00:03:30Z root on tty1 from - until down 1970-01-01T00:06:40Z",
                    "1970-01-01T00:05:10Z b_[2J_b on pts/0 from h until 1970-01-01T00:05:20Z",
                    "1970-01-01T00:05:20Z carl on pts/0 from h until down 1970-01-01T00:06:40Z",
                    "1970-01-01T00:08:20Z dora on pts/1 from 2001:db8::1 until now",
                ]
            );
            for line in &told {
                assert_eq!(line.parse::<Login>().unwrap().to_string(), *line);
            }
        }
        for odd in
            ["", "x", "1970-01-01T00:03:20Z a on b from c until", "x a on b from c until now"]
        {
            assert_eq!(odd.parse::<Login>(), Err(NoLogin), "{odd}");
        }
    }

    #[test]
    fn the_newest_are_told() {
        let many: Vec<u8> = (0..600)
            .flat_map(|second| record(Layout::Short, USER_PROCESS, "pts/0", "anna", "", second))
            .collect();

        let told = sessions(&many, Layout::Short);

        assert_eq!((told.len(), told[0].from), (MOST, Timestamp::from_second(100).unwrap()));
    }

    proptest! {
        #[test]
        fn no_file_panics_or_makes_a_line_of_its_own(bytes in prop::collection::vec(any::<u8>(), 0..2000), kind in 0_i16..10) {
            let mut bytes = bytes;
            if let Some(first) = bytes.get_mut(..2) {
                first.copy_from_slice(&kind.to_ne_bytes());
            }
            for login in sessions(&bytes, Layout::Short) {
                let line = login.to_string();
                prop_assert_eq!(line.lines().count(), 1);
                prop_assert_eq!(line.parse::<Login>(), Ok(login));
            }
        }
    }
}
