//! Listening, and ending without dropping anybody.

use std::future::Future;
use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use crate::App;

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
                Some("listen on 127.0.0.1 or [::1], and put a proxy that speaks TLS in front")
            }
            Self::Bind { .. } => Some("choose another address with --listen, or port 0 for any"),
            Self::Serve(_) => None,
        }
    }
}

/// Serves until `end` comes, then finishes what is under way. Calls `ready` with the address.
pub async fn serve(
    app: App,
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
    axum::serve(listener, app.router())
        .with_graceful_shutdown(end)
        .await
        .map_err(ListenError::Serve)
}
