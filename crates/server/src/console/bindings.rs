//! To which items baselines apply, as pages tell it, and the form that says so.

use domain::cloud::{CiId, Class, GroupId, PROVIDER, TenantId};
use domain::configuration::baseline::BaselineRef;
use jiff::Timestamp;
use maud::{Markup, html};
use serde::Deserialize;
use store::{Actor, Binding, KeptBaseline, PageRequest, Target};

use super::names::{self, Names};
use super::pages::words;
use super::times::moment_away;
use crate::App;
use crate::api::baselines::target;
use crate::api::given;
use crate::problem::Problem;

/// Bindings that one line of a list names.
const TOLD: usize = 3;

/// What somebody says of items and a baseline.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Said {
    #[serde(default)]
    pub(super) tenant: String,
    #[serde(default)]
    pub(super) class: String,
    #[serde(default)]
    pub(super) group: String,
    /// An item, by its name or id.
    #[serde(default)]
    pub(super) item: String,
    #[serde(default)]
    pub(super) holds: bool,
}

/// What the things are called that bindings and waivers name.
pub(super) struct Called {
    groups: Names<GroupId>,
    items: Names<CiId>,
    tenants: Names<TenantId>,
}

impl Called {
    pub(super) async fn of(
        app: &App,
        by: &Actor,
        meant: impl Iterator<Item = (Target, TenantId)> + Clone,
    ) -> Result<Self, Problem> {
        let groups = meant.clone().filter_map(|(target, _)| match target {
            Target::Group(id) => Some(id),
            Target::Class(_) | Target::Ci(_) => None,
        });
        let items = meant.clone().filter_map(|(target, _)| match target {
            Target::Ci(id) => Some(id),
            Target::Class(_) | Target::Group(_) => None,
        });
        // Whoever sees one tenant alone needs no name for it.
        let is_told = by.scope().is_none();
        let tenants = meant.map(|(_, tenant)| tenant).filter(|_| is_told);
        Ok(Self {
            groups: names::groups(app, by, groups).await?,
            items: names::items(app, by, items).await?,
            tenants: names::tenants(app, by, tenants).await?,
        })
    }

    /// Which items are meant.
    pub(super) fn told(&self, target: Target, tenant: TenantId) -> Markup {
        html! { @match target {
            Target::Class(class) => {
                "every " (words(class)) @if !self.tenants.is_empty() {
                    @if tenant == PROVIDER { " of every tenant" } @else { " of " (names::of(&self.tenants, &tenant)) }
                }
            },
            Target::Group(id) => a href={ "/audits?group=" (id) } {
                "the group " (self.groups.get(&id).map_or("that was dissolved", String::as_str))
            },
            Target::Ci(id) => a href={ "/cis/" (id) "/audit" } { (names::of(&self.items, &id)) },
        } }
    }

    /// The same of several, in a line.
    pub(super) fn in_a_line(&self, bindings: &[&Binding]) -> Markup {
        html! {
            @for (at, it) in bindings.iter().take(TOLD).enumerate() {
                @if at > 0 { ", " } @if !it.holds { "not " } (self.told(it.target, it.tenant))
            }
            @if bindings.len() > TOLD { ", and " (bindings.len() - TOLD) " more" }
        }
    }
}

/// What is said of one baseline; who may say more takes back what their side said.
pub(super) fn table(
    bindings: &[Binding],
    called: &Called,
    people: &Names<String>,
    (by, keeps): (&Actor, bool),
    now: Timestamp,
) -> Markup {
    html! { div.wide { table.stack {
        thead { tr { th { "Which items" } th { "Are" } th { "Said by" } th { "Since" } @if keeps { th {} } } }
        tbody { @for it in bindings { tr {
            td { (called.told(it.target, it.tenant)) }
            td.whole data-label="Are" {
                @if it.holds { span.latest { "✓ held to it" } } @else { span.quiet { "– not held to it" } } }
            td data-label="Said by" { "the " (it.side) ", " (names::of(people, &it.bound_by)) }
            td.when data-label="Since" { (moment_away(it.bound_at, now)) }
            @if keeps { td {
                @if super::baselines::side(by) == Some(it.side) {
                    form method="post" action={ "/baselines/" (it.baseline) "/unbind" } {
                        input type="hidden" name="binding" value=(it.id);
                        button.quiet { "Take it back" }
                    }
                } @else { span.quiet { "only the " (it.side) " takes it back" } }
            } }
        } } }
    } } }
}

