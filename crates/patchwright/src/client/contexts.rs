//! Which control planes somebody uses, and as whom: `contexts.json`, which only its owner may read.

use std::collections::BTreeMap;
use std::fs::{self, DirBuilder};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::{env, io};

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::connection::Connection;
use super::secret::Secret;
use crate::failure::{helped, usage};

/// The context that `login` makes where none is named.
pub(crate) const USUAL: &str = "default";

/// Which control plane is meant.
#[derive(Debug, Clone, Default, Args)]
pub(crate) struct Access {
    /// Another context than the current one.
    #[arg(long, value_name = "NAME", env = "PATCHWRIGHT_CONTEXT", help_heading = "Access")]
    pub(crate) context: Option<String>,
}

/// A control plane, and as whom it is used.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Context {
    pub(crate) url: String,
    /// Who signed in, for people to read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) login: Option<String>,
    /// A session or a token.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) secret: Option<Secret>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Timestamp>,
    /// The only certificates believed there, as PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<String>,
}

/// All of somebody's contexts.
#[derive(Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Contexts {
    /// The one used where none is named.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    #[serde(default)]
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// Where they are kept.
#[derive(Debug)]
pub(crate) struct ContextFile {
    directory: PathBuf,
}

impl ContextFile {
    /// `$XDG_CONFIG_HOME/patchwright`, or its default below the home directory.
    pub(crate) fn usual() -> Result<Self> {
        let set = |name: &str| env::var_os(name).filter(|it| !it.is_empty()).map(PathBuf::from);
        set("XDG_CONFIG_HOME")
            .or_else(|| Some(set("HOME")?.join(".config")))
            .map(|base| Self { directory: base.join("patchwright") })
            .ok_or_else(|| {
                let error = anyhow!("there is no home directory to keep contexts in");
                helped(error, "set XDG_CONFIG_HOME, or PATCHWRIGHT_URL and PATCHWRIGHT_TOKEN")
            })
    }

    fn path(&self) -> PathBuf {
        self.directory.join("contexts.json")
    }

    /// Reads them; none where there is no file yet.
    pub(crate) fn load(&self) -> Result<Contexts> {
        let path = self.path();
        let unreadable = || format!("cannot read `{}`", path.display());
        let text = match fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Contexts::default()),
            Err(error) => return Err(error).with_context(unreadable),
        };
        let mode = fs::metadata(&path).with_context(unreadable)?.permissions().mode();
        if mode & 0o077 != 0 {
            let error = anyhow!("`{}` holds secrets, and others may read it", path.display());
            return Err(helped(error, format!("run `chmod 600 {}`", path.display())));
        }
        serde_json::from_slice(&text).map_err(|error| {
            let error = anyhow!("line {}: it is not as we write it", error.line());
            let help = format!("remove `{}` and sign in again", path.display());
            helped(error.context(unreadable()), help)
        })
    }

    /// Writes them beside their place and renames: they are there as a whole or not at all.
    pub(crate) fn keep(&self, contexts: &Contexts) -> Result<()> {
        self.write(contexts).with_context(|| format!("cannot write `{}`", self.path().display()))
    }

    fn write(&self, contexts: &Contexts) -> io::Result<()> {
        make_private(&self.directory)?;
        // Made for its owner alone, whatever the umask.
        let mut file = tempfile::Builder::new()
            .prefix(".contexts")
            .permissions(fs::Permissions::from_mode(0o600))
            .tempfile_in(&self.directory)?;
        serde_json::to_writer_pretty(&mut file, contexts)?;
        file.write_all(b"\n")?;
        file.as_file().sync_all()?;
        file.persist(self.path())?;
        Ok(())
    }
}

fn make_private(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(above) = directory.parent() {
        fs::create_dir_all(above)?;
    }
    match DirBuilder::new().mode(0o700).create(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => Ok(()),
        outcome => outcome,
    }
}

impl Contexts {
    /// The context that is meant, with its name.
    pub(crate) fn wanted(&self, access: &Access) -> Result<(&str, &Context)> {
        // A variable that is set to nothing names nothing.
        let named = access.context.as_deref().filter(|name| !name.is_empty());
        let Some(name) = named.or(self.current.as_deref()) else {
            let help = "use `patchwright login URL` first; `patchwright up` starts a control plane";
            return Err(helped(anyhow!("nobody has signed in to a control plane"), help));
        };
        let found = self.contexts.get_key_value(name);
        found.map(|(name, context)| (name.as_str(), context)).ok_or_else(|| {
            let error = anyhow!("there is no context `{name}`");
            helped(error, "see `patchwright context list`, or make it with `patchwright login`")
        })
    }
}

