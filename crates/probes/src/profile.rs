//! What a system's owner declares: an application profile.
//!
//! ```toml
//! [[probe]]
//! name = "home page"
//! http = { port = 80, path = "/", status = 200, contains = "Welcome" }
//!
//! [[probe]]
//! name = "database"
//! command = { argv = ["/usr/bin/pg_isready"] }
//! within_seconds = 60
//!
//! [[probe]]
//! tcp = { port = 22 }
//!
//! [[probe]]
//! unit = "nginx.service"
//! ```

use serde::Deserialize;

use crate::{CommandProbe, HttpProbe, Probe, ProbeKind, TcpProbe};

/// Probes that an owner declares.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Profile {
    probes: Vec<Probe>,
}

/// Why a profile is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProfileError {
    /// It is no TOML, or has fields that a profile has not.
    #[error("the application profile cannot be read: {reason}")]
    Unreadable {
        /// What is wrong, with its place.
        reason: String,
    },
    /// A probe must try exactly one thing.
    #[error("probe {number} of the application profile tries {found} things instead of one")]
    Kinds {
        /// Its number, from 1.
        number: usize,
        /// How many of `tcp`, `http`, `unit` and `command` it names.
        found: usize,
    },
    /// Two probes bear one name.
    #[error("two probes of the application profile are named `{name}`")]
    Twice {
        /// The name.
        name: String,
    },
    /// A value is outside its range.
    #[error("probe `{name}` of the application profile: {reason}")]
    Value {
        /// The probe.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

impl ProfileError {
    /// What to do next.
    pub fn help(&self) -> Option<&'static str> {
        Some("docs/lab.md shows a profile with all kinds of probes")
    }
}

/// A probe may fail for so long while its service starts.
const PATIENCE_SECONDS: u64 = 30;
const MAX_PATIENCE_SECONDS: u64 = 600;
const MAX_PROBES: usize = 100;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    probe: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Option<String>,
    within_seconds: Option<u64>,
    tcp: Option<TcpProbe>,
    http: Option<HttpProbe>,
    unit: Option<String>,
    command: Option<CommandProbe>,
}

impl Profile {
    /// Reads a profile.
    pub fn parse(text: &str) -> Result<Self, ProfileError> {
        let unreadable = |reason: String| ProfileError::Unreadable { reason };
        let file: File = toml::from_str(text).map_err(|error| unreadable(error.to_string()))?;
        if file.probe.len() > MAX_PROBES {
            return Err(unreadable(format!("there are more than {MAX_PROBES} probes")));
        }
        let mut probes: Vec<Probe> = Vec::new();
        for (number, entry) in (1..).zip(file.probe) {
            let probe = entry.probe(number)?;
            if probes.iter().any(|other| other.name == probe.name) {
                return Err(ProfileError::Twice { name: probe.name });
            }
            probes.push(probe);
        }
        Ok(Self { probes })
    }

    /// The probes, in their order.
    pub fn probes(&self) -> &[Probe] {
        &self.probes
    }
}

impl Entry {
    fn probe(self, number: usize) -> Result<Probe, ProfileError> {
        let mut kinds: Vec<ProbeKind> = Vec::new();
        kinds.extend(self.tcp.map(ProbeKind::Tcp));
        kinds.extend(self.http.map(ProbeKind::Http));
        kinds.extend(self.unit.map(ProbeKind::Unit));
        kinds.extend(self.command.map(ProbeKind::Command));
        let found = kinds.len();
        let (Some(kind), 1) = (kinds.pop(), found) else {
            return Err(ProfileError::Kinds { number, found });
        };
        let name = self.name.unwrap_or_else(|| name_of(&kind));
        let within_seconds = self.within_seconds.unwrap_or(PATIENCE_SECONDS);
        let wrong = match &kind {
            _ if within_seconds > MAX_PATIENCE_SECONDS => {
                Some(format!("within_seconds is {within_seconds}, at most {MAX_PATIENCE_SECONDS}"))
            }
            ProbeKind::Http(http) if !http.path.starts_with('/') || has_blanks(&http.path) => {
                Some(format!("the path `{}` does not begin with `/` or has blanks", http.path))
            }
            ProbeKind::Command(command)
                if !command.argv.first().is_some_and(|program| program.starts_with('/')) =>
            {
                Some("argv must begin with the program's absolute path".to_owned())
            }
            _ => None,
        };
        match wrong {
            Some(reason) => Err(ProfileError::Value { name, reason }),
            None => Ok(Probe { name, kind, within_seconds }),
        }
    }
}

fn has_blanks(text: &str) -> bool {
    text.chars().any(|character| character.is_whitespace() || character.is_control())
}

fn name_of(kind: &ProbeKind) -> String {
    match kind {
        ProbeKind::Tcp(tcp) => format!("tcp {}", tcp.port),
        ProbeKind::Http(http) => format!("http {}{}", http.port, http.path),
        ProbeKind::Unit(unit) => unit.clone(),
        ProbeKind::Command(command) => command.argv.join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_kinds_are_read() {
        let text = "[[probe]]\nname = \"home\"\nhttp = { port = 80, path = \"/\", status = 200 }\n\
                    [[probe]]\ntcp = { port = 22 }\nwithin_seconds = 5\n\
                    [[probe]]\nunit = \"nginx.service\"\n\
                    [[probe]]\ncommand = { argv = [\"/usr/bin/pg_isready\"] }\n";

        let profile = Profile::parse(text).unwrap();

        let names: Vec<&str> = profile.probes().iter().map(|probe| probe.name.as_str()).collect();
        assert_eq!(names, ["home", "tcp 22", "nginx.service", "/usr/bin/pg_isready"]);
        assert_eq!(profile.probes()[1].within_seconds, 5);
    }

    #[test]
    fn a_probe_tries_one_thing() {
        let two = "[[probe]]\ntcp = { port = 22 }\nunit = \"a\"";
        assert_eq!(Profile::parse(two), Err(ProfileError::Kinds { number: 1, found: 2 }));
        let none = "[[probe]]\nname = \"x\"";
        assert_eq!(Profile::parse(none), Err(ProfileError::Kinds { number: 1, found: 0 }));
    }

    #[test]
    fn no_shell_and_no_second_request_gets_in() {
        let relative = "[[probe]]\ncommand = { argv = [\"sh\"] }";
        assert!(matches!(Profile::parse(relative), Err(ProfileError::Value { .. })));
        let split = "[[probe]]\nhttp = { port = 80, path = \"/ HTTP/1.0\\r\\n\", status = 200 }";
        assert!(matches!(Profile::parse(split), Err(ProfileError::Value { .. })));
        assert!(matches!(Profile::parse("probes = 1"), Err(ProfileError::Unreadable { .. })));
    }
}
