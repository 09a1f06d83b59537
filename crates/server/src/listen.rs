//! Listening, and ending without dropping anybody.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderName, HeaderValue};
use tokio::net::TcpListener;
use tower_http::set_header::SetRequestHeaderLayer;

use crate::App;
use crate::tls::{Tls, TlsListener};

/// Why the server cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    /// Without TLS, passwords and tokens would cross the network in the clear.
    #[error("{address} is reachable from other machines, and there is no TLS")]
    NotLoopback {
        /// Address asked for.
        address: SocketAddr,
    },
    /// The address cannot be had.
    #[error("cannot listen on {address}")]
    Bind {
        /// Address asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The listener broke.
    #[error("the listener failed")]
    Serve(#[source] io::Error),
}

impl ListenError {
    /// The way out.
    pub const fn help(&self) -> Option<&'static str> {
        match self {
            Self::NotLoopback { .. } => {
                Some("give --tls-cert and --tls-key, or listen on 127.0.0.1 or [::1]")
            }
            Self::Bind { .. } => Some("choose another address with --listen, or port 0 for any"),
            Self::Serve(_) => None,
        }
    }
}

/// Serves until `end` comes, then finishes what is under way. Calls `ready` with the address.
/// Without TLS it listens on loopback alone.
///
/// # Errors
/// If the address cannot be had, or is not loopback and there is no TLS.
pub async fn serve(
    app: App,
    address: SocketAddr,
    tls: Option<Tls>,
    ready: impl FnOnce(SocketAddr),
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ListenError> {
    serve_router(app.router(), address, tls, ready, end).await
}

/// The same for any routes, such as those of a witness.
///
/// # Errors
/// As [`serve`].
pub async fn serve_router(
    router: Router,
    address: SocketAddr,
    tls: Option<Tls>,
    ready: impl FnOnce(SocketAddr),
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ListenError> {
    if tls.is_none() && !address.ip().is_loopback() {
        return Err(ListenError::NotLoopback { address });
    }
    let bind = |source| ListenError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(bind)?;
    ready(listener.local_addr().map_err(bind)?);
    let served = match tls {
        None => axum::serve(listener, router).with_graceful_shutdown(end).await,
        Some(tls) => {
            let listener = TlsListener::start(listener, tls).map_err(bind)?;
            // As a proxy in front would say it, so that cookies are for TLS alone.
            let over_tls = SetRequestHeaderLayer::overriding(
                HeaderName::from_static("x-forwarded-proto"),
                HeaderValue::from_static("https"),
            );
            let router = router.layer(over_tls);
            axum::serve(listener, router).with_graceful_shutdown(end).await
        }
    };
    served.map_err(ListenError::Serve)
}
