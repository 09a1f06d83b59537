//! Which OpenStack cloud trials are made in, as a file says.
//!
//! ```toml
//! identity = "https://keystone.example.org/v3"
//! flavor = "0a3c…"               # its id: what trial machines have
//! region = "north"               # where the cloud has several
//!
//! [application-credential]       # or [password], with user, user-domain, project, project-domain
//! id = "21dc…"
//! secret-file = "openstack.secret"
//! ```
//!
//! Secrets lie in files of their own, which a relative path names from the file's directory.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};
use drivers::{Cloud, Login, Secret};
use serde::Deserialize;

use crate::failure::helped;

/// Longest secret; Keystone's own are shorter.
const LONGEST_SECRET: u64 = 4096;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct CloudFile {
    identity: String,
    flavor: String,
    region: Option<String>,
    application_credential: Option<Credential>,
    password: Option<Account>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Credential {
    id: String,
    secret_file: String,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Account {
    user: String,
    user_domain: String,
    project: String,
    project_domain: String,
    password_file: String,
}

/// Reads the file.
pub(crate) fn read(path: &Path) -> Result<Cloud> {
    let attempt = || format!("cannot use the cloud's file `{}`", path.display());
    let text = fs::read_to_string(path).with_context(attempt)?;
    let file: CloudFile = toml::from_str(&text).map_err(|error| {
        let error = anyhow::anyhow!("{}", error.to_string().trim()).context(attempt());
        helped(error, "docs/drivers.md shows such a file")
    })?;
    let secret = |name: &str| secret(&path.parent().unwrap_or(Path::new(".")).join(name));
    let login = match (file.application_credential, file.password) {
        (Some(Credential { id, secret_file }), None) => {
            Login::ApplicationCredential { id, secret: secret(&secret_file)? }
        }
        (None, Some(Account { user, user_domain, project, project_domain, password_file })) => {
            let password = secret(&password_file)?;
            Login::Password { user, user_domain, password, project, project_domain }
        }
        _ => {
            let error = anyhow::anyhow!("it needs one of [application-credential] and [password]");
            return Err(helped(error.context(attempt()), "docs/drivers.md shows such a file"));
        }
    };
    Ok(Cloud { identity: file.identity, login, region: file.region, flavor: file.flavor })
}

fn secret(path: &Path) -> Result<Secret> {
    let attempt = || format!("cannot read the secret `{}`", path.display());
    let length = fs::metadata(path).with_context(attempt)?.len();
    anyhow::ensure!(length <= LONGEST_SECRET, "the secret `{}` is too long", path.display());
    let text = fs::read_to_string(path).with_context(attempt)?;
    Ok(Secret::new(text.trim_end_matches(['\r', '\n']).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(text: &str) -> Result<Cloud> {
        let place = tempfile::tempdir().unwrap();
        fs::write(place.path().join("secret"), "hush\n").unwrap();
        let path = place.path().join("cloud.toml");
        fs::write(&path, text).unwrap();
        read(&path)
    }

    const PLACE: &str = "identity = 'https://keystone.example.org/v3'\nflavor = 'small'\n";

    #[test]
    fn a_cloud_is_read_and_its_secret_shown_nowhere() {
        let credential = "[application-credential]\nid = 'one'\nsecret-file = 'secret'\n";

        let cloud = read_text(&format!("{PLACE}{credential}")).unwrap();

        assert!(matches!(&cloud.login, Login::ApplicationCredential { id, .. } if id == "one"));
        assert!(!format!("{cloud:?}").contains("hush"));
    }

    #[test]
    fn one_login_is_needed_and_no_more() {
        let password = "[password]\nuser = 'u'\nuser-domain = 'd'\nproject = 'p'\n\
                        project-domain = 'd'\npassword-file = 'secret'\n";
        let credential = "[application-credential]\nid = 'one'\nsecret-file = 'secret'\n";

        assert!(read_text(&format!("{PLACE}{password}")).is_ok());
        for wrong in [PLACE.to_owned(), format!("{PLACE}{password}{credential}")] {
            let error = format!("{:#}", read_text(&wrong).unwrap_err());
            assert!(error.contains("needs one of"), "{error}");
        }
        let error = format!("{:#}", read_text(&format!("{PLACE}secret = 'hush'\n")).unwrap_err());
        assert!(error.contains("secret"), "{error}");
    }
}
