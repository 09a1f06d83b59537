//! Signing in at OpenID Connect providers: authorisation code flow with PKCE.
//!
//! ```text
//! begin:  nonce, verifier, browser's secret ─► kept five minutes, given out once ─► provider's address
//! finish: state ─► kept? same provider? same browser? ─► code ─► tokens ─► verified ─► admitted
//! ```
//!
//! - Addresses come from the operator's file and from discovery at the issuer named there, and nowhere
//!   else; each must be https, or on this machine where the issuer is.
//! - Each provider has its own address to come back to, and what is kept names the provider: a code of
//!   one cannot be passed off as another's (RFC 9700, 4.4).
//! - Keys are fetched for each token: a provider that rotates them needs to tell nobody, and a key that
//!   it withdrew counts no more.

mod file;
mod token;
mod transport;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64URL;
use domain::cloud::{CeremonyId, SessionId, Slug, TenantId, UserId};
use jiff::{SignedDuration, Timestamp};
use openidconnect::core::{
    CoreAuthenticationFlow, CoreClient, CoreClientAuthMethod, CoreJsonWebKeySet,
    CoreProviderMetadata,
};
use openidconnect::url::Url;
use openidconnect::{
    AuthType, AuthorizationCode, CsrfToken, EndpointMaybeSet, EndpointNotSet, EndpointSet, Nonce,
    OAuth2TokenResponse as _, PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, Scope,
    TokenResponse as _, TokenUrl,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use store::{Actor, Admission, Arrival, Ceremony, ExternalName, Grant, Standing};
use tokio::sync::Semaphore;

pub use file::ProvidersError;

use crate::App;
use crate::api::session::{LIFETIME, Session};
use crate::problem::{Kind, Problem};
use file::Described;
use token::{Expected, Vouched};

/// Kind of the ceremony.
const CEREMONY: &str = "oidc";

/// How long what discovery told is believed; keys are not part of it.
const FRESH: SignedDuration = SignedDuration::from_mins(10);

/// Conversations with providers at a time: each holds a thread, for ten seconds at most a question.
const AT_ONCE: usize = 16;

/// What of a provider's own words is shown.
const LONGEST_WORDS: usize = 200;

/// Where people may sign in.
#[derive(Debug, Clone)]
pub struct Providers(Arc<All>);

#[derive(Debug)]
struct All {
    providers: Vec<Arc<Provider>>,
    at_once: Semaphore,
}

/// One provider.
#[derive(Debug)]
pub(crate) struct Provider {
    described: Described,
    /// What discovery told, and when.
    known: Mutex<Option<(Timestamp, Arc<CoreProviderMetadata>)>>,
}

/// What for somebody goes to a provider.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) enum Purpose {
    SignIn,
    /// To link who they are there to their account here.
    Link {
        user: UserId,
        session: SessionId,
    },
}

/// The half of a ceremony that begins it.
pub(crate) struct Begun {
    /// Where to send the browser.
    pub(crate) address: Url,
    /// What the browser must show when it comes back.
    pub(crate) browser: String,
}

/// What the browser brings back.
#[derive(Deserialize)]
pub(crate) struct Answer {
    #[serde(default)]
    state: String,
    code: Option<String>,
    error: Option<String>,
    error_description: Option<String>,
    /// Who answers (RFC 9207).
    iss: Option<String>,
}

/// What came of it.
pub(crate) enum Finished {
    SignedIn(Session),
    Linked,
}

/// What is kept between the halves.
#[derive(Serialize, Deserialize)]
struct Kept {
    provider: Slug,
    nonce: String,
    verifier: String,
    /// SHA-256 of the browser's secret.
    browser: Vec<u8>,
    purpose: Purpose,
}

type Client = CoreClient<
    EndpointSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointNotSet,
    EndpointMaybeSet,
    EndpointMaybeSet,
>;

impl Providers {
    /// Nowhere else than here.
    pub fn none() -> Self {
        Self::of(Vec::new())
    }

    /// The providers of a file.
    ///
    /// # Errors
    /// If the file cannot be read, or makes no sense.
    pub fn read(path: &Path) -> Result<Self, ProvidersError> {
        file::read(path).map(Self::of)
    }

