//! Machines in an OpenStack cloud: Keystone v3, Glance v2, Nova 2.1.
//!
//! Written against the documented APIs and tested against a server that behaves as they say; it
//! has not been run against a real cloud.
//!
//! Everything that a trial makes there, image, server and snapshot, bears one name with the moment
//! from which nobody can need it any more: `patchwright-trial-1764100000-0123456789abcdef`. So
//! what a failure or a killed process left is removed by name, also where the answer that would
//! have told its id never came, and a sweep needs to know nothing but the time.

mod error;
mod images;
mod secret;
mod session;

use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use lab::{BaseImage, JobDirectory, WorkArea};
use serde_json::{Value, json};

pub use self::error::OpenStackError;
pub use self::images::Glance;
pub use self::secret::Secret;
use self::session::{Body, PATIENCE, Repeat, Request, Service, Session};
pub use self::session::{Cloud, Login};
use crate::clock::Clock;
use crate::driver::{Cause, Driver, DriverError, Machine, PREFIX, State, Swept};
use crate::limits::Limits;

const PACE: Duration = Duration::from_secs(5);

/// How long a deletion may take.
const REMOVAL: Duration = Duration::from_secs(600);

/// What a trial may take beyond its limits: reading the disk is not bounded.
const LEEWAY: Duration = Duration::from_secs(3600);

/// Between our limit for shutting down and Nova's switching off by force.
const BEFORE_FORCE: Duration = Duration::from_secs(60);

/// Lists are read in pages, and not without end.
const PAGE: usize = 100;
const MAX_PAGES: usize = 50;

/// A cloud that trials may use.
#[derive(Debug)]
pub struct OpenStack {
    session: Arc<Session>,
    area: WorkArea,
}

impl OpenStack {
    /// Prepares to use a cloud; downloaded disks are kept below the directory while they are
    /// needed. Nothing is asked of the cloud yet.
    pub fn open(
        cloud: Cloud,
        directory: &Path,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, OpenStackError> {
        let (area, _) = WorkArea::open(directory)?;
        Ok(Self { session: Arc::new(Session::new(cloud, clock)?), area })
    }

    fn make(
        &self,
        name: &Name,
        image: &BaseImage,
        limits: &Limits,
    ) -> Result<String, OpenStackError> {
        let session = &*self.session;
        let deadline = session.clock().now() + limits.create;
        let mut described = json!({
            "name": name.text,
            "disk_format": image.format().name(),
            "container_format": "bare",
            "visibility": "private",
            // Nova presses the power button and waits so long before it uses force, so that a
            // machine that is off in time went off by itself.
            "os_shutdown_timeout": (limits.shutdown + BEFORE_FORCE).as_secs().to_string(),
        });
        let firmware = inspect::firmware_of(image.path());
        if matches!(firmware, Ok(inspect::Firmware::Uefi)) {
            described["hw_firmware_type"] = json!("uefi");
            described["hw_machine_type"] = json!("q35");
        }
        let made = session.post(Service::Image, "/images", &described)?;
        let image_id = id(&made, "/images")?;
        session.ask(Request {
            service: Service::Image,
            method: "PUT",
            path: &format!("/images/{image_id}/file"),
            body: Body::File(image.path()),
            // A second upload to an image that took the first is refused.
            repeat: Repeat::Never,
            limit: limits.create,
        })?;
        session.active_image(&image_id, name, deadline, limits.create)?;
        let server = json!({ "server": {
            "name": name.text,
            "imageRef": image_id,
            "flavorRef": session.cloud().flavor,
            "networks": "none",
        }});
        let made = session.post(Service::Compute, "/servers", &server)?;
        id(&made["server"], "/servers")
    }
}

impl Driver for OpenStack {
    fn name(&self) -> &'static str {
        "openstack"
    }

    fn create(&self, image: &BaseImage, limits: &Limits) -> Result<Box<dyn Machine>, DriverError> {
        let job = self.area.job().map_err(OpenStackError::Work)?;
        // Who is not let in has made nothing that would have to be removed.
        self.session.enter()?;
        let span = limits.create + limits.boot + limits.shutdown + limits.hand_over + LEEWAY;
        let name = Name::new(self.session.clock().unix() + span.as_secs());
        match self.make(&name, image, limits) {
            Ok(id) => Ok(Box::new(Server {
                session: Arc::clone(&self.session),
                name,
                id,
                heard: String::new(),
                limits: limits.clone(),
                job: Some(job),
            })),
            Err(error) => Err(self.session.after(error, &name).into()),
        }
    }

