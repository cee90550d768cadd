//! Query parameters as the monitoring pages take them: unknown names are passed over, wrong values are named.

use std::collections::BTreeMap;

/// The parameters of a request.
#[derive(Debug, Default)]
pub(super) struct Query(BTreeMap<String, String>);

/// What is wrong with a request, for whoever made it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct BadQuery(pub(super) String);

impl Query {
    pub(super) fn parse(query: Option<&str>) -> Result<Self, BadQuery> {
        let mut values = BTreeMap::new();
        for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            // The names and values in use need no escapes; those that have some are unknown or wrong.
            values.entry(name.to_owned()).or_insert_with(|| value.to_owned());
        }
        Ok(Self(values))
    }

    /// The value of `name`; empty when it is not given.
    pub(super) fn text(&self, name: &str) -> &str {
        self.0.get(name).map_or("", String::as_str)
    }

    /// The number `name`; 0 when it is not given.
    pub(super) fn number(&self, name: &str) -> Result<usize, BadQuery> {
        match self.text(name) {
            "" => Ok(0),
            text => text.parse().map_err(|_| {
                BadQuery(format!("Error decoding int for '{name}': {text:?} is no number of 0 or more"))
            }),
        }
    }

    /// The yes or no of `name`; no when it is not given.
    pub(super) fn flag(&self, name: &str) -> Result<bool, BadQuery> {
        match self.text(name) {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
            "" | "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
            text => Err(BadQuery(format!(
                "Error decoding boolean for '{name}': {text:?} is neither true nor false"
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_or_named() {
        let query = Query::parse(Some("limit=3&subs=true&limit=4&bad=x&flag")).unwrap();
        assert_eq!((query.number("limit"), query.number("offset")), (Ok(3), Ok(0)));
        assert_eq!(
            (query.flag("subs"), query.flag("none"), query.flag("flag")),
            (Ok(true), Ok(false), Ok(false))
        );
        assert_eq!(
            query.number("bad"),
            Err(BadQuery("Error decoding int for 'bad': \"x\" is no number of 0 or more".to_owned()))
        );
        assert!(query.flag("bad").is_err());
    }
}
