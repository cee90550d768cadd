//! The codec as its users see it: what each input decodes to, however it is cut, and that encoding gives the canonical bytes.

use proptest::prelude::*;
use weir_protocol::decode::{ClientDecoder, ServerDecoder};
use weir_protocol::error::ProtocolError;
use weir_protocol::op::{ClientOp, Message, Publish, ServerOp, Subscribe, Unsubscribe};

fn decoder() -> ClientDecoder {
    let mut decoder = ClientDecoder::new(64, Some(32));
    decoder.set_headers(true);
    decoder
}

/// An operation on its own feet, to be compared after its buffer is gone.
type Op = String;

fn show(op: &ClientOp<'_>) -> Op {
    fn text(bytes: &[u8]) -> String {
        bytes.escape_ascii().to_string()
    }
    match op {
        ClientOp::Connect(json) => format!("CONNECT {}", text(json)),
        ClientOp::Pub(Publish { subject, reply, headers, payload, tail: _ }) => {
            format!("PUB {} <{}> [{}] {:?}", text(subject), text(reply), text(headers), text(payload))
        }
        ClientOp::Sub(Subscribe { subject, queue, sid }) => {
            format!("SUB {} <{}> {}", text(subject), text(queue), text(sid))
        }
        ClientOp::Unsub(Unsubscribe { sid, max }) => format!("UNSUB {} {max:?}", text(sid)),
        ClientOp::Ping => "PING".into(),
        ClientOp::Pong => "PONG".into(),
        ClientOp::Info(json) => format!("INFO {}", text(json)),
        ClientOp::Ok => "+OK".into(),
        ClientOp::Err(error) => format!("-ERR {}", text(error)),
    }
}

/// Feeds `bytes` in pieces that end at `cuts`; the operations up to the first error, the error, and what is left over.
fn feed(
    mut decoder: ClientDecoder,
    bytes: &[u8],
    cuts: &[usize],
) -> (Vec<Op>, Option<ProtocolError>, Vec<u8>) {
    let mut ops = Vec::new();
    let mut unread = Vec::new();
    let mut before = 0;
    for &cut in cuts.iter().chain([&bytes.len()]) {
        unread.extend_from_slice(&bytes[before..cut]);
        before = cut;
        let mut at = 0;
        loop {
            match decoder.decode(&unread[at..]) {
                Ok(Some((op, taken))) => {
                    assert!(taken > 0 && at + taken <= unread.len());
                    ops.push(show(&op));
                    at += taken;
                }
                Ok(None) => break,
                Err(error) => return (ops, Some(error), Vec::new()),
            }
        }
        unread.drain(..at);
    }
    (ops, None, unread)
}

fn client(bytes: &[u8]) -> (Vec<Op>, Option<ProtocolError>) {
    let (ops, error, _) = feed(decoder(), bytes, &[]);
    let every: Vec<usize> = (1..bytes.len()).collect();
    let (ops_bytewise, error_bytewise, _) = feed(decoder(), bytes, &every);
    assert_eq!(ops, ops_bytewise, "byte by byte: {}", bytes.escape_ascii());
    assert_eq!(
        error.as_ref().map(|e| (e.wire_text(), e.closes())),
        error_bytewise.as_ref().map(|e| (e.wire_text(), e.closes())),
        "byte by byte: {}",
        bytes.escape_ascii()
    );
    (ops, error)
}

