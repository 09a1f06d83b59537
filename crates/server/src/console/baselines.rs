//! Baselines: which there are, what each says, and to which items it applies.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{BaselineId, CiId, Side};
use domain::configuration::baseline::{Baseline, BaselineRef, GoldenSource, ReleasedSource, Rule};
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{
    Actor, BaselineContent, BaselineKind, BaselineVersion, Binding, BindingFilter, KeptBaseline,
    ListedVersion, NewBinding, PageRequest,
};

use super::alterations::in_short;
use super::audits::tabs;
use super::bindings::{self, Called, Said};
use super::names::{self, Names};
use super::pages::words;
use super::times::{moment, moment_away};
use super::{Refusal, elsewhere, page, pass, refused};
use crate::App;
use crate::api::baselines::parsed;
use crate::api::{Path, Query, given};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::Problem;

/// All of what is listed at once.
pub(super) const ALL: PageRequest = PageRequest { after: None, limit: store::LONGEST_PAGE };

/// Which are listed, and for which item somebody looks.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Wanted {
    #[serde(default)]
    all: bool,
    #[serde(default)]
    version: String,
    /// The item that is to be held to one.
    #[serde(default)]
    item: String,
}

/// Which binding is taken back.
#[derive(Debug, Deserialize)]
pub(super) struct Which {
    binding: String,
}

/// What a page is about.
enum Subject {
    /// One that comes with the program.
    BuiltIn(&'static Baseline),
    /// One that somebody put in, with its versions, the newest first.
    Own(KeptBaseline, Vec<ListedVersion>),
}

/// Whose people somebody belongs to.
pub(super) fn side(by: &Actor) -> Option<Side> {
    match by {
        Actor::Person { role, .. } => Some(role.side()),
        Actor::System | Actor::Agent { .. } => None,
    }
}

/// All of them, and where each applies.
pub(super) async fn list(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConfigurationRead)?;
    let keeps = pass(&app, caller, Action::BaselineKeep).is_ok();
    let own = app.store.baselines(&by, wanted.all, &ALL).await?;
    let bound = app.store.baseline_bindings(&by, &BindingFilter::default(), &ALL).await?;
    let meant = bound.items.iter().map(|it| (it.target, it.tenant));
    let targets = Called::of(&app, &by, meant).await?;
    let of_all = by.scope().is_none();
    let tenants = own.items.iter().map(|it| it.tenant).filter(|_| of_all);
    let tenants = names::tenants(&app, &by, tenants).await?;
    let mut said: BTreeMap<&BaselineRef, Vec<&Binding>> = BTreeMap::new();
    for it in &bound.items {
        said.entry(&it.baseline).or_default().push(it);
    }
    let place = |which: &BaselineRef| match wanted.item.as_str() {
        "" => format!("/baselines/{which}"),
        item => format!("/baselines/{which}?item={}", super::configuration::encoded(item)),
    };
    let said_of = |which: &BaselineRef| said.get(which).map_or(&[][..], Vec::as_slice);
    Ok(page(
        "/audits",
        "Baselines",
        &html! {
            h1 { "Baselines" }
            (tabs("/baselines"))
            p.lead { "What configuration is held against. What comes with the program applies by class; \
                what you put in applies where you bind it." }
            h2 { "Put in by people" }
            @if own.items.is_empty() {
                p.empty { "None yet: write rules, or take files of an item that is as all of its kind should be, or that a \
                    release wrote." }
            } @else {
                (table_of_own(&own.items, &tenants, &place, |which| targets.in_a_line(said_of(which))))
            }
            p {
                @if keeps {
                    a href="/baselines/new" { "Write rules" } " · "
                    a href="/baselines/golden" { "Take a golden item" } " · "
                    a href="/baselines/released" { "Take what a release wrote" } " · "
                }
                @if wanted.all { a href="/baselines" { "Only those in use" } }
                @else { a href="/baselines?all=true" { "With those that were withdrawn" } }
            }
            h2 { "Come with the program" }
            div.wide { table.stack {
                thead { tr { th { "Baseline" } th.number { "Rules" } th { "For" } th { "Said otherwise" } } }
                tbody { @for it in Baseline::built_in() {
                    @let which = BaselineRef::BuiltIn(it.id.clone());
                    tr {
                        td { a href=(place(&which)) { (it.title) } " " span.quiet { (it.id) " " (it.version) } }
                        td.number data-label="Rules" { (it.rules.len()) }
                        td data-label="For" { (classes(it)) }
                        td data-label="Said otherwise" {
                            @if said_of(&which).is_empty() { span.quiet { "–" } }
                            @else { (targets.in_a_line(said_of(&which))) }
                        }
                    }
                } }
            } }
            @if own.next.is_some() || bound.next.is_some() {
                p.quiet { "There is more than is shown here; a baseline's page has all that is said of it." }
            }
            (elsewhere("/baselines"))
        },
    ))
}

