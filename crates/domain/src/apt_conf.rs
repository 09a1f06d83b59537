//! The few settings of `apt.conf(5)` that decide candidates or how archives are reached.

use std::collections::BTreeMap;

use crate::files::{EntryKind, FileError, FileView};

/// Where apt keeps its configuration inside a system.
pub const ETC_APT: &str = "/etc/apt";

/// Size limit of one configuration file. Real ones have some kilobytes.
const FILE_LIMIT: u64 = 4 << 20;

/// Deepest nesting of scopes that is followed; real files have three.
const DEPTH_LIMIT: usize = 32;

/// Settings by their full name in lower case (`acquire::http::proxy`); later files win.
#[derive(Debug, Clone, Default)]
pub struct AptConf {
    values: BTreeMap<String, String>,
}

impl AptConf {
    /// Reads `apt.conf.d/*`, then `apt.conf`, below `root` (`/etc/apt`), as apt does.
    pub fn read(files: &dyn FileView, root: &str) -> Result<Self, FileError> {
        let mut conf = Self::default();
        let parts = format!("{root}/apt.conf.d");
        let mut paths: Vec<String> = files
            .list(&parts)?
            .into_iter()
            .filter(|entry| entry.kind == EntryKind::File && is_conf_name(&entry.name))
            .map(|entry| format!("{parts}/{}", entry.name))
            .collect();
        paths.push(format!("{root}/apt.conf"));
        for path in paths {
            if let Some(bytes) = files.read(&path, FILE_LIMIT)? {
                conf.add(&String::from_utf8_lossy(&bytes));
            }
        }
        Ok(conf)
    }

    /// A setting, by its name without regard to case.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.values.get(&name.to_ascii_lowercase()).map(String::as_str)
    }

    /// Proxy for a scheme and host: the host's own setting first. `DIRECT` is a setting too: it
    /// wants no proxy, whatever the environment says.
    pub fn proxy(&self, scheme: &str, host: &str) -> Option<&str> {
        let own = self.get(&format!("Acquire::{scheme}::Proxy::{host}"));
        let fallback = (scheme == "https").then(|| self.get("Acquire::http::Proxy")).flatten();
        own.or_else(|| self.get(&format!("Acquire::{scheme}::Proxy")))
            .or(fallback)
            .filter(|proxy| !proxy.is_empty())
    }

    /// Adds a file's settings. What is not understood is skipped: none of it decides trust.
    pub fn add(&mut self, text: &str) {
        let mut scopes: Vec<String> = Vec::new();
        let mut words: Vec<String> = Vec::new();
        for token in tokens(text) {
            match token {
                Token::Word(word) => words.push(word),
                Token::Open if scopes.len() < DEPTH_LIMIT => {
                    scopes.push(words.pop().unwrap_or_default());
                    words.clear();
                }
                Token::Open => return,
                Token::Close => {
                    scopes.pop();
                    words.clear();
                }
                Token::End => {
                    if let [name, value] = words.as_slice() {
                        self.values.insert(full_name(&scopes, name), value.clone());
                    }
                    words.clear();
                }
            }
        }
    }
}

fn is_conf_name(name: &str) -> bool {
    let stem = name.strip_suffix(".conf").unwrap_or(name);
    !stem.is_empty()
        && stem.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

fn full_name(scopes: &[String], name: &str) -> String {
    let parts: Vec<&str> = scopes.iter().map(String::as_str).chain([name]).collect();
    parts.join("::").to_ascii_lowercase()
}

/// apt's words for yes and no (`apt.conf(5)`).
pub fn parse_bool(word: &str) -> Option<bool> {
    match word.trim().to_ascii_lowercase().as_str() {
        "yes" | "true" | "with" | "on" | "enable" | "1" => Some(true),
        "no" | "false" | "without" | "off" | "disable" | "0" => Some(false),
        _ => None,
    }
}

enum Token {
    Word(String),
    Open,
    Close,
    End,
}

fn tokens(text: &str) -> Vec<Token> {
    let mut tokens = Vec::new();
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if rest.starts_with("//") || first == '#' {
            rest = rest.find('\n').map_or("", |end| &rest[end..]);
        } else if let Some(comment) = rest.strip_prefix("/*") {
            rest = comment.find("*/").map_or("", |end| &comment[end + 2..]);
        } else if let Some(quoted) = rest.strip_prefix('"') {
            let end = quoted.find('"').unwrap_or(quoted.len());
            tokens.push(Token::Word(quoted[..end].to_owned()));
            rest = quoted.get(end + 1..).unwrap_or("");
        } else if matches!(first, '{' | '}' | ';') {
            tokens.push(match first {
                '{' => Token::Open,
                '}' => Token::Close,
                _ => Token::End,
            });
            rest = &rest[1..];
        } else if first.is_whitespace() {
            rest = &rest[first.len_utf8()..];
        } else {
            let ends = |character: char| character.is_whitespace() || "{};\"".contains(character);
            let end = rest.find(ends).unwrap_or(rest.len());
            tokens.push(Token::Word(rest[..end].to_owned()));
            rest = &rest[end..];
        }
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    fn conf(text: &str) -> AptConf {
        let mut conf = AptConf::default();
        conf.add(text);
        conf
    }

    #[test]
    fn settings_are_read_through_scopes_comments_and_quotes() {
        let conf = conf(
            r#"
            // A comment; with "signs"
            APT::Default-Release "stable";
            Acquire { http { Proxy "http://proxy.example.org:3128"; /* not "this"; */ }; };
            # Another
            acquire::HTTP::Timeout 7;
            List { "a"; "b"; };
            "#,
        );

        assert_eq!(conf.get("apt::default-release"), Some("stable"));
        assert_eq!(conf.get("Acquire::http::Timeout"), Some("7"));
        assert_eq!(conf.proxy("http", "a.example.org"), Some("http://proxy.example.org:3128"));
        assert_eq!(conf.proxy("https", "a.example.org"), Some("http://proxy.example.org:3128"));
        assert_eq!(conf.get("List"), None);
    }

    #[test]
    fn a_host_may_have_a_proxy_of_its_own_or_want_none() {
        let conf = conf(
            r#"Acquire::http::Proxy "http://p:1"; Acquire::http::Proxy::near "DIRECT";
               Acquire::https::Proxy "";"#,
        );

        assert_eq!(conf.proxy("http", "far"), Some("http://p:1"));
        assert_eq!(conf.proxy("http", "near"), Some("DIRECT"));
        assert_eq!(conf.proxy("https", "far"), None);
    }

    proptest::proptest! {
        #[test]
        fn no_text_is_too_odd(text in "[a-z:;{}\"/*# \n]{0,200}") {
            conf(&text);
        }

        #[test]
        fn scopes_without_end_are_left(depth in 0_usize..5000) {
            conf(&"a{".repeat(depth));
        }
    }
}
