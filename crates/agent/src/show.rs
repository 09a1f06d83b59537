//! What people are shown of an agent.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use domain::change::KeyId;
use domain::order::{Demand, Ranking, Trusted};
use jiff::Timestamp;

use crate::client::AgentError;
use crate::orders::{Came, Entry, read_policy};
use crate::pin::Pinned;
use crate::state::State;

/// Refusals that the status names.
const LAST_REFUSALS: usize = 3;

/// A text without what a terminal would obey: much of what is told of an order is its sender's.
pub(crate) fn plain(text: &str) -> String {
    let harmless = |letter: char| match letter {
        '\n' | '\t' => ' ',
        letter if letter.is_control() => '\u{fffd}',
        letter => letter,
    };
    text.chars().map(harmless).collect()
}

/// What was pinned, how to compare it, and how to pin anew.
pub(crate) fn pinned(pinned: &Pinned) -> String {
    let mut text = match &pinned.before {
        None => "pinned, and stronger than what the control plane says from now on:\n".to_owned(),
        Some(before) => match changes(before, &pinned.now) {
            none if none.is_empty() => "pinned anew; it is what it was before:\n".to_owned(),
            changes => format!("pinned anew:\n{changes}\nit goes by\n"),
        },
    };
    text.push_str(&trusted(&pinned.now));
    text.push_str(
        "compare the tenant's keys with `patchwright consent key list`, and the order keys with the \
         provider\nto pin anew: `patchwright agent pin` (--consent-key and --order-key name those that \
         count)\n",
    );
    text
}

/// What an agent goes by.
pub(crate) fn trusted(trusted: &Trusted) -> String {
    let mut text = String::new();
    let mut line = |what: &str, how: &str| {
        let _ = writeln!(text, "  {what:<22}{how}");
    };
    let listed = |line: &mut dyn FnMut(&str, &str), what: &str, all: Vec<String>| {
        for (place, it) in all.iter().enumerate() {
            line(if place == 0 { what } else { "" }, it);
        }
    };
    let order_keys = trusted.order_keys().map(|key| key.to_string()).collect();
    listed(&mut line, "orders are signed by", order_keys);
    let keys = trusted.consent_keys().keys().filter(|key| key.ended.is_none());
    let keys: Vec<_> = keys.map(|key| format!("{}  {}", key.key.id, key.key.kind)).collect();
    if keys.is_empty() {
        line("the tenant signs with", "no key yet: what needs its signature is refused");
    }
    listed(&mut line, "the tenant signs with", keys);
    listed(&mut line, "its passkeys sign at", trusted.origins().map(plain).collect());
    let terms = trusted.terms();
    line("a patch needs", demand(terms.patches));
    line("an alteration needs", demand(terms.alterations));
    line("priorities", ranking(terms.ranking));
    text
}

const fn demand(demand: Demand) -> &'static str {
    match demand {
        Demand::Signature => "the tenant's signature",
        Demand::Nothing => "nothing of the tenant's",
    }
}

const fn ranking(ranking: Ranking) -> &'static str {
    match ranking {
        Ranking::Unproven => "are nobody's word: a standing rule has to cover each",
        Ranking::Provider => "are what the provider says",
    }
}

/// What is another than before; empty where nothing is.
fn changes(before: &Trusted, now: &Trusted) -> String {
    let mut text = String::new();
    let order_keys = |it: &Trusted| it.order_keys().map(|key| (key, "order key")).collect();
    let consent_keys = |it: &Trusted| {
        let keys = it.consent_keys().keys().filter(|key| key.ended.is_none());
        keys.map(|key| (key.key.id, "tenant's key")).collect()
    };
    let mut keys = |then: BTreeMap<KeyId, &str>, now: BTreeMap<KeyId, &str>| {
        for (key, what) in now.iter().filter(|(key, _)| !then.contains_key(key)) {
            let _ = writeln!(text, "  + {what:<14}{key}");
        }
        for (key, what) in then.iter().filter(|(key, _)| !now.contains_key(key)) {
            let _ = writeln!(text, "  - {what:<14}{key}");
        }
    };
    keys(order_keys(before), order_keys(now));
    keys(consent_keys(before), consent_keys(now));
    let (origins_then, origins_now): (Vec<_>, Vec<_>) =
        (before.origins().collect(), now.origins().collect());
    if origins_then != origins_now {
        let (then, now) = (plain(&origins_then.join(", ")), plain(&origins_now.join(", ")));
        let _ = writeln!(text, "  passkeys sign at {now}; before: {then}");
    }
    let (then, terms) = (before.terms(), now.terms());
    for (what, then, now) in [
        ("a patch needs", then.patches, terms.patches),
        ("an alteration needs", then.alterations, terms.alterations),
    ] {
        if then != now {
            let _ = writeln!(text, "  {what} {}; before: {}", demand(now), demand(then));
        }
    }
    if then.ranking != terms.ranking {
        let (now, then) = (ranking(terms.ranking), ranking(then.ranking));
        let _ = writeln!(text, "  priorities {now}; before: they {then}");
    }
    text
}

