//! Errors as people and programs read them: RFC 9457 problem documents with a way out.

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use store::StoreError;
use utoipa::ToSchema;

/// What went wrong, and what to do then (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct Problem {
    /// What kind of problem: a page of this server that explains it.
    #[serde(rename = "type")]
    #[schema(example = "/problems/not-found")]
    kind: String,
    /// The kind in words.
    #[schema(example = "Not found")]
    title: &'static str,
    /// HTTP status.
    #[schema(example = 404)]
    status: u16,
    /// This very problem in words.
    detail: String,
    /// The way out.
    #[serde(skip_serializing_if = "Option::is_none")]
    help: Option<String>,
}

macro_rules! kinds {
    ($($name:ident = $status:literal, $slug:literal, $title:literal, $about:literal;)+) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub(crate) enum Kind { $($name),+ }

        impl Kind {
            pub(crate) const ALL: &'static [Self] = &[$(Self::$name),+];

            const fn status(self) -> u16 {
                match self { $(Self::$name => $status),+ }
            }

            /// The status as OpenAPI writes it.
            pub(crate) const fn status_word(self) -> &'static str {
                match self { $(Self::$name => stringify!($status)),+ }
            }

            pub(crate) const fn slug(self) -> &'static str {
                match self { $(Self::$name => $slug),+ }
            }

            pub(crate) const fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }

            pub(crate) const fn about(self) -> &'static str {
                match self { $(Self::$name => $about),+ }
            }
        }
    };
}

kinds! {
    Invalid = 400, "invalid", "Invalid request",
        "Something in the request is not as the OpenAPI document describes it. The detail names it.";
    Unauthenticated = 401, "unauthenticated", "Not signed in",
        "The request carries no session and no token, or one that has expired or was taken back.";
    SecondFactor = 401, "second-factor", "Second factor asked for",
        "The password is right, and this person has set up codes: send one with it.";
    Forbidden = 403, "forbidden", "Not permitted",
        "The policies do not let this role do that.";
    NotFound = 404, "not-found", "Not found",
        "There is no such thing, or it belongs to another tenant.";
    MethodNotAllowed = 405, "method-not-allowed", "Method not allowed",
        "There is something at this address, but not with this method.";
    Conflict = 409, "conflict", "In conflict with what is",
        "What was asked for contradicts what there is, for example a name that is taken.";
    Gone = 410, "gone", "Not kept any more",
        "There was such a thing, and what it was is kept no longer: by retention, or because it was erased.";
    Stale = 412, "stale", "Altered since",
        "Somebody altered the object after the version that If-Match names. Read it again.";
    TooLarge = 413, "too-large", "Too large",
        "The request is larger than the server takes.";
    Refused = 422, "refused", "Refused by a rule",
        "The request is well formed, but a rule of the cloud forbids it.";
    NoVersion = 428, "version-required", "Version required",
        "Altering needs If-Match with the version that was read, so that nobody's work is overwritten.";
    TooMany = 429, "too-many", "Too many attempts",
        "Wait, then try again.";
    Internal = 500, "internal", "Failed",
        "Patchwright failed. Its log says more; nothing was acknowledged.";
    Unavailable = 503, "unavailable", "Not available now",
        "The store cannot take the request now. Send it again with the same Idempotency-Key.";
}

impl Problem {
    pub(crate) fn new(kind: Kind, detail: impl Into<String>) -> Self {
        Self {
            kind: format!("/problems/{}", kind.slug()),
            title: kind.title(),
            status: kind.status(),
            detail: detail.into(),
            help: None,
        }
    }

    pub(crate) fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }

    pub(crate) fn unauthenticated() -> Self {
        Self::new(Kind::Unauthenticated, "sign in first")
            .help("send `Authorization: Bearer TOKEN`, or sign in at /login")
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("there is no {what}"))
    }

    /// Its words, for a person.
    pub fn detail(&self) -> &str {
        &self.detail
    }

    /// The way out, for a page.
    pub(crate) fn way_out(&self) -> Option<&str> {
        self.help.as_deref()
    }

    pub(crate) fn status(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match &error {
            StoreError::NotFound { .. } => Kind::NotFound,
            StoreError::Exists { .. } => Kind::Conflict,
            StoreError::Stale { .. } => Kind::Stale,
            StoreError::Refused { .. } | StoreError::KeyReused { .. } => Kind::Refused,
            StoreError::Busy
            | StoreError::Full
            | StoreError::OutcomeUnknown(_)
            | StoreError::Failed { .. } => Kind::Unavailable,
            StoreError::Corrupt { .. }
            | StoreError::Content(_)
            | StoreError::TooNew { .. }
            | StoreError::BadAddress { .. }
            | StoreError::Database(_) => Kind::Internal,
        };
        if kind == Kind::Internal {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed");
            // What the database says stays in the log: it may quote rows.
            return Self::new(kind, "the store failed; the server's log says why");
        }
        let problem = Self::new(kind, error.to_string());
        match error.help() {
            Some(help) => problem.help(help),
            None => problem,
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let mut response = (status, Json(self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS) {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
        }
        response
    }
}

/// What a kind of problem means, for whoever follows its `type`.
pub(crate) async fn page(
    axum::extract::Path(slug): axum::extract::Path<String>,
) -> Result<String, Problem> {
    let kind = Kind::ALL.iter().find(|kind| kind.slug() == slug);
    let kind = kind.ok_or_else(|| Problem::not_found("such problem"))?;
    Ok(format!("{} ({})\n\n{}\n", kind.title(), kind.status(), kind.about()))
}
