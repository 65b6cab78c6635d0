//! Who wants a subject, found by the subject's tokens: what it costs does not depend on how many want others.
//!
//! Invariant: it finds those, and only those, whose filters take the subject in.

use std::collections::HashMap;

use super::filters::Filters;

/// The filters of all subscriptions, by their tokens.
#[derive(Debug, Default)]
pub(super) struct Wanted {
    root: Node,
}

/// What stands at one place of the filters.
#[derive(Debug, Default)]
struct Node {
    /// Those with a filter that ends here.
    ends: Vec<i64>,
    /// Those with a filter that goes on with `>`.
    rest: Vec<i64>,
    /// What goes on with `*`.
    any: Option<Box<Node>>,
    tokens: HashMap<Box<str>, Node>,
}

impl Wanted {
    /// Adds the filters of a subscription.
    pub(super) fn add(&mut self, id: i64, filters: &Filters) {
        for filter in filters.subjects() {
            let mut node = &mut self.root;
            let mut tokens = filter.split('.').peekable();
            while let Some(token) = tokens.next() {
                if token == ">" && tokens.peek().is_none() {
                    node.rest.push(id);
                    break;
                }
                node = match token {
                    "*" => node.any.get_or_insert_default(),
                    token => node.tokens.entry(token.into()).or_default(),
                };
                if tokens.peek().is_none() {
                    node.ends.push(id);
                }
            }
        }
    }

    /// The subscriptions that want a subject, each once, in the order of their ids.
    pub(super) fn by(&self, subject: &str) -> Vec<i64> {
        let mut found = Vec::new();
        self.root.collect(Some(subject), &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }
}

impl Node {
    /// `left`: the tokens that stand behind this place; `None`: none.
    fn collect(&self, left: Option<&str>, found: &mut Vec<i64>) {
        let Some(left) = left else {
            found.extend(&self.ends);
            return;
        };
        let (token, behind) = match left.split_once('.') {
            Some((token, behind)) => (token, Some(behind)),
            None => (left, None),
        };
        found.extend(&self.rest);
        let next = self.tokens.get(token).into_iter().chain(self.any.as_deref());
        next.for_each(|node| node.collect(behind, found));
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Few tokens, so that filters and subjects meet.
    fn text(tokens: &'static [&'static str]) -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(tokens), 1..5).prop_map(|tokens| tokens.join("."))
    }

    fn filter() -> impl Strategy<Value = String> {
        (text(&["a", "b", "c", "*"]), any::<bool>()).prop_map(|(text, open)| if open { text + ".>" } else { text })
    }

    proptest! {
        #[test]
        fn they_are_those_whose_filters_take_it_in(
            all in proptest::collection::vec(
                proptest::collection::vec(prop_oneof![9 => filter(), 1 => Just(">".to_owned())], 1..4),
                0..20,
            ),
            subject in text(&["a", "b", "c", "d"]),
        ) {
            let all: Vec<Filters> = all.into_iter().map(Filters::new).collect();
            let mut wanted = Wanted::default();
            for (id, filters) in (0..).zip(&all) {
                wanted.add(id, filters);
            }
            let expected: Vec<i64> =
                (0..).zip(&all).filter(|(_, filters)| filters.want(&subject)).map(|(id, _)| id).collect();
            prop_assert_eq!(wanted.by(&subject), expected);
        }
    }
}
