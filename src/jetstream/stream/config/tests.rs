//! A table of configurations: what they become, or why they are refused.

use weir_protocol::jetstream::json::decode_strict;

use super::*;

fn checked(config: &str) -> Result<StreamConfig, ApiError> {
    let config: StreamConfig = decode_strict(config.as_bytes()).expect(config);
    let origin =
        StreamConfig { name: "O".into(), allow_direct: true, max_msg_size: 10, ..Default::default() };
    check(&config, false, &BTreeMap::from([("O".to_owned(), origin)]))
}

#[test]
fn defaults_are_filled_in() {
    let config = checked(r#"{"name":"A","max_age":1000000000,"max_msgs":-7,"placement":{"cluster":""}}"#)
        .expect("valid");
    assert_eq!((config.max_msgs, config.max_bytes, config.max_consumers), (-1, -1, -1));
    assert_eq!((config.duplicate_window, config.num_replicas), (1_000_000_000, 1));
    assert_eq!((config.subjects, config.placement), (vec!["A".to_owned()], None));
    let mirror = checked(r#"{"name":"A","mirror":{"name":"O"}}"#).expect("valid");
    assert!(mirror.mirror_direct && mirror.subjects.is_empty() && mirror.duplicate_window == 0);
}

#[test]
fn refusals_name_what_is_wrong() {
    for (config, number, text) in [
        (r#"{"name":"a.b"}"#, 10052, r"stream name is required and can not contain '.', '*', '>', '\', '/'"),
        (r#"{"name":"A","max_age":-1}"#, 10052, "max age can not be negative"),
        (r#"{"name":"A","max_age":99999999}"#, 10052, "max age needs to be >= 100ms"),
        (
            r#"{"name":"A","max_age":1000000000,"duplicate_window":2000000000}"#,
            10052,
            "duplicates window can not be larger then max age",
        ),
        (r#"{"name":"A","duplicate_window":1}"#, 10052, "duplicates window needs to be >= 100ms"),
        (r#"{"name":"A","num_replicas":6}"#, 10052, "maximum replicas is 5"),
        (r#"{"name":"A","num_replicas":-1}"#, 10133, "replicas count cannot be negative"),
        (
            r#"{"name":"A","deny_purge":true,"allow_rollup_hdrs":true}"#,
            10052,
            "roll-ups require the purge permission",
        ),
        (
            r#"{"name":"A","discard_new_per_subject":true}"#,
            10052,
            "discard new per subject requires discard new policy to be set",
        ),
        (
            r#"{"name":"A","discard_new_per_subject":true,"discard":"new"}"#,
            10052,
            "discard new per subject requires max msgs per subject > 0",
        ),
        (r#"{"name":"A","subjects":["a..b"]}"#, 10052, "invalid subject"),
        (
            r#"{"name":"A","subjects":["$JS.>"]}"#,
            10052,
            "subjects that overlap with jetstream api require no-ack to be true",
        ),
        (
            r#"{"name":"A","subjects":["$SYS.x"]}"#,
            10052,
            "subjects that overlap with system api require no-ack to be true",
        ),
        (
            r#"{"name":"A","mirror":{"name":"O"},"subjects":["a"]}"#,
            10034,
            "stream mirrors can not contain subjects",
        ),
        (
            r#"{"name":"A","mirror":{"name":"O"},"sources":[{"name":"O"}]}"#,
            10031,
            "stream mirrors can not also contain other sources",
        ),
        (
            r#"{"name":"A","mirror":{"name":"O"},"first_seq":5}"#,
            10143,
            "stream mirrors can not have first sequence configured",
        ),
        (
            r#"{"name":"A","mirror":{"name":"O"},"max_msg_size":5}"#,
            10030,
            "stream mirror must have max message size >= source",
        ),
        (r#"{"name":"A","mirror":{"name":"a b"}}"#, 10142, "mirrored stream name is invalid"),
        (
            r#"{"name":"A","sources":[{"name":"O"},{"name":"O"}]}"#,
            10140,
            "duplicate source configuration detected",
        ),
        (r#"{"name":"A","sources":[{"name":""}]}"#, 10141, "sourced stream name is invalid"),
        (r#"{"name":"A","mirror":{"name":"A"}}"#, 10052, "detected cycle"),
        (
            r#"{"name":"A","placement":{"preferred":"x"}}"#,
            10052,
            "preferred server not permitted in placement",
        ),
        (
            r#"{"name":"A","retention":"workqueue"}"#,
            10052,
            r#"retention "workqueue" is not supported by this server yet"#,
        ),
        (
            r#"{"name":"A","republish":{"dest":"A"}}"#,
            10052,
            "stream configuration for republish destination forms a cycle",
        ),
        (r#"{"name":"A","republish":{"dest":"b"}}"#, 10052, "republish is not supported by this server yet"),
        (
            r#"{"name":"A","subject_transform":{"src":"a","dest":"b"}}"#,
            10052,
            "subject_transform is not supported by this server yet",
        ),
        (
            r#"{"name":"A","persist_mode":"async"}"#,
            10052,
            r#"persist_mode "async" is not supported by this server yet"#,
        ),
        (
            r#"{"name":"A","mirror":{"name":"O","external":{"api":"x","deliver":""}}}"#,
            10052,
            "external of a mirror is not supported by this server yet",
        ),
        (
            r#"{"name":"A","subject_delete_marker_ttl":1}"#,
            10052,
            "subject delete marker TTL must be at least 1 second",
        ),
    ] {
        let error = checked(config).expect_err(config);
        assert_eq!((error.err_code, error.description.as_ref()), (number, text), "{config}");
    }
    let long = format!(r#"{{"name":"{}"}}"#, "x".repeat(256));
    assert_eq!(
        checked(&long).expect_err("long").description,
        "stream name is too long, maximum allowed is 255"
    );
}

#[test]
fn updates_change_what_may_change() {
    let old = checked(r#"{"name":"A","subjects":["a"],"deny_delete":true}"#).expect("valid");
    let update = |change: &dyn Fn(&mut StreamConfig)| {
        let mut new = old.clone();
        change(&mut new);
        check_update(&old, new)
    };
    let refusal =
        |change: &dyn Fn(&mut StreamConfig)| update(change).expect_err("refused").description.into_owned();
    assert_eq!(
        refusal(&|new| new.storage = StorageType::Memory),
        "stream configuration update can not change storage type"
    );
    assert_eq!(
        refusal(&|new| new.deny_delete = false),
        "stream configuration update can not cancel deny message deletes"
    );
    assert_eq!(refusal(&|new| new.name = "B".into()), "stream configuration name must match original");
    assert_eq!(
        refusal(&|new| new.mirror = Some(StreamSource { name: "O".into(), ..Default::default() })),
        "stream mirror configuration can not be updated"
    );
    let sealed = update(&|new| {
        new.sealed = true;
        new.max_age = 1_000_000_000;
    });
    let sealed = sealed.expect("allowed");
    assert!(sealed.deny_purge && sealed.max_age == 0 && sealed.discard == DiscardPolicy::New);
    assert!(update(&|new| new.max_msgs = 5).is_ok());
}
