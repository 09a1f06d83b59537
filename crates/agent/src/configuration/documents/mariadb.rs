//! MariaDB servers of this host: variables, accounts and what they may. Each is asked over its socket, without a password.

use std::collections::BTreeMap;

use super::host::{Account, Host, Question, Status};
use super::page::{self, Unseen};
use super::sockets::listening_paths;
use super::{Page, Pages, accounts};

/// How sockets of servers are called.
const SOCKETS: [&str; 3] = ["mysqld.sock", "mysql.sock", "mariadb.sock"];

/// Where distributions have the one server.
const USUAL: [&str; 4] = [
    "/run/mysqld/mysqld.sock",
    "/var/run/mysqld/mysqld.sock",
    "/var/lib/mysql/mysql.sock",
    "/run/mariadb/mariadb.sock",
];

/// Most servers.
const MOST: usize = 50;

/// Alter while the server works, or belong to a session.
const VOLATILE: &[&str] = &[
    "error_count",
    "gtid_binlog_pos",
    "gtid_binlog_state",
    "gtid_current_pos",
    "gtid_slave_pos",
    "identity",
    "in_transaction",
    "innodb_buffer_pool_load_now",
    "insert_id",
    "last_gtid",
    "last_insert_id",
    "proxy_user",
    "pseudo_slave_mode",
    "pseudo_thread_id",
    "rand_seed1",
    "rand_seed2",
    "skip_parallel_replication",
    "timestamp",
    "warning_count",
    "wsrep_start_position",
];

const VARIABLES: &str = "SHOW GLOBAL VARIABLES";

/// Accounts with how they prove who they are, never with what; and what each may on what.
const ACCOUNTS: &str = "SELECT 'account', CONCAT(QUOTE(User), '@', QUOTE(Host)), \
    CONCAT_WS(' ', IF(is_role = 'Y', 'role', CONCAT('plugin ', IF(plugin = '', 'mysql_native_password', plugin))), \
    IF(is_role <> 'Y' AND authentication_string = '' AND Password = '', 'without a password', NULL), \
    IF(password_expired = 'Y', 'password expired', NULL), \
    IF(ssl_type <> '', CONCAT('requires ', ssl_type), NULL), \
    IF(default_role <> '', CONCAT('default role ', default_role), NULL)) FROM mysql.user \
    UNION ALL SELECT 'account', CONCAT(QUOTE(User), '@', QUOTE(Host)), \
    IF(JSON_VALUE(Priv, '$.account_locked') = 1, 'locked', 'not locked') FROM mysql.global_priv \
    UNION ALL SELECT 'account', CONCAT(QUOTE(User), '@', QUOTE(Host)), \
    CONCAT('or by ', REPLACE(JSON_EXTRACT(Priv, '$.auth_or[*].plugin'), '\"', '')) FROM mysql.global_priv \
    WHERE JSON_EXISTS(Priv, '$.auth_or') \
    UNION ALL SELECT 'role', CONCAT(QUOTE(User), '@', QUOTE(Host)), \
    CONCAT('member of ', QUOTE(Role), IF(Admin_option = 'Y', ' with admin option', '')) FROM mysql.roles_mapping \
    UNION ALL SELECT 'grant', GRANTEE, CONCAT(PRIVILEGE_TYPE, ' on *.*', IF(IS_GRANTABLE = 'YES', ' with grant option', '')) \
    FROM information_schema.USER_PRIVILEGES \
    UNION ALL SELECT 'grant', GRANTEE, CONCAT(PRIVILEGE_TYPE, ' on ', TABLE_SCHEMA, '.*', \
    IF(IS_GRANTABLE = 'YES', ' with grant option', '')) FROM information_schema.SCHEMA_PRIVILEGES \
    UNION ALL SELECT 'grant', GRANTEE, CONCAT(PRIVILEGE_TYPE, ' on ', TABLE_SCHEMA, '.', TABLE_NAME, \
    IF(IS_GRANTABLE = 'YES', ' with grant option', '')) FROM information_schema.TABLE_PRIVILEGES \
    UNION ALL SELECT 'grant', GRANTEE, CONCAT(PRIVILEGE_TYPE, ' on ', TABLE_SCHEMA, '.', TABLE_NAME, ' (', COLUMN_NAME, ')', \
    IF(IS_GRANTABLE = 'YES', ' with grant option', '')) FROM information_schema.COLUMN_PRIVILEGES";

/// All servers that run here.
pub(super) fn servers(host: &dyn Host) -> Pages {
    let is_socket = |path: &String| SOCKETS.iter().any(|it| path.rsplit('/').next() == Some(it));
    let paths: Vec<_> = listening_paths(host)?.into_iter().filter(is_socket).collect();
    if paths.len() > MOST {
        return Err(Unseen::new(format!("there are more than {MOST} servers")));
    }
    let mut pages = BTreeMap::new();
    for path in paths {
        let Ok(status) = host.status(&path) else { continue };
        let name = match path.rsplit_once('/') {
            _ if USUAL.contains(&path.as_str()) => "main",
            Some((directory, _)) => directory.trim_start_matches('/'),
            None => continue,
        };
        let name = |document: &str| format!("database:mariadb/{name}/{document}");
        pages.insert(
            name("variables"),
            asked(host, &path, status, VARIABLES).map(|it| variables(&it)),
        );
        pages.insert(name("accounts"), asked(host, &path, status, ACCOUNTS).map(|it| grants(&it)));
    }
    Ok(pages)
}

/// Asks as the account that the server runs as. Where that may not ask, as root, but only what runs as the account of
/// the distribution's server or as root: nobody else is told by root anything.
fn asked(host: &dyn Host, socket: &str, status: Status, statement: &str) -> Page {
    let by = status.user;
    let account = accounts::name(host, by.uid)
        .ok_or_else(|| Unseen::new(format!("it runs as {}, an account without a name", by.uid)))?;
    let first = ask(host, socket, by, &account, statement);
    match first {
        Err(because) if account == "mysql" => {
            let root = Account { uid: 0, gid: 0 };
            ask(host, socket, root, "root", statement).map_err(|_| because)
        }
        answer => answer,
    }
}

fn ask(host: &dyn Host, socket: &str, by: Account, account: &str, statement: &str) -> Page {
    let argv = [
        "mariadb",
        // Nobody's files say otherwise.
        "--no-defaults",
        "--batch",
        "--skip-column-names",
        "--protocol=socket",
        "--socket",
        socket,
        // A server must not be able to ask for files.
        "--local-infile=0",
        "--connect-timeout=5",
        "--user",
        account,
        "--execute",
        statement,
    ];
    host.ask(&Question { argv: &argv, by: Some(by) })?.told("mariadb")
}

fn variables(text: &str) -> String {
    let fact = |line: &str| {
        let (name, value) = line.split_once('\t').unwrap_or((line, ""));
        let is_left_out = VOLATILE.contains(&name) || name.starts_with("wsrep_provider_options");
        (!is_left_out && !name.is_empty()).then(|| format!("{name} = {value}"))
    };
    page::sorted(text.lines().filter_map(fact))
}

fn grants(text: &str) -> String {
    let fact = |line: &str| {
        let mut fields = line.splitn(3, '\t');
        let (kind, who, what) = (fields.next()?, fields.next()?, fields.next()?);
        Some(match kind {
            "grant" => format!("{who} may {what}"),
            _ => format!("{who}: {what}"),
        })
    };
    page::sorted(text.lines().filter_map(fact))
}

#[cfg(test)]
mod tests;
