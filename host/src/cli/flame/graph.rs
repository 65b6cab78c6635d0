//! Stacks added up: by functions, and as a tree of who called whom. Pure.

use std::collections::{BTreeMap, HashSet};
use std::fmt::Write as _;
use std::sync::Arc;

use serde::Serialize;

/// Fuel by stacks, the outermost function first.
type Stacks = [(Vec<Arc<str>>, u64)];

/// Every function, by its own fuel, the most first.
#[derive(Debug, Serialize)]
#[serde(transparent)]
pub(super) struct Functions(pub(super) Vec<Function>);

/// What a function took.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Function {
    pub(super) name: String,
    /// By itself.
    pub(super) own: u64,
    /// With all that it called.
    pub(super) inclusive: u64,
}

impl Functions {
    pub(super) fn of(stacks: &Stacks) -> Self {
        let mut sums: BTreeMap<&Arc<str>, (u64, u64)> = BTreeMap::new();
        for (stack, fuel) in stacks {
            // One that calls itself counts once.
            let all: HashSet<&Arc<str>> = stack.iter().collect();
            for name in all {
                sums.entry(name).or_default().1 += fuel;
            }
            if let Some(last) = stack.last() {
                sums.entry(last).or_default().0 += fuel;
            }
        }
        let function =
            |(name, (own, inclusive)): (&Arc<str>, (u64, u64))| Function { name: name.to_string(), own, inclusive };
        let mut all: Vec<Function> = sums.into_iter().map(function).collect();
        // Names break ties, so that the order is the same each time.
        all.sort_by(|one, other| other.own.cmp(&one.own).then_with(|| one.name.cmp(&other.name)));
        Self(all)
    }

    /// The first by what they took with all that they called.
    pub(super) fn by_inclusive(&self) -> Vec<&Function> {
        let mut all: Vec<&Function> = self.0.iter().collect();
        all.sort_by(|one, other| other.inclusive.cmp(&one.inclusive).then_with(|| one.name.cmp(&other.name)));
        all
    }
}

/// A function called by another one, with those that it called.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Tree {
    /// With all below it.
    pub(super) fuel: u64,
    pub(super) below: BTreeMap<Arc<str>, Tree>,
}

impl Tree {
    pub(super) fn of(stacks: &Stacks) -> Self {
        let mut root = Self::default();
        for (stack, fuel) in stacks {
            let mut node = &mut root;
            node.fuel += fuel;
            for name in stack {
                node = node.below.entry(Arc::clone(name)).or_default();
                node.fuel += fuel;
            }
        }
        root
    }

    /// How many rows it has, the root's own among them.
    pub(super) fn depth(&self) -> usize {
        let mut rows = 0;
        let mut row: Vec<&Self> = vec![self];
        while !row.is_empty() {
            rows += 1;
            row = row.iter().flat_map(|node| node.below.values()).collect();
        }
        rows
    }
}

/// A line a stack: its functions between semicolons, and its fuel. Other tools draw that.
pub(super) fn folded(stacks: &Stacks) -> String {
    let mut text = String::new();
    for (stack, fuel) in stacks {
        let names: Vec<String> = stack.iter().map(|name| name.replace([';', '\n'], ",")).collect();
        let _ = writeln!(text, "{} {fuel}", names.join(";"));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stacks() -> Vec<(Vec<Arc<str>>, u64)> {
        let stack = |names: &str, fuel| (names.split('/').map(Arc::from).collect(), fuel);
        vec![stack("main", 5), stack("main/parse", 20), stack("main/parse/parse/skip", 70), stack("start", 5)]
    }

    #[test]
    fn a_function_has_its_own_fuel_and_that_of_what_it_called() {
        let functions = Functions::of(&stacks());
        let shown = |all: Vec<&Function>| {
            all.iter().map(|one| format!("{} {} {}", one.name, one.own, one.inclusive)).collect::<Vec<_>>()
        };
        assert_eq!(shown(functions.0.iter().collect()), ["skip 70 70", "parse 20 90", "main 5 95", "start 5 5"]);
        assert_eq!(shown(functions.by_inclusive()), ["main 5 95", "parse 20 90", "skip 70 70", "start 5 5"]);
        let own: u64 = functions.0.iter().map(|one| one.own).sum();
        assert_eq!(own, 100, "the fuel of the run");
    }

    #[test]
    fn a_tree_has_the_fuel_of_all_below() {
        let tree = Tree::of(&stacks());
        assert_eq!((tree.fuel, tree.below.len(), tree.depth()), (100, 2, 5));
        let main = tree.below.get("main").map(|main| (main.fuel, main.below.len()));
        assert_eq!(main, Some((95, 1)));
    }

    #[test]
    fn lines_are_for_other_tools() {
        assert_eq!(folded(&stacks()), "main 5\nmain;parse 20\nmain;parse;parse;skip 70\nstart 5\n");
        assert_eq!(folded(&[(vec!["a;b".into()], 1)]), "a,b 1\n");
    }
}
