//! A laboratory without machines: it reads images that are texts, and does what a request says.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;
use server::{ImageFacts, JobWatch, LabFailure, LabOutcome, LabRefusal, Laboratory, Made, Order};

/// What an image of ours begins with; lines `NAME VERSION` follow, one for each package.
pub(crate) const MAGIC: &str = "an image\n";

/// How long a job waits for others.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) struct Fake {
    /// Where it makes images.
    directory: PathBuf,
    /// How often something was begun, and how much of it is under way.
    pub(crate) begun: AtomicUsize,
    pub(crate) under_way: AtomicUsize,
    /// The most that were under way at the same time.
    pub(crate) most: AtomicUsize,
    /// How many jobs noticed that they were called off.
    pub(crate) called_off: AtomicUsize,
}

impl Fake {
    pub(crate) fn new(directory: &Path) -> Self {
        fs::create_dir_all(directory).unwrap();
        Self {
            directory: directory.to_owned(),
            begun: AtomicUsize::new(0),
            under_way: AtomicUsize::new(0),
            most: AtomicUsize::new(0),
            called_off: AtomicUsize::new(0),
        }
    }

    /// Files that it made and nobody took.
    pub(crate) fn left_over(&self) -> usize {
        fs::read_dir(&self.directory).unwrap().count()
    }

    fn work(&self, order: &Order, watch: &dyn JobWatch) -> Result<LabOutcome, LabFailure> {
        watch.stage("working");
        watch.log(format!("working on {}\n", order.job).as_bytes());
        let word = |name: &str| order.request[name].as_str();
        let number = |name: &str| order.request[name].as_u64().unwrap_or(0);
        let begun = Instant::now();
        let takes = Duration::from_millis(number("takes_ms"));
        // Until so many were under way at once, however long it takes to begin them.
        let lacks_others = || {
            self.most.load(Ordering::SeqCst) as u64 <= number("others")
                && begun.elapsed() < PATIENCE
        };
        while begun.elapsed() < takes || lacks_others() {
            // One that hangs does not listen either.
            if watch.cancelled() && word("do") != Some("hang") {
                self.called_off.fetch_add(1, Ordering::SeqCst);
                return Err(LabFailure::Cancelled);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        for _ in 0..number("log_mib") {
            watch.log(&vec![b'x'; 1 << 20]);
        }
        let passed = match word("do") {
            Some("refuse") => return Err(LabFailure::Refused("it is not possible".to_owned())),
            Some("break") => return Err(LabFailure::Broken("no machine was to be had".to_owned())),
            Some("panic") => panic!("the request says so"),
            Some("reject") => false,
            _ => true,
        };
        let made = word("packages").map(|packages| {
            let path = self.directory.join(format!("{}-{:?}", order.job, Instant::now()));
            fs::write(&path, format!("{MAGIC}{packages}")).unwrap();
            let facts = self.inspect(&path).unwrap();
            Made { path, facts, place: None }
        });
        let attestation = json!({ "payload": order.job, "made": made.is_some() });
        Ok(LabOutcome {
            result: json!({ "content": fs::read_to_string(&order.content).unwrap() }),
            passed,
            attestations: vec![("https://example.com/v1".to_owned(), attestation.to_string())],
            made,
        })
    }
}

impl Laboratory for Fake {
    fn inspect(&self, image: &Path) -> Result<ImageFacts, LabRefusal> {
        let text = fs::read_to_string(image).unwrap_or_default();
        assert!(!text.starts_with("deadly"), "this image kills its reader");
        let Some(packages) = text.strip_prefix(MAGIC) else {
            let reason = "there is no partition table".to_owned();
            return Err(LabRefusal { reason, help: "send a raw or qcow2 image".to_owned() });
        };
        let packages: Vec<_> = packages.lines().filter_map(|line| line.split_once(' ')).collect();
        Ok(ImageFacts {
            packages: super::package_set(&packages),
            release: "debian:12".to_owned(),
            architecture: "amd64".to_owned(),
            format: "raw".to_owned(),
        })
    }

    fn run(&self, order: &Order, watch: &dyn JobWatch) -> Result<LabOutcome, LabFailure> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let now = self.under_way.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(now, Ordering::SeqCst);
        let outcome = self.work(order, watch);
        self.under_way.fetch_sub(1, Ordering::SeqCst);
        outcome
    }
}
