//! PostgreSQL servers of this host: settings, who may connect how, roles. Each is asked over its socket, as the account
//! that it runs as: nobody else's word, and no more rights than its own.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::host::{Account, Answer, Host, Question};
use super::page::{self, Unseen};
use super::sockets::listening_paths;
use super::{Page, Pages};

/// Where Debian keeps what clusters are configured by.
const CLUSTERS: &str = "/etc/postgresql";

/// Most servers.
const MOST: usize = 50;

/// A server.
struct Cluster {
    name: String,
    directory: String,
    port: u16,
    /// As whom it runs; none where it does not.
    by: Option<Account>,
}

/// A document of a server, and the statement that answers it with one JSON object for each fact.
const DOCUMENTS: [(&str, &str); 3] = [
    (
        "settings",
        "SELECT pg_catalog.json_build_object('name', name, 'value', setting, 'unit', unit, 'source', source, \
         'pending', pending_restart) FROM pg_catalog.pg_settings",
    ),
    (
        "hba",
        "SELECT pg_catalog.json_build_object('type', type, 'databases', database, 'users', user_name, \
         'address', address, 'netmask', netmask, 'method', auth_method, 'options', options, 'error', error) \
         FROM pg_catalog.pg_hba_file_rules ORDER BY line_number",
    ),
    (
        "roles",
        "SELECT pg_catalog.json_build_object('role', a.rolname, 'attributes', pg_catalog.json_build_array( \
         CASE WHEN a.rolsuper THEN 'superuser' END, CASE WHEN a.rolinherit THEN 'inherit' END, \
         CASE WHEN a.rolcreaterole THEN 'createrole' END, CASE WHEN a.rolcreatedb THEN 'createdb' END, \
         CASE WHEN a.rolcanlogin THEN 'login' END, CASE WHEN a.rolreplication THEN 'replication' END, \
         CASE WHEN a.rolbypassrls THEN 'bypassrls' END), \
         'limit', a.rolconnlimit, \
         'until', a.rolvaliduntil, 'password', CASE WHEN a.rolpassword IS NULL THEN 'none' \
         WHEN a.rolpassword LIKE 'SCRAM-SHA-256$%' THEN 'scram-sha-256' \
         WHEN a.rolpassword LIKE 'md5%' THEN 'md5' ELSE 'other' END, \
         'settings', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('database', d.datname, 'settings', s.setconfig)) \
         FROM pg_catalog.pg_db_role_setting s LEFT JOIN pg_catalog.pg_database d ON d.oid = s.setdatabase \
         WHERE s.setrole = a.oid), \
         'member_of', (SELECT pg_catalog.json_agg(pg_catalog.json_build_object('role', r.rolname, 'admin', m.admin_option)) \
         FROM pg_catalog.pg_auth_members m JOIN pg_catalog.pg_authid r ON r.oid = m.roleid WHERE m.member = a.oid)) \
         FROM pg_catalog.pg_authid a",
    ),
];

/// Of our own session, and not of the server.
const SESSION: &[&str] = &[
    "application_name",
    "client_encoding",
    "is_superuser",
    "role",
    "seed",
    "session_authorization",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
];

#[derive(Deserialize)]
struct Setting {
    name: String,
    value: Option<String>,
    unit: Option<String>,
    source: String,
    pending: bool,
}

#[derive(Deserialize)]
struct Rule {
    #[serde(rename = "type")]
    kind: Option<String>,
    databases: Option<Vec<String>>,
    users: Option<Vec<String>>,
    address: Option<String>,
    netmask: Option<String>,
    method: Option<String>,
    options: Option<Vec<String>>,
    error: Option<String>,
}

#[derive(Deserialize)]
struct Role {
    #[serde(rename = "role")]
    name: String,
    /// Each that it has.
    attributes: Vec<Option<String>>,
    limit: i32,
    until: Option<String>,
    password: String,
    settings: Option<Vec<RoleSettings>>,
    member_of: Option<Vec<Membership>>,
}

#[derive(Deserialize)]
struct RoleSettings {
    database: Option<String>,
    settings: Option<Vec<String>>,
}

#[derive(Deserialize)]
struct Membership {
    role: String,
    admin: bool,
}

