//! What looks at this host cost: files alone, and with documents; time, processor, memory.
//!
//! `cargo run --release -p agent --example looks [ROUNDS]`

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::time::Instant;

use agent::configuration::{Depth, Documents, Observer};
use domain::configuration::document::{DocumentPattern, DocumentRules};
use domain::configuration::secret::FingerprintKey;
use domain::order::ConfigurationRules;
use jiff::Timestamp;

fn main() -> Result<(), Box<dyn Error>> {
    let rounds: u32 = std::env::args().nth(1).map_or(Ok(20), |it| it.parse())?;
    let key = FingerprintKey::from([7; 32]);
    let mut observer = Observer::new("/", ConfigurationRules::default(), key.clone());
    measured("files, first look", 1, || {
        drop(observer.look(Depth::Full, Timestamp::now(), |_, _| {}));
    })?;
    measured("files, quick looks", rounds, || {
        drop(observer.look(Depth::Quick, Timestamp::now(), |_, _| {}));
    })?;

    let mut documents = Documents::of_this_host(DocumentRules::default(), key.clone(), []);
    let mut seen = BTreeMap::new();
    measured("documents, first look", 1, || seen = documents.look(Depth::Full))?;
    measured("documents, full looks", rounds, || drop(documents.look(Depth::Full)))?;
    measured("documents, quick looks", rounds, || drop(documents.look(Depth::Quick)))?;

    println!("\neach alone, in full:");
    for (name, content) in &seen {
        let pattern = DocumentPattern::try_from(name.clone())?;
        let rules = DocumentRules { watch: vec![pattern], ..DocumentRules::default() };
        let mut one = Documents::of_this_host(rules, key.clone(), []);
        measured(name, rounds, || drop(one.look(Depth::Full)))?;
        let first: String = content.lines().next().unwrap_or_default().chars().take(60).collect();
        println!("  {} bytes: {first}", content.len());
    }
    Ok(())
}

/// Prints what one of so many looks cost.
fn measured(what: &str, rounds: u32, mut look: impl FnMut()) -> Result<(), Box<dyn Error>> {
    let (processor, begun) = (processor_ticks()?, Instant::now());
    for _ in 0..rounds {
        look();
    }
    let wall = begun.elapsed() / rounds;
    // A hundredth of a second each (proc(5), `sysconf(_SC_CLK_TCK)`).
    let ticks = f64::from(processor_ticks()? - processor) * 10.0 / f64::from(rounds);
    let (now, most) = (memory("VmRSS:")?, memory("VmHWM:")?);
    println!(
        "{what}: {:.1} ms, {ticks:.1} ms of processor, resident {now} KiB, at most {most} KiB",
        wall.as_secs_f64() * 1e3
    );
    Ok(())
}

/// What this process and those that it started have used (proc(5): utime, stime, cutime, cstime).
fn processor_ticks() -> Result<u32, Box<dyn Error>> {
    let stat = fs::read_to_string("/proc/self/stat")?;
    let (_, fields) = stat.rsplit_once(") ").ok_or("this is no stat")?;
    fields.split(' ').skip(11).take(4).map(|it| Ok(it.parse::<u32>()?)).sum()
}

fn memory(what: &str) -> Result<u64, Box<dyn Error>> {
    let status = fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|it| it.strip_prefix(what)).ok_or("it is not said")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}
