//! What a restart takes from streams in memory, as the mirrors that hold them back know it.
//!
//! A stream in memory comes back empty, behind every sequence that was set aside for it, whether a message had it or not. A
//! mirror on file with `weir.hold` stands for it: it knows how far it had copied and how far the stream was when it was
//! behind. So the sequences beyond both never held a message that was acknowledged; they are noted in the mirror's metadata
//! ([`UNUSED`]), and whoever counts what is missing leaves them out. The ids of the messages in the mirror go back to the
//! stream, so that what is sent again is still found to be a duplicate.

use std::collections::BTreeMap;

use weir_protocol::jetstream::stream::StorageType;
use weir_storage::Store;

use super::Engine;
use crate::jetstream::context::context;
use crate::jetstream::interest::Interest;
use crate::jetstream::stream::config::{HOLD, UNUSED};

/// Ranges in one note; a mirror that has seen more restarts keeps the newest.
const RANGES_MAX: usize = 1000;

impl Engine {
    /// Notes what the restart took, once, between [`Engine::restore`] at the start of a server and the first input.
    pub fn resume_mirrors(&mut self, now: i64, store: &mut Store, interest: &dyn Interest) {
        let mut by_origin: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for (id, stream) in &self.streams {
            let origin = stream.config.mirror.as_ref().and_then(|mirror| self.names.get(&mirror.name));
            if let Some(origin) = origin
                && stream.config.metadata.contains_key(HOLD)
                && self.streams.get(origin).is_some_and(|origin| origin.config.storage == StorageType::Memory)
            {
                by_origin.entry(*origin).or_default().push(*id);
            }
        }
        for (origin, mirrors) in by_origin {
            self.remember_ids(origin, &mirrors, now, store, interest);
            for mirror in mirrors {
                self.note_unused(origin, mirror, store);
            }
        }
    }

    /// The ids that every mirror has: one that a mirror lacks must be let in again.
    fn remember_ids(
        &mut self,
        origin: u32,
        mirrors: &[u32],
        now: i64,
        store: &mut Store,
        interest: &dyn Interest,
    ) {
        let copies = || mirrors.iter().filter_map(|id| self.streams.get(id));
        let Some(common) = copies().map(|mirror| mirror.state(store).last_seq).min() else { return };
        let Some(longest) = copies().min_by_key(|mirror| mirror.state(store).first_seq) else { return };
        let log = longest.log;
        let Some(origin) = self.streams.get_mut(&origin) else { return };
        let context = context!(self, now, store, interest);
        if let Err(error) = origin.remember_ids(log, common, &context) {
            tracing::warn!(stream = %origin.config.name, %error, "message ids of before the restart are not known");
        }
    }

    fn note_unused(&mut self, origin: u32, mirror: u32, store: &mut Store) {
        let Some(set_aside) = self.streams.get(&origin).map(|origin| origin.state(store).last_seq) else {
            return;
        };
        let Some(mirror) = self.streams.get_mut(&mirror) else { return };
        let used = mirror.state(store).last_seq.max(mirror.behind(store));
        if used >= set_aside {
            return;
        }
        let mut config = mirror.config.clone();
        let noted = config.metadata.get(UNUSED).map(String::as_str).unwrap_or_default();
        let noted = with_range(noted, used + 1, set_aside);
        config.metadata.insert(UNUSED.to_owned(), noted);
        if let Err(error) = mirror.take_config(config, store) {
            tracing::warn!(mirror = %mirror.config.name, %error, "sequences without messages are not noted");
        }
    }
}

/// A note with one more range at its end.
fn with_range(noted: &str, first: u64, last: u64) -> String {
    let range = format!("{first}-{last}");
    let mut ranges: Vec<&str> = noted.split(',').filter(|each| !each.is_empty() && *each != range).collect();
    ranges.push(&range);
    ranges.split_off(ranges.len().saturating_sub(RANGES_MAX)).join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_grows_at_its_end_and_stays_short() {
        assert_eq!(with_range("", 7, 9), "7-9");
        assert_eq!(with_range("7-9", 12, 20), "7-9,12-20");
        assert_eq!(with_range("7-9", 7, 9), "7-9", "a start that broke off is repeated");
        let long = (0..2000).fold(String::new(), |noted, n| with_range(&noted, 10 * n, 10 * n + 5));
        assert_eq!(long.split(',').count(), RANGES_MAX);
        assert!(long.ends_with(",19990-19995"), "{long}");
    }
}
