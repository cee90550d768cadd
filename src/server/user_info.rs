//! `$SYS.REQ.USER.INFO`: every user may ask who it is.

use std::sync::Arc;

use bytes::Bytes;
use serde::Serialize;
use weir_protocol::info::ServerInfo;
use weir_protocol::time::rfc3339;

use crate::broker::{Broker, InternalMessage, InternalSink};
use crate::sys::clock::SharedClock;

/// The subject that is answered.
pub(super) const SUBJECT: &[u8] = b"$SYS.REQ.USER.INFO";

/// Answers on the asker's own thread: there is nothing to wait for.
pub(super) struct UserInfo {
    broker: Broker,
    clock: SharedClock,
    server: ServerInfo,
}

#[derive(Serialize)]
struct Answer<'a> {
    server: Server<'a>,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Server<'a> {
    name: &'a str,
    host: &'a str,
    id: &'a str,
    ver: &'a str,
    jetstream: bool,
    #[serde(with = "rfc3339")]
    time: i64,
}

#[derive(Serialize)]
struct Data<'a> {
    user: &'a str,
    account: &'a str,
    account_name: &'a str,
}

impl UserInfo {
    pub(super) fn new(broker: Broker, clock: SharedClock, server: ServerInfo) -> Arc<Self> {
        Arc::new(Self { broker, clock, server })
    }
}

impl InternalSink for UserInfo {
    fn push(&self, message: InternalMessage) {
        let Some(from) = message.from.filter(|_| !message.reply.is_empty()) else { return };
        let answer = Answer {
            server: Server {
                name: &self.server.server_name,
                host: &self.server.host,
                id: &self.server.server_id,
                ver: &self.server.version,
                jetstream: self.server.jetstream,
                time: self.clock.wall(),
            },
            data: Data { user: &from.user, account: &from.account, account_name: &from.account },
        };
        match serde_json::to_vec(&answer) {
            Ok(json) => {
                self.broker.publish(&message.reply, &message.reply, b"", b"", &Bytes::from(json));
            }
            Err(error) => tracing::error!(%error, "user info has no JSON form"),
        }
    }
}
