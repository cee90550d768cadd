//! A device's side of HTTP: one connection that is kept, one POST at a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper::{Method, Request, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::sys;

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The longest answer that is read, in bytes.
const ANSWER_MAX: usize = 64 * 1024;

/// A post that came to nothing.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PostError {
    /// Nobody there, or the connection broke: whether the events arrived is not known.
    #[error("{address}: {reason}")]
    Connection {
        /// Who was asked.
        address: String,
        /// What happened.
        reason: String,
    },
    /// The monitor answered no.
    #[error("{status}: {text}")]
    Refused {
        /// The status.
        status: StatusCode,
        /// Its reason.
        text: String,
    },
}

/// The HTTP monitor as a device sees it.
pub(crate) struct Monitor {
    address: String,
    connection: Option<SendRequest<Full<Bytes>>>,
}

impl Monitor {
    /// The monitor at `host:port`. Connects with the first post.
    pub(crate) fn new(address: impl Into<String>) -> Self {
        Self { address: address.into(), connection: None }
    }

    /// Posts events of a device. Success means: accepted, with a status of 2xx.
    pub(crate) async fn post(&mut self, device: &str, body: Bytes) -> Result<(), PostError> {
        let answer = tokio::time::timeout(TIMEOUT, self.exchange(device, body)).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        match answer {
            Ok((status, _)) if status.is_success() => Ok(()),
            Ok((status, text)) => Err(PostError::Refused { status, text }),
            Err(reason) => {
                self.connection = None;
                Err(PostError::Connection { address: self.address.clone(), reason })
            }
        }
    }

    async fn exchange(&mut self, device: &str, body: Bytes) -> Result<(StatusCode, String), String> {
        let mut connection = match self.connection.take().filter(|connection| !connection.is_closed()) {
            Some(connection) => connection,
            None => self.connect().await?,
        };
        connection.ready().await.map_err(|error| error.to_string())?;
        let request = Request::builder()
            .method(Method::POST)
            .uri(format!("/monitor/{device}"))
            .header("Host", &self.address)
            .header("Content-Type", "application/json")
            .body(Full::new(body))
            .map_err(|error| error.to_string())?;
        let answer = connection.send_request(request).await.map_err(|error| error.to_string())?;
        let status = answer.status();
        let text = Limited::new(answer.into_body(), ANSWER_MAX)
            .collect()
            .await
            .map_err(|error| error.to_string())?;
        self.connection = Some(connection);
        Ok((status, String::from_utf8_lossy(&text.to_bytes()).into_owned()))
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>, String> {
        let socket = TcpStream::connect(&self.address).await.map_err(|error| error.to_string())?;
        socket.set_nodelay(true).map_err(|error| error.to_string())?;
        let (connection, driver) =
            handshake(TokioIo::new(socket)).await.map_err(|error| error.to_string())?;
        // It ends with the connection, and its error is the one that the request gets.
        sys::task::spawn(async move {
            let _ = driver.await;
        });
        Ok(connection)
    }
}
