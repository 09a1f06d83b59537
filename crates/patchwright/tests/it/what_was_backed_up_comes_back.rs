//! Backups beside a control plane that works, killed at any moment, and the way back. `PATCHWRIGHT_KILLS` sets how often
//! the backup is killed.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crate::postgres::{Postgres, binaries, server};
use crate::up::{Up, verify};
use serde_json::{Value, json};

const PROVIDER: &str = "ten_00000000000000000000000000";

fn command(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_patchwright"));
    command.args(arguments).env_remove("PATCHWRIGHT_DATABASE").env_remove("PATCHWRIGHT_MASTER_KEY");
    command
}

fn done(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let told = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(output.status.success(), "{}{}", told(&output.stdout), told(&output.stderr));
    output
}

fn back_up(data: &Path, to: &Path, further: &[&str]) -> Command {
    let mut command = command(&["backup", "--data"]);
    command.arg(data).arg("--to").arg(to).args(further);
    command
}

fn restore(from: &Path, key: &Path, to: &Path) -> Command {
    let mut command = command(&["restore", "--from"]);
    command.arg(from).arg("--master-key").arg(key).arg("--to").arg(to).arg("--check");
    command
}

fn sound(from: &Path, key: &Path) {
    let mut command = command(&["backup", "verify", "--from"]);
    let output = done(command.arg(from).arg("--master-key").arg(key));
    assert!(String::from_utf8_lossy(&output.stdout).contains("sound"));
}

fn create(up: &Up, token: &str, name: &str) -> Option<(u16, Value)> {
    let body = json!({ "tenant": PROVIDER, "class": "vm", "name": name });
    up.ask(token, "POST", "/cis", &body, name)
}

fn kinds(up: &Up) -> Vec<String> {
    let token = up.sign_in();
    let (mut kinds, mut from) = (Vec::new(), 0);
    loop {
        let path = format!("/events?limit=1000&from={from}");
        let (_, page) = up.ask(&token, "GET", &path, &Value::Null, "").unwrap();
        let items = page["items"].as_array().unwrap();
        if items.is_empty() {
            return kinds;
        }
        kinds.extend(items.iter().map(|event| event["kind"].as_str().unwrap().to_owned()));
        from = page["next"].as_u64().unwrap();
    }
}

#[test]
fn a_backup_that_is_killed_at_any_moment_costs_nothing() {
    let kills: u64 =
        std::env::var("PATCHWRIGHT_KILLS").ok().and_then(|it| it.parse().ok()).unwrap_or(30);
    let directory = tempfile::tempdir().unwrap();
    let (data, to) = (directory.path().join("data"), directory.path().join("repository"));
    let key = directory.path().join("kept.key");
    let up = Up::start(&data);
    fs::copy(data.join("master.key"), &key).unwrap();
    let token = up.sign_in();
    let (ended, next, acknowledged) =
        (AtomicBool::new(false), AtomicU64::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !ended.load(Ordering::SeqCst) {
                    let name = format!("canary-vm-{}", next.fetch_add(1, Ordering::SeqCst));
                    let (status, answer) = create(&up, &token, &name).unwrap();
                    assert_eq!(status, 201, "{answer}");
                    acknowledged.lock().unwrap().push(name);
                }
            });
        }
        for kill in 0..kills {
            let mut backup: Child =
                back_up(&data, &to, &["--every", "20ms"]).stdout(Stdio::null()).spawn().unwrap();
            thread::sleep(Duration::from_millis(30 + kill * 53 % 700));
            backup.kill().unwrap();
            backup.wait().unwrap();
            if to.is_dir() && fs::read_dir(&to).unwrap().count() > 3 {
                sound(&to, &key);
            }
        }
        ended.store(true, Ordering::SeqCst);
    });
    let before: Vec<String> = acknowledged.into_inner().unwrap();
    done(&mut back_up(&data, &to, &["--once"]));
    let after = "an item of which no backup knows";
    assert_eq!(create(&up, &token, "late").map(|(status, _)| status), Some(201), "{after}");
    let ledger = up.key.clone();
    assert!(!up.end("-KILL"));

    // Nothing of it can be read where it lies, and the master key is not among it.
    let secret = fs::read_to_string(&key).unwrap();
    for entry in fs::read_dir(&to).unwrap() {
        let bytes = fs::read(entry.unwrap().path()).unwrap();
        for text in ["canary-vm-", "SQLite format", secret.trim()] {
            assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text}");
        }
    }
    let back = directory.path().join("back");
    let output = done(&mut restore(&to, &key, &back));
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(told.contains("NEW: the first") && told.contains(": sound"), "{told}");
    let up = Up::start(&back);
    assert_ne!(up.key, ledger);
    let names = up.all_names(&up.sign_in());
    for name in &before {
        assert!(names.contains(name), "{name} is lost");
    }
    assert!(!names.iter().any(|name| name == "late"));
    // The first record after what there was says that something is missing.
    let kinds = kinds(&up);
    let at = kinds.iter().position(|kind| kind == "installation.restored").unwrap();
    assert!(kinds[..at].iter().filter(|kind| *kind == "ci.created").count() >= before.len());
    assert!(!kinds[at + 1..].iter().any(|kind| kind == "ci.created"), "{kinds:?}");
    let key_of_now = up.key.clone();
    assert!(up.end("-TERM"));
    verify(&back, &key_of_now, &directory.path().join("kept"), false);
    eprintln!("{kills} kills, {} items", before.len());
}

