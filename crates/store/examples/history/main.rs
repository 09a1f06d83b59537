//! What content history costs.
//!
//! `history FOLDER [VERSIONS] [FILES OF A BATCH] [ITEMS] [FILES OF AN ITEM]`: a seeded corpus is taken in by the
//! store with everything on (tenants, keys, encryption, commitments, events, sealing with its verification), in bulk, and
//! beside it by `git fast-import` with `git repack -adf`, one commit for each moment; then files at random times, beside
//! git with commit-graph and changed paths. The same recorded batch by batch, each durable before its caller goes on.
//! Then single durable changes, beside `git add` with `git commit`, and etckeeper where it is installed.
//!
//! `history FOLDER git REPOSITORY [VERSIONS] [text]`: the same of what a git repository holds, commit for commit; with
//! `text` without what git takes for binary.
//!
//! `history FOLDER single`: single durable changes alone.
//!
//! `history FOLDER curve [VERSIONS] [ITEMS]`: ours alone, with figures along the way; the processor's time is that of a
//! version.
//!
//! `history FOLDER ask [ITEMS] [QUESTIONS]`: files at random times of what `curve` left there, by a process that begins, and
//! once more as many.

#![allow(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "figures for people"
)]

mod corpus;
mod repository;

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use corpus::{Batch, Corpus, Random};
use domain::cloud::{CiId, Class, PROVIDER, Role, ServiceModel, TenantId};
use jiff::{SignedDuration, Timestamp};
use store::{
    Actor, Database, FilePath, History, Labels, MasterKey, Metadata, NewBatch, NewCi, NewFile,
    NewState, NewTenant, NewUser, ObjectDirectory, Past, SealRule, Store, System,
};

/// As the control plane has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

type Result<T, E = Box<dyn Error + Send + Sync>> = std::result::Result<T, E>;

/// How many versions wait in rows before they are sealed.
const SEAL_AT: u32 = 20_000;

/// Files of each item, where `curve` makes them.
const FILES: usize = 300;

/// About how many versions are taken in at once.
const AT_ONCE: usize = 50_000;

/// And of how many bytes.
const BYTES_AT_ONCE: usize = 400 << 20;

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().ok_or("name an empty folder")?);
    fs::create_dir_all(&folder)?;
    let arguments: Vec<String> = arguments.collect();
    let number = |at: usize, default: usize| {
        arguments.get(at).map_or(Ok(default), |it| it.parse().map_err(|_| format!("`{it}`?")))
    };
    match arguments.first().map(String::as_str) {
        Some("git") => {
            let repository = Path::new(arguments.get(1).ok_or("name a repository")?);
            let recorded = repository::read(
                repository,
                number(2, usize::MAX)?,
                arguments.get(3).is_some_and(|it| it == "text"),
            )?;
            beside_git(&folder, &recorded.names, Arc::new(recorded.batches)).await
        }
        Some("single") => singles(&folder).await,
        Some("ask") => ask(&folder, number(1, 320)?, number(2, 20_000)?).await,
        Some("curve") => curve(&folder, number(1, 10_000_000)?, number(2, 320)?).await,
        _ => {
            let (versions, about) = (number(0, 100_000)?, number(1, 8)?);
            let (items, files) = (number(2, 64)?, number(3, 300)?);
            let mut corpus = Corpus::new(20_261_130, items, files);
            let mut batches = corpus.first();
            let mut count: usize = batches.iter().map(|it| it.files.len()).sum();
            while count < versions {
                let batch = corpus.next(about);
                count += batch.files.len();
                batches.push(batch);
            }
            let names: Vec<_> = (0..items).map(|item| format!("host-{item:04}")).collect();
            beside_git(&folder, &names, Arc::new(batches)).await?;
            singles(&folder).await
        }
    }
}

