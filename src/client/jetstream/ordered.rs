//! An ordered consumer: an ephemeral push consumer without acknowledgements, made anew when something is missing.
//!
//! Consumer sequences must follow each other without a gap; a gap, silence for three heartbeats, a deleted consumer or a new
//! connection each mean that a fresh consumer begins behind the last message seen. So the reader sees every message that
//! the stream still holds, once and in order.

use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use tokio::sync::watch;
use weir_protocol::subject;

use super::{JetStream, JetStreamError, StoredMessage};
use crate::client::{Event, Message, Subscription};

const HEARTBEAT: Duration = Duration::from_secs(5);
const RETRY: Duration = Duration::from_millis(250);

/// Where an ordered consumer begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeliverPolicy {
    /// With the first message.
    All,
    /// With the last message of each subject.
    LastPerSubject,
    /// With the next message published.
    New,
    /// With this sequence.
    Sequence(u64),
}

/// What an ordered consumer delivers.
#[derive(Clone, Debug)]
pub struct OrderedOptions {
    /// Where it begins.
    pub deliver: DeliverPolicy,
    /// Only messages whose subject matches.
    pub filter: Option<String>,
    /// Without payloads.
    pub headers_only: bool,
}

impl Default for OrderedOptions {
    fn default() -> Self {
        Self { deliver: DeliverPolicy::All, filter: None, headers_only: false }
    }
}

/// A delivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// It.
    pub message: StoredMessage,
    /// Matching messages that were left in the stream behind it.
    pub pending: u64,
}

/// Follows a stream. See [`JetStream::ordered_consumer`].
pub struct OrderedConsumer {
    jetstream: JetStream,
    stream: String,
    options: OrderedOptions,
    current: Current,
    events: watch::Receiver<Event>,
    last_sequence: u64,
    initial_pending: u64,
}

/// The consumer that serves now.
struct Current {
    name: String,
    messages: Subscription,
    consumer_sequence: u64,
}

impl OrderedConsumer {
    pub(super) async fn start(
        jetstream: JetStream,
        stream: &str,
        options: OrderedOptions,
    ) -> Result<Self, JetStreamError> {
        let mut events = jetstream.client.events();
        events.mark_unchanged();
        let (current, initial_pending) = create(&jetstream, stream, &options, options.deliver).await?;
        Ok(Self {
            jetstream,
            stream: stream.to_owned(),
            options,
            current,
            events,
            last_sequence: 0,
            initial_pending,
        })
    }

    /// How many messages matched when it was made: after so many, what follows is new.
    #[must_use]
    pub fn initial_pending(&self) -> u64 {
        self.initial_pending
    }

    /// The next message.
    ///
    /// # Errors
    /// When the stream is gone, or the client is closed. Everything else is mended and waited for.
    pub async fn next(&mut self) -> Result<Delivery, JetStreamError> {
        loop {
            let next = tokio::select! {
                message = self.current.messages.next() => Some(message),
                () = tokio::time::sleep(HEARTBEAT * 3) => None,
                changed = self.events.changed() => {
                    let reconnected = changed.is_ok() && matches!(*self.events.borrow(), Event::Connected(_));
                    if changed.is_ok() && !reconnected {
                        continue;
                    }
                    None
                }
            };
            match next {
                Some(Some(message)) => {
                    if let Some(delivery) = self.take(message).await? {
                        return Ok(delivery);
                    }
                }
                Some(None) => return Err(crate::client::PublishError::Closed.into()),
                None => self.recreate().await?,
            }
        }
    }

    async fn take(&mut self, message: Message) -> Result<Option<Delivery>, JetStreamError> {
        match message.status() {
            Some(100) => {
                let stalled = message.header("Nats-Consumer-Stalled").map(str::to_owned);
                for subject in [message.reply.clone(), stalled].into_iter().flatten() {
                    self.jetstream.client.publish(&subject, None, Bytes::new()).await?;
                }
                let last = message.header("Nats-Last-Consumer").and_then(|text| text.parse::<u64>().ok());
                if last.is_some_and(|last| last != self.current.consumer_sequence) {
                    self.recreate().await?;
                }
                return Ok(None);
            }
            Some(_) => {
                self.recreate().await?;
                return Ok(None);
            }
            None => {}
        }
        let Some(place) = message.reply.as_deref().and_then(Place::parse) else { return Ok(None) };
        if place.consumer != self.current.name {
            return Ok(None);
        }
        if place.consumer_sequence != self.current.consumer_sequence + 1 {
            self.recreate().await?;
            return Ok(None);
        }
        self.current.consumer_sequence = place.consumer_sequence;
        self.last_sequence = place.stream_sequence;
        let message = StoredMessage {
            subject: message.subject,
            sequence: place.stream_sequence,
            time: place.time,
            headers: message.headers,
            payload: message.payload,
        };
        Ok(Some(Delivery { message, pending: place.pending }))
    }

