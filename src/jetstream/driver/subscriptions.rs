//! What the engine listens to, as the broker knows it: its subscriptions and its watches of interest. All of them lead
//! into the inbox.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;

use super::inbox::{Inbox, Sink};
use crate::broker::{Broker, InterestWatch, InternalSub};
use crate::jetstream::input::Tag;
use crate::jetstream::interest::Interest;
use crate::jetstream::output::SubscriptionChange;

/// Subscriptions and watches, each until the engine ends it.
pub(super) struct Subscriptions {
    broker: Broker,
    inbox: Arc<Inbox>,
    subscriptions: BTreeMap<(Tag, Bytes), InternalSub>,
    watches: BTreeMap<Tag, InterestWatch>,
}

impl Subscriptions {
    pub(super) fn new(broker: Broker, inbox: Arc<Inbox>) -> Self {
        Self { broker, inbox, subscriptions: BTreeMap::new(), watches: BTreeMap::new() }
    }

    pub(super) fn change(&mut self, change: SubscriptionChange) {
        match change {
            SubscriptionChange::Subscribe { filter, tag } => {
                let sink = Arc::new(Sink::new(Arc::clone(&self.inbox), tag));
                let subscription = self.broker.subscribe_internal(&filter, sink);
                self.subscriptions.insert((tag, filter), subscription);
            }
            SubscriptionChange::Unsubscribe { filter, tag } => {
                self.subscriptions.remove(&(tag, filter));
            }
            SubscriptionChange::Watch { subject, tag } => {
                let inbox = Arc::clone(&self.inbox);
                let changed = Arc::new(move || inbox.push_interest_changed(tag));
                self.watches.insert(tag, self.broker.watch_interest(&subject, changed));
                // Somebody may have come between the engine's look and this watch.
                self.inbox.push_interest_changed(tag);
            }
            SubscriptionChange::Unwatch { tag } => {
                self.watches.remove(&tag);
            }
        }
    }

    /// Ends all of them.
    pub(super) fn forget_all(&mut self) {
        self.subscriptions.clear();
        self.watches.clear();
    }
}

impl Interest for Broker {
    fn has(&self, subject: &[u8]) -> bool {
        self.has_interest(subject)
    }

    fn listens(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.has_literal_interest(subject, queue)
    }
}
