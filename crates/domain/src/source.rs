//! Sources of what items are configured by, beside agents and devices: git repositories, documents behind an
//! address, and files in images, of our own and of the cloud's stores.
//!
//! ```
//! use domain::source::{Pointer, canonical};
//!
//! let volatile = ["/stats/*/uptime".parse::<Pointer>()?];
//! let text = canonical(br#"{"stats":[{"uptime":17}],"a":true}"#, &volatile)?;
//! assert_eq!(text, "{\n  \"a\": true,\n  \"stats\": [\n    {\n      \"uptime\": \"<volatile>\"\n    }\n  ]\n}\n");
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

use std::fmt;
use std::str::FromStr;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cloud::words;
use crate::order::PathPattern;

/// Longest address, reference, account or pointer, in bytes.
const LONGEST: usize = 1000;

/// Longest name by which a store knows an image, in bytes.
const LONGEST_IMAGE: usize = 600;

/// Most commits that are taken in before the first one that is seen.
const MOST_PAST: u16 = 10_000;

/// Most patterns, pointers or names of headers of a source.
const MOST: usize = 64;

/// Most authorities of a source.
pub const MOST_AUTHORITIES: usize = 8;

/// Longest certificate of one, in bytes (PEM).
pub const LONGEST_CERTIFICATE: usize = 16 << 10;

/// What stands where something alters by itself.
const VOLATILE: &str = "<volatile>";

words! {
    /// What a source is.
    SourceKind {
        /// A branch or tag of a git repository.
        Git = "git",
        /// One document behind an address.
        Http = "http",
        /// What lies below `/etc` in an image that does not run. Such a source comes and goes with its image.
        Image = "image",
        /// The same of an image that lies in a store of the cloud's, where it may alter.
        ImageStore = "image_store",
    }
}

impl SourceKind {
    /// What the names begin with under which the source's documents are kept: `git:app/`. An image's files have
    /// their own paths.
    pub fn place(self, name: &str) -> String {
        match self {
            Self::Git => format!("git:{name}/"),
            Self::Http => format!("http:{name}"),
            Self::Image | Self::ImageStore => "/".to_owned(),
        }
    }
}

words! {
    /// As what a document behind an address is taken.
    Form {
        /// JSON, in one order and with one member on a line.
        Json = "json",
        /// Text as it came.
        Text = "text",
    }
}

/// Where a source is, and what of it is wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum SourceSettings {
    /// A branch or tag of a git repository.
    Git {
        /// `https://HOST/PATH` or `ssh://[USER@]HOST[:PORT]/PATH`.
        url: String,
        /// The whole name of the reference: `refs/heads/main`. `HEAD` is whatever the repository says.
        reference: String,
        /// As whom somebody signs in, where that is needed.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        user: Option<String>,
        /// Which files, from the repository's root: `/conf/**`. All where none are given.
        #[serde(default)]
        files: Vec<PathPattern>,
        /// How many commits before the first one that is seen are taken in with it.
        #[serde(default, skip_serializing_if = "is_none")]
        past: u16,
        /// Whose certificates count over https; those of public authorities where none are given.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        authorities: Vec<Authority>,
    },
    /// One document behind an address.
    Http {
        /// Its address.
        url: String,
        /// As what it is taken.
        form: Form,
        /// What of a JSON document alters by itself.
        #[serde(default)]
        volatile: Vec<Pointer>,
        /// The names of the headers that are sent; what they say is sealed elsewhere.
        #[serde(default)]
        headers: Vec<String>,
        /// Whose certificates count over https; those of public authorities where none are given.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        authorities: Vec<Authority>,
    },
    /// What lies below `/etc` in an image.
    Image,
    /// The same of an image that lies in a store of the cloud's.
    ImageStore {
        /// What the operator calls the store.
        store: String,
        /// By what the image is known there.
        image: String,
    },
}

