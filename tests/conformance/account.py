"""`nats account info`, `nats server check ...`, benches, and what the command line sees of the server's face."""

from harness import case, equal
from stream import fill


@case
def account_info(t):
    """S0-001"""
    shown = t.nats("account", "info")
    shown.says(r"Headers Supported: true", r"Maximum Payload: 1.0 MiB", "JetStream Account Information", r"Streams: \d")
    shown.says_not("not enabled|not supported|no responders")


@case
def account_usage_is_counted(t):
    before = t.api("INFO")  # the buckets of Weir's own services count as well
    fill(t, "USED", ["used"], 3)
    t.nats("consumer", "add", "USED", "C", "--pull", "--defaults")
    streams, consumers = before["streams"] + 1, before["consumers"] + 1
    t.nats("account", "info").says(f"Streams: {streams}\\b", f"Consumers: {consumers}\\b")
    info = t.api("INFO")
    equal((info["streams"], info["consumers"]), (streams, consumers), "counts")
    equal(info["storage"] > before["storage"], True, "storage is counted")


@case
def checks(t):
    t.nats("server", "check", "jetstream").says("^OK JetStream", f"streams={t.api('INFO')['streams']}\\b")
    t.nats("server", "check", "stream", "--stream", "USED", "--msgs-critical", "2").says("^OK USED")
    t.nats("server", "check", "stream", "--stream", "USED", "--msgs-critical", "9", expect="failure").says("CRITICAL")
    t.nats("server", "check", "consumer", "--stream", "USED", "--consumer", "C").says("^OK ")
    t.nats("server", "check", "consumer", "--stream", "USED", "--consumer", "C", "--unprocessed-critical", "1",
           expect="failure").says("CRITICAL")  # fmt: skip
    t.nats("server", "check", "message", "--stream", "USED", "--subject", "used", "--content", "m3").says("^OK ")
    t.nats("server", "check", "message", "--stream", "USED", "--subject", "used", "--content", "none",
           expect="failure").says("CRITICAL")  # fmt: skip
    t.nats("server", "check", "connection").says("^OK ")


@case
def requests_of_a_higher_level_are_refused(t):
    answer = t.nats("req", "--raw", "$JS.API.STREAM.CREATE.X", '{"name":"X"}', "-H", "Nats-Required-Api-Level:99")
    equal(answer.json()["error"]["err_code"], 10185, "err_code")


@case
def unknown_fields_and_bad_json_are_refused(t):
    answer = t.api("STREAM.CREATE.X", {"name": "X", "colour": "blue"})
    equal(answer["error"]["err_code"], 10025, "err_code")
    equal(answer["error"]["description"], 'invalid JSON: json: unknown field "colour"', "description")
    answer = t.nats("req", "--raw", "$JS.API.STREAM.CREATE.X", "{").json()
    equal(answer["error"]["err_code"], 10025, "err_code")


@case
def bench_jetstream(t):
    t.nats("stream", "add", "benchstream", "--subjects", "bench.js", "--defaults")
    t.nats("bench", "js", "pub", "async", "bench.js", "--msgs", "2000", "--size", "128", "--no-progress",
           "--stream", "benchstream").says("msgs/sec")  # fmt: skip
    equal(t.stream_state("benchstream")["messages"], 2000, "messages")
    t.nats("bench", "js", "ordered", "--msgs", "2000", "--no-progress", "--stream", "benchstream").says("msgs/sec")
    t.nats("bench", "js", "fetch", "--msgs", "2000", "--no-progress", "--stream", "benchstream").says("msgs/sec")
    t.nats("stream", "rm", "benchstream", "--force")