/// Everything at once, beside git: what it takes to get in, how large it is then, and a file at a time.
async fn beside_git(folder: &Path, names: &[String], batches: Arc<Vec<Batch>>) -> Result<()> {
    let count: usize = batches.iter().map(|it| it.files.len()).sum();
    let contents = batches.iter().flat_map(|it| it.files.values().flatten());
    let bytes: usize = contents.map(|it| it.len()).sum();
    let moments = batches.last().map_or(0, |it| it.moment + 1);
    println!(
        "corpus: {count} versions in {} batches of {} items at {moments} moments, {bytes} bytes ({} each)",
        batches.len(),
        names.len(),
        bytes / count
    );
    let cloud = Cloud::new(&folder.join("ours"), names.len()).await?;
    let before = processor()?;
    let (recorded, took) = cloud.backfill(&batches).await?;
    let spent = processor()?.saturating_sub(before);
    let (database, objects) = cloud.sizes().await?;
    let ours = (database + objects) as f64 / count as f64;
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "ours: {rate:.0} versions/s ({took:.1?}, processor {spent:.1?}), {ours:.0} bytes/version (objects {:.0}, database {:.0})",
        objects as f64 / count as f64,
        database as f64 / count as f64
    );
    let fsck = cloud.history.fsck(&Actor::System, cloud.tenant).await?;
    println!(
        "fsck: {} versions, {} contents, {} batches, {} damages",
        fsck.versions,
        fsck.contents,
        fsck.batches,
        fsck.damages.len()
    );

    let git = Git::new(&folder.join("git"))?;
    let (import, repack, before, size) = git.import(&folder.join("stream"), names, &batches)?;
    let theirs = size as f64 / count as f64;
    let git_rate = count as f64 / (import + repack).as_secs_f64();
    println!(
        "git:  {git_rate:.0} versions/s (import {import:.1?}, repack {repack:.1?}), {theirs:.0} bytes/version (before repack {:.0})",
        before as f64 / count as f64
    );
    println!("  => ingest {:.1} x, bytes {:.2} x", rate / git_rate, ours / theirs);

    let (p50, p99) = cloud
        .lookups(&batches, &recorded.into_iter().flatten().collect::<Vec<_>>(), 20_000)
        .await?;
    let (git50, git99) = git.lookups(names, &batches)?;
    println!(
        "file at T: ours p50 {p50:.1?} p99 {p99:.1?}; git p50 {git50:.1?} p99 {git99:.1?} => p50 1/{:.0}, p99 1/{:.0}",
        git50.as_secs_f64() / p50.as_secs_f64(),
        git99.as_secs_f64() / p99.as_secs_f64()
    );
    drop(cloud);

    let cloud = Cloud::new(&folder.join("recorded"), names.len()).await?;
    let before = processor()?;
    let (_, took) = cloud.ingest(&batches).await?;
    let spent = processor()?.saturating_sub(before);
    let rate = count as f64 / took.as_secs_f64();
    println!(
        "recorded batch by batch: {rate:.0} versions/s (processor {spent:.1?}) => {:.1} x",
        rate / git_rate
    );
    Ok(())
}

/// What a version costs, and how soon a file is found, the more there are.
async fn curve(folder: &Path, versions: usize, items: usize) -> Result<()> {
    let mut corpus = Corpus::new(20_261_130, items, FILES);
    let cloud = Cloud::new(&folder.join("ours"), items).await?;
    let (mut count, mut at_last, mut times) = (0, 0, Vec::new());
    let (mut took, mut spent) = (Duration::ZERO, Duration::ZERO);
    let mut marks = vec![versions];
    while marks.last().is_some_and(|&it| it > 100_000) {
        let last = marks.last().map_or(0, |it| it / 10);
        marks.extend([last * 3, last]);
    }
    let mut batches = corpus.first();
    println!(
        "{:>12} {:>12} {:>12} {:>14} {:>10} {:>10}",
        "versions", "versions/s", "processor", "bytes/version", "p50", "p99"
    );
    loop {
        let these = Arc::new(std::mem::take(&mut batches));
        let begin: usize = these.iter().map(|it| it.files.len()).sum();
        let before = processor()?;
        let (recorded, time) = cloud.backfill(&these).await?;
        (count, took, spent) =
            (count + begin, took + time, spent + processor()?.saturating_sub(before));
        times.extend(recorded.into_iter().flatten().step_by(16));
        if marks.last().is_some_and(|&mark| count >= mark) {
            marks.retain(|&mark| mark > count);
            let (database, objects) = cloud.sizes().await?;
            let (p50, p99) = cloud.lookups(&these, &times, 5_000).await?;
            println!(
                "{count:>12} {:>12.0} {:>12.0?} {:>14.0} {p50:>10.0?} {p99:>10.0?}",
                (count - at_last) as f64 / took.as_secs_f64(),
                spent.div_f64((count - at_last) as f64),
                (database + objects) as f64 / count as f64
            );
            (at_last, took, spent) = (count, Duration::ZERO, Duration::ZERO);
            if marks.is_empty() {
                break;
            }
        }
        let mut here = 0;
        // As many as are taken in at once, and no rest.
        while here < AT_ONCE - 100 {
            let batch = corpus.next(8);
            here += batch.files.len();
            batches.push(batch);
        }
    }
    let fsck = cloud.history.fsck(&Actor::System, cloud.tenant).await?;
    println!("fsck: {} versions, {} damages", fsck.versions, fsck.damages.len());
    Ok(())
}