/// An authority of somebody's own, whose certificates count for a source in place of those of the public ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Authority {
    /// Whose it is, as its certificate says: `CN=Acme root`.
    pub subject: String,
    /// SHA-256 of its certificate, in hexadecimal digits.
    pub sha256: String,
    /// Until when it counts.
    pub until: Timestamp,
    /// Its certificate (PEM).
    pub pem: String,
}

/// Settings that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {reason}")]
pub struct InvalidSource {
    /// Which field.
    pub field: &'static str,
    /// Why not.
    pub reason: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks for it")]
const fn is_none(past: &u16) -> bool {
    *past == 0
}

impl SourceSettings {
    /// Of which kind.
    pub const fn kind(&self) -> SourceKind {
        match self {
            Self::Git { .. } => SourceKind::Git,
            Self::Http { .. } => SourceKind::Http,
            Self::Image => SourceKind::Image,
            Self::ImageStore { .. } => SourceKind::ImageStore,
        }
    }

    /// Its address, where it has one.
    pub fn url(&self) -> Option<&str> {
        match self {
            Self::Git { url, .. } | Self::Http { url, .. } => Some(url),
            Self::Image | Self::ImageStore { .. } => None,
        }
    }

    /// Whose certificates count over https; those of public authorities where there are none.
    pub fn authorities(&self) -> &[Authority] {
        match self {
            Self::Git { authorities, .. } | Self::Http { authorities, .. } => authorities,
            Self::Image | Self::ImageStore { .. } => &[],
        }
    }

    /// Whether they are about the same place and the same of it, whoever vouches for who answers there.
    pub fn go_on(&self, before: &Self) -> bool {
        let anybody = |it: &Self| {
            let mut it = it.clone();
            if let Self::Git { authorities, .. } | Self::Http { authorities, .. } = &mut it {
                authorities.clear();
            }
            it
        };
        anybody(self) == anybody(before)
    }

    /// Whether it is reached over SSH.
    pub fn is_ssh(&self) -> bool {
        let scheme = self.url().and_then(|url| url.get(..6));
        scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case("ssh://"))
    }

