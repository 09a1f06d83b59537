//! Both beside each other: medians, the least and the most, and their ratio.

use std::time::Duration;

use crate::machine::Outcome;

type Measure = fn(&Outcome) -> f64;

const MIB: f64 = 1024.0 * 1024.0;

const MEASURES: [(&str, Measure); 12] = [
    ("s, from the beginning until all is on the disk", |it| it.took.as_secs_f64()),
    ("s of it until the last package was brought", |it| it.parts[0].as_secs_f64()),
    ("s from there until dpkg begins", |it| it.parts[1].as_secs_f64()),
    ("s of dpkg", |it| it.parts[2].as_secs_f64()),
    ("s after that", |it| it.parts[3].as_secs_f64()),
    ("s of processor", |it| it.used.processor.as_secs_f64()),
    ("MiB written", |it| bytes(it) / MIB),
    ("flushes", |it| count(it.used.disk.flushes)),
    ("s without nginx", |it| it.down[0].as_secs_f64()),
    ("s without PostgreSQL", |it| it.down[1].as_secs_f64()),
    ("s, the longest answer", |it| longest(it.slowest).as_secs_f64()),
    ("units with old code afterwards", |it| count(it.stale.len() as u64)),
];

/// Prints a table in Markdown.
pub(crate) fn print(by_peer: &[Outcome], by_us: &[Outcome]) {
    println!("\n| | unattended-upgrades | agent | ratio |\n|---|---|---|---|");
    for (name, measure) in MEASURES {
        let (peer, us) = (Spread::of(by_peer, measure), Spread::of(by_us, measure));
        let ratio = us.median / peer.median;
        let ratio = if ratio.is_finite() { format!("{ratio:.2}") } else { "-".to_owned() };
        println!("| {name} | {peer} | {us} | {ratio} |");
    }
}

struct Spread {
    least: f64,
    median: f64,
    most: f64,
}

impl Spread {
    fn of(outcomes: &[Outcome], measure: Measure) -> Self {
        let mut all: Vec<_> = outcomes.iter().map(measure).collect();
        all.sort_by(f64::total_cmp);
        Self { least: all[0], median: all[all.len() / 2], most: all[all.len() - 1] }
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:.2} ({:.2}–{:.2})", self.median, self.least, self.most)
    }
}

fn bytes(outcome: &Outcome) -> f64 {
    count(outcome.used.disk.bytes)
}

/// Counts here are far below what a double holds exactly.
#[allow(clippy::cast_precision_loss)]
fn count(number: u64) -> f64 {
    number as f64
}

fn longest(answers: [Duration; 2]) -> Duration {
    answers.into_iter().max().unwrap_or_default()
}