    fn sweep(&self) -> Result<Swept, DriverError> {
        let now = self.session.clock().unix();
        let is_over = |name: &Name| name.until <= now;
        let mut names = BTreeSet::new();
        let servers = self.session.servers(PREFIX)?;
        let images = self.session.images("/images?visibility=private")?;
        for (name, _) in servers.iter().chain(&images) {
            names.extend(Name::parse(name).filter(is_over));
        }
        let mut swept = Swept::default();
        for name in &names {
            let removed = self.session.remove(name)?;
            swept.machines += removed.machines;
            swept.disks += removed.disks;
        }
        let (_, leftovers) = WorkArea::open(self.area.path()).map_err(OpenStackError::Work)?;
        swept.disks += leftovers.directories;
        Ok(swept)
    }

    fn pace(&self) -> Duration {
        PACE
    }
}

/// What all things of one trial are called, and until when they can be needed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Name {
    text: String,
    until: u64,
}

impl Name {
    fn new(until: u64) -> Self {
        let mut random = [0; 8];
        getrandom::fill(&mut random).expect("the system gives random numbers");
        let random = u64::from_be_bytes(random);
        Self { text: format!("{PREFIX}{until}-{random:016x}"), until }
    }

    /// `None` of what somebody else called so.
    fn parse(text: &str) -> Option<Self> {
        let (until, random) = text.strip_prefix(PREFIX)?.split_once('-')?;
        let is_ours = random.len() == 16 && random.chars().all(|c| c.is_ascii_hexdigit());
        is_ours.then_some(Self { text: text.to_owned(), until: until.parse().ok()? })
    }
}

impl fmt::Display for Name {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.pad(&self.text)
    }
}

/// What trials ask of Glance and Nova.
impl Session {
    fn get(&self, service: Service, path: &str) -> Result<Value, OpenStackError> {
        let (body, repeat) = (Body::Nothing, Repeat::Safe);
        self.ask(Request { service, method: "GET", path, body, repeat, limit: PATIENCE })
    }

    fn post(&self, service: Service, path: &str, body: &Value) -> Result<Value, OpenStackError> {
        let (body, repeat) = (Body::Json(body), Repeat::Never);
        self.ask(Request { service, method: "POST", path, body, repeat, limit: PATIENCE })
    }

    fn delete(&self, service: Service, path: &str) -> Result<(), OpenStackError> {
        let (body, repeat) = (Body::Nothing, Repeat::Safe);
        match self.ask(Request { service, method: "DELETE", path, body, repeat, limit: PATIENCE }) {
            Err(error) if !error.is_status(404) => Err(error),
            _ => Ok(()),
        }
    }

    /// An image once it is usable.
    fn active_image(
        &self,
        id: &str,
        name: &Name,
        deadline: Duration,
        limit: Duration,
    ) -> Result<Value, OpenStackError> {
        let path = format!("/images/{id}");
        loop {
            let image = match self.get(Service::Image, &path) {
                // Nova deletes the image of a snapshot that failed.
                Err(error) if error.is_status(404) => json!({ "status": "deleted" }),
                other => other?,
            };
            match image["status"].as_str() {
                Some("active") => return Ok(image),
                Some("queued" | "saving" | "uploading" | "importing") => {}
                other => {
                    let status = other.unwrap_or("nothing").chars().take(40).collect();
                    return Err(OpenStackError::ImageLost { name: name.to_string(), status });
                }
            }
            self.pause_until(deadline, "the image", limit)?;
        }
    }

    /// Names and ids of servers whose names hold these words.
    fn servers(&self, words: &str) -> Result<Vec<(String, String)>, OpenStackError> {
        let path = format!("/servers?name={words}");
        self.list(Service::Compute, &path, "servers")
    }

    fn images(&self, path: &str) -> Result<Vec<(String, String)>, OpenStackError> {
        self.list(Service::Image, path, "images")
    }

    fn list(
        &self,
        service: Service,
        path: &str,
        member: &'static str,
    ) -> Result<Vec<(String, String)>, OpenStackError> {
        let mut found: Vec<(String, String)> = Vec::new();
        for _ in 0..MAX_PAGES {
            let marker = found.last().map(|(_, id)| format!("&marker={id}")).unwrap_or_default();
            let page = format!("{path}&limit={PAGE}{marker}");
            let answer = self.get(service, &page)?;
            let lacking =
                || OpenStackError::NotUnderstood { method: "GET", url: page.clone(), what: member };
            let entries = answer[member].as_array().ok_or_else(lacking)?;
            for entry in entries {
                let name = entry["name"].as_str().unwrap_or_default().to_owned();
                found.push((name, id(entry, &page)?));
            }
            if entries.len() < PAGE {
                break;
            }
        }
        Ok(found)
    }