fn table_of_own(
    own: &[KeptBaseline],
    tenants: &Names<domain::cloud::TenantId>,
    place: &impl Fn(&BaselineRef) -> String,
    applies: impl Fn(&BaselineRef) -> Markup,
) -> Markup {
    html! { div.wide { table.stack {
        thead { tr {
            th { "Baseline" } th { "Of" } @if !tenants.is_empty() { th { "Whose" } } th { "Held to it" } th { "Since" }
        } }
        tbody { @for it in own {
            @let which = BaselineRef::Own(it.id);
            @let line = applies(&which);
            tr {
                td { a href=(place(&which)) { (it.title) } " " span.quiet { (it.name) " " (it.version) } }
                td data-label="Of" { (made_of(it.kind)) }
                @if !tenants.is_empty() { td data-label="Whose" { (names::of(tenants, &it.tenant)) } }
                td data-label="Held to it" {
                    @if it.withdrawn_at.is_some() { span.quiet { "– withdrawn" } }
                    @else if line.0.is_empty() { span.unknown { "nothing yet" } }
                    @else { (line) }
                }
                td.when data-label="Since" { (moment(it.created_at)) }
            }
        } }
    } } }
}

const fn made_of(kind: BaselineKind) -> &'static str {
    match kind {
        BaselineKind::Rules => "rules",
        BaselineKind::Golden => "a golden item",
        BaselineKind::Release => "what a release wrote",
    }
}

/// For items of which classes.
fn classes(baseline: &Baseline) -> String {
    if baseline.classes.is_empty() {
        return "items of every class".to_owned();
    }
    baseline.classes.iter().map(|it| words(*it)).collect::<Vec<_>>().join(", ")
}

/// One, with what is said of it.
pub(super) async fn show(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(which): Path<String>,
    Query(wanted): Query<Wanted>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller.clone(), Action::ConfigurationRead)?;
    let said = Said { item: wanted.item, ..Said::default() };
    shown(&app, caller, &by, &named(&which)?, (&said, &wanted.version), None).await
}

/// The baseline that a path names.
fn named(which: &str) -> Result<BaselineRef, Problem> {
    which.parse().map_err(|_| Problem::not_found("such baseline").help("/baselines lists them"))
}

impl Subject {
    async fn of(app: &App, by: &Actor, which: &BaselineRef) -> Result<Self, Problem> {
        match which {
            BaselineRef::BuiltIn(name) => {
                let found = Baseline::built_in().iter().find(|it| it.id == *name);
                found.map(Self::BuiltIn).ok_or_else(|| Problem::not_found("such baseline"))
            }
            BaselineRef::Own(id) => Ok(Self::Own(
                app.store.baseline(by, *id).await?,
                app.store.baseline_versions(by, *id).await?,
            )),
        }
    }

    fn kept(&self) -> Option<&KeptBaseline> {
        match self {
            Self::BuiltIn(_) => None,
            Self::Own(kept, _) => Some(kept),
        }
    }

    fn title(&self) -> &str {
        match self {
            Self::BuiltIn(it) => &it.title,
            Self::Own(kept, _) => &kept.title,
        }
    }

    fn versions(&self) -> &[ListedVersion] {
        match self {
            Self::BuiltIn(_) => &[],
            Self::Own(_, versions) => versions,
        }
    }

