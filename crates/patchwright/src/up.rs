//! `patchwright up`: the control plane on this machine, from nothing to a console with its true
//! findings.

use std::fs;
use std::io::Write as _;
use std::net::SocketAddr;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow};
use clap::Args;
use domain::check::Report;
use domain::cloud::{CiId, Class, Login, PROVIDER, Role};
use ledger::attestation::AttestorKey;
use reach::{IpNet, Reach};
use server::{
    Agents, App, Audits, Clocks, Fleet, Histories, Lab, LabSettings, Laboratory, NoticeSettings,
    Notices, NoticesError, Observers, Providers, Recorder, RecorderError, Releases, Settings,
    Snapshots, Ssh, Tls, Verdicts, Witnesses,
};
use store::{
    Actor, CiFilter, Database, History, Labels, MasterKey, NewCi, PageRequest, SteadySystem, Store,
    StoreError, Vault,
};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::check::{self, OfficialSources};
use crate::data::{data_directory, master_key, together};
use crate::failure::{helped, report, usage};
use crate::image::HostLab;
use crate::image_stores::ImageStores;
use crate::objects::ObjectsArgs;
use crate::places::Places;
use crate::text::plain;

/// Who signs in first.
const FIRST_LOGIN: &str = "admin";

/// How often is looked what this machine has installed.
const LOOK_AGAIN: Duration = Duration::from_secs(300);

/// How often what has expired is forgotten.
const TIDY: Duration = Duration::from_secs(3600);

/// How long open requests get after the end was asked for.
const GRACE: Duration = Duration::from_secs(3);

/// How long making durable what agents said may take at the end: seconds for a hundred thousand.
const NOTING: Duration = Duration::from_secs(30);

/// Letters of passwords made here: none that look like another.
const LETTERS: &[u8; 32] = b"abcdefghijkmnpqrstuvwxyz23456789";

/// Start the control plane on this machine, and check it.
///
/// Makes what is missing: the data directory, keys, the database, the first person. Listens on
/// loopback, unless it is given a certificate.
#[derive(Debug, Args)]
pub(crate) struct UpArgs {
    /// Where all is kept: database, keys, ledger, what was fetched. By default the user's data
    /// directory.
    #[arg(long, value_name = "DIR", env = "PATCHWRIGHT_DATA")]
    data: Option<PathBuf>,

    /// A database elsewhere: a file, or `postgres://USER@HOST/DATABASE`.
    #[arg(long, value_name = "ADDRESS", env = "PATCHWRIGHT_DATABASE", hide_env_values = true)]
    database: Option<String>,

    #[command(flatten)]
    objects: ObjectsArgs,

    /// Where to listen; without a certificate, loopback only. Port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7878")]
    listen: SocketAddr,

    /// Speak TLS with the certificate in this file (PEM, with those above it).
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,

    /// The certificate's key (PEM).
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,

    /// The address at which browsers reach the console, `https://NAME[:PORT]`; passkeys are bound to
    /// it. By default this machine's own, `localhost`.
    #[arg(long, value_name = "URL")]
    url: Option<String>,

    /// Let the provider's people do nothing before they have proven more than a password.
    #[arg(long, env = "PATCHWRIGHT_REQUIRE_MFA")]
    require_mfa: bool,

    /// Let people sign in at the OpenID Connect providers of this file (TOML) as well.
    #[arg(long, value_name = "FILE", env = "PATCHWRIGHT_OIDC")]
    oidc: Option<PathBuf>,

    /// Ask the witnesses of this policy (C2SP tlog-policy, with their addresses) to cosign the ledger.
    #[arg(long, value_name = "FILE")]
    witnesses: Option<PathBuf>,

    /// Tell tenants by mail and webhooks as this file (TOML) says, not in the console alone:
    /// docs/notices.md.
    #[arg(long, value_name = "FILE", env = "PATCHWRIGHT_NOTICES")]
    notices: Option<PathBuf>,

    /// A plan with more items than this that the provider must patch needs two of its people beside
    /// its author.
    #[arg(long, value_name = "NUMBER", default_value_t = 20)]
    two_persons_above: u16,

    /// Where agents connect, over mutual TLS. Port 0 takes any that is free.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:7879")]
    agents: SocketAddr,

