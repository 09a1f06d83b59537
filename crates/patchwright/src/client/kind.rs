//! The kinds of objects, and what is told about each.

use clap::ValueEnum;
use jiff::Timestamp;
use serde_json::Value;

use super::names::Names;
use super::output::{Cell, DIM, moment, style_of, text};

/// A kind of objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Kind {
    /// Tenants.
    #[value(name = "tenants", aliases = ["tenant", "ten"])]
    Tenant,
    /// People.
    #[value(name = "users", aliases = ["user", "usr"])]
    User,
    /// Configuration items.
    #[value(name = "cis", alias = "ci")]
    Ci,
    /// Groups of configuration items.
    #[value(name = "groups", aliases = ["group", "grp"])]
    Group,
    /// Patches that items lack or lacked.
    #[value(name = "findings", aliases = ["finding", "fnd"])]
    Finding,
    /// Patches that items lack, each once.
    #[value(name = "patches", aliases = ["patch", "pat"])]
    Patch,
    /// Advisories that people brought.
    #[value(name = "advisories", aliases = ["advisory", "adv"])]
    Advisory,
    /// Agents.
    #[value(name = "agents", aliases = ["agent", "agt"])]
    Agent,
    /// Tokens for joining; they are made, and not told again.
    #[value(name = "agent-tokens", aliases = ["agent-token", "jnt"])]
    AgentToken,
    /// API tokens.
    #[value(name = "tokens", aliases = ["token", "tok"])]
    Token,
    /// Versions of images.
    #[value(name = "images", aliases = ["image", "img"])]
    Image,
    /// Jobs of the lab.
    #[value(name = "jobs", alias = "job")]
    Job,
    /// Patches and alterations on their way into the cloud.
    #[value(name = "changes", aliases = ["change", "chg"])]
    Change,
    /// What tenants were told.
    #[value(name = "notices", aliases = ["notice", "ntc"])]
    Notice,
    /// What happened, by place in the ledger.
    #[value(name = "events", aliases = ["event", "evt", "ev"])]
    Event,
    /// How items hang together; of one item (`--ci`).
    #[value(name = "relations", aliases = ["relation", "rel"])]
    Relation,
}

/// By what a list may be narrowed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filter {
    Tenant,
    Group,
    Class,
    Name,
    Label,
    Retired,
    Ci,
    Patch,
    State,
    Priority,
    Source,
    Image,
    From,
}

/// One column of a table.
pub(crate) struct Column {
    pub(crate) head: &'static str,
    pub(crate) is_wide: bool,
    pub(crate) cell: fn(&Value, &Names<'_>) -> Cell,
}

const fn column(head: &'static str, cell: fn(&Value, &Names<'_>) -> Cell) -> Column {
    Column { head, is_wide: false, cell }
}

const fn wide(head: &'static str, cell: fn(&Value, &Names<'_>) -> Cell) -> Column {
    Column { head, is_wide: true, cell }
}

macro_rules! field {
    ($name:literal) => {
        |it, _| Cell::from(text(&it[$name]))
    };
}

macro_rules! word {
    ($name:literal) => {
        |it, _| Cell::from(text(&it[$name])).styled(style_of(&text(&it[$name])))
    };
}

macro_rules! time {
    ($name:literal) => {
        |it, _| Cell::from(moment(&it[$name]))
    };
}

const TENANT: Column = column("TENANT", |it, names| names.tenant(&text(&it["tenant"])).into());
const WIDE_TENANT: Column = wide("TENANT", TENANT.cell);
const CI: Column = column("CI", |it, names| names.ci(&text(&it["ci"])).into());
const ID: Column = column("ID", field!("id"));
const CREATED: Column = wide("CREATED", time!("created_at"));

const TENANTS: &[Column] = &[
    column("SLUG", field!("slug")),
    column("NAME", field!("name")),
    column("MODEL", field!("model")),
    CREATED,
    ID,
];

const USERS: &[Column] = &[
    column("LOGIN", field!("login")),
    column("NAME", field!("name")),
    column("ROLE", field!("role")),
    TENANT,
    column("STATE", |it, _| ended(it, "disabled_at", "disabled")),
    CREATED,
    ID,
];

const CIS: &[Column] = &[
    column("NAME", field!("name")),
    column("CLASS", field!("class")),
    column("DUTY", field!("duty")),
    TENANT,
    column("STATE", |it, _| ended(it, "retired_at", "retired")),
    wide("LABELS", |it, _| Cell::from(labels(it))),
    CREATED,
    ID,
];