    fn of(described: Vec<Described>) -> Self {
        let of = |described| Arc::new(Provider { described, known: Mutex::default() });
        let providers = described.into_iter().map(of).collect();
        Self(Arc::new(All { providers, at_once: Semaphore::new(AT_ONCE) }))
    }

    /// The names of all, for a person at the command line.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.providers.iter().map(|it| it.name())
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Provider> {
        self.0.providers.iter().map(|it| &**it)
    }

    fn named(&self, name: &str) -> Result<&Arc<Provider>, Problem> {
        let found = self.0.providers.iter().find(|it| it.name() == name);
        found.ok_or_else(|| Problem::not_found("provider of this name"))
    }

    pub(crate) fn by_issuer(&self, issuer: &str) -> Option<&Provider> {
        self.all().find(|it| it.issuer() == issuer)
    }
}

impl Provider {
    pub(crate) fn name(&self) -> &str {
        self.described.name.as_str()
    }

    pub(crate) fn title(&self) -> &str {
        self.described.title.as_str()
    }

    pub(crate) fn issuer(&self) -> &str {
        self.described.issuer.as_str()
    }

    /// Whose people alone sign in there, if it is so.
    pub(crate) async fn tenant(&self, app: &App) -> Result<Option<TenantId>, Problem> {
        let Some(slug) = &self.described.tenant else { return Ok(None) };
        match app.store.tenant_by_slug(&Actor::System, slug).await {
            Ok(tenant) => Ok(Some(tenant.id)),
            Err(store::StoreError::NotFound { .. }) => {
                let detail =
                    format!("{} is for the tenant `{slug}`, which is not here", self.title());
                Err(Problem::new(Kind::Refused, detail).help("an administrator can take it up"))
            }
            Err(error) => Err(error.into()),
        }
    }

