//! TLS for people and programs: a certificate from a file, and connections that may not be held
//! for nothing.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::serve::Listener;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, Sleep};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

/// Most connections at once; further ones wait in the system's queue.
const CONNECTIONS: usize = 8192;

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// How long nothing may pass on a connection.
const SILENCE: Duration = Duration::from_secs(120);

/// Wait after a connection that could not be accepted: a file descriptor may be free again.
const PAUSE: Duration = Duration::from_millis(50);

/// A certificate with its key, for listening beyond this machine.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why a certificate and a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// A file cannot be read.
    #[error("cannot read `{}`", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file holds nothing of the kind.
    #[error("`{}` holds no {what} in PEM", path.display())]
    Missing {
        /// What is looked for.
        what: &'static str,
        /// Where.
        path: PathBuf,
    },
    /// They do not belong together, or are of a kind that is not known.
    #[error("the certificate and the key cannot be used together")]
    Mismatch(#[source] rustls::Error),
}

impl TlsError {
    /// The way out.
    pub const fn help(&self) -> &'static str {
        match self {
            Self::File { .. } => "name files that this user may read",
            Self::Missing { .. } => {
                "the certificate's file holds it and those above it, the key's an unencrypted key"
            }
            Self::Mismatch(_) => "give the key that the first certificate of the file was made for",
        }
    }
}

impl Tls {
    /// Reads a certificate, with those above it, and its key.
    ///
    /// # Errors
    /// If a file cannot be read, holds something else, or they do not belong together.
    pub fn read(certificate: &Path, key: &Path) -> Result<Self, TlsError> {
        let missing = |what, path: &Path| TlsError::Missing { what, path: path.to_owned() };
        let chain: Vec<_> = CertificateDer::pem_slice_iter(&read(certificate)?)
            .collect::<Result<_, _>>()
            .map_err(|_| missing("certificate", certificate))?;
        if chain.is_empty() {
            return Err(missing("certificate", certificate));
        }
        let own =
            PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| missing("private key", key))?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(TlsError::Mismatch)?
            .with_no_client_auth()
            .with_single_cert(chain, own)
            .map_err(TlsError::Mismatch)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }
}

/// Without the key.
impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(…)")
    }
}

fn read(path: &Path) -> Result<Vec<u8>, TlsError> {
    fs::read(path).map_err(|source| TlsError::File { path: path.to_owned(), source })
}

/// Connections over TLS. Each shakes hands on its own, so that nobody waits for a slow one.
pub(crate) struct TlsListener {
    address: SocketAddr,
    connections: mpsc::Receiver<(Connection, SocketAddr)>,
}

/// A connection that ends when it is silent for too long, and that counts while it is open.
pub(crate) struct Connection {
    stream: Patient<TlsStream<TcpStream>>,
    _place: OwnedSemaphorePermit,
}

impl TlsListener {
    pub(crate) fn start(listener: TcpListener, Tls(config): Tls) -> io::Result<Self> {
        let address = listener.local_addr()?;
        let (sender, connections) = mpsc::channel(64);
        tokio::spawn(accept(listener, TlsAcceptor::from(config), sender));
        Ok(Self { address, connections })
    }
}

/// Accepts until nobody takes connections any more.
async fn accept(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    sender: mpsc::Sender<(Connection, SocketAddr)>,
) {
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        let accepted = tokio::select! {
            () = sender.closed() => return,
            accepted = listener.accept() => accepted,
        };
        match accepted {
            Ok((stream, peer)) => {
                let (acceptor, sender) = (acceptor.clone(), sender.clone());
                tokio::spawn(async move {
                    match shake_hands(stream, &acceptor).await {
                        Ok(stream) => {
                            // Whoever took connections may have ended meanwhile.
                            let _ = sender.send((Connection { stream, _place: place }, peer)).await;
                        }
                        Err(error) => tracing::debug!(%error, "a handshake failed"),
                    }
                });
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be accepted");
                tokio::time::sleep(PAUSE).await;
            }
        }
    }
}

async fn shake_hands(
    stream: TcpStream,
    acceptor: &TlsAcceptor,
) -> io::Result<Patient<TlsStream<TcpStream>>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    Ok(Patient::new(stream))
}

impl Listener for TlsListener {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        match self.connections.recv().await {
            Some(connection) => connection,
            None => std::future::pending().await,
        }
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.address)
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl AsyncWrite for Connection {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// A stream that fails when nothing has passed on it for too long: strangers may open
/// connections, but not hold them for nothing.
pub(crate) struct Patient<S> {
    stream: S,
    silence: Pin<Box<Sleep>>,
}

impl<S> Patient<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, silence: Box::pin(tokio::time::sleep(SILENCE)) }
    }

    fn heard(&mut self) {
        self.silence.as_mut().reset(Instant::now() + SILENCE);
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Patient<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let polled = Pin::new(&mut self.stream).poll_read(context, buffer);
        if polled.is_ready() {
            self.heard();
            return polled;
        }
        match self.silence.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Err(io::ErrorKind::TimedOut.into())),
            Poll::Pending => Poll::Pending,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Patient<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.stream).poll_write(context, bytes);
        if polled.is_ready() {
            // Whoever follows the events need not say anything.
            self.heard();
        }
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    fn own_certificate(directory: &Path, name: &str) -> (PathBuf, PathBuf) {
        let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).unwrap();
        let file = |ending: &str| directory.join(format!("{name}.{ending}"));
        fs::write(file("crt"), made.cert.pem()).unwrap();
        fs::write(file("key"), made.signing_key.serialize_pem()).unwrap();
        (file("crt"), file("key"))
    }

    #[test]
    fn a_certificate_comes_with_its_own_key() {
        let directory = tempfile::tempdir().unwrap();
        let (certificate, key) = own_certificate(directory.path(), "a");
        let (other, other_key) = own_certificate(directory.path(), "b");

        assert!(Tls::read(&certificate, &key).is_ok());
        assert!(matches!(Tls::read(&certificate, &other_key), Err(TlsError::Mismatch(_))));
        assert!(matches!(Tls::read(&other, &certificate), Err(TlsError::Missing { .. })));
        assert!(matches!(Tls::read(&key, &key), Err(TlsError::Missing { .. })));
        let nothing = directory.path().join("nothing");
        assert!(matches!(Tls::read(&nothing, &key), Err(TlsError::File { .. })));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_connection_ends_and_one_that_speaks_does_not() {
        let (mut theirs, ours) = tokio::io::duplex(64);
        let mut ours = Patient::new(ours);
        let mut byte = [0];
        for _ in 0..10 {
            tokio::time::sleep(SILENCE.mul_f64(0.99)).await;
            theirs.write_all(b"x").await.unwrap();
            assert_eq!(ours.read(&mut byte).await.unwrap(), 1);
        }

        let began = Instant::now();
        let ended = ours.read(&mut byte).await.unwrap_err();

        assert_eq!(ended.kind(), io::ErrorKind::TimedOut);
        assert_eq!(began.elapsed().as_secs(), SILENCE.as_secs());
    }
}