    fn is_withdrawn(&self) -> bool {
        self.kept().is_some_and(|it| it.withdrawn_at.is_some())
    }
}

async fn shown(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    which: &BaselineRef,
    (said, version): (&Said, &str),
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let subject = Subject::of(app, by, which).await?;
    let shown = match &subject {
        Subject::BuiltIn(_) => None,
        Subject::Own(kept, _) => {
            let word = Some(version).filter(|word| !word.is_empty());
            Some(app.store.baseline_version(by, kept.id, word).await?)
        }
    };
    let keeps = !subject.is_withdrawn() && pass(app, caller.clone(), Action::BaselineKeep).is_ok();
    let waives = !subject.is_withdrawn() && pass(app, caller, Action::RuleWaive).is_ok();
    let filter = BindingFilter { baseline: Some(which.clone()), all: false };
    let bound = app.store.baseline_bindings(by, &filter, &ALL).await?;
    let targets = Called::of(app, by, bound.items.iter().map(|it| (it.target, it.tenant))).await?;
    let people = bound.items.iter().map(|it| it.bound_by.as_str());
    let people = people.chain(subject.versions().iter().map(|it| it.put_by.as_str()));
    let people = names::people(app, by, people).await?;
    let now = app.store.environment().now();
    let form = if keeps {
        bindings::form(app, by, (which, subject.kept()), said).await?
    } else {
        html! {}
    };
    let is_new = subject.kept().is_some() && bound.items.is_empty();
    let is_asked = is_new || problem.is_some() || !said.item.is_empty();
    let content = match (&subject, &shown) {
        (Subject::BuiltIn(it), _) => rules(which, it, waives),
        (_, Some(version)) => content(app, by, which, version, waives).await?,
        _ => html! {},
    };
    Ok(page(
        "/audits",
        subject.title(),
        &html! {
            h1 { (subject.title()) }
            (tabs("/baselines"))
            (lead(&subject, which, keeps))
            (refused(problem))
            @if !subject.is_withdrawn() || !bound.items.is_empty() { h2 { "Held to it" } }
            @match (&subject, bound.items.is_empty()) {
                (Subject::BuiltIn(it), is_alone) => p {
                    "For " (classes(it)) ": each item of these that has what it is about"
                    @if is_alone { "." } @else { ", but for what is said here." }
                },
                (Subject::Own(..), true) if !subject.is_withdrawn() =>
                    p.empty { "Nothing is held to it yet." },
                _ => {}
            }
            @if !bound.items.is_empty() {
                (bindings::table(&bound.items, &targets, &people, (by, keeps), now))
            }
            @if bound.next.is_some() { p.quiet { "The first " (store::LONGEST_PAGE) " are shown." } }
            @if keeps {
                details.inner open[is_asked] {
                    summary { "Say which items are held to it, or are not" }
                    (form)
                }
            }
            (content)
            (versions(&subject, which, shown.as_ref(), &people, now))
            @if keeps && subject.kept().is_some() { (withdrawal(which)) }
            (elsewhere(&request(which)))
        },
    ))
}

/// The same as a request's path; what comes with the program is in no list of the API, but what is said of it is.
fn request(which: &BaselineRef) -> String {
    match which {
        BaselineRef::Own(id) => format!("/baselines/{id}"),
        BaselineRef::BuiltIn(name) => format!("/baseline-bindings?baseline={name}"),
    }
}

fn lead(subject: &Subject, which: &BaselineRef, keeps: bool) -> Markup {
    html! { p.lead {
        @match subject {
            Subject::BuiltIn(it) => { span.mono { (it.id) " " (it.version) } " · comes with the program" },
            Subject::Own(kept, _) => {
                span.mono { (kept.name) " " (kept.version) } " · " (made_of(kept.kind)) " · since " (moment(kept.created_at))
                @if let Some(at) = kept.withdrawn_at {
                    " · " span.outdated { "withdrawn" } " " (moment(at)) ": it is held against nothing"
                }
            },
        }
        @match subject {
            Subject::BuiltIn(_) if keeps => { " · " a href={ "/baselines/new?of=" (which) } { "begin your own from it" } },
            Subject::Own(kept, _) if keeps && kept.kind == BaselineKind::Rules => {
                " · " a href={ "/baselines/new?of=" (which) } { "write another version" }
            },
            Subject::Own(kept, _) if keeps && kept.kind == BaselineKind::Golden => {
                " · " a href={ "/baselines/golden?of=" (which) } { "take another version" }
            },
            Subject::Own(..) if keeps => {
                " · " a href={ "/baselines/released?of=" (which) } { "take another release" }
            },
            _ => {}
        }
    } }
}

