//! One's own account: password, codes, passkeys.

use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Redirect, Response};
use maud::{Markup, PreEscaped, html};
use qrcode::render::svg;
use serde::Deserialize;

use super::{Refusal, elsewhere, page};
use crate::App;
use crate::api::account::{
    CodeSetup, Factors, Own, RecoveryCodes, begin_codes, change_password, confirm_codes,
};
use crate::problem::Problem;

/// What was just done, and is told once.
enum News {
    Nothing,
    Said(&'static str),
    Wrong(String),
    Setup(CodeSetup),
    Recovery(RecoveryCodes),
}

/// The page of one's account.
pub(super) async fn show(State(app): State<App>, own: Own) -> Result<Markup, Refusal> {
    Ok(account(&app, &own, &News::Nothing).await?)
}

async fn account(app: &App, own: &Own, news: &News) -> Result<Markup, Problem> {
    let factors = Factors::of(app, own.user.id).await?;
    let user = &own.user;
    let managed = factors.identities.iter().find(|identity| identity.is_managed);
    if let Some(identity) = managed {
        return Ok(managed_account(app, own, &identity.issuer, news));
    }
    let known = app.store.user_by_login(&user.login).await?;
    let has_password = known.is_some_and(|(_, password)| password.is_some());
    Ok(page(
        "/account",
        "Account",
        &html! {
            h1 { (user.name) }
            p.lead { "Signs in as " code { (user.login) } ", " (user.role) "." }
            @match news {
                News::Said(what) => p.good role="status" { (what) },
                News::Wrong(what) => p.problem role="alert" { (what) },
                News::Recovery(codes) => section.card role="status" {
                    h2 { "Recovery codes" }
                    p { "Keep them where your phone is not. Each lets you in once; they are not shown \
                        again." }
                    pre { code { @for code in &codes.recovery_codes { (code) "\n" } } }
                },
                News::Nothing | News::Setup(_) => {},
            }
            h2 { "Codes" }
            @match (factors.codes_since, news) {
                (Some(since), _) => {
                    p { "A code of your app is asked for at sign-in since "
                        time datetime=(since) { (since.strftime("%F %R")) " UTC" } ". "
                        (factors.recovery_codes) " recovery codes are left." }
                    form method="post" action="/account/codes/remove" {
                        button.quiet { "Give codes up" }
                    }
                }
                (None, News::Setup(setup)) => (setup_form(setup)),
                (None, _) => {
                    p { "An app on your phone shows a new code every half minute, which is asked for \
                        at sign-in besides the password." }
                    form method="post" action="/account/codes/begin" { button { "Set up codes" } }
                }
            }
            h2 { "Passkeys" }
            @if app.relying_party.has_passkeys() {
                (passkeys(&factors))
            } @else {
                p.empty { "Passkeys are bound to a name: open the console by its name, which "
                    code { "up --url" } " tells." }
            }
            @if !factors.identities.is_empty() || app.providers.all().next().is_some() {
                h2 { "Elsewhere" }
                (identities(app, &factors))
            }
            @if has_password { h2 { "Password" } (password_form(user)) }
            (elsewhere("/session/factors"))
            script src="/console.js" {}
        },
    ))
}

fn setup_form(setup: &CodeSetup) -> Markup {
    let qr = qrcode::QrCode::new(setup.uri.as_bytes()).map(|code| {
        code.render::<svg::Color<'_>>()
            .min_dimensions(180, 180)
            .dark_color(svg::Color("#111"))
            .light_color(svg::Color("#fff"))
            .build()
    });
    html! {
        p { "Scan this with your app, or type the secret in. Then give the code that it shows." }
        // Made here, of a link made here: nothing in it comes from elsewhere.
        @if let Ok(svg) = qr { div.qr role="img" aria-label="QR code" { (PreEscaped(svg)) } }
        p { "Secret: " code.mono { (spaced(&setup.secret)) } }
        form.narrow method="post" action="/account/codes/confirm" {
            label { "Code"
                input name="code" inputmode="numeric" autocomplete="one-time-code" required autofocus; }
            button { "Confirm" }
        }
    }
}

fn spaced(secret: &str) -> String {
    let letters: Vec<char> = secret.chars().collect();
    let groups: Vec<String> = letters.chunks(4).map(|group| group.iter().collect()).collect();
    groups.join(" ")
}

fn passkeys(factors: &Factors) -> Markup {
    html! {
        @if !factors.passkeys.is_empty() {
            table {
                thead { tr { th { "Name" } th { "Added" } th { "Last used" } th {} } }
                tbody { @for passkey in &factors.passkeys { tr {
                    td { (passkey.name) }
                    td { (passkey.created_at.strftime("%F")) }
                    td { @match passkey.used_at {
                        Some(at) => (at.strftime("%F %R")), None => span.quiet { "never" },
                    } }
                    td { form method="post" action="/account/passkeys/remove" {
                        input type="hidden" name="id" value=(passkey.id);
                        button.quiet { "Remove" }
                    } }
                } } }
            }
        }
        p { "A passkey on this device or on a key signs you in without a password, by its PIN or your \
            finger." }
        form.narrow data-passkey="add" hidden {
            label { "Name" input name="name" required maxlength="120" placeholder="key ring"; }
            button { "Add a passkey" }
            p.problem role="alert" {}
        }
        noscript { p.quiet { "Adding a passkey needs the browser's help, and thus scripts." } }
    }
}

fn password_form(user: &store::User) -> Markup {
    html! {
        form.narrow method="post" action="/account/password" {
            input type="hidden" name="login" value=(user.login) autocomplete="username";
            label { "Old password"
                input name="old" type="password" autocomplete="current-password" required; }
            label { "New password, 15 characters or more"
                input name="new" type="password" autocomplete="new-password" minlength="15"
                    required; }
            button { "Change it" }
        }
    }
}

/// Who one is elsewhere, and where one could be.
fn identities(app: &App, factors: &Factors) -> Markup {
    let title = |issuer: &str| {
        app.providers.by_issuer(issuer).map_or(issuer.to_owned(), |it| it.title().to_owned())
    };
    let is_linked = |issuer: &str| factors.identities.iter().any(|it| it.issuer == issuer);
    html! {
        @if !factors.identities.is_empty() {
            table {
                thead { tr { th { "Where" } th { "As" } th { "Linked" } th { "Last used" } th {} } }
                tbody { @for identity in &factors.identities { tr {
                    td { (title(&identity.issuer)) }
                    td { code { (identity.subject) } }
                    td { (identity.created_at.strftime("%F")) }
                    td { @match identity.used_at {
                        Some(at) => (at.strftime("%F %R")), None => span.quiet { "never" },
                    } }
                    td { form method="post" action="/account/identities/remove" {
                        input type="hidden" name="id" value=(identity.id);
                        button.quiet { "Unlink" }
                    } }
                } } }
            }
        }
        @for provider in app.providers.all().filter(|it| !is_linked(it.issuer())) {
            form method="post" action="/account/identities/link" {
                input type="hidden" name="provider" value=(provider.name());
                button.quiet { "Link " (provider.title()) }
            }
        }
    }
}

/// The page of an account that is managed elsewhere: there is nothing to see to here.
fn managed_account(app: &App, own: &Own, issuer: &str, news: &News) -> Markup {
    let user = &own.user;
    let provider = app.providers.by_issuer(issuer).map_or(issuer, |provider| provider.title());
    page(
        "/account",
        "Account",
        &html! {
            h1 { (user.name) }
            p.lead { "Signs in at " (provider) ", as " code { (user.login) } ", " (user.role) "." }
            @if let News::Wrong(what) = news { p.problem role="alert" { (what) } }
            p { "This account is managed there: it gets its role there at each sign-in, and a second \
                factor as well." }
            (elsewhere("/session/factors"))
        },
    )
}

/// Another password.
#[derive(Deserialize)]
pub(super) struct Passwords {
    old: String,
    new: String,
}

/// A code.
#[derive(Deserialize)]
pub(super) struct Code {
    code: String,
}

/// A passkey, or an identity elsewhere.
#[derive(Deserialize)]
pub(super) struct Which {
    id: String,
}

/// The same page with what was done, or why not.
async fn told(app: &App, own: &Own, done: Result<News, Problem>) -> Result<Response, Refusal> {
    let (status, news) = match done {
        Ok(news) => (StatusCode::OK, news),
        Err(problem) => {
            let help = problem.way_out().map(|help| format!(": {help}")).unwrap_or_default();
            (problem.status(), News::Wrong(format!("{}{help}", problem.detail())))
        }
    };
    Ok((status, account(app, own, &news).await?).into_response())
}

pub(super) async fn password(
    State(app): State<App>,
    own: Own,
    axum::Form(sent): axum::Form<Passwords>,
) -> Result<Response, Refusal> {
    let done = change_password(&app, &own, sent.old, &sent.new).await;
    told(&app, &own, done.map(|()| News::Said("The password is changed; other sessions ended.")))
        .await
}

pub(super) async fn begin(State(app): State<App>, own: Own) -> Result<Response, Refusal> {
    let own = own.strong(&app).await?;
    let done = begin_codes(&app, &own).await.map(News::Setup);
    told(&app, &own, done).await
}

pub(super) async fn confirm(
    State(app): State<App>,
    own: Own,
    axum::Form(sent): axum::Form<Code>,
) -> Result<Response, Refusal> {
    let own = own.strong(&app).await?;
    let done = confirm_codes(&app, &own, &sent.code).await.map(News::Recovery);
    told(&app, &own, done).await
}

pub(super) async fn remove_codes(State(app): State<App>, own: Own) -> Result<Response, Refusal> {
    let own = own.strong(&app).await?;
    let done = app.store.remove_totp(&own.by).await.map_err(Problem::from);
    told(&app, &own, done.map(|()| News::Said("Codes are not asked for any more."))).await
}

pub(super) async fn remove_passkey(
    State(app): State<App>,
    own: Own,
    axum::Form(sent): axum::Form<Which>,
) -> Result<Response, Refusal> {
    let own = own.strong(&app).await?;
    let id = sent.id.parse().map_err(|_| Problem::not_found("such passkey"))?;
    app.store.remove_passkey(&own.by, id).await?;
    Ok(Redirect::to("/account").into_response())
}

pub(super) async fn unlink(
    State(app): State<App>,
    own: Own,
    axum::Form(sent): axum::Form<Which>,
) -> Result<Response, Refusal> {
    let own = own.strong(&app).await?;
    let id = sent.id.parse().map_err(|_| Problem::not_found("such identity"))?;
    let done = app.store.unlink_identity(&own.by, id).await.map_err(Problem::from);
    told(
        &app,
        &own,
        done.map(|()| News::Said("It is unlinked; you do not sign in there any more.")),
    )
    .await
}

/// Signs in with a passkey: the script's way to the cookie, which it never sees.
pub(super) async fn sign_in(
    State(app): State<App>,
    headers: HeaderMap,
    crate::api::Body(sent): crate::api::Body<crate::api::account::PasskeySignIn>,
) -> Result<Response, Problem> {
    crate::caller::check_origin(&Method::POST, &headers)?;
    let session = crate::api::account::passkey_session(&app, sent).await?;
    let cookie = super::session_cookie(&session, &headers);
    Ok((StatusCode::NO_CONTENT, cookie).into_response())
}