#[test]
fn what_a_client_may_say() {
    let table: &[(&str, &[&str])] = &[
        ("PING\r\n", &["PING"]),
        ("ping\n", &["PING"]),
        ("PiNg whatever\r\n", &["PING"]),
        ("PONG\r\nPONG\n", &["PONG", "PONG"]),
        ("+OK\r\n+ok done\r\n", &["+OK", "+OK"]),
        ("-ERR 'no'\r\n", &["-ERR \\'no\\'"]),
        ("INFO {\"a\":1}\r\n", &["INFO {\\\"a\\\":1}"]),
        ("INFO{}\r\n", &["INFO {}"]),
        ("CONNECT {}\r\n", &["CONNECT {}"]),
        ("connect \t {}\n", &["CONNECT {}"]),
        ("CONNECT{}\r\n", &["CONNECT {}"]),
        ("CONNECT {} \r\n", &["CONNECT {} "]),
        ("CONNECT\r\n", &["CONNECT "]),
        ("PUB a 5\r\nhello\r\n", &["PUB a <> [] \"hello\""]),
        ("pub a r 5\nhello\r\n", &["PUB a <r> [] \"hello\""]),
        ("PUB \t a\t \tr  5 \t\r\nhello\r\n", &["PUB a <r> [] \"hello\""]),
        ("PUB a 0\r\n\r\n", &["PUB a <> [] \"\""]),
        ("PUB a 000000005\r\nhello\r\n", &["PUB a <> [] \"hello\""]),
        ("PUB a 4\r\n\r\n\r\n\r\n", &["PUB a <> [] \"\\\\r\\\\n\\\\r\\\\n\""]),
        ("PUB a..b 1\r\nx\r\n", &["PUB a..b <> [] \"x\""]),
        ("PUB a.* 1\r\nx\r\n", &["PUB a.* <> [] \"x\""]),
        ("HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", &["PUB a <> [NATS/1.0\\r\\n\\r\\n] \"hi\""]),
        ("hpub\ta r 12 12\r\nNATS/1.0\r\n\r\n\r\n", &["PUB a <r> [NATS/1.0\\r\\n\\r\\n] \"\""]),
        ("HPUB a 0 2\r\nhi\r\n", &["PUB a <> [] \"hi\""]),
        ("SUB a 1\r\n", &["SUB a <> 1"]),
        ("SUB a q 1\r\n", &["SUB a <q> 1"]),
        ("sub \t a.>\t\tq  sid-x \r\n", &["SUB a.> <q> sid-x"]),
        ("SUB a\rq 1\r\r\n", &["SUB a <q> 1"]),
        ("UNSUB 1\r\n", &["UNSUB 1 None"]),
        ("UNSUB 1 5\r\n", &["UNSUB 1 Some(5)"]),
        // nats-server takes what is no positive count for "now".
        (
            "UNSUB 1 0\r\nUNSUB 1 -1\r\nUNSUB 1 x\r\nUNSUB 1 1234567890\r\n",
            &["UNSUB 1 None", "UNSUB 1 None", "UNSUB 1 None", "UNSUB 1 None"],
        ),
        ("", &[]),
        ("PUB a 5\r\nhell", &[]),
        ("PUB a 5\r\nhello\r", &[]),
        ("PI", &[]),
    ];
    for (bytes, expected) in table {
        let (ops, error) = client(bytes.as_bytes());
        assert_eq!(error, None, "{bytes:?}");
        assert_eq!(ops, *expected, "{bytes:?}");
    }
}

