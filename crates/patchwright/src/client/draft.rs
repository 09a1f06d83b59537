//! An object that is to be: what `create` takes as flags and `apply` as a document.

use std::collections::BTreeMap;

use anyhow::{Result, anyhow};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::connection::{Change, Connection, encoded};
use super::kind::{Kind, labels};
use super::names::Names;
use super::output::text;
use crate::failure::helped;

/// The fields of all kinds; [`Draft::fields`] says which kind has which.
#[derive(Debug, Default, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Draft {
    /// What it is; named by the document.
    pub(crate) kind: String,
    /// The object that is meant, where it is there already.
    pub(crate) id: Option<String>,
    pub(crate) tenant: Option<String>,
    pub(crate) class: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) description: Option<String>,
    pub(crate) labels: Option<BTreeMap<String, String>>,
    pub(crate) slug: Option<String>,
    pub(crate) model: Option<String>,
    pub(crate) login: Option<String>,
    pub(crate) role: Option<String>,
    pub(crate) password: Option<String>,
    pub(crate) osv: Option<Value>,
    pub(crate) note: Option<String>,
    pub(crate) from: Option<String>,
    pub(crate) relation: Option<String>,
    pub(crate) to: Option<String>,
    pub(crate) access: Option<String>,
    pub(crate) days: Option<u16>,
    pub(crate) ci: Option<String>,
    pub(crate) uses: Option<u32>,
    pub(crate) lifetime_minutes: Option<u32>,
}

/// What the server is asked for, to have it made.
#[derive(Debug, PartialEq)]
pub(crate) struct Order {
    pub(crate) path: String,
    pub(crate) body: Value,
    /// Whether it may be sent again with the same key.
    pub(crate) is_repeatable: bool,
}

/// Fields that an object of a kind needs (`!`) or may have.
const FIELDS: &[(Kind, &[&str])] = &[
    (Kind::Tenant, &["slug!", "name!", "model!", "id"]),
    (Kind::User, &["login!", "name!", "role!", "tenant", "password", "id"]),
    (Kind::Ci, &["name!", "class!", "tenant", "labels", "id"]),
    (Kind::Group, &["name!", "description", "tenant", "class", "labels", "id"]),
    (Kind::Token, &["name!", "access", "days"]),
    (Kind::AgentToken, &["tenant", "ci", "class", "labels", "uses", "lifetime_minutes"]),
    (Kind::Advisory, &["osv!", "note"]),
    (Kind::Relation, &["from!", "relation!", "to!"]),
];

impl Draft {
    /// Its kind, if all fields belong to it and none is missing.
    pub(crate) fn checked_kind(&self) -> Result<Kind> {
        let words = || {
            let words: Vec<_> = FIELDS.iter().map(|(kind, _)| kind.word()).collect();
            format!("kinds that can be created: {}", words.join(", "))
        };
        let kind = Kind::of_word(&self.kind);
        let found = FIELDS.iter().find(|(known, _)| Some(*known) == kind);
        let Some((kind, fields)) = found else {
            let error = if self.kind.is_empty() {
                anyhow!("`kind` is missing")
            } else {
                anyhow!("there is no kind `{}` to create", self.kind)
            };
            return Err(helped(error, words()));
        };
        let given = self.given();
        let name = |field: &&'static str| -> &'static str { field.trim_end_matches('!') };
        let help = || {
            let names: Vec<_> = fields.iter().map(name).collect();
            format!("fields of a {}: {}", kind.word(), names.join(", "))
        };
        let strange = given.iter().find(|given| !fields.iter().any(|field| name(field) == **given));
        if let Some(strange) = strange {
            return Err(helped(anyhow!("a {} has no `{strange}`", kind.word()), help()));
        }
        let is_missing =
            |field: &&&'static str| field.ends_with('!') && !given.contains(&name(field));
        // Of what is named by its id, only what is to differ must be told.
        if self.id.is_none()
            && let Some(missing) = fields.iter().find(is_missing)
        {
            return Err(helped(anyhow!("`{}` is missing", name(missing)), help()));
        }
        Ok(*kind)
    }

