//! The beginning of a connection: INFO, CONNECT, and the PONG that says that the server has accepted it.
//!
//! Whatever else comes before that PONG is an error, so a connection that is handed over carries nothing of its own yet. Bytes
//! read beyond it stay in [`Input`], which the connection goes on with.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use weir_protocol::decode::ServerDecoder;
use weir_protocol::encode;
use weir_protocol::error::ProtocolError;
use weir_protocol::info::ServerInfo;
use weir_protocol::op::ServerOp;

use super::connector::{Connected, Credentials, Transport};
use super::{ConnectError, Options};

/// Longest the server may take to accept a connection.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Bytes read at once.
const READ_CHUNK: usize = 64 << 10;

/// A transport on which both sides have introduced themselves.
pub(super) struct Session {
    pub(super) transport: Box<dyn Transport>,
    pub(super) input: Input,
    pub(super) info: Arc<ServerInfo>,
    pub(super) address: String,
}

/// Introduces both sides to each other.
///
/// # Errors
/// When the server refuses, says something else, or takes longer than 5 s.
pub(super) async fn handshake(connected: Connected, options: &Options) -> Result<Session, ConnectError> {
    let address = connected.address.clone();
    let late = || ConnectError::Protocol {
        address: address.clone(),
        reason: "no INFO and PONG within 5 s".to_owned(),
    };
    match tokio::time::timeout(TIMEOUT, introduce(connected, options)).await {
        Ok(result) => result,
        Err(_) => Err(late()),
    }
}

async fn introduce(connected: Connected, options: &Options) -> Result<Session, ConnectError> {
    let Connected { mut transport, credentials, address } = connected;
    let foreign = |reason: String| ConnectError::Protocol { address: address.clone(), reason };
    let mut input = Input::default();
    let mut info = None;
    let mut ready = false;
    while !ready {
        let mut answer = BytesMut::new();
        let mut problem = None;
        input
            .drain(|op, _| match op {
                ServerOp::Info(json) => match serde_json::from_slice::<ServerInfo>(json) {
                    Ok(newer) => {
                        if info.replace(Arc::new(newer)).is_none() {
                            answer.extend_from_slice(&connect_line(options, &credentials));
                            answer.extend_from_slice(b"PING\r\n");
                        }
                        true
                    }
                    Err(error) => {
                        problem = Some(foreign(format!("its INFO cannot be read: {error}")));
                        false
                    }
                },
                ServerOp::Pong => {
                    ready = true;
                    true
                }
                ServerOp::Ping => {
                    answer.extend_from_slice(b"PONG\r\n");
                    true
                }
                ServerOp::Err(text) => {
                    let reason = String::from_utf8_lossy(text).trim_matches('\'').to_owned();
                    problem = Some(ConnectError::Refused { address: address.clone(), reason });
                    false
                }
                ServerOp::Ok => true,
                ServerOp::Msg(_) => {
                    problem = Some(foreign("a message before the PONG".to_owned()));
                    false
                }
            })
            .map_err(|error| foreign(error.to_string()))?;
        if let Some(problem) = problem {
            return Err(problem);
        }
        if !answer.is_empty() {
            transport.write_all(&answer).await?;
            transport.flush().await?;
        }
        if !ready && input.read(&mut transport).await? == 0 {
            return Err(
                io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection").into()
            );
        }
    }
    let info = info.ok_or_else(|| foreign("a PONG before its INFO".to_owned()))?;
    Ok(Session { transport, input, info, address })
}

/// What was read and not yet understood.
#[derive(Default)]
pub(super) struct Input {
    decoder: ServerDecoder,
    unread: BytesMut,
}

impl Input {
    /// Reads once; 0 at the end.
    pub(super) async fn read<R: tokio::io::AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<usize> {
        let room = self.decoder.needed().unwrap_or(0).saturating_sub(self.unread.len()).max(READ_CHUNK);
        self.unread.reserve(room);
        from.read_buf(&mut self.unread).await
    }

    /// Shows every whole operation to `each`, with the bytes it borrows from, until that says false.
    pub(super) fn drain(
        &mut self,
        mut each: impl FnMut(ServerOp<'_>, &Bytes) -> bool,
    ) -> Result<(), ProtocolError> {
        let chunk = self.unread.split().freeze();
        let mut rest = &chunk[..];
        let mut go_on = true;
        while go_on && let Some((op, taken)) = self.decoder.decode(rest)? {
            rest = rest.get(taken..).unwrap_or_default();
            go_on = each(op, &chunk);
        }
        self.unread.extend_from_slice(rest);
        Ok(())
    }
}

fn connect_line(options: &Options, from_address: &Credentials) -> BytesMut {
    let login = if *from_address == Credentials::default() { &options.credentials } else { from_address };
    let mut connect = serde_json::json!({
        "verbose": false, "pedantic": false, "tls_required": false, "echo": true,
        "headers": true, "no_responders": true, "protocol": 1,
        "name": options.name, "lang": "rust", "version": env!("CARGO_PKG_VERSION"),
    });
    if let Some(fields) = connect.as_object_mut() {
        for (key, value) in [("user", &login.user), ("pass", &login.password), ("auth_token", &login.token)] {
            if let Some(value) = value {
                fields.insert(key.to_owned(), value.clone().into());
            }
        }
    }
    let mut line = BytesMut::new();
    encode::connect(&mut line, connect.to_string().as_bytes());
    line
}
