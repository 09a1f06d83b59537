//! The file that tells how tenants are told beside the console (`up --notices FILE`).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, io};

use notices::content::{Contact, InvalidLinkBase, InvalidText, LinkBase};
use notices::delivery::{
    Credentials, InvalidMailAddress, InvalidSmtp, IpNet, Reach, Secret, Smtp, SmtpSettings, SmtpTls,
};
use notices::{ENGLISH, TemplateError, Templates};
use serde::Deserialize;

/// Largest file that holds a password, in bytes.
const LONGEST_PASSWORD: usize = 1024;

/// How tenants are told. By default in the console alone.
pub struct NoticeSettings {
    /// Where links lead; by default to the console.
    pub url: Option<LinkBase>,
    /// Who answers questions; by default whoever reads at the console's address.
    pub contact: Option<Contact>,
    /// The language of mails and feeds.
    pub language: String,
    /// What mails and feeds are made with.
    pub templates: Templates,
    /// Through which server mails go; none without one.
    pub mail: Option<Smtp>,
    /// Where webhooks may go; nowhere without it.
    pub webhooks: Option<Reach>,
    /// How often is looked for something to do, beside being woken up; a second by default.
    pub look: Duration,
}

impl Default for NoticeSettings {
    fn default() -> Self {
        Self {
            url: None,
            contact: None,
            language: ENGLISH.to_owned(),
            templates: Templates::english(),
            mail: None,
            webhooks: None,
            look: Duration::from_secs(1),
        }
    }
}

