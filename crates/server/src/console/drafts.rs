//! Where people write baselines: rules in a file, or files of an item that is as all of its kind should be.

use axum::extract::State;
use axum::response::{IntoResponse, Redirect, Response};
use domain::cloud::{PROVIDER, TenantId};
use domain::configuration::baseline::{Baseline, BaselineRef, GoldenSource};
use domain::order::PathPattern;
use domain::priority::Priority;
use domain::sla::PRIORITIES;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, BaselineContent, KeptBaseline};

use super::audits::tabs;
use super::baselines::ALL;
use super::{Refusal, elsewhere, names, page, pass, refused};
use crate::App;
use crate::api::baselines::{GoldenRequest, golden_of, parsed, rules as rules_of};
use crate::api::{Query, given};
use crate::caller::Caller;
use crate::gate::Action;
use crate::problem::{Kind, Problem};

/// What somebody begins with who begins with nothing.
const EXAMPLE: &str = include_str!("../../assets/baseline.toml");

/// Lines told beside the one that is wrong.
const AROUND: usize = 2;

/// From what somebody begins.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Beginning {
    /// A baseline: another version of it, or one's own from what comes with the program.
    #[serde(default)]
    of: String,
    /// The golden item.
    #[serde(default)]
    item: String,
}

/// A file of rules, as it is written.
#[derive(Debug, Default, Deserialize)]
pub(super) struct RulesDraft {
    #[serde(default)]
    tenant: String,
    #[serde(default)]
    rules: String,
}

/// A golden item, as it is chosen.
#[derive(Debug, Default, Deserialize)]
pub(super) struct GoldenDraft {
    #[serde(default)]
    name: String,
    #[serde(default)]
    title: String,
    #[serde(default)]
    item: String,
    #[serde(default)]
    at: String,
    #[serde(default)]
    paths: String,
    #[serde(default)]
    severity: String,
}

/// Where rules are written.
pub(super) async fn rules(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(from): Query<Beginning>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::BaselineKeep)?;
    let draft = match from.of.as_str() {
        "" => RulesDraft { tenant: by.tenant().to_string(), rules: EXAMPLE.to_owned() },
        text => match given("of", text)? {
            BaselineRef::BuiltIn(name) => {
                let file = Baseline::built_in_text(&name).unwrap_or_default();
                // The name is the program's.
                let renamed =
                    file.replacen(&format!("id = \"{name}\""), &format!("id = \"our-{name}\""), 1);
                RulesDraft { tenant: by.tenant().to_string(), rules: renamed }
            }
            BaselineRef::Own(id) => {
                let (kept, content) = newest(&app, &by, id).await?;
                let BaselineContent::Rules(rules) = content else {
                    return Err(Problem::new(Kind::Refused, "it is made of files").into());
                };
                RulesDraft { tenant: kept.tenant.to_string(), rules }
            }
        },
    };
    editor(&app, &by, &draft, None).await
}

/// One that somebody put in, with what it says now.
pub(super) async fn newest(
    app: &App,
    by: &Actor,
    id: domain::cloud::BaselineId,
) -> Result<(KeptBaseline, BaselineContent), Problem> {
    let kept = app.store.baseline(by, id).await?;
    let newest = app.store.baseline_version(by, id, Some(&kept.version)).await?;
    Ok((kept, newest.content))
}

async fn editor(
    app: &App,
    by: &Actor,
    draft: &RulesDraft,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    let wrong = match problem {
        Some(_) => parsed(draft.rules.clone()).await?.err().and_then(|it| it.line()),
        None => None,
    };
    let tenants = match by.scope() {
        None => app.store.tenants(by, &ALL).await?.items,
        Some(_) => Vec::new(),
    };
    Ok(page(
        "/audits",
        "Write rules",
        &html! {
            h1 { "Write rules" }
            (tabs("/baselines"))
            p.lead { "The file's " code { "id" } " is the baseline's name. Of a name that there is, this makes another \
                version: give it another " code { "version" } ", for none is ever altered." }
            (refused(problem))
            @if let Some(line) = wrong { (around(&draft.rules, line)) }
            form.card.wide method="post" action="/baselines" {
                @if !tenants.is_empty() { label { "Whose" select name="tenant" {
                    @for it in &tenants {
                        option value=(it.id) selected[it.id.to_string() == draft.tenant] { (it.name)
                            @if it.id == PROVIDER { " · for every tenant's items" } }
                    }
                } } }
                label { "The rules (TOML)"
                    // The first line break within is none of the text (HTML, 13.1.2.5).
                    textarea.mono name="rules" rows="28" spellcheck="false" required { "\n" (draft.rules) } }
                p { button { "Keep it" } }
                p.quiet { "It is held against nothing before it is bound. The file is kept in clear: put nothing secret in." }
            }
            (said_in_rules())
            (elsewhere("/baselines"))
        },
    ))
}