/// What a version of one that somebody put in says.
async fn content(
    app: &App,
    by: &Actor,
    which: &BaselineRef,
    version: &BaselineVersion,
    waives: bool,
) -> Result<Markup, Problem> {
    match &version.content {
        BaselineContent::Rules(text) => Ok(match parsed(text.clone()).await? {
            Ok(baseline) => html! {
                (rules(which, &baseline, waives))
                details.inner { summary { "The file" } pre { code { (text) } } }
            },
            // It was read when it was put in: an older program read it.
            Err(because) => html! {
                p.problem role="alert" { "This version cannot be read any more: " (because) }
                pre { code { (text) } }
            },
        }),
        BaselineContent::Golden(source) => {
            let item = names::items(app, by, std::iter::once(source.ci)).await?;
            Ok(golden(source, &names::of(&item, &source.ci)))
        }
        BaselineContent::Release(source) => {
            let items = source.files.values().map(|file| file.ci);
            Ok(released(source, by, &names::items(app, by, items).await?))
        }
    }
}

/// Its rules, as people read them.
fn rules(which: &BaselineRef, baseline: &Baseline, waives: bool) -> Markup {
    html! {
        h2 { "Rules" }
        @if let BaselineRef::Own(_) = which { p.quiet { "For " (classes(baseline)) "." } }
        @if let Some(applies) = baseline.applies() {
            p.quiet { "It is about items for which this holds: " code { (applies) } }
        }
        div.wide { table.stack {
            thead { tr { th { "Rule" } th { "Severity" } th { "What should be found" } th { "Why" } } }
            tbody { @for it in &baseline.rules { tr id=(it.id) {
                td { (it.title) br; span class="quiet mono" { (it.id) } }
                td class=(it.severity) data-label="Severity" { (it.severity) }
                td data-label="Expected" { (it.expected) (asked(it)) }
                td data-label="Why" { (it.why) div.quiet { (it.source) }
                    @if waives { div { a href=(super::waivers::place(which, &it.id, None)) { "answer for it" } } } }
            } } }
        } }
    }
}

/// How it is asked, for whoever wants to know exactly.
fn asked(rule: &Rule) -> Markup {
    html! { details.inner {
        summary { "How it is asked" }
        code { (rule.check()) }
        @if let Some(applies) = rule.applies() { div { "where " code { (applies) } } }
    } }
}

fn golden(source: &GoldenSource, item: &str) -> Markup {
    let paths: Vec<_> = source.paths.iter().cloned().map(String::from).collect();
    html! {
        h2 { "Files that are as they should be" }
        dl.facts {
            dt { "Of" } dd { a href={ "/cis/" (source.ci) "/files" } { (item) } }
            dt { "As recorded until" } dd { (moment(source.at)) }
            dt { "Which" } dd { @for path in &paths { div.mono { (path) } } }
            dt { "Files" } dd { (source.files) }
            dt { "Where one differs" } dd { span class=(source.severity) { (source.severity) } }
        }
        p.quiet { "What they held stays in the item's history: where it was erased, or is kept no longer, nobody can tell." }
    }
}

