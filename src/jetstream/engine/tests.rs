//! The engine in virtual time, through nothing but its inputs and outputs: the world of a test has a store on a simulated
//! disk that works when it is told to, a clock, and a client that remembers what it was sent.

mod bounds;
mod damage;
mod mirrors;
mod model;
mod publishing;
mod refusals;
mod requests;
mod restarts;

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use weir_protocol::{header, subject};
use weir_storage::simulated::Simulated;
use weir_storage::{LogId, Next, Options, Store};

use super::subscriptions::API_FILTERS;
use super::*;
use crate::jetstream::output::{Message, SubscriptionChange};
use crate::sys::random::Random;

/// 2024-01-01T00:00:00Z.
const START: i64 = 1_704_067_200_000_000_000;
const MILLISECOND: i64 = 1_000_000;
const SECOND: i64 = 1_000_000_000;

/// Subjects somebody is subscribed to; in a queue group, its name follows after a space.
#[derive(Default)]
struct Subscribed(RefCell<BTreeSet<Vec<u8>>>);

fn subscription(subject: &[u8], queue: Option<&[u8]>) -> Vec<u8> {
    queue.map_or_else(|| subject.to_vec(), |queue| [subject, b" ", queue].concat())
}

impl Interest for Subscribed {
    fn has(&self, subject: &[u8]) -> bool {
        self.0.borrow().iter().any(|each| {
            let filter = each.split(|byte| *byte == b' ').next().unwrap_or_default();
            subject::matches(subject, filter)
        })
    }

    fn listens(&self, subject: &[u8], queue: Option<&[u8]>) -> bool {
        self.0.borrow().contains(&subscription(subject, queue))
    }
}

struct World {
    disk: Simulated,
    store: Option<Store>,
    engine: Engine,
    interest: Subscribed,
    now: i64,
    /// What the engine asked to hear.
    heard: Vec<(Bytes, Tag)>,
    /// The subjects whose interest it watches.
    watched: Vec<(Bytes, Tag)>,
    sent: Vec<Message>,
    requests: u64,
}

fn config() -> EngineConfig {
    EngineConfig {
        server_name: "weir".to_owned(),
        version: "2.14.0".to_owned(),
        api_level: 0,
        domain: String::new(),
        max_payload: 1 << 20,
        max_pending: 64 << 20,
        random: Random::from_seed(7),
    }
}

impl World {
    fn new() -> Self {
        Self::on(Simulated::new())
    }