/// All servers that run, and those that are configured and do not.
pub(super) fn clusters(host: &dyn Host) -> Pages {
    let mut found = running(host)?;
    for cluster in configured(host) {
        let its = found.iter().position(|it| cluster.is(it));
        let Configured { name, port, .. } = cluster;
        match its {
            Some(place) => found[place].name = name,
            None => found.push(Cluster { name, directory: String::new(), port, by: None }),
        }
    }
    if found.len() > MOST {
        return Err(Unseen::new(format!("there are more than {MOST} servers")));
    }
    let mut pages = BTreeMap::new();
    let client = client(host);
    for cluster in found {
        for (document, statement) in DOCUMENTS {
            let name = format!("database:postgresql/{}/{document}", cluster.name);
            let page =
                asked(host, &client, &cluster, statement).and_then(|answer| match document {
                    "settings" => settings(&answer),
                    "hba" => rules(&answer),
                    _ => roles(&answer),
                });
            pages.insert(name, page);
        }
    }
    Ok(pages)
}

/// Servers whose sockets somebody listens on, by the path of these.
fn running(host: &dyn Host) -> Result<Vec<Cluster>, Unseen> {
    let mut found = Vec::new();
    for path in listening_paths(host)? {
        let Some((directory, port)) = path.split_once("/.s.PGSQL.") else { continue };
        let (Ok(port), Ok(status)) = (port.parse(), host.status(&path)) else { continue };
        let name = format!("{}/{port}", directory.trim_start_matches('/'));
        let (directory, by) = (real(directory), Some(status.user));
        found.push(Cluster { name, directory, port, by });
    }
    // A server may listen in several directories.
    found.sort_by(|a, b| (a.port, &a.name).cmp(&(b.port, &b.name)));
    Ok(found)
}

/// A cluster as Debian configures it.
struct Configured {
    name: String,
    directories: Vec<String>,
    port: u16,
    by: Account,
}

impl Configured {
    /// Whether a server is this cluster's: somebody else may have one on a port of this number, elsewhere.
    fn is(&self, it: &Cluster) -> bool {
        let has = self.directories.contains(&it.directory);
        has && self.port == it.port && it.by.is_some_and(|by| by.uid == self.by.uid)
    }
}

/// Clusters that Debian configures.
fn configured(host: &dyn Host) -> Vec<Configured> {
    let mut found = Vec::new();
    for version in host.names(CLUSTERS).unwrap_or_default() {
        for name in host.names(&format!("{CLUSTERS}/{version}")).unwrap_or_default() {
            let path = format!("{CLUSTERS}/{version}/{name}/postgresql.conf");
            let (Ok(text), Ok(status)) = (host.read(&path), host.status(&path)) else { continue };
            let text = String::from_utf8_lossy(&text);
            let port = value(&text, "port").and_then(|it| it.parse().ok());
            let directories = value(&text, "unix_socket_directories");
            let directories = directories.unwrap_or_else(|| "/var/run/postgresql".to_owned());
            found.push(Configured {
                name: format!("{version}-{name}"),
                directories: directories.split(',').map(|it| real(it.trim())).collect(),
                port: port.unwrap_or(5432),
                by: status.user,
            });
        }
    }
    found
}

/// What a file of settings says of one; the last one counts.
fn value(text: &str, name: &str) -> Option<String> {
    text.lines().rev().find_map(|line| {
        let value = line.trim().strip_prefix(name)?;
        let value = value.strip_prefix([' ', '\t', '='])?.trim_start_matches([' ', '\t', '=']);
        let value = match value.strip_prefix('\'') {
            Some(quoted) => quoted.split('\'').next()?,
            None => value.split('#').next()?.trim(),
        };
        Some(value.to_owned())
    })
}

/// `/var/run` is `/run`, wherever somebody says the one for the other.
fn real(directory: &str) -> String {
    match directory.strip_prefix("/var/run/") {
        Some(below) => format!("/run/{below}"),
        None => directory.to_owned(),
    }
}

