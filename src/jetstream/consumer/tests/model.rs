//! The consumer against a naive reference: random publishes, pulls, acks, naks, terms, deletes, purges, restarts.

use std::collections::BTreeMap;

use super::*;

/// What a consumer must hold to, written down without regard to cost.
#[derive(Debug, Default)]
struct Reference {
    /// Records present: sequence and whether the filter wants them.
    records: BTreeMap<u64, bool>,
    last_seq: u64,
    /// Highest sequence delivered or passed over.
    next_seq: u64,
    /// Pending: first consumer sequence, deliveries.
    pending: BTreeMap<u64, (u64, u64)>,
    /// Messages given up, with their deliveries.
    given_up: BTreeMap<u64, u64>,
    consumer_seq: u64,
    /// Waiting for redelivery, in order.
    queue: Vec<u64>,
    max_deliver: u64,
    max_ack_pending: usize,
}

impl Reference {
    fn left(&self) -> usize {
        self.records.range(self.next_seq..).filter(|(_, wanted)| **wanted).count()
    }

    fn redelivered(&self) -> usize {
        self.pending.values().filter(|(_, deliveries)| *deliveries > 1).count() + self.given_up.len()
    }

    /// The next delivery: sequence, consumer sequence, deliveries, messages left after it.
    fn deliver(&mut self) -> Option<(u64, u64, u64, u64)> {
        let again = self.queue.first().copied();
        let seq = match again {
            Some(seq) => seq,
            None if self.pending.len() >= self.max_ack_pending => return None,
            None => *self.records.range(self.next_seq..).find(|(_, wanted)| **wanted)?.0,
        };
        self.consumer_seq += 1;
        let deliveries = match again {
            Some(seq) => {
                self.queue.remove(0);
                let entry = self.pending.get_mut(&seq).expect("queued is pending");
                entry.1 += 1;
                entry.1
            }
            None => {
                self.next_seq = seq + 1;
                self.pending.insert(seq, (self.consumer_seq, 1));
                1
            }
        };
        Some((seq, self.consumer_seq, deliveries, self.left() as u64))
    }

    fn ack(&mut self, seq: u64) {
        self.pending.remove(&seq);
        self.given_up.remove(&seq);
        self.queue.retain(|queued| *queued != seq);
    }

    fn queue(&mut self, seq: u64) {
        let Some((_, deliveries)) = self.pending.get(&seq).copied() else { return };
        if self.queue.contains(&seq) {
            return;
        }
        if deliveries >= self.max_deliver {
            self.pending.remove(&seq);
            // Given up after one delivery counts too.
            self.given_up.insert(seq, deliveries);
        } else {
            self.queue.push(seq);
        }
    }

    fn remove(&mut self, seq: u64) {
        self.records.remove(&seq);
        self.ack(seq);
    }

    /// The floor: below the first pending message, or everything delivered.
    fn floor_consumer_seq(&self) -> u64 {
        self.pending.first_key_value().map_or(self.consumer_seq, |(_, (first, _))| first - 1)
    }
}