/// Files of what was taken in before, at random times.
async fn ask(folder: &Path, items: usize, count: usize) -> Result<()> {
    let first = Corpus::new(20_261_130, items, FILES).first();
    let (cloud, begin, end) = Cloud::again(&folder.join("ours")).await?;
    let mut random = Random::new(99);
    println!("{:>12} {:>10} {:>10}", "questions", "p50", "p99");
    for _ in 0..2 {
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let batch = &first[random.below(first.len())];
            let path = batch.files.keys().nth(random.below(batch.files.len()));
            let path = FilePath::new(path.ok_or("an item without files")?.as_str())?;
            let since = random.below((end - begin) as usize);
            let at = Timestamp::from_microsecond(begin.saturating_add_unsigned(since as u64))?;
            times.push(cloud.file_at(batch.item, &path, at).await?);
        }
        let (p50, p99) = percentiles(times);
        println!("{count:>12} {p50:>10.0?} {p99:>10.0?}");
    }
    Ok(())
}

/// Single durable changes in a folder of 322 files, one after the other.
async fn singles(folder: &Path) -> Result<()> {
    let mut corpus = Corpus::new(7, 1, 322);
    let first = corpus.first();
    let changes: Vec<Batch> = (0..2000).map(|_| corpus.next(1)).collect();
    let cloud = Cloud::new(&folder.join("single"), 1).await?;
    cloud.record(&first[0]).await?;
    let begin = Instant::now();
    for change in &changes {
        cloud.record(change).await?;
    }
    let ours = changes.len() as f64 / begin.elapsed().as_secs_f64();
    let work = folder.join("worktree");
    fs::create_dir_all(&work)?;
    write_files(&work, &first[0])?;
    let git = Git::in_folder(&work, &["init", "-q", "-b", "main"])?;
    git.run(&["add", "-A"])?;
    git.run(&["commit", "-qm", "first"])?;
    let begin = Instant::now();
    for change in &changes[..100] {
        write_files(&work, change)?;
        git.run(&["add", "-A"])?;
        git.run(&["commit", "-qm", "change", "--allow-empty"])?;
    }
    let theirs = 100.0 / begin.elapsed().as_secs_f64();
    print!(
        "single durable change: ours {ours:.0}/s, git add + commit {theirs:.1}/s => {:.0} x",
        ours / theirs
    );
    let installed = Command::new("etckeeper")
        .arg("--version")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if installed.is_ok() {
        // Git leaves it to the system when its objects are on the disk, unless it is told: then both are durable.
        for (name, syncs) in [("etckeeper", false), ("etckeeper that syncs", true)] {
            let kept = folder.join(name.replace(' ', "-"));
            let theirs = kept_by_etckeeper(&kept, &first[0], &changes[..40], syncs)?;
            print!(", {name} {theirs:.1}/s => {:.0} x", ours / theirs);
        }
    }
    println!();
    // Many callers share commits.
    let cloud = Cloud::new(&folder.join("callers"), 64).await?;
    let mut corpus = Corpus::new(8, 64, 40);
    let mut batches = corpus.first();
    for batch in &batches {
        cloud.record(batch).await?;
    }
    batches = (0..20_000).map(|_| corpus.next(1)).collect();
    let (_, took) = cloud.ingest(&Arc::new(batches)).await?;
    println!("with 64 callers: {:.0} single durable changes/s", 20_000.0 / took.as_secs_f64());
    Ok(())
}

