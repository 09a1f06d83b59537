//! `/cis/{id}/timeline` and `/cis/{id}/impact`: an item on one axis, and what hangs on it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use axum::Json;
use axum::extract::State;
use domain::cloud::{CiId, EventId, EventKind, NoticeId, RelationKind};
use domain::configuration::login::{End, LOGINS, Login};
use domain::configuration::verdict::Standing;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    Actor, Event, FilePath, LONGEST_PAGE, LONGEST_TIMELINE, NoticeFilter, PageRequest, Past,
};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::notices::title;
use super::{Path, Problems, Query, given};
use crate::App;
use crate::gate::{Action, By};
use crate::notices::Letter;
use crate::problem::{Kind, Problem};

/// How far back is looked where nobody says it.
const LATELY: SignedDuration = SignedDuration::from_hours(30 * 24);

/// Moments of one answer, where the caller names no number.
const USUAL: u16 = 200;

/// Files that one moment names.
const MOST_FILES: usize = 100;

/// Notices that are put on one axis, the newest.
const MOST_NOTICES: usize = 200;

pub(super) fn routes() -> OpenApiRouter<App> {
    OpenApiRouter::new().routes(routes!(timeline)).routes(routes!(impact))
}

/// Something that happened to an item.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Moment {
    #[schema(value_type = String, format = DateTime)]
    pub(crate) at: Timestamp,
    /// What: the kind of the event, or `login`.
    #[schema(value_type = String, example = "files.judged")]
    pub(crate) kind: &'static str,
    /// The event; null of a login, which the host keeps and no ledger.
    #[schema(value_type = Option<String>)]
    event: Option<EventId>,
    /// The same as `kind`, to be told apart here.
    #[serde(skip)]
    pub(crate) what: Option<EventKind>,
    /// Its place in the ledger; null where it has none yet.
    sequence: Option<u64>,
    /// Who did it; of a login, the account.
    pub(crate) by: String,
    /// As what; of a login, `account`.
    role: String,
    /// To what: the item, or its order, agent, drift, break-glass, finding, verification, snapshot, change, or a notice
    /// that concerns it.
    pub(crate) object: String,
    /// Files that were others then, with what that was held to be; at most a hundred.
    pub(crate) files: Vec<FileThen>,
    /// What exactly.
    #[schema(value_type = Object)]
    pub(crate) payload: Value,
}

/// A file that was another at a moment.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FileThen {
    /// Absolute path, or the name of a policy, profile or database server.
    pub(crate) path: String,
    /// What it was held to be.
    #[schema(value_type = String)]
    pub(crate) standing: Standing,
}

/// What happened to an item, the newest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Timeline {
    items: Vec<Moment>,
}

/// Which part of it.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct Wanted {
    /// RFC 3339; thirty days ago where it is left out.
    from: Option<String>,
    /// RFC 3339; now where it is left out.
    until: Option<String>,
    /// Moments at most, 1 to 1000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<u16>,
}

/// An item that fails where another fails.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AffectedView {
    #[schema(value_type = String)]
    ci: CiId,
    name: String,
    /// Over how many others: 1 hangs on the item itself.
    distance: u32,
    /// The one nearer to the item by which it does.
    #[schema(value_type = String)]
    through: CiId,
    /// How it hangs on that one.
    #[schema(value_type = String)]
    by: RelationKind,
}

/// What fails where an item fails, the nearest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Impact {
    items: Vec<AffectedView>,
}

/// What happened to an item in a span of time, the newest first.
pub(crate) async fn moments(
    app: &App,
    by: &Actor,
    id: CiId,
    (from, until): (Timestamp, Timestamp),
    at_most: u16,
) -> Result<Vec<Moment>, Problem> {
    let notices = notices(app, by, id, until).await?;
    let ids: Vec<_> = notices.keys().copied().collect();
    let events = app.store.timeline(by, id, &ids, (from, until), at_most).await?;
    let mut altered: BTreeMap<Timestamp, Vec<FileThen>> = BTreeMap::new();
    for ((at, path), verdict) in app.history.verdicts(by, id, None).await? {
        let standing = verdict.judgement.verdict.standing();
        altered.entry(at).or_default().push(FileThen { path, standing });
    }
    let moment = |event: Event| {
        let mut payload: Value = serde_json::from_slice(&event.payload).unwrap_or_default();
        // A notice is read where it stands, with all that it says of other items.
        let notice = event.object.parse::<NoticeId>().ok().and_then(|id| notices.get(&id));
        if let (Some(title), Some(payload)) = (notice, payload.as_object_mut()) {
            payload.remove("document");
            payload.insert("title".to_owned(), title.clone().into());
        }
        // A batch is told twice: when it was recorded, and when it was judged, which says more.
        let files = match event.kind {
            EventKind::FilesJudged => payload["recorded"]
                .as_i64()
                .and_then(|micros| Timestamp::from_microsecond(micros).ok())
                .and_then(|at| altered.remove(&at))
                .unwrap_or_default(),
            _ => Vec::new(),
        };
        Moment {
            at: event.at,
            kind: event.kind.as_str(),
            event: Some(event.id),
            what: Some(event.kind),
            sequence: event.sequence,
            by: event.actor,
            role: event.role,
            object: event.object,
            files: files.into_iter().take(MOST_FILES).collect(),
            payload,
        }
    };
    let mut moments: Vec<_> = events.into_iter().map(moment).collect();
    moments.extend(logins(app, by, id, (from, until)).await?);
    moments.sort_by_key(|it| Reverse(it.at));
    moments.truncate(usize::from(at_most));
    Ok(moments)
}

