//! Refreshes the suites of one sources file: `refresh SOURCES DATA [NOW]`.
//!
//! Keys are those that the file itself holds. The process may be killed at any time: the next run
//! goes on from a whole state.

use std::collections::BTreeMap;
use std::process::ExitCode;
use std::{env, fs};

use collect::apt::config::read_sources_file;
use collect::apt::{Collector, Freshness};
use collect::fetch::Fetcher;
use jiff::Timestamp;

fn main() -> Result<ExitCode, Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let (sources, data, now) = match arguments.as_slice() {
        [sources, data] => (sources, data, Timestamp::now()),
        [sources, data, now] => (sources, data, now.parse()?),
        _ => return Err("refresh SOURCES DATA [NOW]".into()),
    };
    let files = BTreeMap::from([(sources.clone(), fs::read(sources)?)]);
    let sources = read_sources_file(&files, sources, "/etc/apt")?;
    let fetcher = Fetcher::new(Box::new(|_, _| None));
    let collector = Collector::new(data, Some(fetcher), Freshness::default(), now);
    let mut code = ExitCode::SUCCESS;
    for outcome in collector.refresh(&sources, &["amd64".to_owned()], &()) {
        match outcome {
            Ok(suite) => println!("{} of {}", suite.facts.suite, suite.facts.date),
            Err(refusal) => {
                println!("{refusal}");
                code = ExitCode::FAILURE;
            }
        }
    }
    println!("{}", peak_memory());
    Ok(code)
}

/// The line on peak memory that Linux keeps for each process.
fn peak_memory() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status.lines().find(|line| line.starts_with("VmHWM:")).unwrap_or_default().to_owned()
}
