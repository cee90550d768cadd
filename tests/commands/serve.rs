//! `weir serve` with its services: against another server, under other names, twice, and ended in several ways.

use futures_util::{FutureExt as _, StreamExt as _};
use serde_json::json;
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::support::capture::{
    control_on, controlled, ingest, numbers, recorded, recorded_count, recording, row, start_recording,
    state_of, stop_recording,
};
use crate::support::jetstream::{all_messages, stream_info, take, take_all};
use crate::support::{PATIENCE, Server, connect, eventually, options, weir_ok};

#[tokio::test(flavor = "multi_thread")]
async fn s0_005_the_services_run_against_an_external_server() {
    // A real nats-server when WEIR_NATS_SERVER names one (.ci/run does), else a second weir.
    let external = Server::external().start().await;
    let services = Server::services_of(&external.url()).start().await;
    let client = external.connect().await;
    weir_ok(&external.url(), &["device", "buffer", "enable", "--device-id", "dev", "--window", "5m"]).await;
    eventually("the buffer is on the external server", || async {
        let answer =
            crate::support::api(&client, "STREAM.INFO.STREAMS_BUFFER_dev", &serde_json::Value::Null).await;
        (answer["config"]["max_age"] == 300_000_000_000_i64).then_some(())
    })
    .await;
    ingest(services.http(), "dev", 1..=5).await;
    controlled(&client, &json!({"action": "start", "device_id": "dev", "session_id": "s", "pre_roll": "1m"}))
        .await;
    ingest(services.http(), "dev", 6..=10).await;
    stop_recording(&client, "s").await;
    ingest(services.http(), "dev", 11..=12).await;
    assert_eq!(numbers(&recorded(&client, "s").await), (1..=10).collect::<Vec<_>>());
    // Replayed by a command that knows nothing but the external server's address.
    let mut playback = client.subscribe("again").await.expect("subscribe");
    client.flush().await.expect("flush");
    weir_ok(&external.url(), &["replay", "s", "--target", "again", "--speed", "100"]).await;
    take_all(&client, &mut playback, 10).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_007_sigterm_ends_recordings_with_their_final_count() {
    let mut server = Server::start().await;
    let client = server.connect().await;
    start_recording(&client, "dev", "s").await;
    ingest(server.http(), "dev", 1..=10).await;
    let status = server.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!server.log().contains("[WRN]"), "an end in order warns of nothing");
    server.restart().await;
    let client = server.connect().await;
    let state = row(&client, "streams_record_state", "s").await.expect("a state");
    assert_eq!(state["state"], "stopped", "{state}");
    assert_eq!(state["message_count"], 10, "{state}");
    assert_eq!(numbers(&recorded(&client, "s").await), (1..=10).collect::<Vec<_>>());
    assert!(stream_info(&client, &recording("s")).await["config"]["mirror"].is_null());
}

