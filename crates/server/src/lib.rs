//! Patchwright's control plane: the API, the console, and the work in the background.
//!
//! A request's way:
//!
//! ```text
//! request ─► Caller (who?) ─► Gate (may they?) ─► Actor ─► Store (with whose rows?) ─► answer
//!             401                403                         404, 409, 412, 422 …
//! ```
//!
//! Each step's result is needed by the next one, so none can be left out: handlers get a `Caller`,
//! only the [`Gate`] makes an `Actor` of it, and every verb of the store wants an actor and filters
//! by its tenant. Every refusal is a [`Problem`] with a way out.

mod agents;
mod api;
mod audits;
mod caller;
mod clocks;
mod codes;
mod console;
mod expectations;
mod fleet;
mod gate;
mod histories;
mod image_stores;
mod images;
mod listen;
mod notices;
mod observers;
mod oidc;
mod passkeys;
mod passwords;
mod probes;
mod problem;
mod record;
mod recorder;
mod refusals;
mod releases;
mod snapshots;
mod surveys;
mod tls;
mod turn;
mod verdicts;
mod witness;
mod witnesses;

use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::http::{HeaderName, HeaderValue, header};
use axum::response::{IntoResponse, Response};
use ledger::attestation::AttestorKey;
use reach::Reach;
use store::{History, NewUser, Store, Vault};
use tokio::sync::watch;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::limit::RequestBodyLimitLayer;
use tower_http::set_header::SetResponseHeaderLayer;
use tower_http::trace::TraceLayer;

pub use agents::{Agents, AgentsError, AuthorityError, serve_agents, serve_proxied_agents};
pub use audits::Audits;
pub use caller::Caller;
pub use clocks::Clocks;
pub use expectations::{
    Case as PolicyCase, Difference, Expectations, ExpectationsError, Outcome, Policies, Situation,
};
pub use fleet::{Case, Fleet, Judge, Want};
pub use gate::{Action, Gate, PolicyError, Ruling};
pub use histories::Histories;
pub use image_stores::{FetchedImage, ImageStores, NoImageStores, StoredImage};
pub use images::{
    ImageFacts, JobWatch, Lab, LabError, LabFailure, LabRefusal, LabSettings, Laboratory, Made,
    Order, Outcome as LabOutcome,
};
pub use listen::{ListenError, serve, serve_router};
pub use notices::{NoticeSettings, Notices, NoticesError};
pub use observers::{Eyes, Looking, Observers, Ssh};
pub use oidc::{Providers, ProvidersError};
pub use problem::Problem;
pub use recorder::{Recorder, RecorderError};
pub use releases::Releases;
pub use snapshots::{Places, Snapshots};
pub use tls::{Tls, TlsError};
pub use verdicts::Verdicts;
pub use witness::{WitnessMemory, WitnessMemoryError, witness_router};
pub use witnesses::Witnesses;

use passkeys::RelyingParty;
use passwords::Passwords;
use problem::Kind;
use refusals::Refusals;

/// Largest body taken, uploads of images aside.
const LARGEST_BODY: usize = 2 << 20;

/// All that a request needs.
#[derive(Clone)]
pub struct App(Arc<Parts>);

/// What an [`App`] is made of.
pub struct Parts {
    store: Store,
    gate: Gate,
    passwords: Passwords,
    refusals: Refusals,
    recorder: Arc<Recorder>,
    fleet: Arc<Fleet>,
    agents: Arc<Agents>,
    lab: Arc<Lab>,
    vault: Vault,
    relying_party: RelyingParty,
    /// The console's address, without a slash at the end.
    url: String,
    providers: Providers,
    witnesses: Option<Arc<Witnesses>>,
    notices: Arc<Notices>,
    two_persons_above: usize,
    verifier: AttestorKey,
    history: History,
    /// Where sources of the provider may be.
    reach: Reach,
    image_stores: Arc<dyn ImageStores>,
    /// Changes whenever events were published in the ledger.
    news: watch::Sender<u64>,
}

/// How people sign in, and who watches.
#[derive(Clone)]
pub struct Settings {
    /// Seals what people prove with.
    pub vault: Vault,
    /// The address at which browsers reach the console; passkeys are bound to it.
    pub url: String,
    /// Whether the provider's people must prove more than a password.
    pub requires_mfa: bool,
    /// Where else people may sign in.
    pub providers: Providers,
    /// Who cosigns the ledger.
    pub witnesses: Option<Arc<Witnesses>>,
    /// How tenants are told.
    pub notices: Arc<Notices>,
    /// Above so many items that the provider must patch, two of its people beside a plan's author agree.
    pub two_persons_above: usize,
    /// With which key it is signed what looks at items came to: [`Releases::key`].
    pub verifier: AttestorKey,
    /// What items were configured by.
    pub history: History,
    /// Where sources of the provider may be; those of tenants are on the public Internet.
    pub reach: Reach,
    /// Where the cloud keeps images of its own.
    pub image_stores: Arc<dyn ImageStores>,
}

