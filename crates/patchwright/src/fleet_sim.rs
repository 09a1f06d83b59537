//! `patchwright fleet-sim`: many agents in one process, for load tests.
//!
//! The agents are real to the control plane: each has a key of its own, joins with a token and
//! speaks the agents' protocol. Their connections are shared and end at the listener for proxies,
//! so what TLS costs is not in the figures.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::fs;
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use domain::agent::{Facts, JoinRequest, Need, Report, ReportAnswer};
use domain::cloud::PROVIDER;
use domain::fleet::{PackageSet, SetDigest};
use domain::inventory::Inventory;
use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, PublicKeyData as _};
use serde_json::{Value, json};
use sha2::{Digest as _, Sha256};

use crate::check;

/// Make load like that of many agents, and measure how the control plane bears it.
///
/// Start the control plane with `--agents-behind-proxy 127.0.0.1:7880`.
#[derive(Debug, Args)]
pub(crate) struct FleetSimArgs {
    /// The control plane's API.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7878")]
    api: String,

    /// Where it lets a proxy pass agents on; may be given several times, for several processes. An
    /// agent stays with one, as behind a balancer that keeps connections.
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:7880")]
    proxy: Vec<String>,

    /// A session or API token of somebody who may let agents join.
    #[arg(long, env = "PATCHWRIGHT_TOKEN", hide_env_values = true)]
    token: String,

    /// How many agents.
    #[arg(long, default_value_t = 1000)]
    agents: u32,

    /// How many distinct package sets they have, made from this machine's own.
    #[arg(long, default_value_t = 200)]
    sets: u32,

    /// Seconds between two reports of an agent.
    #[arg(long, default_value_t = 60)]
    interval: u32,

    /// How many of a hundred agents have other packages after an hour.
    #[arg(long, default_value_t = 5.0)]
    changing: f64,

    /// Seconds of steady load that are measured.
    #[arg(long, default_value_t = 120)]
    duration: u64,

    /// Then let all agents report at once.
    #[arg(long)]
    storm: bool,

    /// Connections.
    #[arg(long, default_value_t = 32)]
    connections: usize,

    /// What chance begins with.
    #[arg(long, default_value_t = 1)]
    seed: u64,

    /// The control plane's process, to tell what it takes of the machine; may be given several
    /// times.
    #[arg(long, value_name = "PID")]
    server_pid: Vec<u32>,
}

/// A simulated agent.
struct Host {
    key: String,
    /// Which of the processes it speaks to.
    door: usize,
    set: usize,
    counter: u64,
}

/// What was measured.
#[derive(Default)]
struct Measured {
    /// Microseconds from sending to the answer.
    waits: Mutex<Vec<u32>>,
    failed: AtomicU64,
    uploads: AtomicU64,
}

/// Runs the command.
pub(crate) fn run(arguments: &FleetSimArgs) -> Result<ExitCode> {
    let (own, _) = check::this_machine()?;
    let mut random = Random(arguments.seed);
    let sets: Vec<PackageSet> = (0..arguments.sets).map(|_| variant(&own, &mut random)).collect();
    let digests: Vec<SetDigest> = sets.iter().map(PackageSet::digest).collect();
    println!("{} package sets of about {} packages", sets.len(), own.inventory().packages.len());
    let load = Load { arguments, sets, digests, facts: Facts::default() };

    let begin = Instant::now();
    let hosts = load.join_all(&mut random)?;
    println!("{} agents joined in {:.1?}", hosts.len(), begin.elapsed());
    let hosts: Vec<Mutex<Host>> = hosts.into_iter().map(Mutex::new).collect();

    let begin = Instant::now();
    let first = Measured::default();
    load.all_at_once(&hosts, &first);
    first.tell("first reports", begin.elapsed());
    println!("  of these {} package sets were sent", first.uploads.load(Ordering::Relaxed));

    let before = usages(&arguments.server_pid)?;
    let begin = Instant::now();
    let steady = Measured::default();
    load.steady(&hosts, &steady, Duration::from_secs(arguments.duration), &mut random);
    steady.tell("steady load", begin.elapsed());
    let after = usages(&arguments.server_pid)?;
    for ((pid, before), after) in arguments.server_pid.iter().zip(&before).zip(&after) {
        let share = (after.cpu - before.cpu) / begin.elapsed().as_secs_f64() * 100.0;
        let resident = after.resident >> 20;
        println!("  process {pid}: {share:.0} % of one core, {resident} MB resident");
    }
    if arguments.storm {
        let begin = Instant::now();
        let storm = Measured::default();
        load.all_at_once(&hosts, &storm);
        storm.tell("all at once", begin.elapsed());
    }
    Ok(ExitCode::SUCCESS)
}

struct Load<'a> {
    arguments: &'a FleetSimArgs,
    sets: Vec<PackageSet>,
    digests: Vec<SetDigest>,
    facts: Facts,
}

