"""`nats consumer ...`. Numbers S1-0xx in the words are rows of docs/rows.md."""

import time

from harness import case, equal, eventually
from stream import bodies, fill


@case
def add_with_flags(t):
    fill(t, "C", ["c.odd", "c.even"], 6)
    t.nats("consumer", "add", "C", "PULL", "--pull", "--ack", "explicit", "--wait", "10s", "--deliver", "all",
           "--max-deliver", "3", "--max-pending", "100", "--max-waiting", "20", "--filter", "c.odd", "--replay",
           "instant", "--description", "flags", "--max-pull-batch", "10", "--max-pull-expire", "5s",
           "--inactive-threshold", "1h", "--metadata", "owner:tests", "--defaults")  # fmt: skip
    config = t.nats("consumer", "info", "C", "PULL", "--json").json()["config"]
    expected = {
        "durable_name": "PULL", "ack_policy": "explicit", "ack_wait": 10 * 10**9, "deliver_policy": "all",
        "max_deliver": 3, "max_ack_pending": 100, "max_waiting": 20, "filter_subject": "c.odd",
        "replay_policy": "instant", "description": "flags", "max_batch": 10, "max_expires": 5 * 10**9,
        "inactive_threshold": 3600 * 10**9,
    }  # fmt: skip
    equal({key: config.get(key) for key in expected}, expected, "config")
    t.nats("consumer", "add", "C", "PUSH", "--target", "push.here", "--ack", "explicit", "--deliver", "last",
           "--heartbeat", "1s", "--flow-control", "--deliver-group", "G", "--defaults")  # fmt: skip
    config = t.nats("consumer", "info", "C", "PUSH", "--json").json()["config"]
    equal((config["deliver_subject"], config["deliver_group"], config["idle_heartbeat"], config["flow_control"]),
          ("push.here", "G", 10**9, True), "config")  # fmt: skip


@case
def add_from_a_file_with_a_foreign_key(t):
    """S1-019"""
    path = t.file("consumer_trade_work_queue.json", {
        "stream_name": "C", "name": "WORK", "durable_name": "WORK", "deliver_subject": "", "deliver_policy": "all",
        "ack_policy": "explicit", "ack_wait": 30000000000, "max_deliver": 3, "max_ack_pending": 1000,
        "replay_policy": "instant", "filter_subject": "c.>",
    })  # fmt: skip
    t.nats("consumer", "add", "C", "--config", path).says("Pull Mode: true")
    config = t.api("CONSUMER.INFO.C.WORK")["config"]
    equal(config.get("deliver_subject"), None, "deliver_subject")
    equal((config["max_deliver"], config["max_ack_pending"]), (3, 1000), "limits")


@case
def lists_and_reports(t):
    """S1-026"""
    equal(t.nats("consumer", "ls", "C", "-n").stdout.split(), ["PULL", "PUSH", "WORK"], "names")
    t.nats("consumer", "ls", "C").says(r"│ PULL +│", r"│ PUSH +│", "never")
    t.nats("consumer", "list", "C", "--json").json()
    t.nats("consumer", "info", "C", "WORK").says("Pull Mode: true", "Ack Policy: Explicit", "Unprocessed Messages: 6")
    t.nats("consumer", "state", "C", "WORK").says("Unprocessed Messages: 6")
    t.nats("consumer", "report", "C").says("with 3 consumers", r"│ PUSH +│ Push +│ Explicit", r"│ PULL +│ Pull +│")
    equal(t.nats("consumer", "find", "C", "--push").stdout.split(), ["PUSH"], "find --push")
    equal(sorted(t.nats("consumer", "find", "C", "--pull").stdout.split()), ["PULL", "WORK"], "find --pull")


