//! The words of every refusal were taken from a running nats-server.

#![expect(unreachable_pub, reason = "the macros declare what their callers publish")]

use super::*;

json_enum! {
    /// A storage.
    pub enum Storage {
        #[default]
        File = "file",
        Memory = "memory",
    }
}

json_struct! {
    /// A source.
    pub struct Source as "StreamSource" {
        pub name: String => {"name"},
        pub opt_start_seq: u64 => {"opt_start_seq" omit},
        pub opt_start_time: Option<Timestamp> => {"opt_start_time" omit},
    }
}

json_struct! {
    /// A configuration.
    pub struct Config as "StreamConfig" {
        pub name: String => {"name"},
        pub subjects: Vec<String> => {"subjects" omit},
        pub max_consumers: i64 => {"max_consumers" ("int")},
        pub max_msgs: i64 => {"max_msgs"},
        pub max_msg_size: i32 => {"max_msg_size" omit},
        pub storage: Storage => {"storage"},
        pub no_ack: bool => {"no_ack" omit},
        pub mirror: Option<Source> => {"mirror" omit},
        pub sources: Vec<Source> => {"sources" omit ("*server.StreamSource")},
        pub metadata: BTreeMap<String, String> => {"metadata" omit},
    }
}

json_struct! {
    /// A request.
    pub struct Request as "StreamConfigRequest" {
        pub config: Config => {embed "StreamConfig"},
        pub pedantic: bool => {"pedantic" omit},
    }
}

fn refusal(input: &str) -> String {
    decode_strict::<Request>(input.as_bytes()).expect_err(input)
}