/// Logins of a span of time, as the item's host told them.
async fn logins(
    app: &App,
    by: &Actor,
    id: CiId,
    (from, until): (Timestamp, Timestamp),
) -> Result<Vec<Moment>, Problem> {
    let Ok(path) = FilePath::new(LOGINS) else { return Ok(Vec::new()) };
    let mut logins: BTreeMap<(Timestamp, String, String), Login> = BTreeMap::new();
    // Of long ago the host may tell no more, and of lately it had not told yet then.
    for at in [until, app.store.environment().now()] {
        let found = app.history.file_at(by, id, &path, at).await?;
        // What is not kept is no login; nor is the reason why none can be told.
        let Past::Kept(Some(version)) = found else { continue };
        let text = version.content.unwrap_or_default();
        let told = String::from_utf8_lossy(&text).into_owned();
        for login in told.lines().filter_map(|line| line.parse::<Login>().ok()) {
            if (from..=until).contains(&login.from) {
                let key = (login.from, login.account.clone(), login.line.clone());
                logins.insert(key, login);
            }
        }
    }
    let moment = |login: Login| {
        let (ended_at, went_down) = match login.end {
            End::Open => (None, false),
            End::At(at) => (Some(at), false),
            End::Down(at) => (Some(at), true),
        };
        Moment {
            at: login.from,
            kind: "login",
            event: None,
            what: None,
            sequence: None,
            by: login.account,
            role: "account".to_owned(),
            object: id.to_string(),
            files: Vec::new(),
            payload: json!({
                "line": login.line, "host": login.host, "ended_at": ended_at, "went_down": went_down,
            }),
        }
    };
    Ok(logins.into_values().map(moment).collect())
}

/// Notices until a time that concern an item, of the tenant's last thousand: what each is about in one line. One that was
/// written before a span of time may be read in it.
async fn notices(
    app: &App,
    by: &Actor,
    id: CiId,
    until: Timestamp,
) -> Result<BTreeMap<NoticeId, String>, Problem> {
    let tenant = Some(app.store.ci(by, id).await?.tenant);
    let filter = NoticeFilter { tenant, ..NoticeFilter::default() };
    let page = PageRequest { after: None, limit: LONGEST_PAGE };
    let rows = app.store.notices(by, &filter, &page).await?.items.into_iter();
    let lately = rows.skip_while(|row| row.created_at > until);
    let broken = app.store.break_glass_of(by, id).await?;
    let concerns = |letter: Letter| match letter {
        Letter::Notice(notice) => notice.draft().items.iter().any(|it| it.ci == id),
        Letter::Drift(notice) => {
            let draft = notice.draft();
            draft.drifts.iter().any(|it| it.ci == id)
                || draft.break_glass.iter().any(|it| broken.contains(&it.id))
        }
        // Clocks are of changes; each step is on the axis where it is an order's or a finding's.
        Letter::Clocks(_) => false,
    };
    let told = lately.filter(|row| Letter::of(row).is_ok_and(concerns)).take(MOST_NOTICES);
    Ok(told.map(|row| (row.id, title(&row).unwrap_or_default())).collect())
}

/// Read what happened to an item on one axis: configuration, packages, changes, orders, looks, drift, notices,
/// logins, and who read what.
#[utoipa::path(get, path = "/cis/{id}/timeline", tag = "configuration",
    params(("id" = String, Path), Wanted), responses((status = 200, body = Timeline), Problems))]
async fn timeline(
    State(app): State<App>,
    By(by): By<{ Action::ConfigurationRead as usize }>,
    Path(id): Path<CiId>,
    Query(Wanted { from, until, limit }): Query<Wanted>,
) -> Result<Json<Timeline>, Problem> {
    app.store.ci(&by, id).await?;
    let now = app.store.environment().now();
    let until = until.map_or(Ok(now), |text| given("until", &text))?;
    let from = from.map_or(Ok(now - LATELY), |text| given("from", &text))?;
    let limit = limit.unwrap_or(USUAL);
    if !(1..=LONGEST_TIMELINE).contains(&limit) {
        return Err(Problem::new(Kind::Invalid, format!("limit {limit} is not in 1..=1000")));
    }
    app.store.tell_files_read(&by, id).await?;
    Ok(Json(Timeline { items: moments(&app, &by, id, (from, until), limit).await? }))
}

/// Read what fails where an item fails: what runs on it, depends on it or was built from it, and that of which it is
/// a part.
#[utoipa::path(get, path = "/cis/{id}/impact", tag = "configuration items",
    params(("id" = String, Path)), responses((status = 200, body = Impact), Problems))]
async fn impact(
    State(app): State<App>,
    By(by): By<{ Action::CiRead as usize }>,
    Path(id): Path<CiId>,
) -> Result<Json<Impact>, Problem> {
    let items = app.store.affected(&by, id).await?.into_iter().map(|it| AffectedView {
        ci: it.ci,
        name: it.name,
        distance: it.distance,
        through: it.through,
        by: it.by,
    });
    Ok(Json(Impact { items: items.collect() }))
}
