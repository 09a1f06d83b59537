//! What people may do: Cedar policies over roles, default deny.
//!
//! [`Gate::pass`], mostly through [`By`], is the only way from a [`Caller`] to an [`Actor`], and
//! every verb of the store wants an actor: a handler that forgets to ask cannot do anything.

use std::fs;
use std::path::Path;
use std::str::FromStr as _;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use cedar_policy::{
    Authorizer, Context, Decision, Entities, Entity, EntityId, EntityTypeName, EntityUid, PolicyId,
    PolicySet, Request, RestrictedExpression, Schema, ValidationMode, Validator,
};
use domain::cloud::{Access, Role, words};
use store::{Actor, Identity};

use crate::App;
use crate::caller::Caller;
use crate::problem::{Kind, Problem};

words! {
    /// Something that the API lets people do; the words are the actions of the policies.
    Action {
        /// Reading who one is.
        AccountRead = "account.read",
        /// Reading tenants.
        TenantRead = "tenant.read",
        /// Reading people.
        UserRead = "user.read",
        /// Reading tokens, without their secrets.
        TokenRead = "token.read",
        /// Reading configuration items and relations.
        CiRead = "ci.read",
        /// Reading what configuration items are and were configured by.
        ConfigurationRead = "configuration.read",
        /// Reading a file with its secrets.
        SecretDisclose = "secret.disclose",
        /// Reading findings and patches.
        FindingRead = "finding.read",
        /// Reading advisories that people brought.
        AdvisoryRead = "advisory.read",
        /// Reading agents.
        AgentRead = "agent.read",
        /// Reading versions of images, their bytes and what is attested about them.
        ImageRead = "image.read",
        /// Reading jobs of the lab and their logs.
        JobRead = "job.read",
        /// Reading changes, plans and clocks.
        ChangeRead = "change.read",
        /// Reading keys, rules and what was said to plans.
        ConsentRead = "consent.read",
        /// Reading SLA policies.
        SlaRead = "sla.read",
        /// Reading notices, and how they fare.
        NoticeRead = "notice.read",
        /// Reading where a tenant is told, without secrets.
        ChannelRead = "channel.read",
        /// Reading events.
        EventRead = "event.read",
        /// Reading the ledger.
        LedgerRead = "ledger.read",
        /// Signing out.
        SessionClose = "session.close",
        /// Seeing to what one signs in with.
        AccountSecure = "account.secure",
        /// Making a token for oneself.
        TokenCreate = "token.create",
        /// Taking one's own token back.
        TokenRevoke = "token.revoke",
        /// Taking back anybody's whom one may see.
        TokenRevokeAny = "token.revoke.any",
        /// Taking up a tenant.
        TenantCreate = "tenant.create",
        /// Giving a person access.
        UserCreate = "user.create",
        /// Taking a person's access away.
        UserDisable = "user.disable",
        /// Giving a person another password in place of all it had.
        UserReset = "user.reset",
        /// Taking up configuration items.
        CiCreate = "ci.create",
        /// Altering a configuration item's description.
        CiAlter = "ci.alter",
        /// Taking a configuration item out of the cloud.
        CiRetire = "ci.retire",
        /// Saying where the machine of a configuration item lives, or reading it.
        CiPlace = "ci.place",
        /// Saying how a configuration item is looked at over SSH.
        DeviceKeep = "device.keep",
        /// Saying from where a configuration item is told what it is configured by.
        SourceKeep = "source.keep",
        /// Relating configuration items.
        RelationAlter = "relation.alter",
        /// Making, altering and dissolving groups of configuration items.
        GroupAlter = "group.alter",
        /// Accepting the risk of a finding.
        FindingAccept = "finding.accept",
        /// Saying that an alteration to which nobody agreed may stay.
        DriftAdopt = "drift.adopt",
        /// Opening and closing break-glass.
        BreakGlassOpen = "break_glass.open",
        /// Saying whether what somebody else did under break-glass may stay.
        BreakGlassReview = "break_glass.review",
        /// Putting baselines in, and saying to which items they apply.
        BaselineKeep = "baseline.keep",
        /// Answering for a rule that an item does not keep.
        RuleWaive = "rule.waive",
        /// Auditing an item at once, not on its day.
        AuditRun = "audit.run",
        /// Making a token with which hosts join.
        AgentEnrol = "agent.enrol",
        /// Ending an agent.
        AgentRevoke = "agent.revoke",
        /// Handing the key that signs orders over to a new one.
        OrderKeyRotate = "order_key.rotate",
        /// Bringing an image, and taking up a version of one.
        ImageCreate = "image.create",
        /// Making a version the one that new VMs are made from.
        ImagePublish = "image.publish",
        /// Taking a version out of use, and removing its bytes then.
        ImageRetire = "image.retire",
        /// Asking the lab for something.
        JobCreate = "job.create",
        /// Calling a job off.
        JobCancel = "job.cancel",
        /// Taking up a change, and taking steps with it.
        ChangeDecide = "change.decide",
        /// Planning what a change does to a tenant's items.
        ChangePlan = "change.plan",
        /// Agreeing to another's plan for the provider.
        ChangeCountersign = "change.countersign",
        /// Saying what was found, what stands in the way, and how a rollout went.
        ChangeReport = "change.report",
        /// Bringing a tenant's signed word on a plan, or a rule.
        ConsentGive = "consent.give",
        /// Seeing to the keys that a tenant signs with.
        ConsentKeys = "consent.keys",
        /// Proposing an SLA policy, or agreeing to one.
        SlaAgree = "sla.agree",
        /// Bringing an advisory.
        AdvisorySubmit = "advisory.submit",
        /// Accepting, rejecting or withdrawing an advisory.
        AdvisoryDecide = "advisory.decide",
        /// Saying that one read a notice.
        NoticeAcknowledge = "notice.acknowledge",
        /// Trying a delivery again that was given up.
        NoticeRetry = "notice.retry",
        /// Adding a channel on which a tenant is told.
        ChannelCreate = "channel.create",
        /// Altering in which language it is written to.
        ChannelAlter = "channel.alter",
        /// Ending one.
        ChannelEnd = "channel.end",
    }
}