/// Where somebody says of items that they are held to a baseline, or are not.
pub(super) async fn form(
    app: &App,
    by: &Actor,
    (which, kept): (&BaselineRef, Option<&KeptBaseline>),
    said: &Said,
) -> Result<Markup, Problem> {
    let all = PageRequest { after: None, limit: store::LONGEST_PAGE };
    let whose = whose(by, kept);
    let mut groups = app.store.groups(by, &all).await?.items;
    groups.retain(|it| whose.is_none_or(|tenant| it.tenant == tenant));
    let tenants = match whose {
        Some(_) => Vec::new(),
        None => app.store.tenants(by, &all).await?.items,
    };
    let of = |tenant: TenantId| tenants.iter().find(|it| it.id == tenant);
    Ok(html! {
        form.card method="post" action={ "/baselines/" (which) "/bind" } {
            p.quiet { "One of these. What is said of an item counts before what is said of its groups, and that before \
                its class." }
            div.fields {
                label { "Every item of a class" select name="class" {
                    option value="" { "–" }
                    @for it in Class::ALL { option value=(it) selected[it.as_str() == said.class] { (words(*it)) } }
                } }
                @if !tenants.is_empty() { label { "of" select name="tenant" {
                    option value=(PROVIDER) { "every tenant" }
                    @for it in tenants.iter().filter(|it| it.id != PROVIDER) {
                        option value=(it.id) selected[it.id.to_string() == said.tenant] { (it.name) }
                    }
                } } }
            }
            @if !groups.is_empty() { label { "or of a group" select name="group" {
                option value="" { "–" }
                @for it in &groups { option value=(it.id) selected[it.id.to_string() == said.group] {
                    (it.name) @if let Some(tenant) = of(it.tenant) { " · " (tenant.name) }
                } }
            } } }
            label { "or one item" input name="item" value=(said.item) list="items" placeholder="web-1"; }
            (names::item_list(app, by, whose, "items").await?)
            p { button name="holds" value="true" { "Hold them to it" } " "
                button.quiet name="holds" value="false" { "Do not hold them to it" } }
            p.quiet { "It counts from each item's next audit on." }
        }
    })
}

/// Whose items may be meant, where that is not every tenant's.
fn whose(by: &Actor, kept: Option<&KeptBaseline>) -> Option<TenantId> {
    let of_tenant = kept.map(|it| it.tenant).filter(|tenant| *tenant != PROVIDER);
    by.scope().or(of_tenant)
}

/// Which items somebody means, and of which tenant.
pub(super) async fn meant(
    app: &App,
    by: &Actor,
    kept: Option<&KeptBaseline>,
    said: &Said,
) -> Result<(TenantId, Target), Problem> {
    fn named<T: std::str::FromStr<Err: std::fmt::Display>>(
        name: &str,
        text: &str,
    ) -> Result<Option<T>, Problem> {
        (!text.is_empty()).then(|| given(name, text)).transpose()
    }
    let whose = whose(by, kept);
    let ci = match said.item.trim() {
        "" => None,
        text => Some(names::item(app, by, whose, text).await?.id),
    };
    let target = target(named("class", &said.class)?, named("group", &said.group)?, ci)?;
    let tenant = named("tenant", &said.tenant)?.or(whose).unwrap_or(by.tenant());
    Ok((tenant, target))
}
