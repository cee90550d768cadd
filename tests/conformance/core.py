"""Publish, subscribe, request, reply, and what measures a connection."""

import os
import re

from harness import case, equal, eventually


@case
def pub_and_sub(t):
    subscriber = t.subscribe("greet.*", "--count", "2")
    t.nats("pub", "greet.joe", "hello joe").says(r"Published 9 bytes to \"greet.joe\"")
    t.nats("pub", "greet.ann", "hello ann", "-H", "Colour:blue", "-H", "Size:2")
    done = subscriber.wait()
    done.says(r"Received on \"greet.joe\"", "hello joe", r"Received on \"greet.ann\"", "Colour: blue", "Size: 2")


@case
def pub_many(t):
    subscriber = t.subscribe("many", "--count", "100", "--raw")
    t.nats("pub", "many", "--count", "100", "message {{Count}}")
    lines = [line for line in subscriber.wait().stdout.splitlines() if line.startswith("message ")]
    equal(lines, [f"message {n}" for n in range(1, 101)], "messages in order")


@case
def pub_from_stdin(t):
    subscriber = t.subscribe("stdin", "--count", "1", "--raw")
    t.nats("pub", "stdin", "--force-stdin", stdin="line one\nline two\n")
    subscriber.wait().says("line one\nline two")


@case
def queue_groups_share(t):
    one = t.subscribe("work", "--queue", "Q")
    two = t.subscribe("work", "--queue", "Q")
    t.nats("pub", "work", "--count", "40", "job {{Count}}")
    t.nats("pub", "work", "the end")

    def jobs(worker):
        return {int(n) for n in re.findall(r"^job (\d+)$", worker.read(), re.M)}

    eventually("40 jobs arrive", lambda: len(jobs(one)) + len(jobs(two)) == 40)
    equal(jobs(one) | jobs(two), set(range(1, 41)), "all jobs, each once")
    if not jobs(one) or not jobs(two):
        raise AssertionError("one worker got everything")


@case
def req_and_reply(t):
    t.subscribed_in_background("reply", "help.please", "on my way")
    t.nats("req", "help.please", "now").says(r"Received with rtt", "on my way")
    t.nats("req", "help.please", "--raw", "--replies", "1", "now").says(r"^on my way\s*$")


@case
def reply_echoes_headers(t):
    t.subscribed_in_background("reply", "echo", "--echo")
    t.nats("req", "echo", "payload", "-H", "Trace:7").says("payload", "Trace: 7")


@case
def req_without_responders(t):
    t.nats("req", "nobody.there", "x", expect=None).says("No responders are available")


@case
def rtt(t):
    t.nats("rtt", "5").says(re.escape(t.url), r"nats://127\.0\.0\.1:\d+: [\d.]+(µs|ms)")
    measured = t.nats("rtt", "--json", "3").json()
    equal(len(measured), 1, "servers measured")


@case
def latency(t):
    shown = t.nats("latency", "--server-b", t.url, "--duration", "1s", "--rate", "500", "--size", "64")
    shown.says(r"Pub Server RTT", r"Message Payload: 64", r"50:\s+[\d.]+(µs|ms)")


@case
def sub_headers_and_subjects_only(t):
    heads = t.subscribe("h.*", "--headers-only", "--count", "1")
    subjects = t.subscribe("h.*", "--subjects-only", "--count", "1")
    t.nats("pub", "h.a", "secret body", "-H", "Seen:yes")
    heads.wait().says("Seen: yes").says_not("secret body")
    subjects.wait().says("h.a").says_not("secret body")


@case
def sub_dumps_to_files(t):
    folder = os.path.join(t.folder, "dump")
    subscriber = t.subscribe("dump.me", "--dump", folder, "--count", "2")
    t.nats("pub", "dump.me", "one")
    t.nats("pub", "dump.me", "two")
    subscriber.wait()
    equal(len(os.listdir(folder)), 2, "files")


@case
def server_check_connection(t):
    t.nats("server", "check", "connection").says(r"^OK ")


@case
def server_check_request(t):
    t.subscribed_in_background("reply", "health", "fine")
    t.nats("server", "check", "request", "--subject", "health", "--match-payload", "fine").says("^OK ")


@case
def bench_pub_sub(t):
    subscriber = t.subscribed_in_background("bench", "sub", "speed", "--msgs", "20000", "--no-progress")
    t.nats("bench", "pub", "speed", "--msgs", "20000", "--size", "128", "--no-progress").says(r"msgs/sec")
    subscriber.wait(20).says(r"msgs/sec")
