//! What a server says about itself in INFO.
//!
//! The fields a client may see, in nats-server's order, and left out when nats-server leaves them out. Those between
//! servers (routes, gateways, leaf nodes) are absent. Unknown fields are passed over when INFO is read.

use serde::{Deserialize, Serialize};

/// The server's INFO.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ServerInfo {
    /// 56 characters that begin with `N`.
    pub server_id: String,
    /// As configured, else the id.
    pub server_name: String,
    /// The nats-server version whose behaviour clients may expect.
    pub version: String,
    /// Always 1.
    pub proto: i64,
    /// Short hash of the build.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub git_commit: String,
    /// nats-server names its Go version here; any text will do.
    pub go: String,
    /// Listen address.
    pub host: String,
    /// Listen port.
    pub port: u16,
    /// The server supports headers.
    pub headers: bool,
    /// CONNECT must carry credentials.
    #[serde(skip_serializing_if = "is_false")]
    pub auth_required: bool,
    /// The connection must change to TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_required: bool,
    /// The client must show a certificate.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_verify: bool,
    /// The connection may change to TLS.
    #[serde(skip_serializing_if = "is_false")]
    pub tls_available: bool,
    /// The largest message of this connection in bytes; -1 is unlimited.
    pub max_payload: i64,
    /// JetStream is on.
    #[serde(skip_serializing_if = "is_false")]
    pub jetstream: bool,
    /// The connection's number.
    #[serde(skip_serializing_if = "is_zero")]
    pub client_id: u64,
    /// The client's address as the server sees it.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub client_ip: String,
    /// To be signed by nkey and JWT clients.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nonce: String,
    /// The cluster's name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub cluster: String,
    /// The JetStream domain.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub domain: String,
    /// Other addresses of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub connect_urls: Vec<String>,
    /// Other WebSocket addresses of the cluster.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub ws_connect_urls: Vec<String>,
    /// The server is about to go: lame duck mode.
    #[serde(skip_serializing_if = "is_false")]
    pub ldm: bool,
    /// This INFO follows the first PING, and says what the connection is bound to.
    #[serde(skip_serializing_if = "is_false")]
    pub connect_info: bool,
    /// The account of the connection; after the first PING.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub remote_account: String,
    /// That account is the system account; after the first PING.
    #[serde(skip_serializing_if = "is_false")]
    pub acc_is_sys: bool,
    /// The JetStream API level; absent without JetStream.
    #[serde(skip_serializing_if = "is_zero")]
    pub api_lvl: u64,
    /// The server's public x25519 key.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub xkey: String,
}

impl Default for ServerInfo {
    fn default() -> Self {
        ServerInfo {
            server_id: String::new(),
            server_name: String::new(),
            version: String::new(),
            proto: 1,
            git_commit: String::new(),
            go: String::new(),
            host: String::new(),
            port: 0,
            headers: true,
            auth_required: false,
            tls_required: false,
            tls_verify: false,
            tls_available: false,
            max_payload: 1024 * 1024,
            jetstream: false,
            client_id: 0,
            client_ip: String::new(),
            nonce: String::new(),
            cluster: String::new(),
            domain: String::new(),
            connect_urls: Vec::new(),
            ws_connect_urls: Vec::new(),
            ldm: false,
            connect_info: false,
            remote_account: String::new(),
            acc_is_sys: false,
            api_lvl: 0,
            xkey: String::new(),
        }
    }
}

impl ServerInfo {
    /// Reads INFO's argument.
    pub fn from_json(json: &[u8]) -> Result<ServerInfo, serde_json::Error> {
        serde_json::from_slice(json)
    }

    /// INFO's argument.
    pub fn to_json(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "no map keys, no floats")]
        serde_json::to_vec(self).expect("plain strings, numbers and booleans always serialise")
    }
}

fn is_false(value: &bool) -> bool {
    !*value
}

fn is_zero(value: &u64) -> bool {
    *value == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_so_is_left_out() {
        let info = ServerInfo {
            server_id: "NX".into(),
            server_name: "weir".into(),
            version: "2.14.5".into(),
            go: "rust".into(),
            host: "127.0.0.1".into(),
            port: 4222,
            client_id: 5,
            client_ip: "127.0.0.1".into(),
            jetstream: true,
            api_lvl: 1,
            ..ServerInfo::default()
        };
        let json = String::from_utf8(info.to_json()).unwrap();
        assert_eq!(
            json,
            r#"{"server_id":"NX","server_name":"weir","version":"2.14.5","proto":1,"go":"rust","host":"127.0.0.1","port":4222,"headers":true,"max_payload":1048576,"jetstream":true,"client_id":5,"client_ip":"127.0.0.1","api_lvl":1}"#
        );
        assert_eq!(ServerInfo::from_json(json.as_bytes()).unwrap(), info);
    }

    #[test]
    fn a_nats_server_s_info_is_read() {
        // As nats-server 2.14.5 sends it, with a field that is not known here.
        let json = r#"{"server_id":"NDJ","server_name":"NDJ","version":"2.14.5","proto":1,"git_commit":"abc","go":"go1.26","host":"0.0.0.0","port":4222,"headers":true,"max_payload":1048576,"jetstream":true,"client_id":7,"client_ip":"127.0.0.1","xkey":"XB","api_lvl":4,"route_pool_size":3} "#;
        let info = ServerInfo::from_json(json.as_bytes()).unwrap();
        assert_eq!((info.client_id, info.api_lvl, info.max_payload), (7, 4, 1_048_576));
        assert!(info.headers && info.jetstream && !info.ldm && !info.connect_info);
        assert!(ServerInfo::from_json(b"{").is_err());
    }
}
