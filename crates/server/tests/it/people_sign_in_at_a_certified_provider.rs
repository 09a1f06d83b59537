//! Signing in at somebody else's implementation: `oidc-provider`, which the OpenID Foundation has certified.
//! `cargo xtask test` installs it where npm is there.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};

use crate::support::{Answer, World};
use axum::body::Body;
use axum::http::Request;

const INSTALLED: &str = "../../target/oidc-provider";

/// The provider's process; ends with its standard input.
struct Provider {
    process: Child,
    /// What it goes on to say; it would end if nobody could hear it.
    _said: BufReader<ChildStdout>,
    issuer: String,
}

impl Provider {
    fn start() -> Option<Self> {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join(INSTALLED);
        if !directory.join("node_modules/oidc-provider").is_dir() {
            return None;
        }
        let mut process = Command::new("node")
            .arg("provider.js")
            .current_dir(&directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut issuer = String::new();
        let mut said = BufReader::new(process.stdout.take().unwrap());
        said.read_line(&mut issuer).unwrap();
        Some(Self { process, _said: said, issuer: issuer.trim().to_owned() })
    }
}

impl Drop for Provider {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

/// A person at a browser, who signs in there and agrees to everything; gives where that leads.
fn visit(issuer: &str, address: &str, person: &str) -> String {
    let agent: ureq::Agent = ureq::Agent::config_builder()
        .http_status_as_error(false)
        .max_redirects(0)
        .proxy(None)
        .build()
        .into();
    let mut cookies = BTreeMap::new();
    let mut place = address.to_owned();
    for _ in 0..12 {
        if !place.starts_with(issuer) {
            return place;
        }
        let kept: Vec<_> = cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let mut answer = agent.get(&place).header("cookie", kept.join("; ")).call().unwrap();
        if answer.status() == 200 {
            let page = answer.body_mut().read_to_string().unwrap();
            let form = if page.contains("value=\"login\"") {
                format!("prompt=login&login={person}&password=x")
            } else {
                "prompt=consent".to_owned()
            };
            answer = agent
                .post(&place)
                .header("cookie", kept.join("; "))
                .content_type("application/x-www-form-urlencoded")
                .send(form)
                .unwrap();
        }
        for cookie in answer.headers().get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap().split(';').next().unwrap();
            let (name, value) = cookie.split_once('=').unwrap();
            cookies.insert(name.to_owned(), value.to_owned());
        }
        let location = answer.headers()["location"].to_str().unwrap();
        place = if location.starts_with('/') {
            format!("{issuer}{location}")
        } else {
            location.to_owned()
        };
    }
    panic!("it leads nowhere: {place}");
}

fn cookie(answer: &Answer, name: &str) -> String {
    let all = answer.headers.get_all("set-cookie").iter().map(|it| it.to_str().unwrap());
    let found = all.filter_map(|it| it.split(';').next()).find(|it| it.starts_with(name));
    found.unwrap_or_else(|| panic!("{}", answer.text)).to_owned()
}

#[tokio::test]
async fn somebody_signs_in_and_is_who_the_provider_says() {
    let Some(provider) = Provider::start() else {
        eprintln!("SKIPPED: no certified provider is installed; `cargo xtask test` installs it");
        return;
    };
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("oidc.toml");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, "a secret of the client").unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, private).unwrap();
    let text = format!(
        "[[provider]]\nname = \"corp\"\nissuer = \"{}\"\nclient_id = \"patchwright\"\n\
         client_secret_file = \"secret\"\ntenant = \"provider\"\n[provider.accounts]\n\
         claim = \"groups\"\nroles = [{{ value = \"admins\", role = \"operator\" }}]",
        provider.issuer
    );
    std::fs::write(&path, text).unwrap();
    let world = World::with(false, server::Providers::read(&path).unwrap()).await;
    let request = Request::post("/login/oidc/corp").header("sec-fetch-site", "same-origin");
    let leave = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(leave.status, 200, "{}", leave.text);
    let (_, address) = leave.text.split_once("<a href=\"").unwrap();
    let address = address.split_once('"').unwrap().0.replace("&amp;", "&");
    let issuer = provider.issuer.clone();

    let back = tokio::task::spawn_blocking(move || visit(&issuer, &address, "anna")).await.unwrap();

    let path = back.strip_prefix("http://localhost").unwrap();
    assert!(path.starts_with("/login/oidc/corp/callback?code="), "{back}");
    let request = Request::get(path).header("cookie", cookie(&leave, "patchwright_oidc"));
    let opened = world.send(request.body(Body::empty()).unwrap()).await;
    assert_eq!(opened.status, 200, "{}", opened.text);
    let session = cookie(&opened, "patchwright_session");
    let session = session.split_once('=').unwrap().1;
    let account = world.ask(session, "GET", "/api/v1/session", None).await.json();
    assert_eq!((&account["role"], &account["mfa"]), (&"operator".into(), &false.into()));
    let path = format!("/api/v1/users/{}", account["user"].as_str().unwrap());
    let person = world.ask(session, "GET", &path, None).await.json();
    assert_eq!((&person["login"], &person["name"]), (&"corp+anna".into(), &"Anna Example".into()));
    let factors = world.ask(session, "GET", "/api/v1/session/factors", None).await.json();
    assert_eq!(factors["identities"][0]["subject"], "anna");
}
