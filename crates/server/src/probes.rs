//! `/healthz`, `/readyz`, `/metrics`: for whoever watches the server.

use std::fmt::Write as _;

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use domain::cloud::Class;
use store::Actor;

use crate::App;
use crate::problem::{Kind, Problem};

pub(crate) fn routes() -> Router<App> {
    Router::new()
        .route("/healthz", get(healthy))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

/// Whether the process should live on: not after its store has failed for good.
async fn healthy(State(app): State<App>) -> Result<&'static str, Problem> {
    match app.store.failure() {
        None => Ok("ok\n"),
        Some(_) => {
            Err(Problem::new(Kind::Unavailable, "the store has failed; start Patchwright anew"))
        }
    }
}

/// Whether it can take requests.
async fn ready(State(app): State<App>) -> Result<&'static str, Problem> {
    let unready = |_| Problem::new(Kind::Unavailable, "the database does not answer");
    app.store.ping().await.map_err(unready)?;
    healthy(State(app)).await
}

/// Counts in Prometheus' text format 0.0.4. Labels are bounded, and name no tenant and no host.
async fn metrics(State(app): State<App>) -> Result<impl IntoResponse, Problem> {
    let counts = app.store.ci_counts(&Actor::System).await?;
    let mut text = String::from(
        "# HELP patchwright_configuration_items Configuration items that are not retired.\n\
         # TYPE patchwright_configuration_items gauge\n",
    );
    for &class in Class::ALL {
        let count = counts.iter().find(|(it, _)| *it == class).map_or(0, |(_, count)| *count);
        // Writing into a string cannot fail.
        let _ = writeln!(text, "patchwright_configuration_items{{class=\"{class}\"}} {count}");
    }
    let events: u64 = app.store.event_counts().await?.iter().map(|(_, _, count)| count).sum();
    let _ = write!(
        text,
        "# HELP patchwright_events_total Events with a place in the ledger.\n\
         # TYPE patchwright_events_total counter\n\
         patchwright_events_total {events}\n"
    );
    if let Some(witnesses) = &app.witnesses {
        let published = *app.recorder.published().borrow();
        let (mut behind, mut refusals) = (String::new(), String::new());
        for (name, standing) in witnesses.standing() {
            let label = format!("{{witness=\"{}\"}}", name.replace(['\\', '"'], "_"));
            let waiting = published.saturating_sub(standing.size);
            let _ = writeln!(behind, "patchwright_witness_behind_entries{label} {waiting}");
            let count = standing.refusals;
            let _ = writeln!(refusals, "patchwright_witness_refusals_total{label} {count}");
        }
        let _ = write!(
            text,
            "# HELP patchwright_witness_behind_entries Published entries that a witness has not \
             cosigned.\n# TYPE patchwright_witness_behind_entries gauge\n{behind}\
             # HELP patchwright_witness_refusals_total How often a witness had seen another \
             history.\n# TYPE patchwright_witness_refusals_total counter\n{refusals}"
        );
    }
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")];
    Ok((StatusCode::OK, kind, text))
}
