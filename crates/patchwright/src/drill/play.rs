//! The drill itself: figure 1 of X.1642 from the collection to the archive, on machines of its own.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow, bail};
use domain::check::Status;
use domain::release::Hold;
use jiff::{SignedDuration, Timestamp};
use ledger::attestation::Digest;
use serde_json::{Value, json};

use super::archive::Archives;
use super::course::{Course, Stage};
use super::faults::Fault;
use super::machines::{AGENT_WAS_KILLED, Seed, Vm, Yard};
use super::plane::{Person, Plane};
use super::terms::{self, Party};
use crate::check::{self, OfficialSources, Origin};
use crate::client::secret::Secret;
use crate::up::new_password;

/// How long anything may take that goes on by itself. TCG on a busy machine is slow.
const PATIENCE: Duration = Duration::from_secs(1200);
/// How often is looked.
const PACE: Duration = Duration::from_millis(500);

/// The series of the drill's image.
const SERIES: &str = "base";

/// The machine that goes ahead.
const CANARY: &str = "web-1";

/// The machine whose agent may die.
const VICTIM: &str = "web-2";

/// The machine whose clock may jump.
const AHEAD: &str = "shop-1";

/// The machine whose keys may be copied.
const COPIED: &str = "shop-2";

/// The machine that is made from the new image.
const NEWCOMER: &str = "web-3";

/// What the drill is given.
pub(super) struct Setup<'a> {
    pub(super) course: &'a Course,
    /// Where evidence and archive go.
    pub(super) directory: &'a Path,
    /// Where all else is: the control plane's data, machines, people's homes.
    pub(super) work: &'a Path,
    pub(super) program: &'a Path,
    pub(super) image: &'a Path,
    pub(super) sources: &'a str,
    pub(super) archives: &'a Archives,
    pub(super) time_scale: u32,
    pub(super) faults: &'a [Fault],
    /// A program that verifies a log by itself: `PROGRAM LOG VKEY EARLIER` prints its size and root.
    pub(super) foreign: Option<&'a Path>,
}

/// Everything that is there by now.
struct World<'a> {
    setup: &'a Setup<'a>,
    plane: Mutex<Plane>,
    yard: Yard,
    vms: Mutex<Vec<Vm>>,
    admin: Person,
    parties: Vec<Member>,
    /// Whether the control plane was killed on purpose, and is not there again.
    is_down: AtomicBool,
}

/// A tenant with its owner and its items.
struct Member {
    party: Party,
    id: String,
    owner: Person,
}

/// A change and the release that takes it out.
struct Patch {
    change: String,
    title: String,
    source: String,
}

struct Release<'a> {
    patch: &'a Patch,
    id: String,
}

/// What a drill leaves for its report.
pub(super) struct Found {
    /// How many entries the exported ledger has.
    pub(super) size: u64,
    /// Its root.
    pub(super) root: String,
    /// Its key.
    pub(super) key: String,
}

/// Plays the whole drill.
///
/// # Errors
/// The first thing that was not as it was to be. What was done until then is in the course.
pub(super) fn play(setup: &Setup<'_>) -> Result<Found> {
    let world = World::begin(setup)?;
    world.keep_checkpoint()?;
    let machines = world.machines();
    let outcome = machines.and_then(|cis| world.loop_once(&cis));
    if let Err(error) = outcome {
        world.keep_consoles();
        return Err(error);
    }
    world.records()
}

impl<'a> World<'a> {
    /// The control plane, its people, and what they agreed on.
    fn begin(setup: &'a Setup<'a>) -> Result<Self> {
        let Setup { course, work, program, .. } = setup;
        course.act(
            "A control plane, a provider and two tenants",
            &["R2", "R21", "R22", "R37"],
            |stage| {
                let plane = Plane::start(program, &work.join("data"), setup.sources)?;
                let admin = plane.admin()?;
                let mut parties = Vec::new();
                for party in Party::ALL {
                    let member = Member::take_up(&plane, &admin, party, setup.time_scale)?;
                    let [lead, answer] =
                        [6 * 60, 24 * 60].map(|it| terms::scaled(it, setup.time_scale));
                    let silence = match party {
                        Party::Acme => "signs each plan; its silence means no",
                        Party::Globex => "its silence approves",
                    };
                    stage.fact(
                        party.slug(),
                        format!("{silence}; told {lead} min ahead, {answer} min to answer"),
                    );
                    parties.push(member);
                }
                stage.fact("console", plane.url());
                Ok(Self {
                    setup,
                    plane: Mutex::new(plane),
                    yard: Yard::open(work, program)?,
                    vms: Mutex::default(),
                    admin,
                    parties,
                    is_down: AtomicBool::new(false),
                })
            },
        )
    }

    /// Keeps what the ledger says of itself by now, as a tenant would: it has to be continued.
    fn keep_checkpoint(&self) -> Result<()> {
        let checkpoint = self.until("a checkpoint", |world| {
            let head = world.admin.get("/ledger")?;
            Ok(head["checkpoint"].as_str().map(str::to_owned))
        })?;
        let place = self.earlier();
        fs::create_dir_all(place.parent().unwrap_or(self.setup.directory))?;
        Ok(fs::write(place, checkpoint)?)
    }

    /// Where that is kept.
    fn earlier(&self) -> PathBuf {
        self.setup.directory.join("evidence/checkpoint-at-the-beginning")
    }