/// Changes a second that etckeeper keeps in a folder.
fn kept_by_etckeeper(kept: &Path, first: &Batch, changes: &[Batch], syncs: bool) -> Result<f64> {
    fs::create_dir_all(kept)?;
    write_files(kept, first)?;
    let etckeeper = |arguments: &[&str]| -> Result<()> {
        // The folder comes before the message: else it is another one's, that of this machine.
        let (verb, rest) = arguments.split_first().ok_or("say what to do")?;
        let done = Command::new("etckeeper")
            .args([verb, "-d"])
            .arg(kept)
            .args(rest)
            .env("HOME", kept)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status()?;
        if done.success() { Ok(()) } else { Err(format!("etckeeper {arguments:?}").into()) }
    };
    etckeeper(&["init"])?;
    let kept_in = Git { folder: kept.to_owned() };
    kept_in.run(&["config", "user.name", "n"])?;
    kept_in.run(&["config", "user.email", "n@example.org"])?;
    if syncs {
        kept_in.run(&["config", "core.fsync", "all"])?;
    }
    etckeeper(&["commit", "first"])?;
    let begin = Instant::now();
    for change in changes {
        write_files(kept, change)?;
        // It refuses to commit where nothing altered.
        let _ = etckeeper(&["commit", "change"]);
    }
    Ok(changes.len() as f64 / begin.elapsed().as_secs_f64())
}

fn write_files(folder: &Path, batch: &Batch) -> Result<()> {
    for (path, content) in &batch.files {
        let file = folder.join(path.trim_start_matches('/'));
        match content {
            Some(content) => {
                fs::create_dir_all(file.parent().ok_or("a path")?)?;
                fs::write(file, content)?;
            }
            None => fs::remove_file(file)?,
        }
    }
    Ok(())
}

struct Cloud {
    store: Store,
    history: History,
    tenant: TenantId,
    cis: Vec<CiId>,
    folder: PathBuf,
}

