//! This machine as the virtual one sees it: the archives that its apt uses, each file as it was when it was asked for
//! first, and the signals by which a run begins and ends.

use std::collections::{BTreeMap, HashMap};
use std::io::{self, BufRead as _, BufReader, Write as _};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use collect::fetch::{Fetched, Fetcher, Mark};
use domain::apt_conf::AptConf;

/// Largest file passed on: a package list of `main` has 50 MB.
const LARGEST: u64 = 512 << 20;

/// Where all of that is, until the bench ends.
pub(crate) struct Mirror {
    port: u16,
    behind: Arc<Behind>,
}

struct Behind {
    uris: Vec<String>,
    fetcher: Fetcher,
    /// `None` for what is not there.
    known: Mutex<HashMap<String, Option<Arc<Vec<u8>>>>>,
    seen: Mutex<Seen>,
    changed: Condvar,
}

/// What the machine asked for in the present run, and when last.
#[derive(Default)]
struct Seen {
    signals: BTreeMap<String, Instant>,
    /// When the last package was handed over.
    brought: Option<Instant>,
    has_begun: bool,
}

impl Mirror {
    /// Opens it to the archives that a deb822 text names.
    pub(crate) fn open(sources: &str) -> Self {
        let uris = sources.lines().filter_map(|line| line.strip_prefix("URIs: "));
        let root = inspect::open(Path::new("/"), None).unwrap();
        let conf = AptConf::read(root.files(), "/etc/apt").unwrap_or_default();
        let proxy = move |scheme: &str, host: &str| conf.proxy(scheme, host).map(str::to_owned);
        let behind = Arc::new(Behind {
            uris: uris.map(str::to_owned).collect(),
            fetcher: Fetcher::new(Box::new(proxy)),
            known: Mutex::default(),
            seen: Mutex::default(),
            changed: Condvar::new(),
        });
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let answering = Arc::clone(&behind);
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let behind = Arc::clone(&answering);
                thread::spawn(move || behind.converse(&stream));
            }
        });
        Self { port, behind }
    }

    /// The same sources as the machine reaches them, through its gateway.
    pub(crate) fn sources(&self, sources: &str) -> String {
        let mut text = sources.to_owned();
        for (number, uri) in self.behind.uris.iter().enumerate() {
            let door = self.address(&number.to_string());
            text = text.replace(&format!("URIs: {uri}\n"), &format!("URIs: {door}\n"));
        }
        text
    }

    /// How the machine reaches a path here.
    pub(crate) fn address(&self, path: &str) -> String {
        format!("http://10.0.2.2:{}/{path}", self.port)
    }

    /// Nothing was asked for yet.
    pub(crate) fn forget(&self) {
        *self.behind.seen() = Seen::default();
    }

    /// Lets the machine begin, which waits for it.
    pub(crate) fn begin(&self) -> Instant {
        let mut seen = self.behind.seen();
        seen.has_begun = true;
        self.behind.changed.notify_all();
        Instant::now()
    }

    /// When the machine gave a signal; `None` where it did not within the time.
    pub(crate) fn signal(&self, name: &str, patience: Duration) -> Option<Instant> {
        let deadline = Instant::now() + patience;
        let mut seen = self.behind.seen();
        loop {
            if let Some(at) = seen.signals.get(name) {
                return Some(*at);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            let waited = self.behind.changed.wait_timeout(seen, left);
            seen = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// When the machine had its last package.
    pub(crate) fn brought(&self) -> Option<Instant> {
        self.behind.seen().brought
    }
}

impl Behind {
    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn converse(&self, stream: &TcpStream) -> io::Result<()> {
        let mut reader = BufReader::new(stream.try_clone()?);
        loop {
            let mut request = String::new();
            if reader.read_line(&mut request)? == 0 {
                return Ok(());
            }
            let mut line = String::from("-");
            while !line.trim_end().is_empty() {
                line.clear();
                reader.read_line(&mut line)?;
            }
            let path = request.split(' ').nth(1).unwrap_or_default().trim_start_matches('/');
            let body = match path.split_once('/') {
                Some((number, rest)) => self.fetch(number, rest),
                None => Some(Arc::new(self.take_signal(path))),
            };
            let (status, body) = match &body {
                Some(body) => ("200 OK", body.as_slice()),
                None => ("404 Not Found", [].as_slice()),
            };
            let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\n\r\n", body.len());
            let mut writer = stream;
            writer.write_all(head.as_bytes())?;
            writer.write_all(body)?;
            if Path::new(&path).extension().is_some_and(|end| end == "deb") {
                self.seen().brought = Some(Instant::now());
            }
        }
    }

    /// Signals are answered at once, but the one to begin, for which the machine waits.
    fn take_signal(&self, name: &str) -> Vec<u8> {
        let mut seen = self.seen();
        seen.signals.insert(name.to_owned(), Instant::now());
        self.changed.notify_all();
        while name == "begin" && !seen.has_begun {
            seen = self.changed.wait(seen).unwrap_or_else(PoisonError::into_inner);
        }
        b"so be it\n".to_vec()
    }

    fn fetch(&self, number: &str, rest: &str) -> Option<Arc<Vec<u8>>> {
        let base = self.uris.get(number.parse::<usize>().ok()?)?;
        let uri = format!("{}/{rest}", base.trim_end_matches('/'));
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).get(&uri).cloned();
        if let Some(known) = known {
            return known;
        }
        let found = match self.fetcher.small(&uri, LARGEST, &Mark::default()) {
            Ok(Fetched::Content { bytes, .. }) => Some(Arc::new(bytes)),
            Ok(Fetched::Unchanged | Fetched::Absent) => None,
            Err(error) => panic!("{error}"),
        };
        let mut all = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(uri).or_insert(found).clone()
    }
}
