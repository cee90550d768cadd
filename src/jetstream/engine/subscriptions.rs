//! What the engine listens to: the subjects of the API, of each stream and of each consumer, and the tag by which what comes
//! in is told apart.
//!
//! Matching is the broker's; here stands only what is asked of it. A change is an output that takes effect before anything
//! held beside it is answered: who is told of a stream or consumer finds it listening.

use bytes::Bytes;
use weir_protocol::jetstream::consumer::{AckPolicy, ConsumerConfig};
use weir_protocol::jetstream::stream::StreamConfig;
use weir_protocol::jetstream::{ack, direct};

use super::Engine;
use crate::jetstream::input::Tag;
use crate::jetstream::output::SubscriptionChange;

/// What the API subscribes to. Pull requests, resets and direct gets are subscribed for each consumer and stream, so
/// that a request to none is answered with "no responders".
pub(super) const API_FILTERS: [&str; 11] = [
    "$JS.API.INFO",
    "$JS.API.STREAM.>",
    "$JS.API.CONSUMER.CREATE.>",
    "$JS.API.CONSUMER.DURABLE.>",
    "$JS.API.CONSUMER.NAMES.>",
    "$JS.API.CONSUMER.LIST.>",
    "$JS.API.CONSUMER.INFO.>",
    "$JS.API.CONSUMER.DELETE.>",
    "$JS.API.CONSUMER.PAUSE.>",
    "$JS.API.CONSUMER.UNPIN.>",
    "$JS.API.CONSUMER.LEADER.>",
];

/// A subject filter and the tag of what comes in on it; with [`Tag::Interest`] a subject whose interest is watched.
type Filter = (String, Tag);

/// What a stream with `config` listens to.
fn of_stream(id: u32, config: &StreamConfig) -> Vec<Filter> {
    let mut filters: Vec<Filter> =
        config.subjects.iter().map(|subject| (subject.clone(), Tag::Stream(id))).collect();
    if config.allow_direct {
        filters.push((format!("{}{}", direct::PREFIX, config.name), Tag::DirectGet(id)));
        filters.push((format!("{}{}.>", direct::PREFIX, config.name), Tag::DirectGetSubject(id)));
    }
    filters
}

/// What a consumer of a stream listens to.
pub(super) fn of_consumer(id: u64, stream: &str, name: &str, config: &ConsumerConfig) -> Vec<Filter> {
    let mut filters = vec![
        (format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"), Tag::Pull(id)),
        (format!("$JS.API.CONSUMER.RESET.{stream}.{name}"), Tag::Reset(id)),
    ];
    if !matches!(config.ack_policy, AckPolicy::None | AckPolicy::FlowControl) {
        let prefix = String::from_utf8_lossy(ack::PREFIX);
        filters.push((format!("{prefix}{stream}.{name}.>"), Tag::Ack(id)));
        filters.push((format!("{prefix}*.*.{stream}.{name}.>"), Tag::Ack(id)));
    }
    if config.flow_control {
        filters.push((format!("$JS.FC.{stream}.{name}.>"), Tag::Flow(id)));
    }
    if config.is_push() {
        filters.push((config.deliver_subject.clone(), Tag::Interest(id)));
    }
    filters
}

impl Engine {
    /// Asks to hear the API's requests.
    pub(super) fn listen_to_api(&mut self) {
        self.change_subscriptions(&[], &API_FILTERS.map(|filter| (filter.to_owned(), Tag::Api)));
    }

    /// Asks to hear what concerns a stream, after its configuration was `old` (`None`: it is new to the engine).
    pub(in crate::jetstream) fn listen(&mut self, id: u32, old: Option<&StreamConfig>) {
        let Some(stream) = self.streams.get(&id) else { return };
        let before = old.map(|old| of_stream(id, old)).unwrap_or_default();
        let after = of_stream(id, &stream.config);
        self.change_subscriptions(&before, &after);
    }

    /// Stops listening to what concerned a stream.
    pub(in crate::jetstream) fn listen_no_more(&mut self, id: u32, config: &StreamConfig) {
        self.change_subscriptions(&of_stream(id, config), &[]);
    }

    /// Asks to hear what is in `after`, and no more what is in `before` alone.
    pub(super) fn change_subscriptions(&mut self, before: &[Filter], after: &[Filter]) {
        let ended = || before.iter().filter(|each| !after.contains(each)).cloned();
        // A watch is known by its tag alone, so the old one ends first. A subscription ends last: nothing is missed.
        for (_, tag) in ended().filter(|(_, tag)| is_watch(*tag)) {
            self.outputs.change_subscription(SubscriptionChange::Unwatch { tag });
        }
        for (filter, tag) in after.iter().filter(|each| !before.contains(each)).cloned() {
            let filter = Bytes::from(filter);
            self.outputs.change_subscription(if is_watch(tag) {
                SubscriptionChange::Watch { subject: filter, tag }
            } else {
                SubscriptionChange::Subscribe { filter, tag }
            });
        }
        for (filter, tag) in ended().filter(|(_, tag)| !is_watch(*tag)) {
            self.outputs
                .change_subscription(SubscriptionChange::Unsubscribe { filter: Bytes::from(filter), tag });
        }
    }
}

fn is_watch(tag: Tag) -> bool {
    matches!(tag, Tag::Interest(_))
}