    /// A name or address under which agents reach it; may be given several times. This machine's
    /// own name and loopback are known anyway.
    #[arg(long, value_name = "NAME")]
    agents_name: Vec<String>,

    /// How often agents report, in seconds. Those of whom something is awaited do every five.
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
        value_parser = clap::value_parser!(u32).range(5..=3600))]
    report_every: u32,

    /// Where a proxy on this machine, which ends the agents' TLS, passes them on; loopback only. It
    /// names each agent's key in `x-patchwright-agent-key`, and is believed.
    #[arg(long, value_name = "ADDRESS")]
    agents_behind_proxy: Option<SocketAddr>,

    /// Largest image that is taken, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 64,
        value_parser = clap::value_parser!(u64).range(1..=16_384))]
    largest_image: u64,

    /// All images that each tenant may keep, in GiB.
    #[arg(long, value_name = "GIB", default_value_t = 1024,
        value_parser = clap::value_parser!(u64).range(1..=1_048_576))]
    images_of_tenant: u64,

    /// How many jobs of the lab this process does at the same time.
    #[arg(long, value_name = "NUMBER", default_value_t = 1,
        value_parser = clap::value_parser!(u8).range(1..=64))]
    lab_jobs: u8,

    /// Which OpenStack cloud images may be tested in: docs/drivers.md.
    #[arg(long, value_name = "FILE")]
    lab_cloud: Option<PathBuf>,

    /// Where machines live that snapshots can be taken of before they restart: docs/drivers.md.
    #[arg(long, value_name = "FILE")]
    places: Option<PathBuf>,

    /// Where the cloud keeps images of its own that are looked into: docs/drivers.md.
    #[arg(long, value_name = "FILE")]
    image_stores: Option<PathBuf>,

    /// A network in which git repositories and addresses may be that the provider's people name as sources, also
    /// over http; may be given several times. What tenants name is on the public Internet: docs/sources.md.
    #[arg(long, value_name = "NETWORK")]
    sources_network: Vec<IpNet>,

    /// Do not enrol and check this machine.
    #[arg(long)]
    no_check: bool,

    /// Advisory records for distributions without signed archives that we read, in OSV format: a
    /// directory, .json, .jsonl, .jsonl.gz or .zip, or the URL of such a file.
    #[arg(long, value_name = "PATH|URL")]
    osv: Option<String>,

    /// CISA's catalogue of known exploited vulnerabilities, as JSON, or its URL.
    #[arg(long, value_name = "PATH|URL")]
    kev: Option<String>,
}

