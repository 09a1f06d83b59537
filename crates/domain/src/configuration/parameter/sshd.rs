//! `sshd_config(5)`: the first value that is obtained counts, but for keywords that add up; `Match` sets under a
//! condition to the end of the file or the next one; `Include` reads other files at its place.

use std::collections::HashSet;

use super::{Force, Parameters};
use crate::files::{Entry, EntryKind, FileView};

/// How deep files include each other (OpenSSH's `SERVCONF_MAX_DEPTH`).
const DEEPEST: usize = 16;

/// Most files that are read.
const MOST_FILES: usize = 256;

/// Keywords of which each line counts.
const ADDING: [&str; 12] = [
    "AcceptEnv",
    "AllowGroups",
    "AllowUsers",
    "DenyGroups",
    "DenyUsers",
    "HostCertificate",
    "HostKey",
    "ListenAddress",
    "PersourcePenaltyExemptList",
    "Port",
    "SetEnv",
    "Subsystem",
];

/// Other keywords, as the manual spells them; they are the same in any case.
const KNOWN: [&str; 84] = [
    "AddressFamily",
    "AllowAgentForwarding",
    "AllowStreamLocalForwarding",
    "AllowTcpForwarding",
    "AuthenticationMethods",
    "AuthorizedKeysCommand",
    "AuthorizedKeysCommandUser",
    "AuthorizedKeysFile",
    "AuthorizedPrincipalsCommand",
    "AuthorizedPrincipalsCommandUser",
    "AuthorizedPrincipalsFile",
    "Banner",
    "CASignatureAlgorithms",
    "ChannelTimeout",
    "ChrootDirectory",
    "Ciphers",
    "ClientAliveCountMax",
    "ClientAliveInterval",
    "Compression",
    "DebianBanner",
    "DisableForwarding",
    "ExposeAuthInfo",
    "FingerprintHash",
    "ForceCommand",
    "GatewayPorts",
    "GSSAPIAuthentication",
    "GSSAPICleanupCredentials",
    "GSSAPIKeyExchange",
    "GSSAPIStoreCredentialsOnRekey",
    "GSSAPIStrictAcceptorCheck",
    "HostbasedAcceptedAlgorithms",
    "HostbasedAuthentication",
    "HostbasedUsesNameFromPacketOnly",
    "HostKeyAgent",
    "HostKeyAlgorithms",
    "IgnoreRhosts",
    "IgnoreUserKnownHosts",
    "IPQoS",
    "KbdInteractiveAuthentication",
    "ChallengeResponseAuthentication",
    "KerberosAuthentication",
    "KerberosGetAFSToken",
    "KerberosOrLocalPasswd",
    "KerberosTicketCleanup",
    "KexAlgorithms",
    "LoginGraceTime",
    "LogLevel",
    "LogVerbose",
    "MACs",
    "MaxAuthTries",
    "MaxSessions",
    "MaxStartups",
    "ModuliFile",
    "PasswordAuthentication",
    "PermitEmptyPasswords",
    "PermitListen",
    "PermitOpen",
    "PermitRootLogin",
    "PermitTTY",
    "PermitTunnel",
    "PermitUserEnvironment",
    "PermitUserRC",
    "PerSourceMaxStartups",
    "PerSourceNetBlockSize",
    "PerSourcePenalties",
    "PidFile",
    "PrintLastLog",
    "PrintMotd",
    "PubkeyAcceptedAlgorithms",
    "PubkeyAuthOptions",
    "PubkeyAuthentication",
    "RekeyLimit",
    "RequiredRSASize",
    "RevokedKeys",
    "SecurityKeyProvider",
    "SshdSessionPath",
    "StreamLocalBindMask",
    "StreamLocalBindUnlink",
    "StrictModes",
    "SyslogFacility",
    "TCPKeepAlive",
    "TrustedUserCAKeys",
    "UnusedConnectionTimeout",
    "UseDNS",
];

/// More of them, and what older versions knew.
const KNOWN_TOO: [&str; 8] = [
    "UsePAM",
    "UsePrivilegeSeparation",
    "VersionAddendum",
    "X11DisplayOffset",
    "X11Forwarding",
    "X11UseLocalhost",
    "XAuthLocation",
    "Protocol",
];

struct Reader<'a> {
    others: &'a dyn FileView,
    found: &'a mut Parameters,
    files: usize,
    /// For each keyword and condition whether a value counts already.
    obtained: HashSet<(String, Option<String>)>,
    /// Whether a file that may set anything was not there to be read.
    is_blind: bool,
}

pub(super) fn read(path: &str, text: &str, others: &dyn FileView, found: &mut Parameters) {
    let obtained = HashSet::new();
    let mut reader = Reader { others, found, files: 0, obtained, is_blind: false };
    // What includes this file decides what counts before it.
    if path != "/etc/ssh/sshd_config" {
        reader.is_blind = true;
    }
    reader.file(path, text, None, 0);
}