impl Cloud {
    async fn new(folder: &Path, items: usize) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let store = Store::open(&Database::file(&folder.join("it.db")), Arc::new(System)).await?;
        let first = NewUser {
            tenant: PROVIDER,
            login: "root".parse()?,
            name: "Root".parse()?,
            role: Role::Admin,
            password: None,
        };
        store.found("Cloud".parse()?, first).await?;
        let new =
            NewTenant { slug: "acme".parse()?, name: "Acme".parse()?, model: ServiceModel::Iaas };
        let tenant = store.create_tenant(&Actor::System, None, new).await?.id;
        let mut cis = Vec::new();
        for number in 0..items {
            let name = format!("host-{number:04}").parse()?;
            let new = NewCi { tenant, class: Class::Vm, name, labels: Labels::new() };
            cis.push(store.create_ci(&Actor::System, None, new).await?.id);
        }
        Self::over(store, tenant, cis, folder)
    }

    fn over(store: Store, tenant: TenantId, cis: Vec<CiId>, folder: &Path) -> Result<Self> {
        let master = MasterKey::open(&folder.join("master.key"), &System)?;
        let objects = Arc::new(ObjectDirectory::open(folder.join("objects"))?);
        let history = store.history(Arc::new(master), objects);
        Ok(Self { store, history, tenant, cis, folder: folder.to_owned() })
    }

    /// What was made before, with the instants at which its history begins and ends.
    async fn again(folder: &Path) -> Result<(Self, i64, i64)> {
        let store = Store::open(&Database::file(&folder.join("it.db")), Arc::new(System)).await?;
        let address = format!("sqlite://{}", folder.join("it.db").display());
        let pool = sqlx::SqlitePool::connect(&address).await?;
        let tenant = "SELECT id FROM tenants WHERE slug = 'acme'";
        let tenant: String = sqlx::query_scalar(tenant).fetch_one(&pool).await?;
        let cis = "SELECT id FROM cis WHERE name LIKE 'host-%' ORDER BY name";
        let cis: Vec<String> = sqlx::query_scalar(cis).fetch_all(&pool).await?;
        let span = "SELECT MIN(first_recorded), MAX(last_recorded) FROM history_partitions";
        let (begin, end) = sqlx::query_as(span).fetch_one(&pool).await?;
        pool.close().await;
        let cis = cis.iter().map(|ci| ci.parse()).collect::<Result<_, _>>()?;
        Ok((Self::over(store, tenant.parse()?, cis, folder)?, begin, end))
    }

    /// How long a file at a time takes.
    async fn file_at(&self, item: usize, path: &FilePath, at: Timestamp) -> Result<Duration> {
        let begin = Instant::now();
        let found = self.history.file_at(&Actor::System, self.cis[item], path, at).await?;
        if matches!(found, Past::Kept(_)) {
            Ok(begin.elapsed())
        } else {
            Err("nothing was erased".into())
        }
    }

    fn files(batch: &Batch) -> Result<Vec<NewFile>> {
        let files = batch.files.iter().map(|(path, content)| {
            let state = match content {
                Some(content) => NewState::Present {
                    content: content.to_vec(),
                    metadata: Metadata {
                        mode: 0o644,
                        owner: "root:root".to_owned(),
                        label: Vec::new(),
                    },
                },
                None => NewState::Gone,
            };
            Ok(NewFile {
                path: FilePath::new(path.as_str())?,
                state,
                observed_at: Timestamp::now(),
                source: "agent".to_owned(),
                by: None,
                change: None,
            })
        });
        files.collect()
    }

    async fn record(&self, batch: &Batch) -> Result<Option<Timestamp>> {
        let files = Self::files(batch)?;
        let recorded = self.history.record(&Actor::System, self.cis[batch.item], files).await?;
        Ok(recorded.map(|it| it.at))
    }

    /// Takes all batches in, some at once.
    async fn backfill(&self, batches: &[Batch]) -> Result<(Vec<Option<Timestamp>>, Duration)> {
        let begin = Instant::now();
        let (mut recorded, mut left) = (Vec::with_capacity(batches.len()), batches);
        while !left.is_empty() {
            let (mut versions, mut bytes) = (0, 0);
            let within = |batch: &&Batch| {
                versions += batch.files.len();
                bytes += batch.files.values().flatten().map(|it| it.len()).sum::<usize>();
                versions <= AT_ONCE && bytes <= BYTES_AT_ONCE
            };
            let count = left.iter().take_while(within).count().max(1);
            let (now, later) = left.split_at(count);
            left = later;
            let now = now
                .iter()
                .map(|batch| Ok(NewBatch { ci: self.cis[batch.item], files: Self::files(batch)? }));
            let now = now.collect::<Result<Vec<_>>>()?;
            let kept = self.history.backfill(&Actor::System, now, "it").await?;
            recorded.extend(kept.into_iter().map(|it| it.map(|it| it.at)));
        }
        Ok((recorded, begin.elapsed()))
    }

    /// Records all batches, each item's one after the other, while what is due is sealed beside. Until
    /// everything is sealed.
    async fn ingest(
        &self,
        batches: &Arc<Vec<Batch>>,
    ) -> Result<(Vec<Option<Timestamp>>, Duration)> {
        let begin = Instant::now();
        let mut of_items: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for (number, batch) in batches.iter().enumerate() {
            of_items.entry(batch.item).or_default().push(number);
        }
        let cloud = Arc::new(Self {
            store: self.store.clone(),
            history: self.history.clone(),
            tenant: self.tenant,
            cis: self.cis.clone(),
            folder: self.folder.clone(),
        });
        let callers: Vec<_> = of_items
            .into_values()
            .map(|numbers| {
                let (cloud, batches) = (Arc::clone(&cloud), Arc::clone(batches));
                tokio::spawn(async move {
                    let mut recorded = Vec::new();
                    for number in numbers {
                        recorded.push((number, cloud.record(&batches[number]).await?));
                    }
                    Ok::<_, Box<dyn Error + Send + Sync>>(recorded)
                })
            })
            .collect();
        let rule = SealRule { versions: SEAL_AT, age: SignedDuration::from_hours(1) };
        while !callers.iter().all(tokio::task::JoinHandle::is_finished) {
            for tenant in cloud.history.due_for_sealing(rule).await? {
                cloud.history.seal(tenant, "it").await?;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        let mut recorded = vec![None; batches.len()];
        for caller in callers {
            for (number, at) in caller.await?? {
                recorded[number] = at;
            }
        }
        cloud.history.seal(cloud.tenant, "it").await?;
        let took = begin.elapsed();
        Ok((recorded, took))
    }

    /// Bytes of the database without free pages, and of all objects.
    async fn sizes(&self) -> Result<(u64, u64)> {
        self.history.remove_garbage().await?;
        let address = format!("sqlite://{}", self.folder.join("it.db").display());
        let pool = sqlx::SqlitePool::connect(&address).await?;
        for text in ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"]
        {
            sqlx::query(text).execute(&pool).await?;
        }
        pool.close().await;
        let size = |path: &Path| fs::metadata(path).map_or(0, |it| it.len());
        let log = size(&self.folder.join("it.db-wal"));
        Ok((size(&self.folder.join("it.db")) + log, folder_size(&self.folder.join("objects"))?))
    }

    async fn lookups(
        &self,
        batches: &[Batch],
        recorded: &[Timestamp],
        count: usize,
    ) -> Result<(Duration, Duration)> {
        let mut times = Vec::new();
        for (item, path, when) in questions(batches, count) {
            let at = recorded[when * recorded.len() / batches.len()];
            times.push(self.file_at(item, &FilePath::new(path)?, at).await?);
        }
        Ok(percentiles(times))
    }
}

/// Processor time of this process so far, its threads together.
fn processor() -> Result<Duration> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let words: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
    let ticks = words[11].parse::<u64>()? + words[12].parse::<u64>()?;
    Ok(Duration::from_millis(ticks * 10))
}