    /// Removes all that bears a name: servers first, because they may use the images.
    fn remove(&self, name: &Name) -> Result<Swept, OpenStackError> {
        let deadline = self.clock().now() + REMOVAL;
        let bears = |(found, _): &(String, String)| *found == name.text;
        let mut swept = Swept::default();
        let mut servers = self.servers(&name.text)?;
        servers.retain(bears);
        for (_, id) in &servers {
            self.delete(Service::Compute, &format!("/servers/{id}"))?;
        }
        for (_, id) in &servers {
            self.until_gone(&format!("/servers/{id}"), deadline)?;
            swept.machines += 1;
        }
        let mut images = self.images(&format!("/images?name={name}"))?;
        images.retain(bears);
        for (_, id) in &images {
            self.delete_image(id, deadline)?;
            swept.disks += 1;
        }
        Ok(swept)
    }

    fn until_gone(&self, path: &str, deadline: Duration) -> Result<(), OpenStackError> {
        loop {
            match self.get(Service::Compute, path) {
                Err(error) if error.is_status(404) => return Ok(()),
                Ok(answer) if answer["server"]["status"] == "DELETED" => return Ok(()),
                other => other?,
            };
            self.pause_until(deadline, "the deletion", REMOVAL)?;
        }
    }

    /// An image that is still in use is refused for a while.
    fn delete_image(&self, id: &str, deadline: Duration) -> Result<(), OpenStackError> {
        loop {
            match self.delete(Service::Image, &format!("/images/{id}")) {
                Err(error) if error.is_status(409) => {}
                other => return other,
            }
            self.pause_until(deadline, "the deletion", REMOVAL)?;
        }
    }

    fn pause_until(
        &self,
        deadline: Duration,
        what: &'static str,
        limit: Duration,
    ) -> Result<(), OpenStackError> {
        if self.clock().now() > deadline {
            return Err(OpenStackError::TooLate { what, seconds: limit.as_secs() });
        }
        self.clock().wait(PACE);
        Ok(())
    }

    /// What becomes of a failure once all that had been made is removed, or cannot be.
    fn after(&self, error: OpenStackError, name: &Name) -> OpenStackError {
        match self.remove(name) {
            Ok(_) => error,
            Err(cleaning) => OpenStackError::Uncleaned {
                error: Box::new(error),
                name: name.to_string(),
                cleaning: Box::new(cleaning),
            },
        }
    }
}

/// Ids become parts of addresses: they may be nothing else than ids.
fn id(object: &Value, path: &str) -> Result<String, OpenStackError> {
    object["id"].as_str().filter(|id| is_id(id)).map(str::to_owned).ok_or_else(|| {
        OpenStackError::NotUnderstood { method: "POST", url: path.to_owned(), what: "an id" }
    })
}

fn is_id(id: &str) -> bool {
    (1..=64).contains(&id.len()) && id.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
}

/// A server of a project.
#[derive(Debug)]
struct Server {
    session: Arc<Session>,
    name: Name,
    id: String,
    /// The console as it was told last.
    heard: String,
    limits: Limits,
    job: Option<JobDirectory>,
}

impl Server {
    fn path(&self) -> String {
        format!("/servers/{}", self.id)
    }

    fn act(&self, action: &Value, repeat: Repeat) -> Result<Value, OpenStackError> {
        let path = format!("{}/action", self.path());
        let (service, body) = (Service::Compute, Body::Json(action));
        let method = "POST";
        self.session.ask(Request { service, method, path: &path, body, repeat, limit: PATIENCE })
    }

    fn look(&self) -> Result<State, OpenStackError> {
        let answer = self.session.get(Service::Compute, &self.path())?;
        let server = &answer["server"];
        let told = |text: &Value| text.as_str().unwrap_or_default().chars().take(300).collect();
        Ok(match server["status"].as_str() {
            Some("BUILD") => State::Starting,
            Some("SHUTOFF") => State::Off(Cause::Untold),
            Some("ERROR") => {
                let message: String = told(&server["fault"]["message"]);
                State::Failed { reason: format!("the server is in the state ERROR: {message}") }
            }
            Some("DELETED" | "SOFT_DELETED") => {
                State::Failed { reason: "somebody deleted the server".to_owned() }
            }
            Some(_) => State::Running,
            None => {
                let (url, what) = (self.path(), "a status");
                return Err(OpenStackError::NotUnderstood { method: "GET", url, what });
            }
        })
    }

