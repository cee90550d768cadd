//! The set of all subscriptions, and the question "who gets a message on this subject?".
//!
//! Literal filters live in one exact map: a lookup, however many there are. Filters with wildcards live in a trie with one
//! node per token. Queue members are kept by the name of their group; a group that appears under several matching filters
//! is one group. Within a filter, members stand in the order of their ids, so a match has the same order in every run.
//!
//! Not here: locks, caches, delivery. Filters are valid when they come in ([`Sublist::insert`]); subjects may be anything:
//! one with an empty token matches nothing.

use std::collections::HashMap;
use std::ops::ControlFlow;

/// Subscriptions of type `T`, found by subject.
#[derive(Debug)]
pub(crate) struct Sublist<T> {
    literals: HashMap<Box<[u8]>, Members<T>>,
    wildcards: Node<T>,
    len: usize,
}

/// Everybody under one filter.
#[derive(Debug)]
pub(crate) struct Members<T> {
    /// Plain subscriptions, by id.
    pub(crate) plain: Vec<(u64, T)>,
    /// Queue groups by name, their members by id.
    pub(crate) queues: Vec<Group<(u64, T)>>,
}

/// A queue group: its name and its members.
pub(crate) type Group<T> = (Box<[u8]>, Vec<T>);

#[derive(Debug)]
struct Node<T> {
    tokens: HashMap<Box<[u8]>, Node<T>>,
    star: Option<Box<Node<T>>>,
    /// Filters that end here.
    here: Members<T>,
    /// Filters that end in `>` after this node.
    tail: Members<T>,
}

impl<T> Default for Sublist<T> {
    fn default() -> Self {
        Self { literals: HashMap::new(), wildcards: Node::default(), len: 0 }
    }
}

impl<T> Default for Members<T> {
    fn default() -> Self {
        Self { plain: Vec::new(), queues: Vec::new() }
    }
}

impl<T> Default for Node<T> {
    fn default() -> Self {
        Self { tokens: HashMap::new(), star: None, here: Members::default(), tail: Members::default() }
    }
}

/// Whether `filter` has a wildcard token.
pub(crate) fn has_wildcard(filter: &[u8]) -> bool {
    filter.split(|&b| b == b'.').any(|token| matches!(token, b"*" | b">"))
}

impl<T> Sublist<T> {
    /// How many subscriptions there are.
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    /// Adds a subscription. `filter` is a valid subject filter; `id` is unlike every other id.
    pub(crate) fn insert(&mut self, filter: &[u8], queue: Option<&[u8]>, id: u64, value: T) {
        self.len += 1;
        if has_wildcard(filter) {
            self.wildcards.members_mut(filter).insert(queue, id, value);
        } else if let Some(members) = self.literals.get_mut(filter) {
            members.insert(queue, id, value);
        } else {
            let mut members = Members::default();
            members.insert(queue, id, value);
            self.literals.insert(filter.into(), members);
        }
    }

    /// Takes a subscription out; `None` when it is not there.
    pub(crate) fn remove(&mut self, filter: &[u8], queue: Option<&[u8]>, id: u64) -> Option<T> {
        let removed = if has_wildcard(filter) {
            self.wildcards.remove(filter, queue, id)
        } else {
            let members = self.literals.get_mut(filter)?;
            let removed = members.remove(queue, id);
            if members.is_empty() {
                self.literals.remove(filter);
            }
            removed
        };
        self.len -= usize::from(removed.is_some());
        removed
    }

    /// Shows `each` the members of every filter that matches `subject`, until it breaks.
    pub(crate) fn visit<'a>(
        &'a self,
        subject: &[u8],
        mut each: impl FnMut(&'a Members<T>) -> ControlFlow<()>,
    ) {
        if subject.split(|&b| b == b'.').any(<[u8]>::is_empty) {
            return;
        }
        if let Some(members) = self.literals.get(subject)
            && each(members).is_break()
        {
            return;
        }
        let _ = self.wildcards.visit(subject, &mut each);
    }
}