/// Files of items at the time of random batches, the same for everybody.
fn questions(batches: &[Batch], count: usize) -> Vec<(usize, String, usize)> {
    let mut random = Random::new(99);
    let mut questions = Vec::with_capacity(count);
    while questions.len() < count {
        let batch = &batches[random.below(batches.len())];
        let path = batch.files.keys().nth(random.below(batch.files.len()));
        let at = random.below(batches.len());
        questions.extend(path.map(|path| (batch.item, path.clone(), at)));
    }
    questions
}

fn percentiles(mut times: Vec<Duration>) -> (Duration, Duration) {
    times.sort_unstable();
    (times[times.len() / 2], times[times.len() * 99 / 100])
}

fn folder_size(folder: &Path) -> Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { folder_size(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

struct Git {
    folder: PathBuf,
}

impl Git {
    fn new(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder)?;
        Self::in_folder(folder, &["init", "-q", "--bare", "-b", "main"])
    }

    fn in_folder(folder: &Path, init: &[&str]) -> Result<Self> {
        let git = Self { folder: folder.to_owned() };
        git.run(init)?;
        git.run(&["config", "user.name", "n"])?;
        git.run(&["config", "user.email", "n@example.org"])?;
        git.run(&["config", "gc.auto", "0"])?;
        Ok(git)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.current_dir(&self.folder).args(arguments).stderr(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Result<Vec<u8>> {
        let output = self.command(arguments).output()?;
        if output.status.success() {
            Ok(output.stdout)
        } else {
            Err(format!("git {arguments:?}").into())
        }
    }

    /// Times of import and repack, and sizes before and after the latter.
    fn import(
        &self,
        stream: &Path,
        names: &[String],
        batches: &[Batch],
    ) -> Result<(Duration, Duration, u64, u64)> {
        let mut out = std::io::BufWriter::new(fs::File::create(stream)?);
        let mut last = None;
        for batch in batches {
            // What altered at one moment is one commit.
            if last.replace(batch.moment) != Some(batch.moment) {
                let at = seconds(batch.moment);
                write!(
                    out,
                    "commit refs/heads/main\ncommitter n <n@example.org> {at} +0000\ndata 1\nx\n"
                )?;
            }
            for (path, content) in &batch.files {
                let path = format!("{}{path}", names[batch.item]);
                match content {
                    Some(content) => {
                        write!(out, "M 100644 inline {path}\ndata {}\n", content.len())?;
                        out.write_all(content)?;
                        out.write_all(b"\n")?;
                    }
                    None => writeln!(out, "D {path}")?,
                }
            }
        }
        out.flush()?;
        drop(out);
        let begin = Instant::now();
        let status =
            self.command(&["fast-import", "--quiet"]).stdin(fs::File::open(stream)?).status()?;
        if !status.success() {
            return Err("git fast-import".into());
        }
        let import = begin.elapsed();
        let before = folder_size(&self.folder)?;
        let begin = Instant::now();
        self.run(&["repack", "-adfq"])?;
        let repack = begin.elapsed();
        let size = folder_size(&self.folder)?;
        self.run(&["commit-graph", "write", "--reachable", "--changed-paths"])?;
        fs::remove_file(stream)?;
        Ok((import, repack, before, size))
    }

    fn lookups(&self, names: &[String], batches: &[Batch]) -> Result<(Duration, Duration)> {
        let mut times = Vec::new();
        for (item, path, when) in questions(batches, 200) {
            let path = format!("{}{path}", names[item]);
            let before = format!("--before={}", seconds(batches[when].moment));
            let begin = Instant::now();
            let commit = self.run(&["rev-list", "-1", &before, "main", "--", &path])?;
            let commit = String::from_utf8(commit)?;
            if !commit.is_empty() {
                // It fails where the file was gone.
                let _ = self.run(&["cat-file", "blob", &format!("{}:{path}", commit.trim())]);
            }
            times.push(begin.elapsed());
        }
        Ok(percentiles(times))
    }
}

/// A moment as git's clock has it, which knows whole seconds.
fn seconds(moment: usize) -> usize {
    1_000_000_000 + moment
}
