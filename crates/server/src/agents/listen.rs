//! Where agents connect: mutual TLS, or plain HTTP from a proxy on this machine that speaks it.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::Response;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::authority::key_of;
use super::{Agents, Peer};
use crate::listen::ListenError;
use crate::tls::Patient;

/// Header in which a proxy names the key whose certificate it has verified: SHA-256 over its
/// `SubjectPublicKeyInfo` in hexadecimal digits.
const PROXY_HEADER: &str = "x-patchwright-agent-key";

/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);

/// Most connections at once; further ones wait in the system's queue.
const CONNECTIONS: usize = 20_000;

/// Serves agents over mutual TLS until `end` comes.
///
/// # Errors
/// If the address cannot be had, or TLS cannot be set up.
pub async fn serve_agents(
    agents: Arc<Agents>,
    address: SocketAddr,
    names: Vec<String>,
    ready: impl FnOnce(SocketAddr),
    end: impl Future<Output = ()>,
) -> Result<(), ListenError> {
    let bind = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    let config = agents.tls(&names).map_err(|error| ListenError::Serve(io::Error::other(error)))?;
    let acceptor = TlsAcceptor::from(Arc::new(config));
    ready(listener.local_addr().map_err(bind)?);
    let router = super::routes().with_state(agents);
    let room = Arc::new(Semaphore::new(CONNECTIONS));
    let mut end = std::pin::pin!(end);
    loop {
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return Ok(()) };
        let stream = tokio::select! {
            () = &mut end => return Ok(()),
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Too many open files, a peer that went away: the next one may be well.
                    tracing::warn!(%error, "an agent cannot be let in");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (acceptor, router) = (acceptor.clone(), router.clone());
        tokio::spawn(async move {
            if let Err(error) = converse(stream, &acceptor, router).await {
                tracing::debug!(%error, "a connection of an agent ended");
            }
            drop(place);
        });
    }
}

async fn converse(stream: TcpStream, acceptor: &TlsAcceptor, router: Router) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream))
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    let certificates = stream.get_ref().1.peer_certificates();
    let key = certificates.and_then(|all| all.first()).and_then(key_of);
    let service = TowerToHyperService::new(router.layer(axum::Extension(Peer(key))));
    Builder::new(TokioExecutor::new())
        .serve_connection(TokioIo::new(Patient::new(stream)), service)
        .await
        .map_err(io::Error::other)
}

/// Serves agents whose TLS ends at a proxy on this machine, until `end` comes. Whoever reaches the
/// address is believed to be that proxy, so it must be loopback.
///
/// # Errors
/// If the address is not loopback or cannot be had.
pub async fn serve_proxied_agents(
    agents: Arc<Agents>,
    address: SocketAddr,
    ready: impl FnOnce(SocketAddr),
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ListenError> {
    if !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback { address });
    }
    let bind = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    ready(listener.local_addr().map_err(bind)?);
    let router = super::routes().with_state(agents).layer(middleware::from_fn(name_of_the_proxy));
    axum::serve(listener, router).with_graceful_shutdown(end).await.map_err(ListenError::Serve)
}

async fn name_of_the_proxy(mut request: Request, next: Next) -> Response {
    let key = request
        .headers()
        .get(PROXY_HEADER)
        .and_then(|value| value.to_str().ok())
        .and_then(|text| text.parse().ok());
    request.extensions_mut().insert(Peer(key));
    next.run(request).await
}