    /// A world that finds this disk.
    fn on(disk: Simulated) -> Self {
        let mut world = Self {
            disk,
            store: None,
            engine: Engine::new(config()),
            interest: Subscribed::default(),
            now: START,
            heard: Vec::new(),
            watched: Vec::new(),
            sent: Vec::new(),
            requests: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        // A small cache, so that what is in the database is read from the disk.
        let (journal_file_bytes, cache_bytes) = (64 << 10, 64 << 10);
        let options = Options { journal_file_bytes, cache_bytes, is_threaded: false, ..Options::default() };
        let mut store = Store::open(Arc::new(self.disk.clone()), options).expect("the store opens");
        self.engine = Engine::new(config());
        self.interest.0.borrow_mut().insert(b"_INBOX.>".to_vec());
        self.heard.clear();
        self.watched.clear();
        self.engine.restore(self.now, &mut store, &self.interest);
        self.engine.resume_mirrors(self.now, &mut store, &self.interest);
        self.store = Some(store);
        self.settle();
    }

    /// Stops the server cleanly and starts it again on the same folder.
    fn restart(&mut self) {
        let mut store = self.store.take().expect("it runs");
        self.engine.shutdown(self.now, &mut store, &self.interest);
        store.close().expect("the store closes");
        self.start();
    }

    /// Ends the server as a kill does, and starts it again: only what was sealed and answered is left.
    fn crash(&mut self) {
        drop(self.store.take());
        self.engine.outputs().take_now();
        self.engine.outputs().take_held();
        self.start();
    }

    fn store(&self) -> &Store {
        self.store.as_ref().expect("it runs")
    }

    /// Delivers what is durable, until nothing moves any more.
    fn settle(&mut self) {
        for _ in 0..1000 {
            let store = self.store.as_mut().expect("it runs");
            if self.engine.poll_timeout().is_some_and(|due| due <= self.now) {
                self.engine.handle_timeout(self.now, store, &self.interest);
            } else {
                self.engine.handle_durable(self.now, store, &self.interest);
            }
            let staged = store.staged_bytes() > 0;
            let (send, done) = std::sync::mpsc::channel();
            store.seal(Box::new(move |sealed| send.send(sealed).expect("the test waits")));
            let events = store.process();
            done.try_recv().expect("the journal answers").expect("the disk works");
            self.take_outputs();
            let waits = self.engine.poll_timeout().is_some_and(|due| due <= self.now);
            if !staged && !events.durable && !waits {
                return;
            }
        }
        panic!("the engine does not come to rest");
    }

    fn take_outputs(&mut self) {
        for change in self.engine.outputs().take_subscription_changes() {
            match change {
                SubscriptionChange::Subscribe { filter, tag } => self.heard.push((filter, tag)),
                SubscriptionChange::Unsubscribe { filter, tag } => {
                    self.heard.retain(|each| *each != (filter.clone(), tag))
                }
                SubscriptionChange::Watch { subject, tag } => self.watched.push((subject, tag)),
                SubscriptionChange::Unwatch { tag } => self.watched.retain(|(_, each)| *each != tag),
            }
        }
        let now = self.engine.outputs().take_now();
        let held = self.engine.outputs().take_held().into_iter().map(|held| held.message);
        self.sent.extend(now.into_iter().chain(held));
    }

    /// Publishes a message; returns what came to its reply subject, or `None` when nobody listens.
    fn send(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Option<Vec<Message>> {
        let reply = self.hand_over(subject, headers, payload)?;
        self.settle();
        Some(self.received(&reply))
    }

    /// Hands a message to whoever hears it; returns where answers go. Nothing is sealed.
    fn hand_over(&mut self, subject: &str, headers: &[(&str, &str)], payload: &[u8]) -> Option<Bytes> {
        self.requests += 1;
        let reply = Bytes::from(format!("_INBOX.{}", self.requests));
        self.hand_over_with(subject, reply.clone(), headers, payload).then_some(reply)
    }

    /// As [`Self::hand_over`], with nobody who waits for an answer.
    fn hand_over_quietly(&mut self, subject: &str, payload: &[u8]) -> bool {
        self.hand_over_with(subject, Bytes::new(), &[], payload)
    }

    fn hand_over_with(
        &mut self,
        subject: &str,
        reply: Bytes,
        headers: &[(&str, &str)],
        payload: &[u8],
    ) -> bool {
        let mut block = header::Builder::new();
        for (name, value) in headers {
            block.add(name, value);
        }
        let headers = if headers.is_empty() { Bytes::new() } else { block.finish() };
        let tags: Vec<Tag> = self
            .heard
            .iter()
            .filter(|(filter, _)| subject::matches(subject.as_bytes(), filter))
            .map(|(_, tag)| *tag)
            .collect();
        let is_heard = !tags.is_empty();
        for tag in tags {
            let input = Input::Message {
                tag,
                subject: Bytes::copy_from_slice(subject.as_bytes()),
                reply: reply.clone(),
                headers: headers.clone(),
                payload: Bytes::copy_from_slice(payload),
            };
            let store = self.store.as_mut().expect("it runs");
            self.engine.handle(self.now, input, store, &self.interest);
        }
        is_heard
    }

    /// Somebody subscribes to this very subject, in a queue group or alone, or does no longer; the engine hears of it.
    fn set_listening(&mut self, subject: &str, queue: Option<&str>, listens: bool) {
        let subscription = subscription(subject.as_bytes(), queue.map(str::as_bytes));
        if listens {
            self.interest.0.borrow_mut().insert(subscription);
        } else {
            self.interest.0.borrow_mut().remove(&subscription);
        }
        let watches = self.watched.iter().filter(|(watched, _)| *watched == subject);
        for tag in watches.map(|(_, tag)| *tag).collect::<Vec<_>>() {
            let store = self.store.as_mut().expect("it runs");
            self.engine.handle(self.now, Input::InterestChanged { tag }, store, &self.interest);
        }
    }

    /// Takes what was sent to a subject.
    fn received(&mut self, to: &[u8]) -> Vec<Message> {
        let (mine, rest) = std::mem::take(&mut self.sent).into_iter().partition(|message| message.to == to);
        self.sent = rest;
        mine
    }

    /// The one text that answers a request.
    fn ask(&mut self, subject: &str, body: &str) -> String {
        self.ask_with(subject, &[], body)
    }

    fn ask_with(&mut self, subject: &str, headers: &[(&str, &str)], body: &str) -> String {
        let answers = self
            .send(subject, headers, body.as_bytes())
            .unwrap_or_else(|| panic!("{subject}: nobody listens"));
        let [answer] = answers.as_slice() else { panic!("{subject}: {} answers", answers.len()) };
        String::from_utf8_lossy(&answer.payload).into_owned()
    }

    fn create(&mut self, config: &str) -> String {
        let name = config.split('"').nth(3).expect("the name comes first").to_owned();
        let answer = self.ask(&format!("$JS.API.STREAM.CREATE.{name}"), config);
        assert!(answer.contains("did_create"), "{answer}");
        answer
    }

    /// The answer to a publish without what all acks share.
    fn publish(&mut self, subject: &str, payload: &str) -> String {
        self.ask_with(subject, &[], payload)
    }

    /// Time passes; timeouts come when they are due.
    fn advance(&mut self, by: i64) {
        let until = self.now + by;
        while let Some(due) = self.engine.poll_timeout().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            let store = self.store.as_mut().expect("it runs");
            self.engine.handle_timeout(self.now, store, &self.interest);
            self.settle();
        }
        self.now = until;
        self.settle();
    }

    fn stream(&self, name: &str) -> &Stream {
        let id = self.engine.names.get(name).expect(name);
        self.engine.streams.get(id).expect(name)
    }

    /// `(messages, first_seq, last_seq)`.
    fn numbers(&self, name: &str) -> (u64, u64, u64) {
        let state = self.stream(name).api_state(self.store());
        (state.messages, state.first_seq, state.last_seq)
    }

    /// Every message of a stream: sequence, subject, payload.
    fn contents(&self, name: &str) -> Vec<(u64, String, String)> {
        let log = self.stream(name).log;
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let (mut all, mut next) = (Vec::new(), 0);
        loop {
            match self.store().next(log, next, u64::MAX, None, 65_536).expect("it can be read") {
                Next::Record(record) => {
                    next = record.seq + 1;
                    all.push((record.seq, text(&record.subject), text(&record.payload)));
                }
                Next::More(seq) => next = seq,
                Next::End => return all,
            }
        }
    }
}
