//! A cloud of one thread that answers as the references of Keystone v3, Glance v2 and Nova 2.1
//! say, and notes whatever they do not allow.

#![allow(dead_code, unreachable_pub, reason = "a helper of tests")]
#![allow(clippy::unwrap_used, reason = "a helper of tests")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

use serde_json::{Value, json};

pub const FLAVOR: &str = "flavor-1";

/// A request as it came.
#[derive(Debug, Clone)]
pub struct Asked {
    pub method: String,
    pub path: String,
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

impl Asked {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// `POST /servers/{id}/action os-stop`: ids left out.
    pub fn shape(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        let parts: Vec<&str> =
            path.split('/').map(|part| if part.contains("-id-") { "{id}" } else { part }).collect();
        let action = if path.ends_with("/action") {
            self.json().as_object().and_then(|object| object.keys().next().cloned())
        } else {
            None
        };
        format!("{} {} {}", self.method, parts.join("/"), action.unwrap_or_default())
            .trim()
            .to_owned()
    }
}

#[derive(Debug, Clone)]
pub struct Image {
    pub name: String,
    pub described: Value,
    pub content: Vec<u8>,
    /// What it goes through; the last lasts.
    pub statuses: Vec<&'static str>,
}

#[derive(Debug, Clone)]
pub struct Server {
    pub name: String,
    pub statuses: Vec<&'static str>,
    pub is_stopping: bool,
}

/// An answer in place of the true one.
#[derive(Debug, Clone)]
pub struct Fault {
    pub shape: &'static str,
    pub status: u16,
    pub body: Value,
    /// How often.
    pub times: usize,
    /// Whether it is done nevertheless.
    pub is_done: bool,
}

#[derive(Debug)]
pub struct World {
    pub login: Value,
    pub asked: Vec<Asked>,
    /// What no reference allows.
    pub violations: Vec<String>,
    pub images: BTreeMap<String, Image>,
    pub servers: BTreeMap<String, Server>,
    pub faults: Vec<Fault>,
    /// After so many further requests the token expires.
    pub expires_in: Option<usize>,
    pub upload_becomes: Vec<&'static str>,
    pub snapshot_becomes: Vec<&'static str>,
    pub server_becomes: Vec<&'static str>,
    /// What the console says, from its first look on; the last lasts.
    pub console: Vec<String>,
    pub snapshot: Vec<u8>,
    /// Whether images are read that others brought.
    pub is_store: bool,
    tokens: usize,
    is_expired: bool,
    made: usize,
    base: String,
}

pub struct FakeCloud {
    pub base: String,
    world: Arc<Mutex<World>>,
}

impl FakeCloud {
    pub fn start(login: Value) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let world = Arc::new(Mutex::new(World {
            login,
            asked: Vec::new(),
            violations: Vec::new(),
            images: BTreeMap::new(),
            servers: BTreeMap::new(),
            faults: Vec::new(),
            expires_in: None,
            upload_becomes: vec!["saving", "active"],
            snapshot_becomes: vec!["queued", "saving", "active"],
            server_becomes: vec!["BUILD", "BUILD", "ACTIVE"],
            console: vec![
                String::new(),
                "[    0.000000] Linux version 6.1.0-32-amd64 (x)\n".to_owned(),
                "[    0.000000] Linux version 6.1.0-32-amd64 (x)\nweb-1 login: ".to_owned(),
            ],
            snapshot: b"the disk at rest".to_vec(),
            is_store: false,
            tokens: 0,
            is_expired: false,
            made: 0,
            base: base.clone(),
        }));
        let shared = Arc::clone(&world);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                serve(stream, &mut shared.lock().unwrap());
            }
        });
        Self { base, world }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    /// The shapes of all requests, a run of equal ones once.
    pub fn shapes(&self) -> Vec<String> {
        let mut shapes: Vec<String> = self.world().asked.iter().map(Asked::shape).collect();
        shapes.dedup();
        shapes
    }

    pub fn count(&self, shape: &str) -> usize {
        self.world().asked.iter().filter(|asked| asked.shape() == shape).count()
    }

    pub fn fault(&self, shape: &'static str, status: u16, body: Value, times: usize) {
        self.world().faults.push(Fault { shape, status, body, times, is_done: false });
    }

    /// Nothing was asked that no reference allows, and nothing is left.
    pub fn assert_clean(&self) {
        let world = self.world();
        assert_eq!(world.violations, Vec::<String>::new());
        assert!(world.servers.is_empty(), "{:?}", world.servers);
        assert!(world.images.is_empty(), "{:?}", world.images);
    }
}

