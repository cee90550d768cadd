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

impl Tag {
    /// The tag as a number, for those who carry it.
    #[must_use]
    pub const fn to_bits(self) -> u64 {
        let (kind, id) = match self {
            Self::Api => (0u64, 0),
            Self::Stream(id) => (1, id as u64),
            Self::DirectGet(id) => (2, id as u64),
            Self::DirectGetSubject(id) => (3, id as u64),
            Self::Pull(id) => (4, id),
            Self::Ack(id) => (5, id),
            Self::Flow(id) => (6, id),
            Self::Reset(id) => (7, id),
            Self::Interest(id) => (8, id),
        };
        kind << 56 | id & (u64::MAX >> 8)
    }

    /// The tag of a number that [`Self::to_bits`] made.
    #[must_use]
    pub fn from_bits(bits: u64) -> Option<Self> {
        let id = bits & (u64::MAX >> 8);
        let stream = u32::try_from(id).ok();
        Some(match bits >> 56 {
            0 => Self::Api,
            1 => Self::Stream(stream?),
            2 => Self::DirectGet(stream?),
            3 => Self::DirectGetSubject(stream?),
            4 => Self::Pull(id),
            5 => Self::Ack(id),
            6 => Self::Flow(id),
            7 => Self::Reset(id),
            8 => Self::Interest(id),
            _ => return None,
        })
    }
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
