//! The consumer as scenarios in virtual time: a world with a store, listeners and a clock, and what is said in it as
//! short lines.

mod acks;
mod delivery;
mod model;
mod pulls;
mod pushes;
mod removals;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::{Arc, mpsc};

use weir_protocol::header;
use weir_protocol::jetstream::ack::AckSubject;
use weir_protocol::jetstream::consumer::ConsumerConfig;
use weir_protocol::jetstream::json::decode_strict;
use weir_protocol::jetstream::stream::StreamConfig;
use weir_storage::disk::Folder;
use weir_storage::{Cost, Layout, LogSpec, Medium, Options};

use super::*;
use crate::jetstream::output::Message;

pub(super) const SECOND: i64 = 1_000_000_000;
pub(super) const START: i64 = 1_700_000_000 * SECOND;

/// Who listens: everybody, but for those named.
#[derive(Default)]
pub(super) struct Listeners {
    gone: BTreeSet<Vec<u8>>,
}

impl Interest for Listeners {
    fn has(&self, subject: &[u8]) -> bool {
        !self.gone.contains(subject)
    }

    fn listens(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        match queue {
            Some(queue) => !self.gone.contains(&[subject, b" ", queue].concat()),
            None => self.has(subject),
        }
    }
}

pub(super) struct World {
    pub(super) store: Store,
    pub(super) log: LogId,
    pub(super) stream: StreamConfig,
    pub(super) listeners: Listeners,
    pub(super) random: Random,
    pub(super) now: i64,
    pub(super) outputs: Outputs,
    _folder: tempfile::TempDir,
}

impl World {
    pub(super) fn new() -> Self {
        Self::of(r#"{"name":"S","subjects":["s.>"],"num_replicas":1,"max_msgs_per_subject":-1}"#)
    }

    pub(super) fn of(stream: &str) -> Self {
        let stream: StreamConfig = decode_strict(stream.as_bytes()).expect("a stream configuration");
        let folder = tempfile::tempdir().expect("a temporary folder");
        let disk = Folder::open(folder.path().join("store")).expect("a folder");
        let store = Store::open(Arc::new(disk), Options { is_threaded: false, ..Options::default() })
            .expect("a store");
        let mut world = Self {
            store,
            log: LogId(0),
            stream,
            listeners: Listeners::default(),
            random: Random::from_seed(1),
            now: START,
            outputs: Outputs::default(),
            _folder: folder,
        };
        world.begin(Medium::Memory);
        world
    }

    /// Goes on with an empty log.
    pub(super) fn begin(&mut self, medium: Medium) {
        let cost = Cost { per_record: 30, per_headers: 4 };
        let spec = LogSpec { medium, layout: Layout::Blocks, cost, first_seq: 1 };
        self.log = self.store.create_log(spec).expect("a log");
        self.now = START;
        self.settle();
    }

    /// Makes everything staged durable.
    pub(super) fn settle(&mut self) {
        let (done, wait) = mpsc::channel();
        self.store.seal(Box::new(move |result| done.send(result).expect("the test waits")));
        self.store.process();
        wait.try_recv().expect("released by the store's own turn").expect("durable");
    }

    pub(super) fn last_seq(&self) -> u64 {
        self.store.state(self.log).expect("the log").last_seq
    }

    /// Stages a record without making it durable.
    pub(super) fn stage(&mut self, subject: &str, payload: &str) -> u64 {
        let seq = self.last_seq() + 1;
        self.store
            .append(self.log, seq, self.now, subject.as_bytes(), b"", payload.as_bytes())
            .expect("staged");
        seq
    }

    pub(super) fn publish(&mut self, subject: &str, payload: &str) -> u64 {
        let seq = self.stage(subject, payload);
        self.settle();
        seq
    }

    pub(super) fn publish_all(&mut self, subjects: &[&str]) {
        for subject in subjects {
            self.stage(subject, "x");
        }
        self.settle();
    }

    pub(super) fn view(&mut self) -> View<'_> {
        View {
            store: &self.store,
            log: self.log,
            stream: &self.stream.name,
            config: &self.stream,
            interest: &self.listeners,
            random: &self.random,
            now: self.now,
            domain: "",
            api_level: 4,
            max_payload: 1 << 20,
            outputs: &mut self.outputs,
        }
    }

    pub(super) fn config(&self, config: &str) -> ConsumerConfig {
        let config: ConsumerConfig = decode_strict(config.as_bytes()).expect("a consumer configuration");
        let limits = Limits::default();
        let config = config::with_defaults(config, &self.stream, &limits, false).expect("defaults");
        config::validate(&config, &self.stream, &limits).expect("valid");
        config
    }

    pub(super) fn create(&mut self, config: &str) -> Consumer {
        let config = self.config(config);
        let now = self.now;
        let mut view = self.view();
        let mut consumer = Consumer::create(config, "C".to_owned(), now, &view).expect("created");
        consumer.state_staged(now, view.outputs);
        consumer.announce(&mut view);
        self.said();
        consumer
    }

