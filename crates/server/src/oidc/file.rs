//! The file that tells which providers people may sign in at (`up --oidc FILE`).

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::{fs, io};

use domain::cloud::{Name, Role, Side, Slug};
use openidconnect::{ClientId, ClientSecret, IssuerUrl};
use serde::Deserialize;
use ureq::tls::{Certificate, PemItem, parse_pem};

use super::transport::{self, Transport};

/// The provider's own tenant, by its short name.
const PROVIDER: &str = "provider";

/// Why the file cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum ProvidersError {
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
    /// Others may read a secret.
    #[error("the secret `{}` can be read by others (mode {mode:o})", path.display())]
    Open {
        /// Which file.
        path: PathBuf,
        /// Its mode.
        mode: u32,
    },
    /// What it says of a provider makes no sense.
    #[error("provider `{name}`: {reason}")]
    Wrong {
        /// Which provider.
        name: String,
        /// What.
        reason: String,
        /// The way out.
        help: &'static str,
    },
}

impl ProvidersError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::File { .. } => "paths in it are taken from where it lies itself",
            Self::Malformed { .. } => "docs/identity.md shows a whole file",
            Self::Open { .. } => "chmod 600 it; if others may have read it, get a new secret",
            Self::Wrong { help, .. } => help,
        }
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    provider: Vec<Entry>,
}

/// A provider as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    name: Slug,
    title: Option<Name>,
    issuer: String,
    client_id: String,
    client_secret_file: Option<PathBuf>,
    client_secret_env: Option<String>,
    ca_file: Option<PathBuf>,
    tenant: Option<Slug>,
    #[serde(default)]
    email_domains: Vec<String>,
    #[serde(default)]
    scopes: Vec<String>,
    #[serde(default)]
    mfa: Option<Mfa>,
    accounts: Option<Accounts>,
}

/// What the provider says where it saw more than a password; any word of either list will do.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Mfa {
    #[serde(default)]
    pub(super) amr: Vec<String>,
    #[serde(default)]
    pub(super) acr: Vec<String>,
}

/// How people get accounts at their first sign-in, and their role at each.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Accounts {
    /// The claim whose values count.
    pub(super) claim: ClaimPath,
    /// The first that fits counts.
    pub(super) roles: Vec<RoleOf>,
}

/// A claim by its name, or by the names that lead to it.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
pub(super) enum ClaimPath {
    Name(String),
    Path(Vec<String>),
}

impl ClaimPath {
    pub(super) fn steps(&self) -> &[String] {
        match self {
            Self::Name(name) => std::slice::from_ref(name),
            Self::Path(path) => path,
        }
    }
}

/// Whoever has the value has the role.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RoleOf {
    pub(super) value: String,
    pub(super) role: Role,
}

/// A provider as the operator describes it, checked.
#[derive(Debug)]
pub(super) struct Described {
    pub(super) name: Slug,
    pub(super) title: Name,
    pub(super) issuer: IssuerUrl,
    pub(super) client_id: ClientId,
    pub(super) client_secret: Option<ClientSecret>,
    /// Whose people alone sign in there.
    pub(super) tenant: Option<Slug>,
    pub(super) email_domains: Vec<String>,
    pub(super) scopes: Vec<String>,
    pub(super) mfa: Option<Mfa>,
    pub(super) accounts: Option<Accounts>,
    pub(super) transport: Transport,
}

/// Reads the providers of a file.
pub(super) fn read(path: &Path) -> Result<Vec<Described>, ProvidersError> {
    let text = read_text(path)?;
    let file: File = toml::from_str(&text).map_err(|source| ProvidersError::Malformed {
        path: path.to_owned(),
        source: Box::new(source),
    })?;
    let beside = path.parent().unwrap_or(Path::new("."));
    let mut providers: Vec<Described> = Vec::new();
    for entry in file.provider {
        let described = describe(entry, beside)?;
        let is_double = |it: &Described| {
            it.name == described.name || it.issuer.as_str() == described.issuer.as_str()
        };
        if providers.iter().any(is_double) {
            return Err(wrong(
                &described.name,
                "its name or issuer stands there twice",
                "an issuer is one provider, with one name",
            ));
        }
        providers.push(described);
    }
    Ok(providers)
}