/// Runs the command until it is interrupted.
pub(crate) fn run(arguments: &UpArgs) -> Result<ExitCode> {
    let filter = tracing_subscriber::EnvFilter::try_from_env("PATCHWRIGHT_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).init();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("cannot start threads")?;
    runtime.block_on(up(arguments))?;
    runtime.shutdown_background();
    Ok(ExitCode::SUCCESS)
}

async fn up(arguments: &UpArgs) -> Result<()> {
    let interruption = interruption()?;
    let data = match &arguments.data {
        Some(data) => std::path::absolute(data).context("cannot find the data directory")?,
        None => data_directory()?,
    };
    let tls = tls(arguments)?;
    let watched = witness_policy(arguments)?;
    let providers = providers(arguments)?;
    let told = notice_settings(arguments)?;
    make_private(&data)?;
    let _at_work = together(&data)?;
    let (store, master) = open_both(arguments.database.as_deref(), &data).await?;
    let recorder = Recorder::open(store.clone(), &master, data.join("ledger"))
        .await
        .map_err(recorder_failed)?;
    let recorder = Arc::new(recorder);
    let sources = OfficialSources::new(&data, arguments.osv.clone(), arguments.kev.clone())?;
    let fleet = Arc::new(Fleet::new(store.clone(), Arc::new(sources)));
    let official = OfficialSources::new(&data, arguments.osv.clone(), arguments.kev.clone())?;
    let laboratory = HostLab::open(&data, official, arguments.lab_cloud.as_deref())?;
    let lab = open_lab(arguments, &store, &data, Some(Arc::new(laboratory))).await?;
    let witnesses = watched
        .map(|policy| Arc::new(Witnesses::new(policy, Arc::clone(&recorder), store.clone())));
    let snapshots = open_snapshots(arguments, &store)?;
    let ledger = recorder.key().to_string();
    let objects = tokio::task::block_in_place(|| arguments.objects.claim(&data, &ledger))?;
    let history = store.history(Arc::clone(&master), objects);
    let releases = Releases::open(store.clone(), history.clone(), &master);
    let releases = releases.await.map_err(store_failed)?;
    let own = (releases.key(), history, open_image_stores(arguments, &data)?);
    let settings =
        settings(arguments, &store, &master, providers, witnesses.clone(), told, own).await?;
    let (history, notices) = (settings.history.clone(), Arc::clone(&settings.notices));
    let agents = open_agents(arguments, &store, &master, &fleet, &settings).await?;
    let observers = open_observers(&store, &master, &settings, &lab).await?;
    let app = App::new(
        store.clone(),
        Arc::clone(&recorder),
        Arc::clone(&fleet),
        Arc::clone(&agents),
        Arc::clone(&lab),
        settings,
    )?;
    let (stop, stopped) = oneshot::channel::<()>();
    let recording = tokio::spawn(Arc::clone(&recorder).run(async {
        // A dropped sender stops it as well.
        let _ = stopped.await;
    }));

    let (ready, is_ready) = oneshot::channel();
    let (end, ended) = oneshot::channel::<()>();
    let tell = |address| {
        // The other end waits below.
        let _ = ready.send(address);
    };
    let until_ended = async {
        // A dropped sender ends it as well.
        let _ = ended.await;
    };
    let scheme = if tls.is_some() { "https" } else { "http" };
    let serving =
        tokio::spawn(server::serve(app.clone(), arguments.listen, tls, tell, until_ended));
    let Ok(address) = is_ready.await else {
        return serving.await?.map_err(listen_failed);
    };
    let doors = open_doors(arguments, &agents).await?;
    // Only now: a password that is made but never shown would lock everybody out.
    let password = found(&app, &store).await?;
    let console = format!("{scheme}://{address}/");
    welcome(&console, &doors, password.as_deref(), recorder.key(), &data);
    tokio::spawn(tidy(store.clone()));
    if let Some(witnesses) = witnesses {
        // Cut off at the end: a cosignature that is missed is asked for again.
        tokio::spawn(witnesses.run(std::future::pending()));
    }
    // None has anything to lose: what is not done in time is taken up by the next process.
    let histories = keep_histories(&store, history);
    let background = [
        Work::begin(|end| Arc::clone(&fleet).run(end)),
        Work::begin(|end| Arc::clone(&lab).run(end)),
        Work::begin(|end| Arc::new(Clocks::new(store.clone())).run(end)),
        Work::begin(|end| Arc::new(releases).run(end)),
        Work::begin(|end| Arc::new(snapshots).run(end)),
        Work::begin(|end| Arc::new(observers).run(end)),
        Work::begin(|end| notices.run(end)),
    ];
    if !arguments.no_check {
        tokio::spawn(look_after(store.clone(), Arc::clone(&fleet)));
    }
    interruption.await;
    drop(end);
    if let Ok(outcome) = tokio::time::timeout(GRACE, serving).await {
        outcome?.map_err(listen_failed)?;
    }
    doors.close().await;
    for task in background.into_iter().chain(histories).map(Work::end) {
        let _ = tokio::time::timeout(GRACE, task).await;
    }
    // What was acknowledged last is published too.
    drop(stop);
    if let Err(error) = recording.await? {
        tracing::warn!(error = &error as &dyn std::error::Error, "recorded at the next start");
    }
    eprintln!("Patchwright has ended; nothing was lost.");
    Ok(())
}

/// Seals what is recorded of files, judges it, and audits it.
fn keep_histories(store: &Store, history: History) -> [Work; 3] {
    let verdicts = Arc::new(Verdicts::new(store.clone(), history.clone()));
    let audits = Arc::new(Audits::new(store.clone(), history.clone()));
    let histories = Arc::new(Histories::new(store.clone(), history));
    [
        Work::begin(|end| histories.run(end)),
        Work::begin(|end| verdicts.run(end)),
        Work::begin(|end| audits.run(end)),
    ]
}

/// Work in the background, until it is asked to end.
struct Work {
    end: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl Work {
    fn begin<F>(run: impl FnOnce(Pin<Box<dyn Future<Output = ()> + Send>>) -> F) -> Self
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let (end, ended) = oneshot::channel();
        let ended = Box::pin(async {
            // A dropped sender ends it as well.
            let _ = ended.await;
        });
        Self { end, task: tokio::spawn(run(ended)) }
    }

    /// Asks it to end, which it does by itself then.
    fn end(self) -> JoinHandle<()> {
        drop(self.end);
        self.task
    }
}

/// The agents' side.
async fn open_agents(
    arguments: &UpArgs,
    store: &Store,
    master: &Arc<MasterKey>,
    fleet: &Arc<Fleet>,
    settings: &Settings,
) -> Result<Arc<Agents>> {
    let (url, history) = (&settings.url, settings.history.clone());
    let agents = Agents::open(store.clone(), master, Arc::clone(fleet), history, url).await?;
    Ok(Arc::new(agents.reporting_every(arguments.report_every)))
}

/// What looks at devices, repositories, documents behind addresses, and images, ours and the cloud's.
async fn open_observers(
    store: &Store,
    master: &Arc<MasterKey>,
    settings: &Settings,
    lab: &Arc<Lab>,
) -> Result<Observers> {
    let (vault, history) = (settings.vault.clone(), settings.history.clone());
    let stores = Arc::clone(&settings.image_stores);
    let places = (settings.reach.clone(), Arc::clone(lab), stores);
    let eyes = Arc::new(Ssh::default());
    let opening = Observers::open(store.clone(), master, vault, history, eyes, places);
    opening.await.map_err(store_failed)
}

/// What keeps machines' disks before they restart, where they live at a place that is known.
fn open_snapshots(arguments: &UpArgs, store: &Store) -> Result<Snapshots> {
    let places = Places::read(arguments.places.as_deref())?;
    Ok(Snapshots::new(store.clone(), Arc::new(places)))
}

/// Where the cloud keeps images of its own.
fn open_image_stores(arguments: &UpArgs, data: &Path) -> Result<Arc<ImageStores>> {
    let largest = arguments.largest_image << 30;
    Ok(Arc::new(ImageStores::read(arguments.image_stores.as_deref(), data, largest)?))
}

/// How people sign in.
async fn settings(
    arguments: &UpArgs,
    store: &Store,
    master: &Arc<MasterKey>,
    providers: Providers,
    witnesses: Option<Arc<Witnesses>>,
    told: NoticeSettings,
    (verifier, history, image_stores): (AttestorKey, History, Arc<ImageStores>),
) -> Result<Settings> {
    let key = store.key(master, "factors").await.map_err(store_failed)?;
    let url = match (&arguments.url, arguments.listen.port()) {
        (Some(url), _) => url.clone(),
        (None, 0) => "http://localhost".to_owned(),
        (None, port) if arguments.tls_cert.is_some() => format!("https://localhost:{port}"),
        (None, port) => format!("http://localhost:{port}"),
    };
    let requires_mfa = arguments.require_mfa;
    let vault = Vault::new(&key);
    let notices = Notices::open(store.clone(), history.clone(), vault.clone(), &url, told);
    let notices = notices.map_err(notices_failed)?;
    let notices = Arc::new(notices);
    let two_persons_above = usize::from(arguments.two_persons_above);
    Ok(Settings {
        vault,
        url,
        requires_mfa,
        providers,
        witnesses,
        notices,
        two_persons_above,
        verifier,
        history,
        reach: Reach::also(arguments.sources_network.clone()),
        image_stores,
    })
}

/// How tenants are told. Read first, as the certificate is.
fn notice_settings(arguments: &UpArgs) -> Result<NoticeSettings> {
    match &arguments.notices {
        Some(file) => NoticeSettings::read(file).map_err(notices_failed),
        None => Ok(NoticeSettings::default()),
    }
}

/// Images, and the lab that works with them; without a laboratory, jobs are refused.
async fn open_lab(
    arguments: &UpArgs,
    store: &Store,
    data: &Path,
    laboratory: Option<Arc<dyn Laboratory>>,
) -> Result<Arc<Lab>> {
    let limits = LabSettings {
        largest_image: arguments.largest_image << 30,
        most_of_tenant: arguments.images_of_tenant << 30,
        jobs_at_once: usize::from(arguments.lab_jobs),
        ..LabSettings::default()
    };
    let lab = Lab::open(store.clone(), data, laboratory, limits).await.map_err(|error| {
        let help = error.help().unwrap_or("see what the system says, then try again");
        helped(error, help)
    })?;
    Ok(Arc::new(lab))
}

/// Where else people may sign in. Read first, as the certificate is.
fn providers(arguments: &UpArgs) -> Result<Providers> {
    let Some(file) = &arguments.oidc else { return Ok(Providers::none()) };
    let providers = Providers::read(file).map_err(|error| {
        let help = error.help();
        helped(error, help)
    })?;
    if arguments.url.is_none() && arguments.listen.port() == 0 {
        return Err(usage(
            "providers must know where to send people back to",
            "give the console's address with --url, or a port to listen at",
        ));
    }
    Ok(providers)
}

/// Who cosigns the ledger, if anybody is to. Read first, as the certificate is.
fn witness_policy(arguments: &UpArgs) -> Result<Option<ledger::Policy>> {
    let Some(file) = &arguments.witnesses else { return Ok(None) };
    let unusable = || format!("cannot use the witnesses' policy `{}`", file.display());
    let bytes = fs::read(file).with_context(unusable)?;
    let policy = ledger::Policy::parse(&bytes).map_err(|error| {
        let help = error.help().unwrap_or_else(|| "see C2SP tlog-policy".to_owned());
        helped(anyhow!(error).context(unusable()), help)
    })?;
    if policy.addresses().next().is_none() {
        let error = anyhow!("no witness in it has an address").context(unusable());
        return Err(helped(error, "write `witness NAME VKEY https://ADDRESS`"));
    }
    Ok(Some(policy))
}

/// The certificate to listen with, if any. Read first: nothing is made where it is no good.
fn tls(arguments: &UpArgs) -> Result<Option<Tls>> {
    let (Some(certificate), Some(key)) = (&arguments.tls_cert, &arguments.tls_key) else {
        return Ok(None);
    };
    let tls = Tls::read(certificate, key).map_err(|error| {
        let help = error.help();
        helped(error, help)
    })?;
    Ok(Some(tls))
}

/// Where agents come in.
struct Doors {
    address: SocketAddr,
    behind_proxy: Option<SocketAddr>,
    ends: Vec<oneshot::Sender<()>>,
    noting: tokio::task::JoinHandle<()>,
}

/// Lets agents in.
async fn open_doors(arguments: &UpArgs, agents: &Arc<Agents>) -> Result<Doors> {
    let mut ends = Vec::new();
    let mut end = || {
        let (end, ended) = oneshot::channel::<()>();
        ends.push(end);
        async {
            // A dropped sender ends it as well.
            let _ = ended.await;
        }
    };
    let (ready, is_ready) = oneshot::channel();
    let tell = |address| {
        // The other end waits below.
        let _ = ready.send(address);
    };
    let mut names = vec!["localhost".to_owned(), "127.0.0.1".to_owned(), "::1".to_owned()];
    names.push(arguments.agents.ip().to_string());
    names.push(host_name());
    names.extend(arguments.agents_name.iter().cloned());
    names.dedup();
    let serving = tokio::spawn(server::serve_agents(
        Arc::clone(agents),
        arguments.agents,
        names,
        tell,
        end(),
    ));
    let Ok(address) = is_ready.await else {
        serving.await?.map_err(agents_failed)?;
        anyhow::bail!("the agents' listener ended");
    };
    let behind_proxy = match arguments.agents_behind_proxy {
        Some(address) => {
            let (ready, is_ready) = oneshot::channel();
            let tell = |address| {
                // The other end waits below.
                let _ = ready.send(address);
            };
            let agents = Arc::clone(agents);
            let serving = tokio::spawn(server::serve_proxied_agents(agents, address, tell, end()));
            let Ok(address) = is_ready.await else {
                serving.await?.map_err(agents_failed)?;
                anyhow::bail!("the proxy's listener ended");
            };
            Some(address)
        }
        None => None,
    };
    let noting = tokio::spawn(Arc::clone(agents).run(end()));
    Ok(Doors { address, behind_proxy, ends, noting })
}

impl Doors {
    /// Lets nobody in any more, and makes durable what agents said.
    async fn close(self) {
        drop(self.ends);
        if tokio::time::timeout(NOTING, self.noting).await.is_err() {
            tracing::warn!("agents will be known by earlier numbers");
        }
    }
}

fn make_private(data: &Path) -> Result<()> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(data);
    made.map_err(|error| {
        let what = format!("cannot make the data directory `{}`", data.display());
        helped(anyhow!(error).context(what), "name another one with --data DIR")
    })
}