    /// Does something with a consumer, delivers, and tells what was said.
    pub(super) fn with(
        &mut self,
        consumer: &mut Consumer,
        act: impl FnOnce(&mut Consumer, &mut View<'_>),
    ) -> Vec<String> {
        let mut view = self.view();
        act(consumer, &mut view);
        for _ in 0..100 {
            consumer.drive(&mut view);
            if consumer.poll_timeout() != Some(0) {
                break;
            }
            consumer.state_staged(view.now, view.outputs);
        }
        self.said()
    }

    pub(super) fn drive(&mut self, consumer: &mut Consumer) -> Vec<String> {
        self.with(consumer, |_, _| {})
    }

    pub(super) fn pull(&mut self, consumer: &mut Consumer, reply: &str, body: &str) -> Vec<String> {
        self.with(consumer, |consumer, view| {
            consumer.handle_pull(reply.as_bytes(), b"", body.as_bytes(), view)
        })
    }

    /// Acknowledges stream sequence `seq` as delivered under `consumer_seq`.
    pub(super) fn ack(
        &mut self,
        consumer: &mut Consumer,
        seq: u64,
        consumer_seq: u64,
        body: &str,
    ) -> Vec<String> {
        self.ack_to(consumer, seq, consumer_seq, body, "")
    }

    pub(super) fn ack_to(
        &mut self,
        consumer: &mut Consumer,
        seq: u64,
        consumer_seq: u64,
        body: &str,
        reply: &str,
    ) -> Vec<String> {
        let subject = format!("$JS.ACK.S.C.1.{seq}.{consumer_seq}.0.0");
        let reply = Bytes::copy_from_slice(reply.as_bytes());
        self.with(consumer, |consumer, view| {
            consumer.handle_ack(subject.as_bytes(), &reply, body.as_bytes(), view)
        })
    }

    /// Lets time pass, with every timeout on the way.
    pub(super) fn pass(&mut self, consumer: &mut Consumer, span: i64) -> Vec<String> {
        let end = self.now + span;
        let mut said = Vec::new();
        for _ in 0..100_000 {
            let next = consumer.poll_timeout().filter(|at| *at <= end);
            self.now = next.unwrap_or(end).max(self.now);
            said.extend(self.with(consumer, |consumer, view| consumer.handle_timeout(view)));
            let now = self.now;
            if consumer.due_state(now, false).is_some() {
                consumer.state_staged(now, &mut self.outputs);
            }
            if next.is_none() || consumer.is_expired() {
                return said;
            }
        }
        panic!("time stands still: {consumer:?}");
    }

    /// `delivered floor ack_pending redelivered pending` as `cs/ss cs/ss n n n`.
    pub(super) fn info(&mut self, consumer: &mut Consumer) -> String {
        let info = consumer.info(&self.view());
        format!(
            "{}/{} {}/{} {} {} {}",
            info.delivered.consumer_seq,
            info.delivered.stream_seq,
            info.ack_floor.consumer_seq,
            info.ack_floor.stream_seq,
            info.num_ack_pending,
            info.num_redelivered,
            info.num_pending
        )
    }

    /// The consumer as it comes back after a restart.
    pub(super) fn restart(&mut self, consumer: &mut Consumer) -> Consumer {
        let state = consumer.encode_state();
        let (config, created) = (consumer.config.clone(), consumer.created);
        Consumer::restore(config, "C".to_owned(), created, Some(&state), &mut self.view()).expect("restored")
    }

    pub(super) fn said(&mut self) -> Vec<String> {
        let mut lines: Vec<String> = self.outputs.take_now().iter().map(line).collect();
        lines.extend(self.outputs.take_held().iter().map(|held| {
            let message = &held.message;
            let to = String::from_utf8_lossy(&message.to).into_owned();
            match to.strip_prefix("$JS.EVENT.") {
                Some(event) => {
                    let advisory: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
                    let kind = event.split('.').rev().nth(2).expect("a kind");
                    let mut line = format!("! {kind}");
                    for member in ["stream_seq", "deliveries", "reason", "paused", "action", "ack_time"] {
                        if !advisory[member].is_null() {
                            write!(line, " {member}={}", advisory[member]).expect("a string");
                        }
                    }
                    line
                }
                None => format!("held {to}"),
            }
        }));
        lines
    }
}

/// `to: stream_seq/consumer_seq xDeliveries +pending` for a delivery, `to: code text ...` for a status.
fn line(message: &Message) -> String {
    let to = String::from_utf8_lossy(&message.to);
    if let Some(ack) = AckSubject::parse(&message.reply) {
        let AckSubject { stream_seq, consumer_seq, deliveries, pending, .. } = ack;
        return format!("{to}: {stream_seq}/{consumer_seq} x{deliveries} +{pending}");
    }
    let status = header::status(&message.headers).expect("a delivery or a status");
    let mut line = format!("{to}: {} {}", status.code, String::from_utf8_lossy(status.description));
    for (name, value) in header::iter(&message.headers) {
        let name = String::from_utf8_lossy(name);
        write!(line, " {}={}", name.trim_start_matches("Nats-"), String::from_utf8_lossy(value))
            .expect("a string");
    }
    line
}
