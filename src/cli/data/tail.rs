//! `weir data tail`: the messages of one device, or of all, as they come.

use std::collections::BTreeMap;

use bytes::Bytes;
use clap::Args;
use serde::Serialize;
use serde_json::value::RawValue;
use weir_protocol::header;

use crate::cli::connection::ServerArgs;
use crate::cli::failure::{Failure, Outcome};
use crate::cli::task::{self, Stop};
use crate::cli::{identity, output};
use crate::client::Message;
use crate::service::event;

/// Flags of `weir data tail`.
#[derive(Debug, Args)]
pub(crate) struct TailArgs {
    /// Device to watch; all when left out
    #[arg(long, value_name = "ID", alias = "device")]
    device_id: Option<String>,

    /// First token(s) of the devices' subjects
    #[arg(long, value_name = "PREFIX", default_value = "monitor")]
    subject: String,

    /// Only events of this type
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,

    /// Indent JSON payloads
    #[arg(long, conflicts_with = "json")]
    pretty: bool,

    /// Print the headers before each message, sorted, as `# header NAME=VALUE`
    #[arg(long, conflicts_with = "json")]
    headers: bool,

    /// Print one JSON object per message: subject, headers, data
    #[arg(long)]
    json: bool,

    /// End after this many messages
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..), allow_negative_numbers = true)]
    count: Option<u64>,

    #[command(flatten)]
    server: ServerArgs,
}

/// Runs the command.
pub(crate) fn run(args: TailArgs) -> Outcome {
    task::block_on(tail(args))
}

async fn tail(args: TailArgs) -> Outcome {
    let filters = match &args.device_id {
        Some(device) => {
            let subject = identity::device_subject(&args.subject, &identity::device(device)?)?;
            vec![format!("{subject}.>"), subject]
        }
        None => vec![format!("{}.>", identity::prefix(&args.subject)?)],
    };
    let mut stop = Stop::listen()?;
    let client = args.server.connect("data tail").await?;
    let wanted: Vec<&str> = filters.iter().map(String::as_str).collect();
    let mut messages = client.subscribe_all(&wanted).map_err(|error| Failure::new(error.to_string()))?;
    client.flush().await.map_err(|error| Failure::new(error.to_string()))?;
    output::remark(format!("listening on {}; Ctrl-C ends", filters.join(" and ")));
    let mut printed: u64 = 0;
    loop {
        let message = tokio::select! {
            message = messages.next() => message,
            _ = stop.wait() => return Ok(()),
        };
        let Some(message) = message else {
            return Err(Failure::new("the connection to the server ended"));
        };
        if args.kind.as_deref().is_some_and(|kind| event_type(&message).as_deref() != Some(kind)) {
            continue;
        }
        print(&args, &message)?;
        printed += 1;
        if args.count.is_some_and(|count| printed >= count) {
            return Ok(());
        }
    }
}

/// The type of an event: the monitor's header, or the field of a payload that is the whole event (the older form).
fn event_type(message: &Message) -> Option<String> {
    #[derive(serde::Deserialize)]
    struct Event {
        #[serde(rename = "type")]
        kind: String,
    }
    match message.header("X-Monitor-Type") {
        Some(kind) => Some(kind.to_owned()),
        None => serde_json::from_slice::<Event>(&message.payload).ok().map(|event| event.kind),
    }
}

fn print(args: &TailArgs, message: &Message) -> Outcome {
    if args.json {
        return output::line(as_json(message)?);
    }
    if args.headers {
        for (name, values) in sorted(&message.headers) {
            for value in values {
                output::line(format!("# header {name}={value}"))?;
            }
        }
    }
    if args.pretty
        && event::depth(&message.payload) <= event::DEPTH_MAX
        && let Some(text) = indented(&message.payload)
    {
        return output::line(text);
    }
    output::bytes(&message.payload)
}

/// The headers by name; the values of a repeated one in their order.
fn sorted(block: &Bytes) -> BTreeMap<String, Vec<String>> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let mut headers: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in header::iter(block) {
        headers.entry(text(name)).or_default().push(text(value));
    }
    headers
}

/// The payload as indented JSON, digits and order kept; None when it is no JSON.
fn indented(payload: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(payload).ok()?;
    let line = super::json_line::compact(text).ok()?;
    Some(super::json_line::indent(&line))
}

/// One message as an object. A payload that is no JSON is `data_base64`.
fn as_json(message: &Message) -> Outcome<String> {
    #[derive(Serialize)]
    struct Line<'a> {
        subject: &'a str,
        headers: BTreeMap<String, Vec<String>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a RawValue>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_base64: Option<String>,
    }
    use base64::Engine;
    let data = serde_json::from_slice::<&RawValue>(&message.payload).ok();
    let data_base64 =
        data.is_none().then(|| base64::engine::general_purpose::STANDARD.encode(&message.payload));
    let line = Line { subject: &message.subject, headers: sorted(&message.headers), data, data_base64 };
    let text = serde_json::to_string(&line).map_err(|error| {
        Failure::new(format!("a message on {} does not fit JSON: {error}", message.subject))
    })?;
    super::json_line::compact(&text).map_err(Failure::new)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(headers: &'static [u8], payload: &'static [u8]) -> Message {
        Message {
            subject: "monitor.a".to_owned(),
            reply: None,
            headers: Bytes::from_static(headers),
            payload: Bytes::from_static(payload),
        }
    }

    #[test]
    fn the_type_is_in_the_header_or_in_an_older_payload() {
        let new = message(b"NATS/1.0\r\nX-Monitor-Type: call\r\n\r\n", b"{\"type\":\"state\"}");
        assert_eq!(event_type(&new).as_deref(), Some("call"));
        assert_eq!(event_type(&message(b"", b"{\"type\":\"state\",\"data\":{}}")).as_deref(), Some("state"));
        assert_eq!(event_type(&message(b"", b"no json")), None);
    }

    #[test]
    fn headers_come_sorted_and_repeated_ones_in_their_order() {
        let headers = sorted(&Bytes::from_static(b"NATS/1.0\r\nB: 1\r\nA: 2\r\nB: 0\r\n\r\n"));
        let lines: Vec<_> =
            headers.iter().map(|(name, values)| format!("{name}={}", values.join(","))).collect();
        assert_eq!(lines, ["A=2", "B=1,0"]);
    }

    #[test]
    fn a_message_as_json_keeps_what_is_json_and_encodes_the_rest() {
        assert_eq!(
            as_json(&message(b"NATS/1.0\r\nA: 2\r\n\r\n", b"{ \"b\": 1.50 }")).unwrap(),
            "{\"subject\":\"monitor.a\",\"headers\":{\"A\":[\"2\"]},\"data\":{\"b\":1.50}}"
        );
        assert_eq!(
            as_json(&message(b"", b"\xff")).unwrap(),
            "{\"subject\":\"monitor.a\",\"headers\":{},\"data_base64\":\"/w==\"}"
        );
    }
}