impl Load<'_> {
    /// Lets all agents join, each with a key of its own.
    fn join_all(&self, random: &mut Random) -> Result<Vec<Host>> {
        let arguments = self.arguments;
        let body = json!({
            "tenant": PROVIDER, "class": "vm", "uses": arguments.agents, "lifetime_minutes": 600,
            "labels": { "made-by": "fleet-sim" },
        });
        let address = format!("{}/api/v1/agent-tokens", arguments.api.trim_end_matches('/'));
        let mut answer = client()
            .post(address)
            .header("authorization", format!("Bearer {}", arguments.token))
            .header("content-type", "application/json")
            .send(body.to_string())
            .context("cannot reach the API")?;
        let text = answer.body_mut().read_to_string()?;
        if answer.status() != 201 {
            bail!("the control plane lets no agent join: {text}");
        }
        let token: Value = serde_json::from_str(&text)?;
        let token = token["token"].as_str().context("the answer holds no token")?.to_owned();
        let run = format!("{:08x}", random.next() >> 32 ^ u64::from(std::process::id()));
        let next = AtomicUsize::new(0);
        let joined: Vec<Result<Vec<Host>>> = thread::scope(|scope| {
            let threads: Vec<_> = (0..arguments.connections)
                .map(|_| scope.spawn(|| self.join_some(&token, &run, &next)))
                .collect();
            threads.into_iter().map(|it| it.join().expect("joining does not panic")).collect()
        });
        let mut hosts = Vec::with_capacity(arguments.agents as usize);
        for some in joined {
            hosts.extend(some?);
        }
        for host in &mut hosts {
            host.set = random.below(self.sets.len());
        }
        Ok(hosts)
    }

    fn join_some(&self, token: &str, run: &str, next: &AtomicUsize) -> Result<Vec<Host>> {
        let client = client();
        let mut hosts = Vec::new();
        loop {
            let number = next.fetch_add(1, Ordering::Relaxed);
            if number >= self.arguments.agents as usize {
                return Ok(hosts);
            }
            let door = number % self.arguments.proxy.len();
            let key = KeyPair::generate()?;
            let csr = CertificateParams::default().serialize_request(&key)?.pem()?;
            let name = format!("sim-{run}-{number}");
            let request = JoinRequest { token: token.to_owned(), name, csr };
            let mut answer = client
                .post(self.address(door, "join"))
                .header("content-type", "application/json")
                .send(serde_json::to_vec(&request)?.as_slice())?;
            let status = answer.status();
            let text = answer.body_mut().read_to_string()?;
            if status != 201 {
                bail!("an agent cannot join: {text}");
            }
            let hash = Sha256::digest(key.subject_public_key_info());
            let key = SetDigest::from(<[u8; 32]>::from(hash)).to_string();
            hosts.push(Host { key, door, set: 0, counter: 0 });
        }
    }

    fn address(&self, door: usize, path: &str) -> String {
        format!("{}/agent/v1/{path}", self.arguments.proxy[door].trim_end_matches('/'))
    }

    /// Every agent reports as soon as there is a connection.
    fn all_at_once(&self, hosts: &[Mutex<Host>], measured: &Measured) {
        let next = AtomicUsize::new(0);
        thread::scope(|scope| {
            for _ in 0..self.arguments.connections {
                scope.spawn(|| {
                    let client = client();
                    while let Some(host) = hosts.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let mut host = host.lock().expect("no holder panics");
                        self.report(&client, &mut host, measured);
                    }
                });
            }
        });
    }

    /// Every agent reports in its interval, each at a time of its own.
    fn steady(
        &self,
        hosts: &[Mutex<Host>],
        measured: &Measured,
        duration: Duration,
        random: &mut Random,
    ) {
        let interval = Duration::from_secs(self.arguments.interval.into());
        let chance = self.arguments.changing / 100.0 * f64::from(self.arguments.interval) / 3600.0;
        let begin = Instant::now();
        let seeds: Vec<u64> = (0..self.arguments.connections).map(|_| random.next()).collect();
        thread::scope(|scope| {
            for (share, seed) in seeds.into_iter().enumerate() {
                scope.spawn(move || {
                    let (client, mut random) = (client(), Random(seed));
                    let own = (share..hosts.len()).step_by(self.arguments.connections);
                    let mut due: BinaryHeap<_> = own
                        .map(|number| Reverse((interval.mul_f64(random.share()), number)))
                        .collect();
                    while let Some(Reverse((at, number))) = due.pop() {
                        if at >= duration {
                            return;
                        }
                        thread::sleep(at.saturating_sub(begin.elapsed()));
                        let mut host = hosts[number].lock().expect("no holder panics");
                        if random.share() < chance {
                            host.set = random.below(self.sets.len());
                        }
                        self.report(&client, &mut host, measured);
                        due.push(Reverse((at + interval, number)));
                    }
                });
            }
        });
    }

    /// One report, and what is asked for then.
    fn report(&self, client: &ureq::Agent, host: &mut Host, measured: &Measured) {
        host.counter += 1;
        let report = Report {
            counter: host.counter,
            package_set: self.digests[host.set],
            facts: self.facts.digest(),
            files: None,
            observed_at: Timestamp::now(),
        };
        let begin = Instant::now();
        let answer = self.send::<ReportAnswer>(client, host, "report", &report);
        let wait = u32::try_from(begin.elapsed().as_micros()).unwrap_or(u32::MAX);
        measured.waits.lock().expect("no holder panics").push(wait);
        let outcome = answer.and_then(|answer| {
            for need in answer.need {
                match need {
                    Need::PackageSet => {
                        measured.uploads.fetch_add(1, Ordering::Relaxed);
                        self.put(client, host, "package-set", &self.sets[host.set])?;
                    }
                    Need::Facts => self.put(client, host, "facts", &self.facts)?,
                    // These hosts are altered by nobody.
                    Need::Files | Need::Orders => {}
                }
            }
            Ok(())
        });
        if outcome.is_err() {
            measured.failed.fetch_add(1, Ordering::Relaxed);
        }
    }

    fn send<T: serde::de::DeserializeOwned>(
        &self,
        client: &ureq::Agent,
        host: &Host,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<T> {
        let mut answer = client
            .post(self.address(host.door, path))
            .header("content-type", "application/json")
            .header("x-patchwright-agent-key", &host.key)
            .send(serde_json::to_vec(body)?.as_slice())?;
        let status = answer.status();
        let text = answer.body_mut().read_to_string()?;
        if !status.is_success() {
            bail!("{status}: {text}");
        }
        Ok(serde_json::from_str(&text)?)
    }

    fn put(
        &self,
        client: &ureq::Agent,
        host: &Host,
        path: &str,
        body: &impl serde::Serialize,
    ) -> Result<()> {
        let answer = client
            .put(self.address(host.door, path))
            .header("content-type", "application/json")
            .header("x-patchwright-agent-key", &host.key)
            .send(serde_json::to_vec(body)?.as_slice())?;
        if !answer.status().is_success() {
            bail!("{}", answer.status());
        }
        Ok(())
    }
}

