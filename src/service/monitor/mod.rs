//! The HTTP side: `POST /monitor/{device}` takes events, `/api/v1` does what the controller does.
//!
//! Every answer is JSON; one that is no success says why in `error`. A request whose Host or Origin belongs to somebody else is
//! refused before anything is read, because browsers let any page send requests to this machine.

mod answer;
mod api;
mod body;
mod budget;
mod guard;
mod strict;

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, Request, State};
use axum::http::{Method, StatusCode, Uri};
use axum::middleware;
use axum::routing::{get, post};
use serde::Serialize;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::buffer::Buffers;
use super::device::DeviceStore;
use super::event;
use super::id::Id;
use super::ingest::Ingest;
use super::recorder::Recorder;
use crate::client::Client;
use crate::sys::clock::SharedClock;
use crate::sys::http;
use crate::sys::net::{self, BindError};
use crate::sys::random::Random;
use crate::sys::task;
use answer::Answer;
pub(super) use budget::BodyBudget;

/// How HTTP is served.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpConfig {
    /// Where: `127.0.0.1:5555`. Port 0 takes a free one.
    pub listen: String,
    /// Host names, besides addresses and `localhost`, under which this server may be addressed.
    pub hosts: Vec<String>,
    /// Origins, besides the server's own, from which pages may send requests: `https://console.example`.
    pub origins: Vec<String>,
    /// Longest body in bytes. Default 8 MiB.
    pub body_bytes_max: usize,
    /// Bytes of all bodies being read at one time. Default 64 MiB.
    pub bodies_bytes_max: usize,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: "127.0.0.1:5555".to_owned(),
            hosts: Vec::new(),
            origins: Vec::new(),
            body_bytes_max: 8 << 20,
            bodies_bytes_max: 64 << 20,
        }
    }
}

/// The socket for HTTP, opened: whoever connects now waits until the services run.
#[derive(Debug)]
pub struct HttpListener {
    pub(super) listener: TcpListener,
    pub(super) address: SocketAddr,
    pub(super) config: HttpConfig,
}

impl HttpListener {
    /// Listens.
    ///
    /// # Errors
    /// When the address is none, or cannot be listened on.
    pub async fn bind(config: HttpConfig) -> Result<Self, BindError> {
        let (host, port) = config.listen.rsplit_once(':').unwrap_or((&config.listen, ""));
        let port = port.parse().map_err(|_| BindError {
            what: "HTTP",
            address: config.listen.clone(),
            source: io::Error::new(io::ErrorKind::InvalidInput, "it is not HOST:PORT"),
        })?;
        let (listener, address) = net::bind("HTTP", host, port).await?;
        Ok(Self { listener, address, config })
    }
}

/// What the handlers work with.
pub(super) struct Context {
    pub(super) client: Client,
    pub(super) devices: DeviceStore,
    pub(super) buffers: Buffers,
    pub(super) recorder: Recorder,
    pub(super) ingest: Ingest,
    pub(super) clock: SharedClock,
    pub(super) random: Random,
    pub(super) config: HttpConfig,
    pub(super) bodies: BodyBudget,
}

/// The running HTTP server.
pub(super) struct Http {
    address: SocketAddr,
    stop: watch::Sender<bool>,
    server: JoinHandle<()>,
}

impl Http {
    /// Serves what comes to the listener.
    pub(super) fn start(listener: TcpListener, address: SocketAddr, context: Context) -> Self {
        let stop = watch::Sender::new(false);
        let mut stopped = stop.subscribe();
        let serving = http::serve(listener, router(Arc::new(context)), async move {
            // An error means that nobody can stop it any more: the same.
            drop(stopped.wait_for(|stopped| *stopped).await);
        });
        let server = task::spawn(serving);
        Self { address, stop, server }
    }

    /// Where it listens.
    pub(super) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Takes no more requests and waits for those under way, [`http::DRAIN`] at most.
    pub(super) async fn stop(mut self) {
        self.stop.send_replace(true);
        if let Err(error) = (&mut self.server).await {
            tracing::error!(%error, "serving HTTP failed");
        }
    }
}

impl Drop for Http {
    /// Dropped without [`stop`](Self::stop): whoever is being answered is still answered.
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}

fn router(context: Arc<Context>) -> Router {
    Router::new()
        .route("/monitor", post(no_device))
        .route("/monitor/", post(no_device))
        .route("/monitor/{device}", post(monitor))
        .route("/api/v1/health", get(health))
        .merge(api::routes())
        .route_layer(middleware::from_fn_with_state(context.clone(), strict::check))
        .fallback(async |uri: Uri| {
            Answer::error(StatusCode::NOT_FOUND, format!("there is nothing at {:?}", uri.path()))
        })
        .method_not_allowed_fallback(async |method: Method, uri: Uri| {
            let reason =
                format!("{:?} does not take {method}; the header Allow says what it takes", uri.path());
            Answer::error(StatusCode::METHOD_NOT_ALLOWED, reason)
        })
        .layer(middleware::from_fn_with_state(context.clone(), guard::check))
        .with_state(context)
}

async fn no_device() -> Answer {
    Answer::error(StatusCode::BAD_REQUEST, "the device id is missing: POST /monitor/{device}")
}

/// The services can work.
#[derive(Serialize)]
struct Health {
    ok: bool,
    /// Whose clients they are.
    server: String,
}

async fn health(State(context): State<Arc<Context>>) -> Answer {
    // A JetStream that cannot write answers this, as everything, with the cause.
    match context.client.jetstream().account_info().await {
        Ok(_) => Answer::ok(&Health { ok: true, server: context.client.address() }),
        Err(error) => Answer::error(StatusCode::SERVICE_UNAVAILABLE, error),
    }
}

/// The id in a path.
fn id_of(path: Result<Path<String>, PathRejection>, what: &str) -> Result<Id, Answer> {
    let Path(text) = path.map_err(|_| {
        Answer::error(StatusCode::BAD_REQUEST, format!("{what}: its percent-encoded bytes are no UTF-8"))
    })?;
    Id::parse(&text).map_err(|error| Answer::error(StatusCode::BAD_REQUEST, format!("{what}: {error}")))
}

/// `POST /monitor/{device}`: an array of events, all of them or none.
async fn monitor(
    State(context): State<Arc<Context>>,
    device: Result<Path<String>, PathRejection>,
    request: Request,
) -> Result<Answer, Answer> {
    let device = id_of(device, "device id")?;
    let body = body::read(&context.bodies, request, context.config.body_bytes_max).await?;
    let events = event::parse(&body, context.clock.wall(), &context.random)
        .map_err(|error| Answer::error(StatusCode::BAD_REQUEST, error))?;
    // Its bytes are in the events now.
    drop(body);
    let accepted = context.ingest.publish(&device, &events).await?;
    Ok(Answer::ok(&accepted))
}
