//! The embedded broker: a Kafka-protocol server inside the process, with its
//! log in one SQLite file, for running everything with one command.
//!
//! Clients reach it over TCP with the Kafka protocol and can't tell it from
//! Kafka; nothing else of it may be used. It survives the process being killed.
//! It commits with SQLite's `synchronous=normal`, so a loss of power may cut
//! its last commits: it is not a replacement for a Kafka cluster.

mod directory;
mod server;

use std::error::Error;
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tracing::{info, warn};

use directory::Directory;

/// How often another port is tried when the one that was free no longer is.
const PORT_ATTEMPTS: usize = 5;

/// Threads of the broker's own runtime.
const WORKERS: usize = 2;

/// Longest wait for the broker's tasks when it is stopped.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);

/// Why there is no broker, or none any more.
#[derive(Debug, Clone, thiserror::Error)]
pub enum BrokerError {
    #[error("the data directory {} is in use by another process", path.display())]
    DirectoryInUse { path: PathBuf },
    #[error("the data directory {} can't be used", path.display())]
    Directory {
        path: PathBuf,
        #[source]
        source: IoError,
    },
    #[error("broker.listen {address} is in use by another process")]
    AddressInUse { address: SocketAddr },
    #[error("broker.listen {address} can't be used")]
    Address {
        address: SocketAddr,
        #[source]
        source: IoError,
    },
    #[error("the embedded broker can't run on an IPv6 address ({address})")]
    AddressFamily { address: SocketAddr },
    #[error("the embedded broker's threads can't be started")]
    Threads(#[source] IoError),
    /// It did not start, or ended by itself.
    #[error("the embedded broker {0}")]
    Server(String),
}

/// An I/O error that can be handed to several places.
#[derive(Debug, Clone)]
pub struct IoError(Arc<io::Error>);

impl From<io::Error> for IoError {
    fn from(error: io::Error) -> Self {
        Self(Arc::new(error))
    }
}

impl fmt::Display for IoError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for IoError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.0.source()
    }
}

/// A running broker. It holds its data directory until [`EmbeddedBroker::stop`]
/// returns; dropping it stops it too, but does not wait.
#[derive(Debug)]
pub struct EmbeddedBroker {
    listen: SocketAddr,
    advertised: SocketAddr,
    /// The broker's own threads: its SQLite calls block, and must not hold up
    /// the tasks that answer requests. None once stopped.
    runtime: Option<Runtime>,
    /// Set when the server ended by itself.
    ended: watch::Receiver<Option<BrokerError>>,
    /// Released last, after every task of the broker is gone.
    _directory: Directory,
}

impl EmbeddedBroker {
    /// Starts the broker on its log in `dir`, which is created if it is not
    /// there, and waits until it answers. Port 0 picks a free one. Clients
    /// are told to connect to the same address, or to loopback where it
    /// listens on all addresses.
    ///
    /// # Errors
    ///
    /// The directory or the address is taken by another process or can't be
    /// used, or the log in it can't be opened.
    pub async fn start(dir: &Path, listen: SocketAddr) -> Result<Self, BrokerError> {
        if listen.is_ipv6() {
            // Clients would be told a host in brackets, which they can't resolve.
            return Err(BrokerError::AddressFamily { address: listen });
        }
        let directory = Directory::open(dir)?;
        let mut attempt = 1;
        loop {
            match Self::start_once(&directory, listen).await {
                Ok((runtime, address, ended)) => {
                    let broker = Self {
                        listen: address,
                        advertised: advertised(address),
                        runtime: Some(runtime),
                        ended,
                        _directory: directory,
                    };
                    info!(address = %broker.listen, dir = %dir.display(), "embedded broker started");
                    return Ok(broker);
                }
                Err(BrokerError::AddressInUse { address })
                    if listen.port() == 0 && attempt < PORT_ATTEMPTS =>
                {
                    warn!(%address, attempt, "free port was taken meanwhile, trying another");
                    attempt += 1;
                }
                Err(error) => return Err(error),
            }
        }
    }

    async fn start_once(
        directory: &Directory,
        listen: SocketAddr,
    ) -> Result<(Runtime, SocketAddr, watch::Receiver<Option<BrokerError>>), BrokerError> {
        let address = server::probe(listen)?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("broker")
            .enable_all()
            .build()
            .map_err(|error| BrokerError::Threads(error.into()))?;
        let (sender, ended) = watch::channel(None);
        let url = directory.storage_url()?;
        runtime.spawn(server::run(url, address, advertised(address), sender));
        match server::answers(advertised(address), ended.clone()).await {
            Ok(()) => Ok((runtime, address, ended)),
            Err(error) => {
                shut_down(runtime).await;
                Err(error)
            }
        }
    }

    /// The address it listens on, with the port that was picked.
    pub fn local_addr(&self) -> SocketAddr {
        self.listen
    }

    /// What clients put into `bootstrap.servers`.
    pub fn brokers(&self) -> String {
        self.advertised.to_string()
    }

    /// Resolves, with the reason, when the broker ends by itself; never
    /// otherwise.
    pub async fn closed(&self) -> BrokerError {
        let mut ended = self.ended.clone();
        let reason = ended
            .wait_for(Option::is_some)
            .await
            .map(|reason| reason.clone());
        reason
            .ok()
            .flatten()
            .unwrap_or_else(|| BrokerError::Server("ended without a reason".to_owned()))
    }

    /// Stops the broker and waits until its files are closed and its directory
    /// is free, so that it can be started again at once.
    pub async fn stop(mut self) {
        if let Some(runtime) = self.runtime.take() {
            shut_down(runtime).await;
        }
        info!(address = %self.listen, "embedded broker stopped");
    }
}

impl Drop for EmbeddedBroker {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            // Waiting is not allowed here: this may run on an async thread.
            runtime.shutdown_background();
        }
    }
}

/// Drops the broker's tasks and joins its threads; the runtime may not be
/// dropped on an async thread.
async fn shut_down(runtime: Runtime) {
    let joined = tokio::task::spawn_blocking(move || runtime.shutdown_timeout(STOP_TIMEOUT)).await;
    if let Err(error) = joined {
        warn!(%error, "stopping the embedded broker's threads failed");
    }
}

fn advertised(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}

#[cfg(test)]
mod tests;
