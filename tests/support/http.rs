//! One HTTP/1.1 request over a fresh connection. Small on purpose: a test sends exactly the bytes that it names, bad
//! ones included, and gets back status, headers and body. No redirects, no pooling, no TLS.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// Longest an answer may take.
const LIMIT: Duration = Duration::from_secs(60);

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// Header names in lower case with their values, in order of arrival.
    pub(crate) headers: Vec<(String, String)>,
    /// The body, chunks joined.
    pub(crate) body: Vec<u8>,
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("status {} with no JSON ({error}): {}", self.status, self.text()))
    }

    /// The first header of that lower-case name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// `GET path`.
pub(crate) async fn get(address: &str, path: &str) -> Response {
    request(address, "GET", path, &[], b"").await
}

/// `DELETE path`.
pub(crate) async fn delete(address: &str, path: &str) -> Response {
    request(address, "DELETE", path, &[], b"").await
}

/// `POST path` with a JSON body.
pub(crate) async fn post(address: &str, path: &str, body: &Value) -> Response {
    post_bytes(address, path, body.to_string().as_bytes()).await
}

/// `POST path` with any bytes, announced as JSON.
pub(crate) async fn post_bytes(address: &str, path: &str, body: &[u8]) -> Response {
    request(address, "POST", path, &[("Content-Type", "application/json")], body).await
}

/// Any request. `headers` replace the default `Host` when they name one. A server may answer and close before it has
/// read the whole body (413): what it answered counts.
pub(crate) async fn request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    try_request(address, method, path, headers, body)
        .await
        .unwrap_or_else(|error| panic!("{method} {path} at {address}: {error}"))
}

/// [`request`] to a server that may go away meanwhile: no complete header block, or no end within a minute, is an error.
pub(crate) async fn try_request(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> std::io::Result<Response> {
    let mut head =
        format!("{method} {path} HTTP/1.1\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("host")) {
        head.push_str(&format!("Host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    head.push_str("\r\n");

    let stream = TcpStream::connect(address).await?;
    let (mut reader, mut writer) = stream.into_split();
    let body = body.to_vec();
    let sending = tokio::spawn(async move {
        if writer.write_all(head.as_bytes()).await.is_ok() {
            drop(writer.write_all(&body).await);
        }
        writer
    });
    let mut raw = Vec::new();
    let read = timeout(LIMIT, reader.read_to_end(&mut raw)).await;
    sending.abort();
    let read = read?;
    if !raw.windows(4).any(|four| four == b"\r\n\r\n") {
        read?;
        return Err(std::io::ErrorKind::UnexpectedEof.into());
    }
    Ok(parse(&raw))
}

fn parse(raw: &[u8]) -> Response {
    let end = raw.windows(4).position(|four| four == b"\r\n\r\n").expect("an HTTP answer has a header block");
    let head = std::str::from_utf8(&raw[..end]).expect("the header block is text");
    let mut lines = head.split("\r\n");
    let status_line = lines.next().unwrap_or_default();
    let status = status_line
        .split(' ')
        .nth(1)
        .and_then(|code| code.parse().ok())
        .unwrap_or_else(|| panic!("no status line: {status_line:?}"));
    let headers: Vec<(String, String)> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.trim().to_ascii_lowercase(), value.trim().to_owned()))
        .collect();
    let rest = &raw[end + 4..];
    let chunked = headers
        .iter()
        .any(|(name, value)| name == "transfer-encoding" && value.eq_ignore_ascii_case("chunked"));
    let body = if chunked { unchunk(rest) } else { rest.to_vec() };
    Response { status, headers, body }
}

fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    while let Some(end) = rest.windows(2).position(|two| two == b"\r\n") {
        let size = std::str::from_utf8(&rest[..end]).expect("a chunk size is text");
        let size = usize::from_str_radix(size.split(';').next().unwrap_or_default().trim(), 16)
            .unwrap_or_else(|error| panic!("chunk size {size:?}: {error}"));
        rest = &rest[end + 2..];
        if size == 0 {
            return body;
        }
        body.extend_from_slice(&rest[..size]);
        rest = &rest[size + 2..];
    }
    panic!("the chunked body has no end");
}