const GROUPS: &[Column] = &[
    column("NAME", field!("name")),
    TENANT,
    column("CLASS", |it, _| {
        let class = text(&it["selector"]["class"]);
        Cell::from(if class.is_empty() { "any".to_owned() } else { class })
    }),
    column("LABELS", |it, _| Cell::from(labels(&it["selector"]))),
    wide("DESCRIPTION", field!("description")),
    CREATED,
    ID,
];

/// What stands beside an open finding: its risk is somebody's, or the SLA does not cover it.
pub(super) fn beside(finding: &Value) -> Option<&'static str> {
    if finding["state"] != "open" {
        return None;
    }
    let until = finding["excluded"]["until"].as_str().and_then(|until| until.parse().ok());
    let is_over = until.is_some_and(|until: Timestamp| until <= Timestamp::now());
    if finding["excluded"].is_object() && !is_over {
        Some("excluded")
    } else {
        finding["acceptance"].is_object().then_some("accepted")
    }
}

const FINDINGS: &[Column] = &[
    column("PRIORITY", word!("priority")),
    column("STATE", |it, _| match beside(it) {
        Some(beside) => Cell::from(beside).styled(DIM),
        None => Cell::from(text(&it["state"])).styled(style_of(&text(&it["state"]))),
    }),
    column("SOURCE", field!("source")),
    column("INSTALLED → FIXED", |it, _| {
        Cell::from(format!("{} → {}", text(&it["installed"]), text(&it["candidate"])))
    }),
    CI,
    WIDE_TENANT,
    column("SINCE", time!("opened_at")),
    wide("CVES", |it, _| Cell::from(list(&it["cves"]))),
    wide("WHY", field!("reason")),
    ID,
];

const PATCHES: &[Column] = &[
    column("PRIORITY", word!("priority")),
    column("SOURCE", field!("source")),
    column("FIXED", field!("candidate")),
    column("RELEASE", field!("release")),
    column("ITEMS", field!("items")),
    column("TENANTS", field!("tenants")),
    wide("SECURITY", |it, _| Cell::from(yes(&it["security"]))),
    ID,
];

const ADVISORIES: &[Column] = &[
    column("NAME", field!("name")),
    column("STATE", word!("state")),
    TENANT,
    column("ITEMS", |it, _| {
        let items = it["concerns"].as_array().into_iter().flatten();
        Cell::from(items.filter_map(|it| it["items"].as_u64()).sum::<u64>().to_string())
    }),
    column("SUBMITTED", time!("submitted_at")),
    wide("BY", |it, names| names.person(&text(&it["submitted_by"])).into()),
    wide("DECIDED", time!("decided_at")),
    wide("NOTE", field!("note")),
    ID,
];

const AGENTS: &[Column] = &[
    CI,
    column("STATE", word!("state")),
    column("SEEN", time!("seen_at")),
    WIDE_TENANT,
    wide("JOINED", time!("joined_at")),
    wide("EXPIRES", time!("expires_at")),
    ID,
];

const TOKENS: &[Column] = &[
    column("NAME", field!("name")),
    column("ACCESS", field!("access")),
    column("EXPIRES", time!("expires_at")),
    column("STATE", |it, _| ended(it, "revoked_at", "revoked")),
    CREATED,
    WIDE_TENANT,
    wide("USER", |it, names| names.person(&text(&it["user"])).into()),
    ID,
];

const IMAGES: &[Column] = &[
    column("NAME", |it, _| Kind::Image.name_of(it).into()),
    column("STATE", word!("state")),
    column("SINCE", |it, _| {
        let fields = ["refused_from", "state_at", "created_at"];
        let at = fields.iter().find(|field| it[**field].is_string());
        let until = if it["refused_from"].is_string() { "refused from " } else { "" };
        Cell::from(at.map_or(String::new(), |field| format!("{until}{}", moment(&it[*field]))))
    }),
    column("RELEASE", field!("release")),
    TENANT,
    wide("FORMAT", field!("format")),
    wide("SIZE", field!("size")),
    wide("SHA256", field!("sha256")),
    wide("PARENT", field!("parent")),
    CREATED,
    ID,
];