    fn stop(&self) -> Result<(), OpenStackError> {
        match self.act(&json!({ "os-stop": null }), Repeat::Safe) {
            // It is off already or on its way: its state will tell.
            Err(error) if error.is_status(409) => Ok(()),
            other => other.map(|_| ()),
        }
    }

    fn snapshot(&self, job: &JobDirectory) -> Result<PathBuf, OpenStackError> {
        let session = &*self.session;
        let limit = self.limits.hand_over;
        let deadline = session.clock().now() + limit;
        let wanted = json!({ "createImage": { "name": self.name.text } });
        let made = self.act(&wanted, Repeat::Never)?;
        let image_id = id(&json!({ "id": made["image_id"] }), "createImage")?;
        let image = session.active_image(&image_id, &self.name, deadline, limit)?;
        let size = image["size"].as_u64().unwrap_or_default();
        if size == 0 || size > self.limits.disk_bytes {
            let wanted = self.limits.disk_bytes;
            return Err(OpenStackError::SnapshotSize { wanted, got: size });
        }
        let disk = job.path().join("disk");
        let got = session.download(
            Request {
                service: Service::Image,
                method: "GET",
                path: &format!("/images/{image_id}/file"),
                body: Body::Nothing,
                repeat: Repeat::Safe,
                limit,
            },
            &disk,
            size,
        )?;
        if got != size {
            return Err(OpenStackError::SnapshotSize { wanted: size, got });
        }
        // It came over the network: it may name no other file of this machine.
        Ok(BaseImage::open(&disk)?.path().to_owned())
    }
}

impl Machine for Server {
    fn name(&self) -> &str {
        &self.name.text
    }

    fn state(&mut self) -> Result<State, DriverError> {
        Ok(self.look()?)
    }

    fn read_console(&mut self) -> Result<Vec<u8>, DriverError> {
        let told = match self.act(&json!({ "os-getConsoleOutput": {} }), Repeat::Safe) {
            // Not ready yet; gone; or a hypervisor that keeps no console.
            Err(error) if [404, 409, 501].iter().any(|&status| error.is_status(status)) => {
                return Ok(Vec::new());
            }
            other => other?,
        };
        let told = told["output"].as_str().unwrap_or_default();
        let new = continuation(&self.heard, told).as_bytes().to_vec();
        told.clone_into(&mut self.heard);
        Ok(new)
    }

    fn press_power_button(&mut self) -> Result<(), DriverError> {
        Ok(self.stop()?)
    }

    fn disk(&mut self) -> Result<PathBuf, DriverError> {
        let gone = || OpenStackError::NotUnderstood {
            method: "POST",
            url: self.path(),
            what: "a server, which was deleted",
        };
        let job = self.job.as_ref().ok_or_else(gone)?;
        Ok(self.snapshot(job)?)
    }

    fn delete(&mut self) -> Result<(), DriverError> {
        self.session.remove(&self.name)?;
        self.job = None;
        Ok(())
    }
}

/// What is new in a log of which only the end is told.
fn continuation<'a>(before: &str, now: &'a str) -> &'a str {
    /// Long enough to stand in a boot's log once.
    const OVERLAP: usize = 512;
    if let Some(new) = now.strip_prefix(before) {
        return new;
    }
    let start = before.len().saturating_sub(OVERLAP);
    let start = (start..=before.len()).find(|&at| before.is_char_boundary(at)).unwrap_or_default();
    let end = &before[start..];
    now.rfind(end).map_or(now, |at| &now[at + end.len()..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_tells_until_when_it_is_needed_and_whose_it_is() {
        let name = Name::new(1_764_100_000);
        assert_eq!(Name::parse(&name.text), Some(name));
        for others in ["patchwright-trial-", "patchwright-trial-x-0123456789abcdef", "web-1"] {
            assert_eq!(Name::parse(others), None, "{others}");
        }
    }

    #[test]
    fn a_log_of_which_the_beginning_is_cut_off_goes_on_where_it_was() {
        assert_eq!(continuation("", "one"), "one");
        assert_eq!(continuation("one", "one two"), " two");
        let before = format!("{}middle of it", "x".repeat(1000));
        let now = format!("{} and more", &before[400..]);
        assert_eq!(continuation(&before, &now), " and more");
        assert_eq!(continuation("another machine", "one"), "one");
    }

    #[test]
    fn an_id_leads_nowhere_else() {
        assert!(id(&json!({ "id": "70a599e0-31e7-49b7-b260-868f441e862b" }), "x").is_ok());
        for bad in [json!("../x"), json!("a?b"), json!(""), json!(7), json!("a".repeat(65))] {
            assert!(id(&json!({ "id": bad }), "x").is_err());
        }
    }
}
