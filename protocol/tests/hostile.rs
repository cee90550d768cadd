//! What somebody who means harm, or another protocol, may send to a server's port.
//!
//! Each input of the table has the end it must come to. Then every input is cut, shortened and bent in each byte: no panic,
//! the same outcome however it is cut, and never a demand for more memory than the limits allow.

use weir_protocol::connect::ConnectOptions;
use weir_protocol::decode::{ClientDecoder, MAX_CONTROL_LINE, MAX_PAYLOAD, ServerDecoder};
use weir_protocol::op::ClientOp;
use weir_protocol::subject;

/// How an input ends.
#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    /// So many operations, and this many bytes that wait for more.
    Open { ops: usize, waiting: usize },
    /// Closed with this `-ERR`.
    Said(&'static str),
    /// Closed without a word.
    Silent,
}

const UNKNOWN: End = End::Said("Unknown Protocol Operation");
const LONG: End = End::Said("maximum control line exceeded");
const LARGE: End = End::Said("Maximum Payload Violation");

fn corpus() -> Vec<(&'static str, Vec<u8>, End)> {
    let nothing = || vec![b'x'; MAX_CONTROL_LINE + 1];
    let open = |ops, waiting| End::Open { ops, waiting };
    let line = |head: &str, filler: u8, count: usize, tail: &str| {
        [head.as_bytes(), &vec![filler; count], tail.as_bytes()].concat()
    };
    vec![
        // Other protocols.
        ("HTTP", b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), UNKNOWN),
        ("HTTP POST that begins like PUB", b"POST / HTTP/1.1\r\n".to_vec(), UNKNOWN),
        ("HTTP CONNECT", b"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n".to_vec(), End::Silent),
        ("TLS hello", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03".to_vec(), UNKNOWN),
        ("SSH", b"SSH-2.0-OpenSSH_9.6\r\n".to_vec(), UNKNOWN),
        ("MQTT", b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04test".to_vec(), UNKNOWN),
        ("PROXY", b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n".to_vec(), UNKNOWN),
        ("Redis", b"*1\r\n$4\r\nPING\r\n".to_vec(), UNKNOWN),
        ("UTF-16", b"\xff\xfeP\0I\0N\0G\0\r\0\n\0".to_vec(), UNKNOWN),
        ("byte order mark", b"\xef\xbb\xbfPING\r\n".to_vec(), UNKNOWN),
        ("a route", b"RS+ $G foo\r\n".to_vec(), UNKNOWN),
        ("a route's message", b"RMSG $G foo 5\r\nhello\r\n".to_vec(), UNKNOWN),
        ("a leaf node", b"LS+ foo\r\n".to_vec(), UNKNOWN),
        ("an account", b"A+ acc\r\n".to_vec(), UNKNOWN),
        // Verbs.
        ("zeros", vec![0; 64], UNKNOWN),
        ("line ends", b"\r\n\r\n\r\n".to_vec(), UNKNOWN),
        ("no verb", b" \t PUB a 1\r\nx\r\n".to_vec(), UNKNOWN),
        ("verbs run together", b"PINGPONG\r\n".to_vec(), open(1, 0)),
        ("half a verb and a line end", b"PU\r\n".to_vec(), UNKNOWN),
        ("NUL in a verb", b"PU\0B a 1\r\nx\r\n".to_vec(), UNKNOWN),
        ("a letter that folds to ASCII", "PING\u{17f}UB a 1\r\n".as_bytes().to_vec(), open(1, 0)),
        ("a long s for the s of SUB", "\u{17f}UB a 1\r\n".as_bytes().to_vec(), UNKNOWN),
        // Control lines without end.
        ("a verb without end", line("PUB ", b'x', MAX_CONTROL_LINE + 1, ""), LONG),
        (
            "the longest verb that may go on",
            line("PUB ", b'x', MAX_CONTROL_LINE, ""),
            open(0, 4 + MAX_CONTROL_LINE),
        ),
        ("blanks without end", line("PUB ", b' ', MAX_CONTROL_LINE + 1, ""), LONG),
        ("tabs without end", line("PING", b'\t', MAX_CONTROL_LINE + 1, ""), LONG),
        ("PING without end", line("PING", b'x', MAX_CONTROL_LINE + 1, ""), LONG),
        ("a subscription without end", line("SUB ", b'.', MAX_CONTROL_LINE + 1, " 1\r\n"), LONG),
        ("CONNECT without end", line("CONNECT {\"name\":\"", b'n', MAX_CONTROL_LINE, ""), LONG),
        ("-ERR without end", line("-ERR ", b'e', MAX_CONTROL_LINE + 1, ""), LONG),
        ("CR without LF", line("PING", b'\r', MAX_CONTROL_LINE + 2, ""), LONG),
        ("rubbish without end", nothing(), UNKNOWN),
        // Sizes.
        ("no size", b"PUB a \r\n\r\n".to_vec(), End::Silent),
        ("negative", b"PUB a -1\r\n".to_vec(), End::Silent),
        ("plus", b"PUB a +1\r\nx\r\n".to_vec(), End::Silent),
        ("wraps 32 bits", b"PUB a 4294967297\r\nx\r\n".to_vec(), End::Silent),
        ("wraps 64 bits", b"PUB a 18446744073709551617\r\nx\r\n".to_vec(), End::Silent),
        ("nine digits", b"PUB a 999999999\r\n".to_vec(), LARGE),
        ("one more than the limit", format!("PUB a {}\r\n", MAX_PAYLOAD + 1).into_bytes(), LARGE),
        ("exactly the limit", format!("PUB a {MAX_PAYLOAD}\r\n").into_bytes(), open(0, 15)),
        ("hexadecimal", b"PUB a 0x1\r\nx\r\n".to_vec(), End::Silent),
        ("Arabic digits", "PUB a \u{661}\r\nx\r\n".as_bytes().to_vec(), End::Silent),
        ("superscript", "PUB a \u{b9}\r\nx\r\n".as_bytes().to_vec(), End::Silent),
        ("decimal point", b"PUB a 1.0\r\nx\r\n".to_vec(), End::Silent),
        ("exponent", b"PUB a 1e3\r\nx\r\n".to_vec(), End::Silent),
        ("headers longer than all", b"HPUB a 13 12\r\nNATS/1.0\r\n\r\n\r\n".to_vec(), End::Silent),
        ("headers beyond the limit", format!("HPUB a 12 {}\r\n", MAX_PAYLOAD + 1).into_bytes(), LARGE),
        ("header size wraps", b"HPUB a 4294967308 12\r\nNATS/1.0\r\n\r\n\r\n".to_vec(), End::Silent),
        // Payloads.
        ("shorter than said", b"PUB a 10\r\nhello\r\nPUB a 1\r\nx\r\n".to_vec(), UNKNOWN),
        ("longer than said", b"PUB a 2\r\nhello\r\n".to_vec(), UNKNOWN),
        ("LF alone behind it", b"PUB a 5\r\nhello\nPING\r\n".to_vec(), UNKNOWN),
        ("an operation inside", b"PUB a 6\r\nPING\r\n\r\n".to_vec(), open(1, 0)),
        ("a payload of line ends", b"PUB a 4\r\n\r\n\r\n\r\nPING\r\n".to_vec(), open(2, 0)),
        ("headers that are none", b"HPUB a 5 5\r\nhello\r\n".to_vec(), open(1, 0)),
        ("waits for ever", b"PUB a 5\r\nhel".to_vec(), open(0, 12)),
        // Subjects are the receiver's to judge; the decoder hands them over.
        ("empty tokens", b"PUB ..a.. 1\r\nx\r\nSUB .. 1\r\n".to_vec(), open(2, 0)),
        ("bytes that are no UTF-8", b"PUB \xff\xfe.\x80 1\r\nx\r\nSUB \xc0\xaf 1\r\n".to_vec(), open(2, 0)),
        ("control characters", b"PUB a\x00\x1b[2Jb 1\r\nx\r\n".to_vec(), open(1, 0)),
        ("a form feed in a subject", b"SUB a\x0cb 1\r\n".to_vec(), open(1, 0)),
        ("a line separator is no line end", "SUB a\u{2028}b 1\r\n".as_bytes().to_vec(), open(1, 0)),
        ("a no-break space is no blank", "SUB a\u{a0}1\r\n".as_bytes().to_vec(), End::Silent),
        ("vertical tab is no blank", b"SUB a\x0b1\r\n".to_vec(), End::Silent),
        // JSON.
        ("INFO that is none", b"INFO nonsense\r\n".to_vec(), End::Silent),
        ("INFO nested deep", line("INFO ", b'[', 4000, "\r\n"), End::Silent),
        ("CONNECT is read by whoever owns the options", line("CONNECT ", b'[', 4000, "\r\n"), End::Silent),
        ("CONNECT nested deep in an unknown field", line("CONNECT {\"x\":", b'{', 4000, "\r\n"), End::Silent),
        ("CONNECT twice", b"CONNECT {}\r\nCONNECT {}\r\n".to_vec(), open(2, 0)),
        ("a client's error", b"-ERR 'boo'\r\n".to_vec(), open(1, 0)),
    ]
}

/// Decodes in pieces that end at `cuts`, as a server does.
fn run(bytes: &[u8], cuts: &[usize]) -> End {
    let mut decoder = ClientDecoder::default();
    decoder.set_headers(true);
    let mut options = ConnectOptions::default();
    let (mut ops, mut at) = (0, 0);
    for &cut in cuts.iter().chain([&bytes.len()]) {
        loop {
            match decoder.decode(&bytes[at..cut]) {
                Ok(Some((op, taken))) => {
                    assert!(taken > 0 && at + taken <= cut);
                    at += taken;
                    ops += 1;
                    match op {
                        ClientOp::Connect(json) if options.merge_json(json).is_err() => return End::Silent,
                        ClientOp::Pub(publish) => {
                            let _ = subject::is_valid_subject(publish.subject);
                            let _ = subject::matches(publish.subject, b"a.*.>");
                            let _ = weir_protocol::header::Headers::parse(&publish.headers.to_vec().into());
                        }
                        ClientOp::Sub(subscribe) => {
                            let _ = subject::is_valid_filter(subscribe.subject);
                        }
                        ClientOp::Connect(_)
                        | ClientOp::Unsub(_)
                        | ClientOp::Ping
                        | ClientOp::Pong
                        | ClientOp::Info(_)
                        | ClientOp::Ok
                        | ClientOp::Err(_) => {}
                    }
                }
                Ok(None) => {
                    let needed = decoder.needed().unwrap_or_default();
                    assert!(
                        needed > 0 || cut - at <= 2 * MAX_CONTROL_LINE + 16,
                        "{} bytes are kept",
                        cut - at
                    );
                    assert!(
                        needed <= MAX_PAYLOAD + 2 * MAX_CONTROL_LINE + 16,
                        "{needed} bytes are asked for"
                    );
                    break;
                }
                Err(error) => {
                    assert!(error.closes().is_some(), "{error}");
                    assert!(error.to_string().len() < 1024, "the log line is short");
                    return match error.wire_text() {
                        Some(text) => {
                            let known = [
                                "Unknown Protocol Operation",
                                "maximum control line exceeded",
                                "Maximum Payload Violation",
                            ];
                            End::Said(known.into_iter().find(|known| *known == text).expect("a known text"))
                        }
                        None => End::Silent,
                    };
                }
            }
        }
    }
    End::Open { ops, waiting: bytes.len() - at }
}

#[test]
fn every_input_comes_to_its_end() {
    for (name, bytes, end) in corpus() {
        assert_eq!(run(&bytes, &[]), end, "{name}");
    }
}

#[test]
fn however_it_is_cut() {
    for (name, bytes, end) in corpus() {
        let every: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(run(&bytes, &every), end, "{name}, byte by byte");
        let near = (1..bytes.len().min(128)).chain(bytes.len().saturating_sub(16).max(1)..bytes.len());
        for cut in near {
            assert_eq!(run(&bytes, &[cut]), end, "{name}, cut at {cut}");
        }
    }
}

/// Each byte of each input is replaced by each of those that mean something, and by some that do not.
#[test]
fn however_it_is_bent() {
    let meaningful = b"\r\n \t\0\xff019-+{}[]\"'.*>PUSCHINMGOKE";
    for (name, bytes, _) in corpus() {
        if bytes.len() > 128 {
            continue;
        }
        for at in 0..bytes.len() {
            for &byte in meaningful {
                let mut bent = bytes.clone();
                bent[at] = byte;
                let every: Vec<usize> = (1..bent.len()).collect();
                assert_eq!(run(&bent, &[]), run(&bent, &every), "{name} with {byte:#x} at {at}: {bent:?}");
            }
            let shortened = [&bytes[..at], &bytes[at + 1..]].concat();
            let every: Vec<usize> = (1..shortened.len()).collect();
            assert_eq!(run(&shortened, &[]), run(&shortened, &every), "{name} without byte {at}");
        }
    }
}

/// What a server sends is foreign too.
#[test]
fn a_hostile_server_is_survived() {
    let inputs: [&[u8]; 12] = [
        b"",
        b"\0",
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO\r\n",
        b"INFO {\r\n",
        b"MSG\r\n",
        b"MSG a 1 999999999\r\n",
        b"MSG a 1 9999999999\r\n",
        b"HMSG a 1 5 2\r\nhello\r\n",
        b"HMSG a 1 12 12\r\nNATS/1.0\r\n\r\n\r\n",
        b"-ERR '\r\n",
        b"-ERR\r\n",
    ];
    for bytes in inputs {
        let mut whole = ServerDecoder::new();
        let outcome = whole.decode(bytes).map(|found| found.map(|(_, taken)| taken));
        let mut cut = ServerDecoder::new();
        let mut last = Ok(None);
        for end in 0..=bytes.len() {
            last = cut.decode(&bytes[..end]).map(|found| found.map(|(_, taken)| taken));
            if !matches!(last, Ok(None)) {
                break;
            }
        }
        assert_eq!(outcome.is_err(), last.is_err(), "{}", bytes.escape_ascii());
        assert_eq!(outcome.ok(), last.ok(), "{}", bytes.escape_ascii());
    }
}
