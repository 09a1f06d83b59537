//! The console: what people look at. Pages are made here, whole; nothing but passkeys needs a script.

mod account;
mod ahead;
mod alterations;
mod answers;
mod audits;
mod baselines;
mod bindings;
mod break_glass;
mod changes;
mod clocks;
mod configuration;
mod consent;
mod course;
mod drafts;
mod drifts;
mod elsewhere;
mod feeds;
mod fleet;
mod headline;
mod names;
mod notices;
mod obligation;
mod pages;
mod plan;
mod recovery;
mod released;
mod releases;
mod sla;
mod timeline;
mod times;
mod waivers;

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Redirect, Response};
use axum::routing::{get, post};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use crate::App;
use crate::api::session::{LIFETIME, Session, sign_in};
use crate::caller::{COOKIE, Caller};
use crate::gate::Action;
use crate::problem::Problem;

const SCRIPT: &str = include_str!("../../assets/console.js");

const STYLE: &str = include_str!("../../assets/console.css");

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/", get(pages::overview))
        .route("/cis", get(pages::cis))
        .route("/cis/{id}", get(pages::ci))
        .route("/cis/{id}/audit", get(audits::of_item))
        .route("/cis/{id}/files", get(configuration::files))
        .route("/cis/{id}/file", get(configuration::file))
        .route("/cis/{id}/timeline", get(timeline::show))
        .route("/audits", get(audits::survey))
        .route("/baselines", get(baselines::list).post(drafts::put))
        .route("/baselines/new", get(drafts::rules))
        .route("/baselines/golden", get(drafts::golden).post(drafts::put_golden))
        .route("/baselines/released", get(released::form).post(released::put))
        .route("/baselines/{which}", get(baselines::show))
        .route("/baselines/{which}/bind", post(baselines::bind))
        .route("/baselines/{which}/unbind", post(baselines::unbind))
        .route("/baselines/{which}/withdraw", post(baselines::withdraw))
        .route("/waivers", get(waivers::list).post(waivers::give))
        .route("/waivers/new", get(waivers::new))
        .route("/waivers/{id}/end", post(waivers::end))
        .route("/break-glass", get(break_glass::list).post(break_glass::open))
        .route("/break-glass/{id}", get(break_glass::show))
        .route("/break-glass/{id}/close", post(break_glass::close))
        .route("/break-glass/{id}/review", post(break_glass::decide))
        .route("/drifts", get(drifts::board))
        .route("/drifts/{id}", get(drifts::drift))
        .route("/drifts/{id}/adopt", post(drifts::adopt))
        .route("/drifts/{id}/put-back", post(drifts::put_back))
        .route("/configuration", get(audits::search))
        .route("/patches", get(fleet::patches))
        .route("/patches/{id}", get(fleet::patch))
        .route("/changes", get(changes::changes))
        .route("/changes/{id}", get(changes::change))
        .route("/changes/{id}/files", get(alterations::files))
        .route("/releases", get(releases::releases))
        .route("/releases/{id}", get(releases::release))
        .route("/clocks", get(clocks::clocks))
        .route("/obligations/{change}/{tenant}", get(obligation::show))
        .route("/obligations/{change}/{tenant}/countersign", post(obligation::countersign))
        .route("/obligations/{change}/{tenant}/withdraw", post(obligation::withdraw))
        .route("/obligations/{change}/{tenant}/close", post(obligation::close))
        .route("/notices", get(notices::notices))
        .route("/notices/feeds", post(feeds::make))
        .route("/notices/feeds/end", post(feeds::end))
        .route("/notices/{id}", get(notices::notice))
        .route("/notices/{id}/acknowledge", post(notices::acknowledge))
        .route("/sla", get(sla::show))
        .route("/sla/{tenant}/agree", post(sla::agree))
        .route("/consent", get(ahead::show))
        .route("/consent/withdraw", post(ahead::withdraw))
        .route("/consent/revoke", post(ahead::revoke))
        .route("/ledger", get(pages::ledger))
        .route("/login", get(login_page).post(login))
        .route("/logout", post(logout))
        .route("/login/passkey", post(account::sign_in))
        .route("/login/oidc/{name}", post(elsewhere::begin))
        .route("/login/oidc/{name}/callback", get(elsewhere::finish))
        .route("/account", get(account::show))
        .route("/account/password", post(account::password))
        .route("/account/codes/begin", post(account::begin))
        .route("/account/codes/confirm", post(account::confirm))
        .route("/account/codes/remove", post(account::remove_codes))
        .route("/account/passkeys/remove", post(account::remove_passkey))
        .route("/account/identities/link", post(elsewhere::link))
        .route("/account/identities/remove", post(account::unlink))
        .route("/console.css", get(style))
        .route("/console.js", get(script))
}

/// A page with this shows what has come to be since, every few seconds, where the browser runs scripts.
fn goes_on() -> Markup {
    html! { script src="/console.js" data-goes-on {} }
}

async fn script() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/javascript; charset=utf-8")], SCRIPT)
}

async fn style() -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/css; charset=utf-8")], STYLE)
}

