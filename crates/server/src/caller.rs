//! Who calls: a token or a session, before anybody asks what they may do.

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method, header};
use store::{Identity, Secret};

use crate::App;
use crate::problem::Problem;

/// Name of the cookie that holds a browser's session. The prefix binds it to this host and to
/// TLS; without TLS, on loopback, browsers take only the plain name.
pub(crate) const COOKIE: &str = "patchwright_session";

/// Somebody who has proven who they are.
#[derive(Debug, Clone)]
pub struct Caller {
    pub(crate) identity: Identity,
}

impl Caller {
    /// The same, had it proven more than a password.
    pub(crate) fn strengthened(&self) -> Self {
        let mut identity = self.identity.clone();
        identity.is_strong = true;
        Self { identity }
    }
}

impl FromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        let presented = if let Some(secret) = bearer(&parts.headers) {
            secret
        } else {
            let secret = cookie(&parts.headers).ok_or_else(Problem::unauthenticated)?;
            check_origin(&parts.method, &parts.headers)?;
            secret
        };
        let identity = app.store.identify(&presented).await?;
        identity.map(|identity| Self { identity }).ok_or_else(Problem::unauthenticated)
    }
}

impl OptionalFromRequestParts<App> for Caller {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Option<Self>, Problem> {
        match <Self as FromRequestParts<App>>::from_request_parts(parts, app).await {
            Ok(caller) => Ok(Some(caller)),
            Err(problem) if problem.status() == axum::http::StatusCode::UNAUTHORIZED => Ok(None),
            Err(problem) => Err(problem),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, secret) = value.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::presented(secret.trim()))
}

fn cookie(headers: &HeaderMap) -> Option<Secret> {
    cookie_named(headers, COOKIE).map(Secret::presented)
}

/// What a browser keeps under a name.
pub(crate) fn cookie_named<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .find(|(found, _)| *found == name)
        .map(|(_, secret)| secret)
}

/// A cookie comes along whoever made the browser ask: what alters something must come from our own
/// pages (OWASP, cross-site request forgery: fetch metadata, with the origin as fallback).
pub(crate) fn check_origin(method: &Method, headers: &HeaderMap) -> Result<(), Problem> {
    if method.is_safe() {
        return Ok(());
    }
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let is_ours = match (text("sec-fetch-site"), text("origin"), text("host")) {
        (Some(site), ..) => site == "same-origin",
        (None, Some(origin), Some(host)) => {
            origin.split_once("://").is_some_and(|(_, authority)| authority == host)
        }
        (None, ..) => false,
    };
    if is_ours {
        Ok(())
    } else {
        Err(Problem::new(
            crate::problem::Kind::Forbidden,
            "a session alters things only from Patchwright's own pages",
        )
        .help("programs send `Authorization: Bearer TOKEN` instead of the cookie"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|&(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    }

    #[test]
    fn a_strange_page_cannot_alter_anything() {
        let post = |pairs: &[(&'static str, &str)]| check_origin(&Method::POST, &headers(pairs));

        assert!(post(&[("sec-fetch-site", "same-origin")]).is_ok());
        assert!(post(&[("origin", "https://cloud.example"), ("host", "cloud.example")]).is_ok());
        assert!(post(&[("sec-fetch-site", "cross-site")]).is_err());
        assert!(post(&[("sec-fetch-site", "same-site")]).is_err());
        assert!(post(&[("origin", "https://evil.example"), ("host", "cloud.example")]).is_err());
        assert!(post(&[("origin", "null"), ("host", "cloud.example")]).is_err());
        assert!(post(&[]).is_err());
        assert!(check_origin(&Method::GET, &headers(&[])).is_ok());
    }

    #[test]
    fn a_token_stands_before_a_cookie() {
        assert_eq!(
            bearer(&headers(&[("authorization", "bearer  pwt_1")])),
            Some(Secret::presented("pwt_1"))
        );
        assert_eq!(bearer(&headers(&[("authorization", "Basic x")])), None);
        let cookies = headers(&[("cookie", "a=b; patchwright_session=pws_1; c=d")]);
        assert_eq!(cookie(&cookies), Some(Secret::presented("pws_1")));
    }
}
