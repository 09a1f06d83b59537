//! Several control planes on one PostgreSQL: nothing is done twice, nothing is lost when one dies.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use crate::postgres::Postgres;
use crate::up::{Up, verify};
use serde_json::{Value, json};

const PROVIDER: &str = "ten_00000000000000000000000000";

fn start(data: &Path, database: &str) -> Up {
    Up::start_with(data, &["--database", database], &[]).unwrap()
}

fn create(up: &Up, token: &str, name: &str) -> Option<(u16, Value)> {
    let body = json!({ "tenant": PROVIDER, "class": "vm", "name": name });
    up.ask(token, "POST", "/cis", &body, name)
}

/// Events by kind, and the highest place in the ledger.
fn events(up: &Up, token: &str) -> (BTreeMap<String, u64>, u64) {
    let (mut kinds, mut from) = (BTreeMap::new(), 0);
    loop {
        let path = format!("/events?limit=1000&from={from}");
        let (_, page) = up.ask(token, "GET", &path, &Value::Null, "").unwrap();
        let items = page["items"].as_array().unwrap();
        if items.is_empty() {
            return (kinds, from);
        }
        for event in items {
            *kinds.entry(event["kind"].as_str().unwrap().to_owned()).or_default() += 1;
        }
        from = page["next"].as_u64().unwrap();
    }
}

#[test]
fn two_processes_do_each_thing_once_and_outlive_each_other() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    let database = Postgres::shared().database();
    let [first, second] = [start(&data, &database), start(&data, &database)];
    let tokens = [first.sign_in(), second.sign_in()];
    assert_eq!(first.key, second.key, "they keep one ledger");

    // The same request at the same time through both: one effect, the same answer.
    for number in 0..40 {
        let name = format!("both-{number}");
        let answers = thread::scope(|scope| {
            let one = scope.spawn(|| create(&first, &tokens[0], &name));
            let other = scope.spawn(|| create(&second, &tokens[0], &name));
            [one.join().unwrap().unwrap(), other.join().unwrap().unwrap()]
        });
        let made: Vec<_> = answers.iter().filter(|(status, _)| *status == 201).collect();
        // Whoever met the other in the middle of it is told so, and asks again.
        assert!(!made.is_empty(), "{answers:?}");
        let again = create(&second, &tokens[0], &name).unwrap();
        assert_eq!(again.0, 201, "{again:?}");
        assert!(made.iter().all(|(_, ci)| ci["id"] == again.1["id"]), "{answers:?}");
    }

    // One is killed in the middle of its work; the other goes on, and the ledger with it.
    let next = AtomicUsize::new(0);
    let acknowledged = thread::scope(|scope| {
        let writers: Vec<_> = [(&first, &tokens[0]), (&second, &tokens[1])]
            .into_iter()
            .map(|(up, token)| {
                let next = &next;
                scope.spawn(move || {
                    let mut made = Vec::new();
                    for _ in 0..150 {
                        let name = format!("vm-{}", next.fetch_add(1, Ordering::SeqCst));
                        match create(up, token, &name) {
                            Some((201, _)) => made.push(name),
                            Some((status, problem)) => panic!("{status} {problem}"),
                            None => break,
                        }
                    }
                    made
                })
            })
            .collect();
        while next.load(Ordering::SeqCst) < 100 {
            thread::yield_now();
        }
        let pid = first.process.id().to_string();
        let killed = std::process::Command::new("kill").args(["-9", &pid]).status().unwrap();
        assert!(killed.success());
        writers.into_iter().flat_map(|writer| writer.join().unwrap()).collect::<Vec<_>>()
    });
    drop(first);
    let names = second.all_names(&tokens[1]);
    assert!(acknowledged.len() > 150, "{}", acknowledged.len());
    for name in &acknowledged {
        assert!(names.contains(name), "{name} is lost");
    }

    // A third takes the first one's place. An orderly end of all publishes everything.
    let third = start(&data, &database);
    assert!(second.end("-TERM"));
    let token = third.sign_in();
    let total = third.all_names(&token).len() as u64;
    let key = third.key.clone();
    assert!(third.end("-TERM"));
    let kept = directory.path().join("kept");
    verify(&data, &key, &kept, false);
    let last = start(&data, &database);
    let token = last.sign_in();
    let (kinds, _) = events(&last, &token);
    assert_eq!(kinds["ci.created"], total, "each item has one record");
    assert_eq!(kinds["tenant.created"], 1, "the provider was founded once");
    assert_eq!(kinds["user.created"], 1);
    assert!(last.end("-TERM"));
    verify(&data, &key, &kept, true);
}
