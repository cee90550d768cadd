"""The session of the README, as typed: weir's own commands beside `nats` and an HTTP client."""

import json
import re
import time
import urllib.request

from harness import case, equal, eventually


def post(t, path, body):
    """`curl -X POST HTTP/path -d body`."""
    request = urllib.request.Request(f"http://{t.http}{path}", data=body.encode(), method="POST")
    request.add_header("Content-Type", "application/x-www-form-urlencoded")  # what curl -d sends
    with urllib.request.urlopen(request, timeout=10) as answer:
        return answer.status, json.loads(answer.read() or b"null")


@case(weir_only=True)
def buffer_a_device(t):
    t.weir("device", "buffer", "enable", "--device-id", "dev-1", "--window", "5m").says("dev-1", "5m")
    t.nats("stream", "ls", "-a").says("STREAMS_BUFFER_dev-1")
    config = eventually("the buffer is there", lambda: t.api("STREAM.INFO.STREAMS_BUFFER_dev-1").get("config"))
    equal((config["max_age"], config["storage"]), (300 * 10**9, "memory"), "window and storage")


@case(weir_only=True)
def ingest_reaches_nats(t):
    subscriber = t.subscribe("monitor.>", "--count", "1")
    status, _ = post(t, "/monitor/dev-1", '[{"type":"state","symbol":"demo/temp","data":{"c":21.5}}]')
    equal(status, 200, "status")
    shown = subscriber.wait()
    shown.says(r'Received on "monitor.dev-1"', r'\{"c":\s*21.5\}', "X-Monitor-Type: state", "X-Monitor-Symbol: demo/temp")
    equal(t.stream_state("STREAMS_BUFFER_dev-1")["messages"], 1, "buffered")


@case(weir_only=True)
def record_with_pre_roll(t):
    t.weir("record", "start", "--device-id", "dev-1", "--session-id", "s1", "--pre-roll", "1m").says("s1")
    for n in range(5):
        post(t, "/monitor/dev-1", f'[{{"type":"state","symbol":"demo/temp","data":{{"c":{n}}}}}]')
        time.sleep(0.05)
    t.weir("record", "stop", "--session-id", "s1").says("s1")
    post(t, "/monitor/dev-1", '[{"type":"state","symbol":"demo/temp","data":{"c":99}}]')
    t.weir("record", "list").says(r"s1 .*dev-1 .*6")
    state = t.stream_state("STREAMS_REC_s1")
    equal(state["messages"], 6, "one from before, five live, none from after")


@case(weir_only=True)
def replay(t):
    subscriber = t.subscribe("out.dev-1", "--count", "6")
    t.weir("replay", "s1", "--speed", "5", "--target", "out.dev-1")
    shown = subscriber.wait().stdout
    equal(re.findall(r'\{"c":\s*([\d.]+)\}', shown), ["21.5", "0", "1", "2", "3", "4"], "in recorded order")
    if shown.count("X-Streams-Session: s1") != 6:
        raise AssertionError(shown)


@case(weir_only=True)
def buckets_are_readable_by_any_client(t):
    t.nats("kv", "ls", "streams_session").says(r"^s1\s*$")
    row = json.loads(t.nats("kv", "get", "streams_session", "s1", "--raw").stdout)
    equal(row["device_id"] if "device_id" in row else row.get("device"), "dev-1", "device")
    state = json.loads(t.nats("kv", "get", "streams_record_state", "s1", "--raw").stdout)
    equal(state["state"] if "state" in state else state.get("status"), "stopped", "state")
    t.nats("kv", "get", "streams_devices", "dev-1", "--raw").says("dev-1|window|buffer")


@case(weir_only=True)
def nothing_is_left_behind(t):
    equal(t.api("CONSUMER.NAMES.STREAMS_REC_s1")["consumers"] or [], [], "consumers of the recording")
    t.restart()
    t.weir("record", "list").says("s1")
    equal(t.stream_state("STREAMS_REC_s1")["messages"], 6, "messages after a restart")
    t.weir("record", "delete", "--session-id", "s1", expect=0)
    equal(t.api("STREAM.INFO.STREAMS_REC_s1")["error"]["err_code"], 10059, "err_code")