pub(crate) async fn open_store(database: Option<&str>, data: &Path) -> Result<Store> {
    let failed = |error: StoreError| {
        let help = error.help().unwrap_or("see what the database says, then try again");
        helped(anyhow!(error).context("cannot open the database"), help)
    };
    let database = match database {
        Some(address) => address.parse().map_err(failed)?,
        None => Database::file(&data.join("patchwright.db")),
    };
    Store::open(&database, Arc::new(SteadySystem::default())).await.map_err(failed)
}

/// The database, and the key over its keys.
pub(crate) async fn open_both(
    database: Option<&str>,
    data: &Path,
) -> Result<(Store, Arc<MasterKey>)> {
    let store = open_store(database, data).await?;
    let master = master_key(data, &store).await?;
    Ok((store, Arc::new(master)))
}

/// Makes the provider and its first person, where there is none; gives the password, if so.
async fn found(app: &App, store: &Store) -> Result<Option<String>> {
    let (password, is_ours) = match std::env::var("PATCHWRIGHT_PASSWORD") {
        Ok(password) => (password, false),
        Err(_) => (new_password()?, true),
    };
    let login: Login = FIRST_LOGIN.parse()?;
    let first = app
        .person(PROVIDER, login, "First administrator".parse()?, Role::Admin, &password)
        .map_err(|problem| anyhow!("PATCHWRIGHT_PASSWORD: {}", problem.detail()))?;
    let is_new = store.found("Provider".parse()?, first).await.map_err(store_failed)?;
    Ok((is_new && is_ours).then_some(password))
}

