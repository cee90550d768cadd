//! The device store: rows that the command line writes and any client reads.

use serde_json::{Value, json};

use crate::fixture::{DEVICES, feed, keys, nanos, now, row};
use crate::support::{Server, weir_err, weir_ok};

#[tokio::test]
async fn s0_035_set_creates_and_merges() {
    let server = Server::start().await;
    let client = server.connect().await;
    let url = server.url();
    let before = now();
    weir_ok(
        &url,
        &["device", "set", "--device-id", "dev-a", "--description", "Pump", "--location", "Hall 3"],
    )
    .await;
    let first = row(&client, DEVICES, "dev-a").await.expect("the row");
    assert_eq!((&first["description"], &first["location"]), (&json!("Pump"), &json!("Hall 3")));
    let stamped = nanos(&first["updated"]);
    assert!((before..=now()).contains(&stamped), "{first}");

    let args =
        ["device", "set", "--device-id", "dev-a", "--owner", "Ann", "--location", "Hall 4", "--buffer", "3m"];
    weir_ok(&url, &args).await;
    let second = row(&client, DEVICES, "dev-a").await.expect("the row");
    assert_eq!(second["description"], "Pump", "{second}");
    assert_eq!(second["location"], "Hall 4", "{second}");
    assert_eq!(second["owner"], "Ann", "{second}");
    assert_eq!(second["buffer"]["window"], "3m", "{second}");
    assert!(nanos(&second["updated"]) > stamped, "{second}");

    let shown = weir_ok(&url, &["device", "get", "--device-id", "dev-a"]).await;
    for part in ["Pump", "Hall 4", "Ann", "3m"] {
        assert!(shown.contains(part), "{part} is not in {shown}");
    }
    let shown = weir_ok(&url, &["device", "get", "--device-id", "dev-a", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    assert_eq!(shown["owner"], "Ann");
}

#[tokio::test]
async fn s0_036_set_without_a_field_and_get_of_an_unknown_id_fail() {
    let server = Server::start().await;
    let client = server.connect().await;
    let url = server.url();
    let said = weir_err(&url, &["device", "set", "--device-id", "dev-a"]).await;
    assert!(said.contains("--description"), "it says what can be set: {said}");
    let said = weir_err(&url, &["device", "get", "--device-id", "nobody"]).await;
    assert!(said.contains("nobody"), "{said}");
    let said = weir_err(&url, &["device", "set", "--device-id", " ", "--description", "x"]).await;
    assert!(said.contains("empty"), "{said}");
    let long = "x".repeat(129);
    let said = weir_err(&url, &["device", "set", "--device-id", &long, "--description", "x"]).await;
    assert!(said.contains("129") && said.contains("128"), "value and limit are named: {said}");
    assert!(keys(&client, DEVICES).await.is_empty());
}

#[tokio::test]
async fn s0_037_keys_are_lower_case_ids_and_values_json() {
    let server = Server::start().await;
    let client = server.connect().await;
    let url = server.url();
    weir_ok(&url, &["device", "set", "--device-id", " DEV-A ", "--description", "Pump"]).await;
    assert_eq!(keys(&client, DEVICES).await, ["dev-a"]);
    let device = row(&client, DEVICES, "dev-a").await.expect("the row");
    assert_eq!(device["device_id"], "DEV-A", "the case of the first writing is kept");
    // The same id in another case is another subject, so it cannot share the row.
    let said = weir_err(&url, &["device", "set", "--device-id", "dev-a", "--description", "Other"]).await;
    assert!(said.contains("DEV-A"), "the first id is named: {said}");
    assert_eq!(row(&client, DEVICES, "dev-a").await, Some(device));

    // What another client writes is read, and fields of its own stay.
    let bucket = async_nats::jetstream::new(client.clone()).get_key_value(DEVICES).await.unwrap();
    let foreign = json!({"device_id": "dev-b", "description": "Fan", "colour": "red"});
    bucket.put("dev-b", foreign.to_string().into()).await.unwrap();
    weir_ok(&url, &["device", "set", "--device-id", "dev-b", "--owner", "Bo"]).await;
    let device = row(&client, DEVICES, "dev-b").await.unwrap();
    assert_eq!(
        (&device["colour"], &device["description"], &device["owner"]),
        (&json!("red"), &json!("Fan"), &json!("Bo"))
    );
}

#[tokio::test]
async fn s0_038_devices_are_listed_and_deleted() {
    let server = Server::start().await;
    let client = server.connect().await;
    let url = server.url();
    weir_ok(&url, &["device", "list"]).await;
    weir_ok(&url, &["device", "set", "--device-id", "dev-a", "--description", "Pump"]).await;
    weir_ok(&url, &["device", "set", "--device-id", "dev-b", "--description", "Fan"]).await;
    feed(&server, "dev-c", [1]).await;
    let list = weir_ok(&url, &["device", "list"]).await;
    for part in ["dev-a", "Pump", "dev-b", "Fan", "dev-c"] {
        assert!(list.contains(part), "{part} is not in {list}");
    }
    weir_ok(&url, &["device", "delete", "--device-id", "dev-a"]).await;
    assert!(row(&client, DEVICES, "dev-a").await.is_none());
    let left = keys(&client, DEVICES).await;
    assert_eq!(left, ["dev-b", "dev-c"]);
    let list = weir_ok(&url, &["device", "list"]).await;
    assert!(!list.contains("dev-a") && list.contains("dev-b"), "{list}");
    let said = weir_err(&url, &["device", "delete", "--device-id", "nobody"]).await;
    assert!(said.contains("nobody"), "{said}");
}