impl Measured {
    fn tell(&self, what: &str, taken: Duration) {
        let mut waits = self.waits.lock().expect("no holder panics").clone();
        waits.sort_unstable();
        let at = |share: f64| {
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_sign_loss,
                clippy::cast_precision_loss,
                reason = "a place among samples"
            )]
            let place = ((waits.len() as f64 * share) as usize).min(waits.len().saturating_sub(1));
            Duration::from_micros(waits.get(place).copied().unwrap_or(0).into())
        };
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let rate = waits.len() as f64 / taken.as_secs_f64();
        println!(
            "{what}: {} reports in {taken:.1?}, {rate:.0}/s, p50 {:.1?}, p99 {:.1?}, longest {:.1?}, \
             {} failed",
            waits.len(),
            at(0.5),
            at(0.99),
            at(1.0),
            self.failed.load(Ordering::Relaxed)
        );
    }
}

/// A connection that is kept.
fn client() -> ureq::Agent {
    let config = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .proxy(None)
        .timeout_global(Some(Duration::from_secs(120)))
        .build();
    ureq::Agent::new_with_config(config)
}

/// A system like another one, at another state of its life: a few packages fewer, some older.
fn variant(own: &PackageSet, random: &mut Random) -> PackageSet {
    let mut inventory: Inventory = own.inventory().clone();
    inventory.packages.retain(|_| random.share() > 0.03);
    for package in &mut inventory.packages {
        if random.share() < 0.05 {
            package.version.push_str("~sim");
            package.source.version.push_str("~sim");
        }
    }
    PackageSet::new(inventory, own.choice().clone())
}

/// What a process takes of the machine.
struct Usage {
    /// Seconds of processor time.
    cpu: f64,
    /// Bytes.
    resident: u64,
}

fn usages(pids: &[u32]) -> Result<Vec<Usage>> {
    pids.iter().map(|&pid| usage(pid)).collect()
}

fn usage(pid: u32) -> Result<Usage> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).context("no such process")?;
    // After the name, which may hold anything: state is the third field.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let field =
        |at: usize| rest.split_whitespace().nth(at - 3).and_then(|it| it.parse::<u64>().ok());
    let ticks = field(14).unwrap_or(0) + field(15).unwrap_or(0);
    let page = 4096;
    #[expect(clippy::cast_precision_loss, reason = "seconds for people")]
    let cpu = ticks as f64 / 100.0;
    Ok(Usage { cpu, resident: field(24).unwrap_or(0) * page })
}

/// `SplitMix64`: the same load from the same seed.
struct Random(u64);

impl Random {
    const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn share(&mut self) -> f64 {
        #[expect(clippy::cast_precision_loss, reason = "53 bits fit")]
        let bits = (self.next() >> 11) as f64;
        bits / 9_007_199_254_740_992.0
    }

    fn below(&mut self, end: usize) -> usize {
        usize::try_from(self.next() % (end as u64)).unwrap_or(0)
    }
}
