//! As much of an HTTP/1.1 client as is needed: one connection, kept alive, one request at a time.

use crate::target::Target;
use std::io::{Error, ErrorKind, Write as _};
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long connecting and any one answer may take.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// Most bytes of an answer.
const MOST: usize = 256 * 1024;

/// A connection that opens itself again after an error.
#[derive(Debug)]
pub struct Client {
    target: Target,
    stream: Option<TcpStream>,
    write: Vec<u8>,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// The body.
    pub body: &'a [u8],
}

impl Client {
    pub fn new(target: Target) -> Self {
        Self {
            target,
            stream: None,
            write: Vec::with_capacity(1024),
            read: Vec::with_capacity(4096),
        }
    }

    /// Connects where there is no connection yet.
    pub async fn connect(&mut self) -> Result<(), Error> {
        if self.stream.is_none() {
            let connecting = TcpStream::connect(self.target.address);
            let stream = timeout(PATIENCE, connecting).await??;
            stream.set_nodelay(true)?;
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// `GET path`.
    pub async fn get(&mut self, path: &str) -> Result<Response<'_>, Error> {
        self.write.clear();
        write!(
            self.write,
            "GET {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: postern-bench\r\n\r\n",
            self.target.authority
        )?;
        self.exchange().await
    }

    /// `POST path` with a bearer token.
    pub async fn post(
        &mut self,
        path: &str,
        token: &str,
        body: &str,
    ) -> Result<Response<'_>, Error> {
        self.write.clear();
        write!(
            self.write,
            "POST {path} HTTP/1.1\r\nhost: {}\r\nuser-agent: postern-bench\r\n\
             authorization: Bearer {token}\r\ncontent-type: application/x-ndjson\r\n\
             content-length: {}\r\n\r\n{body}",
            self.target.authority,
            body.len()
        )?;
        self.exchange().await
    }

    /// Nothing is sent twice: whether the first was taken in isn't known.
    async fn exchange(&mut self) -> Result<Response<'_>, Error> {
        self.connect().await?;
        let answered = timeout(PATIENCE, self.send()).await;
        let answered = answered.unwrap_or_else(|late| Err(late.into()));
        if !matches!(&answered, Ok(Head { keep: true, .. })) {
            self.stream = None;
        }
        let head = answered?;
        Ok(Response {
            status: head.status,
            body: &self.read[head.bytes..],
        })
    }

    async fn send(&mut self) -> Result<Head, Error> {
        let stream = self.stream.as_mut().ok_or(ErrorKind::NotConnected)?;
        stream.write_all(&self.write).await?;
        self.read.clear();
        loop {
            if stream.read_buf(&mut self.read).await? == 0 {
                return Err(ErrorKind::UnexpectedEof.into());
            }
            if let Some(head) = Head::find(&self.read)? {
                let end = head.bytes + head.content_length;
                if self.read.len() > end {
                    return Err(invalid("more than one answer"));
                }
                if self.read.len() == end {
                    return Ok(head);
                }
            }
            if self.read.len() > MOST {
                return Err(invalid("the answer is too long"));
            }
        }
    }
}

fn invalid(why: &str) -> Error {
    Error::new(ErrorKind::InvalidData, why)
}

#[derive(Debug, PartialEq, Eq)]
struct Head {
    status: u16,
    content_length: usize,
    keep: bool,
    /// Its own length.
    bytes: usize,
}

impl Head {
    /// Nothing while it isn't complete.
    fn find(read: &[u8]) -> Result<Option<Self>, Error> {
        let Some(end) = read.windows(4).position(|four| four == b"\r\n\r\n") else {
            return Ok(None);
        };
        let text = str::from_utf8(&read[..end]).map_err(|_| invalid("the head is not text"))?;
        let mut lines = text.split("\r\n");
        let status = lines
            .next()
            .and_then(|line| line.strip_prefix("HTTP/1.1 "))
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| invalid("not an HTTP/1.1 answer"))?;
        let mut content_length = None;
        let mut keep = true;
        for (name, value) in lines.filter_map(|line| line.split_once(':')) {
            if name.eq_ignore_ascii_case("content-length") {
                content_length = value.trim().parse().ok();
            } else if name.eq_ignore_ascii_case("connection") {
                keep &= !value.trim().eq_ignore_ascii_case("close");
            }
        }
        Ok(Some(Self {
            status,
            content_length: content_length.ok_or_else(|| invalid("no content-length"))?,
            keep,
            bytes: end + 4,
        }))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[test]
    fn heads_are_read_when_they_are_complete() {
        let text = b"HTTP/1.1 202 Accepted\r\nContent-Length: 2\r\nConnection: Close\r\n\r\n{}";
        for cut in 0..text.len() - 2 {
            assert_eq!(Head::find(&text[..cut]).unwrap(), None);
        }
        let head = Head {
            status: 202,
            content_length: 2,
            keep: false,
            bytes: text.len() - 2,
        };
        assert_eq!(Head::find(text).unwrap(), Some(head));
        assert!(Head::find(b"HTTP/1.1 200 OK\r\n\r\n").is_err());
        assert!(Head::find(b"SSH-2.0\r\n\r\n").is_err());
    }
}