fn describe(entry: Entry, beside: &Path) -> Result<Described, ProvidersError> {
    let name = &entry.name;
    let issuer = IssuerUrl::new(entry.issuer.clone())
        .map_err(|error| wrong(name, format!("issuer: {error}"), "give its https address"))?;
    transport::check(issuer.url(), true).map_err(|error| {
        wrong(name, format!("issuer: {error}"), "a provider elsewhere must speak TLS")
    })?;
    if issuer.url().query().is_some() {
        let help = "write it as the provider's own configuration does";
        return Err(wrong(name, "issuer: it holds a query", help));
    }
    if let Some(accounts) = &entry.accounts {
        check_accounts(name, entry.tenant.as_ref(), accounts)?;
    }
    let roots = entry.ca_file.as_deref().map(|path| authorities(name, &beside.join(path)));
    let transport = Transport::new(issuer.url(), roots.transpose()?);
    let client_secret = secret(&entry, beside)?;
    let called =
        || entry.name.as_str().parse().map_err(|_| wrong(name, "has no title", "give one"));
    Ok(Described {
        title: entry.title.clone().map_or_else(called, Ok)?,
        issuer,
        client_id: ClientId::new(entry.client_id),
        client_secret: client_secret.map(ClientSecret::new),
        tenant: entry.tenant,
        email_domains: entry.email_domains.iter().map(|it| it.to_ascii_lowercase()).collect(),
        scopes: entry.scopes,
        mfa: entry.mfa,
        accounts: entry.accounts,
        transport,
        name: entry.name,
    })
}

/// A provider's word must never make somebody one of another side, or of nobody knows whom.
fn check_accounts(
    name: &Slug,
    tenant: Option<&Slug>,
    accounts: &Accounts,
) -> Result<(), ProvidersError> {
    let Some(tenant) = tenant else {
        return Err(wrong(
            name,
            "it makes accounts, and says not of which tenant",
            "write `tenant = \"…\"`; the provider's own people are of `provider`",
        ));
    };
    let side = if tenant.as_str() == PROVIDER { Side::Provider } else { Side::Tenant };
    if let Some(odd) = accounts.roles.iter().find(|it| it.role.side() != side) {
        let reason = format!("the role {} is not one of the tenant `{tenant}`", odd.role);
        let help = "give the provider's people provider roles, and a tenant's people tenant roles";
        return Err(wrong(name, reason, help));
    }
    if accounts.roles.is_empty() || accounts.claim.steps().is_empty() {
        let help = "write `claim = \"groups\"` and `roles = [{ value = \"…\", role = \"…\" }]`";
        return Err(wrong(name, "it makes accounts, and gives no role", help));
    }
    Ok(())
}

fn secret(entry: &Entry, beside: &Path) -> Result<Option<String>, ProvidersError> {
    let text = match (&entry.client_secret_file, &entry.client_secret_env) {
        (None, None) => return Ok(None),
        (Some(path), None) => {
            let path = beside.join(path);
            let failed = |source| ProvidersError::File { path: path.clone(), source };
            let mode = fs::metadata(&path).map_err(failed)?.permissions().mode() & 0o777;
            if mode & 0o077 != 0 {
                return Err(ProvidersError::Open { path, mode });
            }
            fs::read_to_string(&path).map_err(failed)?
        }
        (None, Some(variable)) => std::env::var(variable).map_err(|_| {
            wrong(&entry.name, format!("`{variable}` is not set"), "set it where `up` is started")
        })?,
        (Some(_), Some(_)) => {
            let help = "give `client_secret_file` or `client_secret_env`";
            return Err(wrong(&entry.name, "its secret stands in two places", help));
        }
    };
    let text = text.trim().to_owned();
    if text.is_empty() {
        return Err(wrong(&entry.name, "its secret is empty", "put there what the provider gave"));
    }
    Ok(Some(text))
}

