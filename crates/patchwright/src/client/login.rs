//! `patchwright login`, `logout` and `context`.

use std::fs;
use std::io::{self, BufRead, IsTerminal as _, Read as _, Write as _};
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, Result, anyhow};
use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::connection::{Change, Connection, Refused, certificates};
use super::contexts::{Access, Context, ContextFile, USUAL};
use super::names::Names;
use super::output::{Cell, Table, moment};
use super::secret::Secret;
use crate::failure::{find, helped, usage};
use crate::text::plain;

/// Where a control plane of this machine listens.
const HERE: &str = "http://127.0.0.1:7878";

/// Longest file of certificates.
const LONGEST_CA: u64 = 1 << 20;

/// Longest line read where nobody types.
const LONGEST_LINE: u64 = 4096;

/// Sign in to a control plane, and keep it as a context.
#[derive(Debug, Args)]
pub(crate) struct LoginArgs {
    /// Its address, where the console opens. By default the context's, or this machine's.
    url: Option<String>,
    /// How to call the context.
    #[arg(long, value_name = "NAME", env = "PATCHWRIGHT_CONTEXT")]
    context: Option<String>,
    /// As whom; asked for otherwise.
    #[arg(long, value_name = "NAME", conflicts_with = "token_stdin")]
    login: Option<String>,
    /// Read an API token from standard input, instead of asking for login and password.
    #[arg(long)]
    token_stdin: bool,
    /// Believe only certificates of this private CA there (PEM). It is kept in the context.
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Sign out, and forget the secret.
#[derive(Debug, Args)]
pub(crate) struct LogoutArgs {
    #[command(flatten)]
    access: Access,
}

/// Keep several control planes apart.
#[derive(Debug, Args)]
pub(crate) struct ContextArgs {
    #[command(subcommand)]
    command: ContextCommand,
}

#[derive(Debug, Subcommand)]
enum ContextCommand {
    /// List the contexts; a star stands at the current one.
    List,
    /// Use this one from now on.
    Use {
        /// Which.
        name: String,
    },
    /// Forget this one, without signing out.
    Delete {
        /// Which.
        name: String,
    },
}

/// Signs in.
pub(crate) fn login(arguments: &LoginArgs) -> Result<ExitCode> {
    let file = ContextFile::usual()?;
    let mut contexts = file.load()?;
    let named = arguments.context.clone().filter(|name| !name.is_empty());
    let name = named.or_else(|| contexts.current.clone());
    let name = name.unwrap_or_else(|| USUAL.to_owned());
    check_name(&name)?;
    let known = contexts.contexts.get(&name);
    let url = match (&arguments.url, known) {
        (Some(url), _) => url.trim_end_matches('/').to_owned(),
        (None, Some(known)) => known.url.clone(),
        (None, None) => HERE.to_owned(),
    };
    let ca = match &arguments.ca {
        Some(path) => Some(read_ca(path)?),
        None => known.filter(|known| known.url == url).and_then(|known| known.ca.clone()),
    };
    let anybody = Connection::new(&url, ca.as_deref(), None)?;
    let (secret, login) = if arguments.token_stdin {
        (Secret::new(line_of_stdin("token")?), None)
    } else {
        let (login, password) = ask(arguments.login.as_deref())?;
        let sign_in = |code: Option<&str>| {
            let body = json!({ "login": login, "password": password.reveal(), "code": code });
            let change = Change { body: Some(&body), ..Change::of("POST", "/session") };
            anybody.change(&change).map(|answer| answer.body)
        };
        let answer = match sign_in(None) {
            Err(error) if asks_for_a_code(&error) => sign_in(Some(&typed_code()?))?,
            outcome => outcome?,
        };
        let secret = answer["secret"].as_str().ok_or_else(|| anyhow!("no session was answered"))?;
        (Secret::new(secret), Some((login, answer["expires_at"].clone())))
    };
    let connection = Connection::new(&url, ca.as_deref(), Some(secret.clone()))?;
    let account = connection.get("/session").map_err(|error| match find::<Refused>(&error) {
        Some(refused) if refused.status == 401 => {
            helped(error, "this token is not good here: make one with `patchwright create token`")
        }
        _ => error,
    })?;
    let (login, expires_at) = login.map_or((None, Value::Null), |(login, at)| (Some(login), at));
    let expires_at = expires_at.as_str().and_then(|at| at.parse().ok());
    let context =
        Context { url: url.clone(), login: login.clone(), secret: Some(secret), expires_at, ca };
    contexts.contexts.insert(name.clone(), context);
    contexts.current = Some(name.clone());
    file.keep(&contexts)?;
    let text = |field: &str| plain(account[field].as_str().unwrap_or("?"));
    let who = login.unwrap_or_else(|| text("user"));
    let tenant = plain(&Names::new(&connection).tenant(account["tenant"].as_str().unwrap_or("")));
    println!("signed in  {}, {} of {tenant}, may {}", plain(&who), text("role"), text("access"));
    println!("at         {}", plain(&url));
    if let Some(at) = expires_at {
        println!("until      {}", moment(&json!(at)));
    }
    println!("context    {name}");
    Ok(ExitCode::SUCCESS)
}

/// Whether the password was right, and a second factor is asked for.
fn asks_for_a_code(error: &anyhow::Error) -> bool {
    find::<Refused>(error).is_some_and(|refused| refused.kind == "/problems/second-factor")
}

/// Signs out.
pub(crate) fn logout(arguments: &LogoutArgs) -> Result<ExitCode> {
    let file = ContextFile::usual()?;
    let mut contexts = file.load()?;
    let (name, context) = contexts.wanted(&arguments.access)?;
    let (name, context) = (name.to_owned(), context.clone());
    let Some(secret) = context.secret else {
        println!("nobody was signed in  {}", plain(&context.url));
        return Ok(ExitCode::SUCCESS);
    };
    let is_token = secret.reveal().starts_with("pwt_");
    // Forgotten here in any case; what the server says is told after that.
    if let Some(kept) = contexts.contexts.get_mut(&name) {
        kept.secret = None;
        kept.expires_at = None;
    }
    file.keep(&contexts)?;
    if is_token {
        println!("forgotten   {}", plain(&context.url));
        println!("the token itself is still good: `patchwright delete token` takes it back");
        return Ok(ExitCode::SUCCESS);
    }
    let connection = Connection::new(&context.url, context.ca.as_deref(), Some(secret))?;
    match connection.change(&Change::of("DELETE", "/session")) {
        Ok(_) => {}
        // It had ended by itself.
        Err(error) if find::<Refused>(&error).is_some_and(|refused| refused.status == 401) => {}
        Err(error) => {
            let error =
                error.context("the secret is forgotten here, but the session may go on there");
            return Err(helped(error, "it ends by itself within twelve hours"));
        }
    }
    println!("signed out  {}", plain(&context.url));
    Ok(ExitCode::SUCCESS)
}

/// Lists, chooses and forgets contexts.
pub(crate) fn context(arguments: &ContextArgs) -> Result<ExitCode> {
    let file = ContextFile::usual()?;
    let mut contexts = file.load()?;
    let missing = |name: &str| {
        let error = anyhow!("there is no context `{name}`");
        helped(error, "see `patchwright context list`")
    };
    match &arguments.command {
        ContextCommand::List => {
            let mut table = Table::new(&["", "NAME", "URL", "LOGIN", "STATE"]);
            for (name, context) in &contexts.contexts {
                let is_current = contexts.current.as_ref() == Some(name);
                let state = match (&context.secret, context.expires_at) {
                    (None, _) => "signed out".to_owned(),
                    (Some(_), None) => "token".to_owned(),
                    (Some(_), Some(at)) => format!("until {}", moment(&json!(at))),
                };
                table.row(vec![
                    Cell::from(if is_current { "*" } else { "" }),
                    Cell::from(name.as_str()),
                    Cell::from(context.url.as_str()),
                    Cell::from(context.login.as_deref().unwrap_or("–")),
                    Cell::from(state),
                ]);
            }
            table.print(&mut io::stdout().lock())?;
        }
        ContextCommand::Use { name } => {
            if !contexts.contexts.contains_key(name) {
                return Err(missing(name));
            }
            contexts.current = Some(name.clone());
            file.keep(&contexts)?;
            println!("context  {name}");
        }
        ContextCommand::Delete { name } => {
            contexts.contexts.remove(name).ok_or_else(|| missing(name))?;
            if contexts.current.as_ref() == Some(name) {
                contexts.current = None;
            }
            file.keep(&contexts)?;
            println!("context/{name} forgotten");
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn check_name(name: &str) -> Result<()> {
    let is_good = |c: char| c.is_ascii_alphanumeric() || "-_.@".contains(c);
    if !name.is_empty() && name.len() <= 100 && name.chars().all(is_good) {
        return Ok(());
    }
    Err(usage(format!("a context cannot be called `{name}`"), "use letters, digits and -_.@"))
}

fn read_ca(path: &PathBuf) -> Result<String> {
    let unreadable = || format!("cannot read `{}`", path.display());
    let mut text = String::new();
    fs::File::open(path)
        .and_then(|file| file.take(LONGEST_CA).read_to_string(&mut text))
        .with_context(unreadable)?;
    certificates(&text)?;
    Ok(text)
}

/// Login and password, from whoever types or from standard input line by line.
fn ask(login: Option<&str>) -> Result<(String, Secret)> {
    if !io::stdin().is_terminal() {
        let login = match login {
            Some(login) => login.to_owned(),
            None => line_of_stdin("login")?,
        };
        return Ok((login, Secret::new(line_of_stdin("password")?)));
    }
    let login = if let Some(login) = login {
        login.to_owned()
    } else {
        eprint!("login: ");
        io::stderr().flush()?;
        line_of_stdin("login")?
    };
    Ok((login, typed_password("password: ")?))
}

/// The code of a second factor; it is good for a moment, and may be seen.
fn typed_code() -> Result<String> {
    if io::stdin().is_terminal() {
        eprint!("code: ");
        io::stderr().flush()?;
    }
    line_of_stdin("code")
}

/// A password that whoever types it does not see.
pub(crate) fn typed_password(prompt: &str) -> Result<Secret> {
    rpassword::prompt_password(prompt).map(Secret::new).context("cannot read the password")
}

/// The next line of standard input.
pub(crate) fn line_of_stdin(what: &str) -> Result<String> {
    let line = next_line(&mut io::stdin().lock())?;
    line.ok_or_else(|| {
        usage(format!("there is no {what} on standard input"), "give it on a line of its own")
    })
}

/// The next line without its end; `None` where there is none.
fn next_line(reader: &mut impl BufRead) -> Result<Option<String>> {
    let mut line = String::new();
    reader
        .by_ref()
        .take(LONGEST_LINE)
        .read_line(&mut line)
        .context("cannot read standard input")?;
    let line = line.trim_end_matches(['\n', '\r']);
    Ok(if line.is_empty() { None } else { Some(line.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_taken_one_by_one() {
        let mut input = io::Cursor::new("admin\r\nwith spaces \n");

        assert_eq!(next_line(&mut input).unwrap().as_deref(), Some("admin"));
        assert_eq!(next_line(&mut input).unwrap().as_deref(), Some("with spaces "));
        assert_eq!(next_line(&mut input).unwrap(), None);
    }

    #[test]
    fn a_contexts_name_is_plain() {
        assert!(check_name("anna@cloud-1.example").is_ok());
        for bad in ["", "a b", "\u{1b}[2J", "a/b"] {
            assert!(check_name(bad).is_err(), "{bad:?}");
        }
    }
}