@case
def next_acks_naks_and_terms(t):
    shown = t.nats("consumer", "next", "C", "WORK", "--count", "2")
    equal(bodies(shown.stdout), ["m1", "m2"], "messages")
    shown.says("tries: 1 / cons seq: 1 / str seq: 1 / pending: 5", "Acknowledged message")
    t.nats("consumer", "next", "C", "WORK", "--nak").says(r"\bm3\b", "Negative Acknowledged")
    t.nats("consumer", "next", "C", "WORK", "--term").says(r"\bm3\b", "tries: 2", "Terminated message")
    shown = t.nats("consumer", "next", "C", "WORK", "--raw", "--no-ack").says("m4")
    info = t.api("CONSUMER.INFO.C.WORK")
    equal((info["num_ack_pending"], info["num_pending"], info["ack_floor"]["stream_seq"]), (1, 2, 3), "counts")
    t.nats("consumer", "next", "C", "PULL", "--count", "3").says(r"\bm1\b", r"\bm3\b", r"\bm5\b")
    t.nats("consumer", "next", "C", "PULL", "--timeout", "1s", expect="failure").says("Status: 408|timeout")


@case
def edit(t):
    t.nats("consumer", "edit", "C", "WORK", "--wait", "15s", "--max-deliver", "5", "--force").says("AckWait")
    config = t.api("CONSUMER.INFO.C.WORK")["config"]
    equal((config["ack_wait"], config["max_deliver"]), (15 * 10**9, 5), "config")
    t.nats("consumer", "edit", "C", "WORK", "--dry-run", "--max-deliver", "9", expect=1)
    equal(t.api("CONSUMER.INFO.C.WORK")["config"]["max_deliver"], 5, "a dry run changes nothing")


@case
def copy_and_remove(t):
    t.nats("consumer", "copy", "C", "WORK", "COPY").says("C > COPY")
    config = t.api("CONSUMER.INFO.C.COPY")["config"]
    equal((config["ack_wait"], config["max_deliver"]), (15 * 10**9, 5), "config")
    t.nats("consumer", "rm", "C", "COPY", "--force")
    equal(t.api("CONSUMER.INFO.C.COPY")["error"]["err_code"], 10014, "err_code")
    t.nats("consumer", "rm", "C", "COPY", "--force", expect="failure").says("10014|not found")


@case
def redelivery_ends_at_max_deliver(t):
    """S1-021"""
    t.nats("stream", "add", "R", "--subjects", "r", "--defaults")
    t.nats("pub", "-J", "r", "m1")
    t.nats("consumer", "add", "R", "THREE", "--pull", "--ack", "explicit", "--wait", "1s", "--max-deliver", "3",
           "--max-pending", "1000", "--defaults")  # fmt: skip
    for attempt in (1, 2, 3):
        t.nats("consumer", "next", "R", "THREE", "--no-ack", "--timeout", "20s").says(f"tries: {attempt}", r"\bm1\b")
    t.nats("consumer", "next", "R", "THREE", "--timeout", "2s", expect="failure")
    equal(t.stream_state("R")["messages"], 1, "limits keep the message")


@case
def ack_none_delivers_once(t):
    """S1-020"""
    t.nats("consumer", "add", "C", "ONCE", "--pull", "--ack", "none", "--max-deliver", "1", "--defaults")
    shown = t.nats("consumer", "next", "C", "ONCE", "--count", "6")
    equal(bodies(shown.stdout), [f"m{n}" for n in range(1, 7)], "messages")
    t.nats("consumer", "next", "C", "ONCE", "--timeout", "1s", expect="failure")


@case
def max_ack_pending_holds_back(t):
    """S1-022"""
    t.nats("consumer", "add", "C", "HELD", "--pull", "--ack", "explicit", "--max-pending", "2", "--defaults")
    t.nats("consumer", "next", "C", "HELD", "--count", "2", "--no-ack")
    t.nats("consumer", "next", "C", "HELD", "--timeout", "1s", expect="failure")
    info = t.api("CONSUMER.INFO.C.HELD")
    equal((info["num_ack_pending"], info["num_pending"]), (2, 4), "counts")