#[test]
fn strict_refusals_speak_as_nats_server_does() {
    let field = "json: cannot unmarshal";
    let at = "into Go struct field StreamConfigRequest.StreamConfig";
    for (input, error) in [
        ("{", "unexpected EOF".to_owned()),
        (r#"{"name":"A","x":1}"#, r#"json: unknown field "x""#.to_owned()),
        (r#"{"name":1}"#, format!("{field} number {at}.name of type string")),
        (r#"{"name":"A","max_msgs":"1"}"#, format!("{field} string {at}.max_msgs of type int64")),
        (r#"{"name":"A","max_msgs":1.5}"#, format!("{field} number 1.5 {at}.max_msgs of type int64")),
        (r#"{"name":"A","max_msgs":1e3}"#, format!("{field} number 1e3 {at}.max_msgs of type int64")),
        (r#"{"max_consumers":true}"#, format!("{field} bool {at}.max_consumers of type int")),
        (
            r#"{"max_msg_size":99999999999}"#,
            format!("{field} number 99999999999 {at}.max_msg_size of type int32"),
        ),
        (r#"{"subjects":"x"}"#, format!("{field} string {at}.subjects of type []string")),
        (r#"{"subjects":[1]}"#, format!("{field} number {at}.subjects of type string")),
        ("[]", format!("{field} array into Go value of type server.StreamConfigRequest")),
        (r#"{"name":"A"} x"#, "invalid character 'x' looking for beginning of value at offset 14".to_owned()),
        (r#"{"name":"A"}{"storage":"zip"}"#, r#"can not unmarshal "\"zip\"""#.to_owned()),
        ("nope", "invalid character 'o' in literal null (expecting 'u') at offset 2".to_owned()),
        (r#"{"storage":null}"#, r#"can not unmarshal "null""#.to_owned()),
        (r#"{"mirror":{"nme":1}}"#, r#"json: unknown field "nme""#.to_owned()),
        (
            r#"{"mirror":{"name":1}}"#,
            format!(
                "{field} number into Go struct field StreamSource.StreamConfig.mirror.name of type string"
            ),
        ),
        (r#"{"mirror":3}"#, format!("{field} number {at}.mirror of type server.StreamSource")),
        (r#"{"mirror":{"opt_start_time":1}}"#, "Time.UnmarshalJSON: input is not a JSON string".to_owned()),
        (
            r#"{"sources":[{"name":1}]}"#,
            format!(
                "{field} number into Go struct field StreamSource.StreamConfig.sources.name of type string"
            ),
        ),
        (r#"{"sources":[1]}"#, format!("{field} number {at}.sources of type server.StreamSource")),
        (r#"{"sources":1}"#, format!("{field} number {at}.sources of type []*server.StreamSource")),
        (r#"{"metadata":{"a":1}}"#, format!("{field} number {at}.metadata of type string")),
        (r#"{"metadata":[]}"#, format!("{field} array {at}.metadata of type map[string]string")),
        (
            r#"{"name":"A",}"#,
            "invalid character '}' looking for beginning of object key string at offset 13".to_owned(),
        ),
        (
            r#"{"name":"A" "x":1}"#,
            "invalid character '\"' after object key:value pair at offset 13".to_owned(),
        ),
        ("{\"name\":\"A\u{1}\"}", r"invalid character '\x01' in string literal at offset 11".to_owned()),
        (r#"{"name":"\x"}"#, "invalid character 'x' in string escape code at offset 11".to_owned()),
        (
            r#"{"pedantic":1}"#,
            format!("{field} number into Go struct field StreamConfigRequest.pedantic of type bool"),
        ),
        (r#"{"max_msgs":"x","b":2}"#, format!("{field} string {at}.max_msgs of type int64")),
        (r#"{"b":2,"max_msgs":"x"}"#, r#"json: unknown field "b""#.to_owned()),
        (
            r#"{"name":"A","max_msgs":01}"#,
            "invalid character '1' after object key:value pair at offset 25".to_owned(),
        ),
        (r#"{"name":"A","max_msgs":-}"#, "invalid character '}' in numeric literal at offset 25".to_owned()),
        (r#"{"Max_Msgs":"x"}"#, format!("{field} string {at}.max_msgs of type int64")),
    ] {
        assert_eq!(refusal(input), error, "{input}");
    }
}

#[test]
fn nothing_and_null_are_the_default() {
    for input in ["", "  ", "null"] {
        assert_eq!(decode_strict::<Request>(input.as_bytes()), Ok(Request::default()));
    }
    assert_eq!(decode_lenient::<Request>(b""), Err("unexpected end of JSON input".to_owned()));
    assert_eq!(
        decode_lenient::<Request>(b"{} x"),
        Err("invalid character 'x' after top-level value".to_owned())
    );
}

#[test]
fn names_fold_escapes_resolve_and_later_fields_win() {
    let request: Request = decode_strict(
        br#"{"NAME":"a","name":"b","subjects":["T.\u003e","\ud83d\ude00","\ud800"],"mirror":{"opt_start_seq":3}}"#,
    )
    .expect("valid");
    assert_eq!(request.config.name, "b");
    assert_eq!(request.config.subjects, ["T.>", "\u{1f600}", "\u{fffd}"]);
    assert_eq!(request.config.mirror.expect("given").opt_start_seq, 3);
}

#[test]
fn encoding_keeps_gos_order_omissions_and_escapes() {
    let config = Config { name: "a<b>&\u{2028}".into(), subjects: vec!["T.>".into()], ..Config::default() };
    assert_eq!(
        encode(&Request { config, pedantic: false }),
        r#"{"name":"a\u003cb\u003e\u0026\u2028","subjects":["T.\u003e"],"max_consumers":0,"max_msgs":0,"storage":"file"}"#
    );
}

#[test]
fn deep_nesting_is_refused_without_recursion_into_the_ground() {
    let deep = "[".repeat(100_000);
    assert!(decode_strict::<Request>(deep.as_bytes()).is_err());
}

#[test]
fn any_bytes_are_answered_without_panic() {
    proptest::proptest!(|(input: Vec<u8>)| {
        drop(decode_strict::<Request>(&input));
        drop(decode_lenient::<Request>(&input));
    });
}