    /// Whether they can be, but for where the address leads.
    ///
    /// # Errors
    /// The first field that cannot.
    pub fn check(&self) -> Result<(), InvalidSource> {
        let (lists, words): (Vec<usize>, Vec<(&'static str, &str)>) = match self {
            Self::Git { url, reference, user, files, past, .. } => {
                check_reference(reference)?;
                if *past > MOST_PAST {
                    let reason = format!("{past} commits are more than {MOST_PAST}");
                    return Err(InvalidSource { field: "past", reason });
                }
                let user = user.as_deref().map(|user| ("user", user));
                (vec![files.len()], [("url", url.as_str())].into_iter().chain(user).collect())
            }
            Self::Http { url, volatile, headers, .. } => {
                headers.iter().try_for_each(|name| check_header(name))?;
                (vec![volatile.len(), headers.len()], vec![("url", url.as_str())])
            }
            Self::ImageStore { store, image } => {
                check_image(image)?;
                (Vec::new(), vec![("store", store.as_str())])
            }
            Self::Image => (Vec::new(), Vec::new()),
        };
        for (field, word) in words {
            let is_odd = |it: char| it.is_control() || it.is_whitespace();
            if word.is_empty() || word.len() > LONGEST || word.chars().any(is_odd) {
                let reason = format!("use 1 to {LONGEST} bytes without spaces");
                return Err(InvalidSource { field, reason });
            }
        }
        let is_https = self.url().and_then(|it| it.get(..8));
        let is_https = is_https.is_some_and(|it| it.eq_ignore_ascii_case("https://"));
        let authorities = self.authorities();
        if !authorities.is_empty() && !is_https {
            let reason = "certificates are looked at over https alone".to_owned();
            return Err(InvalidSource { field: "authority", reason });
        }
        let is_long = |it: &Authority| it.pem.len() > LONGEST_CERTIFICATE;
        if authorities.len() > MOST_AUTHORITIES || authorities.iter().any(is_long) {
            let reason = format!("use at most {MOST_AUTHORITIES} of {LONGEST_CERTIFICATE} bytes");
            return Err(InvalidSource { field: "authority", reason });
        }
        if let Some(many) = lists.iter().find(|length| **length > MOST) {
            let reason = format!("{many} are more than {MOST}");
            return Err(InvalidSource { field: "files, volatile or headers", reason });
        }
        Ok(())
    }

    /// Whether a file of a repository is wanted, by its path from the root (`/conf/a.ini`).
    pub fn wants(&self, path: &str) -> bool {
        match self {
            Self::Git { files, .. } => files.is_empty() || files.iter().any(|it| it.has(path)),
            Self::Http { .. } | Self::Image | Self::ImageStore { .. } => true,
        }
    }

    /// Whether a file that is wanted may lie below a directory of a repository (`/conf`).
    pub fn reaches(&self, directory: &str) -> bool {
        match self {
            Self::Git { files, .. } => {
                files.is_empty() || files.iter().any(|it| it.reaches(directory))
            }
            Self::Http { .. } | Self::Image | Self::ImageStore { .. } => true,
        }
    }
}

/// What may be known of an image in a store: in libvirt, names of files, which may have spaces.
fn check_image(image: &str) -> Result<(), InvalidSource> {
    if (1..=LONGEST_IMAGE).contains(&image.len()) && !image.chars().any(char::is_control) {
        return Ok(());
    }
    let reason = format!("use 1 to {LONGEST_IMAGE} bytes without control characters");
    Err(InvalidSource { field: "image", reason })
}

/// Names that git itself would take (`git check-ref-format`), whole, or `HEAD`.
fn check_reference(name: &str) -> Result<(), InvalidSource> {
    let is_part = |part: &str| {
        !part.is_empty()
            && !part.starts_with('.')
            && !part.ends_with('.')
            && !part.to_ascii_lowercase().ends_with(".lock")
    };
    let is_odd = |it: char| it.is_control() || it.is_whitespace() || "~^:?*[\\".contains(it);
    let is_one = name == "HEAD"
        || name.strip_prefix("refs/").is_some_and(|rest| rest.contains('/'))
            && name.len() <= LONGEST
            && name.split('/').all(is_part)
            && !name.contains("..")
            && !name.contains("@{")
            && !name.chars().any(is_odd);
    if is_one {
        return Ok(());
    }
    let reason = "give a branch or tag by its whole name, such as `refs/heads/main`, or HEAD";
    Err(InvalidSource { field: "reference", reason: reason.to_owned() })
}

/// Headers that do not alter how a request is read.
fn check_header(name: &str) -> Result<(), InvalidSource> {
    const OURS: [&str; 12] = [
        "accept-encoding",
        "connection",
        "content-length",
        "expect",
        "host",
        "if-modified-since",
        "if-none-match",
        "range",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    ];
    let is_letter = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let is_one = (1..=100).contains(&name.len()) && name.bytes().all(is_letter);
    if is_one && !OURS.contains(&name.to_ascii_lowercase().as_str()) {
        return Ok(());
    }
    let name = name.escape_default();
    Err(InvalidSource { field: "headers", reason: format!("`{name}` cannot be sent") })
}

/// A place in a JSON document (RFC 6901), where `*` stands for any member or element.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pointer(Vec<String>);

/// What is no pointer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "a pointer begins with `/` and has at most {LONGEST} bytes: `/stats/uptime`, `/nodes/*/seen`"
)]
pub struct InvalidPointer;

impl FromStr for Pointer {
    type Err = InvalidPointer;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let rest = text.strip_prefix('/').filter(|_| text.len() <= LONGEST);
        let steps = rest.ok_or(InvalidPointer)?.split('/');
        Ok(Self(steps.map(|step| step.replace("~1", "/").replace("~0", "~")).collect()))
    }
}

