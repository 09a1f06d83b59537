//! Signing in at an OpenID Connect provider: who gets in, as whom, and who does not.

use std::collections::BTreeMap;

use crate::provider::{CLIENT, Provider, SECRET, Spoil};
use crate::support::{Answer, PASSWORD, World};
use axum::body::Body;
use axum::http::Request;
use domain::cloud::{Access, PROVIDER, Role, TenantId};
use serde_json::{Value, json};

const ACCOUNTS: &str = r#"
    tenant = "provider"
    [provider.accounts]
    claim = "groups"
    roles = [{ value = "admins", role = "admin" }, { value = "staff", role = "auditor" }]
"#;

/// Makes a provider's discovery lead elsewhere.
type Misled = Box<dyn Fn(&Provider)>;

/// A world in which people may sign in at this provider, described further by `more`.
async fn world(provider: &Provider, more: &str) -> World {
    World::with(more.contains("# strict"), providers(&[("corp", provider)], more)).await
}

fn providers(all: &[(&str, &Provider)], more: &str) -> server::Providers {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("oidc.toml");
    let secret = directory.path().join("secret");
    std::fs::write(&secret, SECRET).unwrap();
    let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
    std::fs::set_permissions(&secret, private).unwrap();
    let entry = |(name, provider): &(&str, &Provider)| {
        format!(
            "[[provider]]\nname = \"{name}\"\ntitle = \"Example Corp\"\nissuer = \"{}\"\n\
             client_id = \"{CLIENT}\"\nclient_secret_file = \"secret\"\n{more}\n",
            provider.issuer
        )
    };
    std::fs::write(&path, all.iter().map(entry).collect::<String>()).unwrap();
    server::Providers::read(&path).unwrap()
}

/// What a browser does: keeps cookies, follows what it is told.
#[derive(Default, Clone)]
struct Browser(BTreeMap<String, String>);

impl Browser {
    async fn send(&mut self, world: &World, method: &str, path: &str, form: &str) -> Answer {
        let cookies: Vec<_> =
            self.0.iter().map(|(name, value)| format!("{name}={value}")).collect();
        // A provider sends the browser here: nothing `Strict` comes along.
        let strict = |cookie: &&String| {
            !path.contains("/callback") || !cookie.starts_with("patchwright_session")
        };
        let cookies: Vec<_> = cookies.iter().filter(strict).cloned().collect();
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("cookie", cookies.join("; "))
            .header("content-type", "application/x-www-form-urlencoded")
            .header("sec-fetch-site", if method == "GET" { "cross-site" } else { "same-origin" })
            .body(Body::from(form.to_owned()))
            .unwrap();
        let answer = world.send(request).await;
        for cookie in answer.headers.get_all("set-cookie") {
            let cookie = cookie.to_str().unwrap();
            let (name, value) = cookie.split(';').next().unwrap().split_once('=').unwrap();
            assert!(cookie.contains("HttpOnly"), "{cookie}");
            if cookie.contains("Max-Age=0") {
                self.0.remove(name);
            } else {
                self.0.insert(name.to_owned(), value.to_owned());
            }
        }
        answer
    }

    /// Presses the button; gives where the provider is.
    async fn begin(&mut self, world: &World, name: &str) -> String {
        let answer = self.send(world, "POST", &format!("/login/oidc/{name}"), "").await;
        address(&answer)
    }

    /// Comes back from the provider.
    async fn finish(&mut self, world: &World, name: &str, query: &str) -> Answer {
        self.send(world, "GET", &format!("/login/oidc/{name}/callback?{query}"), "").await
    }

    /// All of it.
    async fn sign_in(&mut self, world: &World, provider: &Provider, person: Value) -> Answer {
        let address = self.begin(world, "corp").await;
        let query = provider.authorize(&address, person);
        self.finish(world, "corp", &query).await
    }