    /// A fresh consumer behind the last message seen; waits for a server that is away.
    async fn recreate(&mut self) -> Result<(), JetStreamError> {
        let deliver = match self.last_sequence {
            0 => self.options.deliver,
            last => DeliverPolicy::Sequence(last.saturating_add(1)),
        };
        // The old one goes by itself once nobody listens to it; this only frees it sooner.
        let (jetstream, stream, name) = (&self.jetstream, &self.stream, &self.current.name);
        if let Err(error) = jetstream.with_timeout(RETRY).delete_consumer(stream, name).await {
            tracing::debug!(%error, "an ordered consumer was not deleted");
        }
        loop {
            match create(&self.jetstream, &self.stream, &self.options, deliver).await {
                Ok((current, _)) => {
                    self.current = current;
                    return Ok(());
                }
                Err(error) if error.is_unavailable() => tokio::time::sleep(RETRY).await,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Drop for OrderedConsumer {
    /// Asks the server to forget the consumer at once; it would do so by itself some seconds after interest is gone.
    fn drop(&mut self) {
        self.jetstream.client.core.publish_now(
            &format!("$JS.API.CONSUMER.DELETE.{}.{}", self.stream, self.current.name),
            &Bytes::new(),
        );
    }
}

async fn create(
    jetstream: &JetStream,
    stream: &str,
    options: &OrderedOptions,
    deliver: DeliverPolicy,
) -> Result<(Current, u64), JetStreamError> {
    #[derive(Deserialize)]
    struct Created {
        name: String,
        #[serde(default)]
        num_pending: u64,
    }
    let client = &jetstream.client;
    let inbox = client.new_inbox();
    let name = client.core.options.random.id(8);
    let messages = client.subscribe(&inbox)?;
    let mut config = json!({
        "name": name, "deliver_subject": inbox, "ack_policy": "none", "max_deliver": 1, "flow_control": true,
        "idle_heartbeat": i64::try_from(HEARTBEAT.as_nanos()).unwrap_or(i64::MAX),
        "mem_storage": true, "num_replicas": 1, "replay_policy": "instant",
        "inactive_threshold": 30_000_000_000_u64,
    });
    let mut set = |key: &str, value: serde_json::Value| {
        if let Some(config) = config.as_object_mut() {
            config.insert(key.to_owned(), value);
        }
    };
    match deliver {
        DeliverPolicy::All => set("deliver_policy", "all".into()),
        DeliverPolicy::LastPerSubject => set("deliver_policy", "last_per_subject".into()),
        DeliverPolicy::New => set("deliver_policy", "new".into()),
        DeliverPolicy::Sequence(sequence) => {
            set("deliver_policy", "by_start_sequence".into());
            set("opt_start_seq", sequence.into());
        }
    }
    if let Some(filter) = &options.filter {
        set("filter_subject", filter.as_str().into());
    }
    if options.headers_only {
        set("headers_only", true.into());
    }
    let call = match &options.filter {
        Some(filter) => format!("CONSUMER.CREATE.{stream}.{name}.{filter}"),
        None => format!("CONSUMER.CREATE.{stream}.{name}"),
    };
    let created: Created = jetstream.call(&call, &json!({"stream_name": stream, "config": config})).await?;
    Ok((Current { name: created.name, messages, consumer_sequence: 0 }, created.num_pending))
}

/// What the reply subject of a delivery says.
#[derive(Debug, PartialEq, Eq)]
struct Place<'a> {
    consumer: &'a str,
    stream_sequence: u64,
    consumer_sequence: u64,
    time: i64,
    pending: u64,
}

impl<'a> Place<'a> {
    /// Reads `$JS.ACK.<stream>.<consumer>.<deliveries>.<stream seq>.<consumer seq>.<time>.<pending>`, or the form with
    /// domain and account before the stream.
    fn parse(reply: &'a str) -> Option<Self> {
        let rest = reply.strip_prefix("$JS.ACK.")?;
        let skip = if subject::token_count(reply.as_bytes()) >= 11 { 2 } else { 0 };
        let mut tokens = rest.split('.').skip(skip + 1);
        let consumer = tokens.next()?;
        let mut numbers = tokens.skip(1).map(|token| token.parse::<u64>().ok());
        let mut number = || numbers.next().flatten();
        Some(Self {
            consumer,
            stream_sequence: number()?,
            consumer_sequence: number()?,
            time: i64::try_from(number()?).ok()?,
            pending: number()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_the_reply_subject_are_read() {
        let place = Place { consumer: "c", stream_sequence: 7, consumer_sequence: 3, time: 99, pending: 5 };
        assert_eq!(Place::parse("$JS.ACK.s.c.1.7.3.99.5").as_ref(), Some(&place));
        assert_eq!(Place::parse("$JS.ACK._.h4sh.s.c.1.7.3.99.5").as_ref(), Some(&place));
        assert_eq!(Place::parse("$JS.ACK._.h4sh.s.c.1.7.3.99.5.more").as_ref(), Some(&place));
        for bad in ["", "$JS.ACK.s.c.1.7.3.99", "_INBOX.x", "$JS.ACK.s.c.1.x.3.99.5"] {
            assert_eq!(Place::parse(bad), None, "{bad}");
        }
    }
}