impl TryFrom<String> for Pointer {
    type Error = InvalidPointer;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Pointer> for String {
    fn from(pointer: Pointer) -> Self {
        pointer.to_string()
    }
}

impl fmt::Display for Pointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|it| write!(f, "/{}", it.replace('~', "~0").replace('/', "~1")))
    }
}

/// What is no JSON document.
#[derive(Debug, thiserror::Error)]
#[error("what came is no JSON document: {0}")]
pub struct NotJson(#[source] serde_json::Error);

/// A JSON document in the one form that it is kept in: members in the order of their names, each on a line, and what
/// alters by itself left out. The same document is the same text, whatever order its server has.
///
/// Numbers are kept to the precision of a double.
///
/// # Errors
/// [`NotJson`], also for documents that are nested more than 128 deep.
pub fn canonical(bytes: &[u8], volatile: &[Pointer]) -> Result<String, NotJson> {
    let mut document: Value = serde_json::from_slice(bytes).map_err(NotJson)?;
    for pointer in volatile {
        mask(&mut document, &pointer.0);
    }
    // Whichever order somebody's features give to members.
    document.sort_all_objects();
    let mut text = serde_json::to_string_pretty(&document).map_err(NotJson)?;
    text.push('\n');
    Ok(text)
}

fn mask(value: &mut Value, steps: &[String]) {
    let Some((step, rest)) = steps.split_first() else {
        *value = Value::String(VOLATILE.to_owned());
        return;
    };
    match value {
        Value::Object(members) if step == "*" => {
            for it in members.values_mut() {
                mask(it, rest);
            }
        }
        Value::Array(elements) if step == "*" => {
            for it in elements {
                mask(it, rest);
            }
        }
        Value::Object(members) => {
            if let Some(member) = members.get_mut(step) {
                mask(member, rest);
            }
        }
        Value::Array(elements) => {
            let element = step.parse().ok().and_then(|at: usize| elements.get_mut(at));
            if let Some(element) = element {
                mask(element, rest);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn git(reference: &str) -> SourceSettings {
        let url = "https://git.acme.example/app.git".to_owned();
        let files = vec![PathPattern::try_from("/conf/**".to_owned()).unwrap()];
        let authorities = Vec::new();
        let (reference, user, past) = (reference.to_owned(), None, 0);
        SourceSettings::Git { url, reference, user, files, past, authorities }
    }

    #[test]
    fn not_all_of_a_long_past_is_taken_in() {
        for (commits, is_refused) in [(0, false), (10_000, false), (10_001, true)] {
            let mut settings = git("HEAD");
            let SourceSettings::Git { past, .. } = &mut settings else { panic!("no repository") };
            *past = commits;
            assert_eq!(settings.check().is_err(), is_refused, "{commits}");
        }
    }

    #[test]
    fn references_are_whole_names() {
        for name in ["HEAD", "refs/heads/main", "refs/tags/v1.0", "refs/heads/a/b-c"] {
            assert_eq!(git(name).check(), Ok(()), "{name}");
        }
        for name in [
            "",
            "main",
            "refs/",
            "refs/main",
            "refs/heads/",
            "refs/heads//x",
            "refs/heads/a..b",
            "refs/heads/.x",
            "refs/heads/x.lock",
            "refs/heads/a b",
            "refs/heads/a\nb",
            "refs/heads/a*",
            "refs/heads/@{1}",
            "--upload-pack=x",
        ] {
            assert!(git(name).check().is_err(), "{name:?}");
        }
    }

    #[test]
    fn only_what_is_wanted_of_a_repository_is() {
        let settings = git("HEAD");
        assert!(settings.wants("/conf/a.ini") && settings.wants("/conf/d/a.ini"));
        assert!(!settings.wants("/README") && !settings.wants("/src/conf/a.ini"));
        assert!(settings.reaches("/conf") && !settings.reaches("/src"));
    }

    #[test]
    fn an_image_of_a_store_is_named_in_one_line() {
        let of = |store: &str, image: &str| {
            let (store, image) = (store.to_owned(), image.to_owned());
            SourceSettings::ImageStore { store, image }.check()
        };
        assert_eq!(of("rack-1", "images/web 1.qcow2"), Ok(()));
        for (store, image) in
            [("", "a"), ("a b", "a"), ("a", ""), ("a", "a\nb"), ("a", &"a".repeat(601))]
        {
            assert!(of(store, image).is_err(), "{store} {image}");
        }
    }

    #[test]
    fn headers_that_alter_the_request_are_not_sent() {
        let http = |name: &str| SourceSettings::Http {
            url: "https://acme.example/".to_owned(),
            form: Form::Json,
            volatile: Vec::new(),
            headers: vec![name.to_owned()],
            authorities: Vec::new(),
        };
        assert_eq!(http("Authorization").check(), Ok(()));
        for name in ["", "Host", "transfer-encoding", "X y", "a\r\nb", "a:"] {
            assert!(http(name).check().is_err(), "{name:?}");
        }
    }

    #[test]
    fn authorities_vouch_over_https_alone() {
        let with = |address: &str, named: usize| {
            let mut settings = git("HEAD");
            if let SourceSettings::Git { url, authorities, .. } = &mut settings {
                address.clone_into(url);
                let (subject, sha256) = ("CN=Acme root".to_owned(), "0".repeat(64));
                let (until, pem) = (Timestamp::UNIX_EPOCH, "x".to_owned());
                *authorities = vec![Authority { subject, sha256, until, pem }; named];
            }
            settings
        };
        let url = "https://git.acme.example/app.git";
        assert_eq!(with(url, 1).check(), Ok(()));
        assert_eq!(with("HTTPS://git.acme.example/app.git", 1).check(), Ok(()));
        assert!(with(url, MOST_AUTHORITIES + 1).check().is_err());
        for open in ["http://git.acme.example/app.git", "ssh://git.acme.example/app.git"] {
            assert_eq!(with(open, 1).check().unwrap_err().field, "authority", "{open}");
            assert_eq!(with(open, 0).check(), Ok(()), "{open}");
        }
        assert!(with(url, 1).go_on(&with(url, 0)) && with(url, 1) != with(url, 0));
        assert!(!with(url, 1).go_on(&with("https://git.acme.example/other.git", 1)));
    }

    #[test]
    fn the_same_document_is_the_same_text() {
        let texts = [
            r#"{"b": [1, {"z": null, "a": "x"}], "a": 1.5}"#,
            " {\"a\":1.5,\n\"b\":[1,{\"a\":\"x\",\"z\":null}]}",
        ];
        let texts = texts.map(|text| canonical(text.as_bytes(), &[]).unwrap());
        assert_eq!(texts[0], texts[1]);
        assert!(texts[0].ends_with("}\n"));
        for wrong in ["", "{", "<html>", "{} x", "nul", &"[".repeat(100_000)] {
            assert!(canonical(wrong.as_bytes(), &[]).is_err(), "{wrong:.20}");
        }
    }

    #[test]
    fn what_alters_by_itself_is_left_out_and_nothing_else() {
        let pointers: Vec<Pointer> = ["/at", "/nodes/*/seen", "/list/1", "/a~1b", "/not/there"]
            .map(|it| it.parse().unwrap())
            .into();
        let document = |at: u32, node: &str| {
            let text = format!(
                r#"{{"at":{at},"nodes":{{"x":{{"seen":{at},"name":"{node}"}}}},"list":[1,{at},3],"a/b":{at}}}"#
            );
            canonical(text.as_bytes(), &pointers).unwrap()
        };
        assert_eq!(document(1, "n"), document(2, "n"));
        assert_ne!(document(1, "n"), document(1, "m"));
        assert_eq!("/a~1b/*".parse::<Pointer>().unwrap().to_string(), "/a~1b/*");
        assert!("stats".parse::<Pointer>().is_err());
    }
}
