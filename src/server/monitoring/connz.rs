//! `/connz`: the connections that are, and the latest that were.

use std::cmp::Reverse;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use serde::Serialize;
use weir_protocol::duration;
use weir_protocol::error::ClosedReason;
use weir_protocol::time::rfc3339;

use super::query::{BadQuery, Query};
use super::uptime;
use crate::broker::{ConnectionInfo, Peer};
use crate::server::Shared;
use crate::server::registry::Closed;

/// Connections shown when the request names no limit.
const LIMIT: usize = 1024;

#[derive(Serialize)]
pub(super) struct Connz {
    server_id: String,
    #[serde(with = "rfc3339")]
    now: i64,
    num_connections: usize,
    total: usize,
    offset: usize,
    limit: usize,
    connections: Vec<Connection>,
}

#[derive(Serialize)]
struct Connection {
    cid: u64,
    kind: &'static str,
    #[serde(rename = "type")]
    kind_of_client: &'static str,
    ip: String,
    port: u16,
    #[serde(with = "rfc3339")]
    start: i64,
    #[serde(with = "rfc3339")]
    last_activity: i64,
    #[serde(skip_serializing_if = "Option::is_none", serialize_with = "time")]
    stop: Option<i64>,
    #[serde(skip_serializing_if = "str::is_empty")]
    reason: &'static str,
    #[serde(skip_serializing_if = "String::is_empty")]
    rtt: String,
    uptime: String,
    idle: String,
    pending_bytes: usize,
    in_msgs: u64,
    out_msgs: u64,
    in_bytes: u64,
    out_bytes: u64,
    #[serde(skip_serializing_if = "is_zero")]
    stalls: u64,
    subscriptions: usize,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    lang: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    subscriptions_list_detail: Vec<Detail>,
    #[serde(skip)]
    idle_nanos: i64,
    #[serde(skip)]
    rtt_span: std::time::Duration,
}

#[derive(Serialize)]
struct Detail {
    subject: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    qgroup: Option<String>,
    sid: String,
    msgs: u64,
    #[serde(skip_serializing_if = "is_zero")]
    max: u64,
    cid: u64,
}

/// Which subscriptions are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Subscriptions {
    None,
    Subjects,
    Details,
}

/// Which connections are shown.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Open,
    Closed,
    All,
}

/// What the connections are ordered by; numbers and times fall, but for cid, start and stop.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Order {
    Cid,
    Start,
    Subs,
    Pending,
    MessagesTo,
    MessagesFrom,
    BytesTo,
    BytesFrom,
    Last,
    Idle,
    Uptime,
    Stop,
    Reason,
    Rtt,
}

pub(super) fn connz(shared: &Shared, query: &Query) -> Result<Connz, BadQuery> {
    let which = which(query)?;
    let order = order(query, which)?;
    let subscriptions = match query.text("subs") {
        "detail" => Subscriptions::Details,
        _ if query.flag("subs")? => Subscriptions::Subjects,
        _ => Subscriptions::None,
    };
    let (offset, limit, cid) = (query.number("offset")?, query.number("limit")?, query.number("cid")?);
    let limit = if limit == 0 { LIMIT } else { limit };

    let now = shared.clock.wall();
    let mut connections = Vec::new();
    // An id asked for is found whatever became of it.
    if which != Which::Closed || cid > 0 {
        connections.extend(shared.registry.open().iter().map(|peer| open(peer, now, subscriptions)));
    }
    if which != Which::Open || cid > 0 {
        connections.extend(shared.registry.closed().iter().map(closed));
    }
    connections.retain(|connection| cid == 0 || connection.cid == cid as u64);
    sort(&mut connections, order);
    let total = connections.len();
    let connections: Vec<_> = connections.into_iter().skip(offset).take(limit).collect();
    let num_connections = connections.len();
    Ok(Connz {
        server_id: shared.info.server_id.clone(),
        now,
        num_connections,
        total,
        offset,
        limit,
        connections,
    })
}

fn which(query: &Query) -> Result<Which, BadQuery> {
    match query.text("state").to_ascii_lowercase().as_str() {
        "" | "open" => Ok(Which::Open),
        "closed" => Ok(Which::Closed),
        "any" | "all" => Ok(Which::All),
        other => Err(BadQuery(format!("Error decoding state for {other}"))),
    }
}

fn order(query: &Query, which: Which) -> Result<Order, BadQuery> {
    let order = match query.text("sort") {
        "" | "cid" => Order::Cid,
        "start" => Order::Start,
        "subs" => Order::Subs,
        "pending" => Order::Pending,
        "msgs_to" => Order::MessagesTo,
        "msgs_from" => Order::MessagesFrom,
        "bytes_to" => Order::BytesTo,
        "bytes_from" => Order::BytesFrom,
        "last" => Order::Last,
        "idle" => Order::Idle,
        "uptime" => Order::Uptime,
        "stop" => Order::Stop,
        "reason" => Order::Reason,
        "rtt" => Order::Rtt,
        other => return Err(BadQuery(format!("invalid sorting option: {other}"))),
    };
    if matches!(order, Order::Stop | Order::Reason) && which != Which::Closed {
        let name = query.text("sort");
        return Err(BadQuery(format!("sort by {name} only valid on closed connections")));
    }
    Ok(order)
}