impl Action {
    /// Whether it alters nothing; the schema puts these into its group `read`.
    pub fn only_reads(self) -> bool {
        self.as_str().rsplit_once('.').is_some_and(|(_, verb)| verb == "read")
    }
}

/// The policies shipped, by file name.
const SHIPPED: &[(&str, &str)] = &[
    ("everybody.cedar", include_str!("../policies/everybody.cedar")),
    ("provider.cedar", include_str!("../policies/provider.cedar")),
    ("tenant.cedar", include_str!("../policies/tenant.cedar")),
];

/// In force where it is asked for.
const MFA: (&str, &str) = ("mfa.cedar", include_str!("../policies/mfa.cedar"));

const SCHEMA: &str = include_str!("../policies/schema.cedarschema");

/// Decides who may do what.
pub struct Gate {
    policies: PolicySet,
    schema: Schema,
    actions: Entities,
}

/// What the policies say to a question, and which of them said it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ruling {
    /// Whether it is permitted.
    pub is_permitted: bool,
    /// The policies that decided, in order; none where nothing permits it.
    pub by: Vec<String>,
}

/// Somebody who may do the action: `By<{ Action::CiRead as usize }>`. It stands before path and
/// body among a handler's arguments, so that nobody learns from them what they may not touch.
pub(crate) struct By<const ACTION: usize>(pub(crate) Actor);

impl<const ACTION: usize> FromRequestParts<App> for By<ACTION> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, app: &App) -> Result<Self, Problem> {
        const { assert!(ACTION < Action::ALL.len()) };
        let caller = <Caller as FromRequestParts<App>>::from_request_parts(parts, app).await?;
        app.gate.pass(caller, Action::ALL[ACTION]).map(Self)
    }
}

/// Policies that cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("the policies in `{file}` cannot be used: {reason}")]
pub struct PolicyError {
    file: String,
    reason: String,
}

impl PolicyError {
    pub(crate) fn of(file: &str, problem: &Problem) -> Self {
        Self { file: file.to_owned(), reason: problem.detail().to_owned() }
    }
}