    /// The fields that were given.
    fn given(&self) -> Vec<&'static str> {
        let all = [
            ("id", self.id.is_some()),
            ("tenant", self.tenant.is_some()),
            ("class", self.class.is_some()),
            ("name", self.name.is_some()),
            ("description", self.description.is_some()),
            ("labels", self.labels.is_some()),
            ("slug", self.slug.is_some()),
            ("model", self.model.is_some()),
            ("login", self.login.is_some()),
            ("role", self.role.is_some()),
            ("password", self.password.is_some()),
            ("osv", self.osv.is_some()),
            ("note", self.note.is_some()),
            ("from", self.from.is_some()),
            ("relation", self.relation.is_some()),
            ("to", self.to.is_some()),
            ("access", self.access.is_some()),
            ("days", self.days.is_some()),
            ("ci", self.ci.is_some()),
            ("uses", self.uses.is_some()),
            ("lifetime_minutes", self.lifetime_minutes.is_some()),
        ];
        all.into_iter().filter(|(_, given)| *given).map(|(name, _)| name).collect()
    }

    /// What it is called in what is said about it.
    pub(crate) fn title(&self, kind: Kind) -> String {
        let or = |text: &Option<String>| text.clone().unwrap_or_else(|| "?".to_owned());
        let name = match kind {
            Kind::Tenant => self.slug.clone().or_else(|| self.name.clone()),
            Kind::User => self.login.clone(),
            Kind::Advisory => {
                self.osv.as_ref().and_then(|osv| Some(osv["id"].as_str()?.to_owned()))
            }
            Kind::Relation => {
                Some(format!("{} {} {}", or(&self.from), or(&self.relation), or(&self.to)))
            }
            _ => self.name.clone(),
        };
        let name = name.or_else(|| self.id.clone());
        name.map_or(kind.word().to_owned(), |name| format!("{}/{name}", kind.word()))
    }

    /// What to send to have it made.
    pub(crate) fn order(&self, kind: Kind, names: &Names<'_>) -> Result<Order> {
        let mut body = Map::new();
        let mut put = |name: &str, value: Option<Value>| {
            if let Some(value) = value {
                body.insert(name.to_owned(), value);
            }
        };
        let word = |text: &Option<String>| text.as_ref().map(|text| json!(text));
        let tenant = || match &self.tenant {
            Some(tenant) => names.tenant_id(tenant),
            None => names.own_tenant(),
        };
        let mut path = kind.path().to_owned();
        match kind {
            Kind::Tenant => {
                put("slug", word(&self.slug));
                put("name", word(&self.name));
                put("model", word(&self.model));
            }
            Kind::User => {
                put("tenant", Some(json!(tenant()?)));
                put("login", word(&self.login));
                put("name", word(&self.name));
                put("role", word(&self.role));
                put("password", word(&self.password));
            }
            Kind::Ci => {
                put("tenant", Some(json!(tenant()?)));
                put("class", word(&self.class));
                put("name", word(&self.name));
                put("labels", self.labels.as_ref().map(|it| json!(it)));
            }
            Kind::Group => {
                put("tenant", Some(json!(tenant()?)));
                put("name", word(&self.name));
                put("description", word(&self.description));
                put("selector", Some(self.selector(&Value::Null)));
            }
            Kind::Token => {
                put("name", word(&self.name));
                put("access", Some(json!(self.access.as_deref().unwrap_or("read"))));
                put("days", Some(json!(self.days.unwrap_or(90))));
            }
            Kind::AgentToken => {
                let ci = self.ci.as_deref().map(|ci| names.find(Kind::Ci, ci)).transpose()?;
                let tenant = match &ci {
                    // It is the item's tenant's, unless somebody says otherwise.
                    Some(ci) if self.tenant.is_none() => text(&ci["tenant"]),
                    _ => tenant()?,
                };
                put("tenant", Some(json!(tenant)));
                put("ci", ci.map(|ci| ci["id"].clone()));
                put("class", word(&self.class));
                put("labels", self.labels.as_ref().map(|it| json!(it)));
                put("uses", self.uses.map(|it| json!(it)));
                put("lifetime_minutes", self.lifetime_minutes.map(|it| json!(it)));
            }
            Kind::Advisory => {
                put("osv", self.osv.clone());
                put("note", word(&self.note));
            }
            Kind::Relation => {
                let end = |name: &Option<String>| names.ci_id(name.as_deref().unwrap_or_default());
                path = format!("/cis/{}/relations", encoded(&end(&self.from)?));
                put("kind", word(&self.relation));
                put("to", Some(json!(end(&self.to)?)));
            }
            Kind::Finding
            | Kind::Patch
            | Kind::Agent
            | Kind::Image
            | Kind::Job
            | Kind::Change
            | Kind::Notice
            | Kind::Event => {
                return Err(anyhow!("a {} cannot be created", kind.word()));
            }
        }
        // Where the API takes no key, nothing is sent twice.
        let is_repeatable =
            matches!(kind, Kind::Tenant | Kind::User | Kind::Ci | Kind::Group | Kind::Advisory);
        Ok(Order { path, body: Value::Object(body), is_repeatable })
    }

    /// Which items a group takes: what the draft leaves out stays as it is.
    fn selector(&self, is: &Value) -> Value {
        let class = self.class.as_ref().map_or(is["class"].clone(), |class| json!(class));
        let labels = self.labels.as_ref().map(|labels| json!(labels));
        let labels = labels.unwrap_or_else(|| match &is["labels"] {
            Value::Null => json!({}),
            labels => labels.clone(),
        });
        json!({ "class": class, "labels": labels })
    }

    /// What to alter in an object that is there, so that it becomes this; `None` where it is so already.
    pub(crate) fn alteration(
        &self,
        kind: Kind,
        is: &Value,
        names: &Names<'_>,
    ) -> Result<Option<Value>> {
        let mut alteration = Map::new();
        let mut fixed = Vec::new();
        let tenant = self.tenant.as_deref().map(|tenant| names.tenant_id(tenant)).transpose()?;
        let words = [
            ("tenant", &tenant),
            ("class", if kind == Kind::Group { &None } else { &self.class }),
            ("description", &self.description),
            ("slug", &self.slug),
            ("model", &self.model),
            ("login", &self.login),
            ("role", &self.role),
            ("name", &self.name),
            ("note", &self.note),
        ];
        for (field, wanted) in words {
            let Some(wanted) = wanted else { continue };
            if is[field] != wanted.as_str() {
                let may = match kind {
                    Kind::Ci => &["name"][..],
                    Kind::Group => &["name", "description"],
                    _ => &[],
                };
                if may.contains(&field) {
                    alteration.insert(field.to_owned(), json!(wanted));
                } else {
                    fixed.push((field, text(&is[field]), wanted.clone()));
                }
            }
        }
        if kind == Kind::Group {
            let selector = self.selector(&is["selector"]);
            if selector != is["selector"] {
                alteration.insert("selector".to_owned(), selector);
            }
        } else if let Some(wanted) = &self.labels
            && is["labels"] != json!(wanted)
        {
            alteration.insert("labels".to_owned(), json!(wanted));
        }
        if let Some(wanted) = &self.osv
            && is["osv"] != *wanted
        {
            fixed.push(("osv", "another record".to_owned(), "this one".to_owned()));
        }
        if let Some((field, is, wanted)) = fixed.first() {
            let error = anyhow!("its {field} is `{is}`, not `{wanted}`, and cannot be altered");
            let help = match kind {
                Kind::Ci => "retire it and create another: `patchwright delete ci`",
                Kind::User => "take its access away and give it anew: `patchwright delete user`",
                _ => "make the file say what is there",
            };
            return Err(helped(error, help));
        }
        Ok(if alteration.is_empty() { None } else { Some(Value::Object(alteration)) })
    }
}

