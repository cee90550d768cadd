//! `/varz`: the server as a whole. Fields and their names are nats-server's; what Weir does not have is left out or zero.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use serde::Serialize;
use weir_protocol::time::rfc3339;

use super::{Monitor, uptime};
use crate::sys::process;

#[derive(Serialize)]
pub(super) struct Varz {
    server_id: String,
    server_name: String,
    version: String,
    proto: i64,
    git_commit: String,
    go: String,
    host: String,
    port: u16,
    max_connections: usize,
    #[serde(skip_serializing_if = "is_zero")]
    max_subscriptions: usize,
    ping_interval: u64,
    ping_max: u32,
    http_port: u16,
    max_control_line: usize,
    max_payload: usize,
    max_pending: usize,
    cluster: Empty,
    gateway: Empty,
    leaf: Empty,
    mqtt: Empty,
    websocket: Empty,
    jetstream: Empty,
    write_deadline: u64,
    #[serde(with = "rfc3339")]
    start: i64,
    #[serde(with = "rfc3339")]
    now: i64,
    uptime: String,
    /// Resident memory in bytes; 0 where the system does not say.
    mem: u64,
    cores: usize,
    /// Of one core, since the start, in percent.
    cpu: f64,
    connections: usize,
    total_connections: u64,
    routes: u64,
    remotes: u64,
    leafnodes: u64,
    in_msgs: u64,
    in_bytes: u64,
    in_client_msgs: u64,
    in_client_bytes: u64,
    out_msgs: u64,
    out_bytes: u64,
    out_client_msgs: u64,
    out_client_bytes: u64,
    slow_consumers: u64,
    stale_connections: u64,
    stalled_clients: u64,
    subscriptions: usize,
    http_req_stats: BTreeMap<&'static str, u64>,
    #[serde(with = "rfc3339")]
    config_load_time: i64,
    config_digest: &'static str,
    slow_consumer_stats: ByKind,
    stale_connection_stats: ByKind,
}

#[derive(Serialize)]
struct Empty {}

#[derive(Serialize)]
struct ByKind {
    clients: u64,
    routes: u64,
    gateways: u64,
    leafs: u64,
}

impl ByKind {
    fn clients(clients: u64) -> Self {
        Self { clients, routes: 0, gateways: 0, leafs: 0 }
    }
}

pub(super) fn varz(monitor: &Monitor) -> Varz {
    let shared = &monitor.shared;
    let (info, limits, totals) = (&shared.info, &shared.limits, shared.broker.totals());
    let counts = shared.registry.counts();
    let now = shared.clock.wall();
    let nanos = |span: std::time::Duration| u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
    let [in_msgs, in_bytes, out_msgs, out_bytes, stalls] =
        [&totals.in_messages, &totals.in_bytes, &totals.out_messages, &totals.out_bytes, &totals.stalls]
            .map(|count| count.load(Ordering::Relaxed));
    let slow_consumers = counts.slow_consumers_pending + counts.slow_consumers_deadline;
    Varz {
        server_id: info.server_id.clone(),
        server_name: info.server_name.clone(),
        version: info.version.clone(),
        proto: info.proto,
        git_commit: info.git_commit.clone(),
        go: info.go.clone(),
        host: info.host.clone(),
        port: info.port,
        max_connections: limits.max_connections,
        max_subscriptions: limits.max_subscriptions,
        ping_interval: nanos(limits.ping_interval),
        ping_max: limits.ping_max,
        http_port: monitor.port,
        max_control_line: limits.max_control_line,
        max_payload: limits.max_payload,
        max_pending: limits.max_pending,
        cluster: Empty {},
        gateway: Empty {},
        leaf: Empty {},
        mqtt: Empty {},
        websocket: Empty {},
        jetstream: Empty {},
        write_deadline: nanos(limits.write_deadline),
        start: shared.start,
        now,
        uptime: uptime(now - shared.start),
        mem: process::resident_bytes().unwrap_or(0),
        cores: process::cores(),
        cpu: process::cpu_percent(shared.clock.monotonic()).unwrap_or(0.0),
        connections: shared.registry.len(),
        total_connections: counts.connections,
        routes: 0,
        remotes: 0,
        leafnodes: 0,
        in_msgs,
        in_bytes,
        in_client_msgs: in_msgs,
        in_client_bytes: in_bytes,
        out_msgs,
        out_bytes,
        out_client_msgs: out_msgs,
        out_client_bytes: out_bytes,
        slow_consumers,
        stale_connections: counts.stale_connections,
        stalled_clients: stalls,
        subscriptions: shared.broker.subscription_count(),
        http_req_stats: monitor.requests.counts(),
        config_load_time: shared.start,
        config_digest: "",
        slow_consumer_stats: ByKind::clients(slow_consumers),
        stale_connection_stats: ByKind::clients(counts.stale_connections),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &usize) -> bool {
    *value == 0
}