#[test]
fn what_ends_a_connection() {
    const UNKNOWN: Option<&str> = Some("Unknown Protocol Operation");
    const LONG: Option<&str> = Some("maximum control line exceeded");
    const LARGE: Option<&str> = Some("Maximum Payload Violation");
    const SILENT: Option<&str> = None;
    let long = "x".repeat(65);
    let fits = "x".repeat(62);
    let table: &[(&str, Option<&str>, Option<&str>)] = &[
        // input, text of -ERR, and its reason unless it is Protocol Violation
        ("X", UNKNOWN, None),
        ("\r\n", UNKNOWN, None),
        ("\n", UNKNOWN, None),
        (" PING\r\n", UNKNOWN, None),
        ("\0", UNKNOWN, None),
        ("GET / HTTP/1.1\r\n", UNKNOWN, None),
        ("MSG a 1 1\r\nx\r\n", UNKNOWN, None),
        ("HMSG a 1 12 12\r\n", UNKNOWN, None),
        ("PUBX", UNKNOWN, None),
        ("PUB\r\n", UNKNOWN, None),
        ("PIN\r\n", UNKNOWN, None),
        ("PUBa 1\r\n", UNKNOWN, None),
        ("SUBS a 1\r\n", UNKNOWN, None),
        ("UNSUB\r\n", UNKNOWN, None),
        ("-ERR\r\n", UNKNOWN, None),
        ("-OK", UNKNOWN, None),
        ("PUB a 5\r\nhelloXX", UNKNOWN, None),
        ("PUB a 5\r\nhello\n", UNKNOWN, None),
        ("PUB a 5\r\nhello\rX", UNKNOWN, None),
        ("PUB a 5\r\nhellohello\r\n", UNKNOWN, None),
        ("PUB a 0\r\nX", UNKNOWN, None),
        ("PUB a 33\r\n", LARGE, Some("Maximum Message Payload Exceeded")),
        ("PUB a 999999999\r\n", LARGE, Some("Maximum Message Payload Exceeded")),
        ("HPUB a 12 33\r\n", LARGE, Some("Maximum Message Payload Exceeded")),
        (&format!("PUB {long}"), LONG, Some("Maximum Control Line Exceeded")),
        (&format!("PUB {long}\r\n"), LONG, Some("Maximum Control Line Exceeded")),
        (&format!("PUB {fits} 1 1\r\n"), LONG, Some("Maximum Control Line Exceeded")),
        (&format!("SUB a {long}\r\n"), LONG, Some("Maximum Control Line Exceeded")),
        (&format!("CONNECT {{\"x\":\"{long}\"}}\r\n"), LONG, Some("Maximum Control Line Exceeded")),
        (&format!("PING {long}\r\n"), LONG, Some("Maximum Control Line Exceeded")),
        ("PUB a\r\n", SILENT, None),
        ("PUB \r\n", SILENT, None),
        ("PUB a b c 1\r\n", SILENT, None),
        ("PUB a x\r\n", SILENT, None),
        ("PUB a -1\r\n", SILENT, None),
        ("PUB a +1\r\n", SILENT, None),
        ("PUB a 1x\r\n", SILENT, None),
        ("PUB a 0x10\r\n", SILENT, None),
        ("PUB a 1234567890\r\n", SILENT, None),
        ("PUB a 0000000001\r\n", SILENT, None),
        ("PUB a 5\r\r\nhello\r\n", SILENT, None),
        ("PUB a 18446744073709551617\r\n", SILENT, None),
        ("HPUB a 12\r\n", SILENT, None),
        ("HPUB a r 12 12 12\r\n", SILENT, None),
        ("HPUB a 13 12\r\n", SILENT, None),
        ("HPUB a x 12\r\n", SILENT, None),
        ("HPUB a 12 x\r\n", SILENT, None),
        ("SUB a\r\n", SILENT, None),
        ("SUB \r\n", SILENT, None),
        ("SUB a b c d\r\n", SILENT, None),
        ("UNSUB \r\n", SILENT, None),
        ("UNSUB 1 2 3\r\n", SILENT, None),
        ("INFO {\r\n", SILENT, None),
        ("INFO\r\n", SILENT, None),
    ];
    for (bytes, text, reason) in table {
        let (ops, error) = client(bytes.as_bytes());
        assert!(ops.is_empty(), "{bytes:?} gave {ops:?}");
        let Some(error) = error else { panic!("{bytes:?} gave no error") };
        assert_eq!(error.wire_text().as_deref(), *text, "{bytes:?}");
        let closed = error.closes().map(|reason| reason.as_str());
        assert_eq!(closed, Some(reason.unwrap_or("Protocol Violation")), "{bytes:?}");
    }
}