    /// Four machines from the current image, and what the control plane calls them.
    fn machines(&self) -> Result<BTreeMap<String, String>> {
        let title = "Four machines start from the current image and join";
        self.setup.course.act(title, &["R12", "R39"], |stage| {
            let mut services = BTreeMap::new();
            for member in &self.parties {
                let name = member.party.service();
                let service = self.admin.post(
                    "/cis",
                    &json!({
                        "tenant": member.id, "class": "service", "name": name,
                        "labels": { "min-available": "1" },
                    }),
                )?;
                services.insert(member.party.slug(), text(&service, "id")?);
            }
            for member in &self.parties {
                for name in member.party.machines() {
                    self.launch(member, name, self.setup.image)?;
                    stage.says(format!("{name} starts"));
                }
            }
            let mut cis = BTreeMap::new();
            self.until("a machine that joins and is checked", |world| {
                cis = world.cis()?;
                let mut waits = Vec::new();
                for member in &world.parties {
                    for name in member.party.machines() {
                        let status = match cis.get(name) {
                            Some(ci) => world.status_of(ci)?,
                            None => None,
                        };
                        if status.is_none() {
                            waits.push(name);
                        }
                    }
                }
                stage.says(format!("waiting for {}", waits.join(", ")));
                Ok(waits.is_empty().then_some(()))
            })?;
            for member in &self.parties {
                let service = &services[member.party.slug()];
                for name in member.party.machines() {
                    let ci = &cis[name];
                    let body = json!({ "kind": "member_of", "to": service });
                    self.admin.post(&format!("/cis/{ci}/relations"), &body)?;
                    let status = self.status_of(ci)?.unwrap_or_default();
                    stage.fact(name, format!("of {}, {status}", member.party.slug()));
                }
            }
            Ok(cis)
        })
    }

    /// A machine with a token of its own.
    fn launch(&self, member: &Member, name: &str, image: &Path) -> Result<()> {
        let body = json!({
            "tenant": member.id, "class": "vm",
            "labels": { "update-domain": name, "exposure": "controlled" },
        });
        let token = self.admin.post("/agent-tokens", &body)?;
        let dies = name == VICTIM && self.has(Fault::AgentDies);
        let seed = Seed {
            name,
            control_plane: &self.plane().for_agents(),
            token: &Secret::new(text(&token, "token")?),
            sources: &self.setup.archives.sources(self.setup.sources),
            is_agent_killed: dies,
        };
        let vm = self.yard.make(member.party.slug(), image, &seed)?;
        self.vms().push(vm);
        Ok(())
    }

