//! The floors: what a postback costs at least on hyper, and on hyper with rdkafka. Nothing is checked, kept in mind
//! or measured here; whatever Postern costs above this is its own.
//!
//! `postern-floors LISTEN` answers every request with the same bytes. `postern-floors LISTEN BROKERS TOPIC` first
//! publishes the query with the clickid as its key, and waits for the acknowledgement of all in-sync replicas.

use anyhow::Context as _;
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use mimalloc::MiMalloc;
use rdkafka::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};
use std::convert::Infallible;
use tokio::net::TcpListener;

const BODY: &[u8] = br#"{"status":"ok","note":"queued","clickid":"22d69d308430f3eaaa569df11e17fb36","request_id":"0192f0c1-7d9a-7c3e-8a51-3f2b6c1d9e00"}"#;

/// Postern's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

#[derive(Clone)]
struct Kafka {
    producer: FutureProducer,
    topic: String,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (listen, kafka) = match arguments.as_slice() {
        [listen] => (listen, None),
        [listen, brokers, topic] => {
            let producer = ClientConfig::new()
                .set("bootstrap.servers", brokers)
                .set("enable.idempotence", "true")
                .set("acks", "all")
                .set("partitioner", "murmur2_random")
                .set("linger.ms", "0.5")
                .create()
                .context("no producer")?;
            let topic = topic.clone();
            (listen, Some(Kafka { producer, topic }))
        }
        _ => anyhow::bail!("usage: postern-floors LISTEN [BROKERS TOPIC]"),
    };
    let listener = TcpListener::bind(listen).await.context(listen.clone())?;
    loop {
        let (stream, _) = listener.accept().await?;
        let _ = stream.set_nodelay(true);
        let kafka = kafka.clone();
        let service = service_fn(move |request| {
            let kafka = kafka.clone();
            async move { Ok::<_, Infallible>(answer(kafka.as_ref(), &request).await) }
        });
        tokio::spawn(http1::Builder::new().serve_connection(TokioIo::new(stream), service));
    }
}

async fn answer(kafka: Option<&Kafka>, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from_static(BODY)));
    *response.status_mut() = StatusCode::ACCEPTED;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    let Some(kafka) = kafka else {
        return response;
    };
    let query = request.uri().query().unwrap_or_default();
    let clickid = query
        .split('&')
        .find_map(|pair| pair.strip_prefix("clickid="))
        .unwrap_or_default();
    let record = FutureRecord::to(&kafka.topic).key(clickid).payload(query);
    let acknowledged = match kafka.producer.send_result(record) {
        Ok(delivery) => matches!(delivery.await, Ok(Ok(_))),
        Err(_) => false,
    };
    if !acknowledged {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    }
    response
}