#[test]
fn the_control_line_limit_counts_the_arguments() {
    // 64 bytes of arguments pass, 65 do not; blanks in front and the line end do not count.
    let exactly = "x".repeat(62);
    let (ops, error) = client(format!("SUB   \t  {exactly} 1\r\n").as_bytes());
    assert_eq!((ops.len(), error), (1, None));
    let (_, error) = client(format!("SUB x{exactly} 1\r\n").as_bytes());
    assert_eq!(error, Some(ProtocolError::ControlLineTooLong { limit: 64 }));
}

#[test]
fn headers_need_to_be_negotiated() {
    let mut decoder = ClientDecoder::default();
    let error = decoder.decode(b"HPUB a 12 12\r\n").unwrap_err();
    assert_eq!(error, ProtocolError::HeadersNotNegotiated);
    assert_eq!(error.wire_text(), None);
}

#[test]
fn limits_change_between_operations() {
    let mut decoder = ClientDecoder::new(64, Some(1));
    assert!(decoder.decode(b"PUB a 2\r\nxx\r\n").is_err());
    decoder = ClientDecoder::new(64, Some(1));
    decoder.set_max_payload(None);
    assert!(decoder.decode(b"PUB a 2\r\nxx\r\n").unwrap().is_some());
    assert_eq!(decoder.decode(b"PUB a 999999999\r\n"), Ok(None));
    assert_eq!(decoder.needed(), Some(17 + 999_999_999 + 2));
}

#[test]
fn the_length_of_an_operation_is_known_once_its_line_is() {
    let mut decoder = ClientDecoder::default();
    assert_eq!(decoder.decode(b"PUB a 1000"), Ok(None));
    assert_eq!(decoder.needed(), None);
    assert_eq!(decoder.decode(b"PUB a 1000\r\nx"), Ok(None));
    assert_eq!(decoder.needed(), Some(12 + 1000 + 2));
    let mut whole = b"PUB a 1000\r\n".to_vec();
    whole.extend([b'x'; 1000]);
    whole.extend(b"\r\n");
    let (_, taken) = decoder.decode(&whole).unwrap().unwrap();
    assert_eq!(taken, whole.len());
    assert_eq!(decoder.needed(), None);
}

