//! Acknowledgements: the subject a delivered message is answered on, and what the answer says.
//!
//! `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>` carries everything a client
//! wants to know about a message; the longer form puts domain and account hash after `ACK`. Deliberately absent: what
//! an acknowledgement does.
#![deny(clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use bytes::BufMut;

use super::json::decode_lenient;
use crate::duration;
use crate::encode::decimal;
use crate::json_struct;
use crate::subject::tokens;

/// How every ack subject begins.
pub const PREFIX: &[u8] = b"$JS.ACK.";

/// What an ack subject says about a delivered message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AckSubject<'a> {
    /// The stream.
    pub stream: &'a [u8],
    /// The consumer.
    pub consumer: &'a [u8],
    /// How often the message was delivered, this delivery included; 0 when it was no number.
    pub deliveries: u64,
    /// Its sequence in the stream; 0 when it was no number.
    pub stream_seq: u64,
    /// The sequence of this delivery; 0 when it was no number.
    pub consumer_seq: u64,
    /// When the message was stored, in nanoseconds since 1970; 0 when it was no number.
    pub time: i64,
    /// How many messages were left to deliver after it.
    pub pending: u64,
}

impl<'a> AckSubject<'a> {
    /// Reads an ack subject of nine tokens, or of eleven and more (with domain and account hash).
    #[must_use]
    pub fn parse(subject: &'a [u8]) -> Option<Self> {
        let count = tokens(subject).count();
        let mut tokens = tokens(subject);
        if tokens.next()? != b"$JS" || tokens.next()? != b"ACK" {
            return None;
        }
        match count {
            9 => {}
            11.. => {
                tokens.next()?;
                tokens.next()?;
            }
            _ => return None,
        }
        Some(Self {
            stream: tokens.next()?,
            consumer: tokens.next()?,
            deliveries: number(tokens.next()?),
            stream_seq: number(tokens.next()?),
            consumer_seq: number(tokens.next()?),
            time: i64::try_from(number(tokens.next()?)).unwrap_or(0),
            pending: number(tokens.next()?),
        })
    }

    /// Appends the subject in its short form.
    pub fn write(&self, out: &mut impl BufMut) {
        out.put_slice(PREFIX);
        out.put_slice(self.stream);
        out.put_u8(b'.');
        out.put_slice(self.consumer);
        write_numbers(out, self.deliveries, self.stream_seq, self.consumer_seq, self.time, self.pending);
    }
}

/// Appends the five numbers of an ack subject, each after a dot, to its fixed beginning.
pub fn write_numbers(
    out: &mut impl BufMut,
    deliveries: u64,
    stream_seq: u64,
    consumer_seq: u64,
    time: i64,
    pending: u64,
) {
    for value in [deliveries, stream_seq, consumer_seq, u64::try_from(time).unwrap_or(0), pending] {
        out.put_u8(b'.');
        decimal(out, value);
    }
}

/// A number of digits alone; 0 for anything else or what is too large.
fn number(token: &[u8]) -> u64 {
    let mut value = 0u64;
    for byte in token {
        let Some(digit) = byte.checked_sub(b'0').filter(|digit| *digit < 10) else { return 0 };
        let Some(next) = value.checked_mul(10).and_then(|value| value.checked_add(u64::from(digit))) else {
            return 0;
        };
        value = next;
    }
    value
}

