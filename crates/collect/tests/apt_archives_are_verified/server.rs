//! A small HTTP server for one directory, honest unless told otherwise.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{self, JoinHandle};

use super::archive::sha256;

/// How a file is served.
#[derive(Debug, Clone)]
pub(crate) enum Conduct {
    /// There is none.
    Absent,
    /// Bytes that never end.
    Endless,
    /// The connection breaks after so many bytes of the body.
    Broken(usize),
    /// These bytes instead of the file's.
    Instead(Vec<u8>),
    /// Always this status, without content.
    Status(u16),
}

/// How far a request is answered before the server falls silent.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Silence {
    BeforeHeaders,
    InTheBody,
    AfterTheBody,
}

struct Pause {
    /// Which request, counted from 0.
    request: usize,
    silence: Silence,
    reached: Sender<()>,
    /// Ends the silence when its other end is dropped.
    released: Receiver<()>,
}

struct Shared {
    root: PathBuf,
    stopped: AtomicBool,
    conduct: Mutex<BTreeMap<String, Conduct>>,
    requests: Mutex<Vec<String>>,
    pause: Mutex<Option<Pause>>,
}

/// Serves until it is dropped.
pub(crate) struct Server {
    address: SocketAddr,
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    pub(crate) fn start(root: &Path) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let shared = Arc::new(Shared {
            root: root.to_owned(),
            stopped: AtomicBool::new(false),
            conduct: Mutex::default(),
            requests: Mutex::default(),
            pause: Mutex::default(),
        });
        let serving = Arc::clone(&shared);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                if serving.stopped.load(Ordering::SeqCst) {
                    break;
                }
                let serving = Arc::clone(&serving);
                // A client that goes away is no concern of the server's.
                thread::spawn(move || stream.and_then(|stream| serving.answer(stream)));
            }
        });
        Self { address, shared, thread: Some(thread) }
    }

    pub(crate) fn uri(&self) -> String {
        format!("http://{}", self.address)
    }

    /// From now on files whose path ends so are served so.
    pub(crate) fn set(&self, path_end: &str, conduct: Conduct) {
        self.shared.conduct.lock().unwrap().insert(path_end.to_owned(), conduct);
    }

    /// Honest again.
    pub(crate) fn reform(&self) {
        self.shared.conduct.lock().unwrap().clear();
    }

    /// `METHOD /path [range]` of each request since the last call.
    pub(crate) fn take_requests(&self) -> Vec<String> {
        std::mem::take(&mut self.shared.requests.lock().unwrap())
    }

    /// Falls silent at a request, counted from now; the first end tells when, dropping the
    /// second ends it.
    pub(crate) fn pause_at(&self, request: usize, silence: Silence) -> (Receiver<()>, Sender<()>) {
        let (reached, is_reached) = mpsc::channel();
        let (release, released) = mpsc::channel();
        self.take_requests();
        *self.shared.pause.lock().unwrap() = Some(Pause { request, silence, reached, released });
        (is_reached, release)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
        let _ = self.thread.take().unwrap().join();
    }
}

impl Shared {
    fn answer(&self, stream: TcpStream) -> std::io::Result<()> {
        let mut head = BufReader::new(stream.try_clone()?);
        let mut request = String::new();
        head.read_line(&mut request)?;
        let mut headers = BTreeMap::new();
        loop {
            let mut line = String::new();
            head.read_line(&mut line)?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
        }
        let path = request.split(' ').nth(1).unwrap_or("/").to_owned();
        let range = headers.get("range").map(|range| format!(" {range}")).unwrap_or_default();
        let number = {
            let mut requests = self.requests.lock().unwrap();
            requests.push(format!("{path}{range}"));
            requests.len() - 1
        };
        let pause = {
            let mut pause = self.pause.lock().unwrap();
            if pause.as_ref().is_some_and(|pause| pause.request == number) {
                pause.take()
            } else {
                None
            }
        };
        self.send(stream, &path, &headers, pause.as_ref())
    }

    fn send(
        &self,
        mut to: TcpStream,
        path: &str,
        headers: &BTreeMap<String, String>,
        pause: Option<&Pause>,
    ) -> std::io::Result<()> {
        let conduct = self.conduct.lock().unwrap();
        let conduct =
            conduct.iter().find(|(end, _)| path.ends_with(end.as_str())).map(|(_, it)| it.clone());
        let file = self.root.join(path.trim_start_matches('/'));
        let (body, breaks) = match conduct {
            Some(Conduct::Status(status)) => {
                return write!(
                    to,
                    "HTTP/1.1 {status} As Told\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                );
            }
            Some(Conduct::Endless) => {
                write!(to, "HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n")?;
                let block = vec![b'x'; 1 << 16];
                loop {
                    to.write_all(&block)?;
                }
            }
            Some(Conduct::Absent) => (None, None),
            Some(Conduct::Instead(bytes)) => (Some(bytes), None),
            Some(Conduct::Broken(after)) => (fs::read(file).ok(), Some(after)),
            None => (fs::read(file).ok(), None),
        };
        let Some(body) = body else {
            return write!(
                to,
                "HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
            );
        };
        let etag = format!("\"{}\"", sha256(&body));
        if headers.get("if-none-match") == Some(&etag) {
            return write!(to, "HTTP/1.1 304 Not Modified\r\nConnection: close\r\n\r\n");
        }
        let from = headers
            .get("range")
            .and_then(|range| range.strip_prefix("bytes=")?.strip_suffix('-')?.parse().ok())
            .filter(|from| *from < body.len());
        let total = body.len();
        let body = &body[from.unwrap_or(0)..];
        let fall_silent = |place: fn(Silence) -> bool| {
            if let Some(pause) = pause.filter(|pause| place(pause.silence)) {
                let _ = pause.reached.send(());
                let _ = pause.released.recv();
            }
        };
        fall_silent(|it| matches!(it, Silence::BeforeHeaders));
        match from {
            Some(from) => write!(
                to,
                "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes {from}-{}/{total}\r\n",
                total - 1
            )?,
            None => write!(to, "HTTP/1.1 200 OK\r\n")?,
        }
        write!(to, "ETag: {etag}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len())?;
        if let Some(after) = breaks {
            return to.write_all(&body[..after.min(body.len())]);
        }
        let (first, second) = body.split_at(body.len() / 2);
        to.write_all(first)?;
        fall_silent(|it| matches!(it, Silence::InTheBody));
        to.write_all(second)?;
        fall_silent(|it| matches!(it, Silence::AfterTheBody));
        Ok(())
    }
}