/// The canonical tail is what an encoder would write after `MSG <subject> <sid> `, else there is none.
#[test]
fn the_tail_is_canonical_or_empty() {
    let table: &[(&str, &str)] = &[
        ("PUB a 2\r\nhi\r\n", "2\r\nhi\r\n"),
        ("PUB a r 2\r\nhi\r\n", "r 2\r\nhi\r\n"),
        ("pub a r 02\r\nhi\r\n", "r 02\r\nhi\r\n"),
        ("PUB\ta 2\r\nhi\r\n", "2\r\nhi\r\n"),
        ("PUB a\t2\r\nhi\r\n", ""),
        ("HPUB a r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("HPUB a 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", "12 14\r\nNATS/1.0\r\n\r\nhi\r\n"),
        ("PUB a r\t2\r\nhi\r\n", ""),
        ("HPUB a 12\t14\r\nNATS/1.0\r\n\r\nhi\r\n", ""),
        ("PUB a  2\r\nhi\r\n", ""),
        ("PUB  a 2\r\nhi\r\n", ""),
        ("PUB a 2 \r\nhi\r\n", ""),
        ("PUB a 2\nhi\r\n", ""),
        ("HPUB a 0 2\r\nhi\r\n", ""),
    ];
    for (bytes, tail) in table {
        let mut decoder = decoder();
        let Some((ClientOp::Pub(publish), _)) = decoder.decode(bytes.as_bytes()).unwrap() else {
            panic!("{bytes:?} is no publish")
        };
        assert_eq!(publish.tail, tail.as_bytes(), "{bytes:?}");
    }
}

#[test]
fn what_a_server_may_say() {
    fn message<'a>(
        subject: &'a str,
        sid: &'a str,
        reply: &'a str,
        headers: &'a str,
        payload: &'a str,
    ) -> ServerOp<'a> {
        ServerOp::Msg(Message {
            subject: subject.as_bytes(),
            sid: sid.as_bytes(),
            reply: reply.as_bytes(),
            headers: headers.as_bytes(),
            payload: payload.as_bytes(),
        })
    }
    const EMPTY: &str = "NATS/1.0\r\n\r\n";
    let table: &[(&str, ServerOp<'_>)] = &[
        ("INFO {\"a\":1} \r\n", ServerOp::Info(b"{\"a\":1}")),
        ("MSG a 1 2\r\nhi\r\n", message("a", "1", "", "", "hi")),
        ("MSG a 1 r 2\r\nhi\r\n", message("a", "1", "r", "", "hi")),
        ("HMSG a 1 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", message("a", "1", "", EMPTY, "hi")),
        ("HMSG a 1 r 12 14\r\nNATS/1.0\r\n\r\nhi\r\n", message("a", "1", "r", EMPTY, "hi")),
        ("PING\r\n", ServerOp::Ping),
        ("PONG\r\n", ServerOp::Pong),
        ("+OK\r\n", ServerOp::Ok),
        ("-ERR 'Stale Connection'\r\n", ServerOp::Err(b"Stale Connection")),
        ("-ERR Bare\r\n", ServerOp::Err(b"Bare")),
    ];
    for (bytes, expected) in table {
        let mut decoder = ServerDecoder::new();
        for cut in 0..bytes.len() {
            assert_eq!(decoder.decode(&bytes.as_bytes()[..cut]), Ok(None), "{bytes:?} cut at {cut}");
        }
        assert_eq!(decoder.decode(bytes.as_bytes()), Ok(Some((*expected, bytes.len()))), "{bytes:?}");
    }
    for bytes in [
        "SUB a 1\r\n",
        "MSG a 1\r\n",
        "MSG a 1 2 3 4\r\n",
        "HMSG a 1 2\r\n",
        "HMSG a 1 3 2\r\nxx\r\n",
        "MSG a 1 x\r\n",
        "HTTP",
    ] {
        let mut decoder = ServerDecoder::new();
        assert!(decoder.decode(bytes.as_bytes()).is_err(), "{bytes:?}");
    }
}

/// An operation's bytes in some spelling that a client may choose.
fn spelled() -> impl Strategy<Value = Vec<u8>> {
    let blank = || prop_oneof![4 => Just(" "), 1 => Just("\t"), 1 => Just(" \t ")];
    let end = || prop_oneof![4 => Just("\r\n"), 1 => Just("\n")];
    let subject = || "[a-z>*]{1,4}(\\.[a-z*]{1,3}){0,2}";
    let reply = || proptest::option::of("[a-z]{1,6}");
    let payload = || proptest::collection::vec(prop_oneof![Just(b'\r'), Just(b'\n'), any::<u8>()], 0..20);
    prop_oneof![
        (prop_oneof![Just("PUB"), Just("pub"), Just("Pub")], subject(), reply(), payload(), blank(), end())
            .prop_map(|(verb, subject, reply, payload, blank, end)| {
                let reply = reply.map(|reply| format!("{reply}{blank}")).unwrap_or_default();
                let head = format!("{verb}{blank}{subject}{blank}{reply}{}{end}", payload.len());
                [head.as_bytes(), &payload, b"\r\n"].concat()
            }),
        (subject(), reply(), payload(), blank(), end()).prop_map(|(subject, reply, payload, blank, end)| {
            let reply = reply.map(|reply| format!("{reply}{blank}")).unwrap_or_default();
            let total = payload.len() + 12;
            let head = format!("HPUB{blank}{subject}{blank}{reply}12{blank}{total}{end}");
            [head.as_bytes(), b"NATS/1.0\r\n\r\n", &payload, b"\r\n"].concat()
        }),
        (subject(), reply(), "[0-9]{1,3}", blank(), end()).prop_map(|(subject, queue, sid, blank, end)| {
            let queue = queue.map(|queue| format!("{queue}{blank}")).unwrap_or_default();
            format!("SUB{blank}{subject}{blank}{queue}{sid}{end}").into_bytes()
        }),
        ("[0-9]{1,3}", proptest::option::of(0u32..100), blank(), end()).prop_map(|(sid, max, blank, end)| {
            let max = max.map(|max| format!("{blank}{max}")).unwrap_or_default();
            format!("UNSUB{blank}{sid}{max}{end}").into_bytes()
        }),
        end().prop_map(|end| format!("PING{end}").into_bytes()),
        end().prop_map(|end| format!("+OK{end}").into_bytes()),
        end().prop_map(|end| format!("CONNECT {{}}{end}").into_bytes()),
    ]
}

