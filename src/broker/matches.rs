//! Who gets a message on one subject, and the caches that spare asking the sublist again.
//!
//! A cached match holds while the generation it was made under is the current one: every subscription that could change it
//! raises the generation. Subjects that hardly ever come twice (replies, acknowledgements) are not cached, and
//! subscriptions that only such subjects can match do not raise the generation.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use foldhash::fast::RandomState;

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
    /// Some connection has more than one of these subscriptions.
    pub(crate) overlap: bool,
}

/// Subjects a cache holds before it is emptied.
const CACHED_SUBJECTS_MAX: usize = 4096;

/// So many of the audiences that came last are compared with a new one.
const AUDIENCES_COMPARED: usize = 8;

impl Matches {
    pub(crate) fn clear(&mut self) {
        self.plain.clear();
        self.queues.clear();
        self.internal.clear();
        self.overlap = false;
    }

    /// Whether some connection is in there more than once.
    fn overlaps(&self) -> bool {
        let queued = self.queues.iter().flat_map(|(_, members)| members);
        let peers = self.plain.iter().chain(queued).map(|subscription| subscription.peer.id);
        if peers.clone().nth(1).is_none() {
            return false;
        }
        let mut peers: Vec<_> = peers.collect();
        peers.sort_unstable();
        peers.windows(2).any(|pair| pair[0] == pair[1])
    }

    /// Whether exactly the same subscriptions are in both.
    fn reaches_the_same(&self, other: &Matches) -> bool {
        fn same<T>(one: &[Arc<T>], other: &[Arc<T>]) -> bool {
            one.len() == other.len() && one.iter().zip(other).all(|(one, other)| Arc::ptr_eq(one, other))
        }
        let same_group = |((name, members), (other_name, others)): (&Group<_>, &Group<_>)| {
            name == other_name && same(members, others)
        };
        same(&self.plain, &other.plain)
            && same(&self.internal, &other.internal)
            && self.queues.len() == other.queues.len()
            && self.queues.iter().zip(&other.queues).all(same_group)
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
        self.overlap = self.overlaps();
    }
}

/// A match in a [`MatchCache`]: subjects of one audience have the same number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Audience(usize);

/// Matches by subject, all made under one generation. Subjects that reach the same subscribers mostly share one match.
#[derive(Debug, Default)]
pub(crate) struct MatchCache {
    generation: u64,
    audiences: Vec<Arc<Matches>>,
    /// Keyed by what clients send, but bounded: subjects made to collide slow down nobody much.
    by_subject: HashMap<Box<[u8]>, Audience, RandomState>,
}

impl MatchCache {
    /// Forgets what was made under an earlier generation, and everything if it is full: this ends the life of every
    /// [`Audience`]. False, and nothing is done, when `generation` itself is an earlier one.
    pub(crate) fn renew(&mut self, generation: u64) -> bool {
        if self.generation > generation {
            return false;
        }
        if self.generation < generation {
            // An idle connection's cache gives its memory back, a busy one's would only ask for it again.
            self.by_subject.clear();
            self.by_subject.shrink_to(64);
            self.audiences = Vec::new();
            self.generation = generation;
        } else if self.by_subject.len() >= CACHED_SUBJECTS_MAX {
            self.by_subject.clear();
            self.audiences.clear();
        }
        true
    }

    /// The match of `subject`, if known.
    #[inline]
    pub(crate) fn find(&self, subject: &[u8]) -> Option<Audience> {
        self.by_subject.get(subject).copied()
    }

    /// Keeps a match that was made under the generation of the last [`renew`](Self::renew).
    pub(crate) fn keep(&mut self, subject: &[u8], matches: Arc<Matches>) -> Audience {
        let compared = self.audiences.len().saturating_sub(AUDIENCES_COMPARED);
        let mut recent = self.audiences.iter().enumerate().skip(compared);
        let known =
            recent.find(|(_, known)| Arc::ptr_eq(known, &matches) || known.reaches_the_same(&matches));
        let audience = Audience(known.map_or(self.audiences.len(), |(number, _)| number));
        if audience.0 == self.audiences.len() {
            self.audiences.push(matches);
        }
        self.by_subject.insert(subject.into(), audience);
        audience
    }

    /// Whom `audience` consists of.
    pub(crate) fn matches(&self, audience: Audience) -> &Arc<Matches> {
        &self.audiences[audience.0]
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