impl<T> Members<T> {
    fn insert(&mut self, queue: Option<&[u8]>, id: u64, value: T) {
        let members = match queue {
            None => &mut self.plain,
            Some(name) => {
                let found = self.queues.iter().position(|(group, _)| **group == *name);
                let index = found.unwrap_or_else(|| {
                    self.queues.push((name.into(), Vec::new()));
                    self.queues.len() - 1
                });
                &mut self.queues[index].1
            }
        };
        // Almost always the end: ids grow, but whoever got one first need not come first.
        let position = members.partition_point(|(other, _)| *other < id);
        members.insert(position, (id, value));
    }

    fn remove(&mut self, queue: Option<&[u8]>, id: u64) -> Option<T> {
        let Some(name) = queue else { return remove_by_id(&mut self.plain, id) };
        let index = self.queues.iter().position(|(group, _)| **group == *name)?;
        let members = &mut self.queues[index].1;
        let removed = remove_by_id(members, id);
        if members.is_empty() {
            self.queues.remove(index);
        }
        removed
    }

    fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.queues.is_empty()
    }
}

fn remove_by_id<T>(members: &mut Vec<(u64, T)>, id: u64) -> Option<T> {
    let index = members.binary_search_by_key(&id, |(id, _)| *id).ok()?;
    let (_, value) = members.remove(index);
    if members.len() * 4 < members.capacity() {
        members.shrink_to(members.len() * 2);
    }
    Some(value)
}

