//! A server that fails, lies or stalls: what passes is tried again, what does not is an error, and nothing wrong is read.

use std::io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use history::Objects as _;
use jiff::Timestamp;
use s3::{Patience, S3, S3Error};
use tempfile::TempDir;

/// What a server says to one request: bytes, and how long it then holds the connection.
type Said = (Vec<u8>, Duration);

/// A server that answers as it is told, one request for each connection.
struct Broken {
    store: S3,
    _folder: TempDir,
    /// First lines of what it was asked, and headers.
    asked: Arc<Mutex<Vec<String>>>,
}

impl Broken {
    fn start(answer: impl Fn(usize, &str) -> Said + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let heard = Arc::clone(&asked);
        let answer = Arc::new(answer);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (heard, answer) = (Arc::clone(&heard), Arc::clone(&answer));
                thread::spawn(move || serve(stream, &heard, &*answer));
            }
        });
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("credentials");
        std::fs::write(&file, "AWS_ACCESS_KEY_ID=known\nAWS_SECRET_ACCESS_KEY=hidden\n").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let address = format!(
            "s3://a-bucket/p?endpoint=http://127.0.0.1:{port}&credentials={}",
            file.display()
        );
        let patience = Patience {
            tries: 4,
            first_wait: Duration::from_millis(1),
            longest_wait: Duration::from_millis(2),
            stall: Duration::from_millis(300),
            whole: Duration::from_millis(1500),
        };
        let store = S3::open(&address.parse().unwrap(), Timestamp::now, patience).unwrap();
        Self { store, _folder: folder, asked }
    }

    fn count(&self) -> usize {
        self.asked.lock().unwrap().len()
    }
}

fn serve(stream: TcpStream, heard: &Mutex<Vec<String>>, answer: &dyn Fn(usize, &str) -> Said) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let (mut asked, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line).unwrap_or(0) == 0 {
            return;
        }
        if let Some(told) = line.to_lowercase().strip_prefix("content-length:") {
            length = told.trim().parse().unwrap();
        }
        if line.trim().is_empty() {
            break;
        }
        asked += &line;
    }
    std::io::copy(&mut reader.by_ref().take(length), &mut std::io::sink()).unwrap();
    let number = {
        let mut heard = heard.lock().unwrap();
        heard.push(asked.clone());
        heard.len()
    };
    let (bytes, hold) = answer(number, &asked);
    let mut stream = stream;
    // Who asked may be gone already.
    let _ = stream.write_all(&bytes);
    thread::sleep(hold);
}

fn said(status: &str, headers: &str, body: &[u8]) -> Said {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\n{headers}\r\n");
    ([head.as_bytes(), body].concat(), Duration::ZERO)
}

/// With its length.
fn whole(status: &str, headers: &str, body: &[u8]) -> Said {
    said(status, &format!("content-length: {}\r\n{headers}", body.len()), body)
}

fn ranged(first: u64, last: u64, body: &[u8]) -> Said {
    whole("206 Partial Content", &format!("content-range: bytes {first}-{last}/10\r\n"), body)
}

#[test]
fn what_passes_is_tried_again() {
    for status in ["500 No", "503 Slow Down", "429 Too Many", "502 No", "408 Late", "409 Conflict"]
    {
        let broken = Broken::start(move |number, _| match number {
            1 => whole(status, "", b"<Error><Code>InternalError</Code></Error>"),
            2 => (Vec::new(), Duration::ZERO),
            3 => (b"HTTP/1.1 20".to_vec(), Duration::ZERO),
            _ => whole("200 OK", "", b""),
        });
        broken.store.put("name", b"bytes").unwrap();
        assert_eq!(broken.count(), 4, "{status}");
        let asked = broken.asked.lock().unwrap();
        for head in asked.iter() {
            assert!(head.starts_with("PUT /a-bucket/p/name?"), "{head}");
            let lower = head.to_lowercase();
            assert!(lower.contains("if-none-match: *"), "{head}");
            assert!(lower.contains("x-amz-checksum-sha256: "), "{head}");
            assert!(head.contains("x-amz-checksum-sha256&") || head.contains("%3Bx-amz-checksum"));
            assert!(!head.contains("hidden"), "{head}");
        }
    }
}

