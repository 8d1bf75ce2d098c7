//! An HTTP/1.1 client that sends what it is told to the letter, also what no client should.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

/// Longer than any answer may take.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An answer as it came.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

impl Answer {
    /// A header's value; names are compared without regard to case.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers
            .iter()
            .find(|(known, _)| known.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }

    /// The id that the ingress gave the request.
    #[must_use]
    pub fn request_id(&self) -> String {
        self.header("x-request-id")
            .unwrap_or_else(|| panic!("no x-request-id: {self:?}"))
            .to_owned()
    }

    /// The body as JSON.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// Checks status and body, the body to the letter, with the order of its fields.
    #[track_caller]
    pub fn is(&self, status: u16, body: &str) -> &Self {
        assert_eq!((self.status, self.body.as_str()), (status, body));
        self
    }

    /// Checks status, the shape of an error body and its code; gives the message.
    #[track_caller]
    pub fn is_error(&self, status: u16, code: &str) -> String {
        assert_eq!(self.status, status, "{self:?}");
        let json = self.json();
        let message = json["message"].as_str().unwrap_or_default().to_owned();
        assert!(!message.is_empty(), "{self:?}");
        let start = format!(r#"{{"status":"error","error":"{code}","message":"#);
        assert!(self.body.starts_with(&start), "{self:?}");
        message
    }
}

/// One connection, kept alive.
pub struct Connection {
    stream: BufReader<TcpStream>,
    host: SocketAddr,
}

impl Connection {
    /// Connects.
    ///
    /// # Errors
    ///
    /// Nobody listens.
    pub async fn open(host: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(host).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream: BufReader::new(stream),
            host,
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The connection is gone.
    pub async fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await?;
        self.stream.flush().await
    }

    /// Reads one answer.
    ///
    /// # Errors
    ///
    /// The connection ends before the answer does, or nothing comes in time.
    pub async fn answer(&mut self) -> io::Result<Answer> {
        tokio::time::timeout(TIMEOUT, self.read())
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "no answer")))
    }

    /// Whether the other side closes without another byte.
    pub async fn is_closed(&mut self) -> bool {
        let mut byte = [0];
        matches!(
            tokio::time::timeout(TIMEOUT, self.stream.read(&mut byte)).await,
            Ok(Ok(0) | Err(_))
        )
    }

    /// Sends a request and reads its answer.
    ///
    /// # Errors
    ///
    /// Those of both.
    pub async fn request(
        &mut self,
        method: &str,
        target: &str,
        headers: &[(&str, &str)],
        body: Option<&[u8]>,
    ) -> io::Result<Answer> {
        let mut head = format!("{method} {target} HTTP/1.1\r\nhost: {}\r\n", self.host);
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        if let Some(body) = body {
            head.push_str(&format!("content-length: {}\r\n", body.len()));
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend_from_slice(body.unwrap_or_default());
        // An answer to a body that is refused early comes while it is still being sent.
        let sent = self.send(&bytes).await;
        match self.answer().await {
            Ok(answer) => Ok(answer),
            Err(error) => Err(sent.err().unwrap_or(error)),
        }
    }

    async fn read(&mut self) -> io::Result<Answer> {
        let ended = || io::Error::new(io::ErrorKind::UnexpectedEof, "the connection was closed");
        let odd = |line: &str| io::Error::other(format!("not HTTP: {line:?}"));
        let mut line = String::new();
        if self.stream.read_line(&mut line).await? == 0 {
            return Err(ended());
        }
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|rest| rest.get(..3))
            .and_then(|code| code.parse().ok())
            .ok_or_else(|| odd(&line))?;
        let mut headers = Vec::new();
        loop {
            line.clear();
            if self.stream.read_line(&mut line).await? == 0 {
                return Err(ended());
            }
            if line.trim_end().is_empty() {
                break;
            }
            let (name, value) = line.split_once(':').ok_or_else(|| odd(&line))?;
            headers.push((name.trim().to_owned(), value.trim().to_owned()));
        }
        let mut answer = Answer {
            status,
            headers,
            body: String::new(),
        };
        let length = answer.header("content-length").map(str::parse::<usize>);
        let bytes = match length {
            Some(length) => {
                let mut bytes = vec![0; length.map_err(io::Error::other)?];
                self.stream.read_exact(&mut bytes).await?;
                bytes
            }
            None if answer.header("transfer-encoding") == Some("chunked") => self.chunks().await?,
            None => {
                let mut bytes = Vec::new();
                self.stream.read_to_end(&mut bytes).await?;
                bytes
            }
        };
        answer.body = String::from_utf8(bytes).map_err(io::Error::other)?;
        Ok(answer)
    }

    /// A body in chunks; one without its last chunk is an error.
    async fn chunks(&mut self) -> io::Result<Vec<u8>> {
        let odd = |line: &str| io::Error::other(format!("not a chunk: {line:?}"));
        let mut bytes = Vec::new();
        let mut line = String::new();
        loop {
            line.clear();
            self.stream.read_line(&mut line).await?;
            let size = line.strip_suffix("\r\n").ok_or_else(|| odd(&line))?;
            let size = usize::from_str_radix(size, 16).map_err(|_| odd(&line))?;
            let start = bytes.len();
            bytes.resize(start + size, 0);
            self.stream.read_exact(&mut bytes[start..]).await?;
            line.clear();
            self.stream.read_line(&mut line).await?;
            if line != "\r\n" {
                return Err(odd(&line));
            }
            if size == 0 {
                return Ok(bytes);
            }
        }
    }
}

/// One request over a connection of its own.
pub async fn request(
    host: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: Option<&[u8]>,
) -> Answer {
    let asked = async {
        let mut connection = Connection::open(host).await?;
        connection.request(method, target, headers, body).await
    };
    asked
        .await
        .unwrap_or_else(|error| panic!("{method} {target} to {host}: {error}"))
}

/// One GET over a connection of its own.
pub async fn get(host: SocketAddr, target: &str) -> Answer {
    request(host, "GET", target, &[], None).await
}

/// Bytes sent as they are over a connection of their own.
pub async fn raw(host: SocketAddr, bytes: &[u8]) -> Answer {
    let asked = async {
        let mut connection = Connection::open(host).await?;
        connection.send(bytes).await?;
        connection.answer().await
    };
    asked
        .await
        .unwrap_or_else(|error| panic!("raw request to {host}: {error}"))
}