@case
def push_reaches_every_subscriber(t):
    """S1-023, S1-025"""
    t.nats("stream", "add", "FAN", "--subjects", "ticks.>", "--storage", "memory", "--defaults")
    t.nats("consumer", "add", "FAN", "OUT", "--target", "fanout.btcusdt", "--ack", "none", "--deliver", "all",
           "--defaults")  # fmt: skip
    t.nats("pub", "-J", "ticks.btcusdt", "m1")
    time.sleep(0.3)
    equal(t.api("CONSUMER.INFO.FAN.OUT")["delivered"]["consumer_seq"], 0, "it waits while nobody listens")
    one = t.subscribe("fanout.btcusdt", "--count", "3")
    one.wait_for(r"\bm1\b")
    two = t.subscribe("fanout.btcusdt", "--count", "2")
    t.nats("pub", "-J", "ticks.btcusdt", "m2")
    t.nats("pub", "-J", "ticks.btcusdt", "m3")
    equal(bodies(one.wait().stdout), ["m1", "m2", "m3"], "the first subscriber")
    equal(bodies(two.wait().stdout), ["m2", "m3"], "the second")


@case
def push_with_acks_redelivers(t):
    """S1-024"""
    t.nats("consumer", "add", "FAN", "AGAIN", "--target", "again", "--ack", "explicit", "--wait", "1s", "--deliver",
           "all", "--defaults")  # fmt: skip
    shown = t.nats("sub", "again", "--no-ack", "--count", "6", "--wait", "20s")
    equal(sorted(bodies(shown.stdout)), ["m1", "m1", "m2", "m2", "m3", "m3"], "each twice")


@case
def pause_and_resume(t):
    t.nats("consumer", "add", "FAN", "PAUSED", "--pull", "--defaults")
    # The command line asks for API level 1 before it sends either; a server below that is asked directly.
    by_command = t.api("INFO")["api"]["level"] >= 1
    if by_command:
        t.nats("consumer", "pause", "FAN", "PAUSED", "1h", "--force").says("Paused FAN > PAUSED until")
    else:
        until = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3600))
        equal(t.api("CONSUMER.PAUSE.FAN.PAUSED", {"pause_until": until})["paused"], True, "paused")
    equal(t.api("CONSUMER.INFO.FAN.PAUSED")["paused"], True, "paused")
    t.nats("consumer", "next", "FAN", "PAUSED", "--timeout", "1s", expect="failure")
    if by_command:
        t.nats("consumer", "resume", "FAN", "PAUSED", "--force").says("was resumed")
    else:
        equal(t.api("CONSUMER.PAUSE.FAN.PAUSED")["paused"], False, "paused")
    equal(t.api("CONSUMER.INFO.FAN.PAUSED").get("paused", False), False, "paused")
    t.nats("consumer", "next", "FAN", "PAUSED").says(r"\bm1\b")


@case
def reset(t):
    """S1-027"""
    t.nats("consumer", "add", "C", "RESET", "--pull", "--defaults")
    equal(bodies(t.nats("consumer", "next", "C", "RESET", "--count", "4").stdout), ["m1", "m2", "m3", "m4"], "first")
    t.nats("consumer", "reset", "C", "RESET", "--sequence", "2", "--force").says("Stream sequence: 1")
    equal(bodies(t.nats("consumer", "next", "C", "RESET", "--count", "2").stdout), ["m2", "m3"], "after the reset")
    t.nats("consumer", "next", "C", "RESET", "--no-ack")
    t.nats("consumer", "reset", "C", "RESET", "--force").says("Outstanding Acks: 0")
    equal(bodies(t.nats("consumer", "next", "C", "RESET").stdout), ["m4"], "back to the ack floor")


@case
def an_ephemeral_one_goes_by_itself(t):
    t.nats("consumer", "add", "C", "--ephemeral", "--pull", "--inactive-threshold", "1s", "--defaults").says(
        r"Information for Consumer C > \w{8} created", "Inactive Threshold: 1.00s"
    )
    eventually("it is gone", lambda: t.consumers("C") == {"PULL", "PUSH", "WORK", "ONCE", "HELD", "RESET"})


@case
def acknowledged_positions_survive_a_restart(t):
    before = t.api("CONSUMER.INFO.C.RESET")
    t.restart()
    after = t.api("CONSUMER.INFO.C.RESET")
    equal(after["ack_floor"]["stream_seq"], before["ack_floor"]["stream_seq"], "ack floor")
    equal(bodies(t.nats("consumer", "next", "C", "RESET").stdout), ["m5"], "the next")
