//! The monitoring pages over HTTP: the state of the server as nats-server's tools read it.
//!
//! Served: `/healthz`, `/varz`, `/connz`; what is not served is a 404. A page is made when it is asked for, from counters
//! that are kept anyway.

mod connz;
mod query;
mod varz;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use serde::Serialize;
use tokio::net::TcpListener;

use super::Shared;
use crate::broker::Broker;
use crate::jetstream::driver::StoreHealth;
use crate::sys::http;
use query::{BadQuery, Query};

/// Serves the pages until `stopped`, and the requests that came before to their end, or for [`http::DRAIN`].
pub(super) async fn serve(
    shared: Arc<Shared>,
    listener: TcpListener,
    stopped: impl Future<Output = ()> + Send + 'static,
) {
    let state = Arc::new(Monitor {
        port: listener.local_addr().map_or(0, |address| address.port()),
        requests: Requests::default(),
        shared,
    });
    let pages = Router::new()
        .route("/", get(index))
        .route("/healthz", get(healthz))
        .route("/varz", get(varz))
        .route("/connz", get(connz))
        .with_state(state);
    http::serve(listener, pages, stopped).await;
}

/// What the pages are made from.
struct Monitor {
    shared: Arc<Shared>,
    port: u16,
    requests: Requests,
}

/// How often each page was asked for.
#[derive(Default)]
struct Requests {
    index: AtomicU64,
    healthz: AtomicU64,
    varz: AtomicU64,
    connz: AtomicU64,
}

impl Requests {
    /// The pages that were asked for, by path.
    fn counts(&self) -> std::collections::BTreeMap<&'static str, u64> {
        [("/", &self.index), ("/healthz", &self.healthz), ("/varz", &self.varz), ("/connz", &self.connz)]
            .into_iter()
            .map(|(path, count)| (path, count.load(Ordering::Relaxed)))
            .filter(|(_, count)| *count > 0)
            .collect()
    }
}

async fn index(State(monitor): State<Arc<Monitor>>) -> Html<&'static str> {
    monitor.requests.index.fetch_add(1, Ordering::Relaxed);
    Html(concat!(
        "<!doctype html><html lang=\"en\"><title>Weir</title><h1>Weir ",
        env!("CARGO_PKG_VERSION"),
        "</h1><ul><li><a href=\"healthz\">healthz</a><li><a href=\"varz\">varz</a><li><a href=\"connz\">connz</a></ul></html>"
    ))
}

async fn healthz(State(monitor): State<Arc<Monitor>>) -> Response {
    monitor.requests.healthz.fetch_add(1, Ordering::Relaxed);
    let shared = &monitor.shared;
    match ailment(&shared.broker, shared.info.jetstream, shared.store.as_ref()) {
        None => json(StatusCode::OK, "{\"status\":\"ok\"}".to_owned()),
        Some(error) => {
            let body = serde_json::json!({ "status": "unavailable", "error": error });
            json(StatusCode::SERVICE_UNAVAILABLE, body.to_string())
        }
    }
}

/// What keeps the server from doing what it was started for.
fn ailment(broker: &Broker, jetstream: bool, store: Option<&StoreHealth>) -> Option<String> {
    if jetstream && !broker.is_served(b"$JS.API.INFO") {
        return Some("JetStream not available".to_owned());
    }
    store?.trouble().map(|trouble| format!("JetStream cannot write: {trouble}"))
}

async fn varz(State(monitor): State<Arc<Monitor>>) -> Response {
    monitor.requests.varz.fetch_add(1, Ordering::Relaxed);
    page(&varz::varz(&monitor))
}

async fn connz(State(monitor): State<Arc<Monitor>>, RawQuery(query): RawQuery) -> Response {
    monitor.requests.connz.fetch_add(1, Ordering::Relaxed);
    match Query::parse(query.as_deref()).and_then(|query| connz::connz(&monitor.shared, &query)) {
        Ok(connz) => page(&connz),
        Err(BadQuery(text)) => (StatusCode::BAD_REQUEST, text).into_response(),
    }
}

/// Indented JSON, as people read it.
fn page(value: &impl Serialize) -> Response {
    match serde_json::to_string_pretty(value) {
        Ok(text) => json(StatusCode::OK, text),
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

fn json(status: StatusCode, text: String) -> Response {
    let headers = [(header::CONTENT_TYPE, "application/json"), (header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")];
    (status, headers, text).into_response()
}

/// A span as monitoring shows it: whole seconds, and only the units it reaches.
fn uptime(nanoseconds: i64) -> String {
    let seconds = nanoseconds.max(0) / 1_000_000_000;
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    let years = days / 365;
    let (s, m, h) = (seconds % 60, minutes % 60, hours % 24);
    match (years, days, hours, minutes) {
        (0, 0, 0, 0) => format!("{s}s"),
        (0, 0, 0, _) => format!("{m}m{s}s"),
        (0, 0, _, _) => format!("{h}h{m}m{s}s"),
        (0, _, _, _) => format!("{days}d{h}h{m}m{s}s"),
        _ => format!("{years}y{}d{h}h{m}m{s}s", days % 365),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::{InternalMessage, InternalSink};
    use crate::sys::random::Random;

    struct Nobody;

    impl InternalSink for Nobody {
        fn push(&self, _: InternalMessage) {}
    }

    #[test]
    fn a_server_without_the_jetstream_it_promised_is_ill() {
        let broker = Broker::new(Random::from_seed(1));
        assert_eq!(ailment(&broker, false, None), None);
        assert_eq!(ailment(&broker, true, None).as_deref(), Some("JetStream not available"));
        let _driver = broker.subscribe_internal(b"$JS.API.>", Arc::new(Nobody));
        assert_eq!(ailment(&broker, true, Some(&StoreHealth::default())), None);
    }

    #[test]
    fn a_store_that_cannot_be_written_is_named() {
        let broker = Broker::new(Random::from_seed(1));
        let _driver = broker.subscribe_internal(b"$JS.API.>", Arc::new(Nobody));
        let store = StoreHealth::default();
        store.set(Some("No space left on device"));
        let expected = "JetStream cannot write: No space left on device";
        assert_eq!(ailment(&broker, true, Some(&store)).as_deref(), Some(expected));
        store.set(None);
        assert_eq!(ailment(&broker, true, Some(&store)), None);
    }

    #[test]
    fn spans_show_the_units_they_reach() {
        let cases = [
            (0, "0s"),
            (59, "59s"),
            (61, "1m1s"),
            (3600, "1h0m0s"),
            (86_400 + 3661, "1d1h1m1s"),
            (366 * 86_400, "1y1d0h0m0s"),
        ];
        for (seconds, expected) in cases {
            assert_eq!(uptime(seconds * 1_000_000_000 + 999), expected);
        }
        assert_eq!(uptime(-1), "0s");
    }
}