impl Gate {
    /// The policies that Patchwright ships; with the one that the provider's people must prove more
    /// than a password, where that is wanted.
    ///
    /// # Errors
    /// If they do not parse or break their schema.
    pub fn shipped(requires_mfa: bool) -> Result<Self, PolicyError> {
        let mut files = SHIPPED.to_vec();
        if requires_mfa {
            files.push(MFA);
        }
        Self::of(&files)
    }

    /// The policies of a directory: every `.cedar` in it, `mfa.cedar` where it is wanted.
    ///
    /// # Errors
    /// If they cannot be read, do not parse or break the schema.
    pub fn read(directory: &Path, requires_mfa: bool) -> Result<Self, PolicyError> {
        let unreadable =
            |path: &Path, reason: String| PolicyError { file: path.display().to_string(), reason };
        let mut paths: Vec<_> = fs::read_dir(directory)
            .and_then(|entries| entries.map(|it| Ok(it?.path())).collect::<Result<_, _>>())
            .map_err(|error| unreadable(directory, error.to_string()))?;
        paths.retain(|path| path.extension().is_some_and(|it| it == "cedar"));
        paths.retain(|path| requires_mfa || path.file_name().is_none_or(|it| it != MFA.0));
        paths.sort();
        if paths.is_empty() {
            return Err(unreadable(directory, "it holds no policies".to_owned()));
        }
        let texts = paths
            .iter()
            .map(|path| {
                let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
                fs::read_to_string(path)
                    .map(|text| (name, text))
                    .map_err(|error| unreadable(path, error.to_string()))
            })
            .collect::<Result<Vec<_>, _>>()?;
        let files: Vec<_> = texts.iter().map(|(name, text)| (&**name, &**text)).collect();
        Self::of(&files)
    }

    /// Policies by file name, validated against the schema.
    pub(crate) fn of(files: &[(&str, &str)]) -> Result<Self, PolicyError> {
        let wrong = |file: &str, reason: String| PolicyError { file: file.to_owned(), reason };
        let (schema, _) = Schema::from_cedarschema_str(SCHEMA)
            .map_err(|error| wrong("schema.cedarschema", error.to_string()))?;
        let actions = schema
            .action_entities()
            .map_err(|error| wrong("schema.cedarschema", error.to_string()))?;
        let mut policies = PolicySet::new();
        for (file, text) in files {
            let parsed =
                PolicySet::from_str(text).map_err(|error| wrong(file, error.to_string()))?;
            for policy in parsed.policies() {
                let name = policy.annotation("id").unwrap_or(file);
                policies
                    .add(policy.new_id(PolicyId::new(name)))
                    .map_err(|error| wrong(file, error.to_string()))?;
            }
        }
        let outcome = Validator::new(schema.clone()).validate(&policies, ValidationMode::Strict);
        if let Some(error) = outcome.validation_errors().next() {
            return Err(wrong("policies", error.to_string()));
        }
        Ok(Self { policies, schema, actions })
    }

    /// Lets a caller act, or tells why not.
    ///
    /// # Errors
    /// 403 where no policy permits it.
    pub fn pass(&self, caller: Caller, action: Action) -> Result<Actor, Problem> {
        if self.permits(&caller, action) {
            return Ok(caller.identity.actor);
        }
        if !caller.identity.is_strong && self.permits(&caller.strengthened(), action) {
            return Err(Problem::new(
                Kind::Forbidden,
                format!("`{action}` asks for a second factor"),
            )
            .help("set up codes or a passkey at /account, then sign in with it"));
        }
        let (role, access) = (caller.identity.actor.role_word(), caller.identity.access);
        let detail = format!("`{action}` is not for the role {role} with {access} access");
        Err(Problem::new(Kind::Forbidden, detail)
            .help("ask somebody who may, or use a token with write access"))
    }

    /// Whether a caller may act.
    pub fn permits(&self, caller: &Caller, action: Action) -> bool {
        self.decide(&caller.identity, action).unwrap_or(false)
    }