/// 100 random bits in five words.
pub(crate) fn new_password() -> Result<String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| anyhow!("no random numbers: {error}"))?;
    let letters: Vec<u8> = bytes.iter().map(|byte| LETTERS[usize::from(byte & 31)]).collect();
    let words: Vec<_> = letters.chunks(4).map(String::from_utf8_lossy).collect();
    Ok(words.join("-"))
}

fn welcome(
    console: &str,
    doors: &Doors,
    password: Option<&str>,
    key: &ledger::VerifierKey,
    data: &Path,
) {
    let mut lines = vec![
        "Patchwright is up\n".to_owned(),
        format!("  console  {console}"),
        format!("  agents   https://{}", doors.address),
    ];
    lines.extend(doors.behind_proxy.map(|address| format!("  proxy    http://{address}")));
    lines.push(match password {
        Some(password) => {
            format!("  sign in  {FIRST_LOGIN}  {password}  (shown this once: keep it)")
        }
        None => "  sign in  with the password that you have".to_owned(),
    });
    lines.push(format!("  ledger   {key}"));
    lines.push(format!("  data     {}\n\n", plain(&data.display().to_string())));
    if !say(&lines.join("\n")) && password.is_some() {
        tracing::warn!(
            "nobody saw the first password; `patchwright user reset {FIRST_LOGIN}` gives another one"
        );
    }
}