impl Order {
    /// Has it made.
    pub(crate) fn send(&self, connection: &Connection, dry_run: bool) -> Result<Value> {
        let change = Change {
            body: Some(&self.body),
            is_repeatable: self.is_repeatable,
            dry_run,
            ..Change::of("POST", &self.path)
        };
        connection.change(&change).map(|answer| answer.body)
    }
}

/// `name: a → b; labels: …`: what an alteration alters, for people.
pub(crate) fn told(alteration: &Value, is: &Value) -> String {
    let fields = alteration.as_object().into_iter().flatten();
    let told = fields.map(|(field, wanted)| match field.as_str() {
        "labels" => {
            let (is, wanted) = (labels(is), labels(alteration));
            format!("labels: {} → {}", or_none(&is), or_none(&wanted))
        }
        "selector" => {
            let told = |selector: &Value| {
                let class = text(&selector["class"]);
                let class = if class.is_empty() { "any class".to_owned() } else { class };
                format!("{class} with {}", or_none(&labels(selector)))
            };
            format!("selector: {} → {}", told(&is["selector"]), told(wanted))
        }
        field => format!("{field}: {} → {}", text(&is[field]), text(wanted)),
    });
    told.collect::<Vec<_>>().join("; ")
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draft(text: &str) -> Draft {
        serde_saphyr::from_str(text).unwrap()
    }

    #[test]
    fn a_draft_is_held_to_its_kind() {
        let outcome = |text: &str| draft(text).checked_kind().map_err(|error| error.to_string());

        assert_eq!(outcome("{kind: ci, name: web, class: vm}").unwrap(), Kind::Ci);
        assert_eq!(outcome("{kind: ci, id: ci_1, name: web}").unwrap(), Kind::Ci);
        assert_eq!(outcome("{kind: ci, name: web}").unwrap_err(), "`class` is missing");
        assert_eq!(outcome("{name: web}").unwrap_err(), "`kind` is missing");
        assert_eq!(outcome("{kind: cat}").unwrap_err(), "there is no kind `cat` to create");
        assert_eq!(outcome("{kind: event}").unwrap_err(), "there is no kind `event` to create");
        let error = outcome("{kind: ci, name: web, class: vm, slug: x}").unwrap_err();
        assert_eq!(error, "a ci has no `slug`");
    }

    #[test]
    fn texts_stay_as_they_are_written() {
        let draft = draft("{kind: ci, name: 007, class: vm, labels: {version: 1.10, on: no}}");

        assert_eq!(draft.name.as_deref(), Some("007"));
        let labels = draft.labels.unwrap();
        assert_eq!((labels["version"].as_str(), labels["on"].as_str()), ("1.10", "no"));
    }

    #[test]
    fn only_what_differs_is_altered_and_what_is_fixed_is_told() {
        let connection = Connection::new("http://127.0.0.1:1", None, None).unwrap();
        let names = Names::new(&connection);
        let is = json!({ "name": "web", "class": "vm", "labels": { "env": "test" } });
        let alteration =
            |text: &str| draft(text).alteration(Kind::Ci, &is, &names).map_err(|it| it.to_string());

        assert_eq!(alteration("{class: vm, name: web}").unwrap(), None);
        assert_eq!(alteration("{labels: {env: test}}").unwrap(), None);
        let change = alteration("{name: web-1, labels: {env: prod}}").unwrap().unwrap();
        assert_eq!(change, json!({ "name": "web-1", "labels": { "env": "prod" } }));
        assert_eq!(told(&change, &is), "name: web → web-1; labels: env=test → env=prod");
        assert!(alteration("{class: host}").unwrap_err().contains("cannot be altered"));
    }
}