struct Answer {
    status: u16,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

fn plain(status: u16) -> Answer {
    Answer { status, headers: Vec::new(), body: Vec::new() }
}

fn with(status: u16, body: &Value) -> Answer {
    let headers = vec![("Content-Type", "application/json".to_owned())];
    Answer { status, headers, body: body.to_string().into_bytes() }
}

/// Nova's words for a failure.
fn nova(status: u16, kind: &str, message: &str) -> Answer {
    with(status, &json!({ kind: { "code": status, "message": message } }))
}

fn serve(stream: TcpStream, world: &mut World) {
    let Some(asked) = read(&stream) else { return };
    let answer = answered(world, &asked);
    world.asked.push(asked);
    let mut text = format!("HTTP/1.1 {} X\r\nConnection: close\r\n", answer.status);
    for (name, value) in &answer.headers {
        write!(text, "{name}: {value}\r\n").unwrap();
    }
    if answer.status != 204 {
        write!(text, "Content-Length: {}\r\n", answer.body.len()).unwrap();
    }
    text += "\r\n";
    let mut stream = stream;
    let _ = stream.write_all(text.as_bytes()).and_then(|()| stream.write_all(&answer.body));
}

fn read(stream: &TcpStream) -> Option<Asked> {
    let mut reader = BufReader::new(stream);
    let mut line = String::new();
    reader.read_line(&mut line).ok()?;
    let mut words = line.split_whitespace();
    let (method, path) = (words.next()?.to_owned(), words.next()?.to_owned());
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok()?;
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    let mut body = Vec::new();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    reader.take(length).read_to_end(&mut body).ok()?;
    Some(Asked { method, path, headers, body })
}

fn answered(world: &mut World, asked: &Asked) -> Answer {
    let shape = asked.shape();
    let fault = world.faults.iter().position(|fault| fault.shape == shape && fault.times > 0);
    if let Some(at) = fault {
        world.faults[at].times -= 1;
        let fault = world.faults[at].clone();
        if fault.is_done {
            let _ = route(world, asked);
        }
        return with(fault.status, &fault.body);
    }
    route(world, asked)
}

fn route(world: &mut World, asked: &Asked) -> Answer {
    if asked.headers.contains_key("transfer-encoding") {
        return violation(world, asked, "a body of unknown length");
    }
    if asked.path == "/identity/v3/auth/tokens" {
        return log_in(world, asked);
    }
    if let Some(left) = &mut world.expires_in {
        if *left == 0 {
            world.expires_in = None;
            world.is_expired = true;
        } else {
            *left -= 1;
        }
    }
    let token = format!("token-{}", world.tokens);
    if world.is_expired || asked.headers.get("x-auth-token") != Some(&token) {
        return with(401, &json!({ "error": { "code": 401, "message": "expired token-1" } }));
    }
    if let Some(path) = asked.path.strip_prefix("/image/v2") {
        return glance(world, asked, path);
    }
    let Some(path) = asked.path.strip_prefix("/compute/v2.1") else {
        return violation(world, asked, "no such service");
    };
    if asked.headers.get("openstack-api-version").map(String::as_str) != Some("compute 2.45") {
        return violation(world, asked, "another microversion");
    }
    nova_route(world, asked, path)
}

fn violation(world: &mut World, asked: &Asked, why: &str) -> Answer {
    world.violations.push(format!("{} {}: {why}", asked.method, asked.path));
    nova(400, "badRequest", why)
}

fn has_json(asked: &Asked) -> bool {
    asked.headers.get("content-type").map(String::as_str) == Some("application/json")
}

fn log_in(world: &mut World, asked: &Asked) -> Answer {
    if asked.method != "POST" || !has_json(asked) {
        return violation(world, asked, "not a request for a token");
    }
    if asked.json() != world.login {
        return with(401, &json!({ "error": { "code": 401, "message": "who? s3cret" } }));
    }
    world.tokens += 1;
    world.is_expired = false;
    let endpoint = |interface: &str, region: &str, url: String| {
        json!({
            "id": "1", "interface": interface, "region": region, "region_id": region, "url": url,
        })
    };
    let entry = |kind: &str, path: &str| {
        let elsewhere = "http://127.0.0.1:1".to_owned();
        json!({ "type": kind, "name": kind, "id": kind, "endpoints": [
            endpoint("internal", "one", elsewhere.clone()),
            endpoint("public", "two", elsewhere),
            endpoint("public", "one", format!("{}{path}", world.base)),
        ]})
    };
    let catalogue = [
        entry("identity", "/identity"),
        entry("compute", "/compute/v2.1"),
        entry("image", "/image"),
    ];
    let mut answer = with(201, &json!({ "token": { "catalog": catalogue, "methods": [] } }));
    answer.headers.push(("X-Subject-Token", format!("token-{}", world.tokens)));
    answer
}

/// Takes the first of what is to come, the last stays.
fn next(statuses: &mut Vec<&'static str>) -> &'static str {
    if statuses.len() > 1 { statuses.remove(0) } else { statuses[0] }
}

fn query<'a>(path: &'a str, name: &str) -> Option<&'a str> {
    let (_, query) = path.split_once('?')?;
    query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

/// A page of what has a name and an id, behind the marker.
fn page(all: &[(String, String)], member: &str, path: &str) -> Answer {
    let limit = query(path, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(25);
    let marker = query(path, "marker");
    let start = marker.map_or(0, |marker| {
        all.iter().position(|(id, _)| id == marker).expect("a marker that was told") + 1
    });
    let entries: Vec<Value> = all[start..]
        .iter()
        .take(limit)
        .map(|(id, name)| json!({ "id": id, "name": name }))
        .collect();
    with(200, &json!({ member: entries }))
}

/// An image as "Show image" has it.
fn told(id: &str, image: &Image) -> Value {
    let mut told = image.described.clone();
    told["id"] = json!(id);
    told["name"] = json!(image.name);
    told["status"] = json!(image.statuses[0]);
    if told["size"].is_null() {
        told["size"] = json!(image.content.len());
    }
    told
}

/// A page of images in the order of their ids.
fn page_of_images(world: &World, path: &str) -> Answer {
    let limit = query(path, "limit").and_then(|limit| limit.parse().ok()).unwrap_or(25);
    let after = query(path, "marker").unwrap_or_default();
    let mut all = world.images.iter().filter(|(id, _)| id.as_str() > after);
    // It gives no more than it likes, however many are asked for.
    let page: Vec<_> = all.by_ref().take(limit.min(7)).collect();
    let last = page.last().map_or("", |(id, _)| id.as_str());
    let next = all.next().map(|_| format!("/v2/images?marker={last}&limit={limit}"));
    let page: Vec<_> = page.iter().map(|(id, image)| told(id, image)).collect();
    let mut answer = json!({ "images": page });
    if let Some(next) = next {
        answer["next"] = json!(next);
    }
    with(200, &answer)
}

fn glance(world: &mut World, asked: &Asked, path: &str) -> Answer {
    let (route, _) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = route.trim_start_matches('/').split('/').collect();
    if world.is_store {
        return match (asked.method.as_str(), &parts[..]) {
            ("GET", ["images"]) => page_of_images(world, path),
            ("GET", ["images", id]) => match world.images.get(*id) {
                Some(image) => with(200, &told(id, image)),
                None => plain(404),
            },
            ("GET", ["images", id, "file"]) => match world.images.get(*id) {
                Some(image) => {
                    Answer { status: 200, headers: Vec::new(), body: image.content.clone() }
                }
                None => plain(404),
            },
            _ => violation(world, asked, "something other than reading"),
        };
    }
    match (asked.method.as_str(), &parts[..]) {
        ("GET", ["images"]) => {
            let name = query(path, "name");
            if name.is_none() && query(path, "visibility") != Some("private") {
                return violation(world, asked, "a list of other people's images");
            }
            let all = world.images.iter().map(|(id, image)| (id.clone(), image.name.clone()));
            let all: Vec<_> =
                all.filter(|(_, found)| name.is_none_or(|name| found == name)).collect();
            page(&all, "images", path)
        }
        ("POST", ["images"]) => {
            let described = asked.json();
            let is_text = |name: &str| described[name].is_string();
            let needed = ["name", "disk_format", "container_format", "visibility"];
            // Properties of an image are texts.
            let are_texts =
                described.as_object().is_some_and(|object| object.values().all(Value::is_string));
            if !has_json(asked) || !needed.iter().all(|name| is_text(name)) || !are_texts {
                return violation(world, asked, "not a description of an image");
            }
            let id = world.id("image");
            let image = Image {
                name: described["name"].as_str().unwrap().to_owned(),
                described: described.clone(),
                content: Vec::new(),
                statuses: vec!["queued"],
            };
            world.images.insert(id.clone(), image);
            with(201, &json!({ "id": id, "status": "queued", "name": described["name"] }))
        }
        ("PUT", ["images", id, "file"]) => {
            let octets = "application/octet-stream";
            if asked.headers.get("content-type").map(String::as_str) != Some(octets) {
                return violation(world, asked, "no octets");
            }
            let becomes = world.upload_becomes.clone();
            let Some(image) = world.images.get_mut(*id) else { return plain(404) };
            if image.statuses != ["queued"] {
                return plain(409);
            }
            image.content.clone_from(&asked.body);
            image.statuses = becomes;
            plain(204)
        }
        ("GET", ["images", id]) => {
            let Some(image) = world.images.get_mut(*id) else { return plain(404) };
            let (status, size) = (next(&mut image.statuses), image.content.len());
            if status == "gone" {
                world.images.remove(*id);
                return plain(404);
            }
            with(200, &json!({ "id": id, "status": status, "size": size }))
        }
        ("GET", ["images", id, "file"]) => match world.images.get(*id) {
            Some(image) if image.statuses == ["active"] => {
                let headers = vec![("Content-Type", "application/octet-stream".to_owned())];
                Answer { status: 200, headers, body: image.content.clone() }
            }
            Some(_) => plain(204),
            None => plain(404),
        },
        ("DELETE", ["images", id]) => {
            let name = world.images.get(*id).map(|image| image.name.clone());
            if world.servers.values().any(|server| Some(&server.name) == name.as_ref()) {
                return violation(world, asked, "an image that is in use");
            }
            plain(if world.images.remove(*id).is_some() { 204 } else { 404 })
        }
        _ => violation(world, asked, "no such request"),
    }
}

fn nova_route(world: &mut World, asked: &Asked, path: &str) -> Answer {
    let (route, _) = path.split_once('?').unwrap_or((path, ""));
    let parts: Vec<&str> = route.trim_start_matches('/').split('/').collect();
    match (asked.method.as_str(), &parts[..]) {
        ("GET", ["servers"]) => {
            let words = query(path, "name").unwrap_or_default();
            let all = world.servers.iter().map(|(id, server)| (id.clone(), server.name.clone()));
            let all: Vec<_> = all.filter(|(_, name)| name.contains(words)).collect();
            page(&all, "servers", path)
        }
        ("POST", ["servers"]) => create_server(world, asked),
        ("GET", ["servers", id]) => {
            let Some(server) = world.servers.get_mut(*id) else {
                return nova(404, "itemNotFound", "Instance could not be found.");
            };
            let status = next(&mut server.statuses);
            if status == "DELETING" && server.statuses == ["GONE"] {
                world.servers.remove(*id);
                return with(200, &json!({ "server": { "id": id, "status": "ACTIVE" } }));
            }
            let mut told = json!({ "server": { "id": id, "status": status } });
            if status == "ERROR" {
                told["server"]["fault"] =
                    json!({ "code": 500, "message": "No valid host was found." });
            }
            with(200, &told)
        }
        ("DELETE", ["servers", id]) => match world.servers.get_mut(*id) {
            Some(server) => {
                server.statuses = vec!["DELETING", "GONE"];
                plain(204)
            }
            None => nova(404, "itemNotFound", "Instance could not be found."),
        },
        ("POST", ["servers", id, "action"]) if world.servers.contains_key(*id) => {
            act(world, asked, id)
        }
        _ => violation(world, asked, "no such request"),
    }
}

fn create_server(world: &mut World, asked: &Asked) -> Answer {
    let wanted = asked.json();
    let image = wanted["server"]["imageRef"].as_str().unwrap_or_default().to_owned();
    let name = wanted["server"]["name"].as_str().unwrap_or_default().to_owned();
    let documented = json!({ "server": {
        "name": name, "imageRef": image, "flavorRef": FLAVOR, "networks": "none",
    }});
    let is_usable = world.images.get(&image).is_some_and(|image| image.statuses == ["active"]);
    if !has_json(asked) || wanted != documented || !is_usable {
        return violation(world, asked, "not a server of a usable image");
    }
    let id = world.id("server");
    let statuses = world.server_becomes.clone();
    world.servers.insert(id.clone(), Server { name, statuses, is_stopping: false });
    with(202, &json!({ "server": { "id": id, "links": [], "adminPass": "s3cret" } }))
}

fn act(world: &mut World, asked: &Asked, id: &str) -> Answer {
    let action = asked.json();
    let server = world.servers.get_mut(id).unwrap();
    let status = server.statuses[0];
    let conflict = || nova(409, "conflictingRequest", "Cannot while instance is in its state");
    if action == json!({ "os-getConsoleOutput": {} }) {
        if status == "BUILD" {
            return conflict();
        }
        let output = world.console[0].clone();
        if world.console.len() > 1 {
            world.console.remove(0);
        }
        return with(200, &json!({ "output": output }));
    }
    if action == json!({ "os-stop": null }) {
        if status != "ACTIVE" || server.is_stopping {
            return conflict();
        }
        server.is_stopping = true;
        server.statuses = vec!["ACTIVE", "ACTIVE", "SHUTOFF"];
        return plain(202);
    }
    let name = action["createImage"]["name"].as_str().unwrap_or_default().to_owned();
    if action == json!({ "createImage": { "name": name } }) {
        if status != "SHUTOFF" {
            return conflict();
        }
        let image = Image {
            name,
            described: Value::Null,
            content: world.snapshot.clone(),
            statuses: world.snapshot_becomes.clone(),
        };
        let id = world.id("image");
        world.images.insert(id.clone(), image);
        return with(202, &json!({ "image_id": id }));
    }
    violation(world, asked, "no such action")
}

impl World {
    fn id(&mut self, kind: &str) -> String {
        self.made += 1;
        format!("{kind}-id-{:08}", self.made)
    }

    pub fn put_server(&mut self, name: &str) {
        let id = self.id("server");
        let statuses = vec!["ACTIVE"];
        self.servers.insert(id, Server { name: name.to_owned(), statuses, is_stopping: false });
    }

    pub fn put_image(&mut self, name: &str) {
        let id = self.id("image");
        let (content, statuses) = (Vec::new(), vec!["active"]);
        let image = Image { name: name.to_owned(), described: Value::Null, content, statuses };
        self.images.insert(id, image);
    }
}
