//! `weir data generate`, `publish` and `tail`.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};

use crate::support::jetstream::{header, take, text};
use crate::support::{PATIENCE, Server, weir_err, weir_ok};

const NOBODY: &str = "nats://127.0.0.1:1";

fn file(folder: &TempDir, name: &str, content: &str) -> PathBuf {
    let path = folder.path().join(name);
    std::fs::write(&path, content).expect("the file is written");
    path
}

fn shown(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// `weir data tail ARGS`, listening, line by line.
struct Tail {
    _child: Child,
    lines: Lines<BufReader<ChildStdout>>,
}

impl Tail {
    async fn start(url: &str, args: &[&str]) -> Self {
        Self::start_as(&["data", "tail"], url, args).await
    }

    async fn start_as(words: &[&str], url: &str, args: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(words)
            .args(args)
            .env("NATS_URL", url)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .expect("the binary starts");
        let mut remarks = BufReader::new(child.stderr.take().expect("stderr is piped")).lines();
        let first = tokio::time::timeout(PATIENCE, remarks.next_line()).await.expect("it says what it does");
        let first = first.expect("text").expect("a line");
        assert!(first.contains("listening"), "{first}");
        tokio::spawn(async move { while let Ok(Some(_)) = remarks.next_line().await {} });
        let lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        Self { _child: child, lines }
    }

    async fn line(&mut self) -> String {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a line in time");
        line.expect("text").expect("a line")
    }

    async fn rest(mut self) -> Vec<String> {
        let mut rest = Vec::new();
        while let Some(line) =
            tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("it ends").expect("text")
        {
            rest.push(line);
        }
        rest
    }
}

#[tokio::test]
async fn s0_082_generate_renders_a_template_n_times_into_compact_json_lines() {
    let folder = tempfile::tempdir().expect("a folder");
    let template = file(
        &folder,
        "all.tmpl",
        r#"{
  "seq": {{ seq }}, "uuid": "{{ uuid }}", "at": "{{ timestamp }}", "int": {{ randInt 1 6 }},
  "float": {{ randFloat 0.5 1.5 }}, "name": "{{ faker "person.name" }}"
}"#,
    );
    let out = weir_ok(NOBODY, &["data", "generate", "-c", "1000", "-t", shown(&template)]).await;
    let lines: Vec<&str> = out.lines().collect();
    assert_eq!(lines.len(), 1000);
    let mut ids = std::collections::BTreeSet::new();
    let mut ints = std::collections::BTreeSet::new();
    for (n, line) in lines.iter().enumerate() {
        let record: Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("line {n}: {error}: {line}"));
        assert_eq!(record["seq"], n as u64 + 1);
        assert!(record["at"].as_str().expect("a time").parse::<jiff::Timestamp>().is_ok(), "{line}");
        assert!(!record["name"].as_str().expect("a name").is_empty());
        let float = record["float"].as_f64().expect("a number");
        assert!((0.5..1.5).contains(&float), "{line}");
        let id = record["uuid"].as_str().expect("a uuid").to_owned();
        assert_eq!(id.len(), 36, "{line}");
        ids.insert(id);
        ints.insert(record["int"].as_i64().expect("a number"));
        assert!(!line.contains(": ") && !line.contains(", "), "compact: {line}");
    }
    assert_eq!(ids.len(), 1000, "every uuid is another");
    assert_eq!(ints, (1..=6).collect(), "both ends of the range, nothing outside");

    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.tmpl");
    let target = folder.path().join("data.jsonl");
    weir_ok(NOBODY, &["data", "generate", "-c", "25", "-o", shown(&target), "-t", shown(&example)]).await;
    let written = std::fs::read_to_string(&target).expect("the file");
    assert_eq!(written.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count(), 25);

    let bad = file(&folder, "bad.tmpl", r#"{"seq": {{ seq }}, "x": {{ uuid }} }"#);
    let error =
        weir_err(NOBODY, &["data", "generate", "-c", "3", "-o", "never.jsonl", "-t", shown(&bad)]).await;
    assert!(error.contains("record 1"), "the error names the record: {error}");
    assert!(!Path::new("never.jsonl").exists(), "a file appears whole or not at all");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_084_publish_sends_each_line_with_its_headers_at_its_pace() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let mut messages = client.subscribe("monitor.>").await.expect("subscribe");
    client.flush().await.expect("flush");
    let folder = tempfile::tempdir().expect("a folder");
    let mut content: String = (1..=10).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    content.insert_str(8, "\n   \n"); // blank lines are no messages
    let path = file(&folder, "ten.jsonl", &content);
    let started = Instant::now();
    let args = [
        "data",
        "publish",
        "--device-id",
        "1234",
        "--file",
        shown(&path),
        "--interval",
        "100ms",
        "--header",
        "X-Run=7",
        "--echo",
    ];
    let out = weir_ok(&server.url(), &args).await;
    let took = started.elapsed();
    assert!(took >= Duration::from_millis(890), "ten lines took {took:?}");
    let received = take(&mut messages, 10).await;
    for (n, message) in received.iter().enumerate() {
        assert_eq!(message.subject.as_str(), "monitor.1234");
        assert_eq!(text(message), format!("{{\"n\":{}}}", n + 1));
        assert_eq!(header(message, "X-Streams-Device"), Some("1234"));
        assert_eq!(header(message, "X-Streams-File"), Some("ten.jsonl"));
        assert_eq!(header(message, "X-Run"), Some("7"));
    }
    assert_eq!(out.lines().count(), 10, "--echo prints what was published: {out}");

    // A line over the limit is named, the ones before it are out.
    let long = file(&folder, "long.jsonl", &format!("{{\"n\":1}}\n{{\"n\":\"{}\"}}\n", "x".repeat(200)));
    let args = ["data", "publish", "--device-id", "1234", "--file", shown(&long), "--max-line-bytes", "100"];
    let error = weir_err(&server.url(), &args).await;
    assert!(error.contains("line 2") && error.contains("100"), "{error}");
    assert_eq!(text(&take(&mut messages, 1).await[0]), "{\"n\":1}");
    // No server: said plainly, and at once.
    let error = weir_err(NOBODY, &["data", "publish", "--device-id", "1234", "--file", shown(&path)]).await;
    assert!(error.contains("127.0.0.1:1"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_085_an_invalid_line_stops_publish_when_validation_is_on() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let mut messages = client.subscribe("monitor.dev").await.expect("subscribe");
    client.flush().await.expect("flush");
    let folder = tempfile::tempdir().expect("a folder");
    let path = file(&folder, "mixed.jsonl", "{\"n\":1}\n{\"n\":2}\nno json\n{\"n\":4}\n");
    let args = ["data", "publish", "--device-id", "dev", "--file", shown(&path)];
    let error = weir_err(&server.url(), &args).await;
    assert!(error.contains("line 3"), "{error}");
    let received = take(&mut messages, 2).await;
    assert_eq!(received.iter().map(text).collect::<Vec<_>>(), ["{\"n\":1}", "{\"n\":2}"]);

    let args = ["data", "publish", "--device-id", "dev", "--file", shown(&path), "--validate=false"];
    weir_ok(&server.url(), &args).await;
    let received = take(&mut messages, 4).await;
    assert_eq!(text(&received[2]), "no json", "nothing was sent after the bad line of the first run");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_086_tail_prints_one_device_or_all() {
    let server = Server::broker().start().await;
    let client = server.connect().await;
    let mut one = Tail::start(&server.url(), &["--device-id", "one"]).await;
    let all = Tail::start(&server.url(), &["--json", "--count", "3"]).await;
    let mut pretty =
        Tail::start(&server.url(), &["--device-id", "one", "--pretty", "--headers", "--count", "1"]).await;
    let mut headers = async_nats::HeaderMap::new();
    headers.insert("B-Header", "second");
    headers.insert("A-Header", "first");
    let send = async |subject: &str, payload: &str| {
        let body = payload.to_owned().into();
        client.publish_with_headers(subject.to_owned(), headers.clone(), body).await.expect("publish");
        client.flush().await.expect("flush");
    };
    send("monitor.two", r#"{"n":1}"#).await;
    send("monitor.one", r#"{"n":2}"#).await;
    send("monitor.one.deeper", r#"{"n":3}"#).await;
    assert_eq!(one.line().await, r#"{"n":2}"#, "only its own device");
    assert_eq!(one.line().await, r#"{"n":3}"#, "with what is below it");

    let all = all.rest().await;
    let records: Vec<Value> = all.iter().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let subjects: Vec<&str> =
        records.iter().map(|record| record["subject"].as_str().expect("a subject")).collect();
    assert_eq!(subjects, ["monitor.two", "monitor.one", "monitor.one.deeper"]);
    assert_eq!(records[0]["data"], json!({"n": 1}));

    let mut lines = Vec::new();
    while let Some(line) = pretty.lines.next_line().await.expect("text") {
        lines.push(line);
    }
    let place = |part: &str| {
        lines
            .iter()
            .position(|line| line.contains(part))
            .unwrap_or_else(|| panic!("no {part:?} in {lines:?}"))
    };
    assert!(place("A-Header") < place("B-Header") && place("B-Header") < place("\"n\": 2"), "{lines:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn s0_087_the_four_example_commands_run_as_written() {
    // As in the example: `streams` before each command, short and long flags, the spelling `--intervall`, in a folder
    // that has the template.
    let server = Server::weir().words(&["streams", "serve"]).start().await;
    let folder = tempfile::tempdir().expect("a folder");
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/orders.tmpl");
    std::fs::create_dir(folder.path().join("examples")).expect("a folder");
    std::fs::copy(example, folder.path().join("examples/orders.tmpl")).expect("the template");
    let url = server.url();
    let run = async |line: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_weir"))
            .args(line.split(' '))
            .current_dir(folder.path())
            .env("NATS_URL", &url)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .output();
        let output =
            tokio::time::timeout(Duration::from_secs(60), output).await.expect("it ends").expect("it runs");
        assert!(output.status.success(), "weir {line}: {}", String::from_utf8_lossy(&output.stderr));
        output
    };
    let tail =
        Tail::start_as(&["streams", "data", "tail"], &url, &["--device-id", "1234", "--count", "3"]).await;
    run("streams data generate -c 3 -o data.jsonl -t examples/orders.tmpl").await;
    let started = Instant::now();
    run("streams data publish --device-id 1234 --file data.jsonl --intervall 1s").await;
    assert!(
        started.elapsed() >= Duration::from_millis(1900),
        "two pauses of a second between three messages"
    );
    let written = std::fs::read_to_string(folder.path().join("data.jsonl")).expect("the file");
    assert_eq!(tail.rest().await, written.lines().map(str::to_owned).collect::<Vec<_>>());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_nested_without_end_is_printed_as_it_is() {
    let server = Server::start().await;
    let client = server.connect().await;
    let deep = format!("{}{}", "[".repeat(200_000), "]".repeat(200_000));
    let url = server.url();
    let tail = tokio::spawn(async move {
        weir_ok(&url, &["data", "tail", "--device-id", "dev", "--pretty", "--count", "2"]).await
    });
    // Both messages, until the command listens.
    while !tail.is_finished() {
        client.publish("monitor.dev", deep.clone().into()).await.expect("publish");
        client.publish("monitor.dev", r#"{"a":[1]}"#.into()).await.expect("publish");
        client.flush().await.expect("flush");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let printed = tail.await.expect("it ends");
    assert!(printed.contains(&deep), "{} bytes were printed", printed.len());
    assert!(printed.contains("{\n  \"a\": ["), "what is not deep is indented");
}