#[test]
fn it_is_not_tried_for_ever() {
    let broken = Broken::start(|_, _| whole("503 Slow Down", "", b""));
    let error = broken.store.put("name", b"bytes").unwrap_err();
    assert!(error.to_string().contains("503"), "{error}");
    assert_eq!(broken.count(), 4);
    for ask in [
        |store: &S3| store.list().map(|_| ()),
        |store: &S3| store.size("name").map(|_| ()),
        |store: &S3| store.read("name", 0, 1).map(|_| ()),
        |store: &S3| store.delete("name"),
    ] {
        let before = broken.count();
        ask(&broken.store).unwrap_err();
        assert_eq!(broken.count() - before, 4);
    }
}

#[test]
fn what_lasts_is_told_at_once() {
    for (status, kind) in [
        ("403 Forbidden", ErrorKind::PermissionDenied),
        ("400 Bad Request", ErrorKind::Other),
        ("501 Not Implemented", ErrorKind::Unsupported),
        ("404 Not Found", ErrorKind::NotFound),
    ] {
        let broken = Broken::start(move |_, _| whole(status, "", b"\x1b[2Jhidden"));
        let error = broken.store.put("name", b"bytes").unwrap_err();
        assert_eq!((error.kind(), broken.count()), (kind, 1), "{error}");
        assert!(!error.to_string().contains("hidden"), "{error}");
    }
}

#[test]
fn nobody_is_followed_elsewhere() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = elsewhere.local_addr().unwrap().port();
    for status in ["301 Moved", "302 Found", "307 Temporary", "308 Permanent"] {
        let location = format!("location: http://127.0.0.1:{port}/a-bucket/p/name\r\n");
        let broken = Broken::start(move |_, _| whole(status, &location, b""));
        for error in [
            broken.store.put("name", b"bytes").unwrap_err(),
            broken.store.read("name", 0, 1).unwrap_err(),
            broken.store.list().unwrap_err(),
            broken.store.size("name").unwrap_err(),
            broken.store.delete("name").unwrap_err(),
        ] {
            assert!(error.to_string().contains("not followed"), "{status}: {error}");
        }
        assert_eq!(broken.count(), 5);
    }
    elsewhere.set_nonblocking(true).unwrap();
    assert!(elsewhere.accept().is_err(), "somebody was asked");
}

#[test]
fn a_put_whose_answer_was_lost_was_done() {
    // The first try is kept and its answer lost; the second finds an object, which is what was put.
    let answer = |stored: &'static [u8]| {
        move |number: usize, head: &str| match (number, head.split(' ').next()) {
            (1, _) => (Vec::new(), Duration::ZERO),
            (_, Some("PUT")) => whole("412 Precondition Failed", "", b""),
            (_, Some("HEAD")) => {
                said("200 OK", &format!("content-length: {}\r\n", stored.len()), b"")
            }
            _ => ranged(0, stored.len() as u64 - 1, stored),
        }
    };
    Broken::start(answer(b"bytes")).store.put("name", b"bytes").unwrap();
    for other in [&b"other"[..], b"longer"] {
        let error = Broken::start(answer(other)).store.put("name", b"bytes").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AlreadyExists);
    }
}

#[test]
fn a_store_that_keeps_other_bytes_is_told() {
    let broken = Broken::start(|_, _| whole("200 OK", "x-amz-checksum-sha256: AAAA\r\n", b""));
    let error = broken.store.put("name", b"bytes").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidData);
}

#[test]
fn a_store_that_replaces_is_refused() {
    let broken = Broken::start(|_, _| whole("200 OK", "", b""));
    assert!(matches!(broken.store.check(), Err(S3Error::Replaces { .. })));
    assert!(matches!(broken.store.claim("a ledger"), Err(S3Error::Replaces { .. })));
}

