//! The server's own parts as listeners: what catches a stream's subjects, API requests and acknowledgements.
//!
//! An internal subscription lies in the same sublist as those of clients. It is called on the publisher's thread, after the
//! clients were delivered to, and takes every message that matches.

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use super::{Broker, ConnectionInfo};

/// A message for a part of the server.
#[derive(Clone, Debug)]
pub struct InternalMessage {
    /// The subject as receivers see it.
    pub subject: Bytes,
    /// Where an answer goes; empty when none is asked for.
    pub reply: Bytes,
    /// The header block as it came; empty when there is none.
    pub headers: Bytes,
    /// The payload.
    pub payload: Bytes,
    /// The connection that published it; `None` for a message made by the server.
    pub from: Option<Arc<ConnectionInfo>>,
}

/// A part of the server that listens. `push` and `flush` are called on the publisher's thread and must not block.
pub trait InternalSink: Send + Sync {
    /// A message, in the publisher's order. `Bytes` of a client's message are slices of what was read from its socket and
    /// keep that (usually 64 KiB) alive: copy what stays long.
    fn push(&self, message: InternalMessage);
    /// Whether it counts as interest in a subject, as a client's subscription does: a stream that captures it.
    fn is_interest(&self) -> bool {
        false
    }
    /// After the messages of one read chunk of a connection, or after each message made by the server.
    fn flush(&self) {}
}

/// An internal subscription; dropping it ends it.
#[must_use = "an internal subscription ends when it is dropped"]
#[derive(Debug)]
pub struct InternalSub {
    pub(super) broker: Broker,
    pub(super) id: u64,
    pub(super) filter: Box<[u8]>,
}

pub(super) struct InternalSubscription {
    pub(super) sink: Arc<dyn InternalSink>,
}

impl InternalSub {
    /// Ends the subscription.
    pub fn unsubscribe(self) {
        drop(self);
    }
}

impl Drop for InternalSub {
    fn drop(&mut self) {
        self.broker.take_out(&self.filter, None, self.id);
    }
}

impl fmt::Debug for InternalSubscription {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InternalSubscription").finish_non_exhaustive()
    }
}

impl fmt::Debug for dyn InternalSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InternalSink")
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::super::tests::{broker, say};
    use super::*;

    /// Keeps what it is sent.
    #[derive(Default)]
    pub(crate) struct Recorder {
        pub(crate) messages: Mutex<Vec<InternalMessage>>,
        flushes: AtomicUsize,
    }

    impl InternalSink for Recorder {
        fn push(&self, message: InternalMessage) {
            self.messages.lock().unwrap().push(message);
        }

        fn flush(&self) {
            self.flushes.fetch_add(1, Ordering::SeqCst);
        }
    }

    #[test]
    fn internal_subscribers_take_messages_but_are_no_interest() {
        let broker = broker();
        let sink = Arc::new(Recorder::default());
        let sub = broker.subscribe_internal(b"$JS.API.>", sink.clone());
        assert!(!broker.has_interest(b"$JS.API.INFO"));
        assert!(broker.is_served(b"$JS.API.INFO") && !broker.is_served(b"$JS.API"));
        assert!(say(&broker, "$JS.API.INFO", "x"));
        assert_eq!(sink.flushes.load(Ordering::SeqCst), 1);
        let message = sink.messages.lock().unwrap().pop().unwrap();
        assert_eq!((&*message.subject, &*message.payload), (&b"$JS.API.INFO"[..], &b"x"[..]));
        assert_eq!(message.from, None);
        sub.unsubscribe();
        assert!(!say(&broker, "$JS.API.INFO", "x"));
    }

    #[test]
    fn a_sink_may_publish_from_within_push() {
        struct Echo(Broker);
        impl InternalSink for Echo {
            fn push(&self, message: InternalMessage) {
                self.0.publish(&message.reply, &message.reply, b"", b"", &message.payload);
            }
        }
        let broker = broker();
        let _echo = broker.subscribe_internal(b"echo", Arc::new(Echo(broker.clone())));
        let answers = Arc::new(Recorder::default());
        let _answers = broker.subscribe_internal(b"answers", answers.clone());
        assert!(broker.publish(b"echo", b"echo", b"answers", b"", &Bytes::from_static(b"x")));
        assert_eq!(answers.messages.lock().unwrap().len(), 1);
    }
}
