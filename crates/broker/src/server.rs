//! Building the broker, serving, and finding out whether it answers.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use nisshi_broker::broker::Builder;
use nisshi_broker::coordinator::group::administrator::GroupCoordinatorConfig;
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::Instant;
use url::Url;
use uuid::Uuid;

use crate::BrokerError;

/// Topics belong to the cluster by its name, so it may never change.
const CLUSTER_ID: &str = "postern-embedded";

/// Clients remember nodes by number across restarts.
const NODE_ID: i32 = 1;

/// Longest wait for the first answer; opening a large log takes its time.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// Between two looks whether the broker answers.
const START_POLL: Duration = Duration::from_millis(5);

/// Finds the port to listen on, and refuses an address that is taken before
/// anything is started on it.
pub(crate) fn probe(listen: SocketAddr) -> Result<SocketAddr, BrokerError> {
    TcpListener::bind(listen)
        .and_then(|listener| listener.local_addr())
        .map_err(|error| {
            if error.kind() == io::ErrorKind::AddrInUse {
                BrokerError::AddressInUse { address: listen }
            } else {
                BrokerError::Address {
                    address: listen,
                    source: error.into(),
                }
            }
        })
}

/// Serves until its runtime is shut down; if it ends before, says why.
pub(crate) async fn run(
    storage: Url,
    listen: SocketAddr,
    advertised: SocketAddr,
    ended: watch::Sender<Option<BrokerError>>,
) {
    // Through a task of its own, so that a panic is a reason like any other.
    let serving = tokio::spawn(serve(storage, listen, advertised));
    let reason = match serving.await {
        Ok(Ok(())) => BrokerError::Server("stopped serving".to_owned()),
        Ok(Err(error)) => error,
        Err(error) => BrokerError::Server(format!("failed: {error}")),
    };
    ended.send_replace(Some(reason));
}

async fn serve(
    storage: Url,
    listen: SocketAddr,
    advertised: SocketAddr,
) -> Result<(), BrokerError> {
    let mut broker = Builder::<(), (), (), (), (), ()>::default()
        .cluster_id(CLUSTER_ID)
        .node_id(NODE_ID)
        .incarnation_id(Uuid::now_v7())
        .listener(url(listen)?)
        .advertised_listener(url(advertised)?)
        .storage(storage)
        .group_coordinator(GroupCoordinatorConfig {
            // Its members are those of one process; there is nobody to wait for.
            initial_rebalance_delay: Duration::ZERO,
            ..GroupCoordinatorConfig::default()
        })
        // Standard output belongs to the commands.
        .silent(true)
        .build()
        .await
        .map_err(|error| failed(listen, error))?;
    broker
        .serve(Instant::now())
        .await
        .map_err(|error| failed(listen, error))
}

fn failed(listen: SocketAddr, error: nisshi_broker::Error) -> BrokerError {
    match error {
        nisshi_broker::Error::ListenerInUse { .. } => BrokerError::AddressInUse { address: listen },
        other => BrokerError::Server(format!("failed: {other}")),
    }
}

fn url(address: SocketAddr) -> Result<Url, BrokerError> {
    Url::parse(&format!("tcp://{address}"))
        .map_err(|error| BrokerError::Server(format!("failed: {address} makes no URL: {error}")))
}

/// Waits until the broker accepts a connection, or has ended.
pub(crate) async fn answers(
    address: SocketAddr,
    mut ended: watch::Receiver<Option<BrokerError>>,
) -> Result<(), BrokerError> {
    let connected = async {
        while TcpStream::connect(address).await.is_err() {
            tokio::time::sleep(START_POLL).await;
        }
    };
    // Its end comes first: another process may answer at the address it did not get.
    tokio::select! {
        biased;
        reason = ended.wait_for(Option::is_some) => Err(reason
            .ok()
            .and_then(|reason| reason.clone())
            .unwrap_or_else(|| BrokerError::Server("ended at start".to_owned()))),
        () = connected => Ok(()),
        () = tokio::time::sleep(START_TIMEOUT) => {
            Err(BrokerError::Server(format!("did not answer within {START_TIMEOUT:?}")))
        }
    }
}