/// The lines about the one that is wrong.
fn around(text: &str, line: usize) -> Markup {
    let lines = text.lines().enumerate().map(|(at, it)| (at + 1, it));
    let told = lines.filter(|(at, _)| at.abs_diff(line) <= AROUND);
    html! { pre.diff { code { @for (at, it) in told {
        span class=[(at == line).then_some("removed")] { (format!("{at:>4}  {it}")) }
    } } } }
}

/// What a rule may say, in short.
fn said_in_rules() -> Markup {
    const SAID: &[(&str, &str)] = &[
        (
            "setting(\"sshd.Port\", \"22\")",
            "the value that counts; the default where no file sets it",
        ),
        ("settings(\"nginx.*autoindex\")", "all values that count, with those under a condition"),
        ("number(\"sysctl.kernel.kptr_restrict\")", "the same as a whole number"),
        ("is_set(\"nginx.*stub_status\")", "whether anything sets it"),
        ("present(\"/etc/nftables.conf\")", "whether there is such a file"),
        ("lines(\"/**/frr.conf\", \"^log \")", "the lines that match, of all such files"),
        ("captures(\"/**/frr.conf\", \"neighbor (\\\\S+)\")", "of each, the first group"),
        ("mode_within(\"/etc/shadow\", \"0640\")", "whether it has no permission beside these"),
        ("owner(\"/etc/shadow\")", "its owner: root:shadow"),
        ("like(text, \"pattern\"), words(text), lower(text)", "of texts"),
        ("item.class, item.labels[\"tier\"]", "of the item"),
        ("&& || ! == != < <= > >= in ?: size all exists", "to compare with"),
    ];
    html! { details {
        summary { "What a rule may say" }
        dl.facts { @for (what, says) in SAID { dt { code { (what) } } dd { (says) } } }
        p { "What cannot be seen is unknown, and never passes. docs/baselines.md has all of it." }
    } }
}

/// Keeps what was written.
pub(super) async fn put(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(mut draft): axum::Form<RulesDraft>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller, Action::BaselineKeep)?;
    // A browser sends other line breaks than it was given: the same text is the same version.
    draft.rules = draft.rules.replace("\r\n", "\n");
    let kept = async {
        let tenant: TenantId = match draft.tenant.as_str() {
            "" => by.tenant(),
            text => given("tenant", text)?,
        };
        let new = rules_of(tenant, draft.rules.clone()).await?;
        Ok::<_, Problem>(app.store.put_baseline(&by, None, new).await?)
    };
    match kept.await {
        Ok(kept) => Ok(Redirect::to(&format!("/baselines/{}", kept.id)).into_response()),
        Err(problem) => {
            let page = editor(&app, &by, &draft, Some(&problem)).await?;
            Ok((problem.status(), page).into_response())
        }
    }
}

/// Where a golden item is chosen.
pub(super) async fn golden(
    State(app): State<App>,
    caller: Option<Caller>,
    Query(from): Query<Beginning>,
) -> Result<Markup, Refusal> {
    let by = pass(&app, caller, Action::BaselineKeep)?;
    let usual = Priority::Medium.to_string();
    let draft = match from.of.as_str() {
        "" => GoldenDraft { item: from.item, severity: usual, ..GoldenDraft::default() },
        text => {
            let id = given("of", text)?;
            let (kept, BaselineContent::Golden(source)) = newest(&app, &by, id).await? else {
                return Err(Problem::new(Kind::Refused, "it is not made of a golden item").into());
            };
            let item = names::items(&app, &by, std::iter::once(source.ci)).await?;
            again(kept, names::of(&item, &source.ci), source)
        }
    };
    chooser(&app, &by, &draft, None).await
}

