//! Refusals, defaults and updates as nats-server has them.

use std::collections::BTreeSet;

use weir_protocol::jetstream::json::{decode_strict, encode};

use super::*;

struct Listening(BTreeSet<&'static str>);

impl Interest for Listening {
    fn has(&self, subject: &[u8]) -> bool {
        std::str::from_utf8(subject).is_ok_and(|subject| self.0.contains(subject))
    }

    fn listens(&self, _: &[u8], _: Option<&[u8]>) -> bool {
        false
    }
}

fn stream(more: &str) -> StreamConfig {
    let text = format!(r#"{{"name":"S","subjects":["s.>"],"num_replicas":1,"retention":"limits"{more}}}"#);
    decode_strict(text.as_bytes()).expect("a stream configuration")
}

fn completed(config: &str, stream: &StreamConfig, pedantic: bool) -> Result<ConsumerConfig, ApiError> {
    let config = decode_strict(config.as_bytes()).expect(config);
    let config = with_defaults(config, stream, &Limits::default(), pedantic)?;
    validate(&config, stream, &Limits::default())?;
    Ok(config)
}

#[test]
fn defaults_come_back_as_nats_server_sends_them() {
    for (given, completed_to) in [
        (
            r#"{"durable_name":"C1","name":"C1","ack_policy":"explicit"}"#,
            r#"{"durable_name":"C1","name":"C1","deliver_policy":"all","ack_policy":"explicit","ack_wait":30000000000,"max_deliver":-1,"replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"num_replicas":0,"metadata":{"_nats.req.level":"0"}}"#,
        ),
        (
            r#"{"deliver_subject":"x.y"}"#,
            r#"{"deliver_policy":"all","ack_policy":"none","max_deliver":-1,"replay_policy":"instant","deliver_subject":"x.y","inactive_threshold":5000000000,"num_replicas":0,"metadata":{"_nats.req.level":"0"}}"#,
        ),
        (
            r#"{"durable_name":"P1","name":"P1","deliver_subject":"x.z","deliver_policy":"last","filter_subject":"s.a1","idle_heartbeat":1000000000,"flow_control":true,"headers_only":true}"#,
            r#"{"durable_name":"P1","name":"P1","deliver_policy":"last","ack_policy":"none","max_deliver":-1,"filter_subject":"s.a1","replay_policy":"instant","flow_control":true,"headers_only":true,"deliver_subject":"x.z","idle_heartbeat":1000000000,"num_replicas":0,"metadata":{"_nats.req.level":"0"}}"#,
        ),
        (
            r#"{"name":"L1","deliver_policy":"last_per_subject","filter_subject":"s.>","ack_policy":"none"}"#,
            r#"{"name":"L1","deliver_policy":"last_per_subject","ack_policy":"none","max_deliver":-1,"filter_subject":"s.\u003e","replay_policy":"instant","max_waiting":512,"inactive_threshold":5000000000,"num_replicas":0,"metadata":{"_nats.req.level":"0"}}"#,
        ),
        (
            r#"{"durable_name":"B","ack_policy":"all","backoff":[1000000000,2000000000],"max_deliver":5,"ack_wait":9}"#,
            r#"{"durable_name":"B","deliver_policy":"all","ack_policy":"all","ack_wait":1000000000,"max_deliver":5,"backoff":[1000000000,2000000000],"replay_policy":"instant","max_waiting":512,"max_ack_pending":1000,"num_replicas":0,"metadata":{"_nats.req.level":"0"}}"#,
        ),
        (
            r#"{"durable_name":"F","deliver_subject":"d","ack_policy":"flow_control"}"#,
            r#"{"durable_name":"F","deliver_policy":"all","ack_policy":"flow_control","max_deliver":-1,"replay_policy":"instant","max_ack_pending":1000,"flow_control":true,"deliver_subject":"d","idle_heartbeat":1000000000,"num_replicas":0,"metadata":{"_nats.req.level":"4"}}"#,
        ),
    ] {
        assert_eq!(encode(&completed(given, &stream(""), false).expect(given)), completed_to, "{given}");
    }
}

#[test]
fn the_stream_sets_defaults_and_bounds() {
    let limited = stream(r#","consumer_limits":{"inactive_threshold":60000000000,"max_ack_pending":50}"#);
    let config =
        completed(r#"{"durable_name":"C","ack_policy":"explicit"}"#, &limited, false).expect("valid");
    assert_eq!((config.inactive_threshold, config.max_ack_pending), (60 * SECOND, 50));
    for (config, code, text) in [
        (
            r#"{"durable_name":"C","ack_policy":"explicit","max_ack_pending":51}"#,
            10121,
            "consumer max ack pending exceeds system limit of 50",
        ),
        (
            r#"{"durable_name":"C","ack_policy":"explicit","inactive_threshold":60000000001}"#,
            10153,
            "consumer inactive threshold exceeds system limit of 1m0s",
        ),
    ] {
        let refusal = completed(config, &limited, false).expect_err(config);
        assert_eq!((refusal.err_code, &*refusal.description), (code, text), "{config}");
    }
    let capped = Limits { max_ack_pending: 20, max_request_batch: 7, ..Limits::default() };
    let config = decode_strict(br#"{"durable_name":"C","ack_policy":"explicit"}"#).expect("valid");
    let config = with_defaults(config, &stream(""), &capped, false).expect("valid");
    assert_eq!((config.max_ack_pending, config.max_batch), (20, 7));
}

#[test]
fn refusals_by_number_and_word() {
    let plain = stream("");
    let work_queue = stream(r#","retention":"workqueue""#);
    let long = "x".repeat(4097);
    let name = "n".repeat(256);
    let long_description = format!(r#"{{"description":"{long}"}}"#);
    let long_name = format!(r#"{{"durable_name":"{name}"}}"#);
    let much_metadata = format!(r#"{{"metadata":{{"k":"{}"}}}}"#, "x".repeat(128 * 1024));
    for (stream, config, code, text) in [
        (&plain, r#"{"name":"a.b"}"#, 10052, r"consumer name can not contain '.', '*', '>', '\', '/'"),
        (
            &plain,
            r#"{"durable_name":"a b"}"#,
            10052,
            r"consumer durable name can not contain '.', '*', '>', '\', '/'",
        ),
        (&plain, r#"{"num_replicas":3}"#, 10126, "consumer config replica count exceeds parent stream"),
        (&plain, r#"{"num_replicas":-1}"#, 10133, "replicas count cannot be negative"),
        (&plain, r#"{"backoff":[-1]}"#, 10184, "consumer backoff needs to be positive"),
        (&plain, r#"{"ack_wait":-1}"#, 10183, "consumer ack wait needs to be positive"),
        (
            &plain,
            r#"{"ack_policy":"flow_control"}"#,
            10218,
            "flow control ack policy requires a push based consumer",
        ),
        (
            &plain,
            r#"{"ack_policy":"flow_control","deliver_subject":"d","max_ack_pending":-1}"#,
            10220,
            "flow control ack policy requires max ack pending",
        ),
        (
            &plain,
            r#"{"ack_policy":"flow_control","deliver_subject":"d","ack_wait":1}"#,
            10221,
            "flow control ack policy requires unset ack wait",
        ),
        (
            &plain,
            r#"{"ack_policy":"flow_control","deliver_subject":"d","max_deliver":2}"#,
            10222,
            "flow control ack policy requires unset max deliver",
        ),
        (
            &plain,
            r#"{"backoff":[1,2,3],"max_deliver":2}"#,
            10116,
            "max deliver is required to be > length of backoff values",
        ),
        (&plain, &long_description, 10107, "consumer description is too long, maximum allowed is 4096"),
        (&plain, r#"{"deliver_subject":"d.*"}"#, 10079, "consumer deliver subject has wildcards"),
        (&plain, r#"{"deliver_subject":"d..e"}"#, 10112, "invalid push consumer deliver subject"),
        (&plain, r#"{"deliver_subject":"s.a"}"#, 10081, "consumer deliver subject forms a cycle"),
        (
            &plain,
            r#"{"deliver_subject":"d","max_waiting":1}"#,
            10080,
            "consumer in push mode can not set max waiting",
        ),
        (
            &plain,
            r#"{"deliver_subject":"d","max_ack_pending":1}"#,
            10082,
            "consumer requires ack policy for max ack pending",
        ),
        (
            &plain,
            r#"{"deliver_subject":"d","idle_heartbeat":99999999}"#,
            10083,
            "consumer idle heartbeat needs to be >= 100ms",
        ),
        (
            &work_queue,
            r#"{"ack_policy":"none"}"#,
            10084,
            "consumer in pull mode requires explicit ack policy on workqueue stream",
        ),
        (&plain, r#"{"rate_limit_bps":1}"#, 10086, "consumer in pull mode can not have rate limit set"),
        (&plain, r#"{"idle_heartbeat":1}"#, 10088, "consumer idle heartbeat requires a push based consumer"),
        (&plain, r#"{"flow_control":true}"#, 10089, "consumer flow control requires a push based consumer"),
        (&plain, r#"{"max_expires":1}"#, 10115, "consumer max request expires needs to be >= 1ms"),
        (&plain, r#"{"direct":true}"#, 10090, "consumer direct requires a push based consumer"),
        (
            &plain,
            r#"{"direct":true,"deliver_subject":"d","durable_name":"C"}"#,
            10091,
            "consumer direct requires an ephemeral consumer",
        ),
        (
            &plain,
            r#"{"filter_subject":"s.a","filter_subjects":["s.b"]}"#,
            10136,
            "consumer cannot have both FilterSubject and FilterSubjects specified",
        ),
        (
            &plain,
            r#"{"filter_subjects":["s.a",""]}"#,
            10139,
            "consumer filter in FilterSubjects cannot be empty",
        ),
        (&plain, r#"{"filter_subjects":["s.*","s.a"]}"#, 10138, "consumer subject filters cannot overlap"),
        (
            &plain,
            r#"{"opt_start_seq":1}"#,
            10094,
            "consumer delivery policy is deliver all, but optional start sequence is also set",
        ),
        (
            &plain,
            r#"{"deliver_policy":"new","opt_start_time":"2026-01-01T00:00:00Z"}"#,
            10094,
            "consumer delivery policy is deliver new, but optional start time is also set",
        ),
        (
            &plain,
            r#"{"deliver_policy":"last_per_subject"}"#,
            10094,
            "consumer delivery policy is deliver last per subject, but optional filter subject is not set",
        ),
        (
            &plain,
            r#"{"deliver_policy":"by_start_sequence"}"#,
            10094,
            "consumer delivery policy is deliver by start sequence, but optional start sequence is not set",
        ),
        (
            &plain,
            r#"{"deliver_policy":"by_start_time"}"#,
            10094,
            "consumer delivery policy is deliver by start time, but optional start time is not set",
        ),
        (
            &plain,
            r#"{"sample_freq":"often"}"#,
            10095,
            r#"failed to parse consumer sampling configuration: strconv.Atoi: parsing "often": invalid syntax"#,
        ),
        (
            &plain,
            r#"{"deliver_subject":"d","flow_control":true}"#,
            10108,
            "consumer with flow control also needs heartbeats",
        ),
        (
            &plain,
            r#"{"durable_name":"a","name":"b"}"#,
            10132,
            "Consumer Durable and Name have to be equal if both are provided",
        ),
        (&plain, &much_metadata, 10135, "consumer metadata exceeds maximum size of 128KB"),
        (
            &plain,
            r#"{"priority_groups":["g"]}"#,
            10196,
            "consumer can not have priority groups when policy is none",
        ),
        (&plain, r#"{"priority_timeout":1}"#, 10197, "PinnedTTL cannot be set when PriorityPolicy is none"),
        (
            &plain,
            r#"{"priority_policy":"overflow"}"#,
            10159,
            "Setting PriorityPolicy requires at least one PriorityGroup to be set",
        ),
        (
            &plain,
            r#"{"priority_policy":"overflow","priority_groups":["g"]}"#,
            10052,
            "priority_policy 'overflow' is not supported by this server; use 'none'",
        ),
        (&plain, &long_name, 10102, "consumer name is too long, maximum allowed is 255"),
    ] {
        let refusal = completed(config, stream, false).expect_err(config);
        assert_eq!((refusal.err_code, &*refusal.description), (code, text), "{config}");
    }
}

#[test]
fn pedantic_requests_are_not_adjusted() {
    for (config, text) in [
        (r#"{"max_deliver":-2}"#, "pedantic mode: max_deliver must be set to -1"),
        (r#"{"max_waiting":-1}"#, "pedantic mode: max_waiting must not be negative"),
        (r#"{"max_batch":-1}"#, "pedantic mode: max_batch must not be negative"),
        (
            r#"{"backoff":[5],"ack_wait":4,"max_deliver":3}"#,
            "pedantic mode: first backoff value has to equal batch AckWait",
        ),
    ] {
        let refusal = completed(config, &stream(""), true).expect_err(config);
        assert_eq!((refusal.err_code, &*refusal.description), (10157, text), "{config}");
        assert!(completed(config, &stream(""), false).is_ok(), "{config}");
    }
}

#[test]
fn updates_change_what_may_change() {
    let stream = stream("");
    let nobody = Listening(BTreeSet::new());
    let pull = completed(r#"{"durable_name":"C","ack_policy":"explicit"}"#, &stream, false).expect("valid");
    let push = completed(r#"{"durable_name":"C","deliver_subject":"d"}"#, &stream, false).expect("valid");
    for (from, to, text) in [
        (&pull, r#"{"durable_name":"C","ack_policy":"all"}"#, Some("ack policy can not be updated")),
        (
            &pull,
            r#"{"durable_name":"C","ack_policy":"explicit","deliver_policy":"new"}"#,
            Some("deliver policy can not be updated"),
        ),
        (
            &pull,
            r#"{"durable_name":"C","ack_policy":"explicit","mem_storage":true}"#,
            Some("storage type can not be updated"),
        ),
        (
            &pull,
            r#"{"durable_name":"C","ack_policy":"explicit","replay_policy":"original"}"#,
            Some("replay policy can not be updated"),
        ),
        (
            &pull,
            r#"{"durable_name":"C","ack_policy":"explicit","deliver_subject":"d"}"#,
            Some("can not update pull consumer to push based"),
        ),
        (
            &pull,
            r#"{"durable_name":"C","ack_policy":"explicit","max_waiting":5}"#,
            Some("max waiting can not be updated"),
        ),
        (
            &push,
            r#"{"durable_name":"C","idle_heartbeat":1000000000,"deliver_subject":"d"}"#,
            Some("heart beats can not be updated"),
        ),
        (&push, r#"{"durable_name":"C"}"#, Some("can not update push consumer to pull based")),
        (&push, r#"{"durable_name":"C","deliver_subject":"e"}"#, None),
        (
            &pull,
            r#"{"durable_name":"C","ack_policy":"explicit","ack_wait":5,"max_deliver":3,"filter_subject":"s.a","max_ack_pending":7,"description":"d","headers_only":true,"sample_freq":"5","max_batch":3,"inactive_threshold":9,"metadata":{"a":"b"}}"#,
            None,
        ),
    ] {
        let new = completed(to, &stream, false).expect(to);
        let outcome = check_update(from, &new, &nobody);
        match text {
            None => assert_eq!(outcome, Ok(()), "{to}"),
            Some(text) => {
                let refusal = outcome.expect_err(to);
                assert_eq!((refusal.err_code, &*refusal.description), (10012, text), "{to}");
            }
        }
    }
    let moved = completed(r#"{"durable_name":"C","deliver_subject":"e"}"#, &stream, false).expect("valid");
    let refusal =
        check_update(&push, &moved, &Listening(BTreeSet::from(["d"]))).expect_err("somebody listens");
    assert_eq!(refusal.err_code, 10013);
}

#[test]
fn the_servers_own_metadata_makes_no_difference() {
    let stream = stream("");
    let config = completed(r#"{"durable_name":"C","metadata":{"a":"b"}}"#, &stream, false).expect("valid");
    let mut answered = config.clone();
    answer_metadata(&mut answered, "2.14.5", 4);
    assert_eq!(answered.metadata.len(), 4);
    assert!(is_same(&config, &answered));
    let other = completed(r#"{"durable_name":"C","metadata":{"a":"c"}}"#, &stream, false).expect("valid");
    assert!(!is_same(&config, &other));
}
