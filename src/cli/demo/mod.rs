//! `weir demo`: broker and services on a temporary store, this machine as a device beside simulated ones, a recording that
//! begins in the past, and its replay; then whatever the user tries, until Ctrl-C.
//!
//! The demo is a user of the services like any other: devices speak HTTP, the recording is asked for over NATS, and what is
//! said of it is counted by a subscriber on a connection of its own.

mod device;
mod feed;
mod ledger;
mod post;
mod proc;
mod readings;
mod report;
mod witness;

use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use clap::Args;
use tokio::sync::watch;
use weir_protocol::duration;

use super::controller::Controller;
use super::failure::{Failure, Outcome};
use super::stack::Stack;
use super::task::{self, Stop};
use super::{identity, log, output};
use crate::client::{Client, Options};
use crate::config::resolve::{Log, Services};
use crate::config::{Broker, Place, Serve};
use crate::service::command::{Request, Start};
use crate::service::device::{BufferChange, BufferSetting, DeviceChange, DeviceStore};
use crate::service::monitor::HttpConfig;
use crate::service::names::{self, Names};
use crate::service::replay::schedule::Pace;
use crate::service::replay::{self, Recording, Target};
use crate::service::span;
use crate::sys::clock::{SharedClock, SystemClock};
use crate::sys::panic;
use crate::sys::random::Random;
use device::MACHINE;
use feed::{Counts, Feed, SharedLedger};
use ledger::{Ledger, Span};
use post::Monitor;
use report::Report;
use witness::Witness;

/// The session that the demo records.
const SESSION: &str = "demo";
/// Where the demo replays it.
const TARGET: &str = "replay.machine";
/// How fast.
const SPEED: f64 = 4.0;
/// The shortest demo in which every part has its time.
const FOR_MIN: Duration = Duration::from_secs(5);
/// Longest that the last replayed messages may take to the subscriber, on a slow machine.
const ARRIVAL_MAX: Duration = Duration::from_secs(20);
/// How long the parts take without `--for`.
const DEFAULT: Duration = Duration::from_secs(20);

/// Flags of `weir demo`.
#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End by itself after this long, at least 5s [default: at Ctrl-C]
    #[arg(long = "for", value_name = "SPAN", value_parser = duration::parse, allow_hyphen_values = true)]
    ends_after: Option<Duration>,

    /// Print nothing but one JSON object at the end; needs --for
    #[arg(long, requires = "ends_after")]
    json: bool,
}

/// Runs the command.
pub(crate) fn run(args: DemoArgs) -> Outcome {
    if let Some(given) = args.ends_after.filter(|given| *given < FOR_MIN) {
        return Err(Failure::new(format!(
            "--for {}: {} is the shortest",
            span::format(given),
            span::format(FOR_MIN)
        )));
    }
    task::block_on_all(demo(args))
}

async fn demo(args: DemoArgs) -> Outcome {
    let mut stop = Stop::listen()?;
    let clock = SystemClock::shared();
    log::start_quiet(clock.clone())?;
    panic::end_the_process(weir_storage::catches_panics);
    let stack = start_stack(clock.clone()).await?;
    let story = Story { quiet: args.json, clock: clock.clone(), began: clock.monotonic() };
    let played = tokio::select! {
        played = play(&args, &stack, &story, &clock) => played,
        signal = stop.wait() => Err(Failure::new(format!("{signal} before the demo was through"))),
    };
    let report = match played {
        Ok((feeds, report)) => {
            let rest = args.ends_after.map(|span| span.saturating_sub(story.elapsed()));
            match rest {
                Some(rest) => tokio::select! {
                    () = tokio::time::sleep(rest) => {}
                    _ = stop.wait() => {}
                },
                None => {
                    stop.wait().await;
                }
            }
            Ok(feeds.end(report).await)
        }
        Err(failure) => Err(failure),
    };
    let stopped = stack.stop().await;
    let report = report?;
    stopped?;
    story.tell("stopped, the temporary data is removed");
    if args.json {
        output::record(&report)?;
    }
    if report.is_exact() {
        Ok(())
    } else {
        Err(Failure::new("what was recorded or replayed is not what was published"))
    }
}