const JOBS: &[Column] = &[
    column("KIND", field!("kind")),
    column("IMAGE", |it, names| names.image(&text(&it["image"])).into()),
    column("STATE", word!("state")),
    column("STAGE", field!("stage")),
    column("CREATED", time!("created_at")),
    WIDE_TENANT,
    wide("BY", |it, names| names.person(&text(&it["created_by"])).into()),
    wide("ENDED", time!("ended_at")),
    wide("MADE", field!("made")),
    wide("ERROR", field!("error")),
    ID,
];

const CHANGES: &[Column] = &[
    column("KIND", field!("kind")),
    column("STANDS", |it, _| {
        let stage = text(&it["stage"]["is"]);
        Cell::from(&stage).styled(style_of(&stage))
    }),
    column("TITLE", field!("title")),
    column("FOUND BY", |it, names| names.tenant(&text(&it["found_by"])).into()),
    column("SINCE", time!("created_at")),
    wide("PATCHES", |it, _| Cell::from(list(&it["patches"]))),
    ID,
];

const NOTICES: &[Column] = &[
    column("KIND", field!("kind")),
    column("TITLE", field!("title")),
    TENANT,
    column("WRITTEN", time!("created_at")),
    column("GIVEN", time!("given_at")),
    column("READ BY", |it, names| names.person(&text(&it["acknowledged_by"])).into()),
    wide("CHANGE", field!("change")),
    ID,
];

const EVENTS: &[Column] = &[
    column("PLACE", field!("sequence")),
    column("AT", time!("at")),
    column("KIND", field!("kind")),
    column("OBJECT", field!("object")),
    column("BY", |it, names| names.person(&text(&it["actor"])).into()),
    wide("ROLE", field!("role")),
    WIDE_TENANT,
    wide("VERSION", field!("version")),
    wide("ID", field!("id")),
];

const RELATIONS: &[Column] = &[
    column("FROM", |it, names| names.ci(&text(&it["from"])).into()),
    column("KIND", field!("kind")),
    column("TO", |it, names| names.ci(&text(&it["to"])).into()),
    wide("FROM ID", field!("from")),
    wide("TO ID", field!("to")),
];

