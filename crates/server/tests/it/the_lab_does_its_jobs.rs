//! Jobs of the lab: what becomes of images, however a job ends and whoever is killed on the way.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::support::World;
use domain::cloud::{Access, PROVIDER, Role};
use jiff::SignedDuration;
use serde_json::{Value, json};
use server::LabSettings;

/// A control plane, an operator of it and an image.
struct Bench {
    world: World,
    token: String,
    image: Value,
}

impl Bench {
    async fn new() -> Self {
        let world = World::new().await;
        let token = world.token(PROVIDER, Role::Operator, Access::Write).await;
        let image = world.image(&token, PROVIDER, "web 1\n").await;
        Self { world, token, image }
    }

    async fn queue(&self, kind: &str, request: Value) -> Value {
        self.world.queue(&self.token, &self.image, kind, request).await
    }

    async fn until(&self, job: &Value, state: &str) -> Value {
        self.world.until(&self.token, job, state).await
    }

    async fn get(&self, path: &str) -> Value {
        self.world.ask(&self.token, "GET", &format!("/api/v1{path}"), None).await.json()
    }

    async fn versions(&self) -> Vec<Value> {
        self.get("/images").await["items"].as_array().unwrap().clone()
    }

    async fn log(&self, job: &Value, query: &str) -> String {
        let path = format!("/api/v1/jobs/{}/log{query}", id(job));
        let answer = self.world.ask(&self.token, "GET", &path, None).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8");
        answer.text
    }
}

fn id(object: &Value) -> &str {
    object["id"].as_str().unwrap()
}

/// One whose jobs are taken over soon.
fn hasty() -> LabSettings {
    LabSettings { lease: SignedDuration::from_millis(400), ..LabSettings::default() }
}

#[tokio::test]
async fn a_proof_comes_to_a_result_that_is_attested() {
    let bench = Bench::new().await;
    let job = bench.queue("prove", json!({ "takes_ms": 300 })).await;
    assert_eq!((&job["state"], &job["attempts"]), (&json!("queued"), &json!(0)));
    let working = bench.world.working(LabSettings::default()).await;

    let running = bench.until(&job, "running").await;
    assert_eq!(running["attempts"], 1);
    let done = bench.until(&job, "done").await;

    assert_eq!(done["result"], json!({ "content": "an image\nweb 1\n", "passed": true }));
    assert_eq!((&done["made"], &done["error"]), (&json!(null), &json!(null)));
    let attested = bench.get(&format!("/images/{}/attestations", id(&bench.image))).await;
    assert_eq!(attested["items"][0]["envelope"]["payload"], job["id"]);
    assert_eq!(attested["items"].as_array().unwrap().len(), 1);
    assert_eq!(bench.versions().await[0]["state"], "candidate", "a proof is no test");
    let log = bench.log(&job, "").await;
    assert!(log.starts_with(&format!("[prove {}, attempt 1 of 3, ", id(&job))), "{log}");
    assert!(log.contains(&format!("working on {}\n", id(&job))), "{log}");
    assert!(log.ends_with("[it passed]\n"), "{log}");
    working.end().await;
    let of_image = bench.get(&format!("/jobs?image={}", id(&bench.image))).await;
    assert_eq!(of_image["items"], json!([done]));
}

