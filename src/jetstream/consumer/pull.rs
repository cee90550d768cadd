//! Pull requests: which are waiting, who gets the next message, and how each ends.
//!
//! One message goes to the request at the head, which then moves to the tail. A request ends when its batch is full,
//! its bytes are used up, it expires, its client is gone, or (without waiting) nothing is left. Priority groups are
//! refused with the configuration, so every request here is equal.

use std::collections::VecDeque;

use bytes::Bytes;
use weir_protocol::duration;
use weir_protocol::jetstream::api::exceeds_level;
use weir_protocol::jetstream::pull::{self, Pull};

use super::{Consumer, Mode, View};
use crate::jetstream::interest::Interest;
use crate::jetstream::output::Outputs;

const SECOND: i64 = 1_000_000_000;

/// A waiting request.
#[derive(Debug)]
struct Request {
    to: Bytes,
    /// Messages still wanted.
    left: i64,
    /// Bytes still allowed; 0 without a limit.
    bytes: i64,
    delivered: bool,
    expires: Option<i64>,
    no_wait: bool,
    heartbeat: i64,
    heartbeat_at: Option<i64>,
    /// The pass of deliveries in which interest was looked at last.
    looked_at: u64,
}

/// The waiting requests of a pull consumer.
#[derive(Debug)]
pub(super) struct Pulls {
    waiting: VecDeque<Request>,
    max: usize,
    /// When a client last showed itself.
    pub(super) active_at: i64,
    /// When some request expires or wants a heartbeat, at the earliest.
    pub(super) wake_at: Option<i64>,
    one_shots: usize,
    pass: u64,
    tidied_at: i64,
}

/// Who gets a message.
#[derive(Debug)]
pub(super) struct Taker {
    pub(super) to: Bytes,
    /// Bytes that were left when the batch was complete: to be told.
    pub(super) bytes_left: Option<i64>,
}