impl Kind {
    /// For one of it.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tenant => "tenant",
            Self::User => "user",
            Self::Ci => "ci",
            Self::Group => "group",
            Self::Finding => "finding",
            Self::Patch => "patch",
            Self::Advisory => "advisory",
            Self::Agent => "agent",
            Self::AgentToken => "agent-token",
            Self::Token => "token",
            Self::Image => "image",
            Self::Job => "job",
            Self::Change => "change",
            Self::Notice => "notice",
            Self::Event => "event",
            Self::Relation => "relation",
        }
    }

    /// The kind that a word of a file names.
    pub(crate) fn of_word(word: &str) -> Option<Self> {
        Self::value_variants().iter().copied().find(|kind| kind.word() == word)
    }

    /// Where the API has them.
    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Tenant => "/tenants",
            Self::User => "/users",
            Self::Ci | Self::Relation => "/cis",
            Self::Group => "/groups",
            Self::Finding => "/findings",
            Self::Patch => "/patches",
            Self::Advisory => "/advisories",
            Self::Agent => "/agents",
            Self::AgentToken => "/agent-tokens",
            Self::Token => "/tokens",
            Self::Image => "/images",
            Self::Job => "/jobs",
            Self::Change => "/changes",
            Self::Notice => "/notices",
            Self::Event => "/events",
        }
    }

    /// What its ids begin with.
    fn prefix(self) -> &'static str {
        match self {
            Self::Tenant => "ten_",
            Self::User => "usr_",
            Self::Ci => "ci_",
            Self::Group => "grp_",
            Self::Finding => "fnd_",
            Self::Patch => "pat_",
            Self::Advisory => "adv_",
            Self::Agent => "agt_",
            Self::AgentToken => "jnt_",
            Self::Token => "tok_",
            Self::Image => "img_",
            Self::Job => "job_",
            Self::Change => "chg_",
            Self::Notice => "ntc_",
            Self::Event => "evt_",
            Self::Relation => "rel_",
        }
    }

    /// Whether a text has the form of an id of this kind.
    pub(crate) fn is_id(self, text: &str) -> bool {
        text.strip_prefix(self.prefix()).is_some_and(|rest| {
            rest.len() == 26 && rest.bytes().all(|byte| byte.is_ascii_alphanumeric())
        })
    }

    /// Whether the API reads one of it by its id.
    pub(crate) fn has_one(self) -> bool {
        !matches!(self, Self::Token | Self::AgentToken | Self::Event | Self::Relation)
    }

    /// The fields by which people know one, the shortest first.
    pub(crate) fn name_fields(self) -> &'static [&'static str] {
        match self {
            Self::Tenant => &["slug", "name"],
            Self::User => &["login"],
            Self::Ci | Self::Group | Self::Advisory | Self::Token | Self::Image => &["name"],
            Self::Patch => &["source"],
            Self::Change | Self::Notice => &["title"],
            _ => &[],
        }
    }

    /// How one is called in what is said about it.
    pub(crate) fn name_of(self, object: &Value) -> String {
        if let (Self::Image, Some(series)) = (self, object["name"].as_str()) {
            return format!("{series}:{}", object["number"]);
        }
        let name = self.name_fields().iter().find_map(|field| object[*field].as_str());
        name.or_else(|| object["id"].as_str()).unwrap_or("?").to_owned()
    }

    /// `ci/ci_…`, for a program to go on with.
    pub(crate) fn name_line(self, object: &Value) -> String {
        match self {
            Self::Event => format!("event/{}", object["sequence"]),
            Self::Relation => {
                let part = |field: &str| text(&object[field]);
                format!("relation/{}/{}/{}", part("from"), part("kind"), part("to"))
            }
            _ => format!("{}/{}", self.word(), text(&object["id"])),
        }
    }

    /// Its columns.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Tenant => TENANTS,
            Self::User => USERS,
            Self::Ci => CIS,
            Self::Group => GROUPS,
            Self::Finding => FINDINGS,
            Self::Patch => PATCHES,
            Self::Advisory => ADVISORIES,
            Self::Agent => AGENTS,
            Self::AgentToken => &[ID],
            Self::Token => TOKENS,
            Self::Image => IMAGES,
            Self::Job => JOBS,
            Self::Change => CHANGES,
            Self::Notice => NOTICES,
            Self::Event => EVENTS,
            Self::Relation => RELATIONS,
        }
    }

    /// By what its list may be narrowed.
    pub(crate) fn filters(self) -> &'static [Filter] {
        match self {
            Self::Ci => &[
                Filter::Tenant,
                Filter::Group,
                Filter::Class,
                Filter::Name,
                Filter::Label,
                Filter::Retired,
            ],
            Self::Finding => &[
                Filter::Tenant,
                Filter::Group,
                Filter::Ci,
                Filter::Patch,
                Filter::State,
                Filter::Priority,
                Filter::Source,
            ],
            Self::Image => &[Filter::Tenant, Filter::Name],
            Self::Job => &[Filter::Image],
            Self::Notice => &[Filter::Tenant],
            Self::Event => &[Filter::From],
            Self::Relation => &[Filter::Ci],
            _ => &[],
        }
    }
}

fn ended(object: &Value, field: &str, word: &str) -> Cell {
    if object[field].is_null() {
        Cell::from("active").styled(style_of("active"))
    } else {
        Cell::from(word).styled(DIM)
    }
}

/// Labels on one line.
pub(crate) fn labels(object: &Value) -> String {
    let labels = object["labels"].as_object().into_iter().flatten();
    labels.map(|(key, value)| format!("{key}={}", text(value))).collect::<Vec<_>>().join(",")
}

/// A list of words on one line.
pub(crate) fn list(value: &Value) -> String {
    value.as_array().into_iter().flatten().map(text).collect::<Vec<_>>().join(", ")
}

/// A truth for people.
pub(crate) fn yes(value: &Value) -> &'static str {
    if value == &Value::Bool(true) { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_lead_to_their_kinds() {
        for (word, kind) in [
            ("ci", Kind::Ci),
            ("cis", Kind::Ci),
            ("fnd", Kind::Finding),
            ("patch", Kind::Patch),
            ("patches", Kind::Patch),
            ("agent-token", Kind::AgentToken),
            ("ten", Kind::Tenant),
        ] {
            assert_eq!(<Kind as ValueEnum>::from_str(word, true), Ok(kind));
        }
        assert_eq!(Kind::of_word("relation"), Some(Kind::Relation));
        assert_eq!(Kind::of_word("relations"), None);
    }

    #[test]
    fn ids_are_told_from_names() {
        assert!(Kind::Ci.is_id("ci_01h455vb4pex5vsknk084sn02q"));
        assert!(!Kind::Ci.is_id("ci_web"));
        assert!(!Kind::Ci.is_id("ten_01h455vb4pex5vsknk084sn02q"));
    }
}
