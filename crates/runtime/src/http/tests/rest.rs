//! Connections that say nothing for a while.

use super::super::socket::{Phase, Rules, Socket};
use super::*;
use tokio::time::timeout;

#[tokio::test]
async fn a_connection_that_rested_goes_on_where_it_was() {
    let server = server(HttpLimits {
        idle_timeout: Duration::from_secs(1),
        header_timeout: Duration::from_millis(500),
        ..HttpLimits::default()
    })
    .await;
    let rest = Duration::from_millis(250);
    let mut client = server.connect().await;
    tokio::time::sleep(rest).await;
    // The second head has begun before hyper is put away.
    client.send(get("/a") + "GET /ha").await;
    assert_eq!(client.answer().await.unwrap().body["path"], "/a");
    tokio::time::sleep(rest).await;
    client.send("lf HTTP/1.1\r\nhost: x\r\n\r\n").await;
    assert_eq!(client.answer().await.unwrap().body["path"], "/half");
    for _ in 0..3 {
        tokio::time::sleep(rest).await;
        client.send(get("/b") + &get("/c")).await;
        assert_eq!(client.answer().await.unwrap().body["path"], "/b");
        assert_eq!(client.answer().await.unwrap().body["path"], "/c");
    }
    // A line's end too many begins no head.
    client
        .send("POST /a HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx\r\n")
        .await;
    assert_eq!(client.answer().await.unwrap().body["body"], "x");
    // The rest is part of the time that a connection may be idle, and ends with it.
    let began = std::time::Instant::now();
    assert!(client.closed().await);
    let took = began.elapsed();
    assert!(took >= Duration::from_millis(900), "{took:?}");
    assert_eq!(server.metric("timed_out_total"), 1);

    let mut begun = server.connect().await;
    begun.send(get("/a") + "GET /ha").await;
    assert!(begun.answer().await.is_some());
    tokio::time::sleep(rest).await;
    begun.stream.shutdown().await.unwrap();
    assert!(begun.closed().await);

    let mut closing = server.connect().await;
    closing.send(get("/a")).await;
    assert!(closing.answer().await.is_some());
    tokio::time::sleep(rest).await;
    server.shutdown.cancel();
    assert!(closing.closed().await);
    server.served.await.unwrap().unwrap();
}

#[tokio::test]
async fn an_answer_that_is_not_taken_yet_is_not_cut_off_by_a_rest() {
    let server = server(HttpLimits::default()).await;
    let mut client = server.connect().await;
    // A body that the handler leaves alone: hyper may listen for the next head before all is sent.
    client
        .send("POST /big HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n\r\nx")
        .await;
    tokio::time::sleep(Duration::from_millis(400)).await;
    let answer = client.answer().await.unwrap();
    assert_eq!(answer.status, 200);
    client.send(get("/a")).await;
    assert_eq!(client.answer().await.unwrap().body["path"], "/a");
}

#[tokio::test]
async fn nothing_rests_before_all_that_was_written_is_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut caller = TcpStream::connect(listener.local_addr().unwrap())
        .await
        .unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    let rules = Rules {
        header_timeout: PATIENCE,
        idle_timeout: PATIENCE,
        max_uri: 100,
        reword: Box::new(|_| json(StatusCode::BAD_REQUEST, "{}")),
        on_timeout: Box::new(|| {}),
    };
    let phase = Arc::new(Phase::default());
    let mut socket = Socket::new(stream, Arc::new(rules), Arc::clone(&phase));
    let short = Duration::from_millis(250);
    // The first turn has no rest: a connection begins without hyper.
    phase.begin(false);
    phase.end(true);
    assert!(timeout(short, socket.read_u8()).await.is_err());
    assert!(phase.rests());

    let much = vec![b'x'; 1 << 20];
    let mut written = 0;
    while let Ok(some) = timeout(short, socket.write(&much)).await {
        written += some.unwrap();
    }
    assert!(!phase.rests(), "{written} bytes, and more that wait");
    let mut taken = vec![0; written];
    caller.read_exact(&mut taken).await.unwrap();
    assert_eq!(socket.write(b"x").await.unwrap(), 1);
    assert!(phase.rests());
}