/// What reads the log may end before the server does.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_reads_any_more_ends_nothing() {
    let store = tempfile::tempdir().expect("a folder");
    let mut child = tokio::process::Command::new(env!("CARGO_BIN_EXE_weir"))
        .args(["serve", "--port", "-1", "--http", "127.0.0.1:0", "--debug", "--store"])
        .arg(store.path())
        .stderr(std::process::Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .expect("it starts");
    let mut lines = BufReader::new(child.stderr.take().expect("piped")).lines();
    let mut address = None;
    while let Some(line) = lines.next_line().await.expect("readable") {
        address = line.split("Listening for client connections on ").nth(1).map(str::to_owned).or(address);
        if line.contains("Server is ready") {
            break;
        }
    }
    drop(lines);
    // Connections are logged with --debug, a stream warns of nothing; an end is logged always.
    let client = connect(&address.expect("an address")).await;
    let made =
        crate::support::api(&client, "STREAM.CREATE.S", &json!({"name": "S", "subjects": ["s"]})).await;
    assert_eq!(made["config"]["name"], "S", "{made}");
    let pid = child.id().expect("it runs").to_string();
    let killed = tokio::process::Command::new("kill").args(["-TERM", &pid]).status().await;
    assert!(killed.expect("kill runs").success());
    let status = tokio::time::timeout(PATIENCE, child.wait()).await.expect("it ends").expect("a status");
    assert_eq!(status.code(), Some(0), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_during_a_post_roll_cuts_it_short_and_warns_of_nothing() {
    let mut server = Server::start().await;
    let client = server.connect().await;
    let start = json!({"action": "start", "device_id": "dev", "session_id": "s", "post_roll": "1h"});
    controlled(&client, &start).await;
    ingest(server.http(), "dev", 1..=10).await;
    controlled(&client, &json!({"action": "stop", "session_id": "s"})).await;
    let status = server.stop().await;
    assert_eq!(status.code(), Some(0), "{status}");
    assert!(!server.log().contains("[WRN]"), "an end in order warns of nothing");
    server.restart().await;
    assert_eq!(state_of(&server.connect().await, "s").await.as_deref(), Some("stopped"));
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_008_names_and_refresh_are_configurable() {
    let flags = [
        "--monitor-prefix",
        "plant.live",
        "--command-subject",
        "plant.cmd",
        "--device-bucket",
        "plant_devices",
        "--session-bucket",
        "plant_sessions",
        "--state-bucket",
        "plant_states",
        "--replay-bucket",
        "plant_replays",
        "--buffer-refresh",
        "200ms",
    ];
    let server = Server::weir().args(flags).start().await;
    let client = server.connect().await;
    let mut live = client.subscribe("plant.live.dev").await.expect("subscribe");
    client.flush().await.expect("flush");
    let ask = async |body| control_on(&client, "plant.cmd", &body).await;
    let started = ask(json!({"action": "start", "device_id": "dev", "session_id": "s"})).await;
    assert_eq!(started["ok"], true, "{started}");
    ingest(server.http(), "dev", 1..=3).await;
    assert_eq!(ask(json!({"action": "stop", "session_id": "s"})).await["ok"], true);
    eventually("the state is in its bucket", || async {
        let state = row(&client, "plant_states", "s").await?;
        (state["state"] == "stopped").then_some(())
    })
    .await;
    take_all(&client, &mut live, 3).await;
    assert!(row(&client, "plant_sessions", "s").await.is_some());
    assert!(row(&client, "plant_devices", "dev").await.is_some());
    assert_eq!(numbers(&recorded(&client, "s").await), [1, 2, 3]);
    let answer = client.request("streams.record.cmd", "{}".into()).await;
    assert!(answer.is_err(), "nobody answers on the default subject: {answer:?}");
    for bucket in ["streams_devices", "streams_session", "streams_record_state", "streams_replay_state"] {
        let missing =
            crate::support::api(&client, &format!("STREAM.INFO.KV_{bucket}"), &serde_json::Value::Null).await;
        assert_eq!(missing["error"]["err_code"], 10059, "{bucket} should not exist");
    }
    // A buffer setting written by any client is seen within the refresh interval.
    let key = "$KV.plant_devices.dev";
    let mut device = row(&client, "plant_devices", "dev").await.expect("the device");
    device["buffer"] = json!({"enabled": true, "window": "2m"});
    client.publish(key, device.to_string().into()).await.expect("publish");
    eventually("the buffer has its window", || async {
        let answer =
            crate::support::api(&client, "STREAM.INFO.STREAMS_BUFFER_dev", &serde_json::Value::Null).await;
        (answer["config"]["max_age"] == 120_000_000_000_i64).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_009_two_controllers_give_one_answer_to_one_request() {
    let external = Server::external().start().await;
    let mut one = Server::services_of(&external.url()).start().await;
    let mut two = Server::services_of(&external.url()).start().await;
    let client = external.connect().await;
    let inbox = client.new_inbox();
    let mut answers = client.subscribe(inbox.clone()).await.expect("subscribe");
    for n in 0..20 {
        let body =
            json!({"action": "start", "device_id": format!("dev-{n}"), "session_id": format!("s-{n}")});
        client
            .publish_with_reply("streams.record.cmd", inbox.clone(), body.to_string().into())
            .await
            .expect("publish");
    }
    for answer in take(&mut answers, 20).await {
        let answer: serde_json::Value = serde_json::from_slice(&answer.payload).expect("JSON");
        assert_eq!(answer["ok"], true, "{answer}");
    }
    // Nobody is left who could answer, and what was answered is here.
    assert!(one.stop().await.success() && two.stop().await.success());
    client.flush().await.expect("flush");
    assert!(answers.next().now_or_never().is_none(), "a request was answered twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_061_after_a_kill_a_running_session_goes_on() {
    let mut server = Server::start().await;
    let client = server.connect().await;
    start_recording(&client, "dev", "s").await;
    ingest(server.http(), "dev", 1..=50).await;
    recorded_count(&client, "s", 50).await;
    server.kill().await;
    server.restart().await;
    let client = server.connect().await;
    assert_eq!(state_of(&client, "s").await.as_deref(), Some("running"), "it is resumed");
    ingest(server.http(), "dev", 51..=60).await;
    stop_recording(&client, "s").await;
    assert_eq!(numbers(&recorded(&client, "s").await), (1..=60).collect::<Vec<_>>());
    let state = row(&client, "streams_record_state", "s").await.expect("a state");
    assert_eq!(state["message_count"], 60, "{state}");
    assert_eq!(all_messages(&client, &recording("s")).await.len(), 60);
}

#[tokio::test(flavor = "multi_thread")]
async fn sigusr2_ends_recordings_and_leaves_slowly() {
    let folder = tempfile::tempdir().expect("a folder");
    let pid_file = folder.path().join("weir.pid");
    let mut server = Server::weir().args(["--pid".into(), pid_file.clone().into_os_string()]).start().await;
    let (tell, mut events) = tokio::sync::mpsc::unbounded_channel();
    let listening = options().event_callback(move |event| {
        // Whoever listened has seen enough.
        let _ = tell.send(event);
        async {}
    });
    let client = listening.connect(server.url()).await.expect("it connects");
    start_recording(&client, "dev", "s").await;
    ingest(server.http(), "dev", 1..=10).await;
    let mut own = client.subscribe("own").await.expect("subscribe");
    client.flush().await.expect("flush");
    let signal = format!("--signal=ldm={}", pid_file.display());
    weir_ok(&server.url(), &["serve", &signal]).await;
    let told =
        async { while events.recv().await.expect("events come") != async_nats::Event::LameDuckMode {} };
    tokio::time::timeout(PATIENCE, told).await.expect("clients are told");
    assert!(options().connect(server.url()).await.is_err(), "nobody is let in any more");
    // Those that are there go on, and SIGTERM does not hurry it.
    server.signal("TERM");
    client.publish("own", "1".into()).await.expect("publish");
    take_all(&client, &mut own, 1).await;
    server.signal("INT");
    let status = server.wait().await;
    assert_eq!(status.code(), Some(0), "{status}");
    server.restart().await;
    let client = server.connect().await;
    assert_eq!(state_of(&client, "s").await.as_deref(), Some("stopped"));
    assert_eq!(numbers(&recorded(&client, "s").await), (1..=10).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn more_connections_than_the_shell_allows() {
    // Most systems let a process have 1,024 files until it asks for more.
    let server = Server::weir().files(200).start().await;
    let mut clients = Vec::new();
    for _ in 0..300 {
        clients.push(server.connect().await);
    }
    clients[299].flush().await.expect("the last is served");
}
