//! `postern send`: one postback, and what becomes of it.

use super::say;
use crate::cli::SendArgs;
use crate::config::Settings;
use anyhow::{Context as _, bail, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::header::{AUTHORIZATION, HOST};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use postern_runtime::settings::Secret;
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use tokio::net::TcpStream;
use url::Url;

/// Longer than an ingress may take: `answer.timeout` is at most 60 s.
const PATIENCE: Duration = Duration::from_secs(65);
/// How long its decision is waited for.
const DECIDED_WITHIN: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(200);

struct Reply {
    status: StatusCode,
    request_id: Option<String>,
    body: String,
    took: Duration,
}

/// Sends, and tells the story. An error where the postback was refused or is not decided.
pub async fn send(settings: &Settings, args: &SendArgs) -> anyhow::Result<()> {
    let mut url = Url::parse(&args.url).context("the URL can't be read")?;
    if let Some(campaign) = args.campaign {
        let clickid = click(settings, &url, campaign).await?;
        url.query_pairs_mut().append_pair("clickid", &clickid);
    }
    let reply = ask(Method::GET, &url, None, String::new()).await?;
    told("postback", &reply);
    let Some(request_id) = &reply.request_id else {
        bail!("the answer has no X-Request-Id: is this Postern?");
    };
    say(&format!("request id  {request_id}"));
    ensure!(
        !reply.status.is_server_error(),
        "it is not known to be stored; sending it again is safe, and the ingress' log says why"
    );
    let reports = args.reports.as_ref().unwrap_or(&args.url);
    let mut status = Url::parse(reports).context("--reports can't be read")?;
    status.set_path("/v1/postback/status");
    status.set_query(Some(&format!("request_id={request_id}")));
    // Also where `http.always_200` hides it.
    let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
    let refused = body["status"] != "ok";
    follow(&status, refused).await?;
    ensure!(!refused, "the postback was refused");
    Ok(())
}

/// Makes a click of a campaign; gives its clickid.
async fn click(settings: &Settings, url: &Url, campaign: i64) -> anyhow::Result<String> {
    let token = match &settings.ingress.clicks_token {
        Some(token) => token.clone(),
        None => Secret::from_file(&settings.clicks_token_file())
            .context("--campaign makes a click, which needs clicks.token")?,
    };
    let clickid = format!("test-{}", hex::encode(crate::random::bytes::<12>()?));
    let mut clicks = url.clone();
    clicks.set_path("/v1/clicks");
    clicks.set_query(None);
    let body = json!({ "clickid": clickid, "campaign_id": campaign }).to_string();
    let reply = ask(Method::POST, &clicks, Some(&token), body).await?;
    told("click", &reply);
    ensure!(reply.status.is_success(), "the click was refused");
    say(&format!("clickid     {clickid}"));
    Ok(clickid)
}

/// Asks what became of it until that is known.
async fn follow(status: &Url, refused: bool) -> anyhow::Result<()> {
    let end = Instant::now() + DECIDED_WITHIN;
    loop {
        let reply = ask(Method::GET, status, None, String::new()).await?;
        let body: Value = serde_json::from_str(&reply.body).unwrap_or_default();
        match (reply.status, body["outcome"].as_str(), body["error"].as_str()) {
            (StatusCode::OK, Some("pending"), _)
            // One that is in a spool isn't known to others yet.
            | (StatusCode::NOT_FOUND, _, Some("request_not_found")) => {
                ensure!(
                    Instant::now() < end || !refused,
                    "the postback was refused, and is not in the log: many refusals of one address \
                     are only counted"
                );
                ensure!(
                    Instant::now() < end,
                    "not decided within {DECIDED_WITHIN:?}: it is in Kafka or in the spool of its \
                     ingress; see that a consumer runs"
                );
                tokio::time::sleep(PAUSE).await;
            }
            (StatusCode::OK, Some(outcome), _) => {
                let received = body["received_at"].as_str().unwrap_or_default();
                say(&format!("became      {outcome}, received {received}"));
                return Ok(());
            }
            (StatusCode::NOT_FOUND, ..) => bail!(
                "nobody tells of its decision at {}: name the role reports with --reports",
                status.origin().ascii_serialization()
            ),
            _ => {
                told("status", &reply);
                bail!("its decision can't be told");
            }
        }
    }
}

fn told(what: &str, reply: &Reply) {
    say(&format!(
        "{what:<11} {} in {:.1} ms  {}",
        reply.status.as_u16(),
        reply.took.as_secs_f64() * 1e3,
        reply.body.trim_end()
    ));
}

async fn ask(
    method: Method,
    url: &Url,
    token: Option<&Secret>,
    body: String,
) -> anyhow::Result<Reply> {
    let begun = Instant::now();
    let origin = url.origin().ascii_serialization();
    let asked = tokio::time::timeout(PATIENCE, exchange(method, url, token, body));
    let (head, body) = asked
        .await
        .with_context(|| format!("{origin} did not answer within {PATIENCE:?}"))?
        .with_context(|| format!("{origin} can't be asked"))?;
    let request_id = head.headers.get("x-request-id");
    Ok(Reply {
        status: head.status,
        request_id: request_id.and_then(|id| Some(id.to_str().ok()?.to_owned())),
        body: String::from_utf8_lossy(&body).into_owned(),
        took: begun.elapsed(),
    })
}

async fn exchange(
    method: Method,
    url: &Url,
    token: Option<&Secret>,
    body: String,
) -> anyhow::Result<(hyper::http::response::Parts, Bytes)> {
    ensure!(
        url.scheme() == "http",
        "only http:// can be sent to; with TLS before the ingress, name the ingress itself"
    );
    let host = url.host_str().context("the URL names no host")?;
    let port = url.port_or_known_default().unwrap_or(80);
    let address = host.trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((address, port)).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let driven = tokio::spawn(connection);
    let target = &url[url::Position::BeforePath..url::Position::AfterQuery];
    let mut request = Request::builder()
        .method(method)
        .uri(target)
        .header(HOST, format!("{host}:{port}"));
    if let Some(token) = token {
        request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
    }
    let request = request.body(Full::new(Bytes::from(body)))?;
    let (head, body) = sender.send_request(request).await?.into_parts();
    let body = body.collect().await?.to_bytes();
    driven.abort();
    Ok((head, body))
}