/// What the body of an acknowledgement asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ack<'a> {
    /// Done (`+ACK`, `+OK` or nothing).
    Ack,
    /// Deliver again (`-NAK`), at once or after that many nanoseconds.
    Nak(Option<i64>),
    /// Still at work (`+WPI`).
    InProgress,
    /// Done, and this pull request (`+NXT`).
    Next(&'a [u8]),
    /// Never deliver again (`+TERM`), for this reason.
    Term(&'a str),
}

json_struct! {
    /// What may follow `-NAK`.
    struct NakOptions as "ConsumerNakOptions" {
        /// Nanoseconds until the next delivery.
        pub delay: i64 => {"delay" ("time.Duration")},
    }
}

impl<'a> Ack<'a> {
    /// Reads the body of an acknowledgement; `None` for what is none.
    #[must_use]
    pub fn parse(body: &'a [u8]) -> Option<Self> {
        if body.is_empty() || body == b"+ACK" || body == b"+OK" {
            return Some(Self::Ack);
        }
        if body == b"+WPI" {
            return Some(Self::InProgress);
        }
        if let Some(request) = body.strip_prefix(b"+NXT") {
            return Some(Self::Next(request));
        }
        if let Some(options) = body.strip_prefix(b"-NAK") {
            return Some(Self::Nak(delay(options.trim_ascii())));
        }
        if let Some(reason) = body.strip_prefix(b"+TERM") {
            return Some(Self::Term(std::str::from_utf8(reason.trim_ascii()).unwrap_or("")));
        }
        None
    }
}

/// The delay asked for; what cannot be read is no delay.
fn delay(options: &[u8]) -> Option<i64> {
    match options.first()? {
        b'{' => decode_lenient::<NakOptions>(options).ok().map(|options| options.delay),
        _ => duration::parse_nanos(std::str::from_utf8(options).ok()?).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_subject_are_read() {
        let short = b"$JS.ACK.S.C.3.12.20.1700000000000000001.7";
        let parsed = AckSubject {
            stream: b"S",
            consumer: b"C",
            deliveries: 3,
            stream_seq: 12,
            consumer_seq: 20,
            time: 1_700_000_000_000_000_001,
            pending: 7,
        };
        assert_eq!(AckSubject::parse(short), Some(parsed));
        assert_eq!(AckSubject::parse(b"$JS.ACK._.hash.S.C.3.12.20.1700000000000000001.7"), Some(parsed));
        assert_eq!(
            AckSubject::parse(b"$JS.ACK._.hash.S.C.3.12.20.1700000000000000001.7.more.to.come"),
            Some(parsed)
        );
        let mut written = Vec::new();
        parsed.write(&mut written);
        assert_eq!(written, short);
    }

    #[test]
    fn what_is_no_ack_subject_is_refused() {
        for subject in
            ["", "$JS.ACK", "$JS.ACK.S.C.1.2.3.4", "$JS.ACK.a.b.c.d.e.f.g.h", "$JS.NAK.S.C.1.2.3.4.5"]
        {
            assert_eq!(AckSubject::parse(subject.as_bytes()), None, "{subject}");
        }
        let odd = AckSubject::parse(b"$JS.ACK.S.C.x.99999999999999999999.-1.4.5").expect("nine tokens");
        assert_eq!((odd.deliveries, odd.stream_seq, odd.consumer_seq), (0, 0, 0));
    }

    #[test]
    fn bodies() {
        for (body, ack) in [
            ("", Some(Ack::Ack)),
            ("+ACK", Some(Ack::Ack)),
            ("+OK", Some(Ack::Ack)),
            ("+WPI", Some(Ack::InProgress)),
            ("-NAK", Some(Ack::Nak(None))),
            (r#"-NAK {"delay": 5000}"#, Some(Ack::Nak(Some(5000)))),
            ("-NAK 1.5s", Some(Ack::Nak(Some(1_500_000_000)))),
            ("-NAK soon", Some(Ack::Nak(None))),
            (r#"-NAK {"delay": "x"}"#, Some(Ack::Nak(None))),
            ("+NXT", Some(Ack::Next(b""))),
            ("+NXT 10", Some(Ack::Next(b" 10"))),
            ("+TERM", Some(Ack::Term(""))),
            ("+TERM  bad order ", Some(Ack::Term("bad order"))),
            ("+ack", None),
            ("hello", None),
        ] {
            assert_eq!(Ack::parse(body.as_bytes()), ack, "{body}");
        }
    }
}