/// The usual ports, or free ones when they are busy.
async fn start_stack(clock: SharedClock) -> Outcome<Stack> {
    let busy = |port: u16| std::net::TcpListener::bind(("127.0.0.1", port)).is_err();
    let serve = |port: u16, http: u16| Serve {
        broker: Broker::Embedded {
            host: "127.0.0.1".to_owned(),
            port,
            store: Place::Temporary,
            monitor_port: None,
            name: Some("weir-demo".to_owned()),
            ports_file_dir: None,
        },
        http: Some(HttpConfig { listen: format!("127.0.0.1:{http}"), ..HttpConfig::default() }),
        services: Services::default(),
        log: Log::default(),
        pid_file: None,
    };
    let port = if busy(4222) { 0 } else { 4222 };
    let http = if busy(5555) { 0 } else { 5555 };
    match Stack::start(&serve(port, http), clock.clone()).await {
        Ok(stack) => Ok(stack),
        // Somebody may have taken a port between the look and the start.
        Err(_) => Stack::start(&serve(0, 0), clock).await,
    }
}

/// What the user reads meanwhile.
struct Story {
    quiet: bool,
    clock: SharedClock,
    began: Duration,
}

impl Story {
    fn elapsed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    /// A line with the time at which it was said.
    fn tell(&self, text: impl AsRef<str>) {
        if !self.quiet {
            output::remark(format!("{:6.1} s  {}", self.elapsed().as_secs_f64(), text.as_ref()));
        }
    }

    fn plain(&self, text: impl AsRef<str>) {
        if !self.quiet {
            output::remark(text);
        }
    }
}

/// The devices at work.
struct Feeds {
    feeds: Vec<Feed>,
    counts: Arc<Counts>,
    stop: watch::Sender<bool>,
}

impl Feeds {
    /// Ends the devices and completes the report with what they counted.
    async fn end(self, mut report: Report) -> Report {
        self.stop.send_replace(true);
        for feed in self.feeds {
            feed.ended().await;
        }
        report.published = self.counts.accepted.load(Ordering::Relaxed);
        report.refused = self.counts.refused.load(Ordering::Relaxed);
        report.unknown = self.counts.unknown.load(Ordering::Relaxed);
        report
    }
}

/// The parts of the demo, one after the other.
async fn play(
    args: &DemoArgs,
    stack: &Stack,
    story: &Story,
    clock: &SharedClock,
) -> Outcome<(Feeds, Report)> {
    let whole = args.ends_after.unwrap_or(DEFAULT);
    let (record_at, stop_at) = (whole.mul_f64(0.3), whole.mul_f64(0.7));
    let pre_roll = whole.mul_f64(0.2);
    let client = connect(stack.url(), "weir demo").await?;
    introduce(stack, story);
    let live = Names::default().device_subject(&identity::device(MACHINE)?);
    let ledger: SharedLedger = Arc::new(Mutex::new(Some(Ledger::default())));
    buffer_devices(&client, clock).await?;
    let feeds = start_feeds(stack, story, clock, &ledger);

    sleep_until(story, record_at / 3).await;
    story.tell(format!("live from {MACHINE}: {}", readings::next(&client, &live).await?));
    sleep_until(story, record_at).await;
    let controller = Controller::new(client.clone(), Names::default().command);
    let start = Request::Start(Start {
        device_id: Some(MACHINE.to_owned()),
        session_id: Some(SESSION.to_owned()),
        pre_roll: Some(pre_roll),
        note: Some("made by weir demo".to_owned()),
        ..Start::default()
    });
    let sent = clock.wall();
    controller.ask(&start).await?;
    let start_span = (sent, clock.wall());
    story
        .tell(format!("recording \"{SESSION}\" of {MACHINE} begins, {} in the past", span::format(pre_roll)));

    sleep_until(story, stop_at).await;
    let sent = clock.wall();
    controller.ask(&Request::Stop { session_id: Some(SESSION.to_owned()), device_id: None }).await?;
    let stop_span = (sent, clock.wall());
    controller.ended(SESSION, Duration::from_secs(60)).await?;
    let recorded = read_recording(&client).await?;
    let bounds = Span { start: start_span, stop: stop_span, pre_roll: span::nanos(pre_roll) };
    let judgement = ledger
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .take()
        .unwrap_or_default()
        .judge(&recorded.numbers, bounds);
    let before = recorded.times.iter().filter(|time| **time < start_span.0).count() as u64;
    story.tell(format!(
        "recording stopped: {}, {before} of them from before its start; {} expected, {} missing",
        output::count(recorded.count, "message"),
        judgement.expected,
        judgement.missing
    ));

    let witness_client = connect(stack.url(), "weir demo witness").await?;
    let witness = Witness::listen(&witness_client, TARGET, MACHINE, clock.clone())
        .await
        .map_err(|error| Failure::new(format!("the witness: {error}")))?;
    story.tell(format!("replay at {SPEED}x on {TARGET}"));
    let (replayed, again) = tokio::join!(
        replay_recording(&client, clock, recorded.count, &witness),
        readings::next(&witness_client, TARGET),
    );
    replayed?;
    story.tell(format!("again from {MACHINE}: {}", again?));
    let seen = witness.seen();
    let report = Report {
        published: 0,
        refused: 0,
        unknown: 0,
        recorded: recorded.count,
        replayed: seen.numbers.len() as u64 + seen.strangers,
        replay_is_exact: seen.numbers == recorded.numbers && seen.strangers == 0,
        recording: judgement,
        pre_roll_s: pre_roll.as_secs_f64(),
        pre_roll_messages: before,
        recorded_s: seconds(recorded.times.first().copied().zip(recorded.times.last().copied())),
        replayed_s: seconds(seen.first_and_last),
        speed: SPEED,
    };
    story.tell(format!(
        "replayed: an independent subscriber got {} of {}, {} of recording in {}",
        report.replayed,
        output::count(report.recorded, "message"),
        format_args!("{:.2} s", report.recorded_s),
        format_args!("{:.2} s", report.replayed_s),
    ));
    suggest(args, stack, story);
    Ok((feeds, report))
}

