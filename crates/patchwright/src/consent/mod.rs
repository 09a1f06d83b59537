//! `patchwright consent`: a tenant reads a plan, and signs what it says to it.
//!
//! All of it works on files, on whichever machine holds the tenant's key, which goes nowhere. A plan
//! that is named by its change comes from the control plane, and what is said to it goes back there.

mod key;
mod order;
mod remote;
mod rule;
mod show;
mod weekly;

use std::fs::{self, File};
use std::io::{Read as _, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use anyhow::{Context as _, Result};
use base64::prelude::{BASE64_STANDARD, Engine as _};
use clap::{Args, Subcommand, ValueEnum};
use domain::change::{
    Acceptance, Decision, KeyId, LARGEST_PLAN, Nonce, Payload, Plan, PlanHash, Reason, Statement,
    Verified,
};
use domain::cloud::Name;
use jiff::Timestamp;
use ledger::attestation::{self, Attestor, LARGEST_ENVELOPE};
use ledger::passkey::{self, Site};
use serde_json::Value;

use self::remote::{Found, Named};
use crate::client::contexts::Access;
use crate::failure::{during, helped};

const BOLD: Style = Style::new().bold();
const DIM: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const WARN: Style = AnsiColor::Yellow.on_default();

/// Read plans, and sign what a tenant says to them: yes, later, or no.
#[derive(Debug, Args)]
pub(crate) struct ConsentArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Print what a plan does to which items, when, and its hash.
    Show {
        /// A change (`chg_…`: the plan for your tenant's share of it), a plan's hash, or a file.
        plan: Named,
        #[command(flatten)]
        access: Access,
    },
    /// Agree to a plan, and to nothing else.
    Approve {
        #[command(flatten)]
        signing: Signing,
    },
    /// Say "not before".
    Defer {
        /// Until when nothing is to be done (2026-12-01T02:00:00Z).
        #[arg(long, value_name = "TIME")]
        until: Timestamp,
        #[command(flatten)]
        risk: Risk,
        #[command(flatten)]
        signing: Signing,
    },
    /// Say no, and who bears the risk.
    Refuse {
        #[command(flatten)]
        risk: Risk,
        #[command(flatten)]
        signing: Signing,
    },
    /// Hand in a statement that was signed elsewhere.
    Send {
        /// The statement, as it was signed (DSSE in JSON).
        statement: PathBuf,
        #[command(flatten)]
        access: Access,
    },
    /// Tell whether a signed statement holds, and what it says.
    Verify {
        /// The statement, as it was signed: DSSE, or with a passkey's assertion.
        statement: PathBuf,
        /// The plan that it is to be about.
        #[arg(long)]
        plan: PathBuf,
        /// The tenant's public key (PEM); may be given several times.
        #[arg(long, value_name = "FILE", required = true)]
        public_key: Vec<PathBuf>,
        /// The console's address where a passkey must have signed (`https://NAME[:PORT]`); may be
        /// given several times.
        #[arg(long, value_name = "URL")]
        origin: Vec<String>,
    },
    /// Agree ahead, by rules such as "low and medium patches, on Tuesday nights".
    Rule {
        #[command(subcommand)]
        command: rule::Command,
    },
    /// Make, register, rotate, revoke and recover the keys that a tenant signs with.
    Key {
        #[command(subcommand)]
        command: key::Command,
    },
}

/// How something is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Form {
    /// For people.
    Table,
    /// As the API has it.
    Json,
}

/// With what, and where to.
#[derive(Debug, Args)]
struct Signing {
    /// A change (`chg_…`: the plan for your tenant's share of it) or a plan's hash, and the statement
    /// is handed in; or a file, and it is only signed.
    plan: Named,
    /// The tenant's private key (PEM, as `patchwright consent key new` or OpenSSL makes it).
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    /// Where the signed statement goes; without it, that to a file's plan goes to standard output.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    access: Access,
}

/// Who bears what is left open.
#[derive(Debug, Args)]
struct Risk {
    /// Why.
    #[arg(long)]
    reason: Reason,
    /// Who bears the risk meanwhile.
    #[arg(long = "risk-owner", value_name = "NAME")]
    owner: Name,
    /// Until when they bear it.
    #[arg(long, value_name = "TIME")]
    expiry: Timestamp,
}

impl Risk {
    fn acceptance(&self) -> Acceptance {
        let Self { reason, owner, expiry } = self;
        Acceptance { reason: reason.clone(), risk_owner: owner.clone(), expiry: *expiry }
    }
}