impl Reader<'_> {
    /// `condition` is that of the `Match` in which the file is included.
    fn file(&mut self, path: &str, text: &str, outer: Option<&str>, depth: usize) {
        let mut condition = outer.map(str::to_owned);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let end = line.find(|it: char| it.is_whitespace() || it == '=').unwrap_or(line.len());
            let (keyword, rest) = line.split_at(end);
            let rest = rest.trim_start();
            let rest = rest.strip_prefix('=').unwrap_or(rest).trim();
            let Some(arguments) = arguments(rest) else {
                self.found.unknown(path, number, "a value in quotes does not end");
                continue;
            };
            if arguments.is_empty() || keyword.is_empty() {
                self.found.unknown(path, number, "there is no value");
                continue;
            }
            if keyword.eq_ignore_ascii_case("match") {
                condition = matched(&arguments.join(" "), outer);
            } else if keyword.eq_ignore_ascii_case("include") {
                for pattern in &arguments {
                    self.include(path, number, pattern, condition.as_deref(), depth);
                }
            } else {
                self.keyword(path, number, keyword, &arguments.join(" "), condition.as_deref());
            }
        }
    }

    fn keyword(
        &mut self,
        path: &str,
        line: usize,
        keyword: &str,
        value: &str,
        condition: Option<&str>,
    ) {
        let is_it = |known: &&&str| known.eq_ignore_ascii_case(keyword);
        let adding = ADDING.iter().find(is_it);
        let known = adding.or_else(|| KNOWN.iter().chain(&KNOWN_TOO).find(is_it));
        let Some(name) = known else {
            self.found.unknown(path, line, "the keyword is not known");
            return;
        };
        let condition = condition.map(str::to_owned);
        let mut is_first = || {
            let key = ((*name).to_owned(), condition.clone());
            self.obtained.insert(key)
        };
        let force = match (adding.is_some() || is_first(), self.is_blind) {
            (false, _) => Force::Overridden,
            (true, true) => Force::Unknown,
            (true, false) => Force::InForce,
        };
        self.found.push(path, line, format!("sshd.{name}"), value, condition, force);
    }

    /// Reads the files that a pattern names, in the order of their names, as sshd does.
    fn include(
        &mut self,
        path: &str,
        line: usize,
        pattern: &str,
        condition: Option<&str>,
        depth: usize,
    ) {
        let pattern = match pattern.strip_prefix('/') {
            Some(_) => pattern.to_owned(),
            None => format!("/etc/ssh/{pattern}"),
        };
        let (directory, name) = pattern.rsplit_once('/').unwrap_or(("", &pattern));
        let is_simple = !directory.contains(['*', '?', '[']) && !name.contains(['?', '[']);
        let entries = is_simple.then(|| self.others.list(directory)).and_then(Result::ok);
        let is_there =
            |entries: &Vec<Entry>| !entries.is_empty() || self.is_empty_directory(directory);
        let names: Option<Vec<_>> = entries.filter(is_there).map(|entries| {
            let files = entries.into_iter().filter(|entry| entry.kind == EntryKind::File);
            files.map(|entry| entry.name).filter(|file| glob(name, file)).collect()
        });
        let Some(names) = names else {
            // Nobody can tell whether there is none, or whether it is only not at hand.
            self.is_blind = true;
            self.found.unknown(path, line, "files that it includes are not at hand");
            return;
        };
        for name in names {
            let file = format!("{directory}/{name}");
            self.files += 1;
            let content = (depth < DEEPEST && self.files <= MOST_FILES)
                .then(|| self.others.read(&file, super::LARGEST as u64).ok().flatten())
                .flatten();
            let Some(text) = content.and_then(|content| String::from_utf8(content).ok()) else {
                self.is_blind = true;
                self.found.unknown(path, line, format!("`{file}` cannot be read"));
                continue;
            };
            // A `Match` in there ends with the file.
            self.file(&file, &text, condition, depth + 1);
        }
    }
}

impl Reader<'_> {
    /// A directory without files looks like none; the one around it knows.
    fn is_empty_directory(&self, directory: &str) -> bool {
        let Some((parent, name)) = directory.rsplit_once('/') else { return false };
        let Ok(entries) = self.others.list(parent) else { return false };
        entries.iter().any(|entry| entry.name == name && entry.kind == EntryKind::Directory)
    }
}

/// The condition of a `Match`; `all` is none.
fn matched(criteria: &str, outer: Option<&str>) -> Option<String> {
    let own = (!criteria.eq_ignore_ascii_case("all")).then_some(criteria);
    match (outer, own) {
        (Some(outer), Some(own)) => Some(format!("{outer}, {own}")),
        (outer, own) => outer.or(own).map(str::to_owned),
    }
}

/// Words, with those in double quotes as one; a comment behind them is none.
fn arguments(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut letters = text.chars().peekable();
    while let Some(&letter) = letters.peek() {
        if letter.is_whitespace() {
            letters.next();
            continue;
        }
        if letter == '#' {
            break;
        }
        let mut word = String::new();
        let mut is_quoted = false;
        while let Some(&letter) = letters.peek() {
            if letter == '"' {
                is_quoted = !is_quoted;
            } else if letter.is_whitespace() && !is_quoted {
                break;
            } else {
                word.push(letter);
            }
            letters.next();
        }
        if is_quoted {
            return None;
        }
        words.push(word);
    }
    Some(words)
}

/// Whether a name is what a pattern with `*` says; a name with a dot at its beginning is hidden (glob(7)).
fn glob(pattern: &str, name: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(mut rest) = parts.next().and_then(|first| name.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<_> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    if name.starts_with('.') && pattern.starts_with('*') {
        return false;
    }
    for part in middle {
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    rest.ends_with(last)
}