fn introduce(stack: &Stack, story: &Story) {
    let http = stack.http().map(|address| format!("http://{address}")).unwrap_or_default();
    let store = stack.store().unwrap_or_default();
    story.plain("Weir demo: monitor, buffer, recording and replay on this machine\n");
    story.plain(format!("  NATS   {}", stack.url()));
    story.plain(format!("  HTTP   {http}"));
    story.plain(format!("  data   {} (temporary, removed at the end)\n", store.display()));
}

fn suggest(args: &DemoArgs, stack: &Stack, story: &Story) {
    let usual = stack.url() == "nats://127.0.0.1:4222";
    let server = if usual { String::new() } else { format!(" --server {}", stack.url()) };
    let http = stack.http().map(|address| address.to_string()).unwrap_or_default();
    story.plain("\nThe devices go on. In another terminal:\n");
    // As it was called: after `cargo run` the program is in no path.
    let weir = std::env::args().next().unwrap_or_else(|| "weir".to_owned());
    for command in [
        format!("data tail --device-id {MACHINE}"),
        "record list".to_owned(),
        format!("replay {SESSION} --speed 10"),
        "record start --device-id pump-1 --session-id mine --pre-roll 10s".to_owned(),
    ] {
        story.plain(format!("  {weir} {command}{server}"));
    }
    story.plain(format!(
        "  curl -X POST {http}/monitor/my-device -d '[{{\"type\":\"state\",\"symbol\":\"hello\",\"data\":{{\"n\":1}}}}]'"
    ));
    story.plain(format!("  nats sub 'monitor.>'{server}\n"));
    match args.ends_after {
        Some(span) => story.plain(format!("It ends after {}, or with Ctrl-C.", span::format(span))),
        None => story.plain("Ctrl-C ends the demo."),
    }
}

async fn connect(url: &str, name: &str) -> Outcome<Client> {
    Client::connect(url, Options::named(name)).await.map_err(|error| Failure::new(format!("{url}: {error}")))
}

async fn sleep_until(story: &Story, moment: Duration) {
    tokio::time::sleep(moment.saturating_sub(story.elapsed())).await;
}