#[tokio::test]
async fn the_stage_of_a_job_is_told_while_it_lasts() {
    let bench = Bench::new().await;
    let job = bench.queue("prove", json!({ "takes_ms": 60_000 })).await;
    let working = bench.world.working(LabSettings::default()).await;

    for _ in 0..200 {
        if bench.world.job(&bench.token, &job).await["stage"] == "working" {
            return working.end().await;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("a lease lasts a minute, and its stage is not to wait for that");
}

#[tokio::test]
async fn a_bake_makes_the_next_version_of_the_series() {
    let bench = Bench::new().await;
    let job = bench.queue("bake", json!({ "packages": "web 2\n" })).await;
    let _working = bench.world.working(LabSettings::default()).await;

    let done = bench.until(&job, "done").await;

    let versions = bench.versions().await;
    assert_eq!(versions.len(), 2);
    let made = &versions[1];
    assert_eq!((&done["made"], &made["parent"]), (&made["id"], &bench.image["id"]));
    assert_eq!((&made["name"], &made["number"]), (&json!("web"), &json!(2)));
    assert_eq!(made["state"], "candidate");
    let path = format!("/api/v1/images/{}/content", id(made));
    let content = bench.world.ask(&bench.token, "GET", &path, None).await;
    assert_eq!(content.text, "an image\nweb 2\n");
    let attested = bench.get(&format!("/images/{}/attestations", id(made))).await;
    assert_eq!(attested["items"][0]["envelope"]["made"], true);
    assert_eq!(bench.world.laboratory.left_over(), 0);
    assert_eq!(bench.world.image_files().len(), 2);
    // Its packages are known: a check tells what it lacks.
    bench.world.check_fleet().await;
    let check = bench.get(&format!("/cis/{}/check", made["ci"].as_str().unwrap())).await;
    assert_eq!(check["packages"], 1);

    // One that did not pass makes nothing, whatever it left.
    let job = bench.queue("bake", json!({ "packages": "web 3\n", "do": "reject" })).await;
    let done = bench.until(&job, "done").await;
    assert_eq!((&done["made"], bench.versions().await.len()), (&json!(null), 2));
}

#[tokio::test]
async fn a_test_decides_how_a_version_stands() {
    let bench = Bench::new().await;
    let _working = bench.world.working(LabSettings::default()).await;

    let job = bench.queue("test", json!({})).await;
    bench.until(&job, "done").await;
    assert_eq!(bench.versions().await[0]["state"], "tested");

    let job = bench.queue("test", json!({ "do": "reject" })).await;
    assert_eq!(bench.until(&job, "done").await["result"]["passed"], false);
    assert_eq!(bench.versions().await[0]["state"], "rejected");

    // Where somebody retired it meanwhile, that stays, and the job tells.
    let second = bench.world.image(&bench.token, PROVIDER, "web 2\n").await;
    let slow = json!({ "takes_ms": 500 });
    let job = bench.world.queue(&bench.token, &second, "test", slow).await;
    bench.until(&job, "running").await;
    let path = format!("/api/v1/images/{}/retire", id(&second));
    let retired =
        bench.world.ask_with(&bench.token, "POST", &path, None, &[("if-match", "*")]).await;
    assert_eq!(retired.status, 200, "{}", retired.text);
    let done = bench.until(&job, "done").await;
    assert!(done["error"].as_str().unwrap().contains("was retired"), "{done}");
    assert_eq!(bench.versions().await[1]["state"], "retired");
}

#[tokio::test]
async fn a_job_that_cannot_be_done_fails_with_the_reason_and_harms_no_other() {
    let bench = Bench::new().await;
    let _working = bench.world.working(LabSettings::default()).await;

    let refused = bench.queue("prove", json!({ "do": "refuse" })).await;
    let deadly = bench.queue("bake", json!({ "do": "panic" })).await;
    let good = bench.queue("prove", json!({})).await;

    let failed = bench.until(&refused, "failed").await;
    assert_eq!((&failed["error"], &failed["attempts"]), (&json!("it is not possible"), &json!(1)));
    assert!(bench.log(&refused, "").await.ends_with("[failed: it is not possible]\n"));
    let failed = bench.until(&deadly, "failed").await;
    assert!(failed["error"].as_str().unwrap().contains("died"), "{failed}");
    bench.until(&good, "done").await;
    assert_eq!(bench.versions().await.len(), 1);
}

#[tokio::test]
async fn what_the_lab_breaks_off_is_tried_again_three_times() {
    let bench = Bench::new().await;
    let job = bench.queue("prove", json!({ "do": "break" })).await;
    let _working = bench.world.working(hasty()).await;

    let failed = bench.until(&job, "failed").await;

    assert_eq!(
        (&failed["attempts"], &failed["error"]),
        (&json!(3), &json!("no machine was to be had"))
    );
    assert_eq!(bench.world.laboratory.begun.load(Ordering::SeqCst), 3);
    let log = bench.log(&job, "").await;
    assert!(log.contains("attempt 1 of 3") && log.contains("attempt 3 of 3"), "{log}");
}

#[tokio::test]
async fn a_job_that_is_called_off_notices_and_counts_no_more() {
    let bench = Bench::new().await;
    let first = bench.queue("bake", json!({ "takes_ms": 60_000, "packages": "web 2\n" })).await;
    let waiting = bench.queue("prove", json!({})).await;
    // Of this process, which the API tells; another one notices when it next gives a sign of life.
    let (end, ended) = tokio::sync::oneshot::channel::<()>();
    let run = tokio::spawn(bench.world.lab.clone().run(async {
        let _ = ended.await;
    }));
    bench.until(&first, "running").await;
    let cancel = async |job: &Value| {
        let path = format!("/api/v1/jobs/{}/cancel", id(job));
        bench.world.ask(&bench.token, "POST", &path, None).await
    };

    let rehearsed = format!("/api/v1/jobs/{}/cancel?dry_run=true", id(&first));
    bench.world.ask(&bench.token, "POST", &rehearsed, None).await;
    assert_eq!(bench.world.job(&bench.token, &first).await["state"], "running");
    assert_eq!(bench.world.laboratory.called_off.load(Ordering::SeqCst), 0);
    assert_eq!(cancel(&waiting).await.json()["state"], "cancelled");
    assert_eq!(cancel(&first).await.json()["state"], "cancelled");

    for _ in 0..100 {
        if bench.world.laboratory.called_off.load(Ordering::SeqCst) == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(bench.world.laboratory.called_off.load(Ordering::SeqCst), 1);
    assert_eq!(cancel(&first).await.status, 422, "it has ended");
    drop(end);
    run.await.unwrap();
    assert!(bench.log(&first, "").await.contains("called off"));
    assert_eq!(bench.versions().await.len(), 1);
    assert_eq!(bench.world.laboratory.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn whoever_lost_a_job_is_not_heard_any_more() {
    let bench = Bench::new().await;
    let job =
        bench.queue("bake", json!({ "takes_ms": 3000, "packages": "web 2\n", "do": "hang" })).await;
    let first = bench.world.working(hasty()).await;
    bench.until(&job, "running").await;

    // As if it had given no sign of life for long, and another one had taken the job.
    let database = bench.world.directory.path().join("patchwright.db");
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(database);
    let pool = sqlx::SqlitePool::connect_with(options).await.unwrap();
    sqlx::query("UPDATE jobs SET holder = 'another', held_until = 0").execute(&pool).await.unwrap();
    let second = bench.world.working(hasty()).await;

    let done = bench.until(&job, "done").await;
    assert_eq!(done["attempts"], 2);
    first.end().await;
    second.end().await;
    assert_eq!(bench.versions().await.len(), 2, "one was made, and not two");
    assert_eq!(bench.world.laboratory.begun.load(Ordering::SeqCst), 2);
    assert_eq!(bench.world.laboratory.left_over(), 0, "what nobody heard of is gone");
    assert_eq!(bench.world.image_files().len(), 2);
}

/// A process is killed again and again, at any point between taking a job and its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_process_makes_no_version_twice_and_leaves_no_bytes() {
    let bench = Bench::new().await;
    let mut jobs = Vec::new();
    for number in 0..12 {
        let request = json!({ "packages": format!("web {}\n", number + 2), "takes_ms": 5 });
        jobs.push(bench.queue("bake", request).await);
    }

    for kill in 0..24 {
        let working = bench.world.working(hasty()).await;
        tokio::time::sleep(Duration::from_millis(7 + 13 * (kill % 12))).await;
        drop(working);
    }
    let last = bench.world.working(hasty()).await;
    let mut made = 0;
    for job in &jobs {
        for _ in 0..600 {
            let now = bench.world.job(&bench.token, job).await;
            match now["state"].as_str().unwrap() {
                "done" => {
                    assert!(now["made"].is_string(), "{now}");
                    made += 1;
                    break;
                }
                // Begun three times, and killed three times.
                "failed" => {
                    assert_eq!(now["made"], json!(null));
                    break;
                }
                _ => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }
    last.end().await;

    let versions = bench.versions().await;
    assert!(made > 0);
    assert_eq!(versions.len(), made + 1, "one for each job that was done");
    let begun = bench.world.laboratory.begun.load(Ordering::SeqCst);
    assert!(begun > jobs.len(), "kills hit nothing: {begun} attempts");
    let mut hashes: Vec<_> =
        versions.iter().map(|it| it["sha256"].as_str().unwrap().to_owned()).collect();
    hashes.sort();
    for hash in &hashes {
        assert!(
            bench.world.image_files().contains(hash),
            "the bytes of a version are gone: {hash}"
        );
    }
    bench.world.let_bytes_age();
    drop(bench.world.working(hasty()).await);
    assert_eq!(bench.world.image_files(), hashes, "after a start there are these, and no others");
}

#[tokio::test]
async fn an_orderly_end_gives_jobs_back() {
    let bench = Bench::new().await;
    let job = bench.queue("prove", json!({ "takes_ms": 60_000 })).await;
    let working = bench.world.working(LabSettings::default()).await;
    bench.until(&job, "running").await;

    working.end().await;

    let waiting = bench.world.job(&bench.token, &job).await;
    assert_eq!((&waiting["state"], &waiting["attempts"]), (&json!("queued"), &json!(0)));
    let next = bench.world.working(LabSettings::default()).await;
    assert_eq!(bench.until(&job, "running").await["attempts"], 1);
    next.end().await;
}

#[tokio::test]
async fn only_so_many_jobs_are_done_at_once_and_only_so_many_wait() {
    let bench = Bench::new().await;
    let mut jobs = Vec::new();
    for _ in 0..50 {
        jobs.push(bench.queue("prove", json!({ "takes_ms": 20, "others": 2 })).await);
    }
    let path = format!("/api/v1/images/{}/jobs", id(&bench.image));
    let body = Some(json!({ "kind": "prove" }));
    let refused = bench.world.ask(&bench.token, "POST", &path, body).await;
    assert_eq!(refused.status, 422);
    assert!(refused.json()["detail"].as_str().unwrap().contains("wait already"));

    let settings = LabSettings { jobs_at_once: 3, ..LabSettings::default() };
    let _working = bench.world.working(settings).await;
    for job in &jobs {
        bench.until(job, "done").await;
    }

    assert_eq!(bench.world.laboratory.most.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn a_log_is_followed_to_its_end_and_bounded() {
    let bench = Bench::new().await;
    let job = bench.queue("prove", json!({ "takes_ms": 400 })).await;
    let _working = bench.world.working(LabSettings::default()).await;

    let followed = bench.log(&job, "?follow=true").await;

    assert_eq!(bench.world.job(&bench.token, &job).await["state"], "done");
    assert!(followed.contains("working on"), "{followed}");
    let rest = bench.log(&job, "?from=7").await;
    assert!(rest.starts_with(&followed[7..followed.len().min(40)]), "{rest}");

    let large = bench.queue("prove", json!({ "log_mib": 20 })).await;
    bench.until(&large, "done").await;
    let end = bench.log(&large, &format!("?from={}", (16 << 20) - 4)).await;
    assert!(end.starts_with("xxxx\n[the log is full"), "{end}");
    for wrong in ["?from=x", "?follow=perhaps", "?from=9223372036854775808"] {
        let path = format!("/api/v1/jobs/{}/log{wrong}", id(&job));
        assert_eq!(bench.world.ask(&bench.token, "GET", &path, None).await.status, 400, "{wrong}");
    }
}

#[tokio::test]
async fn a_job_asked_for_twice_with_one_key_is_one() {
    let bench = Bench::new().await;
    let path = format!("/api/v1/images/{}/jobs", id(&bench.image));
    let ask = async |request: Value| {
        let body = json!({ "kind": "test", "request": request });
        let key = [("idempotency-key", "one")];
        bench.world.ask_with(&bench.token, "POST", &path, Some(body), &key).await
    };

    let (first, again, other) =
        (ask(json!({})).await, ask(json!({})).await, ask(json!({ "x": 1 })).await);

    assert_eq!((first.status.as_u16(), first.json()), (201, again.json()));
    assert_eq!(other.status, 422);
    assert_eq!(bench.get("/jobs").await["items"].as_array().unwrap().len(), 1);
    for wrong in [json!({ "kind": "destroy" }), json!({ "kind": "test", "request": [] }), json!({})]
    {
        assert_eq!(bench.world.ask(&bench.token, "POST", &path, Some(wrong)).await.status, 400);
    }
}