impl Pulls {
    pub(super) fn new(max: i64, now: i64) -> Self {
        Self {
            waiting: VecDeque::new(),
            max: usize::try_from(max).unwrap_or(0),
            active_at: now,
            wake_at: None,
            one_shots: 0,
            pass: 0,
            tidied_at: i64::MIN,
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many wait and have a client that listens.
    pub(super) fn live(&self, now: i64, interest: &dyn Interest) -> usize {
        let alive = |request: &&Request| !request.is_expired(now) && interest.has(&request.to);
        self.waiting.iter().filter(alive).count()
    }

    /// How many messages the waiting requests still want.
    fn wanted(&self) -> u64 {
        self.waiting
            .iter()
            .map(|request| u64::try_from(request.left).unwrap_or(0))
            .fold(0, u64::saturating_add)
    }

    /// A new pass of deliveries: interest is looked at again, once for each request.
    pub(super) fn begin_pass(&mut self) {
        self.pass = self.pass.wrapping_add(1);
    }

    fn pop(&mut self) {
        if let Some(request) = self.waiting.pop_front() {
            self.one_shots = self.one_shots.saturating_sub(usize::from(request.no_wait));
        }
    }

    fn push(&mut self, request: Request) {
        self.one_shots = self.one_shots.saturating_add(usize::from(request.no_wait));
        self.wake_at = earliest(self.wake_at, request.wake_at());
        self.waiting.push_back(request);
    }

    /// Gives a message of `size` bytes to the next request that can take it.
    pub(super) fn take(
        &mut self,
        size: usize,
        now: i64,
        interest: &dyn Interest,
        outputs: &mut Outputs,
    ) -> Option<Taker> {
        let size = i64::try_from(size).unwrap_or(i64::MAX);
        let pass = self.pass;
        loop {
            let request = self.waiting.front_mut()?;
            if request.is_expired(now) {
                request.end(408, "Request Timeout", outputs);
                self.pop();
                continue;
            }
            if request.looked_at != pass {
                request.looked_at = pass;
                if !interest.has(&request.to) {
                    self.pop();
                    continue;
                }
            }
            if request.bytes > 0 {
                if size > request.bytes {
                    request.end(409, "Message Size Exceeds MaxBytes", outputs);
                    self.pop();
                    continue;
                }
                request.bytes = request.bytes.saturating_sub(size);
                if request.bytes == 0 {
                    request.left = 1;
                }
            }
            request.left = request.left.saturating_sub(1);
            request.delivered = true;
            if request.heartbeat > 0 {
                request.heartbeat_at = Some(now.saturating_add(request.heartbeat));
            }
            let done = request.left <= 0;
            let taker = Taker {
                to: request.to.clone(),
                bytes_left: (done && request.bytes > 0).then_some(request.bytes),
            };
            if done {
                self.pop();
            } else if self.waiting.len() > 1 {
                self.waiting.rotate_left(1);
            }
            self.active_at = now;
            return Some(taker);
        }
    }

    /// Ends what expired or lost its client and, when nothing more can be delivered (`exhausted`), what does not
    /// wait; sends heartbeats. `position` is the last delivery, for those.
    pub(super) fn tidy(
        &mut self,
        exhausted: bool,
        position: (u64, u64),
        now: i64,
        interest: &dyn Interest,
        outputs: &mut Outputs,
    ) {
        self.tidied_at = now;
        self.wake_at = None;
        for mut request in std::mem::take(&mut self.waiting) {
            let mut keep = true;
            if request.is_expired(now) {
                request.end(408, "Request Timeout", outputs);
                keep = false;
            } else if exhausted && request.no_wait && (request.expires.is_none() || request.delivered) {
                outputs.status(request.to.clone(), pull::status(404, "No Messages"));
                keep = false;
            } else if !interest.has(&request.to) {
                keep = false;
            }
            if !keep {
                self.one_shots = self.one_shots.saturating_sub(usize::from(request.no_wait));
                continue;
            }
            if request.heartbeat_at.is_some_and(|at| now >= at) {
                outputs.status(request.to.clone(), pull::idle_heartbeat(position.0, position.1, None));
                request.heartbeat_at = Some(now.saturating_add(request.heartbeat));
            }
            self.wake_at = earliest(self.wake_at, request.wake_at());
            self.waiting.push_back(request);
        }
    }

    /// Whether [`Self::tidy`] would find something to do.
    pub(super) fn wants_tidying(&self, exhausted: bool, now: i64) -> bool {
        self.wake_at.is_some_and(|at| now >= at) || exhausted && self.one_shots > 0
    }

    /// Ends all requests with this status.
    pub(super) fn end_all(&mut self, outputs: &mut Outputs, say: impl Fn(i64, i64) -> Bytes) {
        for request in self.waiting.drain(..) {
            outputs.status(request.to, say(request.left, request.bytes));
        }
        self.one_shots = 0;
        self.wake_at = None;
    }
}

impl Request {
    fn is_expired(&self, now: i64) -> bool {
        self.expires.is_some_and(|expires| now >= expires)
    }

    fn wake_at(&self) -> Option<i64> {
        earliest(self.expires, self.heartbeat_at)
    }

    fn end(&self, code: u16, text: &str, outputs: &mut Outputs) {
        outputs.status(self.to.clone(), pull::status_with_pending(code, text, self.left, self.bytes));
    }
}

pub(super) fn earliest(a: Option<i64>, b: Option<i64>) -> Option<i64> {
    match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        (one, other) => one.or(other),
    }
}

impl Consumer {
    /// A pull request came (`$JS.API.CONSUMER.MSG.NEXT.<stream>.<consumer>`).
    pub fn handle_pull(&mut self, reply: &[u8], headers: &[u8], body: &[u8], view: &mut View<'_>) {
        if reply.is_empty() {
            return;
        }
        // Copied: a waiting request outlives the buffer it came in.
        let to = Bytes::copy_from_slice(reply);
        if let Err(refusal) = self.admit_pull(&to, headers, body, view) {
            view.outputs.status(to, refusal);
        }
    }