/// The same once more, as the item is now.
fn again(kept: KeptBaseline, item: String, source: GoldenSource) -> GoldenDraft {
    let paths: Vec<_> = source.paths.into_iter().map(String::from).collect();
    let (name, title, severity) = (kept.name, kept.title, source.severity.to_string());
    GoldenDraft { name, title, item, at: String::new(), paths: paths.join("\n"), severity }
}

async fn chooser(
    app: &App,
    by: &Actor,
    draft: &GoldenDraft,
    problem: Option<&Problem>,
) -> Result<Markup, Refusal> {
    Ok(page(
        "/audits",
        "Take a golden item",
        &html! {
            h1 { "Take a golden item" }
            (tabs("/baselines"))
            p.lead { "Files of an item that is as all of its kind should be: others of the same tenant are held against \
                them, with mode and owner, whatever secrets they hold." }
            (refused(problem))
            form.card method="post" action="/baselines/golden" {
                label { "The item" input name="item" value=(draft.item) list="items" placeholder="web-1" required; }
                (names::item_list(app, by, None, "items").await?)
                label { "Which files, as patterns, one on a line"
                    textarea.mono name="paths" rows="3" placeholder="/etc/nginx/**" required { "\n" (draft.paths) } }
                (called(&draft.name, &draft.title, &draft.severity, ("as-web", "As the first web server")))
                label { "As recorded until (UTC); now where it is left out"
                    input type="datetime-local" name="at" value=(draft.at); }
                p { button { "Keep it" } }
                p.quiet { "It is held against nothing before it is bound. What the files held stays in the item's history." }
            }
            (elsewhere("/baselines"))
        },
    ))
}

/// What a baseline of files is called, and how bad it is where one differs; with a name and words for example.
pub(super) fn called(
    name: &str,
    title: &str,
    severity: &str,
    (a_name, words): (&str, &str),
) -> Markup {
    html! {
        label { "What the baseline is called: lower-case letters, digits and -"
            input name="name" value=(name) maxlength="64" placeholder=(a_name) required; }
        label { "In words" input name="title" value=(title) maxlength="200" placeholder=(words) required; }
        label { "How bad it is where a file differs" select name="severity" {
            @for it in PRIORITIES { option value=(it) selected[it.to_string() == severity] { (it) } }
        } }
    }
}

/// Keeps what was chosen.
pub(super) async fn put_golden(
    State(app): State<App>,
    caller: Option<Caller>,
    axum::Form(draft): axum::Form<GoldenDraft>,
) -> Result<Response, Refusal> {
    let by = pass(&app, caller, Action::BaselineKeep)?;
    let kept = async {
        let item = names::item(&app, &by, None, &draft.item).await?;
        let asked = asked(&draft, item.id)?;
        let new = golden_of(&app, &by, item.tenant, asked).await?;
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

fn asked(draft: &GoldenDraft, ci: domain::cloud::CiId) -> Result<GoldenRequest, Problem> {
    let at = match draft.at.as_str() {
        "" => None,
        text => {
            let at = TimeZone::UTC.to_timestamp(given::<DateTime>("the time", text)?);
            Some(at.map_err(|error| wrong("the time", &error.to_string()))?)
        }
    };
    Ok(GoldenRequest {
        name: draft.name.trim().to_owned(),
        title: draft.title.trim().to_owned(),
        ci,
        at,
        paths: patterns(&draft.paths)?,
        severity: severity(&draft.severity)?,
    })
}

fn wrong(what: &str, error: &str) -> Problem {
    Problem::new(Kind::Invalid, format!("{what}: {error}"))
}

/// Patterns of files, one on a line.
pub(super) fn patterns(text: &str) -> Result<Vec<PathPattern>, Problem> {
    let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let pattern = |line: &str| PathPattern::try_from(line.to_owned());
    lines.map(|line| pattern(line).map_err(|error| wrong("files", &error))).collect()
}

/// How bad it is.
pub(super) fn severity(word: &str) -> Result<Priority, Problem> {
    let found = PRIORITIES.into_iter().find(|it| it.to_string() == word);
    found.ok_or_else(|| wrong("severity", "it is none").help("use critical, high, medium or low"))
}
