//! HTTP over TLS by nothing but sockets: as much of it as agents speak.

#![allow(dead_code, reason = "each of those who use it use their part")]

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;

use rustls::{ServerConfig, ServerConnection, StreamOwned};

/// Longest head of a request, and longest body, in bytes.
const LARGEST: usize = 64 << 20;

/// What an agent asks.
pub(crate) struct Request {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) body: Vec<u8>,
    /// The certificate that it showed, DER.
    pub(crate) certificate: Option<Vec<u8>>,
}

/// Answers requests by status and JSON until the test ends; says where.
pub(crate) fn serve(
    tls: ServerConfig,
    answer: impl Fn(Request) -> (u16, Vec<u8>) + Send + Sync + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    let (tls, answer) = (Arc::new(tls), Arc::new(answer));
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (tls, answer) = (Arc::clone(&tls), Arc::clone(&answer));
            // Whoever is killed in the middle breaks the connection, and that is all.
            thread::spawn(move || converse(stream, tls, &*answer));
        }
    });
    address
}

fn converse(
    stream: TcpStream,
    tls: Arc<ServerConfig>,
    answer: &dyn Fn(Request) -> (u16, Vec<u8>),
) -> io::Result<()> {
    let connection = ServerConnection::new(tls).map_err(io::Error::other)?;
    let mut stream = StreamOwned::new(connection, stream);
    loop {
        let (status, body) = answer(read(&mut stream)?);
        let head = format!(
            "HTTP/1.1 {status} -\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.into_bytes(), body].concat())?;
        stream.flush()?;
    }
}

fn read(stream: &mut StreamOwned<ServerConnection, TcpStream>) -> io::Result<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
        assert!(head.len() < LARGEST);
    }
    let head = String::from_utf8(head).map_err(io::Error::other)?;
    let mut words = head.split(' ').map(str::to_owned);
    let mut word = || words.next().unwrap_or_default();
    let (method, path) = (word(), word());
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = fields.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    let length = lengths.next().and_then(|(_, value)| value.trim().parse::<usize>().ok());
    let mut body = vec![0; length.unwrap_or(0).min(LARGEST)];
    stream.read_exact(&mut body)?;
    let certificate = stream.conn.peer_certificates().and_then(|all| all.first());
    let certificate = certificate.map(|it| it.to_vec());
    Ok(Request { method, path, body, certificate })
}
