//! From names to ids, and back.

use std::cell::RefCell;
use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use domain::cloud::PROVIDER;
use serde_json::{Value, json};

use super::connection::{Connection, Missing, encoded, is_missing};
use super::kind::Kind;
use super::output::text;
use crate::failure::helped;

/// What the provider itself is called among tenants.
const PROVIDER_NAME: &str = "provider";

/// How many items are asked for one by one, before all are read.
const ONE_BY_ONE: usize = 100;

/// What objects are called. What was asked once is kept.
pub(crate) struct Names<'a> {
    connection: &'a Connection,
    tenants: RefCell<Option<BTreeMap<String, String>>>,
    cis: RefCell<BTreeMap<String, String>>,
    images: RefCell<BTreeMap<String, String>>,
    people: RefCell<Option<BTreeMap<String, String>>>,
}

impl<'a> Names<'a> {
    /// Nothing is asked yet.
    pub(crate) fn new(connection: &'a Connection) -> Self {
        Self {
            connection,
            tenants: RefCell::default(),
            cis: RefCell::default(),
            images: RefCell::default(),
            people: RefCell::default(),
        }
    }

    /// A tenant's short name; its id where that cannot be told.
    pub(crate) fn tenant(&self, id: &str) -> String {
        if id == PROVIDER.to_string() {
            return PROVIDER_NAME.to_owned();
        }
        let mut known = self.tenants.borrow_mut();
        let known = known.get_or_insert_with(|| {
            let all = self.connection.items(Kind::Tenant.path(), "", 1000);
            all.map_while(Result::ok)
                .map(|tenant| (text(&tenant["id"]), text(&tenant["slug"])))
                .collect()
        });
        known.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// A person's login; what stands there where that cannot be told.
    pub(crate) fn person(&self, id: &str) -> String {
        if !Kind::User.is_id(id) {
            return id.to_owned();
        }
        let mut known = self.people.borrow_mut();
        let known = known.get_or_insert_with(|| {
            let all = self.connection.items(Kind::User.path(), "", 1000);
            all.map_while(Result::ok)
                .map(|person| (text(&person["id"]), text(&person["login"])))
                .collect()
        });
        known.get(id).cloned().unwrap_or_else(|| id.to_owned())
    }

    /// A configuration item's name; its id where that cannot be told.
    pub(crate) fn ci(&self, id: &str) -> String {
        if let Some(name) = self.cis.borrow().get(id) {
            return name.clone();
        }
        let found = self.connection.get(&format!("/cis/{}", encoded(id)));
        let name = found.ok().and_then(|ci| Some(ci["name"].as_str()?.to_owned()));
        let name = name.unwrap_or_else(|| id.to_owned());
        self.cis.borrow_mut().insert(id.to_owned(), name.clone());
        name
    }

    /// A version of an image as `SERIES:NUMBER`; its id where that cannot be told.
    pub(crate) fn image(&self, id: &str) -> String {
        if let Some(name) = self.images.borrow().get(id) {
            return name.clone();
        }
        let found = self.connection.get(&format!("/images/{}", encoded(id)));
        let name = found.map_or_else(|_| id.to_owned(), |image| Kind::Image.name_of(&image));
        self.images.borrow_mut().insert(id.to_owned(), name.clone());
        name
    }

    /// Learns the items that these objects speak of, all at once where they are many.
    pub(crate) fn learn(&self, objects: &[Value]) {
        let ids: std::collections::BTreeSet<_> =
            objects.iter().map(|it| &it["ci"]).filter_map(Value::as_str).collect();
        let is_known = ids.len() <= ONE_BY_ONE;
        if is_known {
            return;
        }
        let all = self.connection.items(Kind::Ci.path(), "retired=true", 1000);
        self.cis
            .borrow_mut()
            .extend(all.map_while(Result::ok).map(|ci| (text(&ci["id"]), text(&ci["name"]))));
    }

    /// The id of a tenant named by id, short name or name.
    pub(crate) fn tenant_id(&self, wanted: &str) -> Result<String> {
        if Kind::Tenant.is_id(wanted) {
            return Ok(wanted.to_owned());
        }
        if wanted == PROVIDER_NAME {
            return Ok(PROVIDER.to_string());
        }
        self.find(Kind::Tenant, wanted).map(|tenant| text(&tenant["id"]))
    }

    /// The id of an item named by id, name, or `TENANT/NAME`.
    pub(crate) fn ci_id(&self, wanted: &str) -> Result<String> {
        if Kind::Ci.is_id(wanted) {
            return Ok(wanted.to_owned());
        }
        self.find(Kind::Ci, wanted).map(|ci| text(&ci["id"]))
    }

    /// The object of this kind with this id or name.
    pub(crate) fn find(&self, kind: Kind, wanted: &str) -> Result<Value> {
        if kind.is_id(wanted) && kind.has_one() {
            return self.connection.get(&format!("{}/{}", kind.path(), encoded(wanted)));
        }
        if kind == Kind::Event {
            return self.event(wanted);
        }
        if kind == Kind::Tenant && wanted == PROVIDER_NAME {
            return self.find(kind, &PROVIDER.to_string());
        }
        if kind == Kind::Agent && !kind.is_id(wanted) {
            let ci = self.ci_id(wanted)?;
            return self.only(kind, wanted, |agent| agent["ci"] == ci.as_str());
        }
        if kind == Kind::Ci {
            return self.item(wanted);
        }
        if kind == Kind::Image {
            return self.version(wanted);
        }
        let is_it = |object: &Value| {
            object["id"] == wanted
                || kind.name_fields().iter().any(|field| object[*field] == wanted)
        };
        self.only(kind, wanted, is_it)
    }

    /// What an item of this name is, if there is one that was not retired.
    pub(crate) fn item_in(&self, tenant: &str, name: &str) -> Result<Option<Value>> {
        let query = format!("name={}&tenant={}", encoded(name), encoded(tenant));
        for ci in self.connection.items(Kind::Ci.path(), &query, 1000) {
            let ci = ci?;
            if ci["name"] == name {
                return Ok(Some(ci));
            }
        }
        Ok(None)
    }

    fn item(&self, wanted: &str) -> Result<Value> {
        // A name may have a slash itself.
        if let Some((tenant, name)) = wanted.split_once('/')
            && let Ok(tenant) = self.tenant_id(tenant)
            && let Some(ci) = self.item_in(&tenant, name)?
        {
            return Ok(ci);
        }
        let query = format!("name={}&retired=true", encoded(wanted));
        let all = self.connection.items(Kind::Ci.path(), &query, 1000);
        let mut found = Vec::new();
        for ci in all {
            let ci = ci?;
            if ci["name"] == wanted {
                found.push(ci);
            }
        }
        // Who asks for a name means what bears it now.
        if found.iter().any(|ci| ci["retired_at"].is_null()) {
            found.retain(|ci| ci["retired_at"].is_null());
        }
        self.one_of(Kind::Ci, wanted, found)
    }

    /// A version of an image: `SERIES:NUMBER`, or a series for its current version, or its only one.
    fn version(&self, wanted: &str) -> Result<Value> {
        let of_series = |series: &str| -> Result<Vec<Value>> {
            let query = format!("name={}", encoded(series));
            self.connection.items(Kind::Image.path(), &query, 1000).collect()
        };
        if let Some((series, number)) = wanted.rsplit_once(':')
            && let Ok(number) = number.parse::<u64>()
        {
            let mut found = of_series(series)?;
            found.retain(|it| it["number"] == number);
            if !found.is_empty() {
                return self.one_of(Kind::Image, wanted, found);
            }
        }
        let mut found = of_series(wanted)?;
        if found.iter().any(|it| it["state"] == "current") {
            found.retain(|it| it["state"] == "current");
        }
        self.one_of(Kind::Image, wanted, found)
    }

    fn event(&self, wanted: &str) -> Result<Value> {
        let place: u64 = wanted.parse().map_err(|_| {
            helped(
                anyhow!("`{wanted}` is no place in the ledger"),
                "name an event by its place: the first column of `patchwright get events`",
            )
        })?;
        let page = self.connection.get(&format!("/events?from={place}&limit=1"))?;
        let event = &page["items"][0];
        if event["sequence"] == place {
            return Ok(event.clone());
        }
        Err(missing(Kind::Event, wanted))
    }

    /// The one of a list that is meant.
    fn only(&self, kind: Kind, wanted: &str, is_it: impl Fn(&Value) -> bool) -> Result<Value> {
        let mut found = Vec::new();
        for object in self.connection.items(kind.path(), "", 1000) {
            let object = object?;
            if is_it(&object) {
                found.push(object);
            }
        }
        // What is in force is meant before what has ended.
        let has_ended = |it: &Value| {
            !it["revoked_at"].is_null()
                || matches!(it["state"].as_str(), Some("revoked" | "replaced"))
        };
        if found.iter().any(|it| !has_ended(it)) {
            found.retain(|it| !has_ended(it));
        }
        self.one_of(kind, wanted, found)
    }

    fn one_of(&self, kind: Kind, wanted: &str, mut found: Vec<Value>) -> Result<Value> {
        match found.len() {
            0 => Err(missing(kind, wanted)),
            1 => Ok(found.remove(0)),
            number => {
                let ids: Vec<String> = found
                    .iter()
                    .take(5)
                    .map(|it| {
                        let tenant = it["tenant"].as_str().map(|id| self.tenant(id));
                        let tenant = tenant.map_or(String::new(), |tenant| format!(" ({tenant})"));
                        format!("{}{tenant}", text(&it["id"]))
                    })
                    .collect();
                let error = anyhow!("{number} {} are called `{wanted}`", plural(kind));
                Err(helped(error, format!("name one by its id: {}", ids.join(", "))))
            }
        }
    }

    /// The tenant of whoever asks.
    pub(crate) fn own_tenant(&self) -> Result<String> {
        Ok(text(&self.connection.get("/session")?["tenant"]))
    }

    /// What there is at a path; null where there is nothing.
    pub(crate) fn if_any(&self, path: &str) -> Result<Value> {
        match self.connection.get(path) {
            Err(error) if is_missing(&error) => Ok(json!(null)),
            outcome => outcome,
        }
    }
}

/// There is no such thing.
fn missing(kind: Kind, wanted: &str) -> anyhow::Error {
    helped(
        Missing { kind: kind.word(), wanted: wanted.to_owned() },
        format!("see `patchwright get {}`", plural(kind)),
    )
}

/// The word for several.
pub(crate) fn plural(kind: Kind) -> String {
    use clap::ValueEnum as _;
    kind.to_possible_value().map_or_else(String::new, |value| value.get_name().to_owned())
}
