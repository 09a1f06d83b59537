//! Who asks: from the environment, or from a file that its owner alone may read.

use std::fs::File;
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use zeroize::Zeroizing;

use crate::error::S3Error;

const KEY: &str = "AWS_ACCESS_KEY_ID";
const SECRET: &str = "AWS_SECRET_ACCESS_KEY";
const TOKEN: &str = "AWS_SESSION_TOKEN";

/// Longest file that is read.
const LARGEST: u64 = 64 << 10;

/// Who asks a store. What it prints of itself tells nothing.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials {
    inner: rusty_s3::Credentials,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").finish_non_exhaustive()
    }
}

impl Credentials {
    /// What `AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and, where it is set, `AWS_SESSION_TOKEN` say.
    ///
    /// # Errors
    /// If one is missing.
    pub fn from_environment() -> Result<Self, S3Error> {
        Self::from_names("the environment", |name| std::env::var(name).ok())
    }

    /// The same from a file of lines `NAME=VALUE`, as systemd reads environments.
    ///
    /// # Errors
    /// If others may read it, it cannot be read, or one is missing.
    pub fn from_file(path: &Path) -> Result<Self, S3Error> {
        let failed = |source| S3Error::File { path: path.to_owned(), source };
        let file = File::open(path).map_err(failed)?;
        if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
            return Err(S3Error::Open { path: path.to_owned() });
        }
        let mut text = Zeroizing::new(String::new());
        file.take(LARGEST).read_to_string(&mut text).map_err(failed)?;
        Self::from_names(&format!("`{}`", path.display()), |wanted| {
            let mut lines = text.lines().filter_map(|line| line.trim().split_once('='));
            let (_, value) = lines.find(|(name, _)| name.trim_end() == wanted)?;
            let value = value.trim();
            let bare = value.strip_prefix('"').and_then(|value| value.strip_suffix('"'));
            Some(bare.unwrap_or(value).to_owned())
        })
    }

    fn from_names(place: &str, get: impl Fn(&str) -> Option<String>) -> Result<Self, S3Error> {
        let set = |name: &str| get(name).filter(|value| !value.trim().is_empty());
        let needed = |name: &'static str| {
            set(name).ok_or_else(|| S3Error::Credentials { name, place: place.to_owned() })
        };
        let (key, secret) = (needed(KEY)?, needed(SECRET)?);
        let inner = match set(TOKEN) {
            Some(token) => rusty_s3::Credentials::new_with_token(key, secret, token),
            None => rusty_s3::Credentials::new(key, secret),
        };
        Ok(Self { inner })
    }

    pub(crate) const fn inner(&self) -> &rusty_s3::Credentials {
        &self.inner
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_file_is_read_where_nobody_else_may() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("s3");
        fs::write(
            &path,
            "# of the bucket\nAWS_ACCESS_KEY_ID=known\nAWS_SECRET_ACCESS_KEY=\"a=b \"\n",
        )
        .unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(matches!(Credentials::from_file(&path), Err(S3Error::Open { .. })));

        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let credentials = Credentials::from_file(&path).unwrap();
        let inner = credentials.inner();
        assert_eq!((inner.key(), inner.secret(), inner.token()), ("known", "a=b ", None));
        assert!(!format!("{credentials:?}").contains("known"));

        fs::write(&path, "AWS_ACCESS_KEY_ID=known\nAWS_SECRET_ACCESS_KEY=\n").unwrap();
        let error = Credentials::from_file(&path).unwrap_err().to_string();
        assert!(error.contains("AWS_SECRET_ACCESS_KEY is missing"), "{error}");
    }
}
