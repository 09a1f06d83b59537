//! `/events`: what happened, and what happens.

use std::convert::Infallible;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::Sse;
use axum::response::sse::{Event as Sent, KeepAlive};
use domain::cloud::{EventId, EventKind, TenantId};
use futures_util::Stream;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use store::{Actor, Retrieval};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{Problems, Query};
use crate::App;
use crate::gate::{Action, By};
use crate::problem::{Kind, Problem};

/// Most events of one answer.
const MOST: u32 = 1000;

/// How long a stream lives: whoever follows it comes back with `Last-Event-ID`, and is asked again
/// who they are.
const STREAM: Duration = Duration::from_secs(15 * 60);

/// How long a stream waits at most before it looks for events of other processes.
const LOOK: Duration = Duration::from_secs(1);

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(list)).routes(routes!(stream))
}

/// A recorded event.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Event {
    #[schema(value_type = String, example = "evt_01h455vb4pex5vsknk084sn02q")]
    id: EventId,
    /// Its place in the ledger.
    sequence: u64,
    #[schema(value_type = String)]
    tenant: TenantId,
    #[schema(value_type = String, format = DateTime)]
    at: Timestamp,
    /// What happened.
    #[schema(value_type = String, example = "ci.created")]
    kind: EventKind,
    /// Who did it.
    actor: String,
    /// As what.
    role: String,
    /// To what.
    object: String,
    /// The object's version after it.
    version: i64,
    /// What exactly.
    #[schema(value_type = Object)]
    payload: Box<RawValue>,
}

/// Events of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Events {
    items: Vec<Event>,
    /// Send it as `from` for those that follow.
    next: u64,
}

/// From where on.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct From {
    /// Place in the ledger to begin at; 0 for the beginning.
    #[param(maximum = 9_223_372_036_854_775_807_u64)]
    from: Option<u64>,
    /// Events at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u32>,
}

impl From {
    /// Place and number, checked.
    pub(super) fn checked(&self) -> Result<(u64, u32), Problem> {
        let limit = self.limit.unwrap_or(100);
        if !(1..=MOST).contains(&limit) {
            return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
        }
        let from = self.from.unwrap_or(0);
        if i64::try_from(from).is_err() {
            let detail = format!("from {from} is no place in a ledger");
            return Err(Problem::new(Kind::Invalid, detail));
        }
        Ok((from, limit))
    }
}

impl Event {
    fn of(event: store::Event) -> Option<Self> {
        let payload = String::from_utf8(event.payload).ok()?;
        Some(Self {
            id: event.id,
            sequence: event.sequence?,
            tenant: event.tenant,
            at: event.at,
            kind: event.kind,
            actor: event.actor,
            role: event.role,
            object: event.object,
            version: event.version,
            payload: RawValue::from_string(payload).ok()?,
        })
    }
}

/// List the events that one may see, oldest first.
#[utoipa::path(get, path = "/events", tag = "events", params(From),
    responses((status = 200, body = Events), Problems))]
async fn list(
    State(app): State<App>,
    By(by): By<{ Action::EventRead as usize }>,
    Query(asked): Query<From>,
) -> Result<Json<Events>, Problem> {
    let (from, limit) = asked.checked()?;
    let items = read(&app, &by, from, limit).await?;
    let next = items.last().map_or(from, |event| event.sequence + 1);
    Ok(Json(Events { items, next }))
}

/// Follow the events that one may see (server-sent events; resumes at `Last-Event-ID`).
#[utoipa::path(get, path = "/events/stream", tag = "events", params(From),
    responses((status = 200, body = Event, content_type = "text/event-stream"), Problems))]
async fn stream(
    State(app): State<App>,
    By(by): By<{ Action::EventRead as usize }>,
    headers: HeaderMap,
    Query(asked): Query<From>,
) -> Result<Sse<impl Stream<Item = Result<Sent, Infallible>>>, Problem> {
    let resumed = headers
        .get("last-event-id")
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok())
        .map(|last| last.saturating_add(1));
    let (from, _) = asked.checked()?;
    let from = resumed.unwrap_or(from);
    let news = app.news.subscribe();
    let end = tokio::time::Instant::now() + STREAM;
    let following = (app, by, news, from);
    let events =
        futures_util::stream::unfold(following, move |(app, by, mut news, from)| async move {
            while tokio::time::Instant::now() < end {
                match read(&app, &by, from, 100).await {
                    Ok(events) if !events.is_empty() => {
                        let next = events.last().map_or(from, |event| event.sequence + 1);
                        let sent: Vec<_> = events.iter().filter_map(sent).map(Ok).collect();
                        return Some((futures_util::stream::iter(sent), (app, by, news, next)));
                    }
                    // Nothing yet: wait for news of this process, or look for those of others.
                    Ok(_) => {
                        let _ = tokio::time::timeout(LOOK, news.changed()).await;
                    }
                    Err(problem) => {
                        tracing::warn!(detail = problem.detail(), "an event stream ended");
                        return None;
                    }
                }
            }
            None
        });
    let events = futures_util::StreamExt::flatten(events);
    Ok(Sse::new(events).keep_alive(KeepAlive::default()))
}

fn sent(event: &Event) -> Option<Sent> {
    let data = serde_json::to_string(event).ok()?;
    Some(Sent::default().id(event.sequence.to_string()).event(event.kind.as_str()).data(data))
}

async fn read(app: &App, by: &Actor, from: u64, limit: u32) -> Result<Vec<Event>, Problem> {
    let events = app.store.events(by, Retrieval::Events, from, limit).await?;
    events
        .into_iter()
        .map(|event| {
            let id = event.id;
            Event::of(event)
                .ok_or_else(|| Problem::new(Kind::Internal, format!("the record {id} is damaged")))
        })
        .collect()
}
