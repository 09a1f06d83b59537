//! Documents: in one form, only where they altered, without their secrets, and from nowhere else.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use devices::Secret;
use domain::source::{Form, Pointer};
use reach::Reach;
use sources::http::{Seen, Wanted, look};
use sources::{Roots, SourceError, authority};

use crate::support::{Authority, Server, answer, here, key};

fn seen(url: &str, form: Form, tag: Option<&str>) -> Result<Seen, SourceError> {
    let volatile: Vec<Pointer> = vec!["/uptime".parse().unwrap()];
    let headers =
        BTreeMap::from([("X-Token".to_owned(), Secret::from("tok3n-of-the-observer".to_owned()))]);
    let roots = &Roots::public();
    let (volatile, headers) = (&volatile, &headers);
    let wanted = Wanted { url, form, volatile, headers, tag, roots, path: "/state.json" };
    look(&wanted, &here(), &key())
}

#[test]
fn a_document_is_read_once_and_then_only_where_it_altered() {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let heard = Arc::clone(&asked);
    let server = Server::start(move |request| {
        heard.lock().unwrap().push(request.headers.clone());
        if request.headers.get("if-none-match").is_some_and(|it| it == "\"v1\"") {
            return answer("304 Not Modified", &[("etag", "\"v1\"")], b"");
        }
        let body = br#"{"uptime":17,"password":"Tr0ub4dor-and-3","listen":[443,80]}"#;
        answer("200 OK", &[("etag", "\"v1\""), ("content-type", "application/json")], body)
    });

    let Ok(Seen::Document { document, tag }) = seen(&server.url("/state"), Form::Json, None) else {
        panic!("it is there")
    };

    assert_eq!(tag.as_deref(), Some("\"v1\""));
    let text = document.text();
    assert!(text.starts_with("{\n  \"listen\": [\n    443,\n    80\n  ],\n"), "{text}");
    assert!(text.contains("\"uptime\": \"<volatile>\"") && text.contains("<redacted:password:"));
    assert!(!text.contains("Tr0ub4dor"), "{text}");
    let again = seen(&server.url("/state"), Form::Json, tag.as_deref()).unwrap();
    assert_eq!(again, Seen::Unchanged);
    let asked = asked.lock().unwrap();
    assert_eq!(asked.len(), 2);
    assert!(asked.iter().all(|it| it["x-token"] == "tok3n-of-the-observer"));
}

#[test]
fn text_stays_as_it_came() {
    let server = Server::start(|_| answer("200 OK", &[], b"b 2\na 1\n"));
    let Ok(Seen::Document { document, tag }) = seen(&server.url("/"), Form::Text, None) else {
        panic!("it is there")
    };
    assert_eq!((document.text(), tag), ("b 2\na 1\n", None));
}

#[test]
fn what_is_none_is_told_as_that() {
    let large = format!("[\"{}\"]", "x".repeat(17 << 20));
    let server = Server::start(move |request| match request.path.as_str() {
        "/html" => answer("200 OK", &[], b"<html>sign in, please</html>"),
        "/large" => answer("200 OK", &[], large.as_bytes()),
        "/gone" => answer("404 Not Found", &[], b"{}"),
        "/closed" => answer("401 Unauthorized", &[], b"{}"),
        "/elsewhere" => {
            let to = "http://169.254.169.254/latest/meta-data?secret=x";
            answer("302 Found", &[("location", to)], b"")
        }
        "/304" => answer("304 Not Modified", &[], b""),
        _ => b"nonsense\r\n\r\n".to_vec(),
    });
    for (path, expected) in [
        ("/html", "what came is no JSON document"),
        ("/large", "the document has more than 16777216 bytes"),
        ("/gone", "`127.0.0.1` answered HTTP 404"),
        ("/closed", "`127.0.0.1` answered HTTP 401: what opens it is not taken, or is missing"),
        ("/elsewhere", "HTTP 302: it is at 169.254.169.254 now; redirects are not followed"),
        ("/304", "`127.0.0.1` answered HTTP 304"),
        ("/nonsense", "no way through to `127.0.0.1`"),
    ] {
        let error = seen(&server.url(path), Form::Json, None).unwrap_err().to_string();
        assert!(error.contains(expected), "{path}: {error}");
        assert!(!error.contains("secret") && !error.contains(path), "{error}");
    }
}

#[test]
fn nobody_has_our_host_ask_its_neighbours() {
    let server = Server::start(|_| answer("200 OK", &[], b"{}"));
    let headers = BTreeMap::new();
    let public = |url: &str| {
        let wanted = Wanted {
            url,
            form: Form::Json,
            volatile: &[],
            headers: &headers,
            tag: None,
            roots: &Roots::public(),
            path: "/state.json",
        };
        look(&wanted, &Reach::public(), &key())
    };
    for url in [
        server.url("/"),
        format!("https://127.0.0.1:{}/", server.0.port()),
        "https://169.254.169.254/latest/meta-data".to_owned(),
        "https://localhost/".to_owned(),
        "file:///etc/passwd".to_owned(),
    ] {
        assert!(matches!(public(&url), Err(SourceError::Closed(_))), "{url}");
    }
}

#[test]
fn a_server_is_believed_by_the_authority_that_counts_for_it() {
    let (ours, other) = (Authority::new("Acme root", 30), Authority::new("Acme root", 30));
    let asked = Arc::new(Mutex::new(0));
    let heard = Arc::clone(&asked);
    let server = Server::start_tls(&ours, move |_| {
        *heard.lock().unwrap() += 1;
        answer("200 OK", &[], b"{}")
    });
    let headers =
        BTreeMap::from([("X-Token".to_owned(), Secret::from("tok3n-of-the-observer".to_owned()))]);
    let seen = |address: &str, roots: &Roots| {
        let (form, path) = (Form::Json, "/state.json");
        let wanted =
            Wanted { url: address, form, volatile: &[], headers: &headers, tag: None, roots, path };
        look(&wanted, &here(), &key())
    };
    let now = jiff::Timestamp::now();
    let roots = |pem: &str| Roots::of(&authority::read(pem, now).unwrap(), now).unwrap();
    let url = server.https("/");

    assert!(matches!(seen(&url, &roots(&ours.pem)), Ok(Seen::Document { .. })));
    for strange in [roots(&other.pem), Roots::public()] {
        let refused = seen(&url, &strange);
        assert!(matches!(&refused, Err(SourceError::UnknownAuthority { .. })), "{refused:?}");
    }
    // By its own name alone.
    let named = format!("https://localhost:{}/", server.0.port());
    let refused = seen(&named, &roots(&ours.pem)).unwrap_err().to_string();
    assert!(refused.contains("not valid for name"), "{refused}");
    assert_eq!(*asked.lock().unwrap(), 1, "whoever is not believed is asked nothing");
}
