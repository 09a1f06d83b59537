//! Asks a service again and again whether it answers, and keeps when it did not.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(50);
/// How long an answer may take until it is none.
const PATIENCE: Duration = Duration::from_secs(5);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Service {
    /// For its first page.
    Nginx,
    /// For a session: it has to say how to prove who asks.
    PostgreSql,
}

/// A question, and what came of it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asked {
    began: Instant,
    ended: Instant,
    is_answered: bool,
}

/// Questions that are asked until somebody wants to know.
pub(crate) struct Prober {
    is_over: Arc<AtomicBool>,
    asking: JoinHandle<Vec<Asked>>,
}

impl Service {
    /// Where it listens in the machine.
    pub(crate) const fn port(self) -> u16 {
        match self {
            Self::Nginx => 80,
            Self::PostgreSql => 5432,
        }
    }

    /// Asks once.
    pub(crate) fn answers(self, port: u16) -> bool {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        self.converse(address).is_ok_and(|is_answer| is_answer)
    }

    fn converse(self, address: SocketAddr) -> io::Result<bool> {
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        match self {
            Self::Nginx => {
                stream.write_all(b"GET / HTTP/1.0\r\nHost: web-1\r\n\r\n")?;
                let mut head = [0; 12];
                stream.read_exact(&mut head)?;
                Ok(&head == b"HTTP/1.1 200")
            }
            Self::PostgreSql => {
                // Its length, version 3.0 of the protocol, and who asks for what.
                let asks = b"user\0postgres\0database\0postgres\0\0";
                let length = u32::try_from(asks.len() + 8).map_err(io::Error::other)?;
                let mut message = length.to_be_bytes().to_vec();
                message.extend(0x0003_0000_u32.to_be_bytes());
                message.extend(asks);
                stream.write_all(&message)?;
                let mut kind = [0];
                stream.read_exact(&mut kind)?;
                // `E` while it comes up or goes down.
                Ok(kind == *b"R")
            }
        }
    }
}

impl Prober {
    /// Asks through a port of this host, from now on.
    pub(crate) fn begin(service: Service, port: u16) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&is_over);
        let asking = thread::spawn(move || {
            let mut asked = Vec::new();
            while !told.load(Ordering::Relaxed) {
                let began = Instant::now();
                let is_answered = service.answers(port);
                let ended = Instant::now();
                asked.push(Asked { began, ended, is_answered });
                thread::sleep(PAUSE.saturating_sub(ended - began));
            }
            asked
        });
        Self { is_over, asking }
    }

    /// Ends it.
    pub(crate) fn end(self) -> Vec<Asked> {
        self.is_over.store(true, Ordering::Relaxed);
        self.asking.join().unwrap()
    }
}

/// How long nothing was answered: each time from the question that had no answer first until an answer came.
pub(crate) fn without_answer(asked: &[Asked]) -> Duration {
    let mut sum = Duration::ZERO;
    let mut since = None;
    for question in asked {
        match (question.is_answered, since) {
            (false, None) => since = Some(question.began),
            (true, Some(began)) => {
                sum += question.ended - began;
                since = None;
            }
            _ => {}
        }
    }
    assert!(since.is_none(), "it does not answer any more");
    sum
}

/// How long the longest answer took.
pub(crate) fn slowest(asked: &[Asked]) -> Duration {
    let answered = asked.iter().filter(|it| it.is_answered);
    answered.map(|it| it.ended - it.began).max().unwrap_or_default()
}