fn authorities(name: &Slug, path: &Path) -> Result<Vec<Certificate<'static>>, ProvidersError> {
    let text = read_text(path)?;
    let certificates: Vec<_> = parse_pem(text.as_bytes())
        .filter_map(|item| match item {
            Ok(PemItem::Certificate(certificate)) => Some(certificate),
            _ => None,
        })
        .collect();
    if certificates.is_empty() {
        let reason = format!("`{}` holds no certificate", path.display());
        return Err(wrong(name, reason, "give the authority's certificate as PEM"));
    }
    Ok(certificates)
}

fn read_text(path: &Path) -> Result<String, ProvidersError> {
    fs::read_to_string(path)
        .map_err(|source| ProvidersError::File { path: path.to_owned(), source })
}

fn wrong(name: &Slug, reason: impl Into<String>, help: &'static str) -> ProvidersError {
    ProvidersError::Wrong { name: name.to_string(), reason: reason.into(), help }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CORP: &str = r#"
        [[provider]]
        name = "corp"
        issuer = "https://login.example.org"
        client_id = "patchwright"
    "#;

    fn of(text: &str) -> Result<Vec<Described>, ProvidersError> {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("oidc.toml");
        fs::write(&path, text).unwrap();
        fs::write(directory.path().join("secret"), "s3cret\n").unwrap();
        let mode = if text.contains("# open") { 0o644 } else { 0o600 };
        let permissions = fs::Permissions::from_mode(mode);
        fs::set_permissions(directory.path().join("secret"), permissions).unwrap();
        read(&path)
    }

    #[test]
    fn a_provider_is_read() {
        let text = format!(
            "{CORP}
            title = \"Example Corp\"
            client_secret_file = \"secret\"
            tenant = \"provider\"
            [provider.accounts]
            claim = [\"realm_access\", \"roles\"]
            roles = [{{ value = \"admins\", role = \"admin\" }}]"
        );
        let providers = of(&text).unwrap();

        assert_eq!(providers[0].title.as_str(), "Example Corp");
        assert_eq!(providers[0].client_secret.as_ref().unwrap().secret(), "s3cret");
        assert_eq!(of(CORP).unwrap()[0].title.as_str(), "corp");
        assert!(of("").unwrap().is_empty());
    }

    #[test]
    fn what_makes_no_sense_is_refused_with_a_reason() {
        let accounts = "[provider.accounts]\nclaim = \"groups\"\nroles = ";
        let admin = format!("{accounts}[{{ value = \"x\", role = \"admin\" }}]");
        for (more, reason) in [
            ("client_secret_file = \"secret\" # open".to_owned(), "can be read by others"),
            ("client_secret_file = \"missing\"".to_owned(), "cannot read"),
            ("client_secret_env = \"PATCHWRIGHT_NO_SUCH\"".to_owned(), "is not set"),
            ("client_secret = \"inline\"".to_owned(), "cannot understand"),
            (admin.clone(), "says not of which tenant"),
            (format!("tenant = \"acme\"\n{admin}"), "is not one of the tenant `acme`"),
            (format!("tenant = \"provider\"\n{accounts}[]"), "gives no role"),
            (CORP.to_owned(), "stands there twice"),
            (CORP.replace("https", "http").replace("corp", "x"), "neither https nor"),
            (CORP.replace("corp", "x").replace(".org", ".org/?a=b"), "holds a query"),
        ] {
            let refused = of(&format!("{CORP}\n{more}")).unwrap_err();
            assert!(refused.to_string().contains(reason), "{refused}");
            assert!(!refused.help().is_empty());
        }
    }
}