/// Every device gets a buffer of the usual length before it says anything.
async fn buffer_devices(client: &Client, clock: &SharedClock) -> Outcome {
    let jetstream = client.jetstream();
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("the devices: {error}"));
    let store = DeviceStore::open(&jetstream, &Names::default().devices, clock.clone())
        .await
        .map_err(|error| failed(&error))?;
    for device in device::all(&Random::from_seed(0)) {
        let id = identity::device(device.id)?;
        let change = DeviceChange {
            description: Some(device.about.to_owned()),
            buffer: Some(BufferChange::default()),
            ..DeviceChange::default()
        };
        store.set(&id, change).await.map_err(|error| failed(&error))?;
        let stream = names::buffer_stream(&id);
        let made = tokio::time::timeout(Duration::from_secs(10), async {
            while jetstream.find_stream(&stream).await.map_err(|error| failed(&error))?.is_none() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Ok(())
        });
        made.await
            .unwrap_or_else(|_| Err(Failure::new(format!("the buffer of {id} was not made within 10 s"))))?;
    }
    Ok(())
}

fn start_feeds(stack: &Stack, story: &Story, clock: &SharedClock, ledger: &SharedLedger) -> Feeds {
    let address = stack.http().map(|address| address.to_string()).unwrap_or_default();
    let counts = Arc::new(Counts::default());
    let (stop, stopped) = watch::channel(false);
    let mut feeds = Vec::new();
    for device in device::all(&Random::from_system()) {
        story.tell(format!("{}: {}, every {}", device.id, device.about, span::format(device.period)));
        let ledger = if device.id == MACHINE { ledger.clone() } else { SharedLedger::default() };
        let monitor = Monitor::new(&address);
        feeds.push(Feed::start(device, monitor, clock.clone(), counts.clone(), ledger, stopped.clone()));
    }
    story.tell(format!("each has a buffer of the last {}", span::format(BufferSetting::default().window)));
    Feeds { feeds, counts, stop }
}

/// What the recording's stream holds.
struct Recorded {
    /// As the stream itself counts.
    count: u64,
    numbers: Vec<u64>,
    times: Vec<i64>,
}

async fn read_recording(client: &Client) -> Outcome<Recorded> {
    let stream = names::recording_stream(&identity::session(SESSION)?);
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("stream {stream}: {error}"));
    let jetstream = client.jetstream();
    let info = jetstream.stream_info(&stream).await.map_err(|error| failed(&error))?;
    let mut recorded = Recorded { count: info.state.messages, numbers: Vec::new(), times: Vec::new() };
    let mut reader = jetstream.reader(&stream, 1, None);
    while let Some(message) = reader.next().await.map_err(|error| failed(&error))? {
        let id = weir_protocol::header::get_str(&message.headers, "X-Monitor-Id").unwrap_or_default();
        // An event that is none of the machine's has a number that nobody accepted.
        recorded.numbers.push(device::event_number(MACHINE, id).unwrap_or(0));
        recorded.times.push(message.time);
    }
    Ok(recorded)
}

async fn replay_recording(client: &Client, clock: &SharedClock, count: u64, witness: &Witness) -> Outcome {
    let failed = |error: &dyn std::fmt::Display| Failure::new(format!("replay: {error}"));
    let recording = Recording {
        session: SESSION.to_owned(),
        device: MACHINE.to_owned(),
        stream: names::recording_stream(&identity::session(SESSION)?),
    };
    let options = replay::Options {
        pace: Pace::speed(SPEED).map_err(|error| failed(&error))?,
        silence_max: None,
        from: None,
        to: None,
        from_sequence: 0,
        filter: None,
        target: Target::Subject(TARGET.to_owned()),
        rounds: 1,
        paused: false,
    };
    let mut replay =
        replay::start(client, clock.clone(), recording, options).await.map_err(|error| failed(&error))?;
    replay.wait().await.map_err(|error| failed(&error))?;
    // What was published last is still on its way to the subscriber; what has not come by then is missing.
    let _ = tokio::time::timeout(ARRIVAL_MAX, witness.until(count)).await;
    Ok(())
}

/// The time between two moments.
fn seconds(span: Option<(i64, i64)>) -> f64 {
    let nanos = span.map_or(0, |(first, last)| last.saturating_sub(first));
    Duration::from_nanos(u64::try_from(nanos).unwrap_or_default()).as_secs_f64()
}