    /// From the collection to machines that are at the latest.
    fn loop_once(&self, cis: &BTreeMap<String, String>) -> Result<()> {
        let course = self.setup.course;
        let patches = self.collected()?;
        let unknown = self.before_anything(cis)?;
        let image = self.brought()?;
        if self.has(Fault::BadPatch) {
            return self.rejected(&patches, &image, cis);
        }
        let releases: Vec<Release<'_>> = thread::scope(|scope| {
            let mut preparing = Vec::with_capacity(patches.len());
            for (number, patch) in patches.iter().enumerate() {
                // One after another: so the first is through sooner, and its tenants are asked meanwhile.
                self.proven(patch, &image)?;
                let unknown = &unknown;
                preparing.push(scope.spawn(move || {
                    let release = self.agreed(number, patch, cis)?;
                    self.set_aside(&release, unknown, cis)?;
                    Ok(release)
                }));
            }
            let end = |it: thread::ScopedJoinHandle<'_, Result<_>>| {
                it.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))
            };
            // All are joined before the first failure counts.
            let ended: Vec<_> = preparing.into_iter().map(end).collect();
            ended.into_iter().collect::<Result<_>>()
        })?;
        let (rollout, newcomer) = thread::scope(|scope| {
            let baking = scope.spawn(|| self.newcomer(&self.baked(&image)?));
            let rollout = self.released(&releases, cis, &unknown);
            let newcomer = baking.join().unwrap_or_else(|_| Err(anyhow!("baking panicked")));
            (rollout, newcomer)
        });
        rollout?;
        newcomer?;
        course.act(
            "Is the whole platform at the latest?",
            &["R13", "R18", "R25", "R38"],
            |stage| self.at_the_latest(stage, &unknown),
        )?;
        course.act("Machines are switched off, and their disks are read", &["R25"], |stage| {
            self.at_rest(stage, &unknown)
        })
    }

    /// What the machines lack, as changes.
    fn collected(&self) -> Result<Vec<Patch>> {
        let title = "Patches are collected from the vendor's signed archives";
        self.setup.course.act(title, &["R3", "R14"], |stage| {
            let changes = self.until("a change for each patch", |world| {
                let findings = world.admin.list("/findings", "state=open")?;
                let mut patches: Vec<&Value> = findings.iter().map(|it| &it["patch"]).collect();
                patches.sort_by_key(ToString::to_string);
                patches.dedup();
                let changes = world.admin.list("/changes", "")?;
                let is_known = |patch: &&Value| {
                    changes.iter().any(|change| {
                        change["patches"].as_array().is_some_and(|of| of.contains(patch))
                    })
                };
                let is_whole = !patches.is_empty() && patches.iter().all(is_known);
                Ok(is_whole.then_some(changes))
            })?;
            let mut patches = Vec::new();
            for change in &changes {
                let first = change["patches"][0].as_str().context("a change without a patch")?;
                let patch = self.admin.get(&format!("/patches/{first}"))?;
                let source = text(&patch, "source")?;
                let priority = patch["priority"].as_str().unwrap_or("unranked").to_owned();
                stage.fact(&source, format!("{}, {priority}", text(change, "title")?));
                patches.push(Patch {
                    change: text(change, "id")?,
                    title: text(change, "title")?,
                    source,
                });
            }
            Ok(patches)
        })
    }

    /// The image that the machines were made from, with the control plane.
    fn brought(&self) -> Result<String> {
        self.setup.course.act("The current image is brought", &["R5"], |stage| {
            let tenant = text(&self.admin.get("/session")?, "tenant")?;
            let content =
                self.admin.upload(&format!("/images/content?tenant={tenant}"), self.setup.image)?;
            let sha256 = text(&content, "sha256")?;
            let body = json!({ "tenant": tenant, "name": SERIES, "sha256": sha256 });
            let image = self.admin.post("/images", &body)?;
            stage.fact(format!("{SERIES}:1"), sha256);
            text(&image, "id")
        })
    }

    /// Does a job with an image, and gives it back once it has ended.
    fn job(&self, stage: &Stage, image: &str, body: &Value) -> Result<Value> {
        let job = self.admin.post(&format!("/images/{image}/jobs"), body)?;
        let path = format!("/jobs/{}", text(&job, "id")?);
        self.until("the lab", |world| {
            let job = world.admin.get(&path)?;
            if let Some(at) = job["stage"].as_str() {
                stage.says(at);
            }
            Ok((!job["ended_at"].is_null()).then_some(job))
        })
    }

    /// Proves a patch, and says so; what came of it, and the attestation.
    fn prove(
        &self,
        stage: &Stage,
        patch: &Patch,
        image: &str,
        profile: &str,
    ) -> Result<(Value, Digest)> {
        let step =
            |body: Value| self.admin.post(&format!("/changes/{}/steps", patch.change), &body);
        step(json!({ "do": "prove" }))?;
        let request = json!({ "packages": [patch.source], "profile": profile, "whole": true });
        let job = self.job(stage, image, &json!({ "kind": "prove", "request": request }))?;
        if job["state"] == "failed" && job["result"].is_null() {
            bail!("the lab could not prove {}: {}", patch.source, job["error"]);
        }
        let attested = self.admin.get(&format!("/images/{image}/attestations"))?;
        // What a job attests is kept as it ends.
        let mut attested = attested["items"].as_array().into_iter().flatten();
        let own = attested.find(|it| it["created_at"] == job["ended_at"]);
        let own = own.context("the lab attested nothing")?;
        let envelope = serde_json::to_vec(&own["envelope"])?;
        let digest = Digest::of(&envelope);
        let place = self.setup.directory.join("evidence");
        fs::create_dir_all(&place)?;
        fs::write(place.join(format!("proof-{}.dsse.json", patch.source)), &envelope)?;
        let verdict = &job["result"]["proof"]["verdict"];
        let reasons =
            ["security", "adaptability"].map(|side| verdict[side].as_array().map_or(0, Vec::len));
        let passes = reasons == [0, 0];
        let word = if passes { "pass" } else { "fail" };
        step(json!({ "do": word, "evidence": digest.as_str() }))?;
        Ok((job["result"]["proof"].clone(), digest))
    }

    /// A patch has to pass.
    fn proven(&self, patch: &Patch, image: &str) -> Result<()> {
        let source = &patch.source;
        let title = format!("{source} is proven on a copy of the image");
        self.setup.course.act(&title, &["R4", "R15"], |stage| {
            let (proof, digest) = self.prove(stage, patch, image, PROFILE)?;
            let verdict = &proof["verdict"];
            let reasons = [&verdict["security"], &verdict["adaptability"]];
            if reasons.iter().any(|it| it.as_array().is_none_or(|it| !it.is_empty())) {
                bail!("{source} does not pass: {verdict}");
            }
            let back = verdict["way_back"]["way-back"].as_str().unwrap_or("not known");
            stage.fact("verdict", format!("secure and adaptable; the way back {back}"));
            stage.fact("evidence", digest.as_str());
            Ok(())
        })
    }

    /// From a patch that was proven to its release, which its tenants were told of and answered.
    fn agreed<'p>(
        &self,
        number: usize,
        patch: &'p Patch,
        cis: &BTreeMap<String, String>,
    ) -> Result<Release<'p>> {
        let course = self.setup.course;
        let source = &patch.source;
        let title = format!("{source} is planned, and its tenants are told");
        let release =
            course.act(&title, &["R6", "R16", "R17"], |stage| self.told(stage, patch, cis))?;
        let title = match number {
            0 => format!("{source}: Acme signs the plan, Globex puts it off"),
            _ => format!("{source}: Acme signs the plan, Globex says nothing"),
        };
        course.act(&title, &["R2", "R17", "R22"], |stage| self.answered(stage, number, patch))?;
        Ok(release)
    }

    /// A patch that breaks what the profile asks for goes nowhere.
    fn rejected(
        &self,
        patches: &[Patch],
        image: &str,
        cis: &BTreeMap<String, String>,
    ) -> Result<()> {
        let course = self.setup.course;
        let patch = patches.iter().find(|it| it.source == "nginx").or(patches.first());
        let patch = patch.context("nothing is pending")?;
        course.act("A bad patch is proven", &["R4", "R15"], |stage| {
            let findings = self.admin.list("/findings", "state=open")?;
            let of = findings.iter().find(|it| it["source"] == patch.source.as_str());
            let installed = text(of.context("nothing lacks it")?, "installed")?;
            let profile = broken_by_the_patch(&installed);
            let (proof, digest) = self.prove(stage, patch, image, &profile)?;
            let verdict = &proof["verdict"]["adaptability"];
            if verdict.as_array().is_none_or(Vec::is_empty) {
                bail!("the lab let it pass: {}", proof["verdict"]);
            }
            stage.fact(&patch.source, format!("rejected: {verdict}"));
            stage.fact("evidence", digest.as_str());
            Ok(())
        })?;
        course.act("Nobody is asked for it, and no machine has it", &["R1", "R4"], |stage| {
            let change = self.admin.get(&format!("/changes/{}", patch.change))?;
            let stands = change["stage"]["is"].as_str().unwrap_or_default();
            if matches!(stands, "proven" | "passed") {
                bail!("the change stands at {stands}");
            }
            stage.fact("change", format!("{} is {stands}", patch.title));
            let body = release_request(&patch.change, &cis[CANARY]);
            match self.admin.post("/releases", &body) {
                Ok(release) => bail!("it can be released: {}", release["id"]),
                Err(error) => stage.fact("release", format!("refused: {error}")),
            }
            let orders = self.admin.get(&format!("/orders?change={}", patch.change))?;
            if orders.as_array().is_none_or(|it| !it.is_empty()) {
                bail!("there are orders: {orders}");
            }
            for member in &self.parties {
                let notices = member.owner.list("/notices", &format!("change={}", patch.change))?;
                if notices.iter().any(|notice| !notice["plan"].is_null()) {
                    bail!("{} was asked", member.party.slug());
                }
            }
            for (name, ci) in cis {
                if self.status_of(ci)?.is_some_and(|status| status == "latest") {
                    bail!("{name} is said to be at the latest");
                }
            }
            stage.fact("machines", "untouched, and shown as outdated");
            Ok(())
        })
    }

    /// The new image, tested and published; where its bytes are.
    fn baked(&self, image: &str) -> Result<PathBuf> {
        let title = "Meanwhile the image is patched, tested and published";
        self.setup.course.act(title, &["R5", "R7", "R8", "R23"], |stage| {
            let job = self.job(stage, image, &json!({ "kind": "bake", "request": {} }))?;
            let made = job["made"]
                .as_str()
                .with_context(|| format!("the bake failed: {}", job["error"]))?;
            let new = self.admin.get(&format!("/images/{made}"))?;
            let sha256 = text(&new["content"], "sha256").or_else(|_| text(&new, "sha256"))?;
            stage.fact(format!("{SERIES}:2"), &sha256);
            let job = self.job(
                stage,
                made,
                &json!({ "kind": "test", "request": { "driver": "local" } }),
            )?;
            if job["state"] != "done" && job["state"] != "passed" {
                bail!("the new image does not stand its test: {} {}", job["error"], job["result"]);
            }
            stage.fact("test", "a machine made from it came up, was scanned clean, and went down");
            self.admin.types(&["image", "publish", made])?;
            self.admin.types(&["image", "retire", image])?;
            stage.fact("published", format!("{SERIES}:2 is current, {SERIES}:1 is retired"));
            find_content(self.plane().data(), &sha256)
        })
    }

    /// Takes the patches out, on all but the machines that nobody can tell of any more.
    fn released(
        &self,
        releases: &[Release<'_>],
        cis: &BTreeMap<String, String>,
        unknown: &[String],
    ) -> Result<()> {
        let course = self.setup.course;
        course.act(
            "The canary is patched, as its tenant agreed",
            &["R1", "R6", "R10", "R17"],
            |stage| {
                self.in_the_middle(stage, releases, &cis[CANARY])?;
                self.done(stage, releases, &[CANARY], cis)
            },
        )?;
        course.act("The rest of Acme's follows", &["R6", "R10"], |stage| {
            self.agent_died(stage)?;
            self.done(stage, releases, &[VICTIM], cis)
        })?;
        course.act(
            "Globex lets its time lapse, and its machines follow",
            &["R10", "R21", "R22"],
            |stage| {
                let machines: Vec<&str> = Party::Globex
                    .machines()
                    .into_iter()
                    .filter(|name| !unknown.iter().any(|it| it == name))
                    .collect();
                self.done(stage, releases, &machines, cis)?;
                self.ended(stage, releases, unknown)
            },
        )
    }

    /// Plans a release as it was rehearsed, and waits until each tenant was told.
    fn told<'p>(
        &self,
        stage: &Stage,
        patch: &'p Patch,
        cis: &BTreeMap<String, String>,
    ) -> Result<Release<'p>> {
        let mut body = release_request(&patch.change, &cis[CANARY]);
        let shown = self.rehearsed(&body)?;
        for field in ["from", "layout"] {
            body[field] = shown[field].clone();
        }
        body["release"] = shown["id"].clone();
        let release = self.admin.post("/releases", &body)?;
        let turns = release["turns_total"].as_u64().unwrap_or_default();
        stage.fact("layout", format!("{turns} turns, {}", text(&release, "layout")?));
        for member in &self.parties {
            let notice = self.until("a notice", |_| {
                let query = format!("change={}", patch.change);
                let notices = member.owner.list("/notices", &query)?;
                Ok(notices
                    .into_iter()
                    .find(|it| !it["plan"].is_null() && !it["given_at"].is_null()))
            })?;
            let plan = notice["plan"].as_str().unwrap_or_default();
            stage.fact(member.party.slug(), format!("told; plan {plan}"));
        }
        Ok(Release { patch, id: text(&release, "id")? })
    }

    /// The plan once the change stands where it can be planned.
    fn rehearsed(&self, body: &Value) -> Result<Value> {
        let mut last = None;
        let found = self.until("a plan", |world| match world.admin.rehearse("/releases", body) {
            Ok(shown) => Ok(Some(shown)),
            Err(error) => {
                last = Some(error.to_string());
                Ok(None)
            }
        });
        found.map_err(|error| error.context(last.unwrap_or_default()))
    }

    fn answered(&self, stage: &Stage, number: usize, patch: &Patch) -> Result<()> {
        let evidence = self.setup.directory.join("evidence");
        for member in &self.parties {
            let key = member.owner.home().join("tenant.key").display().to_string();
            let out = evidence.join(format!("{}-{}.dsse.json", member.party.slug(), patch.source));
            let out = out.display().to_string();
            let change = patch.change.as_str();
            match (member.party, number) {
                (Party::Acme, _) => {
                    member
                        .owner
                        .types(&["consent", "approve", change, "--key", &key, "--out", &out])?;
                    stage.fact("acme", "agreed, signed with its key");
                }
                (Party::Globex, 0) => {
                    let minutes = terms::scaled(12 * 60, self.setup.time_scale);
                    let longest = SignedDuration::from_mins(i64::from(minutes));
                    // A little earlier: what is signed takes a while to come in.
                    let until = Timestamp::now() + longest - SignedDuration::from_secs(5);
                    let until = until.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
                    member.owner.types(&[
                        "consent",
                        "defer",
                        change,
                        "--key",
                        &key,
                        "--out",
                        &out,
                        "--until",
                        &until,
                        "--reason",
                        "an order is being packed",
                        "--risk-owner",
                        "Gregor, Globex",
                        "--expiry",
                        &until,
                    ])?;
                    stage.fact("globex", format!("put it off until {until}, signed with its key"));
                }
                (Party::Globex, _) => stage.fact("globex", "says nothing"),
            }
        }
        Ok(())
    }

    /// What goes wrong on purpose before anything is altered; the machines that nobody can tell of
    /// afterwards.
    fn before_anything(&self, cis: &BTreeMap<String, String>) -> Result<Vec<String>> {
        let course = self.setup.course;
        if self.has(Fault::ClockJump) {
            let title = "A machine's clock jumps";
            course.act(title, &["R39"], |stage| self.clock_jumps(stage, cis))?;
        }
        if self.has(Fault::ForgedReport) {
            let title = "A thief reports that all is patched";
            course.act(title, &["R25", "R39"], |stage| self.forged(stage, cis))?;
            return Ok(vec![COPIED.to_owned()]);
        }
        Ok(Vec::new())
    }

    fn has(&self, fault: Fault) -> bool {
        self.setup.faults.contains(&fault)
    }

    /// Nobody waits for machines that nobody can tell of.
    fn set_aside(
        &self,
        release: &Release<'_>,
        unknown: &[String],
        cis: &BTreeMap<String, String>,
    ) -> Result<()> {
        let planned = self.admin.get(&format!("/releases/{}", release.id))?;
        let has_turn = |ci: &str| {
            let turns = planned["turns"].as_array();
            turns.into_iter().flatten().any(|turn| turn["ci"] == ci)
        };
        // Whoever is not believed is mostly left out of the plan already.
        for name in unknown.iter().filter(|name| has_turn(&cis[*name])) {
            let reason = format!("{name}'s agent is quarantined");
            let body = json!({ "do": "set_aside", "items": [cis[name]], "reason": reason });
            self.admin.post(&format!("/releases/{}/commands", release.id), &body)?;
        }
        Ok(())
    }

    /// Waits until the canary carries an order out.
    fn at_work(&self, stage: &Stage, releases: &[Release<'_>], ci: &str) -> Result<()> {
        let at = self.until("an order that is under way", |world| {
            world.waits(stage, releases)?;
            let orders = world.admin.get(&format!("/orders?ci={ci}"))?;
            let mut open = orders
                .as_array()
                .into_iter()
                .flatten()
                .filter(|it| !it["handed_at"].is_null() && it["outcome"].is_null());
            Ok(open.next().map(|order| order["handed_at"].as_str().unwrap_or_default().to_owned()))
        })?;
        stage.fact(CANARY, format!("took an order at {at}"));
        Ok(())
    }

    /// What goes wrong on purpose while the canary is at work.
    fn in_the_middle(&self, stage: &Stage, releases: &[Release<'_>], ci: &str) -> Result<()> {
        for fault in self.setup.faults {
            match fault {
                Fault::BadPatch | Fault::ClockJump | Fault::ForgedReport | Fault::AgentDies => {}
                Fault::PowerCut => {
                    self.at_work(stage, releases, ci)?;
                    // In the middle of it, wherever that is.
                    thread::sleep(Duration::from_secs(4));
                    self.with_vm(CANARY, |vm| vm.cut_power(None))?;
                    stage.fact("fault", format!("{CANARY} lost its power, and has it again"));
                }
                Fault::VmHangs => {
                    self.at_work(stage, releases, ci)?;
                    self.with_vm(CANARY, |vm| vm.freeze())?;
                    stage.fact("fault", format!("{CANARY} hangs"));
                    let because = self.held(stage, releases)?;
                    stage.fact("release", because);
                    self.with_vm(CANARY, |vm| vm.thaw())?;
                    stage.fact(CANARY, "goes on");
                    self.go_on(stage, releases, ci, "the machine is back")?;
                }
                Fault::ServerKilled => {
                    self.at_work(stage, releases, ci)?;
                    self.is_down.store(true, Ordering::SeqCst);
                    self.plane().kill()?;
                    stage.fact("fault", "the control plane is killed");
                    thread::sleep(Duration::from_secs(2));
                    self.plane().start_again()?;
                    self.is_down.store(false, Ordering::SeqCst);
                    stage.fact("control plane", "started again on what it had");
                }
            }
        }
        Ok(())
    }

    /// The machine says itself that its agent was killed.
    fn agent_died(&self, stage: &Stage) -> Result<()> {
        if !self.has(Fault::AgentDies) {
            return Ok(());
        }
        self.until("the agent to be killed", |world| {
            let said = world.with_vm(VICTIM, |vm| Ok(vm.said(AGENT_WAS_KILLED)))?;
            Ok(said.then_some(()))
        })?;
        let killed = "agent was killed in its first order, with all that it had started";
        stage.fact("fault", format!("{VICTIM}'s {killed}"));
        Ok(())
    }

    /// Waits until a release holds itself, and says why.
    fn held(&self, stage: &Stage, releases: &[Release<'_>]) -> Result<String> {
        self.until("the release to be held", |world| {
            world.waits(stage, releases)?;
            for release in releases {
                let shown = world.admin.get(&format!("/releases/{}", release.id))?;
                if shown["mode"]["is"] == "held" {
                    return Ok(Some(format!("held: {}", why_held(&shown))));
                }
            }
            Ok(None)
        })
    }

    /// Lets what is held go on, once the machine's step has ended.
    fn go_on(&self, stage: &Stage, releases: &[Release<'_>], ci: &str, reason: &str) -> Result<()> {
        self.until("the machine's answer", |world| {
            let orders = world.admin.get(&format!("/orders?ci={ci}"))?;
            let open = orders
                .as_array()
                .into_iter()
                .flatten()
                .any(|order| !order["handed_at"].is_null() && order["outcome"].is_null());
            Ok((!open).then_some(()))
        })?;
        for release in releases {
            if self.admin.get(&format!("/releases/{}", release.id))?["mode"]["is"] == "held" {
                self.resume(stage, release, reason)?;
            }
        }
        Ok(())
    }

    fn resume(&self, stage: &Stage, release: &Release<'_>, reason: &str) -> Result<()> {
        let body = json!({ "do": "resume", "reason": reason });
        self.admin.post(&format!("/releases/{}/commands", release.id), &body)?;
        stage.fact(&release.patch.source, format!("resumed by an operator: {reason}"));
        Ok(())
    }

    /// How a release stands. One that is held because a machine is silent goes on, as an operator would
    /// let it who sees that the machine runs: without KVM a restart may take longer than its time.
    fn stands(&self, stage: &Stage, release: &Release<'_>) -> Result<Value> {
        let path = format!("/releases/{}", release.id);
        let shown = self.admin.get(&path)?;
        if shown["mode"]["is"] != "held" {
            return Ok(shown);
        }
        if shown["mode"]["why"]["by"] != "silent" {
            bail!("the release of {} is held: {}", release.patch.source, why_held(&shown));
        }
        for vm in self.vms().iter_mut() {
            vm.must_run()?;
        }
        self.resume(stage, release, "the machine is slow, and runs")?;
        self.admin.get(&path)
    }

    /// A machine whose clock is wrong is not believed.
    fn clock_jumps(&self, stage: &Stage, cis: &BTreeMap<String, String>) -> Result<()> {
        let ahead = Timestamp::now() + SignedDuration::from_hours(2);
        self.with_vm(AHEAD, |vm| vm.cut_power(Some(ahead)))?;
        stage.fact("fault", format!("{AHEAD}'s clock is two hours ahead"));
        self.until("a report that is refused", |world| {
            let said = world.with_vm(AHEAD, |vm| Ok(vm.said("the host's clock says")))?;
            Ok(said.then_some(()))
        })?;
        let orders = self.admin.get(&format!("/orders?ci={}", cis[AHEAD]))?;
        let handed = orders.as_array().into_iter().flatten().any(|it| !it["handed_at"].is_null());
        if handed {
            bail!("{AHEAD} got an order with a clock that is two hours ahead");
        }
        stage.fact(AHEAD, "its reports are refused, and it gets no order");
        self.with_vm(AHEAD, |vm| vm.cut_power(None))?;
        stage.fact(AHEAD, "its clock is set right");
        Ok(())
    }

    /// The versions that an item's packages would have with every patch.
    fn fixed(&self, ci: &str) -> Result<BTreeMap<String, String>> {
        let check = self.admin.get(&format!("/cis/{ci}/check"))?;
        let findings = check["findings"].as_array().context("a check without findings")?;
        findings.iter().map(|it| Ok((text(it, "package")?, text(it, "candidate")?))).collect()
    }

    /// Somebody with a copy of an agent's keys says that everything is patched.
    fn forged(&self, stage: &Stage, cis: &BTreeMap<String, String>) -> Result<()> {
        let ci = &cis[COPIED];
        let disk = self.with_vm(COPIED, |vm| vm.switch_off(PATIENCE))?;
        let thief = self.setup.work.join("thief");
        super::thief::steal(&disk, &thief, &self.fixed(ci)?)?;
        self.with_vm(COPIED, |vm| vm.cut_power(None))?;
        stage.fact(
            "fault",
            format!("{COPIED}'s keys are copied; the copy reports that all is patched"),
        );
        super::thief::report(self.setup.program, &thief, &self.plane().for_neighbours())?;
        self.until("the quarantine", |world| {
            let agents = world.admin.list("/agents", "")?;
            let of = agents.iter().find(|agent| agent["ci"] == ci.as_str());
            let stands = of.and_then(|agent| agent["state"].as_str()).unwrap_or_default();
            stage.says(format!("{COPIED}'s agent is {stands}"));
            Ok((stands == "quarantined").then_some(()))
        })?;
        stage.fact(COPIED, "its agent is quarantined: neither the thief nor the host is believed");
        let told = self.parties.iter().find(|it| it.party == Party::Globex);
        let owner = &told.context("no Globex")?.owner;
        // Events are seen once the ledger has them.
        self.until("Globex to see that its agent was copied", |_| {
            let events = owner.list("/events", "")?;
            let is_it = |event: &Value| event["kind"].as_str() == Some("agent.conflict");
            Ok(events.iter().any(is_it).then_some(()))
        })?;
        stage.fact("globex", "sees `agent.conflict` among its events");
        Ok(())
    }

    /// Waits until machines are through with all releases, and nothing is missing on them.
    fn done(
        &self,
        stage: &Stage,
        releases: &[Release<'_>],
        names: &[&str],
        cis: &BTreeMap<String, String>,
    ) -> Result<()> {
        for name in names {
            let ci = &cis[*name];
            self.until(&format!("{name} to be done"), |world| {
                world.waits(stage, releases)?;
                for release in releases {
                    let shown = world.stands(stage, release)?;
                    let turns = shown["turns"].as_array().into_iter().flatten();
                    let mut own = turns.filter(|turn| turn["ci"] == ci.as_str());
                    if own.any(|turn| turn["phase"]["is"] != "done") {
                        return Ok(None);
                    }
                }
                Ok((world.status_of(ci)?.as_deref() == Some("latest")).then_some(()))
            })?;
            let orders = self.admin.get(&format!("/orders?ci={ci}"))?;
            let orders = orders.as_array().map_or(0, Vec::len);
            stage.fact(*name, format!("{orders} orders, each verified by a scan; at the latest"));
        }
        Ok(())
    }

    /// Releases end when every tenant's share is verified.
    fn ended(&self, stage: &Stage, releases: &[Release<'_>], unknown: &[String]) -> Result<()> {
        for release in releases {
            let ended = self.until("the release's end", |world| {
                world.waits(stage, releases)?;
                let shown = world.stands(stage, release)?;
                Ok(shown["ended"].as_str().map(str::to_owned))
            })?;
            if ended != "released" {
                bail!("the release of {} ended as {ended}", release.patch.source);
            }
            for member in &self.parties {
                let path = format!("/obligations/{}/{}", release.patch.change, member.id);
                if unknown.iter().any(|name| member.party.machines().contains(&name.as_str())) {
                    continue;
                }
                let shown = self.until("the tenant's share to be verified", |world| {
                    let share = world.admin.get(&path)?;
                    let phase = share["phase"].as_str().unwrap_or_default().to_owned();
                    stage.says(format!(
                        "{} of {} is {phase}",
                        release.patch.source,
                        member.party.slug()
                    ));
                    Ok(matches!(phase.as_str(), "verified" | "closed").then_some(share))
                })?;
                let clock = shown["clock"]["state"]["state"].as_str().unwrap_or_default();
                stage.fact(
                    member.party.slug(),
                    format!("{} is verified, its clock {clock}", release.patch.source),
                );
            }
        }
        Ok(())
    }

    /// What releases wait for, on the screen.
    fn waits(&self, stage: &Stage, releases: &[Release<'_>]) -> Result<()> {
        let mut said = Vec::new();
        for release in releases {
            let shown = self.admin.get(&format!("/releases/{}", release.id))?;
            let wait = shown["waits"][0]["what"].as_str().map(str::to_owned);
            let wait = wait.or_else(|| shown["ended"].as_str().map(str::to_owned));
            said.push(format!(
                "{}: {}",
                release.patch.source,
                wait.unwrap_or_else(|| "at work".to_owned())
            ));
        }
        stage.says(said.join("; "));
        Ok(())
    }

    /// A machine from the new image.
    fn newcomer(&self, content: &Path) -> Result<()> {
        let title = "A new machine is made from the new image, and scanned";
        self.setup.course.act(title, &["R8", "R24", "R7"], |stage| {
            let acme = self.parties.first().context("no Acme")?;
            self.until("the control plane", |world| {
                Ok((!world.is_down.load(Ordering::SeqCst)).then_some(()))
            })?;
            self.launch(acme, NEWCOMER, content)?;
            self.until("the new machine", |world| {
                let cis = world.cis()?;
                let Some(ci) = cis.get(NEWCOMER) else { return Ok(None) };
                match world.status_of(ci)?.as_deref() {
                    Some("latest") => Ok(Some(())),
                    Some(other) => bail!("{NEWCOMER} is {other} from its first report on"),
                    None => Ok(None),
                }
            })?;
            stage.fact(NEWCOMER, "at the latest from its first report on");
            Ok(())
        })
    }

    fn at_the_latest(&self, stage: &Stage, unknown: &[String]) -> Result<()> {
        for (name, ci) in self.cis()? {
            let status = self.status_of(&ci)?;
            let is_unknown = unknown.contains(&name);
            match status.as_deref() {
                Some("latest") if !is_unknown => stage.fact(name, "latest"),
                Some("unknown") | None if is_unknown => stage.fact(name, "unknown, and shown so"),
                other => bail!("{name} is {other:?}"),
            }
        }
        Ok(())
    }

    /// What the disks say when nobody can say anything for them.
    fn at_rest(&self, stage: &Stage, unknown: &[String]) -> Result<()> {
        let official = OfficialSources::new(self.plane().data(), None, None)?;
        let names: Vec<String> = self.vms().iter().map(|vm| vm.name.clone()).collect();
        for name in names {
            stage.says(format!("{name} is switched off"));
            let disk = self.with_vm(&name, |vm| vm.switch_off(PATIENCE))?;
            let (report, inventory) = check::judge(&disk, Origin::Official(&official))?;
            let missing: Vec<_> = report.findings.iter().map(|it| it.package.as_str()).collect();
            let is_latest = report.status == Status::Latest;
            if is_latest == unknown.contains(&name) {
                bail!("{name} at rest: {:?}, missing {missing:?}", report.status);
            }
            let packages = inventory.packages.len();
            let seen =
                if is_latest { "at the latest".to_owned() } else { format!("lacks {missing:?}") };
            stage.fact(name, format!("{packages} packages on its disk, {seen}"));
        }
        Ok(())
    }

    /// The record, exported, and verified by others.
    fn records(&self) -> Result<Found> {
        let title = "Records are archived, and verified by others";
        self.setup.course.act(title, &["R19", "R20", "R32", "R47", "R49"], |stage| {
            let archive = self.setup.directory.join("archive");
            let place = archive.display().to_string();
            self.admin.types(&["ledger", "export", &place])?;
            let key = self.plane().key.clone();
            let earlier = self.earlier().display().to_string();
            let arguments = ["ledger", "verify", &place, "--key", &key, "--since", &earlier];
            let said = self.admin.types(&arguments)?;
            let line = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
            stage.fact("ledger", line.trim());
            let trust = ledger::Policy::of_logs([key.parse()?]);
            let verified = ledger::verify::verify(
                &ledger::Directory::new(&archive),
                &ledger::verify::Against::policy(&trust),
            )?;
            let own = format!("{} {}", verified.size, verified.root);
            if let Some(foreign) = self.setup.foreign {
                let output = Command::new(foreign).args([&place, &key, &earlier]).output();
                let output =
                    output.with_context(|| format!("cannot start `{}`", foreign.display()))?;
                let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
                if !output.status.success() || said != own {
                    bail!("`{}` says {said:?}, not {own:?}", foreign.display());
                }
                stage.fact("foreign", format!("{} agrees: {said}", foreign.display()));
            }
            self.signatures(stage)?;
            Ok(Found { size: verified.size, root: verified.root.to_string(), key })
        })
    }

    /// Each consent, verified by OpenSSL with nothing but the tenant's public key.
    fn signatures(&self, stage: &Stage) -> Result<()> {
        if !Command::new("openssl").arg("version").output().is_ok_and(|it| it.status.success()) {
            stage.fact("openssl", "is not here: the tenants' signatures were not verified by it");
            return Ok(());
        }
        for member in &self.parties {
            let evidence = self.setup.directory.join("evidence");
            let mut count = 0;
            for entry in fs::read_dir(&evidence).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.starts_with(&format!("{}-", member.party.slug()))
                    && name.ends_with(".dsse.json")
                {
                    super::openssl::verify(&entry.path(), &member.owner.home().join("tenant.pub"))?;
                    count += 1;
                }
            }
            stage.fact(
                "openssl",
                format!("{count} answers of {} are signed with its key", member.party.slug()),
            );
        }
        Ok(())
    }

    /// Items by their names.
    fn cis(&self) -> Result<BTreeMap<String, String>> {
        let items = self.admin.list("/cis", "class=vm")?;
        items.iter().map(|ci| Ok((text(ci, "name")?, text(ci, "id")?))).collect()
    }

    /// What the last check of an item says; nothing where there is none yet.
    fn status_of(&self, ci: &str) -> Result<Option<String>> {
        match self.admin.get(&format!("/cis/{ci}/check")) {
            Ok(check) => Ok(check["status"].as_str().map(str::to_owned)),
            Err(error) if crate::client::connection::is_missing(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Waits for something that happens by itself, as long as the machines run.
    fn until<T>(&self, what: &str, mut look: impl FnMut(&Self) -> Result<Option<T>>) -> Result<T> {
        let began = Instant::now();
        loop {
            let was_down = self.is_down.load(Ordering::SeqCst);
            match look(self) {
                Ok(Some(found)) => return Ok(found),
                Ok(None) => {}
                // Nobody is surprised while it is down.
                Err(_) if was_down || self.is_down.load(Ordering::SeqCst) => {}
                Err(error) => return Err(error),
            }
            for vm in self.vms().iter_mut() {
                vm.must_run()?;
            }
            if began.elapsed() > PATIENCE {
                bail!("waited {} s for {what}", PATIENCE.as_secs());
            }
            thread::sleep(PACE);
        }
    }

    fn with_vm<T>(&self, name: &str, act: impl FnOnce(&mut Vm) -> Result<T>) -> Result<T> {
        let mut vms = self.vms();
        let vm = vms.iter_mut().find(|vm| vm.name == name);
        act(vm.with_context(|| format!("there is no machine {name}"))?)
    }

    fn vms(&self) -> MutexGuard<'_, Vec<Vm>> {
        self.vms.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn plane(&self) -> MutexGuard<'_, Plane> {
        self.plane.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What consoles printed, for whoever looks why it failed.
    fn keep_consoles(&self) {
        for vm in self.vms().iter() {
            let place = self.setup.work.join(format!("console-{}-{}.log", vm.tenant, vm.name));
            // The failure itself matters more.
            let _ = fs::write(place, vm.console());
        }
    }
}

impl Member {
    /// A tenant, its owner, its policy that both agreed on, and its key.
    fn take_up(plane: &Plane, admin: &Person, party: Party, scale: u32) -> Result<Self> {
        let (slug, name) = (party.slug(), party.name());
        let tenant =
            admin.post("/tenants", &json!({ "slug": slug, "name": name, "model": "iaas" }))?;
        let id = text(&tenant, "id")?;
        let password = Secret::new(new_password()?);
        admin.post(
            "/users",
            &json!({
                "tenant": id, "login": party.owner(), "name": party.owner(),
                "role": "tenant_owner", "password": password.reveal(),
            }),
        )?;
        let owner = plane.sign_in(party.owner(), &password)?;
        let policy = json!({ "document": terms::policy(party, scale) });
        let proposed = admin.post(&format!("/policies/{id}"), &policy)?;
        let version =
            proposed["policy"]["version"].as_str().context("a policy without a version")?;
        owner.post(&format!("/policies/{id}/agreement"), &json!({ "version": version }))?;
        let key = owner.home().join("tenant.key").display().to_string();
        owner.types(&["consent", "key", "new", &key])?;
        let public = owner.types(&["consent", "key", "show", &key])?;
        fs::write(owner.home().join("tenant.pub"), pem_of(&public)?)?;
        owner.types(&["consent", "key", "register", &key, "--label", "desk of the owner"])?;
        Ok(Self { party, id, owner })
    }
}

/// The public key within what is printed of it.
fn pem_of(printed: &str) -> Result<String> {
    let begin = printed.find("-----BEGIN").context("no public key was printed")?;
    Ok(printed[begin..].trim_end().to_owned() + "\n")
}

/// Why a release is held, in words.
fn why_held(release: &Value) -> String {
    let why = &release["mode"]["why"];
    let hold: Result<Hold, _> = serde_json::from_value(why.clone());
    hold.map_or_else(|_| why.to_string(), |hold| hold.to_string())
}

fn release_request(change: &str, canary: &str) -> Value {
    json!({
        "change": change, "profile": terms::WAVES, "canaries": [canary],
        "install_minutes": 1, "restart_minutes": 1,
    })
}

fn text(value: &Value, field: &str) -> Result<String> {
    let found = value[field].as_str().map(str::to_owned);
    found.with_context(|| format!("the control plane named no `{field}`: {value}"))
}

/// An image's bytes in the data directory, by their hash.
fn find_content(data: &Path, sha256: &str) -> Result<PathBuf> {
    let mut places = vec![data.join("images")];
    while let Some(place) = places.pop() {
        for entry in
            fs::read_dir(&place).with_context(|| format!("cannot read {}", place.display()))?
        {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                places.push(entry.path());
            } else if entry.file_name().to_string_lossy().contains(sha256) {
                return Ok(entry.path());
            }
        }
    }
    bail!("there are no bytes of {sha256}")
}

/// What the image is for: its users expect the web server to answer.
const PROFILE: &str = "\
[[probe]]
name = \"web server\"
http = { port = 80, path = \"/\", status = 200 }
within_seconds = 60

[[probe]]
name = \"the unit\"
unit = \"nginx.service\"
";

/// Somebody's application relies on the very version that is installed: the patch breaks it.
fn broken_by_the_patch(installed: &str) -> String {
    format!(
        "[[probe]]\nname = \"an application that relies on version {installed}\"\n\
         command = {{ argv = [\"/usr/bin/grep\", \"-qxF\", \"Version: {installed}\", \"/var/lib/dpkg/status\"] }}\n"
    )
}
