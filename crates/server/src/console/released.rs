//! Where a baseline is made of the files that a release wrote.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{ChangeId, ReleaseId, TenantId};
use domain::configuration::baseline::ReleasedSource;
use domain::priority::Priority;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, BaselineContent, KeptBaseline, ReleasedAlteration};

use super::audits::tabs;
use super::drafts::{called, newest, patterns, severity};
use super::times::moment;
use super::{Refusal, elsewhere, names, page, pass, refused};
use crate::App;
use crate::api::baselines::{ReleaseRequest, released_of};
use crate::api::{Query, given};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// From what somebody begins.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Beginning {
    /// A baseline, of which another version is made.
    #[serde(default)]
    of: String,
    #[serde(default)]
    release: String,
}

/// What is chosen of a release.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Draft {
    /// A release and a tenant, as [`key`] has them; or the release alone.
    #[serde(default)]
    release: String,
    #[serde(default)]
    item: String,
    #[serde(default)]
    paths: String,
    #[serde(default)]
    name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    severity: String,
}

/// Names a release and whose items of it.
fn key(it: &ReleasedAlteration) -> String {
    format!("{}/{}", it.release, it.tenant)
}

/// Where it is chosen of which release.
pub(super) async fn form(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(from): Query<Beginning>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::BaselineKeep)?;
    let severity = Priority::Medium.to_string();
    let draft = match from.of.as_str() {
        "" => Draft { release: from.release, severity, ..Draft::default() },
        text => {
            let (kept, BaselineContent::Release(source)) =
                newest(&app, &by, given("of", text)?).await?
            else {
                return Err(
                    Problem::new(Kind::Refused, "it is not made of what a release wrote").into()
                );
            };
            again(kept, &source)
        }
    };
    chooser(&app, &by, &draft, None).await
}

/// The same once more, by another release.
fn again(kept: KeptBaseline, source: &ReleasedSource) -> Draft {
    let (name, title, severity) = (kept.name, kept.title, source.severity.to_string());
    Draft { name, title, severity, ..Draft::default() }
}

async fn chooser(
    app: &App,
    by: &Actor,
    draft: &Draft,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let offered = app.history.released_alterations(by, None).await?;
    let tenants = offered.iter().map(|it| it.tenant).filter(|_| by.scope().is_none());
    let tenants = names::tenants(app, by, tenants).await?;
    let is_it = |it: &ReleasedAlteration| {
        key(it) == draft.release || it.release.to_string() == draft.release
    };
    Ok(page(
        "/audits",
        "Take what a release wrote",
        &html! {
            h1 { "Take what a release wrote" }
            (tabs("/baselines"))
            p.lead { "Files that a release of an alteration wrote, as looks bore them out: items of the same tenant are held \
                against their contents, whatever secrets they hold." }
            (refused(problem))
            @if offered.is_empty() {
                p.empty { "No release that wrote files went through yet. Changes that alter files do, once their release ends." }
            } @else {
                form.card method="post" action="/baselines/released" {
                    label { "The release" select name="release" required {
                        @for it in &offered { option value=(key(it)) selected[is_it(it)] {
                            (it.title) @if let Some(name) = tenants.get(&it.tenant) { " · " (name) }
                            " · " (moment(it.planned_at))
                        } }
                    } }
                    label { "On which item, where it wrote a file otherwise on others"
                        input name="item" value=(draft.item) list="items" placeholder="all of them"; }
                    (names::item_list(app, by, None, "items").await?)
                    label { "Which of its files, as patterns, one on a line; all of them where it is left out"
                        textarea.mono name="paths" rows="3" { "\n" (draft.paths) } }
                    (called(&draft.name, &draft.title, &draft.severity, ("banner", "The banner that was agreed to")))
                    p { button { "Keep it" } }
                    p.quiet { "It is held against nothing before it is bound. What the files held stays in the items' history." }
                }
            }
            (elsewhere("/baselines"))
        },
    ))
}

/// Where a change has written files: the way to a baseline of them, for whoever keeps baselines.
pub(super) async fn offer(
    app: &App,
    by: &Actor,
    caller: Option<Caller>,
    change: ChangeId,
) -> Result<Markup, Refusal> {
    if pass(app, caller, Action::BaselineKeep).is_err() {
        return Ok(html! {});
    }
    let done = app.history.released_alterations(by, Some(change)).await?;
    Ok(html! { @if let Some(it) = done.first() {
        p { a href={ "/baselines/released?release=" (it.release) } { "Hold items to what it wrote" } }
    } })
}

/// Keeps what was chosen.
pub(super) async fn put(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(draft): axum::Form<Draft>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller, Action::BaselineKeep)?;
    let kept = async {
        let (release, tenant) = draft.release.split_once('/').unwrap_or_default();
        let (release, tenant): (ReleaseId, TenantId) =
            (given("the release", release)?, given("the release", tenant)?);
        let ci = match draft.item.trim() {
            "" => None,
            text => Some(names::item(&app, &by, Some(tenant), text).await?.id),
        };
        let asked = ReleaseRequest {
            name: draft.name.trim().to_owned(),
            title: draft.title.trim().to_owned(),
            release,
            ci,
            paths: patterns(&draft.paths)?,
            severity: severity(&draft.severity)?,
        };
        let new = released_of(&app, &by, tenant, asked).await?;
        Ok::<_, Problem>(app.store.put_baseline(&by, None, new).await?)
    };
    match kept.await {
        Ok(kept) => Ok(Redirect::to(&format!("/baselines/{}", kept.id)).into_response()),
        Err(problem) => {
            let page = chooser(&app, &by, &draft, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}