/// Connects to the control plane that is meant: the variables `PATCHWRIGHT_URL`, `PATCHWRIGHT_TOKEN` and
/// `PATCHWRIGHT_CA` first, a context otherwise.
pub(crate) fn connect(access: &Access) -> Result<Connection> {
    let set = |name: &str| env::var(name).ok().filter(|value| !value.is_empty());
    let given = Given {
        url: set("PATCHWRIGHT_URL"),
        token: set("PATCHWRIGHT_TOKEN").map(Secret::new),
        ca: match set("PATCHWRIGHT_CA") {
            Some(file) => {
                Some(fs::read_to_string(&file).with_context(|| format!("cannot read `{file}`"))?)
            }
            None => None,
        },
    };
    let contexts =
        if given.is_enough() { Contexts::default() } else { ContextFile::usual()?.load()? };
    let context = given.context(&contexts, access)?;
    if context.secret.is_none() {
        let error = anyhow!("nobody is signed in to `{}`", context.url);
        return Err(helped(error, format!("use `patchwright login {}`", context.url)));
    }
    Connection::new(&context.url, context.ca.as_deref(), context.secret)
}

/// What the environment says.
struct Given {
    url: Option<String>,
    token: Option<Secret>,
    ca: Option<String>,
}

impl Given {
    fn is_enough(&self) -> bool {
        self.url.is_some() && self.token.is_some()
    }

    /// A context's secret goes to that context's address and nowhere else.
    fn context(self, contexts: &Contexts, access: &Access) -> Result<Context> {
        let Self { url, token, ca } = self;
        match (url, token) {
            (Some(url), Some(secret)) => {
                Ok(Context { url, login: None, secret: Some(secret), expires_at: None, ca })
            }
            (Some(_), None) => Err(usage(
                "PATCHWRIGHT_URL is set without PATCHWRIGHT_TOKEN",
                "set both, or sign in with `patchwright login URL`",
            )),
            (None, token) => {
                let (_, context) = contexts.wanted(access)?;
                let mut context = context.clone();
                context.secret = token.or(context.secret);
                context.ca = ca.or(context.ca);
                Ok(context)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(url: &str) -> Context {
        Context {
            url: url.to_owned(),
            login: Some("anna".to_owned()),
            secret: Some(Secret::new("pws_1")),
            expires_at: None,
            ca: None,
        }
    }

    fn two() -> Contexts {
        Contexts {
            current: Some("one".to_owned()),
            contexts: BTreeMap::from([
                ("one".to_owned(), context("https://one.example")),
                ("two".to_owned(), context("https://two.example")),
            ]),
        }
    }

    #[test]
    fn what_is_kept_is_its_owners_alone() {
        let base = tempfile::tempdir().unwrap();
        let file = ContextFile { directory: base.path().join("new/patchwright") };
        assert_eq!(file.load().unwrap(), Contexts::default());

        file.keep(&two()).unwrap();
        file.keep(&two()).unwrap();

        assert_eq!(file.load().unwrap(), two());
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&file.path()), 0o600);
        assert_eq!(mode(&file.directory), 0o700);
        assert_eq!(fs::read_dir(&file.directory).unwrap().count(), 1, "nothing is left beside it");

        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o644)).unwrap();
        assert!(file.load().unwrap_err().to_string().contains("others may read it"));
        fs::set_permissions(file.path(), fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(file.path(), "{").unwrap();
        assert!(file.load().is_err());
    }

    #[test]
    fn a_contexts_secret_goes_nowhere_else() {
        let given = |url: Option<&str>, token: Option<&str>| Given {
            url: url.map(str::to_owned),
            token: token.map(Secret::new),
            ca: None,
        };
        let current = Access::default();
        let named = |name: &str| Access { context: Some(name.to_owned()) };

        let found = given(None, None).context(&two(), &current).unwrap();
        assert_eq!(found.url, "https://one.example");
        let found = given(None, None).context(&two(), &named("two")).unwrap();
        assert_eq!(found.url, "https://two.example");
        let found = given(None, None).context(&two(), &named("")).unwrap();
        assert_eq!(found.url, given(None, None).context(&two(), &current).unwrap().url);
        assert!(given(None, None).context(&two(), &named("three")).is_err());
        assert!(given(None, None).context(&Contexts::default(), &current).is_err());

        let found = given(Some("https://x"), Some("pwt_2")).context(&two(), &current).unwrap();
        assert_eq!((found.url.as_str(), found.secret), ("https://x", Some(Secret::new("pwt_2"))));
        assert!(given(Some("https://x"), None).context(&two(), &current).is_err());
        let found = given(None, Some("pwt_2")).context(&two(), &current).unwrap();
        assert_eq!(found.secret, Some(Secret::new("pwt_2")));
    }

    #[test]
    fn a_secret_is_not_told() {
        assert!(!format!("{:?}", context("https://one.example")).contains("pws_1"));
    }
}