/// Says something to whoever started it, and whether that could be said. Where nobody listens any more, it goes on all the
/// same.
fn say(text: &str) -> bool {
    let mut out = anstream::stdout();
    let said = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = &said {
        tracing::warn!(%error, "nobody reads what is said here");
    }
    said.is_ok()
}

/// Forgets what has expired.
async fn tidy(store: Store) {
    loop {
        if let Err(error) = store.forget_expired().await {
            tracing::warn!(error = &error as &dyn std::error::Error, "nothing was tidied up");
        }
        tokio::time::sleep(TIDY).await;
    }
}

/// Enrols this machine and tells what it has installed, again and again.
async fn look_after(store: Store, fleet: Arc<Fleet>) {
    let mut is_first = true;
    loop {
        match look(&store, &fleet, is_first).await {
            Ok(Some(found)) => {
                // That nobody listens is noted.
                let _ = say(&format!("{}\n(Ctrl-C ends it)\n", check::screen(&found)));
            }
            Ok(None) => {}
            Err(error) => {
                report(&error);
            }
        }
        is_first = false;
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Observes this machine; the first time, waits for what the fleet check says of it.
async fn look(store: &Store, fleet: &Fleet, is_first: bool) -> Result<Option<Report>> {
    let by = Actor::System;
    let ci = enrol(store, &host_name()).await?;
    let (set, runtime) = tokio::task::spawn_blocking(check::this_machine).await??;
    let digest = store.add_package_set(&by, PROVIDER, set).await.map_err(store_failed)?;
    let now = store.environment().now();
    store.observe(&by, ci, digest, now).await.map_err(store_failed)?;
    fleet.wake();
    if !is_first {
        return Ok(None);
    }
    loop {
        if let Some(check) = store.check(&by, ci).await.map_err(store_failed)? {
            return Ok(Some(Report { runtime, ..check.report }));
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// This machine as a configuration item of the provider; the one there is, where there is one.
async fn enrol(store: &Store, name: &str) -> Result<CiId> {
    let by = Actor::System;
    let class = if is_virtual() { Class::Vm } else { Class::Host };
    let new = NewCi { tenant: PROVIDER, class, name: name.parse()?, labels: Labels::new() };
    match store.create_ci(&by, None, new).await {
        Ok(ci) => Ok(ci.id),
        Err(StoreError::Exists { .. }) => {
            let filter = CiFilter {
                tenant: Some(PROVIDER),
                name: Some(name.to_owned()),
                retired: true,
                ..CiFilter::default()
            };
            let request = PageRequest { after: None, limit: store::LONGEST_PAGE };
            let page = store.cis(&by, &filter, &request).await.map_err(store_failed)?;
            let own = page.items.iter().find(|ci| ci.name.as_str() == name);
            own.map(|ci| ci.id).with_context(|| format!("`{name}` is there, but cannot be found"))
        }
        Err(error) => Err(store_failed(error)),
    }
}

fn host_name() -> String {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let name = name.trim();
    if name.is_empty() { "this machine".to_owned() } else { name.to_owned() }
}

/// Whether the processor says that a hypervisor runs us.
fn is_virtual() -> bool {
    fs::read_to_string("/proc/cpuinfo").is_ok_and(|text| {
        text.lines()
            .filter(|line| line.starts_with("flags"))
            .any(|line| line.split_whitespace().any(|flag| flag == "hypervisor"))
    })
}

/// Somebody asks for the end. From this call on: a signal that comes before it is waited for counts
/// too, where the system would otherwise end the process at once.
pub(crate) fn interruption() -> Result<impl Future<Output = ()>> {
    use tokio::signal::unix::{SignalKind, signal};
    let listen = |kind| signal(kind).context("cannot wait for signals");
    let mut interrupted = listen(SignalKind::interrupt())?;
    let mut terminated = listen(SignalKind::terminate())?;
    Ok(async move {
        tokio::select! {
            _ = interrupted.recv() => {}
            _ = terminated.recv() => {}
        }
    })
}

pub(crate) fn store_failed(error: StoreError) -> anyhow::Error {
    match error.help() {
        Some(help) => helped(error, help),
        None => error.into(),
    }
}

fn listen_failed(error: server::ListenError) -> anyhow::Error {
    match error.help() {
        Some(help) => helped(error, help),
        None => error.into(),
    }
}

fn notices_failed(error: NoticesError) -> anyhow::Error {
    let help = error.help();
    helped(error, help)
}

fn agents_failed(error: server::ListenError) -> anyhow::Error {
    match &error {
        server::ListenError::Bind { .. } => {
            helped(error, "choose another address with --agents, or port 0 for any")
        }
        _ => listen_failed(error),
    }
}

pub(crate) fn recorder_failed(error: RecorderError) -> anyhow::Error {
    match error.help() {
        Some(help) => helped(error, help),
        None => error.into(),
    }
}