/// Who this agent is, what it goes by, and what somebody should know of it.
pub(crate) fn status(state: &State, policy: &Path, now: Timestamp) -> Result<String, AgentError> {
    let kept = |source| AgentError::state(state, source);
    let identity = state.identity().map_err(kept)?.ok_or(AgentError::NotJoined)?;
    let left = identity.expires_at.duration_since(now).as_hours() / 24;
    let mut text = format!(
        "control plane  {}\nagent          {}\nspeaks for     {}\ncertificate    good until {} ({left} days)\n",
        identity.url, identity.agent, identity.ci, identity.expires_at
    );
    let _ = match state.trusted().map_err(kept)? {
        Some(it) if it.agent() == identity.agent => {
            write!(text, "orders         taken; it goes by\n{}", trusted(&it))
        }
        Some(it) => writeln!(
            text,
            "orders         refused: what is pinned is {}'s (`patchwright agent pin` pins anew)",
            it.agent()
        ),
        None => writeln!(
            text,
            "orders         refused: nothing is pinned (`patchwright agent pin` does that)"
        ),
    };
    let path = policy.display();
    let _ = match read_policy(policy) {
        Ok(_) if policy.exists() => writeln!(text, "owner's policy {path}, in force"),
        Ok(_) => writeln!(text, "owner's policy {path} is not there: nothing is narrowed"),
        Err(refusal) => {
            writeln!(
                text,
                "owner's policy {path}: every order is refused\n               {}\n               {}",
                plain(&refusal.to_string()),
                refusal.help()
            )
        }
    };
    if state.directory().join("orders/journal").exists() {
        text.push_str(
            "under way      an order is being carried out, or goes on when the agent runs\n",
        );
    }
    let record = state.record().map_err(kept)?;
    for kept in stuck(state) {
        let told = record.iter().rev().find(|it| {
            it.came == Came::Stuck && it.execution.is_some_and(|id| kept.ends_with(&id.to_string()))
        });
        let because = told.and_then(|it| it.because.as_deref()).unwrap_or("nobody knows why");
        let path = state.directory().join("orders").join(&kept);
        let _ = writeln!(
            text,
            "stuck          {}\n               look at the host; journal and way back lie in `{}`; \
             remove that when it is mended",
            plain(because),
            path.display()
        );
    }
    let waiting = state.results().map_err(kept)?.len();
    if waiting > 0 {
        let _ = writeln!(text, "not told yet   results of {waiting} orders");
    }
    let refused: Vec<_> = record.iter().filter(|it| it.came == Came::Refused).collect();
    if !refused.is_empty() {
        text.push_str("last refusals  (all: `patchwright agent orders`)\n");
        for entry in refused.iter().rev().take(LAST_REFUSALS) {
            text.push_str(&line(entry));
        }
    }
    Ok(text)
}

/// Names of directories with what is left of executions that are stuck.
fn stuck(state: &State) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state.directory().join("orders")) else { return Vec::new() };
    let names = entries.flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    let mut names: Vec<_> = names.filter(|name| name.starts_with("stuck-")).collect();
    names.sort();
    names
}

/// The record of orders, the oldest first.
pub(crate) fn orders(record: &[Entry]) -> String {
    if record.is_empty() {
        return "no order came yet\n".to_owned();
    }
    record.iter().map(line).collect()
}

/// When, what, why, and the way out.
fn line(entry: &Entry) -> String {
    let at = entry.at.strftime("%Y-%m-%dT%H:%M:%SZ");
    let what = match (entry.came, &entry.refused) {
        (Came::Refused, Some(name)) => format!("refused ({name})"),
        (came, _) => came.as_str().replace('_', " "),
    };
    let mut text = format!("  {at}  {what:<22}");
    let reason = match &entry.because {
        Some(because) => because.clone(),
        None if entry.packages.is_empty() && entry.files.is_empty() => {
            "all that it says".to_owned()
        }
        None => [entry.packages.as_slice(), &entry.files].concat().join(", "),
    };
    let _ = writeln!(text, "{}", plain(&reason));
    if let Some(help) = &entry.help {
        let _ = writeln!(text, "{:24}help: {}", "", plain(help));
    }
    let plan = entry.plan.map(|plan| format!(", plan {plan}")).unwrap_or_default();
    let _ = writeln!(text, "{:24}order {}{plan}", "", entry.order);
    text
}

#[cfg(test)]
mod tests {
    use domain::change::{KeyEvent, KeyKind, KeyRing, NewKey};
    use domain::cloud::{Id, IdKind};
    use domain::order::{Ended, OrderResult, Pins, Refusal, Terms};
    use domain::version::VersionKind;