#[test]
fn a_ledger_goes_on_under_its_name_only_where_nothing_is_missing() {
    let directory = tempfile::tempdir().unwrap();
    let (data, to) = (directory.path().join("data"), directory.path().join("repository"));
    let key = data.join("master.key");
    let up = Up::start(&data);
    let ledger = up.key.clone();
    let token = up.sign_in();
    create(&up, &token, "first").unwrap();
    assert!(up.end("-TERM"));
    done(&mut back_up(&data, &to, &[]));
    let shown = directory.path().join("shown");
    fs::copy(data.join("ledger/checkpoint"), &shown).unwrap();

    let same = directory.path().join("same");
    done(restore(&to, &key, &same).arg("--same-ledger").arg(&shown));
    let up = Up::start(&same);
    assert_eq!(up.key, ledger);
    assert!(kinds(&up).contains(&"installation.restored".to_owned()));
    assert!(up.end("-TERM"));
    verify(&same, &ledger, &shown, true);

    // Something was published that the backup does not know.
    let up = Up::start(&data);
    let token = up.sign_in();
    create(&up, &token, "second").unwrap();
    assert!(up.end("-TERM"));
    let other = directory.path().join("other");
    let refused = restore(&to, &key, &other)
        .arg("--same-ledger")
        .arg(data.join("ledger/checkpoint"))
        .output()
        .unwrap();
    assert!(!refused.status.success() && !other.exists());
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(told.contains("missing") && told.contains("help:"), "{told}");
    // Nor is anything restored over something, or with another key.
    let stranger = directory.path().join("other.key");
    fs::write(&stranger, "0".repeat(64)).unwrap();
    fs::set_permissions(&stranger, fs::Permissions::from_mode(0o600)).unwrap();
    for (to_be, with) in [(&same, &key), (&other, &stranger)] {
        assert!(!restore(&to, with, to_be).output().unwrap().status.success());
    }
}

#[test]
fn a_rotation_that_is_killed_at_each_step_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let (data, to) = (directory.path().join("data"), directory.path().join("repository"));
    let up = Up::start(&data);
    let token = up.sign_in();
    create(&up, &token, "first").unwrap();
    let rotate = || {
        let mut command = command(&["master-key", "rotate", "--data"]);
        command.arg(&data);
        command
    };
    // Not under a control plane.
    let refused = rotate().output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("at work"), "{told}");
    let ledger = up.key.clone();
    assert!(up.end("-TERM"));
    done(&mut back_up(&data, &to, &[]));

    let read = || fs::read_to_string(data.join("master.key")).unwrap();
    let mut keys = vec![read()];
    for (step, is_new) in [("written", false), ("sealed", true), ("promoted", true)] {
        let killed = rotate().env("PATCHWRIGHT_STOP_AT", step).output().unwrap();
        assert!(!killed.status.success(), "{step}");
        let up = Up::start(&data);
        assert_eq!(up.key, ledger, "{step}");
        assert!(up.all_names(&up.sign_in()).contains(&"first".to_owned()));
        assert!(up.end("-TERM"));
        assert_eq!(keys.contains(&read()), !is_new, "{step}");
        keys.push(read());
    }
    done(&mut rotate());
    keys.push(read());
    assert!(!data.join("master.key.next").exists());
    let old = directory.path().join("old.key");
    fs::copy(data.join("master.key"), &old).unwrap();
    fs::write(&old, &keys[0]).unwrap();
    // Backups go on; each opens with the master key that was in force when it was taken.
    done(&mut back_up(&data, &to, &[]));
    let new = data.join("master.key");
    sound(&to, &new);
    for (number, key) in [&old, &new].into_iter().enumerate() {
        let mut listing = command(&["backup", "list", "--from"]);
        let list = done(listing.arg(&to).arg("--master-key").arg(key));
        let list = String::from_utf8(list.stdout).unwrap();
        let opens: Vec<_> = list.lines().skip(1).map(|line| line.ends_with("  all")).collect();
        assert_eq!(opens, [number == 0, number == 1], "{list}");
        let back = directory.path().join(format!("back-{number}"));
        done(&mut restore(&to, key, &back));
        let up = Up::start(&back);
        assert!(up.all_names(&up.sign_in()).contains(&"first".to_owned()));
        assert!(up.end("-TERM"));
    }
}

