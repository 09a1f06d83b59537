//! Signing in elsewhere: the browser's way to a provider and back.
//!
//! Both ways lead over a page of ours that the browser leaves by itself. There, because a form of ours
//! may lead nowhere else (`form-action`). And back, because the session's cookie is `SameSite=Strict`: it
//! is not sent with a request that another site began, and so not with one that we would redirect.

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, HeaderValue, Method, header};
use axum::response::{AppendHeaders, IntoResponse, Response};
use maud::{DOCTYPE, Markup, html};
use serde::Deserialize;

use super::{Refusal, is_over_tls, login_form, session_cookie};
use crate::App;
use crate::api::account::Own;
use crate::caller::{check_origin, cookie_named};
use crate::oidc::{self, Answer, Begun, Finished, Purpose};
use crate::problem::Problem;

/// The cookie by which a browser shows that it began what it finishes. `Lax`, because it must come along
/// when a provider sends the browser back.
const COOKIE: &str = "patchwright_oidc";

/// Where it is sent.
const PATH: &str = "/login/oidc";

/// As long as what is kept for it.
const SECONDS: u32 = 300;

/// Which provider to link.
#[derive(Deserialize)]
pub(super) struct Which {
    provider: String,
}

/// Sends a browser to a provider.
pub(super) async fn begin(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Response> {
    let begun = async {
        // A strange page must not send a browser to sign in.
        check_origin(&Method::POST, &headers)?;
        oidc::begin(&app, &name, Purpose::SignIn).await
    };
    match begun.await {
        Ok(begun) => Ok(leave(&begun, &headers)),
        Err(problem) => Err(refused(&app, &problem)),
    }
}

/// The same, to link who somebody is there to their account here.
pub(super) async fn link(
    State(app): State<App>,
    own: Own,
    headers: HeaderMap,
    axum::Form(sent): axum::Form<Which>,
) -> Result<Response, Refusal> {
    let own = own.strong(&app).await?;
    let purpose = Purpose::Link { user: own.user.id, session: own.session };
    let begun = oidc::begin(&app, &sent.provider, purpose).await?;
    Ok(leave(&begun, &headers))
}

/// Takes a browser back that comes from a provider.
pub(super) async fn finish(
    State(app): State<App>,
    Path(name): Path<String>,
    headers: HeaderMap,
    answer: Result<Query<Answer>, axum::extract::rejection::QueryRejection>,
) -> Result<Response, Response> {
    let Ok(Query(answer)) = answer else {
        let odd = Problem::new(crate::problem::Kind::Invalid, "this is no answer of a provider");
        return Err(refused(&app, &odd.help("begin again")));
    };
    let browser = cookie_named(&headers, COOKIE);
    let over = browser_cookie("", 0, &headers);
    match oidc::finish(&app, &name, answer, browser).await {
        Ok(Finished::SignedIn(session)) => {
            let [(_, opened)] = session_cookie(&session, &headers);
            Ok((cookies([over, opened]), onward("/", "You are signed in.")).into_response())
        }
        Ok(Finished::Linked) => {
            Ok((cookies([over]), onward("/account", "It is linked.")).into_response())
        }
        Err(problem) => Err((cookies([over]), refused(&app, &problem)).into_response()),
    }
}

fn leave(begun: &Begun, headers: &HeaderMap) -> Response {
    let cookie = browser_cookie(&begun.browser, SECONDS, headers);
    (cookies([cookie]), onward(begun.address.as_str(), "You sign in there.")).into_response()
}

/// A page that the browser leaves at once; whoever's does not, by the link.
fn onward(address: &str, why: &str) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta http-equiv="refresh" content={ "0; url=" (address) };
                title { "Sign in · Patchwright" }
                link rel="stylesheet" href="/console.css";
            }
            body { main.card {
                h1 { "Patchwright" }
                p { (why) " " a href=(address) { "Go on" } }
            } }
        }
    }
}

/// A refusal where people sign in, with the way out.
fn refused(app: &App, problem: &Problem) -> Response {
    let help = problem.way_out().map(|help| format!(": {help}")).unwrap_or_default();
    let page = login_form(app, Some(&format!("{}{help}", problem.detail())));
    (problem.status(), page).into_response()
}

fn cookies<const N: usize>(
    values: [HeaderValue; N],
) -> AppendHeaders<[(header::HeaderName, HeaderValue); N]> {
    AppendHeaders(values.map(|value| (header::SET_COOKIE, value)))
}

fn browser_cookie(secret: &str, seconds: u32, headers: &HeaderMap) -> HeaderValue {
    let secure = if is_over_tls(headers) { "; Secure" } else { "" };
    let text = format!(
        "{COOKIE}={secret}; Path={PATH}; HttpOnly; SameSite=Lax; Max-Age={seconds}{secure}"
    );
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