fn run(seed: u64, world: &mut World) {
    let choices = Random::from_seed(seed);
    world.begin(Medium::Memory);
    let (max_deliver, max_ack_pending) = (2 + choices.below(3), 3 + choices.below(5));
    let config = format!(
        r#"{{"durable_name":"C","ack_policy":"explicit","ack_wait":1000000000,"filter_subjects":["s.a","s.b.*"],"max_deliver":{max_deliver},"max_ack_pending":{max_ack_pending}}}"#
    );
    let mut consumer = world.create(&config);
    let mut reference = Reference {
        next_seq: 1,
        max_deliver,
        max_ack_pending: usize::try_from(max_ack_pending).expect("small"),
        ..Reference::default()
    };
    let mut history = Vec::new();
    for step in 0..250 {
        let pick = |keys: Vec<u64>| -> Option<u64> {
            (!keys.is_empty())
                .then(|| keys[usize::try_from(choices.below(keys.len() as u64)).expect("small")])
        };
        let kind = choices.below(100);
        match kind {
            0..30 => {
                let subject =
                    ["s.a", "s.b.x", "s.c", "t.z"][usize::try_from(choices.below(4)).expect("small")];
                let seq = world.publish(subject, "x");
                if choices.below(2) == 0 {
                    consumer.handle_appended(seq, subject.as_bytes());
                }
                reference.records.insert(seq, subject != "s.c" && subject != "t.z");
                reference.last_seq = seq;
                history.push(format!("publish {subject}"));
                assert_eq!(world.drive(&mut consumer), Vec::<String>::new(), "seed {seed} step {step}");
            }
            30..60 => {
                let batch = 1 + choices.below(4);
                history.push(format!("pull {batch}"));
                let mut expected = Vec::new();
                for _ in 0..batch {
                    let Some((seq, consumer_seq, deliveries, left)) = reference.deliver() else { break };
                    expected.push(format!("r: {seq}/{consumer_seq} x{deliveries} +{left}"));
                }
                let body = format!(r#"{{"batch":{batch},"expires":1}}"#);
                let said = world.pull(&mut consumer, "r", &body);
                let delivered: Vec<String> = said.into_iter().filter(|line| line.contains('/')).collect();
                assert_eq!(delivered, expected, "seed {seed} step {step} {history:?}");
                world.now += 1;
                world.with(&mut consumer, |consumer, view| consumer.handle_timeout(view));
            }
            60..75 => {
                let keys = reference.pending.keys().copied().collect();
                let Some(seq) = pick(keys) else { continue };
                let body = if choices.below(4) == 0 { "+TERM" } else { "+ACK" };
                history.push(format!("{body} {seq}"));
                world.ack(&mut consumer, seq, reference.pending[&seq].0, body);
                reference.ack(seq);
            }
            75..83 => {
                let keys = reference.pending.keys().copied().collect();
                let Some(seq) = pick(keys) else { continue };
                history.push(format!("nak {seq}"));
                // The consumer sequence of the latest delivery is within range in any case.
                world.ack(&mut consumer, seq, reference.consumer_seq, "-NAK");
                reference.queue(seq);
            }
            83..89 => {
                history.push("ack wait".to_owned());
                world.now += SECOND;
                let due: Vec<u64> = reference.pending.keys().copied().collect();
                world.with(&mut consumer, |consumer, view| consumer.handle_timeout(view));
                for seq in due {
                    reference.queue(seq);
                }
            }
            89..94 => {
                let Some(seq) = pick(reference.records.keys().copied().collect()) else { continue };
                history.push(format!("delete {seq}"));
                let record = world.store.get(world.log, seq).expect("readable").expect("present");
                world.store.remove(world.log, &[seq]).expect("removed");
                world.settle();
                let removed = Removed::One { seq, subject: &record.subject };
                world.with(&mut consumer, |consumer, view| consumer.handle_removed(removed, view));
                reference.remove(seq);
            }
            94..96 => {
                let first = 1 + choices.below(reference.last_seq + 1);
                history.push(format!("limits below {first}"));
                world.store.evict_below(world.log, first);
                let first_seq = world.store.state(world.log).expect("the log").first_seq;
                let removed = Removed::Below { first_seq };
                world.with(&mut consumer, |consumer, view| consumer.handle_removed(removed, view));
                let gone: Vec<u64> = reference.records.range(..first).map(|(seq, _)| *seq).collect();
                gone.into_iter().for_each(|seq| reference.remove(seq));
                reference.given_up.retain(|seq, _| *seq >= first_seq);
            }
            96..98 => {
                history.push("purge s.b.*".to_owned());
                let matcher = |subject: &[u8]| weir_protocol::subject::matches(subject, b"s.b.*");
                let mut gone = Vec::new();
                for seq in reference.records.keys() {
                    let record = world.store.get(world.log, *seq).expect("readable").expect("present");
                    if matcher(&record.subject) {
                        gone.push(*seq);
                    }
                }
                world.store.remove(world.log, &gone).expect("removed");
                world.settle();
                world.with(&mut consumer, |consumer, view| {
                    consumer.handle_removed(Removed::Purged { filter: Some(b"s.b.*") }, view);
                });
                gone.into_iter().for_each(|seq| reference.remove(seq));
            }
            _ => {
                history.push("restart".to_owned());
                consumer = world.restart(&mut consumer);
                reference.queue.sort_unstable();
            }
        }
        let info = consumer.info(&world.view());
        let seen = (
            info.delivered.consumer_seq,
            info.ack_floor.consumer_seq,
            info.num_ack_pending,
            info.num_redelivered,
            info.num_pending,
        );
        let expected = (
            reference.consumer_seq,
            reference.floor_consumer_seq(),
            i64::try_from(reference.pending.len()).expect("small"),
            i64::try_from(reference.redelivered()).expect("small"),
            reference.left() as u64,
        );
        assert_eq!(seen, expected, "seed {seed} step {step} {history:#?} {consumer:#?}");
        if let Some((first, _)) = reference.pending.first_key_value() {
            assert!(info.ack_floor.stream_seq < *first, "seed {seed} step {step}: floor beyond {first}");
        }
        assert!(info.ack_floor.stream_seq <= world.last_seq(), "seed {seed} step {step}");
    }
}

#[test]
fn the_consumer_agrees_with_a_naive_reference() {
    // A failure prints its seed: `WEIR_SEED=<seed>` runs that one alone.
    let mut world = World::new();
    if let Some(seed) = std::env::var_os("WEIR_SEED") {
        let number = seed.to_str().and_then(|seed| seed.parse().ok());
        return run(
            number.unwrap_or_else(|| panic!("WEIR_SEED is {seed:?}, which is no number")),
            &mut world,
        );
    }
    for seed in 0..300 {
        run(seed, &mut world);
    }
}