    /// What the policies say to somebody with a role, who proved so much, and may read or write.
    pub fn rule(&self, role: Role, access: Access, mfa: bool, action: Action) -> Ruling {
        let nothing = Ruling { is_permitted: false, by: Vec::new() };
        self.ask("somebody", role, access, mfa, action).unwrap_or(nothing)
    }

    /// `None` where the question itself is malformed, which permits nothing.
    fn decide(&self, identity: &Identity, action: Action) -> Option<bool> {
        let Identity { actor, access, is_strong, .. } = identity;
        let Actor::Person { role, .. } = actor else { return None };
        let ruling = self.ask(&actor.id(), *role, *access, *is_strong, action)?;
        Some(ruling.is_permitted)
    }

    fn ask(
        &self,
        who: &str,
        role: Role,
        access: Access,
        is_strong: bool,
        action: Action,
    ) -> Option<Ruling> {
        let uid = |kind: &str, id: &str| {
            Some(EntityUid::from_type_name_and_id(
                EntityTypeName::from_str(kind).ok()?,
                EntityId::new(id),
            ))
        };
        let user = uid("User", who)?;
        let word = |text: &str| RestrictedExpression::new_string(text.to_owned());
        let attributes = [
            ("role".to_owned(), word(role.as_str())),
            ("side".to_owned(), word(role.side().as_str())),
        ];
        let entity =
            Entity::new(user.clone(), attributes.into(), std::collections::HashSet::new()).ok()?;
        let entities = self.actions.clone().add_entities([entity], Some(&self.schema)).ok()?;
        let context = Context::from_pairs([
            ("access".to_owned(), word(access.as_str())),
            ("mfa".to_owned(), RestrictedExpression::new_bool(is_strong)),
        ])
        .ok()?;
        let request = Request::new(
            user,
            uid("Action", action.as_str())?,
            uid("Cloud", "cloud")?,
            context,
            Some(&self.schema),
        )
        .ok()?;
        let response = Authorizer::new().is_authorized(&request, &self.policies, &entities);
        let name = |id: &PolicyId| AsRef::<str>::as_ref(id).to_owned();
        let mut by: Vec<_> = response.diagnostics().reason().map(name).collect();
        by.sort();
        Some(Ruling { is_permitted: response.decision() == Decision::Allow, by })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::cloud::{PROVIDER, UserId};
    use std::fmt::Write as _;

    fn table(gate: &Gate, access: Access, is_strong: bool) -> String {
        let mut table = String::new();
        for &action in Action::ALL {
            write!(table, "{action:<16}").unwrap();
            for &role in Role::ALL {
                let user = UserId::new(jiff::Timestamp::UNIX_EPOCH, [0; 10]);
                let actor = Actor::Person { user, tenant: PROVIDER, role };
                let identity = Identity { actor, access, is_strong, session: None };
                let may = gate.decide(&identity, action).unwrap();
                table.push_str(if may { " yes" } else { "  - " });
            }
            table.push('\n');
        }
        table
    }

    /// Roles in their order: operator, approver, auditor, admin; owner, approver, viewer.
    #[test]
    fn who_may_do_what() {
        let expected = "\
account.read     yes yes yes yes yes yes yes
tenant.read      yes yes yes yes yes yes yes
user.read        yes yes yes yes yes yes yes
token.read       yes yes yes yes yes yes yes
ci.read          yes yes yes yes yes yes yes
configuration.read yes yes yes yes yes yes yes
secret.disclose   -   -   -  yes yes  -   - 
finding.read     yes yes yes yes yes yes yes
advisory.read    yes yes yes yes yes yes yes
agent.read       yes yes yes yes yes yes yes
image.read       yes yes yes yes yes yes yes
job.read         yes yes yes yes yes yes yes
change.read      yes yes yes yes yes yes yes
consent.read     yes yes yes yes yes yes yes
sla.read         yes yes yes yes yes yes yes
notice.read      yes yes yes yes yes yes yes
channel.read     yes yes yes yes yes yes yes
event.read       yes yes yes yes yes yes yes
ledger.read      yes yes yes yes yes yes yes
session.close    yes yes yes yes yes yes yes
account.secure   yes yes yes yes yes yes yes
token.create     yes yes yes yes yes yes yes
token.revoke     yes yes yes yes yes yes yes
token.revoke.any  -   -   -  yes yes  -   - 
tenant.create     -   -   -  yes  -   -   - 
user.create       -   -   -  yes yes  -   - 
user.disable      -   -   -  yes yes  -   - 
user.reset        -   -   -  yes yes  -   - 
ci.create        yes  -   -  yes yes  -   - 
ci.alter         yes  -   -  yes yes  -   - 
ci.retire        yes  -   -  yes yes  -   - 
ci.place         yes  -   -  yes  -   -   - 
device.keep      yes  -   -  yes  -   -   - 
source.keep      yes  -   -  yes yes  -   - 
relation.alter   yes  -   -  yes yes  -   - 
group.alter      yes  -   -  yes yes  -   - 
finding.accept    -  yes  -  yes yes yes  - 
drift.adopt       -  yes  -  yes yes yes  - 
break_glass.open yes  -   -  yes yes  -   - 
break_glass.review  -  yes  -  yes yes yes  - 
baseline.keep    yes  -   -  yes yes  -   - 
rule.waive        -  yes  -  yes yes yes  - 
audit.run        yes yes yes yes yes yes  - 
agent.enrol      yes  -   -  yes yes  -   - 
agent.revoke     yes  -   -  yes yes  -   - 
order_key.rotate  -   -   -  yes  -   -   - 
image.create     yes  -   -  yes yes  -   - 
image.publish    yes  -   -  yes yes  -   - 
image.retire     yes  -   -  yes yes  -   - 
job.create       yes  -   -  yes yes  -   - 
job.cancel       yes  -   -  yes yes  -   - 
change.decide    yes  -   -  yes  -   -   - 
change.plan      yes  -   -  yes  -   -   - 
change.countersign  -  yes  -  yes  -   -   - 
change.report    yes  -   -  yes  -   -   - 
consent.give      -   -   -   -  yes yes  - 
consent.keys      -   -   -   -  yes  -   - 
sla.agree         -   -   -  yes yes  -   - 
advisory.submit  yes yes yes yes yes yes  - 
advisory.decide  yes  -   -  yes yes yes  - 
notice.acknowledge yes yes  -  yes yes yes  - 
notice.retry     yes  -   -  yes  -   -   - 
channel.create   yes  -   -  yes yes  -   - 
channel.alter    yes  -   -  yes yes  -   - 
channel.end      yes  -   -  yes yes  -   - 
";
        let gate = Gate::shipped(false).unwrap();
        assert_eq!(table(&gate, Access::Write, false), expected);
        let strict = Gate::shipped(true).unwrap();
        assert_eq!(table(&strict, Access::Write, true), expected);
    }

    /// Until they prove more, the provider's people see who they are and set up what they lack.
    #[test]
    fn where_it_is_required_a_password_alone_opens_little() {
        let strict = Gate::shipped(true).unwrap();
        for line in table(&strict, Access::Write, false).lines() {
            let (action, _) = line.split_once(' ').unwrap();
            let is_free = ["account.read", "account.secure", "session.close"].contains(&action);
            let provider = &line[16..16 + 4 * 4];
            assert_eq!(provider.contains("yes"), is_free, "{line}");
        }
    }

    #[test]
    fn a_reading_token_alters_nothing_whoever_it_acts_for() {
        let table = table(&Gate::shipped(false).unwrap(), Access::Read, true);
        for line in table.lines() {
            let (action, _) = line.split_once(' ').unwrap();
            let is_read = action.rsplit('.').next() == Some("read");
            assert_eq!(line.contains("yes"), is_read, "{line}");
        }
    }

    #[test]
    fn a_policy_that_breaks_the_schema_is_refused() {
        let unknown = "permit (principal, action, resource) when { principal.rank == \"x\" };";
        let refused = Gate::of(&[("own.cedar", unknown)]).err().unwrap();
        assert!(refused.to_string().contains("rank"), "{refused}");

        let refused = Gate::of(&[("own.cedar", "permit (")]).err().unwrap();
        assert!(refused.to_string().starts_with("the policies in `own.cedar`"), "{refused}");
    }
}