    /// What discovery tells, asked for again after a while. Blocks.
    fn metadata(&self, now: Timestamp) -> Result<Arc<CoreProviderMetadata>, Problem> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((at, metadata)) = known
            && now < at + FRESH
        {
            return Ok(metadata);
        }
        let Described { issuer, transport, .. } = &self.described;
        // Refuses a document that names another issuer (OpenID Connect Discovery 1.0, 4.3).
        let metadata =
            CoreProviderMetadata::discover(issuer, transport).map_err(|error| self.away(&error))?;
        let endpoints = [
            Some(metadata.authorization_endpoint().url()),
            metadata.token_endpoint().map(TokenUrl::url),
            Some(metadata.jwks_uri().url()),
        ];
        for url in endpoints.into_iter().flatten() {
            transport.check(url).map_err(|error| self.away(&error))?;
        }
        let metadata = Arc::new(metadata);
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        *known = Some((now, Arc::clone(&metadata)));
        Ok(metadata)
    }

    fn client(&self, metadata: &CoreProviderMetadata, redirect: RedirectUrl) -> Client {
        let Described { client_id, client_secret, .. } = &self.described;
        let methods = metadata.token_endpoint_auth_methods_supported();
        let takes = |method| methods.is_none_or(|methods| methods.contains(&method));
        // Basic where nothing is said (OpenID Connect Discovery 1.0, 3).
        let auth_type = if takes(CoreClientAuthMethod::ClientSecretBasic) {
            AuthType::BasicAuth
        } else {
            AuthType::RequestBody
        };
        CoreClient::from_provider_metadata(
            metadata.clone(),
            client_id.clone(),
            client_secret.clone(),
        )
        .set_auth_type(auth_type)
        .set_redirect_uri(redirect)
    }

    /// Where a browser goes for a code.
    fn address(
        &self,
        metadata: &CoreProviderMetadata,
        redirect: RedirectUrl,
        state: CeremonyId,
        kept: &Kept,
    ) -> Url {
        let verifier = PkceCodeVerifier::new(kept.verifier.clone());
        let nonce = Nonce::new(kept.nonce.clone());
        let client = self.client(metadata, redirect);
        let scopes = ["profile", "email"].into_iter().map(str::to_owned);
        let scopes = scopes.chain(self.described.scopes.iter().cloned()).map(Scope::new);
        let (address, ..) = client
            .authorize_url(
                CoreAuthenticationFlow::AuthorizationCode,
                move || CsrfToken::new(state.to_string()),
                move || nonce,
            )
            .set_pkce_challenge(PkceCodeChallenge::from_code_verifier_sha256(&verifier))
            .add_scopes(scopes)
            .url();
        address
    }

    /// Changes a code for a token, and verifies it. Blocks.
    fn vouch(
        &self,
        now: Timestamp,
        redirect: RedirectUrl,
        code: String,
        kept: Kept,
    ) -> Result<Vouched, Problem> {
        let Described { issuer, client_id, transport, .. } = &self.described;
        let metadata = self.metadata(now)?;
        let answer = self
            .client(&metadata, redirect)
            .exchange_code(AuthorizationCode::new(code))
            .map_err(|error| self.away(&error))?
            .set_pkce_verifier(PkceCodeVerifier::new(kept.verifier))
            .request(transport)
            .map_err(|error| match error {
                openidconnect::RequestTokenError::Request(error) => self.away(&error),
                error => self.unbelieved(&error),
            })?;
        let token = answer.id_token().ok_or_else(|| self.unbelieved(&"it gives no ID token"))?;
        let keys = CoreJsonWebKeySet::fetch(metadata.jwks_uri(), transport)
            .map_err(|error| self.away(&error))?;
        let nonce = Nonce::new(kept.nonce);
        let expected = Expected { issuer, client: client_id, nonce: &nonce, now };
        let vouched = token::verify(token, answer.access_token(), keys, &expected)
            .map_err(|error| self.unbelieved(&error))?;
        let domains = &self.described.email_domains;
        if !domains.is_empty() && !vouched.is_of(domains) {
            let detail = format!("{} names no verified address that is let in", self.title());
            return Err(Problem::new(Kind::Forbidden, detail)
                .help(format!("use an account with an address at {}", domains.join(", "))));
        }
        Ok(vouched)
    }

    /// What the provider says that somebody may be here.
    fn standing(&self, vouched: &Vouched, tenant: Option<TenantId>) -> Result<Standing, Problem> {
        let (Some(accounts), Some(tenant)) = (&self.described.accounts, tenant) else {
            return Ok(Standing::NotAsked);
        };
        let Some(role) = vouched.role(accounts) else { return Ok(Standing::Withheld) };
        let nameless = || self.unbelieved(&"its name for this person cannot be used");
        let login = vouched.login(self.name()).ok_or_else(nameless)?;
        let name = vouched.name().or_else(|| login.as_str().parse().ok()).ok_or_else(nameless)?;
        Ok(Standing::Granted(Grant { tenant, role, login, name }))
    }

    fn away(&self, error: &(dyn std::error::Error + 'static)) -> Problem {
        tracing::warn!(provider = self.name(), error, "a provider cannot be asked");
        Problem::new(Kind::Unavailable, format!("{} cannot be asked now", self.title()))
            .help("try again in a moment, or sign in another way; the server's log says why")
    }

    fn unbelieved(&self, reason: &dyn std::fmt::Display) -> Problem {
        let reason = shortened(&reason.to_string());
        tracing::warn!(provider = self.name(), reason, "a sign-in was refused");
        let detail = format!("what {} says is not believed: {reason}", self.title());
        Problem::new(Kind::Unauthenticated, detail).help("begin again")
    }
}

/// Begins: remembers what is needed, and tells where to send the browser.
pub(crate) async fn begin(app: &App, name: &str, purpose: Purpose) -> Result<Begun, Problem> {
    let provider = Arc::clone(app.providers.named(name)?);
    let (asked, now) = (Arc::clone(&provider), app.store.environment().now());
    let metadata = aside(app, move || asked.metadata(now)).await?;
    let random = || BASE64URL.encode(app.random::<32>());
    let browser = random();
    let kept = Kept {
        provider: provider.described.name.clone(),
        nonce: random(),
        verifier: random(),
        browser: Sha256::digest(browser.as_bytes()).to_vec(),
        purpose,
    };
    let state = serde_json::to_vec(&kept)
        .map_err(|_| Problem::new(Kind::Internal, "a sign-in cannot be kept"))?;
    let ceremony = Ceremony { kind: CEREMONY, user: None, state };
    let ceremony = app.store.begin_ceremony(ceremony).await?;
    let address = provider.address(&metadata, redirect(app, &provider)?, ceremony, &kept);
    Ok(Begun { address, browser })
}