fn released(source: &ReleasedSource, by: &Actor, items: &Names<CiId>) -> Markup {
    html! {
        h2 { "Files as they were written" }
        dl.facts {
            dt { "By the release" }
            // Whole releases are the provider's to see.
            dd.mono { @if by.scope().is_none() { a href={ "/releases/" (source.release) } { (source.release) } }
                @else { (source.release) } }
            dt { "Of the change" } dd.mono { a href={ "/changes/" (source.change) } { (source.change) } }
            dt { "By the plan" } dd.mono { (source.plan) }
            dt { "Where one differs" } dd { span class=(source.severity) { (source.severity) } }
        }
        div.wide { table.stack {
            thead { tr { th { "File" } th { "SHA-256" } th { "As on" } th { "Verified" } } }
            tbody { @for (path, file) in &source.files { tr {
                td.mono { (path) }
                td data-label="SHA-256" { (in_short(&file.sha256)) }
                td.whole data-label="As on" { a href={ "/cis/" (file.ci) "/files" } { (names::of(items, &file.ci)) } }
                td.when data-label="Verified" { (moment(file.at)) }
            } } }
        } }
        p.quiet { "Their contents count, and neither owners nor permissions: of these the plan said nothing. What they held \
            stays in the items' history: where it was erased, or is kept no longer, nobody can tell." }
    }
}

fn versions(
    subject: &Subject,
    which: &BaselineRef,
    shown: Option<&BaselineVersion>,
    people: &Names<String>,
    now: Timestamp,
) -> Markup {
    let newest = subject.versions().first().map(|it| it.number);
    html! { @if let Some(shown) = shown {
        h2 { "Versions" }
        @if newest != Some(shown.number) {
            p { span.near { "! What is shown above is version " (shown.version) ", which counts no more." } " "
                a href={ "/baselines/" (which) } { "The newest" } }
        }
        div.wide { table.stack {
            thead { tr { th { "Version" } th { "Put in" } th { "By" } } }
            tbody { @for it in subject.versions() { tr {
                td { a href={ "/baselines/" (which) "?version=" (it.version) } { (it.version) }
                    @if newest == Some(it.number) { span.quiet { " · the newest" } } }
                td.when data-label="Put in" { (moment_away(it.put_at, now)) }
                td data-label="By" { (names::of(people, &it.put_by)) }
            } } }
        } }
    } }
}

fn withdrawal(which: &BaselineRef) -> Markup {
    html! { details {
        summary { "Withdraw it" }
        form.card method="post" action={ "/baselines/" (which) "/withdraw" } {
            p { "It is held against nothing any more, and what bound it ends. Its versions stay, and its name is free again." }
            button { "Withdraw it" }
        }
    } }
}

/// Says that items are held to one, or are not.
pub(super) async fn bind(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(which): Path<String>,
    axum::Form(said): axum::Form<Said>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::BaselineKeep)?;
    let which = named(&which)?;
    let bound = async {
        let kept = match &which {
            BaselineRef::Own(id) => Some(app.store.baseline(&by, *id).await?),
            BaselineRef::BuiltIn(_) => None,
        };
        let (tenant, target) = bindings::meant(&app, &by, kept.as_ref(), &said).await?;
        let new = NewBinding { tenant, baseline: which.clone(), target, holds: said.holds };
        app.store.bind_baseline(&by, None, new).await?;
        Ok::<_, Problem>(())
    };
    answered(&app, caller, &by, &which, &said, bound.await.err()).await
}

/// Takes back what was said.
pub(super) async fn unbind(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(which): Path<String>,
    axum::Form(form): axum::Form<Which>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::BaselineKeep)?;
    let which = named(&which)?;
    let unbound = async {
        app.store.unbind_baseline(&by, given("binding", &form.binding)?).await?;
        Ok::<_, Problem>(())
    };
    answered(&app, caller, &by, &which, &Said::default(), unbound.await.err()).await
}

/// Withdraws one.
pub(super) async fn withdraw(
    State(app): State<App>,
    caller: Option<Caller>,
    Path(id): Path<BaselineId>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller.clone(), Action::BaselineKeep)?;
    let withdrawn = app.store.withdraw_baseline(&by, id).await.err().map(Problem::from);
    answered(&app, caller, &by, &BaselineRef::Own(id), &Said::default(), withdrawn).await
}

async fn answered(
    app: &App,
    caller: Option<Caller>,
    by: &Actor,
    which: &BaselineRef,
    said: &Said,
    problem: Option<Problem>,
) -> Result<Response, Refusal> {
    match problem {
        None => Ok(Redirect::to(&format!("/baselines/{which}")).into_response()),
        Some(problem) => {
            let page = shown(app, caller, by, which, (said, ""), Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}
