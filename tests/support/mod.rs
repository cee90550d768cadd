//! What the tests that drive the built binary share: a server process, an HTTP client, client connections, waiting.
//!
//! Everything goes the way a user goes: the binary is started with flags, its printed lines say where it listens, and
//! tests talk TCP and HTTP to it. Nothing here reaches into the library. A test that fails prints the server's own
//! output (`Server` does so when it is dropped while the thread panics).

#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub(crate) mod capture;
pub(crate) mod http;
pub(crate) mod jetstream;
pub(crate) mod server;

use std::future::Future;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

pub(crate) use server::Server;

/// How long a test waits for something that should happen at once, on a slow and busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// How the independent client library connects: patiently, but not again when nobody listens.
pub(crate) fn options() -> async_nats::ConnectOptions {
    async_nats::ConnectOptions::new()
        .name("test")
        .connection_timeout(PATIENCE)
        .request_timeout(Some(Duration::from_secs(10)))
}

/// A connection of the independent client library, which gives up at once when nobody listens.
pub(crate) async fn connect(url: &str) -> async_nats::Client {
    options().connect(url).await.unwrap_or_else(|error| panic!("connect to {url}: {error}"))
}

/// Asks again and again until `probe` answers `Some`; panics with `what` and the last answer's absence after
/// [`PATIENCE`].
pub(crate) async fn eventually<T, F, Fut>(what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    within(PATIENCE, what, &mut probe).await
}

/// [`eventually`] with a deadline of its own.
pub(crate) async fn within<T, F, Fut>(limit: Duration, what: &str, mut probe: F) -> T
where
    F: FnMut() -> Fut,
    Fut: Future<Output = Option<T>>,
{
    let start = Instant::now();
    loop {
        if let Some(found) = probe().await {
            return found;
        }
        assert!(start.elapsed() < limit, "not within {limit:?}: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

/// What a case saw whose steps must all fit into `limit`. A machine that was slower than that has shown nothing: the case
/// is repeated, and gets its number for names that are new each time.
pub(crate) async fn undisturbed<T>(limit: Duration, mut case: impl AsyncFnMut(u32) -> T) -> T {
    for number in 1..=20 {
        let begin = Instant::now();
        let seen = case(number).await;
        if begin.elapsed() < limit {
            return seen;
        }
    }
    panic!("the machine was too slow twenty times: the case must take less than {limit:?}");
}

/// One request of the JetStream API with a JSON body; the answer as JSON, an error answer included.
pub(crate) async fn api(client: &async_nats::Client, suffix: &str, body: &Value) -> Value {
    let payload = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
    api_raw(client, suffix, payload).await
}

/// One request of the JetStream API with any bytes as its body.
pub(crate) async fn api_raw(client: &async_nats::Client, suffix: &str, body: Vec<u8>) -> Value {
    let subject = format!("$JS.API.{suffix}");
    let answer = client
        .request(subject.clone(), body.into())
        .await
        .unwrap_or_else(|error| panic!("request {subject}: {error}"));
    serde_json::from_slice(&answer.payload)
        .unwrap_or_else(|error| panic!("{subject} answered no JSON ({error}): {:?}", answer.payload))
}

/// The JetStream API answer must be a success.
#[track_caller]
pub(crate) fn succeeded(answer: Value) -> Value {
    assert!(answer.get("error").is_none(), "the API refused: {answer}");
    answer
}

/// The JetStream API answer must be this error.
#[track_caller]
pub(crate) fn refused(answer: &Value, err_code: u64) {
    assert_eq!(answer["error"]["err_code"], err_code, "expected error {err_code}: {answer}");
}

/// What an environment variable says; panics with its name when that is no text.
#[track_caller]
pub(crate) fn variable(name: &str) -> Option<String> {
    match std::env::var(name) {
        Ok(value) => Some(value),
        Err(std::env::VarError::NotPresent) => None,
        Err(std::env::VarError::NotUnicode(value)) => panic!("{name} is {value:?}, which is no UTF-8"),
    }
}

/// Runs `weir ARGS` to its end with `NATS_URL` set; fails the test when it does not end within a minute.
pub(crate) async fn weir(url: &str, args: &[&str]) -> Output {
    weir_with_input(url, args, None).await
}

/// [`weir`] with bytes on its standard input.
pub(crate) async fn weir_with_input(url: &str, args: &[&str], input: Option<&[u8]>) -> Output {
    use tokio::io::AsyncWriteExt as _;
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(args)
        .env("NATS_URL", url)
        .stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() })
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("the binary starts");
    if let Some(bytes) = input {
        let mut stdin = child.stdin.take().expect("stdin is piped");
        // A command that refuses its arguments may end before it has read its input.
        drop(stdin.write_all(bytes).await);
    }
    tokio::time::timeout(Duration::from_secs(60), child.wait_with_output())
        .await
        .unwrap_or_else(|_| panic!("weir {args:?} did not end within a minute"))
        .expect("the output can be read")
}

/// [`weir`] that must end with exit code 0; its standard output as text.
pub(crate) async fn weir_ok(url: &str, args: &[&str]) -> String {
    let output = weir(url, args).await;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "weir {args:?} ended with {}\n--- stdout\n{}--- stderr\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// [`weir`] that must fail; its standard error as text.
pub(crate) async fn weir_err(url: &str, args: &[&str]) -> String {
    let output = weir(url, args).await;
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success(), "weir {args:?} succeeded, but should fail; stderr: {text}");
    assert!(!text.trim().is_empty(), "weir {args:?} failed without saying why");
    text
}
