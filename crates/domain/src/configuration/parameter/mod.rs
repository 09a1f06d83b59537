//! What files set, one parameter each, for searches as `sshd.PermitRootLogin=yes`.
//!
//! Files of known formats are read as their programs read them, as far as one file tells. What a line sets under
//! a condition says the condition; what other files may still alter, or what is not understood, is said to be
//! unknown.
//!
//! ```
//! use std::collections::BTreeMap;
//! use domain::configuration::parameter::{Force, read};
//!
//! let none = BTreeMap::new();
//! let text = "PermitRootLogin no\nMatch User backup\n  PermitRootLogin yes\n";
//! let sshd = read("/etc/ssh/sshd_config", text, &none).unwrap();
//!
//! let [always, backup] = sshd.parameters.as_slice() else { panic!() };
//! assert_eq!((always.to_string(), always.force), ("sshd.PermitRootLogin=no".to_owned(), Force::InForce));
//! assert_eq!(backup.condition.as_deref(), Some("User backup"));
//! ```

mod lines;
mod nginx;
mod sshd;

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::cloud::words;
use crate::files::FileView;
use crate::order::PathPattern;

/// Largest file that is read, in bytes.
pub const LARGEST: usize = 1 << 20;

/// Most parameters and most unknown places of one file; what comes behind is said to be unknown.
pub const MOST: usize = 20_000;

words! {
    /// How a file is written.
    Format {
        /// `sshd_config(5)`.
        Sshd = "sshd",
        /// `sysctl.d(5)`.
        Sysctl = "sysctl",
        /// `[section]` and `key = value`: `systemd.syntax(7)`, my.cnf and their like.
        Ini = "ini",
        /// `key=value` as shells read it: `/etc/default`, `os-release(5)`.
        Shell = "shell",
        /// `postgresql.conf`.
        Postgresql = "postgresql",
        /// nginx: simple directives in blocks.
        Nginx = "nginx",
        /// A word, blanks, a value: `login.defs(5)`.
        Words = "words",
    }
}

words! {
    /// Whether what a line says counts.
    Force {
        /// It does.
        InForce = "in_force",
        /// Another line of the same file took its place.
        Overridden = "overridden",
        /// A file that is not at hand may have set it otherwise.
        Unknown = "unknown",
    }
}

/// One parameter that a file sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameter {
    /// Program, section and name with dots between them.
    pub name: String,
    /// Its value, without quotes around it.
    pub value: String,
    /// For what alone it is set, in the file's own words; `None` where it is set for all.
    pub condition: Option<String>,
    /// Whether it counts.
    pub force: Force,
    /// In which file it stands.
    pub path: String,
    /// On which line, from 1.
    pub line: usize,
}

/// What of a file is not understood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unknown {
    /// In which file.
    pub path: String,
    /// On which line, from 1.
    pub line: usize,
    /// Why. The line itself is not repeated: it may be anything.
    pub because: String,
}

/// What a file sets.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parameters {
    /// How it was read.
    pub format: Format,
    /// In the order of the file.
    pub parameters: Vec<Parameter>,
    /// What was not understood.
    pub unknown: Vec<Unknown>,
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}", self.name, self.value)
    }
}

impl Parameters {
    fn new(format: Format) -> Self {
        Self { format, parameters: Vec::new(), unknown: Vec::new() }
    }

    /// Whether there is room for more; says once that there is none.
    fn has_room(&mut self, path: &str, line: usize) -> bool {
        let used = self.parameters.len() + self.unknown.len();
        if used == MOST {
            let because = format!("only the first {MOST} places of a file are read");
            self.unknown.push(Unknown { path: path.to_owned(), line, because });
        }
        used < MOST
    }

    fn unknown(&mut self, path: &str, line: usize, because: impl Into<String>) {
        if self.has_room(path, line) {
            let (path, because) = (path.to_owned(), because.into());
            self.unknown.push(Unknown { path, line, because });
        }
    }

    fn set(&mut self, path: &str, line: usize, name: String, value: &str) {
        self.push(path, line, name, value, None, Force::InForce);
    }

    fn push(
        &mut self,
        path: &str,
        line: usize,
        name: String,
        value: &str,
        condition: Option<String>,
        force: Force,
    ) {
        if self.has_room(path, line) {
            let (value, path) = (value.to_owned(), path.to_owned());
            self.parameters.push(Parameter { name, value, condition, force, path, line });
        }
    }

