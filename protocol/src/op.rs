//! The operations of the protocol: one value for each thing a client or a server may say.
//!
//! They borrow from the buffer they were decoded from: no memory is taken per operation. A part that must outlive the
//! buffer is taken out with [`bytes::Bytes::slice_ref`], which copies nothing. Subjects are raw: whether a subject is valid is the
//! receiver's business, because the answer depends on the connection (`pedantic`).

/// What a client says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClientOp<'a> {
    /// `CONNECT {json}`: the JSON, to be read by [`crate::connect::ConnectOptions`].
    Connect(&'a [u8]),
    /// `PUB` and `HPUB`.
    Pub(Publish<'a>),
    /// `SUB`.
    Sub(Subscribe<'a>),
    /// `UNSUB`.
    Unsub(Unsubscribe<'a>),
    /// `PING`, to be answered with `PONG`.
    Ping,
    /// `PONG`.
    Pong,
    /// `INFO {json}`, which a server accepts from anybody and ignores.
    Info(&'a [u8]),
    /// `+OK`, accepted and ignored.
    Ok,
    /// `-ERR text`: the client gives up; the text as sent, with its quotes.
    Err(&'a [u8]),
}

/// A `PUB`, or an `HPUB` when `headers` is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Publish<'a> {
    /// As sent; not validated.
    pub subject: &'a [u8],
    /// Empty when there is none.
    pub reply: &'a [u8],
    /// The header block; empty when there is none.
    pub headers: &'a [u8],
    /// Without the headers.
    pub payload: &'a [u8],
    /// From the reply, or the first size, to the end of the operation: exactly what follows `MSG <subject> <sid> ` (or
    /// `HMSG` if there are headers) in a delivery. Empty when the client's spacing or line end is not the canonical one;
    /// then a delivery is encoded from the parts.
    pub tail: &'a [u8],
}

/// A `SUB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Subscribe<'a> {
    /// As sent; not validated.
    pub subject: &'a [u8],
    /// The queue group; empty when there is none.
    pub queue: &'a [u8],
    /// Chosen by the client, opaque.
    pub sid: &'a [u8],
}

/// An `UNSUB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    /// The subscription meant.
    pub sid: &'a [u8],
    /// Ends after so many deliveries since SUB; `None`: now. A count of 0 or one that is no number means now, as in nats-server.
    pub max: Option<u64>,
}

/// What a server says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ServerOp<'a> {
    /// `INFO {json}`: the JSON, a [`crate::info::ServerInfo`].
    Info(&'a [u8]),
    /// `MSG` and `HMSG`.
    Msg(Message<'a>),
    /// `PING`, to be answered with `PONG`.
    Ping,
    /// `PONG`.
    Pong,
    /// `+OK`, sent to verbose clients.
    Ok,
    /// `-ERR 'text'`: the text between the quotes.
    Err(&'a [u8]),
}

/// A `MSG`, or an `HMSG` when `headers` is not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Message<'a> {
    /// The message's subject.
    pub subject: &'a [u8],
    /// The receiver's subscription.
    pub sid: &'a [u8],
    /// Empty when there is none.
    pub reply: &'a [u8],
    /// The header block; empty when there is none.
    pub headers: &'a [u8],
    /// Without the headers.
    pub payload: &'a [u8],
}
