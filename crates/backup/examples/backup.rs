//! What backups cost, beside `cp -a` and `tar` of the same, in one run:
//! `cargo run --release --example backup -- GB [FOLDER]`.
//!
//! Half of the installation is a database of rows that compress as ours do, half are objects that do not compress. It is
//! written all the time while it is backed up; the copies are of an installation at rest, which they need.

use std::error::Error;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use backup::{Backup, Repository, Secret, Source};
use jiff::Timestamp;
use rusqlite::Connection;

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

static NUMBER: AtomicU64 = AtomicU64::new(1);

/// `SplitMix64` of a counter: fast, and good enough to be measured with.
fn random(bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(8) {
        let mut z = NUMBER.fetch_add(1, Ordering::Relaxed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        chunk.copy_from_slice(&(z ^ (z >> 31)).to_le_bytes()[..chunk.len()]);
    }
}

/// A payload with names, times, and hashes in it.
fn row(number: i64) -> Vec<u8> {
    let mut noise = [0; 96];
    random(&mut noise);
    let text: String = noise.iter().map(|byte| char::from(b'a' + byte % 16)).collect();
    format!(
        "{{\"kind\":\"ci.observed\",\"number\":{number},\"tenant\":\"ten_{:026}\",\"digest\":\"{text}\"}}",
        number % 977
    )
    .into_bytes()
}

fn fill(data: &Path, bytes: u64) -> Result<i64> {
    let mut connection = open(data)?;
    connection.execute_batch("CREATE TABLE events (id INTEGER PRIMARY KEY, payload BLOB)")?;
    let (mut number, database) = (0, data.join("patchwright.db"));
    while fs::metadata(&database)?.len() < bytes / 2 {
        let transaction = connection.transaction()?;
        {
            let mut insert = transaction.prepare("INSERT INTO events VALUES (?1, ?2)")?;
            for _ in 0..50_000 {
                number += 1;
                insert.execute((number, row(number)))?;
            }
        }
        transaction.commit()?;
        connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    }
    fs::create_dir_all(data.join("history"))?;
    let mut object = vec![0; 8 << 20];
    for index in 0..(bytes / 2).div_ceil(object.len() as u64) {
        random(&mut object);
        fs::write(data.join(format!("history/{index:08}")), &object)?;
    }
    rustix::fs::syncfs(File::open(data)?)?;
    Ok(number)
}

fn open(data: &Path) -> Result<Connection> {
    let connection = Connection::open(data.join("patchwright.db"))?;
    connection.busy_timeout(Duration::from_secs(30))?;
    connection.execute_batch("PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
    Ok(connection)
}

fn size(folder: &Path) -> Result<u64> {
    let mut total = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        total += if metadata.is_dir() { size(&entry.path())? } else { metadata.len() };
    }
    Ok(total)
}

/// Seconds of something, with all of it on the disk.
fn timed<T>(folder: &Path, work: impl FnOnce() -> Result<T>) -> Result<(f64, T)> {
    rustix::fs::syncfs(File::open(folder)?)?;
    let begun = Instant::now();
    let value = work()?;
    rustix::fs::syncfs(File::open(folder)?)?;
    Ok((begun.elapsed().as_secs_f64(), value))
}

fn run(program: &str, arguments: &[&Path]) -> Result<()> {
    let status = Command::new(program).args(arguments).status()?;
    if status.success() { Ok(()) } else { Err(format!("{program} failed").into()) }
}

fn begin(data: &Path, to: &Path) -> Result<Backup> {
    let master = Secret::new([9; 32]);
    let objects = Repository::directory(to)?;
    let (repository, writing) =
        Repository::adopt(objects, &master, vec![Secret::new([7; 32])], random)?;
    let database = Some(data.join("patchwright.db"));
    Ok(Backup::begin(
        repository,
        writing,
        Source { data: data.to_owned(), database, with_images: true },
    )?)
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg")
        .unwrap_or_default()
        .split(' ')
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let gigabytes: f64 = arguments.next().as_deref().unwrap_or("1").parse()?;
    let place = arguments.next().map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::Builder::new().prefix("patchwright-backup").tempdir_in(place)?;
    let folder = folder.path();
    let (data, to) = (folder.join("data"), folder.join("repository"));
    fs::create_dir_all(&data)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a size")]
    let rows = fill(&data, (gigabytes * 1e9) as u64)?;
    let bytes = size(&data)?;
    println!("installation {bytes} bytes, {rows} rows, load {}", load());

    let (copy, ()) = timed(folder, || run("cp", &[Path::new("-a"), &data, &folder.join("copy")]))?;
    fs::remove_dir_all(folder.join("copy"))?;
    println!("cp -a             {copy:8.2} s");
    let archive = folder.join("archive");
    let (tar, ()) = timed(folder, || {
        run("tar", &[Path::new("-cf"), &archive, Path::new("-C"), &data, Path::new(".")])
    })?;
    fs::remove_file(&archive)?;
    println!("tar -cf           {tar:8.2} s");

    let is_ended = AtomicBool::new(false);
    let mut backup = begin(&data, &to)?;
    let (full, restored) = std::thread::scope(|scope| -> Result<_> {
        let writing = scope.spawn(|| -> Result<()> {
            let connection = open(&data)?;
            let mut number = rows;
            while !is_ended.load(Ordering::SeqCst) {
                number += 1;
                connection.execute("INSERT INTO events VALUES (?1, ?2)", (number, row(number)))?;
                // Something old alters, too.
                let old = number * 7919 % rows;
                connection
                    .execute("UPDATE events SET payload = ?2 WHERE id = ?1", (old, row(old)))?;
                std::thread::sleep(Duration::from_millis(5));
            }
            Ok(())
        });
        let measured = (|| {
            let (full, taken) = timed(folder, || Ok(backup.step(Timestamp::now())?))?;
            println!(
                "full backup       {full:8.2} s  {:.2} of cp -a, {} bytes in the repository",
                full / copy,
                taken.written
            );
            let mut seconds = Vec::new();
            let mut added = 0;
            for _ in 0..30 {
                std::thread::sleep(Duration::from_millis(500));
                let begun = Instant::now();
                let taken = backup.step(Timestamp::now())?;
                seconds.push(begun.elapsed().as_secs_f64());
                added += taken.written;
                assert!(!taken.is_full, "an increment compared everything");
            }
            seconds.sort_by(f64::total_cmp);
            println!(
                "increment         {:8.4} s median, {:.4} s longest, {} bytes each: 1/{:.0} of cp -a",
                seconds[15],
                seconds[29],
                added / 30,
                copy / seconds[15]
            );
            drop(backup);
            let mut backup = begin(&data, &to)?;
            let (again, taken) = timed(folder, || Ok(backup.step(Timestamp::now())?))?;
            println!("begun anew        {again:8.2} s, {} bytes", taken.written);
            Ok::<_, Box<dyn Error + Send + Sync>>(full)
        })();
        is_ended.store(true, Ordering::SeqCst);
        writing.join().map_err(|_| "the writer failed")??;
        let full = measured?;
        let repository =
            Repository::open(Repository::directory(&to)?, &Secret::new([9; 32]), random)?;
        let manifest = repository.newest(None)?;
        let (restored, _) =
            timed(folder, || Ok(repository.restore(&manifest, &folder.join("back"))?))?;
        println!("restore, verified {restored:8.2} s  {:.2} of cp -a", restored / copy);
        let (verified, found) = timed(folder, || Ok(repository.verify()?))?;
        println!(
            "verify            {verified:8.2} s  {} backups, {} packs, {} damages",
            found.backups,
            found.packs,
            found.damages.len()
        );
        Ok((full, restored))
    })?;
    let back = open(&folder.join("back"))?;
    let (count, last): (i64, i64) =
        back.query_row("SELECT COUNT(*), MAX(id) FROM events", [], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })?;
    assert!(count == last && count > rows, "{count} rows up to {last}");
    println!("rows              {count} came back, load {}", load());
    #[expect(clippy::cast_precision_loss, reason = "a ratio")]
    let of_ten = 1e10 / bytes as f64;
    println!(
        "of 10 GB          {:.1} s to back up, {:.1} s to restore",
        full * of_ten,
        restored * of_ten
    );
    Ok(())
}