    fn admit_pull(
        &mut self,
        to: &Bytes,
        headers: &[u8],
        body: &[u8],
        view: &mut View<'_>,
    ) -> Result<(), Bytes> {
        if matches!(self.mode, Mode::Push(_)) {
            return Err(pull::status(409, "Consumer is push based"));
        }
        if exceeds_level(headers, view.api_level) {
            return Err(pull::status(412, "Required Api Level"));
        }
        let bad = |why: &str| pull::status(400, &format!("Bad Request - {why}"));
        let Pull { request, json } = Pull::parse(body).map_err(|why| bad(&why))?;
        let over = |what: &str, limit: String| pull::status(409, &format!("Exceeded {what} of {limit}"));
        let config = &self.config;
        if config.max_batch > 0 && request.batch > config.max_batch {
            return Err(over("MaxRequestBatch", config.max_batch.to_string()));
        }
        if config.max_expires > 0 && request.expires > config.max_expires {
            return Err(over("MaxRequestExpires", duration::format_nanos(config.max_expires)));
        }
        if config.max_bytes > 0 && request.max_bytes > config.max_bytes {
            return Err(over("MaxRequestMaxBytes", config.max_bytes.to_string()));
        }
        if json {
            let priority = &request.priority;
            if priority.min_pending != 0 || priority.min_ack_pending != 0 {
                return Err(bad("Not a Overflow Priority consumer"));
            }
            if !priority.id.is_empty() {
                return Err(bad("Not a Pinned Client Priority consumer"));
            }
            if !(0..=9).contains(&priority.priority) {
                return Err(bad("Priority must be between 0 and 9"));
            }
        }
        let left = request.batch.max(1);
        let expires = (request.expires != 0).then(|| view.now.saturating_add(request.expires));
        if request.no_wait {
            self.admit_one_shot(expires.is_none(), view)?;
        }
        let position = self.position();
        let Mode::Pull(pulls) = &mut self.mode else { return Ok(()) };
        if pulls.waiting.len() >= pulls.max && view.now.saturating_sub(pulls.tidied_at) > SECOND {
            pulls.tidy(false, position, view.now, view.interest, view.outputs);
        }
        if pulls.waiting.len() >= pulls.max {
            // A client with heartbeats notices their absence; an answer would make it ask again at once.
            return if request.idle_heartbeat > 0 {
                Ok(())
            } else {
                Err(pull::status(409, "Exceeded MaxWaiting"))
            };
        }
        pulls.active_at = view.now;
        let heartbeat = request.idle_heartbeat.max(0);
        pulls.push(Request {
            to: to.clone(),
            left,
            bytes: request.max_bytes.max(0),
            delivered: false,
            expires,
            no_wait: request.no_wait,
            heartbeat,
            heartbeat_at: (heartbeat > 0).then(|| view.now.saturating_add(heartbeat)),
            looked_at: 0,
        });
        self.wants_drive = true;
        Ok(())
    }

    /// A request that does not wait is refused when there is nothing, or nothing that is not promised to others.
    fn admit_one_shot(&mut self, gives_up: bool, view: &mut View<'_>) -> Result<(), Bytes> {
        // When the store cannot say, the request waits and the delivery meets the same error.
        let counted = self.sync_count(view).is_ok();
        let queued = u64::try_from(self.unacked.queued()).unwrap_or(u64::MAX);
        let available = self.count.value().saturating_add(queued);
        let position = self.position();
        let Mode::Pull(pulls) = &mut self.mode else { return Ok(()) };
        if available == 0 && gives_up && counted {
            pulls.active_at = view.now;
            return Err(pull::status(404, "No Messages"));
        }
        if available > 0 {
            pulls.tidy(false, position, view.now, view.interest, view.outputs);
            if available < pulls.wanted() {
                pulls.active_at = view.now;
                return Err(pull::status(408, "Requests Pending"));
            }
        }
        Ok(())
    }

    /// Last consumer sequence and last stream sequence looked at, as heartbeats tell them.
    pub(super) fn position(&self) -> (u64, u64) {
        (self.delivered.consumer, self.next_seq.saturating_sub(1))
    }
}
