//! Mirrors and sources.

use super::*;

fn fill(world: &mut World, subject: &str, count: usize) {
    for index in 0..count {
        world.publish(subject, &index.to_string());
    }
}

#[test]
fn a_mirror_keeps_sequences_times_and_gaps() {
    let mut world = World::new();
    world.create(r#"{"name":"M","mirror":{"name":"O"}}"#);
    let info = world.ask("$JS.API.STREAM.INFO.M", "");
    assert!(
        info.contains(r#""mirror":{"name":"O","lag":0,"active":-1,"error":{"code":404,"err_code":10059"#),
        "{info}"
    );
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    fill(&mut world, "o.1", 3);
    world.advance(SECOND);
    world.ask("$JS.API.STREAM.MSG.DELETE.O", r#"{"seq":2}"#);
    fill(&mut world, "o.2", 1);
    assert_eq!(world.numbers("M"), (4, 1, 4), "what was copied stays");
    let (origin, mirror) = (world.stream("O").log, world.stream("M").log);
    for seq in [1, 3, 4] {
        let read = |log| world.store().get(log, seq).expect("readable");
        assert_eq!(read(origin), read(mirror));
    }
    world.create(r#"{"name":"L","mirror":{"name":"O","filter_subject":"o.2"}}"#);
    assert_eq!(world.contents("L").iter().map(|each| each.0).collect::<Vec<_>>(), [4]);
    let info = world.ask("$JS.API.STREAM.INFO.M", "");
    assert!(info.contains(r#""mirror":{"name":"O","lag":0,"active":0}"#), "{info}");
}

#[test]
fn a_mirror_starts_where_it_is_told() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"],"storage":"memory"}"#);
    for _ in 0..4 {
        fill(&mut world, "o.1", 1);
        world.advance(SECOND);
    }
    world.create(r#"{"name":"S","mirror":{"name":"O","opt_start_seq":3}}"#);
    world.create(r#"{"name":"T","mirror":{"name":"O","opt_start_time":"2024-01-01T00:00:01Z"}}"#);
    world.create(r#"{"name":"U","mirror":{"name":"O","opt_start_time":"2030-01-01T00:00:00Z"}}"#);
    assert_eq!(world.numbers("S"), (2, 3, 4));
    assert_eq!(world.numbers("T"), (3, 2, 4));
    assert_eq!(world.numbers("U"), (0, 5, 4));
    // Beyond the end is at the end, and the sequence goes before the time.
    world.create(r#"{"name":"V","mirror":{"name":"O","opt_start_seq":100}}"#);
    world.create(
        r#"{"name":"W","mirror":{"name":"O","opt_start_seq":4,"opt_start_time":"2024-01-01T00:00:01Z"}}"#,
    );
    world.create(r#"{"name":"X","subjects":["x"],"sources":[{"name":"O","opt_start_seq":100}]}"#);
    assert_eq!((world.numbers("V"), world.numbers("W")), ((0, 5, 4), (1, 4, 4)));
    fill(&mut world, "o.1", 1);
    assert_eq!((world.numbers("U"), world.numbers("V")), ((1, 5, 5), (1, 5, 5)));
    assert_eq!(world.numbers("X"), (1, 1, 1));
}

#[test]
fn a_mirror_that_is_full_takes_no_more() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    fill(&mut world, "o.1", 5);
    for (config, taken) in [
        (r#""discard":"new","max_msgs":2"#, 2),
        (r#""discard":"new","max_bytes":100"#, 2),
        (r#""discard":"new","discard_new_per_subject":true,"max_msgs_per_subject":3"#, 3),
        (r#""max_msg_size":1"#, 5),
        (r#""max_msgs":2"#, 2),
    ] {
        world.create(&format!(r#"{{"name":"M","mirror":{{"name":"O"}},{config}}}"#));
        let first = if config == r#""max_msgs":2"# { 4 } else { 1 };
        assert_eq!(world.numbers("M"), (taken, first, first + taken - 1), "{config}");
        let info = world.ask("$JS.API.STREAM.INFO.M", "");
        assert_eq!(info.contains("10077"), config.contains("new"), "{info}");
        world.ask("$JS.API.STREAM.DELETE.M", "");
    }
    world.publish("o.1", "longer");
    world.create(r#"{"name":"M","mirror":{"name":"O"},"max_msg_size":1}"#);
    assert_eq!(world.numbers("M"), (5, 1, 5));
    assert!(world.ask("$JS.API.STREAM.INFO.M", "").contains("10054"));
    // Room is made, and it goes on.
    world.create(r#"{"name":"N","mirror":{"name":"O"},"discard":"new","max_msgs":2}"#);
    world.ask("$JS.API.STREAM.MSG.DELETE.N", r#"{"seq":1}"#);
    world.advance(2 * SECOND);
    assert_eq!(world.numbers("N"), (2, 2, 3));
}

#[test]
fn a_mirror_survives_a_restart_and_is_promoted() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    world.create(r#"{"name":"M","mirror":{"name":"O"}}"#);
    fill(&mut world, "o.1", 2);
    world.restart();
    fill(&mut world, "o.1", 2);
    assert_eq!(world.numbers("M"), (4, 1, 4));
    let other = world.ask("$JS.API.STREAM.UPDATE.M", r#"{"name":"M","mirror":{"name":"X"}}"#);
    assert!(other.contains("10055"), "{other}");
    let promoted = world.ask("$JS.API.STREAM.UPDATE.M", r#"{"name":"M","subjects":["m.>"]}"#);
    assert!(promoted.contains(r#""subjects":["m.\u003e"]"#), "{promoted}");
    assert!(!promoted.contains(r#""mirror":{"#), "{promoted}");
    fill(&mut world, "o.1", 1);
    assert_eq!(world.publish("m.1", "x"), r#"{"stream":"M","seq":5}"#);
    world.restart();
    assert_eq!(world.contents("M").last().expect("messages").1, "m.1");
}

#[test]
fn what_grew_too_old_while_the_server_was_down_is_not_copied() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"],"max_age":2000000000}"#);
    world.create(r#"{"name":"M","mirror":{"name":"O"},"storage":"memory"}"#);
    fill(&mut world, "o.1", 2);
    assert_eq!(world.numbers("M"), (2, 1, 2));
    world.now += SECOND;
    fill(&mut world, "o.1", 1);
    world.now += SECOND;
    // A mirror in memory takes all that is there again.
    world.restart();
    assert_eq!((world.numbers("O"), world.numbers("M")), ((1, 3, 3), (1, 3, 3)));
}

#[test]
fn an_origin_that_is_deleted_leaves_its_copies() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    world.create(r#"{"name":"M","mirror":{"name":"O"}}"#);
    world.create(r#"{"name":"S","sources":[{"name":"O"}]}"#);
    fill(&mut world, "o.1", 2);
    world.ask("$JS.API.STREAM.DELETE.O", "");
    world.restart();
    assert_eq!((world.numbers("M"), world.numbers("S")), ((2, 1, 2), (2, 1, 2)));
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    fill(&mut world, "o.1", 3);
    assert_eq!(world.numbers("S"), (5, 1, 5), "another origin of the name is taken from its start");
    assert_eq!(world.numbers("M"), (3, 1, 3), "a mirror waits until the sequences are new to it");
}

#[test]
fn sources_number_anew_and_say_where_from() {
    let mut world = World::new();
    world.create(r#"{"name":"A","subjects":["a.>"]}"#);
    world.create(r#"{"name":"B","subjects":["b.>"]}"#);
    let sources = r#""sources":[{"name":"A","filter_subject":"a.1"},{"name":"B"}]"#;
    world.create(&format!(r#"{{"name":"S","subjects":["s.>"],{sources}}}"#));
    world.publish("a.1", "1");
    world.publish("a.2", "-");
    world.publish("b.1", "2");
    world.publish("s.1", "3");
    world.restart();
    world.ask_with("a.1", &[("Nats-Expected-Last-Sequence", "2"), ("X-Mine", "y")], "4");
    let payloads: Vec<String> = world.contents("S").into_iter().map(|each| each.2).collect();
    assert_eq!(payloads, ["1", "2", "3", "4"]);
    let log = world.stream("S").log;
    let last = world.store().get(log, 4).expect("readable").expect("there");
    assert_eq!(
        String::from_utf8_lossy(&last.headers),
        "NATS/1.0\r\nX-Mine: y\r\nNats-Stream-Source: A 3 a.1 > a.1\r\n\r\n"
    );
    let info = world.ask("$JS.API.STREAM.INFO.S", "");
    let wanted = r#""sources":[{"name":"A","lag":0,"active":0,"filter_subject":"a.1"},{"name":"B","lag":0"#;
    assert!(info.contains(wanted), "{info}");
}

#[test]
fn a_source_that_fails_is_tried_again_while_its_origin_is_there() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"]}"#);
    world.create(r#"{"name":"S","sources":[{"name":"O"}],"max_msgs":1,"discard":"new"}"#);
    fill(&mut world, "o.1", 2);
    world.advance(3 * SECOND);
    let info = world.ask("$JS.API.STREAM.INFO.S", "");
    assert!(info.contains(r#""lag":1"#) && info.contains("maximum messages exceeded"), "{info}");
    world.ask("$JS.API.STREAM.PURGE.S", "");
    world.advance(2 * SECOND);
    assert_eq!(world.contents("S"), [(2, "o.1".to_owned(), "1".to_owned())]);
    fill(&mut world, "o.1", 1);
    world.ask("$JS.API.STREAM.DELETE.O", "");
    world.advance(5 * SECOND);
    assert_eq!(world.engine.poll_timeout(), None, "nothing is left to wait for");
}

#[test]
fn a_chain_of_copies_in_memory_moves_at_once() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"],"storage":"memory"}"#);
    world.create(r#"{"name":"M","storage":"memory","mirror":{"name":"O"}}"#);
    world.create(r#"{"name":"N","storage":"memory","sources":[{"name":"M"}]}"#);
    fill(&mut world, "o.1", 3);
    assert_eq!((world.numbers("M").0, world.numbers("N").0), (3, 3));
    let cycle = world.ask("$JS.API.STREAM.CREATE.X", r#"{"name":"X","mirror":{"name":"X"}}"#);
    assert!(cycle.contains("detected cycle"), "{cycle}");
    world.restart();
    fill(&mut world, "o.1", 2);
    let (_, _, last) = world.numbers("O");
    assert_eq!(world.numbers("M"), (2, last - 1, last), "an empty mirror takes its origin's numbers");
}

#[test]
fn a_mirror_that_holds_keeps_its_origin_from_expiring_up_to_its_bytes() {
    let mut world = World::new();
    world.create(r#"{"name":"O","subjects":["o.>"],"storage":"memory","max_age":1000000000}"#);
    world.create(r#"{"name":"R","mirror":{"name":"O"},"metadata":{"weir.hold":"1000"}}"#);
    fill(&mut world, "o.1", 2);
    let (origin, mirror) = (world.stream("O").log.0, world.stream("R").log.0);
    assert_eq!(world.engine.holds[&origin], [Hold { mirror, bytes: 1000, copied_seq: 2 }]);
    // As if the mirror had come no further than the first message.
    world.engine.holds.insert(origin, vec![Hold { mirror, bytes: 1000, copied_seq: 1 }]);
    world.advance(2 * SECOND);
    assert_eq!(world.numbers("O"), (1, 2, 2));
    world.engine.holds.insert(origin, vec![Hold { mirror, bytes: 10, copied_seq: 1 }]);
    world.advance(SECOND);
    assert_eq!(world.numbers("O"), (0, 3, 2), "the stream is larger than what may be held");
    let much = r#"{"name":"X","mirror":{"name":"O"},"metadata":{"weir.hold":"much"}}"#;
    let refused = world.ask("$JS.API.STREAM.CREATE.X", much);
    assert!(refused.contains("weir.hold must be a number of bytes"), "{refused}");
}
