"""`weir demo --for 20s --json`: what it says of itself against what the `nats` command line counts."""

import json
import re
import time

from harness import LISTENING, Failure, case, equal, eventually, local_ports


@case(weir_only=True)
def counts_are_what_others_count(t):
    demo = t.spawn(t.weir_path, "demo", "--for", "20s", "--json")
    port = nats_port(t, demo)
    t.env["NATS_URL"] = f"nats://127.0.0.1:{port}"
    try:
        # In this order: who hears the first event of a device hears the whole replay.
        seen = t.nats_in_background("sub", "replay.>", "monitor.>", "--subjects-only")
        seen.wait_for(r"monitor\.\w")
        stored = recorded = missed = 0
        while demo.process.poll() is None:
            live = count(seen, "monitor")
            listed = t.nats("req", "--raw", "--timeout", "5s", "$JS.API.STREAM.LIST", "", expect=None)
            if '"streams":[{' in listed.stdout:
                states = {s["config"]["name"]: s["state"] for s in listed.json()["streams"]}
                buffers = [state for name, state in states.items() if name.startswith("STREAMS_BUFFER_")]
                stored = sum(state["last_seq"] for state in buffers)
                if live > stored:
                    raise Failure(f"a subscriber had seen {live} messages, the buffers have {stored}")
                missed = missed or stored
                recorded = states.get("STREAMS_REC_demo", {}).get("messages", recorded)
            time.sleep(0.1)
        said = json.loads(demo.read().strip().splitlines()[-1])
        equal(demo.process.returncode, 0, "exit code")
    finally:
        t.env["NATS_URL"] = t.url
    equal((said["refused"], said["unknown"], said["replay_is_exact"]), (0, 0, True), "nothing refused or unknown")
    if said["recorded"] < 100:
        raise Failure(f"hardly anything was recorded: {said}")
    equal(recorded, said["recorded"], "messages in the recording's stream")
    equal(count(seen, "replay"), said["replayed"], "messages seen on the replay's subject")
    equal(said["recorded"], said["replayed"], "recorded and replayed")
    if stored > said["published"]:
        raise Failure(f"the buffers took {stored} messages, the demo published {said['published']}")
    # What the subscriber came too late for was in the buffers when they were first asked.
    least = said["published"] - missed
    eventually(f"a subscriber sees the last {least} messages", lambda: count(seen, "monitor") >= least)
    if count(seen, "monitor") > said["published"]:
        raise Failure(f"a subscriber saw more messages than the demo published: {said}")


def nats_port(t, demo):
    """The port on which the demo speaks NATS: among those it listens on, the one that greets with INFO."""
    import socket

    end = time.monotonic() + 15
    while time.monotonic() < end:
        for port in local_ports(demo.process.pid, LISTENING):
            with socket.create_connection(("127.0.0.1", port), timeout=2) as peer:
                peer.settimeout(0.5)
                try:
                    if peer.recv(5) == b"INFO ":
                        return port
                except TimeoutError:
                    pass
        time.sleep(0.05)
    raise Failure(f"the demo does not listen for NATS clients\n{demo}")


def count(subscriber, prefix):
    """Messages that `nats sub --subjects-only` showed on the subjects with that first token."""
    received = [line for line in subscriber.read().splitlines() if "Subscribing" not in line]
    return sum(1 for line in received if re.search(rf"\b{prefix}\.\w", line))