proptest! {
    #[test]
    fn any_cut_gives_the_same_operations(
        ops in proptest::collection::vec(spelled(), 1..8),
        cuts in proptest::collection::vec(any::<prop::sample::Index>(), 0..12),
        broken in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
    ) {
        let mut bytes = ops.concat();
        if let Some((at, byte)) = broken {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
        cuts.sort_unstable();
        let (whole, error, rest) = feed(decoder(), &bytes, &[]);
        let (cut, error_cut, rest_cut) = feed(decoder(), &bytes, &cuts);
        prop_assert_eq!(&whole, &cut);
        prop_assert_eq!(rest, rest_cut);
        prop_assert_eq!(
            error.as_ref().map(|e| (e.wire_text(), e.closes())),
            error_cut.map(|e| (e.wire_text(), e.closes()))
        );
        if broken.is_none() {
            prop_assert_eq!(error, None);
            prop_assert_eq!(whole.len(), ops.len());
        }
    }

    #[test]
    fn encode_after_decode_is_canonical(ops in proptest::collection::vec(spelled(), 1..8)) {
        for bytes in ops {
            let mut decoder = decoder();
            let (op, taken) = decoder.decode(&bytes).unwrap().unwrap();
            prop_assert_eq!(taken, bytes.len());
            let mut canonical = Vec::new();
            op.encode(&mut canonical);
            let mut again = Vec::new();
            let mut decoder = self::decoder();
            let (op_again, _) = decoder.decode(&canonical).unwrap().unwrap();
            prop_assert_eq!(show(&op), show(&op_again));
            op_again.encode(&mut again);
            prop_assert_eq!(&canonical, &again);
            if let ClientOp::Pub(publish) = op_again {
                // A delivery of the tail equals one of the parts.
                let (mut short, mut long) = (Vec::new(), Vec::new());
                let Publish { subject, reply, headers, payload, tail } = publish;
                prop_assert!(!tail.is_empty());
                weir_protocol::encode::delivery(&mut short, subject, b"12", tail, !headers.is_empty());
                weir_protocol::encode::message(&mut long, &Message { subject, sid: b"12", reply, headers, payload });
                prop_assert_eq!(&short, &long);
                let mut client = ServerDecoder::new();
                let (op, taken) = client.decode(&long).unwrap().unwrap();
                prop_assert_eq!(taken, long.len());
                prop_assert_eq!(op, ServerOp::Msg(Message { subject, sid: b"12", reply, headers, payload }));
            }
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_or_overrun(bytes in proptest::collection::vec(prop_oneof![
        Just(b'\r'), Just(b'\n'), Just(b' '), Just(b'1'), Just(b'P'), Just(b'U'), Just(b'B'), Just(b'H'), any::<u8>()], 0..80)) {
        let _ = client(&bytes);
        let mut decoder = ServerDecoder::new();
        let mut at = 0;
        while let Ok(Some((_, taken))) = decoder.decode(&bytes[at..]) {
            at += taken;
        }
    }
}
