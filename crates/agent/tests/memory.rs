//! What an agent keeps of what it looks at, counted where it is allocated. Alone in its program: whatever else ran
//! beside it would be counted too.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::cell::{Cell, RefCell};
use std::fs;
use std::path::Path;

use agent::configuration::Eyes;
use agent::execute::{AtRest, HostFiles, Packages};
use agent::orders::Desk;
use agent::{AgentError, ControlPlane, Next, Round, State};
use domain::agent::{
    Facts, FilesSent, HandedOrder, Need, OrderAnswer, OrderProgress, PinsOffered, PinsRequest,
    Report, ReportAnswer,
};
use domain::fleet::{PackageSet, SetDigest};
use domain::inventory::PackageFamily;
use jiff::{SignedDuration, Timestamp};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATED: PeakAlloc = PeakAlloc;

/// Files that are observed.
const FILES: usize = 500;

/// Most bytes that are kept of each, of its path's some 30: the path twice, with its digest and with what tells that it
/// is the same.
const MOST_OF_EACH: usize = 512;

/// Most bytes that are kept beside: rules as they are written, and what finds the words that they begin with.
const MOST_BESIDE: usize = 1 << 20;

/// A control plane that keeps nothing but counts.
#[derive(Default)]
struct Plane {
    known: Cell<Option<SetDigest>>,
    files: Cell<usize>,
    bytes: Cell<usize>,
}

impl ControlPlane for &Plane {
    fn report(
        &self,
        report: &Report,
        _: &PackageSet,
        _: &Facts,
    ) -> Result<ReportAnswer, AgentError> {
        let need = if self.known.get() == report.files { Vec::new() } else { vec![Need::Files] };
        Ok(ReportAnswer { need, interval: 60, now: Timestamp::now() })
    }

    fn files(&self, sent: &FilesSent) -> Result<(), AgentError> {
        self.known.set(Some(sent.digest));
        self.files.set(self.files.get() + sent.files.len());
        let bytes = sent.files.iter().map(|it| it.content.len());
        self.bytes.set(self.bytes.get() + bytes.sum::<usize>());
        Ok(())
    }

    fn pins(&self, _: &PinsRequest) -> Result<PinsOffered, AgentError> {
        unreachable!("nothing is pinned")
    }

    fn next_order(&self) -> Result<Option<HandedOrder>, AgentError> {
        Ok(None)
    }

    fn progress(&self, _: OrderProgress) -> Result<(), AgentError> {
        Ok(())
    }

    fn answer(&self, _: &OrderAnswer) -> Result<(), AgentError> {
        Ok(())
    }
}

/// A system with files of so many lines each, among them such as many rules look at.
fn system(lines: usize) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let write = |path: &str, text: &str| {
        let place = root.path().join(path);
        fs::create_dir_all(place.parent().unwrap()).unwrap();
        fs::write(place, text).unwrap();
    };
    write("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\nVERSION_CODENAME=bookworm\n");
    write("var/lib/dpkg/status", "");
    write("var/lib/dpkg/arch", "amd64\n");
    let secrets = "password = Tr0ub4dor&3\ntoken: 7c9f2e81d0a64b35\nsecret_key=\"q8Zt0pLw5vRx2nKd\"\n\
         url = postgres://app:h7Gk2Lq9@db/app\npre-shared-key = a1b2c3d4e5f6a7b8\ncommunity = n0tpubl1c\n";
    for number in 0..FILES {
        let text =
            format!("{secrets}{}", "a line as files have them by the thousand\n".repeat(lines));
        write(&format!("etc/app/configuration-{number:04}"), &text);
    }
    root
}

/// Goes around some times on a system, and gives what is held at the end of each round while its eyes are kept.
fn held(root: &Path, plane: &Plane, rounds: usize) -> Vec<usize> {
    let state = State::new(root.join("var/lib/patchwright-agent"));
    let (policy, probes) = (root.join("policy.toml"), root.join("probes.toml"));
    let before = ALLOCATED.current_usage();
    // Looked at long after all was written, so that quick looks believe times.
    let clock = || Timestamp::now() + SignedDuration::from_hours(1);
    let eyes = RefCell::new(Eyes::open(&state, root, &policy, true).unwrap());
    let go = || {
        let packages = Packages::of(PackageFamily::Dpkg, root, &root.join("work"), clock());
        let files = HostFiles::new(root, Vec::new());
        let desk = Desk {
            state: &state,
            policy: &policy,
            probes: &probes,
            packages: &*packages.system,
            archives: &*packages.archives,
            system: &AtRest,
            files: &files,
            clock: &clock,
        };
        let next = Round { desk: &desk, root, eyes: Some(&eyes) }.go(|| Ok(plane)).unwrap();
        assert!(matches!(next, Next::Wait(_)));
    };
    let mut held = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        go();
        held.push(ALLOCATED.current_usage() - before);
    }
    held
}

#[test]
fn an_agent_at_rest_keeps_digests_and_neither_contents_nor_what_read_them() {
    let (small, large) = (system(0), system(500));
    let plane = Plane::default();

    let of_small = held(small.path(), &plane, 3);
    let of_large = held(large.path(), &plane, 3);

    println!("held after each round: {of_small:?} of small files, {of_large:?} of large ones");
    assert!(plane.bytes.get() > 10 << 20, "all was told: {}", plane.bytes.get());
    assert!(plane.files.get() > 2 * FILES);
    for held in of_small.iter().chain(&of_large) {
        assert!(*held < MOST_BESIDE + FILES * MOST_OF_EACH, "{held} bytes are held");
    }
    let more = of_large[2].saturating_sub(of_small[2]);
    assert!(more < 64 << 10, "{more} bytes more are held of ten mebibytes more");
    assert!(of_large[2] <= of_large[0] + (16 << 10), "it grows: {of_large:?}");
}