    /// The last line that sets a name counts.
    fn last_counts(&mut self) {
        let mut seen = std::collections::HashSet::new();
        for it in self.parameters.iter_mut().rev() {
            if !seen.insert(it.name.clone()) {
                it.force = Force::Overridden;
            }
        }
    }
}

/// Which files have which format, and the program whose name begins their parameters'.
const KNOWN: &[(&str, Format, &str)] = &[
    ("/etc/ssh/sshd_config", Format::Sshd, "sshd"),
    ("/etc/ssh/sshd_config.d/*.conf", Format::Sshd, "sshd"),
    ("/etc/sysctl.conf", Format::Sysctl, "sysctl"),
    ("/etc/sysctl.d/*.conf", Format::Sysctl, "sysctl"),
    ("/usr/lib/sysctl.d/*.conf", Format::Sysctl, "sysctl"),
    ("/etc/postgresql/**/*.conf", Format::Postgresql, "postgresql"),
    ("/**/postgresql.conf", Format::Postgresql, "postgresql"),
    ("/**/postgresql.auto.conf", Format::Postgresql, "postgresql"),
    ("/etc/nginx/**", Format::Nginx, "nginx"),
    ("/etc/mysql/**", Format::Ini, "mysql"),
    ("/etc/my.cnf", Format::Ini, "mysql"),
    ("/etc/my.cnf.d/*", Format::Ini, "mysql"),
    ("/etc/systemd/**/*.conf", Format::Ini, "systemd"),
    ("/etc/systemd/system/**", Format::Ini, "systemd"),
    ("/etc/NetworkManager/**", Format::Ini, "networkmanager"),
    ("/etc/samba/smb.conf", Format::Ini, "samba"),
    ("/etc/login.defs", Format::Words, "login"),
    ("/etc/security/pwquality.conf", Format::Shell, "pwquality"),
    ("/etc/security/faillock.conf", Format::Shell, "faillock"),
    ("/etc/os-release", Format::Shell, "os-release"),
    ("/etc/default/*", Format::Shell, "default"),
    ("/etc/sysconfig/*", Format::Shell, "sysconfig"),
];

/// The format that is known of a file, and the word that its parameters begin with.
pub fn format_of(path: &str) -> Option<(Format, String)> {
    let is_it = |pattern: &str| {
        PathPattern::try_from(pattern.to_owned()).is_ok_and(|pattern| pattern.has(path))
    };
    // Files in pg_hba's own format lie beside.
    if path.ends_with("/pg_hba.conf") || path.ends_with("/pg_ident.conf") {
        return None;
    }
    let (_, format, program) = KNOWN.iter().find(|(pattern, ..)| is_it(pattern))?;
    // Of many files that are each a program's own, the file's name tells whose.
    let own = matches!(*program, "default" | "sysconfig");
    let name = path.rsplit('/').next().filter(|_| own);
    Some((*format, name.map_or_else(|| (*program).to_owned(), |name| format!("{program}.{name}"))))
}

/// Reads a file, as it came out of [`redact`](super::secret::redact) or as it is. `others` has the files that
/// it may include; what is not in there is unknown. `None` where the file's format is.
pub fn read(path: &str, text: &str, others: &dyn FileView) -> Option<Parameters> {
    let (format, program) = format_of(path)?;
    let mut parameters = Parameters::new(format);
    if text.len() > LARGEST {
        parameters.unknown(path, 1, format!("the file has more than {LARGEST} bytes"));
        return Some(parameters);
    }
    match format {
        Format::Sshd => sshd::read(path, text, others, &mut parameters),
        Format::Nginx => nginx::read(path, text, &program, &mut parameters),
        Format::Sysctl => lines::sysctl(path, text, &program, &mut parameters),
        Format::Ini => lines::ini(path, text, &program, &mut parameters),
        Format::Shell => lines::shell(path, text, &program, &mut parameters),
        Format::Postgresql => {
            lines::postgresql(path, text, &program, others, &mut parameters);
        }
        Format::Words => lines::words(path, text, &program, &mut parameters),
    }
    Some(parameters)
}

#[cfg(test)]
mod tests;
