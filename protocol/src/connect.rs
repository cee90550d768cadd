//! The options of CONNECT: what a client says about itself and what it wants.
//!
//! The JSON is read as nats-server's Go reads it: keys in any case, unknown keys passed over, `null` changes nothing, a value of the
//! wrong type is an error. A second CONNECT changes only what it names. Without CONNECT, and for fields it leaves out, a session
//! is verbose, pedantic and echoing; clients say otherwise explicitly.

use std::fmt;

use serde::Serialize;
use serde::de::{self, DeserializeSeed, IgnoredAny, MapAccess, Visitor};

/// What CONNECT says. Empty strings are absent ones.
#[derive(Clone, PartialEq, Eq, Serialize)]
pub struct ConnectOptions {
    /// `+OK` for every accepted operation.
    pub verbose: bool,
    /// Publishing on an invalid subject is answered with an error.
    pub pedantic: bool,
    /// Informational.
    pub tls_required: bool,
    /// Messages come back to subscriptions of the connection that published them.
    pub echo: bool,
    /// The client's name for itself.
    pub name: String,
    /// The language of the client library.
    pub lang: String,
    /// The version of the client library.
    pub version: String,
    /// 0, or 1 for a client that understands INFO at any time; see [`Self::has_known_protocol`].
    pub protocol: i64,
    /// The client understands headers.
    pub headers: bool,
    /// The client wants a 503 when nobody listens to its request; needs headers.
    pub no_responders: bool,
    /// User name.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// Password.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub pass: String,
    /// Token.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub auth_token: String,
    /// Public user nkey.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub nkey: String,
    /// User JWT.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub jwt: String,
    /// Signature over the nonce.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub sig: String,
    /// Obsolete; any value is an authorization violation.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub account: String,
    /// Obsolete as `account`.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub new_account: bool,
    /// A trusted proxy's signature over the nonce.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub proxy_sig: String,
}

impl Default for ConnectOptions {
    fn default() -> Self {
        ConnectOptions {
            verbose: true,
            pedantic: true,
            tls_required: false,
            echo: true,
            name: String::new(),
            lang: String::new(),
            version: String::new(),
            protocol: 0,
            headers: false,
            no_responders: false,
            user: String::new(),
            pass: String::new(),
            auth_token: String::new(),
            nkey: String::new(),
            jwt: String::new(),
            sig: String::new(),
            account: String::new(),
            new_account: false,
            proxy_sig: String::new(),
        }
    }
}

/// Secrets do not go into logs.
impl fmt::Debug for ConnectOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConnectOptions")
            .field("verbose", &self.verbose)
            .field("pedantic", &self.pedantic)
            .field("echo", &self.echo)
            .field("name", &self.name)
            .field("lang", &self.lang)
            .field("version", &self.version)
            .field("protocol", &self.protocol)
            .field("headers", &self.headers)
            .field("no_responders", &self.no_responders)
            .field("user", &self.user)
            .finish_non_exhaustive()
    }
}

/// CONNECT's argument is not the JSON it should be; the connection closes without `-ERR`.
#[derive(Debug, thiserror::Error)]
#[error("CONNECT: {0}")]
pub struct ConnectError(#[from] serde_json::Error);

impl ConnectOptions {
    /// Takes over what `json` names and keeps the rest. After an error the options are partly changed and of no use.
    pub fn merge_json(&mut self, json: &[u8]) -> Result<(), ConnectError> {
        // Go replaces what is no UTF-8 in strings; clients with odd locales rely on getting in.
        let text = String::from_utf8_lossy(json);
        let mut deserializer = serde_json::Deserializer::from_str(&text);
        Merge(self).deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(())
    }

    /// Whether `protocol` is one that exists.
    pub fn has_known_protocol(&self) -> bool {
        matches!(self.protocol, 0 | 1)
    }

    /// The JSON for CONNECT.
    pub fn to_json(&self) -> Vec<u8> {
        #[expect(clippy::expect_used, reason = "no map keys, no floats")]
        serde_json::to_vec(self).expect("plain strings, numbers and booleans always serialise")
    }
}

struct Merge<'a>(&'a mut ConnectOptions);

