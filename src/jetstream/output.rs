//! What the engine says: messages to be sent now, and messages held until everything staged before them is durable.
//!
//! Held are answers: publish acknowledgements, API responses, answers to double acks, advisories, and rejections too,
//! because "wrong last sequence" may rest on a message that is not yet durable. Sent now are deliveries of records at
//! or below a stream's durable sequence, status messages and heartbeats. Within each kind the order is kept.

use bytes::{BufMut, Bytes, BytesMut};

use weir_protocol::jetstream::api::ApiResponse;
use weir_protocol::jetstream::publish::PubAck;
use weir_protocol::jetstream::{error, json};

use super::input::Tag;

/// A message made by the server.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Message {
    /// Who gets it: the subject that routing matches.
    pub to: Bytes,
    /// The subject that receivers see; equal to `to` unless a stored message goes to an inbox.
    pub subject: Bytes,
    /// Where receivers may answer, or empty.
    pub reply: Bytes,
    /// Header block, or empty.
    pub headers: Bytes,
    /// Payload.
    pub payload: Bytes,
}

/// What a held message becomes when what it rests on could not be made durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nothing is said; the client asks again.
    Silent,
    /// The acknowledgement of a publish into this stream: error 10077.
    Publish(Bytes),
    /// An API response of this type (`stream_create_response`, ...): error 10077.
    Api(&'static str),
    /// The answer to a direct get: status 500.
    Status,
}

/// A message that waits until everything staged before it is durable.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Held {
    /// The message.
    pub message: Message,
    /// What it becomes on failure.
    pub failure: Failure,
}

impl Held {
    /// What is sent instead when the store failed because of `why`.
    #[must_use]
    pub fn failed(self, why: &str) -> Option<Message> {
        let error = error::STREAM_STORE_FAILED.with(why);
        let text = match self.failure {
            Failure::Silent => return None,
            Failure::Publish(stream) => {
                let stream = String::from_utf8_lossy(&stream).into_owned();
                json::encode(&PubAck { error: Some(error), stream, ..PubAck::default() })
            }
            Failure::Api(name) => json::encode(&ApiResponse::failed(name, error)),
            Failure::Status => {
                let headers = format!("NATS/1.0 500 {error}\r\n\r\n").into();
                return Some(Message { payload: Bytes::new(), headers, ..self.message });
            }
        };
        Some(Message { payload: text.into(), headers: Bytes::new(), ..self.message })
    }
}

/// A change to what the engine is subscribed to, or watches.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SubscriptionChange {
    /// Messages on subjects that match come in with this tag.
    Subscribe {
        /// Filter of the subjects.
        filter: Bytes,
        /// What comes in with each message.
        tag: Tag,
    },
    /// The end of a subscription.
    Unsubscribe {
        /// Filter of the subscription.
        filter: Bytes,
        /// Tag of the subscription.
        tag: Tag,
    },
    /// Changes of the interest in this very subject come in with this tag.
    Watch {
        /// Subject.
        subject: Bytes,
        /// What comes in with each change.
        tag: Tag,
    },
    /// The end of a watch.
    Unwatch {
        /// Tag of the watch.
        tag: Tag,
    },
}

impl Message {
    /// Bytes it takes while it waits.
    fn weight(&self) -> usize {
        let Self { to, subject, reply, headers, payload } = self;
        MESSAGE_BYTES + to.len() + subject.len() + reply.len() + headers.len() + payload.len()
    }
}

/// From so many messages on they are to be let out.
const MESSAGES_MAX: usize = 4_096;
/// From so many bytes on they are to be let out.
const BYTES_MAX: usize = 8 << 20;
/// What a waiting message takes besides its own bytes.
const MESSAGE_BYTES: usize = 128;

/// What one run of the engine made.
#[derive(Debug, Default)]
pub struct Outputs {
    now: Vec<Message>,
    held: Vec<Held>,
    /// Weight of what is to be sent now.
    now_bytes: usize,
    /// Weight of what is held.
    held_bytes: usize,
    subscription_changes: Vec<SubscriptionChange>,
    arena: BytesMut,
}

impl Outputs {
    /// Sends a message at once.
    pub fn now(&mut self, to: Bytes, subject: Bytes, reply: Bytes, headers: Bytes, payload: Bytes) {
        self.push_now(Message { to, subject, reply, headers, payload });
    }

    fn push_now(&mut self, message: Message) {
        self.now_bytes += message.weight();
        self.now.push(message);
    }

    fn push_held(&mut self, held: Held) {
        self.held_bytes += held.message.weight();
        self.held.push(held);
    }

    /// Sends a status message (`NATS/1.0 404 No Messages`, ...) at once; `headers` is the whole block.
    pub fn status(&mut self, to: Bytes, headers: Bytes) {
        self.push_now(Message { subject: to.clone(), to, headers, ..Message::default() });
    }

    /// Answers once everything staged so far is durable. Without a `to` there is nobody to answer.
    pub fn held(&mut self, to: Bytes, headers: Bytes, payload: Bytes) {
        self.held_or(to, headers, payload, Failure::Silent);
    }

    /// As [`Self::held`], with something to say when the store fails.
    pub fn held_or(&mut self, to: Bytes, headers: Bytes, payload: Bytes, failure: Failure) {
        if !to.is_empty() {
            let message = Message { subject: to.clone(), to, reply: Bytes::new(), headers, payload };
            self.push_held(Held { message, failure });
        }
    }

    /// Sends a whole message once everything staged so far is durable.
    pub fn held_message(&mut self, message: Message) {
        self.push_held(Held { message, failure: Failure::Silent });
    }

    /// Subscribes, watches, or ends that; done before anything held of the same run is answered.
    pub fn change_subscription(&mut self, change: SubscriptionChange) {
        self.subscription_changes.push(change);
    }

    /// Bytes written by `write`, without an allocation of their own.
    pub fn bytes(&mut self, write: impl FnOnce(&mut BytesMut)) -> Bytes {
        if self.arena.capacity() < 512 {
            self.arena.reserve(16 * 1024);
        }
        write(&mut self.arena);
        self.arena.split().freeze()
    }

    /// A copy of `bytes`, without an allocation of its own.
    pub fn copy(&mut self, bytes: &[u8]) -> Bytes {
        if bytes.is_empty() { Bytes::new() } else { self.bytes(|out| out.put_slice(bytes)) }
    }

    /// Whether so much waits that it is to be let out before more is made.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.now.len() + self.held.len() >= MESSAGES_MAX || self.now_bytes + self.held_bytes >= BYTES_MAX
    }

    /// Bytes that what is held takes.
    #[must_use]
    pub fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Whether there is nothing to send.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.now.is_empty() && self.held.is_empty() && self.subscription_changes.is_empty()
    }

    /// Takes what is to be sent now.
    pub fn take_now(&mut self) -> Vec<Message> {
        self.now_bytes = 0;
        std::mem::take(&mut self.now)
    }

    /// Takes the changes of subscriptions and watches, in order.
    pub fn take_subscription_changes(&mut self) -> Vec<SubscriptionChange> {
        std::mem::take(&mut self.subscription_changes)
    }

    /// Takes what is held.
    pub fn take_held(&mut self) -> Vec<Held> {
        self.held_bytes = 0;
        std::mem::take(&mut self.held)
    }
}