/// Finishes what the same browser began at the same provider.
pub(crate) async fn finish(
    app: &App,
    name: &str,
    answer: Answer,
    browser: Option<&str>,
) -> Result<Finished, Problem> {
    let provider = Arc::clone(app.providers.named(name)?);
    let odd = || {
        Problem::new(Kind::Refused, "this sign-in was not begun in this browser")
            .help(format!("begin again, at {}/login", app.url))
    };
    let ceremony: CeremonyId = answer.state.parse().map_err(|_| odd())?;
    let kept = app.store.take_ceremony(ceremony, CEREMONY, None).await?;
    let kept: Kept = serde_json::from_slice(&kept).map_err(|_| odd())?;
    let shown = browser.map(|secret| Sha256::digest(secret.as_bytes()).to_vec());
    if shown.as_ref() != Some(&kept.browser) || kept.provider != provider.described.name {
        return Err(odd());
    }
    if answer.iss.as_deref().is_some_and(|issuer| issuer != provider.issuer()) {
        return Err(provider.unbelieved(&"somebody else answers in its place"));
    }
    if let Some(error) = answer.error {
        let said = shortened(&answer.error_description.unwrap_or(error));
        let detail = format!("{} did not sign you in: {said}", provider.title());
        return Err(Problem::new(Kind::Refused, detail).help("begin again, or sign in another way"));
    }
    let code = answer.code.ok_or_else(odd)?;
    let purpose = kept.purpose;
    let (now, redirect) = (app.store.environment().now(), redirect(app, &provider)?);
    let asked = Arc::clone(&provider);
    let vouched = aside(app, move || asked.vouch(now, redirect, code, kept)).await?;
    let tenant = provider.tenant(app).await?;
    let named =
        ExternalName { issuer: provider.issuer().to_owned(), subject: vouched.subject.clone() };
    match purpose {
        Purpose::Link { user, session } => {
            app.store.link_identity(user, session, tenant, named).await?;
            Ok(Finished::Linked)
        }
        Purpose::SignIn => {
            let is_strong = vouched.is_strong(provider.described.mfa.as_ref());
            let standing = provider.standing(&vouched, tenant)?;
            let arrival = Arrival { name: named, is_strong, tenant, standing };
            let session = admit(app, &provider, arrival).await?;
            Ok(Finished::SignedIn(session))
        }
    }
}

async fn admit(app: &App, provider: &Provider, arrival: Arrival) -> Result<Session, Problem> {
    let title = provider.title();
    let has_accounts = provider.described.accounts.is_some();
    let refused = |detail: String| Problem::new(Kind::Forbidden, detail);
    match app.store.admit(arrival, LIFETIME).await? {
        Admission::Opened(_, secret) => {
            Ok(Session::new(&secret, app.store.environment().now() + LIFETIME))
        }
        Admission::Unknown if has_accounts => {
            Err(refused(format!("{title} gives you no role here"))
                .help("ask whoever gives roles there, then sign in again"))
        }
        Admission::Unknown => Err(refused(format!("nobody here is known as you are at {title}"))
            .help("sign in another way and link it on the page of your account, or ask an administrator")),
        Admission::NotTheirs => Err(refused(format!("{title} is for the people of another tenant"))
            .help("sign in another way")),
        Admission::Disabled => Err(refused("your access was taken away".to_owned())
            .help("an administrator can give you access anew")),
        Admission::Withdrawn => Err(refused(format!("{title} gives you no role here any more"))
            .help("ask whoever gives roles there, then sign in again")),
    }
}

/// Where a provider sends browsers back to.
fn redirect(app: &App, provider: &Provider) -> Result<RedirectUrl, Problem> {
    let address = format!("{}/login/oidc/{}/callback", app.url, provider.name());
    RedirectUrl::new(address)
        .map_err(|_| Problem::new(Kind::Internal, "the console's address cannot be used"))
}

/// Runs what blocks on a thread of its own, if there are not too many.
async fn aside<T: Send + 'static>(
    app: &App,
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let busy = || Problem::new(Kind::Unavailable, "too many people sign in at this moment");
    let _permit = app.providers.0.at_once.try_acquire().map_err(|_| busy())?;
    tokio::task::spawn_blocking(work).await.map_err(|_| busy())?
}

/// Somebody else's words, of a length to show, without what would end a line.
fn shortened(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_WORDS).collect()
}