fn sort(connections: &mut [Connection], order: Order) {
    match order {
        Order::Cid | Order::Start => connections.sort_by_key(|c| c.cid),
        Order::Subs => connections.sort_by_key(|c| Reverse(c.subscriptions)),
        Order::Pending => connections.sort_by_key(|c| Reverse(c.pending_bytes)),
        Order::MessagesTo => connections.sort_by_key(|c| Reverse(c.out_msgs)),
        Order::MessagesFrom => connections.sort_by_key(|c| Reverse(c.in_msgs)),
        Order::BytesTo => connections.sort_by_key(|c| Reverse(c.out_bytes)),
        Order::BytesFrom => connections.sort_by_key(|c| Reverse(c.in_bytes)),
        Order::Last => connections.sort_by_key(|c| Reverse(c.last_activity)),
        Order::Idle => connections.sort_by_key(|c| Reverse(c.idle_nanos)),
        Order::Uptime => connections.sort_by_key(|c| c.start),
        Order::Stop => connections.sort_by_key(|c| c.stop),
        Order::Reason => connections.sort_by_key(|c| c.reason),
        Order::Rtt => connections.sort_by_key(|c| Reverse(c.rtt_span)),
    }
}

fn open(peer: &Arc<Peer>, now: i64, subscriptions: Subscriptions) -> Connection {
    let info = peer.info();
    let last_activity = peer.received.last.load(Ordering::Relaxed).max(info.start);
    let mut connection = connection(&info, peer.received.counts(), peer.outbox.delivered());
    connection.last_activity = last_activity;
    connection.idle_nanos = now - last_activity;
    connection.idle = uptime(now - last_activity);
    connection.uptime = uptime(now - info.start);
    connection.pending_bytes = peer.outbox.pending();
    connection.stalls = peer.received.stalls.load(Ordering::Relaxed);
    let mut all: Vec<_> = peer.all_subscriptions();
    all.sort_unstable_by_key(|subscription| subscription.id);
    connection.subscriptions = all.len();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    match subscriptions {
        Subscriptions::None => {}
        Subscriptions::Subjects => {
            connection.subscriptions_list = all.iter().map(|s| text(&s.filter)).collect()
        }
        Subscriptions::Details => {
            let detail = |s: &Arc<crate::broker::Subscription>| Detail {
                subject: text(&s.filter),
                qgroup: s.queue.as_deref().map(text),
                sid: text(&s.sid),
                msgs: s.delivered(),
                max: s.max(),
                cid: peer.id,
            };
            connection.subscriptions_list_detail = all.iter().map(detail).collect();
        }
    }
    connection
}

fn closed(closed: &Closed) -> Connection {
    let mut connection = connection(&closed.info, closed.received, closed.delivered);
    connection.last_activity = closed.last_activity;
    connection.idle_nanos = closed.stop - closed.last_activity;
    connection.idle = uptime(connection.idle_nanos);
    connection.uptime = uptime(closed.stop - closed.info.start);
    connection.stop = Some(closed.stop);
    connection.reason = ClosedReason::as_str(closed.reason);
    connection
}

fn connection(info: &ConnectionInfo, received: (u64, u64), delivered: (u64, u64)) -> Connection {
    Connection {
        cid: info.id,
        kind: "Client",
        kind_of_client: "nats",
        ip: info.host.clone(),
        port: info.port,
        start: info.start,
        last_activity: info.start,
        stop: None,
        reason: "",
        rtt: if info.rtt.is_zero() { String::new() } else { duration::format(info.rtt) },
        uptime: String::new(),
        idle: String::new(),
        pending_bytes: 0,
        in_msgs: received.0,
        out_msgs: delivered.0,
        in_bytes: received.1,
        out_bytes: delivered.1,
        stalls: 0,
        subscriptions: 0,
        name: info.name.clone(),
        lang: info.lang.clone(),
        version: info.version.clone(),
        subscriptions_list: Vec::new(),
        subscriptions_list_detail: Vec::new(),
        idle_nanos: 0,
        rtt_span: info.rtt,
    }
}

#[expect(clippy::ref_option, reason = "serde passes a reference")]
fn time<S: serde::Serializer>(value: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(nanoseconds) => rfc3339::serialize(nanoseconds, serializer),
        None => serializer.serialize_none(),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &u64) -> bool {
    *value == 0
}