/// A file of an item, recorded and sealed; gives its time.
async fn configure(data: &Path, database: &str, ci: &str) -> jiff::Timestamp {
    let objects = store::ObjectDirectory::open(data.join("history")).unwrap();
    configure_in(data, database, ci, Arc::new(objects)).await
}

/// The same with the objects elsewhere.
async fn configure_in(
    data: &Path,
    database: &str,
    ci: &str,
    objects: Arc<dyn store::Objects>,
) -> jiff::Timestamp {
    let (store, history) = open_history(data, database, objects).await;
    let ci: domain::cloud::CiId = ci.parse().unwrap();
    let file = store::NewFile {
        path: store::FilePath::new("/etc/motd").unwrap(),
        state: store::NewState::Present {
            content: b"kept in an object".to_vec(),
            metadata: store::Metadata::default(),
        },
        observed_at: jiff::Timestamp::UNIX_EPOCH,
        source: "agent".to_owned(),
        by: None,
        change: None,
    };
    let recorded = history.record(&store::Actor::System, ci, vec![file]).await.unwrap().unwrap();
    assert_eq!(history.seal(domain::cloud::PROVIDER, "the test").await.unwrap().len(), 1);
    store.close().await;
    recorded.at
}

async fn open_history(
    data: &Path,
    database: &str,
    objects: Arc<dyn store::Objects>,
) -> (store::Store, store::History) {
    let database = database.parse().unwrap();
    let store = store::Store::open(&database, Arc::new(store::System)).await.unwrap();
    let master = store::MasterKey::open(&data.join("master.key"), &store::System).unwrap();
    let history = store.history(Arc::new(master), objects);
    (store, history)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_postgresql_comes_back_with_its_objects() {
    let directory = tempfile::tempdir().unwrap();
    let (data, to) = (directory.path().join("data"), directory.path().join("repository"));
    let (before, after) = (Postgres::shared().database(), Postgres::shared().database());
    let up = Up::start_with(&data, &["--database", &before], &[]).unwrap();
    let ledger = up.key.clone();
    let token = up.sign_in();
    let (_, item) = create(&up, &token, "before").unwrap();
    assert!(up.end("-TERM"));
    let ci = item["id"].as_str().unwrap();
    let at = configure(&data, &before, ci).await;

    // The database by its own means, then something that it does not know, then the files.
    let dump = directory.path().join("dump");
    let dumped = Command::new(binaries().join("pg_dump"))
        .args(["-Fc", "-f"])
        .arg(&dump)
        .arg(&before)
        .status();
    assert!(dumped.unwrap().success());
    let up = Up::start_with(&data, &["--database", &before], &[]).unwrap();
    let token = up.sign_in();
    create(&up, &token, "after").unwrap();
    assert!(up.end("-TERM"));
    let told = done(&mut back_up(&data, &to, &["--database", &before]));
    assert!(String::from_utf8_lossy(&told.stderr).contains("NOT in these backups"));
    sound(&to, &data.join("master.key"));

    let restored =
        Command::new(binaries().join("pg_restore")).arg("--dbname").arg(&after).arg(&dump).status();
    assert!(restored.unwrap().success());
    let back = directory.path().join("back");
    let told = done(restore(&to, &data.join("master.key"), &back).args(["--database", &after]));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains("are LOST"), "{told}");

    let objects = store::ObjectDirectory::open(back.join("history")).unwrap();
    let (store, history) = open_history(&back, &after, Arc::new(objects)).await;
    let path = store::FilePath::new("/etc/motd").unwrap();
    let found = history.file_at(&store::Actor::System, ci.parse().unwrap(), &path, at).await;
    let store::Past::Kept(Some(found)) = found.unwrap() else { panic!("it was kept") };
    assert_eq!(found.content.unwrap(), b"kept in an object");
    store.close().await;
    let up = Up::start_with(&back, &["--database", &after], &[]).unwrap();
    assert_ne!(up.key, ledger, "others saw more of that ledger than there is");
    assert!(kinds(&up).contains(&"installation.restored".to_owned()));
    let token = up.sign_in();
    let names = up.all_names(&token);
    assert!(names.contains(&"before".to_owned()) && !names.contains(&"after".to_owned()));
    assert!(up.end("-TERM"));
}

