//! What the engine hears: messages on the subjects it subscribed, and changes of interest it watches.

use bytes::Bytes;

/// Why a message comes in: what the subscription that took it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Tag {
    /// The API.
    Api,
    /// The subjects that a stream captures.
    Stream(u32),
    /// Direct gets from a stream, with a request in the body.
    DirectGet(u32),
    /// Direct gets from a stream, with the subject of the message at the end of the subject.
    DirectGetSubject(u32),
    /// Pull requests to a consumer.
    Pull(u64),
    /// Acknowledgements to a consumer.
    Ack(u64),
    /// Flow control answers to a consumer.
    Flow(u64),
    /// Resets of a consumer.
    Reset(u64),
    /// Interest in a consumer's deliver subject.
    Interest(u64),
}

/// What happened outside.
#[derive(Clone, Debug)]
pub enum Input {
    /// A message on a subject that was subscribed.
    Message {
        /// Tag of the subscription.
        tag: Tag,
        /// Subject.
        subject: Bytes,
        /// Where the sender waits for an answer, or empty.
        reply: Bytes,
        /// Header block, or empty.
        headers: Bytes,
        /// Payload.
        payload: Bytes,
    },
    /// Interest in a watched subject appeared or went.
    InterestChanged {
        /// Tag of the watch.
        tag: Tag,
    },
}