impl std::ops::Deref for App {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.0
    }
}

impl App {
    /// A control plane over a store, with the policies that Patchwright ships.
    ///
    /// # Errors
    /// If the policies are damaged.
    pub fn new(
        store: Store,
        recorder: Arc<Recorder>,
        fleet: Arc<Fleet>,
        agents: Arc<Agents>,
        lab: Arc<Lab>,
        settings: Settings,
    ) -> Result<Self, PolicyError> {
        let mut salt = [0; 16];
        store.environment().fill(&mut salt);
        let Settings {
            vault,
            url,
            requires_mfa,
            providers,
            witnesses,
            notices,
            two_persons_above,
            verifier,
            history,
            reach,
            image_stores,
        } = settings;
        let gate = Gate::shipped(requires_mfa)?;
        let relying_party = RelyingParty::of(&url)
            .map_err(|reason| PolicyError::of("--url", &Problem::new(Kind::Invalid, reason)))?;
        let passwords =
            Passwords::new(&salt).map_err(|problem| PolicyError::of("passwords", &problem))?;
        let news = recorder.news();
        Ok(Self(Arc::new(Parts {
            store,
            gate,
            passwords,
            refusals: Refusals::default(),
            recorder,
            fleet,
            agents,
            lab,
            vault,
            relying_party,
            url: url.trim_end_matches('/').to_owned(),
            providers,
            witnesses,
            notices,
            two_persons_above,
            verifier,
            history,
            reach,
            image_stores,
            news,
        })))
    }

    /// A new person with a password.
    ///
    /// # Errors
    /// If the password is not fit.
    pub fn person(
        &self,
        tenant: domain::cloud::TenantId,
        login: domain::cloud::Login,
        name: domain::cloud::Name,
        role: domain::cloud::Role,
        password: &str,
    ) -> Result<NewUser, Problem> {
        let password = Some(passwords::hash_new(password, &self.random())?);
        Ok(NewUser { tenant, login, name, role, password })
    }

    /// Every route, as one service.
    pub fn router(&self) -> Router {
        let (api, uploads, document) = api::routes();
        let document = Arc::new(document);
        let bounded = api
            .merge(probes::routes())
            .merge(console::routes())
            .merge(api::feeds::subscribed())
            .route(
                "/api/v1/openapi.json",
                axum::routing::get(move || async move { axum::Json(document.as_ref().clone()) }),
            )
            .route("/problems/{slug}", axum::routing::get(problem::page))
            .route("/ledger/{*path}", axum::routing::get(api::ledger_file))
            .layer(RequestBodyLimitLayer::new(LARGEST_BODY));
        // Uploads have a bound of their own.
        let router = bounded
            .merge(uploads)
            .fallback(async || Problem::not_found("page at this address"))
            .method_not_allowed_fallback(async || {
                Problem::new(Kind::MethodNotAllowed, "not with this method")
            });
        guarded(router).with_state(self.clone())
    }

    /// What audits items for somebody.
    pub(crate) fn auditor<'a>(&'a self, by: &'a store::Actor) -> audits::Auditor<'a> {
        audits::Auditor { store: &self.store, history: &self.history, by }
    }

    pub(crate) fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.store.environment().fill(&mut bytes);
        bytes
    }
}

/// The hash of a new password.
///
/// # Errors
/// If the password is not fit.
pub fn hash_password(store: &Store, password: &str) -> Result<store::PasswordHash, Problem> {
    let mut salt = [0; 16];
    store.environment().fill(&mut salt);
    passwords::hash_new(password, &salt)
}

/// The API as OpenAPI 3.1, in JSON.
pub fn openapi() -> String {
    let (_, _, document) = api::routes();
    document.to_pretty_json().unwrap_or_default()
}

/// Bounds and headers that hold for every answer.
fn guarded(router: Router<App>) -> Router<App> {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    router
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::X_FRAME_OPTIONS, "DENY"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'self'; object-src 'none'; base-uri 'none'; form-action 'self'; \
             frame-ancestors 'none'",
        ))
        .layer(CatchPanicLayer::custom(panicked))
        // Paths name objects; bodies, queries and headers, where secrets are, stay out of the log, and
        // so do the paths that are secrets.
        .layer(TraceLayer::new_for_http().make_span_with(|request: &Request| {
            let path = api::feeds::logged(request.uri().path());
            tracing::info_span!("request", method = %request.method(), path)
        }))
}

fn panicked(_: Box<dyn std::any::Any + Send + 'static>) -> Response {
    Problem::new(Kind::Internal, "Patchwright failed; the server's log says why").into_response()
}
