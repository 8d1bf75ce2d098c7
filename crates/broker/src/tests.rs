#![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::net::Ipv4Addr;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;

fn any_port() -> SocketAddr {
    (Ipv4Addr::LOCALHOST, 0).into()
}

/// One request of the Kafka protocol, with a request header of version 1.
async fn request(broker: &EmbeddedBroker, api: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut stream = TcpStream::connect(broker.brokers()).await.unwrap();
    let mut message = Vec::new();
    message.extend(api.to_be_bytes());
    message.extend(version.to_be_bytes());
    message.extend(7_i32.to_be_bytes());
    message.extend(4_i16.to_be_bytes());
    message.extend(b"test");
    message.extend(body);
    let length = i32::try_from(message.len()).unwrap();
    stream.write_all(&length.to_be_bytes()).await.unwrap();
    stream.write_all(&message).await.unwrap();
    let length = stream.read_i32().await.unwrap();
    let mut answer = vec![0; usize::try_from(length).unwrap()];
    stream.read_exact(&mut answer).await.unwrap();
    assert_eq!(answer[..4], 7_i32.to_be_bytes(), "correlation id");
    answer
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    haystack
        .windows(needle.len())
        .any(|w| w == needle.as_bytes())
}

/// CreateTopics version 1 for one topic with one partition.
async fn create_topic(broker: &EmbeddedBroker, name: &str) {
    let mut body = Vec::new();
    body.extend(1_i32.to_be_bytes());
    body.extend(i16::try_from(name.len()).unwrap().to_be_bytes());
    body.extend(name.as_bytes());
    body.extend(1_i32.to_be_bytes()); // partitions
    body.extend(1_i16.to_be_bytes()); // replicas
    body.extend(0_i32.to_be_bytes()); // assignments
    body.extend(0_i32.to_be_bytes()); // settings
    body.extend(5000_i32.to_be_bytes());
    body.push(0);
    let answer = request(broker, 19, 1, &body).await;
    assert!(contains(&answer, name));
}

/// Metadata version 1 for all topics.
async fn metadata(broker: &EmbeddedBroker) -> Vec<u8> {
    request(broker, 3, 1, &(-1_i32).to_be_bytes()).await
}

#[tokio::test]
async fn it_starts_again_on_the_same_directory_with_its_topics() {
    let dir = tempfile::tempdir().unwrap();
    let mut address = any_port();
    for round in 0..3 {
        let broker = EmbeddedBroker::start(dir.path(), address).await.unwrap();
        // From the second round on the same port, which must be free again.
        address = broker.local_addr();
        assert_ne!(address.port(), 0);
        assert_eq!(broker.brokers(), address.to_string());
        if round == 0 {
            create_topic(&broker, "kept").await;
        }
        let metadata = metadata(&broker).await;
        assert!(contains(&metadata, "kept"), "round {round}");
        assert!(contains(&metadata, "127.0.0.1"));
        broker.stop().await;
        assert!(TcpStream::connect(address).await.is_err());
    }
}

#[tokio::test]
async fn a_directory_has_one_broker() {
    let dir = tempfile::tempdir().unwrap();
    let broker = EmbeddedBroker::start(dir.path(), any_port()).await.unwrap();
    let error = EmbeddedBroker::start(dir.path(), any_port())
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::DirectoryInUse { .. }));
    assert!(error.to_string().contains("in use by another process"));
    broker.stop().await;
    let again = EmbeddedBroker::start(dir.path(), any_port()).await.unwrap();
    again.stop().await;
}

#[tokio::test]
async fn an_address_that_is_taken_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let other = std::net::TcpListener::bind(any_port()).unwrap();
    let taken = other.local_addr().unwrap();
    let error = EmbeddedBroker::start(dir.path(), taken).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        format!("broker.listen {taken} is in use by another process")
    );
    drop(other);
    let broker = EmbeddedBroker::start(dir.path(), taken).await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn a_directory_may_have_any_name() {
    let dir = tempfile::tempdir().unwrap();
    let odd = dir.path().join("data of 50% ä#1?");
    let broker = EmbeddedBroker::start(&odd, any_port()).await.unwrap();
    create_topic(&broker, "odd").await;
    broker.stop().await;
    assert!(odd.join("broker.db").is_file());
    let broker = EmbeddedBroker::start(&odd, any_port()).await.unwrap();
    assert!(contains(&metadata(&broker).await, "odd"));
    broker.stop().await;
}

#[tokio::test]
async fn a_log_that_cannot_be_opened_is_an_error_and_frees_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("broker.db")).unwrap();
    let error = EmbeddedBroker::start(dir.path(), any_port())
        .await
        .unwrap_err();
    assert!(matches!(error, BrokerError::Server(_)), "{error}");
    std::fs::remove_dir(dir.path().join("broker.db")).unwrap();
    let broker = EmbeddedBroker::start(dir.path(), any_port()).await.unwrap();
    broker.stop().await;
}

#[tokio::test]
async fn an_end_of_its_own_is_reported() {
    let dir = tempfile::tempdir().unwrap();
    let mut broker = EmbeddedBroker::start(dir.path(), any_port()).await.unwrap();
    let (sender, ended) = watch::channel(None);
    broker.ended = ended;
    sender.send_replace(Some(BrokerError::Server("failed: test".to_owned())));
    assert_eq!(
        broker.closed().await.to_string(),
        "the embedded broker failed: test"
    );
    broker.stop().await;
}