/// A page, and which of the navigation's places it is.
fn page(place: &str, title: &str, body: &Markup) -> Markup {
    let places = [
        ("/", "Overview"),
        ("/clocks", "Clocks"),
        ("/changes", "Changes"),
        ("/notices", "Notices"),
        ("/consent", "Consent"),
        ("/sla", "SLA"),
        ("/cis", "Items"),
        ("/drifts", "Drift"),
        ("/audits", "Audits"),
        ("/patches", "Patches"),
        ("/ledger", "Ledger"),
        ("/account", "Account"),
    ];
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) " · Patchwright" }
                link rel="stylesheet" href="/console.css";
            }
            body {
                header { div {
                    strong { "Patchwright" }
                    nav aria-label="Main" {
                        @for (path, name) in places {
                            a href=(path) aria-current=[(path == place).then_some("page")] { (name) }
                        }
                    }
                    form method="post" action="/logout" { button { "Sign out" } }
                } }
                main { (body) }
            }
        }
    }
}

/// The same page as a command and as a request.
fn elsewhere(path: &str) -> Markup {
    html! {
        details {
            summary { "This page as a request" }
            pre { code { "curl -H \"Authorization: Bearer $TOKEN\" $PATCHWRIGHT/api/v1" (path) } }
        }
    }
}

/// A refusal as a page.
struct Refusal(Problem);

impl From<Problem> for Refusal {
    fn from(problem: Problem) -> Self {
        Self(problem)
    }
}

impl From<store::StoreError> for Refusal {
    fn from(error: store::StoreError) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let status = self.0.status();
        if status == StatusCode::UNAUTHORIZED {
            return Redirect::to("/login").into_response();
        }
        let body = html! {
            h1 { (status.canonical_reason().unwrap_or("Failed")) }
            p.lead { (self.0.detail()) }
            @if let Some(help) = self.0.way_out() { p { (help) } }
        };
        (status, page("", "Problem", &body)).into_response()
    }
}

/// Why what was asked for was not done, and the way out; nothing where nothing was refused.
fn refused(problem: Option<&Problem>) -> Markup {
    html! { @if let Some(problem) = problem {
        p.problem role="alert" { (problem.detail()) @if let Some(help) = problem.way_out() { " — " (help) } }
    } }
}

/// Who looks, and may they?
fn pass(app: &App, caller: Option<Caller>, action: Action) -> Result<store::Actor, Refusal> {
    let caller = caller.ok_or_else(Problem::unauthenticated)?;
    Ok(app.gate.pass(caller, action)?)
}

/// What the sign-in form sends.
#[derive(Deserialize)]
struct Form {
    login: String,
    password: String,
    #[serde(default)]
    code: String,
}

async fn login_page(State(app): State<App>) -> Markup {
    login_form(&app, None)
}

fn login_form(app: &App, problem: Option<&str>) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Sign in · Patchwright" }
                link rel="stylesheet" href="/console.css";
            }
            body { main.card {
                form method="post" action="/login" {
                    h1 { "Patchwright" }
                    @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
                    label { "Login" input name="login" autocomplete="username" required autofocus; }
                    label { "Password"
                        input name="password" type="password" autocomplete="current-password" required;
                    }
                    label { "Code, if you have set that up"
                        input name="code" autocomplete="one-time-code" maxlength="32";
                    }
                    button { "Sign in" }
                }
                @for provider in app.providers.all() {
                    form method="post" action={ "/login/oidc/" (provider.name()) } {
                        button.quiet { "Sign in with " (provider.title()) }
                    }
                }
                @if app.relying_party.has_passkeys() {
                    form data-passkey="sign-in" hidden {
                        button.quiet { "Use a passkey" }
                        p.problem role="alert" {}
                    }
                }
                script src="/console.js" {}
            } }
        }
    }
}

async fn login(
    State(app): State<App>,
    headers: HeaderMap,
    axum::Form(form): axum::Form<Form>,
) -> Result<Response, Response> {
    // A strange page must not sign a browser in either, as somebody of its choice.
    crate::caller::check_origin(&axum::http::Method::POST, &headers)
        .map_err(|problem| Refusal(problem).into_response())?;
    match sign_in(&app, &form.login, form.password, Some(&form.code)).await {
        Ok(session) => Ok((session_cookie(&session, &headers), Redirect::to("/")).into_response()),
        Err(problem) => {
            let page = login_form(&app, Some(problem.detail()));
            Err((problem.status(), page).into_response())
        }
    }
}

async fn logout(State(app): State<App>, caller: Option<Caller>) -> Result<Response, Refusal> {
    if let Some(caller) = caller
        && let Some(session) = caller.identity.session
    {
        let by = app.gate.pass(caller, Action::SessionClose)?;
        app.store.close_session(&by, session).await?;
    }
    let expired = cookie("", 0, false);
    Ok(([(header::SET_COOKIE, expired)], Redirect::to("/login")).into_response())
}

/// Whether a proxy in front says that the browser's connection is over TLS.
fn is_over_tls(headers: &HeaderMap) -> bool {
    headers.get("x-forwarded-proto").is_some_and(|value| value == "https")
}

/// The cookie that a browser keeps its session in.
fn session_cookie(session: &Session, headers: &HeaderMap) -> [(HeaderName, HeaderValue); 1] {
    let value = cookie(session.secret(), LIFETIME.as_secs(), is_over_tls(headers));
    [(header::SET_COOKIE, value)]
}

fn cookie(secret: &str, seconds: i64, is_over_tls: bool) -> HeaderValue {
    let secure = if is_over_tls { "; Secure" } else { "" };
    let text =
        format!("{COOKIE}={secret}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