/// Runs the command.
pub(crate) fn run(arguments: &ConsentArgs, out: &mut impl Write) -> Result<ExitCode> {
    match &arguments.command {
        Command::Show { plan, access } => show::plan(&remote::find(plan, access)?.plan, out)?,
        Command::Approve { signing } => sign(signing, Decision::Approve, out)?,
        Command::Defer { until, risk, signing } => {
            let acceptance = risk.acceptance();
            sign(signing, Decision::Defer { until: *until, acceptance }, out)?;
        }
        Command::Refuse { risk, signing } => {
            sign(signing, Decision::Refuse { acceptance: risk.acceptance() }, out)?;
        }
        Command::Send { statement, access } => send(statement, access, out)?,
        Command::Verify { statement, plan, public_key, origin } => {
            verify(statement, &read_plan(plan)?, public_key, origin, out)?;
        }
        Command::Rule { command } => rule::run(command, out)?,
        Command::Key { command } => key::run(command, out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn sign(signing: &Signing, decision: Decision, out: &mut impl Write) -> Result<()> {
    let now = Timestamp::now();
    decision.makes_sense(now).map_err(|refusal| {
        let help = refusal.help();
        helped(refusal, help)
    })?;
    let attestor = key::read(&signing.key)?;
    let Found { plan, connection } = remote::find(&signing.plan, &signing.access)?;
    let statement = statement(&plan, decision, now)?;
    let text = signed(&attestor, &statement)?;
    if let Some(path) = &signing.out {
        write_new(path, &text)?;
    } else if connection.is_none() {
        out.write_all(text.as_bytes())?;
        return Ok(());
    }
    writeln!(out, "{GOOD}✓{GOOD:#} signed, by the key {}", attestor.key().id())?;
    show::statement(&statement, out)?;
    if let Some(path) = &signing.out {
        writeln!(out, "\n  written to {}", path.display())?;
    }
    if let Some(connection) = &connection {
        writeln!(out)?;
        remote::send(connection, &plan, &text, out)?;
    }
    Ok(())
}

/// What a statement is about stands in it; whether its signature counts, the control plane tells.
fn send(path: &Path, access: &Access, out: &mut impl Write) -> Result<()> {
    let text = String::from_utf8_lossy(&read(path, LARGEST_ENVELOPE)?).into_owned();
    let about = about(&text).map_err(|error| {
        let help = "give a file that `patchwright consent approve|defer|refuse` wrote";
        during(helped(error, help), format!("`{}` is no consent", path.display()))
    })?;
    let Found { plan, connection } = remote::find(&Named::Hash(about), access)?;
    let connection = connection.context("a plan that is named by its hash has a connection")?;
    remote::send(&connection, &plan, &text, out)
}

/// What an envelope holds, before anybody looked at its signature.
fn payload_of(text: &str) -> Result<Vec<u8>> {
    let envelope: Value = serde_json::from_str(text)?;
    let payload = envelope["payload"].as_str().context("it has no `payload`")?;
    BASE64_STANDARD.decode(payload).context("its `payload` is not Base64")
}

/// The plan that a statement names, before anybody looked at its signature.
fn about(text: &str) -> Result<PlanHash> {
    let payload = payload_of(text)?;
    let payload: Value = serde_json::from_slice(&payload).context("its `payload` is not JSON")?;
    let plan = payload["predicate"]["plan"].as_str().context("it names no plan")?;
    Ok(plan.parse::<PlanHash>()?)
}

fn statement(plan: &Plan, decision: Decision, given_at: Timestamp) -> Result<Statement> {
    Ok(Statement {
        change: plan.draft().change,
        plan: plan.hash(),
        tenant: plan.draft().tenant,
        decision,
        given_at,
        nonce: fresh_nonce()?,
    })
}

/// A number that counts once.
fn fresh_nonce() -> Result<Nonce> {
    let mut nonce = [0; 16];
    getrandom::fill(&mut nonce).map_err(|error| anyhow::anyhow!("no randomness: {error}"))?;
    Ok(Nonce::from(nonce))
}

/// The envelope, one line of JSON.
fn signed(attestor: &Attestor, said: &impl Payload) -> Result<String> {
    let envelope = attestor.sign(&said.to_payload())?;
    Ok(serde_json::to_string(&envelope)? + "\n")
}

/// Who signed a statement, and how.
struct Signature {
    key: [u8; 32],
    payload: Vec<u8>,
    /// Where, if it was with a passkey.
    origin: Option<String>,
}

fn verify(
    path: &Path,
    plan: &Plan,
    keys: &[PathBuf],
    origins: &[String],
    out: &mut impl Write,
) -> Result<()> {
    let bytes = read(path, LARGEST_ENVELOPE)?;
    let attempt = || format!("`{}` is no consent to this plan", path.display());
    let opened = if passkey::is_envelope(&bytes) {
        open_passkey(&bytes, keys, origins, &attempt)?
    } else {
        open_dsse(&bytes, keys, &attempt)?
    };
    let said = Verified::<Statement>::signed_by(opened.key.into(), &opened.payload);
    let said = said.map_err(|error| {
        let help = error.help();
        during(helped(error, help), attempt())
    })?;
    let statement = said.said();
    let (given, wanted) = (statement.plan, plan.hash());
    let is_ours =
        statement.tenant == plan.draft().tenant && statement.change == plan.draft().change;
    if given != wanted || !is_ours {
        let error = anyhow::anyhow!("it is about the plan {given}, and this one is {wanted}");
        let help = "a changed plan is another plan: it needs a statement of its own";
        return Err(during(helped(error, help), attempt()));
    }
    writeln!(out, "{GOOD}✓{GOOD:#} the signature holds, by the key {}", said.key())?;
    if let Some(origin) = opened.origin {
        writeln!(out, "  with a passkey at {origin}, user verified")?;
    }
    show::statement(statement, out)
}

/// The key that signed an envelope, of those that are trusted.
fn opened(
    bytes: &[u8],
    keys: &[PathBuf],
    origins: &[String],
    attempt: &impl Fn() -> String,
) -> Result<KeyId> {
    let signature = if passkey::is_envelope(bytes) {
        open_passkey(bytes, keys, origins, attempt)?
    } else {
        open_dsse(bytes, keys, attempt)?
    };
    Ok(signature.key.into())
}

fn open_dsse(bytes: &[u8], keys: &[PathBuf], attempt: &impl Fn() -> String) -> Result<Signature> {
    let keys: Vec<_> = keys.iter().map(|path| key::read_public(path)).collect::<Result<_>>()?;
    let opened = attestation::open(bytes, &keys).map_err(|error| {
        let help = error.help();
        during(helped(error, help), attempt())
    })?;
    Ok(Signature { key: opened.key.id_bytes(), payload: opened.payload, origin: None })
}

fn open_passkey(
    bytes: &[u8],
    keys: &[PathBuf],
    origins: &[String],
    attempt: &impl Fn() -> String,
) -> Result<Signature> {
    let keys: Vec<_> = keys.iter().map(|path| key::read_passkey(path)).collect::<Result<_>>()?;
    if origins.is_empty() {
        let error = anyhow::anyhow!("it was signed with a passkey, on a page of some address");
        let help = "name the console's address with --origin: a passkey signs for it alone";
        return Err(during(helped(error, help), attempt()));
    }
    let site = |origin: &String| {
        Site::at(origin).map_err(|error| {
            let help = error.help();
            helped(error, help)
        })
    };
    let sites: Vec<_> = origins.iter().map(site).collect::<Result<_>>()?;
    let opened = passkey::open(bytes, &keys, &sites).map_err(|error| {
        let help = error.help();
        during(helped(error, help), attempt())
    })?;
    let (key, origin) = (opened.key.id_bytes(), Some(opened.origin));
    Ok(Signature { key, payload: opened.payload, origin })
}

fn read_plan(path: &Path) -> Result<Plan> {
    Plan::parse(&read(path, LARGEST_PLAN)?).map_err(|error| {
        let help = error.help();
        during(helped(error, help), format!("`{}` is no plan", path.display()))
    })
}

/// A file of at most so many bytes; a longer one is read no further than shows that.
fn read(path: &Path, limit: usize) -> Result<Vec<u8>> {
    let attempt = || format!("cannot read `{}`", path.display());
    let mut bytes = Vec::new();
    let most = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
    File::open(path)
        .with_context(attempt)?
        .take(most)
        .read_to_end(&mut bytes)
        .with_context(attempt)?;
    Ok(bytes)
}

/// Whole or not at all, and never over another file.
fn write_new(path: &Path, text: &str) -> Result<()> {
    let attempt = || format!("cannot write `{}`", path.display());
    let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let mut file =
        tempfile::NamedTempFile::new_in(folder.unwrap_or(Path::new("."))).with_context(attempt)?;
    file.write_all(text.as_bytes()).with_context(attempt)?;
    file.as_file().sync_all().with_context(attempt)?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
    fs::set_permissions(file.path(), mode).with_context(attempt)?;
    file.persist_noclobber(path).map_err(|error| {
        let error = anyhow::Error::new(error.error).context(attempt());
        helped(error, "name a file that is not there yet")
    })?;
    Ok(())
}
