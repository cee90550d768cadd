//! Damage in one stream: the others are served, the server starts, and what is damaged is named.

use weir_storage::Disk;

use super::*;

const MARK: &str = "a-payload-that-is-easily-found";

/// A world with two streams, each with a consumer, moved to the database and closed.
fn closed() -> Simulated {
    let mut world = World::new();
    world.create(r#"{"name":"GOOD","subjects":["good.>"]}"#);
    world.create(r#"{"name":"BAD","subjects":["bad.>"],"allow_direct":true,"max_age":3600000000000}"#);
    for stream in ["GOOD", "BAD"] {
        let subject = stream.to_lowercase();
        for number in 0..20 {
            let padding = "x".repeat(300);
            world.publish(
                &format!("{subject}.{}", number % 3),
                &format!("{MARK}-{subject}-{number:02}-{padding}"),
            );
        }
        let config = format!(
            r#"{{"stream_name":"{stream}","config":{{"durable_name":"C-{subject}","ack_policy":"explicit","filter_subject":"{subject}.1"}}}}"#
        );
        let answer = world.ask(&format!("$JS.API.CONSUMER.CREATE.{stream}.C-{subject}.{subject}.1"), &config);
        assert!(!answer.contains("\"error\""), "{answer}");
        let pulled = world.send(&format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.C-{subject}"), &[], b"");
        assert_eq!(pulled.expect("heard").len(), 1);
    }
    let mut store = world.store.take().expect("it runs");
    world.engine.shutdown(world.now, &mut store, &world.interest);
    store.close().expect("closed");
    world.disk
}

/// Flips a bit wherever `pattern` stands in the database; returns how often that was.
fn damage(disk: &Simulated, pattern: &[u8]) -> usize {
    let file = disk.open("main.redb", false).expect("the database");
    let mut bytes = vec![0; usize::try_from(file.len().expect("a length")).expect("it fits")];
    file.read_at(0, &mut bytes).expect("it is read");
    let found: Vec<usize> = memchr::memmem::find_iter(&bytes, pattern).collect();
    for at in &found {
        assert!(disk.damage("main.redb", at + pattern.len() - 1, 1));
    }
    found.len()
}

/// The other stream is what it was, and takes messages.
fn good_is_served(world: &mut World) {
    assert_eq!(world.contents("GOOD").len(), 20);
    let pulled = world.send("$JS.API.CONSUMER.MSG.NEXT.GOOD.C-good", &[], b"").expect("heard");
    assert_eq!(pulled.len(), 1);
    assert!(world.publish("good.1", "more").contains(r#""seq":21"#));
}

#[test]
fn damaged_records_of_one_stream_leave_the_start_and_the_others_alone() {
    let disk = closed();
    assert!(damage(&disk, format!("{MARK}-bad-10").as_bytes()) > 0);
    let mut world = World::on(disk);
    good_is_served(&mut world);
    // The rest of the stream is there, the damage is an error with its range.
    let found = world.ask("$JS.API.STREAM.MSG.GET.BAD", r#"{"seq":3}"#);
    assert!(found.contains(r#""seq":3"#), "{found}");
    let lost = world.ask("$JS.API.STREAM.MSG.GET.BAD", r#"{"seq":11}"#);
    assert!(lost.contains("sequences 11 to 11 of log") && lost.contains("damaged"), "{lost}");
    assert!(world.publish("bad.1", "more").contains(r#""seq":21"#));
    // Its consumer counts around the damage and stands still in front of it; one behind it goes on.
    let info = world.ask("$JS.API.CONSUMER.INFO.BAD.C-bad", "");
    assert!(!info.contains("\"error\""), "{info}");
    let body = r#"{"stream_name":"BAD","config":{"durable_name":"B","ack_policy":"explicit","deliver_policy":"by_start_sequence","opt_start_seq":12,"filter_subject":"bad.1"}}"#;
    let answer = world.ask("$JS.API.CONSUMER.CREATE.BAD.B.bad.1", body);
    assert!(answer.contains(r#""num_pending":4"#), "{answer}");
    // Age goes on: it removes what is old, damage included.
    world.advance(7_200 * SECOND);
    assert_eq!(world.contents("BAD").len(), 0);
    assert_eq!(world.contents("GOOD").len(), 21);
}

#[test]
fn a_damaged_configuration_takes_its_stream_offline_and_nothing_else() {
    let disk = closed();
    assert!(damage(&disk, br#"{"name":"BAD"#) > 0);
    let mut world = World::on(disk);
    good_is_served(&mut world);
    let list = world.ask("$JS.API.STREAM.LIST", "");
    assert!(list.contains(r#""total":2"#) && list.contains(r#""offline":{"#), "{list}");
    let [name] = &world.engine.offline.values().map(|offline| offline.name.clone()).collect::<Vec<_>>()[..]
    else {
        panic!("{list}");
    };
    assert!(name.starts_with("log "), "{name}");
    assert!(list.contains("has lost its configuration"), "{list}");
    // What it holds is untouched, through another restart too.
    let log = LogId(*world.engine.offline.keys().next().expect("one"));
    assert_eq!(world.store().state(log).expect("the log").messages, 20);
    world.restart();
    assert_eq!(world.store().state(log).expect("the log").messages, 20);
    good_is_served_again(&mut world);
}

fn good_is_served_again(world: &mut World) {
    assert!(world.publish("good.1", "more").contains(r#""seq":22"#));
}

#[test]
fn a_configuration_that_makes_no_sense_is_refused_by_its_name() {
    let disk = {
        let mut world = World::on(closed());
        let log = world.stream("BAD").log;
        let store = world.store.as_mut().expect("it runs");
        store.set_attribute(log, b"config", br#"{"name":"BAD","subjects":7}"#).expect("staged");
        world.settle();
        world.disk.clone()
    };
    let mut world = World::on(disk);
    good_is_served(&mut world);
    for (subject, body) in [
        ("$JS.API.STREAM.INFO.BAD", ""),
        ("$JS.API.STREAM.CREATE.BAD", r#"{"name":"BAD","subjects":["bad.>"]}"#),
        ("$JS.API.STREAM.PURGE.BAD", ""),
        ("$JS.API.CONSUMER.INFO.BAD.C-bad", ""),
    ] {
        let answer = world.ask(subject, body);
        assert!(
            answer.contains(r#""err_code":10194,"description":"stream is offline: the config"#),
            "{subject}: {answer}"
        );
    }
    let names = world.ask("$JS.API.STREAM.NAMES", "");
    assert!(names.contains(r#""streams":["BAD","GOOD"]"#), "{names}");
    let list = world.ask("$JS.API.STREAM.LIST", "");
    assert!(list.contains(r#""missing":["BAD"],"offline":{"BAD":"the configuration"#), "{list}");
    // Deleting it is the way out, and makes its name free.
    let deleted = world.ask("$JS.API.STREAM.DELETE.BAD", "");
    assert!(deleted.contains(r#""success":true"#), "{deleted}");
    world.create(r#"{"name":"BAD","subjects":["bad.>"]}"#);
    world.crash();
    assert!(world.publish("bad.1", "new").contains(r#""seq":1"#));
}

#[test]
fn a_damaged_consumer_is_offline_and_its_stream_is_not() {
    for (what, value, text) in [
        ("consumer/config/C-bad", Some(&b"{"[..]), "its configuration cannot be read"),
        ("consumer/config/C-bad", None, "its configuration is lost"),
        ("consumer/state/C-bad", Some(&b"\x01\xff"[..]), "is damaged"),
        ("consumer/state/C-bad", None, "its state is lost"),
    ] {
        let mut world = World::on(closed());
        let log = world.stream("BAD").log;
        let store = world.store.as_mut().expect("it runs");
        match value {
            Some(value) => store.set_attribute(log, what.as_bytes(), value).expect("staged"),
            None => store.remove_attribute(log, what.as_bytes()).expect("staged"),
        }
        world.settle();
        world.crash();
        good_is_served(&mut world);
        assert!(world.publish("bad.1", "more").contains(r#""seq":21"#), "{text}");
        let info = world.ask("$JS.API.CONSUMER.INFO.BAD.C-bad", "");
        assert!(info.contains(r#""err_code":10195"#) && info.contains(text), "{text}: {info}");
        let body = r#"{"stream_name":"BAD","config":{"durable_name":"C-bad","ack_policy":"explicit"}}"#;
        let created = world.ask("$JS.API.CONSUMER.CREATE.BAD.C-bad", body);
        assert!(created.contains(r#""err_code":10195"#), "{text}: {created}");
        let list = world.ask("$JS.API.CONSUMER.LIST.BAD", "");
        assert!(list.contains(r#""missing":["C-bad"],"offline":{"C-bad":"#), "{text}: {list}");
        let deleted = world.ask("$JS.API.CONSUMER.DELETE.BAD.C-bad", "");
        assert!(deleted.contains(r#""success":true"#), "{text}: {deleted}");
        let created = world.ask("$JS.API.CONSUMER.CREATE.BAD.C-bad", body);
        assert!(created.contains(r#""num_pending":21"#), "{text}: {created}");
    }
}

#[test]
fn a_mirror_in_memory_that_cannot_begin_anew_waits_until_it_can() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    world.create(r#"{"name":"M","storage":"memory","mirror":{"name":"O"}}"#);
    world.publish("o.a", "1");
    world.crash();
    // As after a failed write: the engine is made anew while the store is still full.
    world.fill(0);
    world.engine = Engine::new(config());
    world.heard.clear();
    let store = world.store.as_mut().expect("it runs");
    world.engine.restore(world.now, store, &world.interest);
    world.take_outputs();
    let info = world.ask_unsealed("$JS.API.STREAM.INFO.M", &[], "").expect("an answer");
    assert!(info.contains("10194") && info.contains("not in the database yet"), "{info}");
    let taken = r#"{"name":"M","subjects":["m"]}"#;
    let created = world.ask_unsealed("$JS.API.STREAM.CREATE.M", &[], taken).expect("an answer");
    assert!(created.contains("10194"), "{created}");
    world.settle();
    world.advance(2 * SECOND);
    assert_eq!(world.contents("M").len(), 1, "served again");
    assert!(world.publish("o.a", "2").contains(r#""seq":2"#));
    assert_eq!(world.numbers("M"), (2, 1, 2));
}