#[test]
fn a_range_is_what_was_asked_for() {
    let read = |answer: fn(usize, &str) -> Said| {
        let broken = Broken::start(answer);
        (broken.store.read("name", 2, 4), broken.count())
    };
    // The whole object, from one that knows no ranges; also where it does not say how long it is.
    let (bytes, _) = read(|_, _| whole("200 OK", "", b"0123456789"));
    assert_eq!(bytes.unwrap(), b"2345");
    let (bytes, _) = read(|_, _| said("200 OK", "", b"0123456789"));
    assert_eq!(bytes.unwrap(), b"2345");
    // Cut, then whole.
    let (bytes, count) = read(|number, _| match number {
        1 => said("206 Partial", "content-length: 4\r\ncontent-range: bytes 2-5/10\r\n", b"23"),
        2 => said(
            "206 Partial",
            "transfer-encoding: chunked\r\ncontent-range: bytes 2-5/10\r\n",
            b"2\r\n23\r\n",
        ),
        3 => said("200 OK", "content-length: 10\r\n", b"01"),
        _ => ranged(2, 5, b"2345"),
    });
    assert_eq!((bytes.unwrap(), count), (b"2345".to_vec(), 4));
    // Shorter than asked for.
    for answer in [
        (|_, _| ranged(2, 4, b"234")) as fn(usize, &str) -> Said,
        |_, _| whole("200 OK", "", b"01234"),
        |_, _| whole("416 Range", "content-range: bytes */3\r\n", b""),
    ] {
        let (bytes, count) = read(answer);
        assert_eq!((bytes.unwrap_err().kind(), count), (ErrorKind::UnexpectedEof, 1));
    }
    // Another one, or more of it.
    for answer in [
        (|_, _| ranged(1, 4, b"1234")) as fn(usize, &str) -> Said,
        |_, _| ranged(2, 9, b"23456789"),
        |_, _| ranged(5, 2, b"2345"),
        |_, _| whole("206 Partial", "", b"2345"),
        |_, _| ranged(2, u64::MAX, b"2345"),
    ] {
        let (bytes, count) = read(answer);
        assert_eq!((bytes.unwrap_err().kind(), count), (ErrorKind::InvalidData, 1));
    }
}

#[test]
fn who_stalls_is_not_waited_for_for_ever() {
    let begun = Instant::now();
    let broken = Broken::start(|_, _| (Vec::new(), Duration::from_secs(20)));
    let error = broken.store.read("name", 0, 4).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut, "{error}");
    let broken = Broken::start(|_, _| {
        let (bytes, _) =
            said("206 Partial", "content-length: 4\r\ncontent-range: bytes 0-3/10\r\n", b"01");
        (bytes, Duration::from_secs(20))
    });
    broken.store.read("name", 0, 4).unwrap_err();
    assert!(begun.elapsed() < Duration::from_secs(15), "{:?}", begun.elapsed());
}

#[test]
fn lists_are_bounded_and_our_own() {
    let list = |inner: &str| {
        format!("<?xml version=\"1.0\"?><ListBucketResult>{inner}</ListBucketResult>").into_bytes()
    };
    for inner in [
        // It goes on, but nowhere; or for ever.
        "<IsTruncated>true</IsTruncated>",
        "<IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken>",
        "<Contents><Key>others/name</Key></Contents>",
        "<Contents><Key>q/name</Key></Contents>",
    ] {
        let body = list(inner);
        let broken = Broken::start(move |_, _| whole("200 OK", "", &body));
        let error = broken.store.list().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidData, "{inner}");
        assert!(broken.count() < 3);
    }
    let long = vec![b'<'; 9 << 20];
    let broken = Broken::start(move |_, _| whole("200 OK", "", &long));
    assert_eq!(broken.store.list().unwrap_err().kind(), ErrorKind::InvalidData);
    // Neither our notes nor what is no object's name are told.
    let body = list(
        "<Contents><Key>p/.owner-1</Key></Contents><Contents><Key>p/a</Key></Contents>\
         <Contents><Key>p/b%20c</Key></Contents>",
    );
    let broken = Broken::start(move |_, _| whole("200 OK", "", &body));
    assert_eq!(broken.store.list().unwrap(), ["a"]);
}