/// Why tenants cannot be told so.
#[derive(Debug, thiserror::Error)]
pub enum NoticesError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It is not as it should be written.
    #[error("cannot understand `{}`", path.display())]
    Malformed {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: Box<toml::de::Error>,
    },
    /// Others may read the password.
    #[error("the password `{}` can be read by others (mode {mode:o})", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// There is no password in its file, or more than one can be.
    #[error("`{}` holds no password", path.display())]
    NoPassword {
        /// Which file.
        path: PathBuf,
    },
    /// An account without a password, or the other way round.
    #[error("the mail server's `user` and `password_file` do not stand together")]
    HalfAnAccount,
    /// A language for which there is no template.
    #[error("there are no templates in `{given}`")]
    Language {
        /// The one that is asked for.
        given: String,
    },
    /// It is no network.
    #[error("`{given}` is not a network")]
    Network {
        /// What stands there.
        given: String,
    },
    /// Links cannot begin there.
    #[error("the address of links: {0}")]
    Url(#[from] InvalidLinkBase),
    /// A text that no notice may hold.
    #[error(transparent)]
    Text(#[from] InvalidText),
    /// It is no address of mail.
    #[error(transparent)]
    Address(#[from] InvalidMailAddress),
    /// The mail server cannot be used so.
    #[error(transparent)]
    Smtp(#[from] InvalidSmtp),
    /// The templates cannot be used.
    #[error(transparent)]
    Templates(#[from] TemplateError),
}

impl NoticesError {
    /// The way out.
    pub fn help(&self) -> String {
        let help = match self {
            Self::File { .. } => "paths in it are taken from where it lies itself",
            Self::Malformed { .. } => "docs/notices.md shows a whole file",
            Self::Open { .. } => "chmod 600 it; if others may have read it, get a new password",
            Self::NoPassword { .. } => "put the password there, and nothing else",
            Self::HalfAnAccount => "give both, or none where the server asks nobody who they are",
            Self::Language { .. } => "give a directory of `templates` that has it, or leave it out",
            Self::Network { .. } => "write networks as `10.1.0.0/16`, or open none",
            Self::Url(error) => error.help(),
            Self::Text(error) => error.help(),
            Self::Address(error) => error.help(),
            Self::Smtp(error) => error.help(),
            Self::Templates(error) => return error.help(),
        };
        help.to_owned()
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    url: Option<String>,
    contact: ContactEntry,
    language: Option<String>,
    templates: Option<PathBuf>,
    mail: Option<MailEntry>,
    webhooks: Option<WebhookEntry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ContactEntry {
    name: String,
    at: String,
}

/// The mail server as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MailEntry {
    host: String,
    port: u16,
    tls: TlsEntry,
    user: Option<String>,
    password_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    from: String,
    from_name: String,
}

#[derive(Clone, Copy, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TlsEntry {
    Implicit,
    StartTls,
    None,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WebhookEntry {
    /// Opened beside the public Internet.
    #[serde(default)]
    networks: Vec<String>,
}

impl NoticeSettings {
    /// Those of a file.
    ///
    /// # Errors
    /// As [`NoticesError`].
    pub fn read(path: &Path) -> Result<Self, NoticesError> {
        let text = String::from_utf8_lossy(&bytes(path)?).into_owned();
        let file: File = toml::from_str(&text).map_err(|source| NoticesError::Malformed {
            path: path.to_owned(),
            source: Box::new(source),
        })?;
        let beside = path.parent().unwrap_or(Path::new("."));
        let templates = match &file.templates {
            Some(directory) => Templates::load(&beside.join(directory))?,
            None => Templates::english(),
        };
        let language = file.language.unwrap_or_else(|| ENGLISH.to_owned());
        if !templates.languages().any(|it| it == language) {
            return Err(NoticesError::Language { given: language });
        }
        let contact = Contact { name: file.contact.name.parse()?, at: file.contact.at.parse()? };
        Ok(Self {
            url: file.url.as_deref().map(str::parse).transpose()?,
            contact: Some(contact),
            language,
            templates,
            mail: file.mail.map(|entry| smtp(entry, beside)).transpose()?,
            webhooks: file.webhooks.map(reach).transpose()?,
            ..Self::default()
        })
    }
}

fn reach(entry: WebhookEntry) -> Result<Reach, NoticesError> {
    let network = |given: String| match given.parse::<IpNet>() {
        Ok(network) => Ok(network),
        Err(_) => Err(NoticesError::Network { given }),
    };
    Ok(Reach::also(entry.networks.into_iter().map(network).collect::<Result<_, _>>()?))
}

fn smtp(entry: MailEntry, beside: &Path) -> Result<Smtp, NoticesError> {
    let credentials = match (entry.user, entry.password_file) {
        (Some(user), Some(file)) => {
            Some(Credentials { user, password: password(&beside.join(file))? })
        }
        (None, None) => None,
        _ => return Err(NoticesError::HalfAnAccount),
    };
    let tls = match entry.tls {
        TlsEntry::Implicit => SmtpTls::Implicit,
        TlsEntry::StartTls => SmtpTls::StartTls,
        TlsEntry::None => SmtpTls::None,
    };
    let roots = entry.ca_file.map(|file| bytes(&beside.join(file))).transpose()?;
    Ok(Smtp::new(SmtpSettings {
        host: entry.host,
        port: entry.port,
        tls,
        credentials,
        roots,
        from: entry.from.parse()?,
        from_name: entry.from_name.parse()?,
    })?)
}

fn password(path: &Path) -> Result<Secret, NoticesError> {
    let failed = |source| NoticesError::File { path: path.to_owned(), source };
    let mode = fs::metadata(path).map_err(failed)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(NoticesError::Open { path: path.to_owned(), mode });
    }
    let text = fs::read_to_string(path).map_err(failed)?;
    let text = text.trim_end_matches(['\r', '\n']);
    if text.is_empty() || text.len() > LONGEST_PASSWORD {
        return Err(NoticesError::NoPassword { path: path.to_owned() });
    }
    Ok(Secret::new(text.to_owned()))
}

fn bytes(path: &Path) -> Result<Vec<u8>, NoticesError> {
    fs::read(path).map_err(|source| NoticesError::File { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONTACT: &str = "contact = { name = \"Desk\", at = \"desk@cloud.example\" }\n";

    const MAIL: &str = r#"
        [mail]
        host = "smtp.cloud.example"
        port = 587
        tls = "starttls"
        user = "patchwright"
        password_file = "password"
        from = "patch@cloud.example"
        from_name = "Cloud patching"
    "#;

    fn of(text: &str) -> Result<NoticeSettings, NoticesError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("notices.toml");
        fs::write(&path, text).unwrap();
        let secret = directory.path().join("password");
        fs::write(&secret, if text.contains("# empty") { "\n" } else { "pass word\n" }).unwrap();
        let mode = if text.contains("# open") { 0o640 } else { 0o600 };
        fs::set_permissions(&secret, fs::Permissions::from_mode(mode)).unwrap();
        NoticeSettings::read(&path)
    }

    #[test]
    fn what_is_written_is_switched_on_and_nothing_else() {
        let bare = of(CONTACT).unwrap();
        assert!(bare.mail.is_none() && bare.webhooks.is_none());

        let text = format!("url = \"https://patch.example.org\"\n{CONTACT}{MAIL}[webhooks]\n");
        let full = of(&text).unwrap();
        assert!(full.mail.is_some());
        assert_eq!(full.webhooks, Some(Reach::public()), "no private network is open");
        assert_eq!(full.url.unwrap().to_string(), "https://patch.example.org/");

        let opened = of(&format!("{CONTACT}[webhooks]\nnetworks = [\"10.1.0.0/16\"]")).unwrap();
        assert!(opened.webhooks.unwrap().check("http://10.1.2.3/hook").is_ok());
    }

    #[test]
    fn the_file_of_the_documentation_is_one() {
        let docs = include_str!("../../../../docs/notices.md");
        let (_, rest) = docs.split_once("```toml\n").unwrap();
        let (text, _) = rest.split_once("```").unwrap();

        let told = of(&text.replace("mail-password", "password")).unwrap();

        assert!(told.mail.is_some() && told.webhooks.is_some() && told.contact.is_some());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        for (text, reason) in [
            (String::new(), "cannot understand"),
            (format!("{CONTACT}odd = 1"), "cannot understand"),
            (format!("language = \"de\"\n{CONTACT}"), "no templates in `de`"),
            (format!("url = \"http://patch.example.org\"\n{CONTACT}"), "neither https nor"),
            (format!("{CONTACT}{MAIL}# open"), "can be read by others"),
            (format!("{CONTACT}{MAIL}# empty"), "holds no password"),
            (format!("{CONTACT}{}", MAIL.replace("user =", "#")), "do not stand together"),
            (format!("{CONTACT}{}", MAIL.replace("\"password\"", "\"none\"")), "cannot read"),
            (format!("{CONTACT}{}", MAIL.replace("starttls", "none")), "no TLS is wanted"),
            (format!("{CONTACT}{}", MAIL.replace("patch@", "patch ")), "not a mail address"),
            (format!("{CONTACT}[webhooks]\nnetworks = [\"10\"]"), "is not a network"),
        ] {
            let Err(refused) = of(&text) else { panic!("{text}") };
            assert!(refused.to_string().contains(reason), "{refused}");
            assert!(!refused.help().is_empty());
        }
    }
}
