//! Baselines by the command: put in, bound, waived; and what audits of a group come to, as a file.

use std::fs;

use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::configuration_is_kept::Cloud;

const RULES: &str = r#"id = "greeting"
version = "1"
title = "Greeting"

[[rule]]
id = "greets"
title = "It greets"
severity = "high"
why = "w"
source = "s"
expected = "a greeting"
check = 'lines("/etc/motd", "^welcome").size() > 0'
"#;

/// What `patchwright baseline` prints.
fn baseline(cloud: &Cloud, arguments: &[&str]) -> String {
    let output = cloud.client(&[&["baseline"], arguments].concat());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

#[test]
fn a_host_is_held_to_own_rules_and_told_of_in_reports() {
    let cloud = Cloud::start();
    cloud.write("etc/motd", "go away\n");
    cloud.tell();
    let file = cloud.directory.path().join("rules.toml").display().to_string();
    fs::write(&file, RULES.replace("severity", "sevrity")).unwrap();
    let refused = cloud.client(&["baseline", "put", &file]);
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("line 8:"), "{said}");
    assert!(said.contains("docs/baselines.md"), "{said}");

    fs::write(&file, RULES).unwrap();
    let put = baseline(&cloud, &["put", &file]);
    assert!(put.starts_with("greeting 1 is kept as bsl_"), "{put}");
    assert_eq!(baseline(&cloud, &["show", "greeting"]), RULES);
    baseline(&cloud, &["bind", "greeting", "--ci", "web-1"]);
    let bindings = baseline(&cloud, &["bindings"]);
    assert!(bindings.contains("web-1") && bindings.contains("provider"), "{bindings}");

    let kept = cloud.config(&["audit", "--now", "web-1"]);
    assert!(kept.contains("web-1") && kept.contains("fail"), "{kept}");
    let shown = cloud.config(&["audit", "web-1"]);
    assert!(shown.contains("fail greets It greets"), "{shown}");
    let report = cloud.config(&["audit", "--tenant", "provider"]);
    assert!(report.contains("greeting") && report.contains("100 %"), "{report}");
    let failing = report.lines().find(|line| line.starts_with("web-1 failing ")).unwrap();
    assert!(failing.ends_with("greeting/greets"), "{report}");

    let until = (Timestamp::now() + SignedDuration::from_hours(1)).to_string();
    let waive = ["waive", "greeting", "greets", "--ci", "web-1", "--owner", "Anna", "--reason"];
    baseline(&cloud, &[&waive[..], &["until the move", "--until", &until]].concat());
    assert!(baseline(&cloud, &["waivers"]).contains("until the move"));
    let shown = cloud.config(&["audit", "web-1"]);
    assert!(shown.contains("waived greets It greets") && shown.contains("Anna answers"), "{shown}");

    baseline(&cloud, &["golden", "as-web", "--from", "web-1", "--path", "/etc/ssh/*"]);
    let golden = baseline(&cloud, &["show", "as-web"]);
    assert!(golden.starts_with("1 files of ci_") && golden.contains("  /etc/ssh/*"), "{golden}");
    baseline(&cloud, &["bind", "as-web", "--ci", "web-1"]);
    cloud.config(&["audit", "--now", "web-1"]);
    let report = json(&cloud.config(&["audit", "--tenant", "provider", "--format", "json"]));
    let web = report["items"].as_array().unwrap().iter().find(|it| it["name"] == "web-1").unwrap();
    assert_eq!(web["waived"], serde_json::json!(["greeting/greets"]), "{report}");
    let csv = cloud.config(&["audit", "--tenant", "provider", "--format", "csv"]);
    assert!(csv.starts_with("\"item\",\"id\"") && csv.contains("\"web-1\""), "{csv}");
    let html = cloud.config(&["audit", "--format", "html"]);
    assert!(html.starts_with("<!DOCTYPE html>") && html.contains("web-1"), "{html}");
    let none = cloud.client(&["config", "audit", "--group", "none"]);
    assert!(!none.status.success() && !none.stderr.is_empty());
    baseline(&cloud, &["withdraw", "greeting"]);
    assert!(!baseline(&cloud, &["list"]).contains("greeting"));
    assert!(baseline(&cloud, &["list", "--all"]).contains("(withdrawn)"));
}