/// A program of PostgreSQL's that connects to a server.
fn client(program: &str, to: &Postgres) -> Command {
    let mut command = server(program);
    command.args(["-U", "patchwright", "-h"]).arg(to.place());
    command
}

/// Until all that was committed so far is on the disk of who receives the log.
fn received(from: &Postgres) {
    let now = from.sql("SELECT pg_current_wal_flush_lsn()");
    let is_there =
        format!("SELECT count(*) FROM pg_stat_replication WHERE flush_lsn >= '{now}'::pg_lsn");
    until(|| from.sql(&is_there) != "0");
}

/// Waits, for as long as it takes on a busy machine.
fn until(is_so: impl Fn() -> bool) {
    let begin = Instant::now();
    while !is_so() {
        assert!(begin.elapsed() < Duration::from_secs(120), "it does not come about");
        thread::sleep(Duration::from_millis(5));
    }
}

/// As docs/backup.md has it: a base backup, the log as it is written, files beside; back to a moment between two backups.
#[test]
fn a_postgresql_whose_disk_is_lost_comes_back_as_it_was_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let (data, to) = (directory.path().join("data"), directory.path().join("repository"));
    let postgres = Postgres::start();
    let kept = Postgres::directory();
    let log = kept.join("wal");
    fs::create_dir(&log).unwrap();
    assert!(
        Command::new("chown").arg("--reference").arg(&kept).arg(&log).status().unwrap().success()
    );
    let slot = ["-S", "patchwright"];
    done(client("pg_receivewal", &postgres).args(slot).arg("--create-slot"));
    let mut receiving = client("pg_receivewal", &postgres)
        .args(slot)
        .args(["--synchronous", "-n", "-D"])
        .arg(&log)
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let database = postgres.database();
    let up = Up::start_with(&data, &["--database", &database], &[]).unwrap();
    let token = up.sign_in();
    let made = |name: &str| assert_eq!(create(&up, &token, name).unwrap().0, 201, "{name}");
    made("in-the-base-backup");
    let base = kept.join("data");
    done(client("pg_basebackup", &postgres).args(["-X", "stream", "-c", "fast", "-D"]).arg(&base));

    made("in-the-log");
    let time = postgres.sql("SELECT clock_timestamp()");
    made("after-the-time");
    done(&mut back_up(&data, &to, &["--database", &database]));
    received(&postgres);
    drop(up);
    postgres.lose();
    // It has no server any more to receive from.
    assert!(!receiving.wait().unwrap().success());

    let settings = format!(
        "restore_command = 'cp {0}/%f %p || cp {0}/%f.partial %p'\n\
         recovery_target_time = '{time}'\nrecovery_target_action = promote\n",
        log.display()
    );
    let mut file = fs::File::options().append(true).open(base.join("postgresql.conf")).unwrap();
    file.write_all(settings.as_bytes()).unwrap();
    fs::write(base.join("recovery.signal"), "").unwrap();
    let postgres = Postgres::serve(kept);
    until(|| postgres.sql("SELECT pg_is_in_recovery()") == "f");
    let address = postgres.address(database.rsplit('/').next().unwrap());
    let back = directory.path().join("back");
    let told = done(restore(&to, &data.join("master.key"), &back).args(["--database", &address]));
    let told = String::from_utf8_lossy(&told.stdout).into_owned();
    assert!(told.contains(" NEW: "), "{told}");
    let up = Up::start_with(&back, &["--database", &address], &[]).unwrap();
    let names = up.all_names(&up.sign_in());
    assert!(names.contains(&"in-the-base-backup".to_owned()), "{names:?}");
    assert!(names.contains(&"in-the-log".to_owned()), "{names:?}");
    assert!(!names.contains(&"after-the-time".to_owned()), "{names:?}");
    let key = up.key.clone();
    assert!(up.end("-TERM"));
    verify(&back, &key, &directory.path().join("verified"), false);
    postgres.lose();
}

