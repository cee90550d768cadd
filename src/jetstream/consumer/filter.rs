//! Which subjects a consumer wants.

use weir_protocol::subject::{self, FULL_WILDCARD};

/// The filters of a consumer; without any it wants everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Filter {
    filters: Vec<Box<[u8]>>,
}

impl Filter {
    pub(super) fn new(filters: &[String]) -> Self {
        let all = filters.iter().any(|filter| filter.as_bytes() == [FULL_WILDCARD]);
        let filters =
            if all { Vec::new() } else { filters.iter().map(|filter| filter.as_bytes().into()).collect() };
        Self { filters }
    }

    /// Whether every subject is wanted.
    pub(super) fn is_all(&self) -> bool {
        self.filters.is_empty()
    }

    pub(super) fn matches(&self, subject: &[u8]) -> bool {
        self.is_all() || self.filters.iter().any(|filter| subject::matches(subject, filter))
    }

    /// The one subject wanted, when it is only one.
    pub(super) fn literal(&self) -> Option<&[u8]> {
        match self.filters.as_slice() {
            [one] if subject::is_literal(one) => Some(one),
            _ => None,
        }
    }

    /// Whether everything wanted lies within `wider`.
    pub(super) fn is_within(&self, wider: &[u8]) -> bool {
        if self.is_all() {
            return wider == [FULL_WILDCARD];
        }
        self.filters.iter().all(|filter| subject::is_subset(filter, wider))
    }

    /// Whether something wanted may lie within `other`.
    pub(super) fn touches(&self, other: &[u8]) -> bool {
        self.is_all() || self.filters.iter().any(|filter| subject::collide(filter, other))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filter(filters: &[&str]) -> Filter {
        Filter::new(&filters.iter().map(|filter| (*filter).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn no_filter_and_the_full_wildcard_want_everything() {
        for filter in [filter(&[]), filter(&[">"])] {
            assert!(filter.is_all() && filter.matches(b"a.b") && filter.touches(b"x"));
            assert!(filter.is_within(b">") && !filter.is_within(b"a.>"));
        }
    }

    #[test]
    fn several_filters_want_what_any_of_them_wants() {
        let filter = filter(&["a.*", "b"]);
        for (subject, wanted) in [("a.x", true), ("b", true), ("a", false), ("a.x.y", false), ("c", false)] {
            assert_eq!(filter.matches(subject.as_bytes()), wanted, "{subject}");
        }
        assert_eq!(filter.literal(), None);
        assert!(!filter.is_within(b"a.>") && filter.touches(b"a.>") && !filter.touches(b"c.>"));
    }

    #[test]
    fn one_literal_filter_is_known_as_such() {
        assert_eq!(filter(&["a.b"]).literal(), Some(&b"a.b"[..]));
        assert_eq!(filter(&["a.*"]).literal(), None);
    }
}
