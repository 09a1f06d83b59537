//! What a comparison of two versions costs: on prepared keys, on strings, and making a key.
//!
//! The peer is apt over the same pairs, see `benches/peers/apt_order.py --time`.

#[path = "../tests/support/random.rs"]
mod random;
#[path = "../tests/support/version_pairs.rs"]
mod version_pairs;

use divan::Bencher;
use divan::counter::ItemsCount;
use domain::version::{VersionKey, VersionKind};
use version_pairs::{Pair, Pairs};

const KINDS: [VersionKind; 3] = [VersionKind::Dpkg, VersionKind::Rpm, VersionKind::Apk];
const COUNT: usize = 10_000;

fn main() {
    divan::main();
}

fn pairs(kind: VersionKind) -> Vec<(String, String)> {
    let mut pairs = Pairs::new(kind, 1);
    (0..COUNT)
        .map(|_| {
            let Pair { a, b } = pairs.next();
            (a.to_owned(), b.to_owned())
        })
        .collect()
}

#[divan::bench(args = KINDS)]
fn compare_prepared_keys(bencher: Bencher<'_, '_>, kind: VersionKind) {
    let keys: Vec<(VersionKey, VersionKey)> =
        pairs(kind).iter().map(|(a, b)| (kind.key(a), kind.key(b))).collect();
    bencher
        .counter(ItemsCount::new(COUNT))
        .bench(|| keys.iter().filter(|(a, b)| a.as_bytes() < b.as_bytes()).count());
}

#[divan::bench(args = KINDS)]
fn compare_strings(bencher: Bencher<'_, '_>, kind: VersionKind) {
    let pairs = pairs(kind);
    bencher
        .counter(ItemsCount::new(COUNT))
        .bench(|| pairs.iter().filter(|(a, b)| kind.compare(a, b).is_lt()).count());
}

#[divan::bench(args = KINDS)]
fn write_key(bencher: Bencher<'_, '_>, kind: VersionKind) {
    let pairs = pairs(kind);
    let mut key = Vec::new();
    bencher.counter(ItemsCount::new(COUNT)).bench_local(|| {
        for (a, _) in &pairs {
            key.clear();
            kind.write_key(a, &mut key);
            divan::black_box(&key);
        }
    });
}
