//! Who gets a message on one subject, and the caches that spare asking the sublist again.
//!
//! A cached match holds while the generation it was made under is the current one: every subscription that could change it
//! raises the generation. Subjects that hardly ever come twice (replies, acknowledgements) are not cached, and
//! subscriptions that only such subjects can match do not raise the generation.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use super::internal::InternalSubscription;
use super::peer::Subscription;
use super::sublist::{Group, Sublist};

/// Whoever is in the sublist.
#[derive(Clone, Debug)]
pub(crate) enum Target {
    /// A connection's subscription.
    Client(Arc<Subscription>),
    /// A part of the server that listens.
    Internal(Arc<InternalSubscription>),
}

/// Everybody who gets a message on one subject.
#[derive(Debug, Default)]
pub(crate) struct Matches {
    pub(crate) plain: Vec<Arc<Subscription>>,
    /// One member of each group gets the message.
    pub(crate) queues: Vec<Group<Arc<Subscription>>>,
    pub(crate) internal: Vec<Arc<InternalSubscription>>,
}

/// Entries a cache holds before it is emptied.
const CACHE_ENTRIES_MAX: usize = 4096;

impl Matches {
    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.queues.clear();
        self.internal.clear();
    }

    /// Adds what `sublist` has for `subject`.
    pub(crate) fn collect(&mut self, sublist: &Sublist<Target>, subject: &[u8]) {
        sublist.visit(subject, |members| {
            for (_, target) in &members.plain {
                match target {
                    Target::Client(subscription) => self.plain.push(Arc::clone(subscription)),
                    Target::Internal(internal) => self.internal.push(Arc::clone(internal)),
                }
            }
            for (name, group) in &members.queues {
                let members = group.iter().filter_map(|(_, target)| match target {
                    Target::Client(subscription) => Some(Arc::clone(subscription)),
                    Target::Internal(_) => None,
                });
                match self.queues.iter_mut().find(|(known, _)| known == name) {
                    Some((_, known)) => known.extend(members),
                    None => self.queues.push((name.clone(), members.collect())),
                }
            }
            ControlFlow::Continue(())
        });
    }
}

/// Matches by subject, all made under one generation.
#[derive(Debug, Default)]
pub(crate) struct MatchCache {
    generation: u64,
    entries: HashMap<Box<[u8]>, Arc<Matches>>,
}

impl MatchCache {
    /// The match of `subject` under `generation`, if known.
    pub(crate) fn find(&mut self, generation: u64, subject: &[u8]) -> Option<&Arc<Matches>> {
        if self.generation != generation {
            // An idle connection's cache gives its memory back, a busy one's would only ask for it again.
            self.entries.clear();
            self.entries.shrink_to(64);
            self.generation = generation;
        }
        self.entries.get(subject)
    }

    /// Keeps a match that was made under `generation`, unless the cache has gone on since.
    pub(crate) fn keep(&mut self, generation: u64, subject: &[u8], matches: &Arc<Matches>) {
        if self.generation == generation {
            if self.entries.len() >= CACHE_ENTRIES_MAX {
                self.entries.clear();
            }
            self.entries.insert(subject.into(), Arc::clone(matches));
        }
    }
}

/// The first token of subjects that clients make up for replies.
const INBOX: &[u8] = b"_INBOX.";

/// Whether only inboxes can match `filter`: such a subscription changes no cached match.
pub(crate) fn is_inbox(filter: &[u8]) -> bool {
    filter.starts_with(INBOX)
}

/// Longer subjects are not kept: a client could fill the memory with them.
const CACHED_SUBJECT_BYTES_MAX: usize = 256;

/// Whether matches of `subject` are worth keeping: not for inboxes, and not for acknowledgements, each of which has a
/// subject of its own.
pub(crate) fn is_cached(subject: &[u8]) -> bool {
    subject.len() <= CACHED_SUBJECT_BYTES_MAX
        && !subject.starts_with(INBOX)
        && !subject.starts_with(b"$JS.ACK.")
}