/// The newest client: distributions keep it out of the path, behind a script that takes longer than the question.
fn client(host: &dyn Host) -> String {
    let versions = host.names("/usr/lib/postgresql").unwrap_or_default();
    let newest = versions.iter().filter_map(|it| it.parse::<u32>().ok()).max();
    let path = newest.map(|it| format!("/usr/lib/postgresql/{it}/bin/psql"));
    path.filter(|it| host.status(it).is_ok()).unwrap_or_else(|| "psql".to_owned())
}

fn asked(
    host: &dyn Host,
    client: &str,
    cluster: &Cluster,
    statement: &str,
) -> Result<Vec<String>, Unseen> {
    let Cluster { directory, port, by, .. } = cluster;
    let Some(by) = *by else { return Err(Unseen::new("its server does not run")) };
    let account = super::accounts::name(host, by.uid)
        .ok_or_else(|| Unseen::new(format!("it runs as {}, an account without a name", by.uid)))?;
    let port = port.to_string();
    let at = ["-h", directory, "-p", &port, "-U", &account, "-d", "postgres"];
    let argv = [&[client, "-XAtqw"][..], &at, &["-c", statement]].concat();
    let answer: Answer = host.ask(&Question { argv: &argv, by: Some(by) })?;
    Ok(answer.told("psql")?.lines().map(str::to_owned).collect())
}

fn parsed<'a, T: Deserialize<'a>>(lines: &'a [String]) -> Result<Vec<T>, Unseen> {
    let each = lines.iter().filter(|line| !line.is_empty());
    each.map(|line| serde_json::from_str(line))
        .collect::<Result<_, _>>()
        .map_err(|_| Unseen::new("the server's answer is not understood"))
}

fn settings(lines: &[String]) -> Page {
    let settings: Vec<Setting> = parsed(lines)?;
    let facts = settings.into_iter().filter(|it| !SESSION.contains(&it.name.as_str())).map(|it| {
        let Setting { name, value, unit, source, pending } = it;
        let unit = unit.map(|unit| format!(" {unit}")).unwrap_or_default();
        let pending = if pending { ", after a restart another" } else { "" };
        format!("{name} = {}{unit} ({source}{pending})", value.unwrap_or_default())
    });
    Ok(page::sorted(facts))
}

fn rules(lines: &[String]) -> Page {
    let rules: Vec<Rule> = parsed(lines)?;
    let facts = rules.into_iter().map(|it| {
        let Rule { kind, databases, users, address, netmask, method, options, error } = it;
        if kind.is_none() || error.is_some() {
            let error = error.unwrap_or_else(|| "the server does not say why".to_owned());
            return format!("not understood: {error}");
        }
        let list = |them: Option<Vec<String>>| them.unwrap_or_default().join(",");
        let (databases, users) = (list(databases), list(users));
        let words = [kind, Some(databases), Some(users), address, netmask, method];
        let mut words: Vec<_> = words.into_iter().flatten().collect();
        words.extend(options.unwrap_or_default());
        words.join(" ")
    });
    // The first one that fits counts.
    Ok(page::in_order(facts))
}

fn roles(lines: &[String]) -> Page {
    let roles: Vec<Role> = parsed(lines)?;
    let mut facts = Vec::new();
    for it in roles {
        let role = &it.name;
        for attribute in it.attributes.into_iter().flatten() {
            facts.push(format!("role {role}: {attribute}"));
        }
        if it.limit >= 0 {
            facts.push(format!("role {role}: connection limit {}", it.limit));
        }
        if let Some(until) = it.until {
            facts.push(format!("role {role}: valid until {until}"));
        }
        // Which kind of password, never which.
        facts.push(format!("role {role}: authenticates with {}", it.password));
        for Membership { role: of, admin } in it.member_of.unwrap_or_default() {
            let admin = if admin { " with admin option" } else { "" };
            facts.push(format!("role {role}: member of {of}{admin}"));
        }
        for RoleSettings { database, settings } in it.settings.unwrap_or_default() {
            let place = database.map(|it| format!(" in database {it}")).unwrap_or_default();
            for setting in settings.unwrap_or_default() {
                facts.push(format!("role {role}{place}: set {setting}"));
            }
        }
    }
    Ok(page::sorted(facts))
}

#[cfg(test)]
mod tests;