    fn session(&self) -> &str {
        self.0.get("patchwright_session").map_or("", String::as_str)
    }
}

/// Where a page leads on to.
fn address(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let (_, rest) = answer.text.split_once("<a href=\"").unwrap();
    rest.split_once('"').unwrap().0.replace("&amp;", "&")
}

async fn password_session(world: &World) -> Browser {
    let mut browser = Browser::default();
    let form = format!("login=root&password={}", PASSWORD.replace(' ', "+"));
    browser.send(world, "POST", "/login", &form).await;
    assert!(browser.session().starts_with("pws_"));
    browser
}

async fn account(world: &World, browser: &Browser) -> Value {
    let answer = world.ask(browser.session(), "GET", "/api/v1/session", None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

/// The payloads of events of a kind.
async fn events(world: &World, kind: &str) -> Vec<Value> {
    world.recorder.finish().await.unwrap();
    let events = world.store.events(&world.admin, store::Retrieval::Events, 0, 1000).await.unwrap();
    let of_kind = events.iter().filter(|event| event.kind.as_str() == kind);
    of_kind.map(|event| serde_json::from_slice(&event.payload).unwrap()).collect()
}

#[tokio::test]
async fn whoever_is_linked_gets_in_and_nobody_else() {
    let provider = Provider::start().await;
    let world = world(&provider, "").await;
    let login = Browser::default().send(&world, "GET", "/login", "").await;
    assert!(login.text.contains("Sign in with Example Corp"), "{}", login.text);
    let anna = json!({ "sub": "248289761001", "email": "root@example.org" });

    // A mail address, or a login, is nobody.
    let mut browser = Browser::default();
    let refused = browser.sign_in(&world, &provider, anna.clone()).await;
    assert_eq!(refused.status, 403, "{}", refused.text);
    assert!(refused.text.contains("nobody here is known as you are at Example Corp"));
    assert_eq!(browser.session(), "");

    let mut root = password_session(&world).await;
    let page = root.send(&world, "GET", "/account", "").await;
    assert!(page.text.contains("Link Example Corp"), "{}", page.text);
    let leave = root.send(&world, "POST", "/account/identities/link", "provider=corp").await;
    let query = provider.authorize(&address(&leave), anna.clone());
    let linked = root.finish(&world, "corp", &query).await;
    assert!(linked.text.contains("It is linked."), "{}", linked.text);

    let opened = browser.sign_in(&world, &provider, anna.clone()).await;
    assert_eq!(address(&opened), "/");
    let user = account(&world, &browser).await;
    assert_eq!((&user["role"], &user["mfa"]), (&json!("admin"), &json!(false)));
    let other = Browser::default().sign_in(&world, &provider, json!({ "sub": "other" })).await;
    assert_eq!(other.status, 403);

    let opened = events(&world, "session.opened").await;
    assert_eq!(
        opened.last().unwrap(),
        &json!({ "login": "root", "proof": "oidc", "issuer": provider.issuer })
    );
    let added = events(&world, "factor.added").await;
    assert_eq!(
        (&added[0]["factor"], &added[0]["subject"]),
        (&json!("oidc"), &json!("248289761001"))
    );

    // Linked once; unlinked, it opens nothing.
    let leave = root.send(&world, "POST", "/account/identities/link", "provider=corp").await;
    let query = provider.authorize(&address(&leave), anna.clone());
    assert_eq!(root.finish(&world, "corp", &query).await.status, 422);
    let factors = world.ask(root.session(), "GET", "/api/v1/session/factors", None).await.json();
    let id = factors["identities"][0]["id"].as_str().unwrap();
    let path = format!("/api/v1/session/identities/{id}");
    assert_eq!(world.ask(root.session(), "DELETE", &path, None).await.status, 204);
    assert_eq!(world.ask(root.session(), "DELETE", &path, None).await.status, 404);
    assert_eq!(browser.sign_in(&world, &provider, anna).await.status, 403);
    assert_eq!(events(&world, "factor.removed").await.len(), 1);
}

#[tokio::test]
async fn linking_belongs_to_a_session_that_is_still_open() {
    let provider = Provider::start().await;
    let world = world(&provider, "").await;
    let mut root = password_session(&world).await;
    let leave = root.send(&world, "POST", "/account/identities/link", "provider=corp").await;
    let query = provider.authorize(&address(&leave), json!({ "sub": "1" }));
    world.ask(root.session(), "DELETE", "/api/v1/session", None).await;

    let refused = root.finish(&world, "corp", &query).await;

    assert_eq!(refused.status, 422, "{}", refused.text);
    assert!(refused.text.contains("has ended"), "{}", refused.text);
    let mut nobody = Browser::default();
    let refused = nobody.send(&world, "POST", "/account/identities/link", "provider=corp").await;
    assert_eq!(refused.status, 401, "{}", refused.text);
}

#[tokio::test]
async fn the_provider_gives_accounts_and_roles_and_takes_them() {
    let provider = Provider::start().await;
    let world = world(&provider, ACCOUNTS).await;
    let anna = |groups: &[&str]| json!({ "sub": "1", "preferred_username": "Anna", "name": "Anna Example", "groups": groups });
    let mut browser = Browser::default();
    assert_eq!(browser.sign_in(&world, &provider, anna(&["guests"])).await.status, 403);

    browser.sign_in(&world, &provider, anna(&["staff"])).await;
    let user = account(&world, &browser).await;
    assert_eq!(user["role"], "auditor");
    let path = format!("/api/v1/users/{}", user["user"].as_str().unwrap());
    let person = world.ask(browser.session(), "GET", &path, None).await.json();
    assert_eq!(
        (&person["login"], &person["name"], &person["tenant"]),
        (&json!("corp+anna"), &json!("Anna Example"), &json!(PROVIDER))
    );
    let page = browser.send(&world, "GET", "/account", "").await;
    assert!(page.text.contains("This account is managed there"), "{}", page.text);

    // Another role there is another role here, for what is open as well.
    let mut second = Browser::default();
    second.sign_in(&world, &provider, anna(&["staff", "admins"])).await;
    assert_eq!(account(&world, &browser).await["role"], "admin");
    let token = json!({ "name": "t", "access": "write", "days": 1 });
    let token = world.ask(second.session(), "POST", "/api/v1/tokens", Some(token)).await;

    // There is no other way in that would outlast the role.
    let other = world.ask(second.session(), "POST", "/api/v1/session/codes", None).await;
    assert_eq!(other.status, 422, "{}", other.text);
    let factors = world.ask(second.session(), "GET", "/api/v1/session/factors", None).await.json();
    let id = factors["identities"][0]["id"].as_str().unwrap();
    let unlink = format!("/api/v1/session/identities/{id}");
    assert_eq!(world.ask(second.session(), "DELETE", &unlink, None).await.status, 422);

    // No role there is no access here.
    let refused = Browser::default().sign_in(&world, &provider, anna(&["guests"])).await;
    assert_eq!(refused.status, 403);
    assert!(refused.text.contains("no role here any more"), "{}", refused.text);
    assert_eq!(token.status, 201, "{}", token.text);
    let token = token.json()["secret"].as_str().unwrap().to_owned();
    for open in [browser.session(), second.session(), &token] {
        let answer = world.ask(open, "GET", "/api/v1/session", None).await;
        assert_eq!(answer.status, 401);
    }
    browser.sign_in(&world, &provider, anna(&["staff"])).await;
    assert_eq!(account(&world, &browser).await["role"], "auditor");

    let altered = events(&world, "user.altered").await;
    assert_eq!(altered[0]["role"], "admin");
    assert_eq!(altered[1]["access"], "withdrawn");
    assert_eq!(events(&world, "user.created").await.len(), 2);

    // Disabled here is out, whatever the provider says.
    world
        .store
        .disable_user(&world.admin, user["user"].as_str().unwrap().parse().unwrap())
        .await
        .unwrap();
    assert_eq!(Browser::default().sign_in(&world, &provider, anna(&["admins"])).await.status, 403);
}

#[tokio::test]
async fn an_account_never_takes_the_place_of_another() {
    let provider = Provider::start().await;
    let world = world(&provider, ACCOUNTS).await;
    let named = |sub: &str| json!({ "sub": sub, "preferred_username": "anna", "groups": "admins" });
    Browser::default().sign_in(&world, &provider, named("1")).await;

    let refused = Browser::default().sign_in(&world, &provider, named("2")).await;

    assert_eq!(refused.status, 409, "{}", refused.text);
}

#[tokio::test]
async fn a_tenants_provider_lets_in_that_tenants_people_alone() {
    let provider = Provider::start().await;
    let more = "tenant = \"acme\"\n[provider.accounts]\nclaim = \"groups\"\n\
                roles = [{ value = \"x\", role = \"tenant_owner\" }]";
    let world = world(&provider, more).await;
    let person = json!({ "sub": "1", "groups": ["x", "admins"] });
    let early = Browser::default().sign_in(&world, &provider, person.clone()).await;
    assert_eq!(early.status, 422, "there is no such tenant yet: {}", early.text);
    let acme = world.tenant("acme").await;

    let mut browser = Browser::default();
    browser.sign_in(&world, &provider, person).await;
    let user = account(&world, &browser).await;
    assert_eq!((&user["tenant"], &user["role"]), (&json!(acme), &json!("tenant_owner")));

    // The provider's people cannot be linked there, whoever would like them to.
    let mut root = password_session(&world).await;
    let leave = root.send(&world, "POST", "/account/identities/link", "provider=corp").await;
    let query = provider.authorize(&address(&leave), json!({ "sub": "2" }));
    assert_eq!(root.finish(&world, "corp", &query).await.status, 422);
}

#[tokio::test]
async fn an_administrator_says_who_somebody_is_elsewhere() {
    let provider = Provider::start().await;
    let world = world(&provider, "").await;
    let admin = world.token(PROVIDER, Role::Admin, Access::Write).await;
    let acme = world.tenant("acme").await;
    let owner = world.token(acme, Role::TenantOwner, Access::Write).await;
    let create = async |token: &str, tenant: TenantId, login: &str, issuer: &str| {
        let role = if tenant == PROVIDER { "operator" } else { "tenant_viewer" };
        let body = json!({
            "tenant": tenant, "login": login, "name": "Anna", "role": role,
            "identity": { "issuer": issuer, "subject": "248289761001" },
        });
        world.ask(token, "POST", "/api/v1/users", Some(body)).await
    };
    // Somebody's place could be taken before they first come.
    let squatted = create(&owner, acme, "squatter", &provider.issuer).await;
    assert_eq!(squatted.status, 422, "{}", squatted.text);
    let unknown = create(&admin, PROVIDER, "anna", "https://evil.example").await;
    assert_eq!(unknown.status, 422, "{}", unknown.text);

    let created = create(&admin, PROVIDER, "anna", &provider.issuer).await;
    assert_eq!(created.status, 201, "{}", created.text);
    let again = create(&admin, PROVIDER, "berta", &provider.issuer).await;
    assert_eq!(again.status, 422, "{}", again.text);
    let neither = json!({ "tenant": PROVIDER, "login": "carl", "name": "C", "role": "operator" });
    assert_eq!(world.ask(&admin, "POST", "/api/v1/users", Some(neither)).await.status, 400);

    let mut browser = Browser::default();
    browser.sign_in(&world, &provider, json!({ "sub": "248289761001", "amr": ["mfa"] })).await;
    let user = account(&world, &browser).await;
    assert_eq!((&user["role"], &user["mfa"]), (&json!("operator"), &json!(true)));
    // Its only way in stays.
    let factors = world.ask(browser.session(), "GET", "/api/v1/session/factors", None).await.json();
    let id = factors["identities"][0]["id"].as_str().unwrap();
    let unlink = format!("/api/v1/session/identities/{id}");
    let refused = world.ask(browser.session(), "DELETE", &unlink, None).await;
    assert!(refused.text.contains("only way in"), "{}", refused.text);

    // A reset takes it, like everything that somebody proves with.
    let reset = format!("/api/v1/users/{}/reset", user["user"].as_str().unwrap());
    assert_eq!(world.ask(&admin, "POST", &reset, None).await.status, 200);
    let gone = browser.sign_in(&world, &provider, json!({ "sub": "248289761001" })).await;
    assert_eq!(gone.status, 403);
}

#[tokio::test]
async fn what_the_provider_saw_counts_as_a_second_factor_or_not() {
    let provider = Provider::start().await;
    let world = world(&provider, &format!("# strict\n{ACCOUNTS}")).await;
    let anna = |amr: &[&str]| json!({ "sub": "1", "groups": "admins", "amr": amr });

    let mut weak = Browser::default();
    weak.sign_in(&world, &provider, anna(&["pwd"])).await;
    assert_eq!(world.ask(weak.session(), "GET", "/api/v1/cis", None).await.status, 403);
    let mut strong = Browser::default();
    strong.sign_in(&world, &provider, anna(&["hwk", "pin"])).await;
    assert_eq!(world.ask(strong.session(), "GET", "/api/v1/cis", None).await.status, 200);
}

#[tokio::test]
async fn only_verified_addresses_of_the_domains_are_let_in() {
    let provider = Provider::start().await;
    let world = world(&provider, &format!("email_domains = [\"example.org\"]\n{ACCOUNTS}")).await;
    let anna = |email: &str, verified: bool| json!({ "sub": "1", "groups": "admins", "email": email, "email_verified": verified });
    for (person, status) in [
        (anna("anna@example.org", true), 200),
        (anna("anna@example.org", false), 403),
        (anna("anna@evil.example", true), 403),
    ] {
        let answer = Browser::default().sign_in(&world, &provider, person).await;
        assert_eq!(answer.status, status, "{}", answer.text);
    }
}

#[tokio::test]
async fn keys_rotate_and_a_withdrawn_key_signs_nobody_in() {
    let provider = Provider::start().await;
    let world = world(&provider, ACCOUNTS).await;
    let person = || json!({ "sub": "1", "groups": "admins" });
    for (signs, published, status) in
        [(1, &[1][..], 200), (2, &[1, 2], 200), (2, &[2], 200), (1, &[2], 401), (2, &[], 401)]
    {
        provider.rotate(signs, published);
        let answer = Browser::default().sign_in(&world, &provider, person()).await;
        assert_eq!(answer.status, status, "{signs} {published:?}: {}", answer.text);
    }
}

#[tokio::test]
async fn a_spoilt_token_opens_nothing() {
    let now = jiff::Timestamp::now().as_second();
    let spoilt: Vec<(&str, Spoil)> = vec![
        ("a nonce of another sign-in", Box::new(|_, claims| claims["nonce"] = json!("other"))),
        ("no nonce", Box::new(|_, claims| drop(claims.as_object_mut().unwrap().remove("nonce")))),
        ("for another client", Box::new(|_, claims| claims["aud"] = json!("other"))),
        ("for others too", Box::new(|_, claims| claims["aud"] = json!([CLIENT, "other"]))),
        ("issued to another client", Box::new(|_, claims| claims["azp"] = json!("other"))),
        ("by another issuer", Box::new(|_, claims| claims["iss"] = json!("https://evil.example"))),
        (
            "an issuer with a slash",
            Box::new(|_, claims| {
                claims["iss"] = json!(format!("{}/", claims["iss"].as_str().unwrap()));
            }),
        ),
        ("expired", Box::new(move |_, claims| claims["exp"] = json!(now - 1))),
        ("issued long ago", Box::new(move |_, claims| claims["iat"] = json!(now - 3600))),
        ("issued tomorrow", Box::new(move |_, claims| claims["iat"] = json!(now + 86_400))),
        ("with another access token", Box::new(|_, claims| claims["at_hash"] = json!("AAAA"))),
        ("of nobody", Box::new(|_, claims| claims["sub"] = json!(""))),
        ("of too long a name", Box::new(|_, claims| claims["sub"] = json!("x".repeat(256)))),
        ("unsigned", Box::new(|header, _| header["alg"] = json!("none"))),
        ("signed with our own secret", Box::new(|header, _| header["alg"] = json!("HS256"))),
        ("signed as something else", Box::new(|header, _| header["alg"] = json!("RS256"))),
        ("by a key of no name", Box::new(|header, _| header["kid"] = json!("9"))),
        ("with a critical extension", Box::new(|header, _| header["crit"] = json!(["x"]))),
        ("of another type", Box::new(|header, _| header["typ"] = json!("logout+jwt"))),
    ];
    let provider = Provider::start().await;
    let world = world(&provider, ACCOUNTS).await;
    let person = || json!({ "sub": "1", "groups": "admins" });

    for (what, spoil) in spoilt {
        provider.spoil(spoil);
        let mut browser = Browser::default();
        let answer = browser.sign_in(&world, &provider, person()).await;
        assert_eq!(answer.status, 401, "{what}: {}", answer.text);
        assert!(answer.text.contains("is not believed"), "{what}: {}", answer.text);
        assert_eq!(browser.session(), "", "{what}");
    }

    provider.spoil(|_, claims| claims["azp"] = json!(CLIENT));
    assert_eq!(Browser::default().sign_in(&world, &provider, person()).await.status, 200);
    // Signed by a key that is not the provider's, under the name of one that is.
    provider.spoil(|header, _| header["kid"] = json!("1"));
    provider.rotate(7, &[1]);
    assert_eq!(Browser::default().sign_in(&world, &provider, person()).await.status, 401);
}

#[tokio::test]
async fn a_sign_in_belongs_to_one_browser_one_provider_and_counts_once() {
    let (provider, second) = (Provider::start().await, Provider::start().await);
    let world =
        World::with(false, providers(&[("corp", &provider), ("other", &second)], ACCOUNTS)).await;
    let person = || json!({ "sub": "1", "groups": "admins" });

    // Sent again.
    let mut browser = Browser::default();
    let address = browser.begin(&world, "corp").await;
    let query = provider.authorize(&address, person());
    let cookies = browser.clone();
    assert_eq!(browser.finish(&world, "corp", &query).await.status, 200);
    assert_eq!(cookies.clone().finish(&world, "corp", &query).await.status, 422, "a second time");

    // In the browser of somebody who began another, or none: an attacker's code signs nobody in.
    let mut attacker = Browser::default();
    let address = attacker.begin(&world, "corp").await;
    let query = provider.authorize(&address, person());
    let mut victim = Browser::default();
    let own = victim.begin(&world, "corp").await;
    assert_eq!(victim.finish(&world, "corp", &query).await.status, 422);
    assert_eq!(attacker.finish(&world, "corp", &query).await.status, 422, "it was used up");
    let address = attacker.begin(&world, "corp").await;
    let query = provider.authorize(&address, person());
    assert_eq!(Browser::default().finish(&world, "corp", &query).await.status, 422);

    // An attacker's code under the victim's own state: the provider compares the challenge.
    let mut victim = Browser::default();
    let theirs = victim.begin(&world, "corp").await;
    let state = provider.authorize(&theirs, person()).split_once("&state=").unwrap().1.to_owned();
    let injected = provider.authorize(&own, person());
    let code = injected.split('&').next().unwrap();
    let answer = victim.finish(&world, "corp", &format!("{code}&state={state}")).await;
    assert_eq!(answer.status, 401, "{}", answer.text);

    // Begun at one provider, finished at another.
    let mut browser = Browser::default();
    let address = browser.begin(&world, "corp").await;
    let query = provider.authorize(&address, person());
    assert_eq!(browser.finish(&world, "other", &query).await.status, 422);
    // Somebody else answers in a provider's place (RFC 9207).
    let address = browser.begin(&world, "corp").await;
    let query = provider.authorize(&address, person());
    let answer = browser.finish(&world, "corp", &format!("{query}&iss={}", second.issuer)).await;
    assert_eq!(answer.status, 401, "{}", answer.text);
    let address = browser.begin(&world, "corp").await;
    let query = provider.authorize(&address, person());
    let answer = browser.finish(&world, "corp", &format!("{query}&iss={}", provider.issuer)).await;
    assert_eq!(answer.status, 200, "{}", answer.text);

    // Nonsense, a refusal, a strange page, a provider that is none.
    for (query, status) in
        [("", 422), ("state=x&code=y", 422), ("state=cer_01h455vb4pex5vsknk084sn02q&code=y", 422)]
    {
        assert_eq!(
            Browser::default().finish(&world, "corp", query).await.status,
            status,
            "{query}"
        );
    }
    let mut browser = Browser::default();
    let address = browser.begin(&world, "corp").await;
    let state = address.split_once("&state=").unwrap().1.split('&').next().unwrap().to_owned();
    let said = "error=access_denied&error_description=%3Cb%3Eno%3C/b%3E";
    let answer = browser.finish(&world, "corp", &format!("{said}&state={state}")).await;
    assert_eq!(answer.status, 422);
    assert!(answer.text.contains("&lt;b&gt;no"), "{}", answer.text);
    let strange = Request::post("/login/oidc/corp").header("sec-fetch-site", "cross-site");
    assert_eq!(world.send(strange.body(Body::empty()).unwrap()).await.status, 403);
    assert_eq!(Browser::default().send(&world, "POST", "/login/oidc/none", "").await.status, 404);
}

#[tokio::test]
async fn discovery_leads_nowhere_else() {
    const DOCUMENT: &str = "/.well-known/openid-configuration";
    let huge = " ".repeat(2 << 20);
    let odd: Vec<(&str, Misled)> = vec![
        ("another issuer", Box::new(|it| it.tell("issuer", "https://evil.example"))),
        ("keys in the clear", Box::new(|it| it.tell("jwks_uri", "http://evil.example/jwks"))),
        (
            "a token endpoint in the clear",
            Box::new(|it| it.tell("token_endpoint", "http://192.0.2.1/")),
        ),
        (
            "a page in the clear",
            Box::new(|it| it.tell("authorization_endpoint", "http://evil.example")),
        ),
        (
            "a page that is a script",
            Box::new(|it| it.tell("authorization_endpoint", "javascript:alert(1)")),
        ),
        (
            "elsewhere",
            Box::new(|it| {
                it.answer(DOCUMENT, 302, &[("location", "http://169.254.169.254/")], "");
            }),
        ),
        (
            "too much",
            Box::new(move |it| {
                it.answer(DOCUMENT, 200, &[("content-type", "application/json")], &huge);
            }),
        ),
        ("nothing", Box::new(|it| it.answer(DOCUMENT, 500, &[], ""))),
    ];
    for (what, spoil) in odd {
        let provider = Provider::start().await;
        let world = world(&provider, "").await;
        spoil(&provider);
        let answer = Browser::default().send(&world, "POST", "/login/oidc/corp", "").await;
        assert_eq!(answer.status, 503, "{what}: {}", answer.text);
        assert!(answer.text.contains("cannot be asked now"), "{what}: {}", answer.text);
    }
}