impl<T> Node<T> {
    fn members_mut(&mut self, filter: &[u8]) -> &mut Members<T> {
        let mut node = self;
        for token in filter.split(|&b| b == b'.') {
            node = match token {
                b">" => return &mut node.tail,
                b"*" => node.star.get_or_insert_default(),
                _ => node.tokens.entry(token.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes under a filter and cuts the branch that became empty. A filter may have any number of tokens (a stream's), so
    /// the stack has no part in it.
    fn remove(&mut self, filter: &[u8], queue: Option<&[u8]>, id: u64) -> Option<T> {
        let mut tokens = filter.split(|&b| b == b'.');
        let mut node = &mut *self;
        // Tokens to the node where the branch forks off for the last time.
        let (mut depth, mut fork) = (0, 0);
        let removed = loop {
            match tokens.next() {
                None => break node.here.remove(queue, id)?,
                Some(b">") => break node.tail.remove(queue, id)?,
                Some(token) => {
                    if node.has_more_than_one_branch() {
                        fork = depth;
                    }
                    node = node.child_mut(token)?;
                    depth += 1;
                }
            }
        };
        if node.is_empty() {
            let mut tokens = filter.split(|&b| b == b'.');
            let mut node = self;
            for token in tokens.by_ref().take(fork) {
                node = node.child_mut(token)?;
            }
            // Node by node: as they are nested, dropping the first one would take stack for each.
            let mut cut = tokens.next().and_then(|token| node.take_child(token));
            while let Some(mut node) = cut {
                cut = tokens.next().and_then(|token| node.take_child(token));
            }
        }
        Some(removed)
    }

    fn child_mut(&mut self, token: &[u8]) -> Option<&mut Self> {
        if token == b"*" { self.star.as_deref_mut() } else { self.tokens.get_mut(token) }
    }

    fn take_child(&mut self, token: &[u8]) -> Option<Self> {
        if token == b"*" { self.star.take().map(|child| *child) } else { self.tokens.remove(token) }
    }

    /// Whether anything but one child hangs on it.
    fn has_more_than_one_branch(&self) -> bool {
        let children = self.tokens.len() + usize::from(self.star.is_some());
        children > 1 || !self.here.is_empty() || !self.tail.is_empty()
    }

    fn is_empty(&self) -> bool {
        self.tokens.is_empty() && self.star.is_none() && self.here.is_empty() && self.tail.is_empty()
    }

    /// Shows `each` the members of the filters below this node that match, those with a wildcard at the first token where they
    /// differ before the others.
    fn visit<'a>(
        &'a self,
        subject: &[u8],
        each: &mut impl FnMut(&'a Members<T>) -> ControlFlow<()>,
    ) -> ControlFlow<()> {
        // Where a path forks, what is to be gone through later. A filter may have any number of tokens, so the stack has no
        // part in it.
        let mut later = Vec::new();
        let mut path = Some((self, Some(subject)));
        while let Some((node, rest)) = path {
            // What follows the tokens that led here, if anything does.
            let Some(rest) = rest else {
                if !node.here.is_empty() {
                    each(&node.here)?;
                }
                path = later.pop();
                continue;
            };
            if !node.tail.is_empty() {
                each(&node.tail)?;
            }
            let (token, rest) = match memchr::memchr(b'.', rest) {
                Some(dot) => (&rest[..dot], Some(&rest[dot + 1..])),
                None => (rest, None),
            };
            path = match (node.star.as_deref(), node.tokens.get(token)) {
                (Some(star), Some(child)) => {
                    later.push((child, rest));
                    Some((star, rest))
                }
                (Some(next), None) | (None, Some(next)) => Some((next, rest)),
                (None, None) => later.pop(),
            };
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The ids that match, plain ones first, then each group by name.
    fn matched(list: &Sublist<u64>, subject: &str) -> Vec<(String, Vec<u64>)> {
        let mut found = std::collections::BTreeMap::<String, Vec<u64>>::new();
        list.visit(subject.as_bytes(), |members| {
            for (id, _) in &members.plain {
                found.entry(String::new()).or_default().push(*id);
            }
            for (name, group) in &members.queues {
                let name = String::from_utf8_lossy(name).into_owned();
                found.entry(name).or_default().extend(group.iter().map(|(id, _)| *id));
            }
            ControlFlow::Continue(())
        });
        found
            .into_iter()
            .map(|(name, mut ids)| {
                ids.sort_unstable();
                (name, ids)
            })
            .collect()
    }

    fn check(filters: &[&str], subject: &str, expected: &[u64]) {
        let mut list = Sublist::default();
        for (id, filter) in (0..).zip(filters) {
            list.insert(filter.as_bytes(), None, id, id);
        }
        let found = matched(&list, subject).into_iter().next().map(|(_, ids)| ids).unwrap_or_default();
        assert_eq!(found, expected, "{subject} against {filters:?}");
    }

    #[test]
    fn wildcards_match_as_nats_has_it() {
        check(&["a.b", "a.*", "a.>", ">", "*.b", "*", "a", "a.b.c", "a.*.c"], "a.b", &[0, 1, 2, 3, 4]);
        check(&["a.>", "a.*", "a", ">", "*"], "a", &[2, 3, 4]);
        check(&["*.*.*", "a.>", "*.>", "a.b.>"], "a.b.c", &[0, 1, 2, 3]);
        check(&["foo*", "foo*.bar", "f>"], "foo*", &[0]);
        check(&["a.b"], "A.b", &[]);
    }

    #[test]
    fn subjects_that_are_no_literals_are_text() {
        check(&["foo.*", "foo.>", "foo.bar"], "foo.*", &[0, 1]);
        check(&["foo.*", "foo.>"], "foo.>", &[0, 1]);
        check(&[">", "*.*", "a..b"], "a..b", &[]);
        check(&[">", "*.*"], "a.", &[]);
        check(&[">", "*.*"], ".a", &[]);
        check(&[">", "*"], "", &[]);
    }

    #[test]
    fn queue_groups_are_found_by_name_under_every_filter() {
        let mut list = Sublist::default();
        list.insert(b"a.*", Some(b"q"), 1, 1);
        list.insert(b"a.b", Some(b"q"), 2, 2);
        list.insert(b"a.b", Some(b"r"), 3, 3);
        list.insert(b"a.b", None, 4, 4);
        assert_eq!(
            matched(&list, "a.b"),
            [(String::new(), vec![4]), ("q".to_owned(), vec![1, 2]), ("r".to_owned(), vec![3])]
        );
        assert_eq!(list.len(), 4);
        assert_eq!(list.remove(b"a.b", None, 2), None, "a queue member is no plain one");
        assert_eq!(list.remove(b"a.b", Some(b"q"), 2), Some(2));
        assert_eq!(list.remove(b"a.b", Some(b"q"), 2), None);
        assert_eq!(list.len(), 3);
    }

    #[test]
    fn nothing_is_left_behind() {
        let mut list = Sublist::default();
        let filters = ["a.b.c", "a.*.c", "a.>", "*", ">", "x.y.>"];
        for (id, filter) in (0..).zip(filters) {
            list.insert(filter.as_bytes(), (id % 2 == 0).then_some(b"q".as_slice()), id, id);
        }
        for (id, filter) in (0..).zip(filters) {
            assert_eq!(
                list.remove(filter.as_bytes(), (id % 2 == 0).then_some(b"q".as_slice()), id),
                Some(id)
            );
        }
        assert_eq!(list.len(), 0);
        assert!(list.literals.is_empty() && list.wildcards.is_empty());
    }

    #[test]
    fn a_filter_may_have_any_number_of_tokens() {
        let mut list = Sublist::default();
        let long = ["*", &".a".repeat(100_000)].concat();
        for (id, end) in (0..).zip(["", ".>", ".*"]) {
            list.insert(format!("{long}{end}").as_bytes(), None, id, id);
        }
        for (id, end) in (0..).zip(["", ".>", ".*"]) {
            let found = matched(&list, &format!("{long}{}", end.replace(['*', '>'], "a")));
            assert_eq!(found, [(String::new(), if id == 0 { vec![0] } else { (id..3).collect() })]);
            assert_eq!(list.remove(format!("{long}{end}").as_bytes(), None, id), Some(id));
        }
        assert!(list.wildcards.is_empty());
    }

    /// The rule in its plainest form, token by token.
    fn naive(filter: &[&str], subject: &[&str]) -> bool {
        match (filter, subject) {
            ([">"], [_, ..]) | ([], []) => true,
            ([f, fs @ ..], [s, ss @ ..]) => (*f == "*" || f == s) && naive(fs, ss),
            _ => false,
        }
    }

    fn tokens() -> impl Strategy<Value = Vec<String>> {
        prop::collection::vec(prop::sample::select(vec!["a", "b", "c", "*"]).prop_map(str::to_owned), 1..5)
    }

    proptest! {
        #[test]
        fn agrees_with_the_naive_reference(
            filters in prop::collection::vec((tokens(), any::<bool>(), any::<bool>()), 1..40),
            removed in prop::collection::vec(any::<bool>(), 40),
            subject in prop::collection::vec(prop::sample::select(vec!["a", "b", "c"]), 1..6),
        ) {
            let mut list = Sublist::default();
            let mut model = Vec::new();
            for (id, (mut tokens, tail, queue)) in (0..).zip(filters) {
                if tail { tokens.push(">".to_owned()); }
                let queue = queue.then_some(b"q".as_slice());
                list.insert(tokens.join(".").as_bytes(), queue, id, id);
                model.push((id, tokens, queue));
            }
            for (id, gone) in (0..).zip(removed) {
                if let Some(at) = model.iter().position(|(other, ..)| gone && *other == id) {
                    let (_, tokens, queue) = model.remove(at);
                    prop_assert_eq!(list.remove(tokens.join(".").as_bytes(), queue, id), Some(id));
                }
            }
            prop_assert_eq!(list.len(), model.len());
            let expected = |queue: bool| -> Vec<u64> {
                model.iter()
                    .filter(|(_, tokens, q)| q.is_some() == queue
                        && naive(&tokens.iter().map(String::as_str).collect::<Vec<_>>(), &subject))
                    .map(|(id, ..)| *id)
                    .collect()
            };
            let found = matched(&list, &subject.join("."));
            let ids = |name: &str| found.iter().find(|(n, _)| n == name).map(|(_, ids)| ids.clone()).unwrap_or_default();
            prop_assert_eq!(ids(""), expected(false));
            prop_assert_eq!(ids("q"), expected(true));
        }
    }
}