fn in_store(address: &str) -> Arc<dyn store::Objects> {
    let address = address.parse().unwrap();
    let patience = s3::Patience::default();
    Arc::new(s3::S3::open(&address, jiff::Timestamp::now, patience).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_lies_in_an_object_store_is_backed_up_there_and_comes_back() {
    let Some(peer) = crate::peer::Peer::start() else { return };
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let (history, backups) = (peer.address("history"), peer.address("backups"));
    let up = Up::start_with(&data, &["--objects", &history], &[]).unwrap();
    let token = up.sign_in();
    let (_, item) = create(&up, &token, "before").unwrap();
    assert!(up.end("-TERM"));
    let ci = item["id"].as_str().unwrap();
    let database = data.join("patchwright.db").display().to_string();
    let at = configure_in(&data, &database, ci, in_store(&history)).await;
    assert!(!data.join("history").exists());
    // Where they are is noted; nothing secret is.
    let checked = done(command(&["fsck", "--data"]).arg(&data));
    let told = String::from_utf8(checked.stdout).unwrap();
    assert!(told.contains("1 partitions") && !told.contains("DAMAGED"), "{told}");
    // Neither another place for them, nor another installation with them.
    let elsewhere = peer.address("elsewhere");
    assert!(Up::start_with(&data, &["--objects", &elsewhere], &[]).is_none());
    let other = directory.path().join("other");
    assert!(Up::start_with(&other, &["--objects", &history], &[]).is_none());

    let key = data.join("master.key");
    let to = Path::new(&backups);
    done(&mut back_up(&data, to, &[]));
    done(&mut back_up(&data, to, &[]));
    sound(to, &key);
    let listing = done(command(&["backup", "list", "--from", &backups, "--master-key"]).arg(&key));
    assert_eq!(String::from_utf8(listing.stdout).unwrap().lines().count(), 3);
    // One writer at a time, on whichever host.
    let mut going =
        back_up(&data, to, &["--every", "100ms"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    let mut said = std::io::BufReader::new(going.stdout.take().unwrap());
    std::io::BufRead::read_line(&mut said, &mut line).unwrap();
    let refused = back_up(&data, to, &[]).output().unwrap();
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && told.contains("another process backs up"), "{told}");
    going.kill().unwrap();
    going.wait().unwrap();
    done(&mut back_up(&data, to, &[]));

    // Lost are the data directory and all objects of the history.
    let lost = in_store(&history);
    let names = lost.list().unwrap();
    assert_eq!(names.len(), 1, "{names:?}");
    for name in names {
        lost.delete(&name).unwrap();
    }
    let restored = peer.address("restored");
    let back = directory.path().join("back");
    let told = done(restore(to, &key, &back).args(["--objects", &restored]));
    let told = String::from_utf8(told.stdout).unwrap();
    assert!(told.contains("1 partitions") && told.contains("sound"), "{told}");
    let (store, history) = open_history(
        &back,
        &back.join("patchwright.db").display().to_string(),
        in_store(&restored),
    )
    .await;
    let path = store::FilePath::new("/etc/motd").unwrap();
    let found = history.file_at(&store::Actor::System, ci.parse().unwrap(), &path, at).await;
    let store::Past::Kept(Some(found)) = found.unwrap() else { panic!("it was kept") };
    assert_eq!(found.content.unwrap(), b"kept in an object");
    store.close().await;
    // Or below the data directory again.
    let plain = directory.path().join("plain");
    let told = done(&mut restore(to, &key, &plain));
    assert!(String::from_utf8(told.stdout).unwrap().contains("sound"));
    assert!(plain.join("history").is_dir());
    let up = Up::start(&back);
    assert!(up.all_names(&up.sign_in()).contains(&"before".to_owned()));
    assert!(up.end("-TERM"));
}
