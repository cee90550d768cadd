"""`nats kv ...`."""

import re

from harness import case, equal, eventually


@case
def add_and_info(t):
    t.nats("kv", "add", "CONF", "--history", "5", "--ttl", "1h", "--description", "settings", "--max-value-size",
           "1KiB").says("Bucket Name: CONF", "History Kept: 5")  # fmt: skip
    t.nats("kv", "info", "CONF").says("Bucket Name: CONF", "Values Stored: 0")
    t.nats("kv", "ls").says("CONF", "settings")
    equal("CONF" in t.nats("kv", "ls", "-n").stdout.split(), True, "names")


@case
def put_and_get(t):
    t.nats("kv", "put", "CONF", "a.b", "1").says("^1$")
    t.nats("kv", "put", "CONF", "a.b", "2")
    t.nats("kv", "get", "CONF", "a.b").says("CONF > a.b revision: 2 created @", r"^2$|\n2\n")
    equal(t.nats("kv", "get", "CONF", "a.b", "--raw").stdout, "2", "raw")
    equal(t.nats("kv", "get", "CONF", "a.b", "--revision", "1", "--raw").stdout, "1", "revision 1")
    t.nats("kv", "put", "CONF", "piped", stdin="from a pipe")
    equal(t.nats("kv", "get", "CONF", "piped", "--raw").stdout, "from a pipe", "from standard input")
    t.nats("kv", "get", "CONF", "none", expect="failure").says("key not found")
    t.nats("kv", "put", "CONF", "big", "x" * 2000, expect="failure").says("10054|maximum")
    t.nats("kv", "get", "NONE", "a", expect="failure").says("bucket not found")


@case
def create_and_update_by_revision(t):
    t.nats("kv", "create", "CONF", "a.b", "x", expect="failure").says("10071", "key exists")
    t.nats("kv", "create", "CONF", "c", "1")
    revision = re.search(r"revision: (\d+)", t.nats("kv", "get", "CONF", "c").stdout).group(1)
    t.nats("kv", "update", "CONF", "c", "2", revision)
    t.nats("kv", "update", "CONF", "c", "3", revision, expect="failure").says("10071", "wrong last sequence")
    equal(t.nats("kv", "get", "CONF", "c", "--raw").stdout, "2", "value")


@case
def keys_and_history(t):
    equal(sorted(t.nats("kv", "ls", "CONF").stdout.split()), ["a.b", "c", "piped"], "keys")
    t.nats("kv", "ls", "CONF", "-v", "--display-value").says(r"│ a.b +│", r"│ 2 +│")
    t.nats("kv", "history", "CONF", "a.b").says(r"│ a.b │ +1 │ PUT", r"│ a.b │ +2 │ PUT")


@case
def delete_purge_and_compact(t):
    t.nats("kv", "del", "CONF", "a.b", "--force")
    t.nats("kv", "get", "CONF", "a.b", expect="failure").says("key not found")
    t.nats("kv", "history", "CONF", "a.b").says("PUT", "DEL")
    t.nats("kv", "create", "CONF", "a.b", "again")
    equal(t.nats("kv", "get", "CONF", "a.b", "--raw").stdout, "again", "created over the delete marker")
    t.nats("kv", "purge", "CONF", "c", "--force")
    t.nats("kv", "history", "CONF", "c").says("PURGE").says_not("PUT")
    t.nats("kv", "del", "CONF", "piped", "--force")
    t.nats("kv", "compact", "CONF", "--force")
    t.nats("kv", "history", "CONF", "piped").says_not("PUT")
    equal(t.nats("kv", "ls", "CONF").stdout.split(), ["a.b"], "keys")


@case
def revert(t):
    t.nats("kv", "put", "CONF", "r", "one")
    revision = re.search(r"revision: (\d+)", t.nats("kv", "get", "CONF", "r").stdout).group(1)
    t.nats("kv", "put", "CONF", "r", "two")
    t.nats("kv", "revert", "CONF", "r", revision, "--force")
    equal(t.nats("kv", "get", "CONF", "r", "--raw").stdout, "one", "value")


@case
def watch(t):
    watcher = t.nats_in_background("kv", "watch", "CONF")
    watcher.wait_for(r"PUT CONF > a.b: again")
    t.nats("kv", "put", "CONF", "w", "new")
    watcher.wait_for(r"PUT CONF > w: new")
    t.nats("kv", "del", "CONF", "w", "--force")
    watcher.wait_for(r"DELETE CONF > w")
    one = t.consuming_in_background("KV_CONF", "kv", "watch", "CONF", "only.*", "--updates")
    t.nats("kv", "put", "CONF", "other", "x")
    t.nats("kv", "put", "CONF", "only.this", "y")
    one.wait_for(r"PUT CONF > only.this: y")
    if "other" in one.text:
        raise AssertionError(f"a foreign key is shown: {one}")


@case
def edit_and_check(t):
    t.nats("kv", "edit", "CONF", "--history", "10").says("History Kept: 10")
    t.nats("server", "check", "kv", "--bucket", "CONF").says("^OK CONF")
    t.nats("server", "check", "kv", "--bucket", "CONF", "--key", "a.b").says("^OK ")
    t.nats("server", "check", "kv", "--bucket", "CONF", "--key", "none", expect="failure").says("CRITICAL")


@case
def values_expire(t):
    t.nats("kv", "add", "SHORT", "--ttl", "1s")
    t.nats("kv", "put", "SHORT", "k", "v")
    eventually("it expires", lambda: "key not found" in t.nats("kv", "get", "SHORT", "k", expect=None).output)


@case
def the_bucket_survives_a_restart_and_goes(t):
    t.restart()
    equal(t.nats("kv", "get", "CONF", "a.b", "--raw").stdout, "again", "value")
    equal(sorted(t.nats("kv", "ls", "CONF").stdout.split()), ["a.b", "only.this", "other", "r"], "keys")
    t.nats("kv", "rm", "CONF", "--force")
    t.nats("kv", "get", "CONF", "a.b", expect="failure").says("bucket not found")