impl<'de> DeserializeSeed<'de> for Merge<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Merge<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let options = self.0;
        while let Some(key) = map.next_key::<String>()? {
            match key.to_ascii_lowercase().as_str() {
                "verbose" => set(&mut map, &mut options.verbose)?,
                "pedantic" => set(&mut map, &mut options.pedantic)?,
                "tls_required" => set(&mut map, &mut options.tls_required)?,
                "echo" => set(&mut map, &mut options.echo)?,
                "name" => set(&mut map, &mut options.name)?,
                "lang" => set(&mut map, &mut options.lang)?,
                "version" => set(&mut map, &mut options.version)?,
                "protocol" => set(&mut map, &mut options.protocol)?,
                "headers" => set(&mut map, &mut options.headers)?,
                "no_responders" => set(&mut map, &mut options.no_responders)?,
                "user" => set(&mut map, &mut options.user)?,
                "pass" => set(&mut map, &mut options.pass)?,
                "auth_token" => set(&mut map, &mut options.auth_token)?,
                "nkey" => set(&mut map, &mut options.nkey)?,
                "jwt" => set(&mut map, &mut options.jwt)?,
                "sig" => set(&mut map, &mut options.sig)?,
                "account" => set(&mut map, &mut options.account)?,
                "new_account" => set(&mut map, &mut options.new_account)?,
                "proxy_sig" => set(&mut map, &mut options.proxy_sig)?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(())
    }
}

fn set<'de, A: MapAccess<'de>, T: de::Deserialize<'de>>(map: &mut A, field: &mut T) -> Result<(), A::Error> {
    if let Some(value) = map.next_value::<Option<T>>()? {
        *field = value;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(json: &str) -> Result<ConnectOptions, ConnectError> {
        let mut options = ConnectOptions::default();
        options.merge_json(json.as_bytes())?;
        Ok(options)
    }

    #[test]
    fn an_empty_connect_is_verbose_pedantic_and_echoes() {
        let options = merged("{}").unwrap();
        assert!(options.verbose && options.pedantic && options.echo);
        assert!(!options.headers && !options.no_responders);
        assert_eq!(options.protocol, 0);
        assert_eq!(merged("null").unwrap(), options);
    }

    #[test]
    fn keys_match_in_any_case_and_unknown_ones_are_passed_over() {
        let options = merged(
            r#"{"VERBOSE":false,"Pedantic":false,"eChO":null,"name":"n","protocol":1,"headers":true,
                "no_responders":true,"user":"u","pass":"p","future":{"deep":[1,2]},"import":null,"lang":"rust"}"#,
        )
        .unwrap();
        assert!(
            !options.verbose && !options.pedantic && options.echo && options.headers && options.no_responders
        );
        assert_eq!((options.name.as_str(), options.lang.as_str(), options.protocol), ("n", "rust", 1));
        assert_eq!((options.user.as_str(), options.pass.as_str()), ("u", "p"));
    }

    #[test]
    fn a_second_connect_changes_what_it_names() {
        let mut options = merged(r#"{"verbose":false,"name":"first","headers":true}"#).unwrap();
        options.merge_json(br#"{"name":"second"}"#).unwrap();
        assert!(!options.verbose && options.headers);
        assert_eq!(options.name, "second");
    }

    #[test]
    fn wrong_json_is_an_error() {
        let table = [
            "",
            "{",
            "[]",
            "1",
            "\"x\"",
            "{}{}",
            "{\"verbose\":1}",
            "{\"verbose\":\"true\"}",
            "{\"name\":1}",
            "{\"protocol\":\"1\"}",
            "{\"protocol\":1.5}",
            "{\"echo\":[]}",
        ];
        for json in table {
            assert!(merged(json).is_err(), "{json}");
        }
    }

    #[test]
    fn bytes_that_are_no_utf8_are_replaced() {
        let mut options = ConnectOptions::default();
        options.merge_json(b"{\"name\":\"a\xff\"}").unwrap();
        assert_eq!(options.name, "a\u{fffd}");
    }

    #[test]
    fn protocols() {
        assert!(merged(r#"{"protocol":1}"#).unwrap().has_known_protocol());
        assert!(!merged(r#"{"protocol":2}"#).unwrap().has_known_protocol());
        assert!(!merged(r#"{"protocol":-1}"#).unwrap().has_known_protocol());
    }

    #[test]
    fn what_is_written_is_read_and_secrets_stay_out_of_logs() {
        let options =
            ConnectOptions { verbose: false, user: "u".into(), pass: "secret".into(), ..Default::default() };
        let mut read = ConnectOptions::default();
        read.merge_json(&options.to_json()).unwrap();
        assert_eq!(read, options);
        assert!(!format!("{options:?}").contains("secret"));
        assert!(!String::from_utf8(ConnectOptions::default().to_json()).unwrap().contains("jwt"));
    }
}