    use super::*;
    use crate::state::Identity;

    fn id<K: IdKind>(number: u8) -> Id<K> {
        Id::of_content([number; 16])
    }

    fn key(number: u8) -> KeyId {
        KeyId::from([number; 32])
    }

    fn goes_by(order_key: u8, tenants: Option<u8>, patches: Demand) -> Trusted {
        let mut consent_keys = KeyRing::new(id(2));
        if let Some(number) = tenants {
            let key = NewKey { id: key(number), kind: KeyKind::Ed25519, holder: id(1) };
            let register = KeyEvent::Register { key, by: id(1) };
            consent_keys = consent_keys.step(register, Timestamp::UNIX_EPOCH).unwrap().0;
        }
        let pins = Pins {
            agent: id(5),
            ci: id(3),
            versions: VersionKind::Dpkg,
            order_keys: [key(order_key)].into(),
            order_key_version: 1,
            consent_keys,
            origins: [].into(),
            terms: Terms { patches, alterations: Demand::Signature, ranking: Ranking::Unproven },
        };
        Trusted::join(pins, Timestamp::UNIX_EPOCH)
    }

    #[test]
    fn what_was_pinned_is_told_with_whole_ids_and_what_is_another() {
        let first = goes_by(10, None, Demand::Nothing);
        let told = pinned(&Pinned { before: None, now: first.clone() });
        assert!(told.contains(&key(10).to_string()), "{told}");
        assert!(told.contains("no key yet") && told.contains("nothing of the tenant's"), "{told}");
        assert!(told.contains("patchwright agent pin"), "{told}");
        assert!(told.contains("consent key list"), "{told}");

        let second = goes_by(11, Some(20), Demand::Signature);
        let told = pinned(&Pinned { before: Some(first.clone()), now: second });
        for line in [
            format!("+ order key     {}", key(11)),
            format!("- order key     {}", key(10)),
            format!("+ tenant's key  {}", key(20)),
            "a patch needs the tenant's signature; before: nothing of the tenant's".to_owned(),
        ] {
            assert!(told.contains(&line), "{line} is not in\n{told}");
        }
        let told = pinned(&Pinned { before: Some(first.clone()), now: first });
        assert!(told.contains("it is what it was before"), "{told}");
    }

    #[test]
    fn the_status_says_what_somebody_should_look_at() {
        let directory = tempfile::tempdir().unwrap();
        let state = State::new(directory.path().join("state"));
        let policy = directory.path().join("policy.toml");
        let ask = || status(&state, &policy, Timestamp::UNIX_EPOCH).unwrap();
        assert!(matches!(
            status(&state, &policy, Timestamp::UNIX_EPOCH),
            Err(AgentError::NotJoined)
        ));
        let identity = Identity {
            url: "https://127.0.0.1:1".to_owned(),
            agent: id(5),
            ci: id(3),
            authority: String::new(),
            certificate: String::new(),
            expires_at: Timestamp::UNIX_EPOCH,
        };
        state.keep_identity(&identity).unwrap();
        let text = ask();
        assert!(text.contains("nothing is pinned"), "{text}");
        assert!(text.contains("is not there: nothing is narrowed"), "{text}");

        state.keep_trusted(&goes_by(10, Some(20), Demand::Signature)).unwrap();
        fs::write(&policy, "rebot = 1\n").unwrap();
        let refusal = Refusal::Plan { because: "\u{1b}[2Jgone".to_owned() };
        let entry = Entry::refused([7; 16].into(), &refusal, Timestamp::UNIX_EPOCH);
        state.enter(&entry).unwrap();
        let result = OrderResult {
            execution: id(9),
            agent: id(5),
            ci: id(3),
            plan: [1; 32].into(),
            order: [2; 16].into(),
            ended: Ended::Stuck { because: "the way back failed".to_owned() },
            actions: Vec::new(),
            packages: Vec::new(),
            files: Vec::new(),
            probes: Vec::new(),
            downtime: Vec::new(),
            interruptions: 0,
            began_at: Timestamp::UNIX_EPOCH,
            ended_at: Timestamp::UNIX_EPOCH,
        };
        state.enter(&Entry::ended(&result)).unwrap();
        let aside = format!("orders/stuck-{}", result.execution);
        fs::create_dir_all(state.directory().join(&aside)).unwrap();
        let text = ask();
        for part in [
            key(10).to_string().as_str(),
            &key(20).to_string(),
            "every order is refused",
            "refused (plan)",
            "stuck          the way back failed",
            &aside,
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        assert!(!text.contains('\u{1b}'), "a terminal obeys nothing of it");
        assert!(!orders(&state.record().unwrap()).contains('\u{1b}'));
    }
}
