//! A version is made ready before its first message, and given back after its last.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tidegate::handler::Handler as _;
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Sandbox, SandboxOptions, Version};

use crate::chaos::ledger;
use crate::sandbox::{message, run, sandbox};
use crate::support::modules::{answer, handler};
use crate::support::until;

/// What is mapped in this process of a version's compiled code, by its digest, where the code is in the cache.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Mapped {
    /// Memory slots of the pool that have its image.
    pub(crate) slots: usize,
    /// Pieces of its code.
    code: usize,
}

/// Reads the kernel's list of mappings: addresses, permissions, and at the end the file.
pub(crate) fn mapped(digest: &str) -> Mapped {
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut mapped = Mapped { slots: 0, code: 0 };
    for line in maps.lines().filter(|line| line.contains(digest)) {
        // A guest may write to its memory, and nobody to code.
        let is_slot = line.split_whitespace().nth(1).unwrap().starts_with("rw");
        *(if is_slot { &mut mapped.slots } else { &mut mapped.code }) += 1;
    }
    mapped
}

/// Slots that are made ready: two for each core.
pub(crate) fn slots_made_ready() -> usize {
    2 * std::thread::available_parallelism().unwrap().get().min(16)
}

#[tokio::test]
async fn a_version_that_is_made_ready_has_slots_until_it_is_dropped() {
    let folder = tempfile::tempdir().unwrap();
    let cache_dir = Some(folder.path().join("code"));
    let sandbox = Sandbox::new(SandboxOptions { cache_dir, ..SandboxOptions::default() }).unwrap();
    let version = sandbox.load(ledger(1), "ledger", &Limits::default()).await.unwrap();
    let digest = version.digest().to_owned();
    let before = mapped(&digest);
    assert!(before.slots == 0 && before.code > 0, "{before:?}");
    sandbox.warm(&version, None).await;
    let after = mapped(&digest);
    assert!(after.slots >= slots_made_ready() && after.code == before.code, "{after:?}");
    // Whoever lets go of it does not wait for that.
    drop(version);
    let nothing = Mapped { slots: 0, code: 0 };
    until("nothing of it is mapped", Duration::from_secs(60), || mapped(&digest) == nothing);
}

/// A module that works for a while when it starts, and then either answers or traps; `name` makes its digest its own.
fn slow_to_start(name: u32, body: &str) -> Vec<u8> {
    let start = format!(
        "(func $start (local $i i32)
            (loop $again
                (local.set $i (i32.add (local.get $i) (i32.const 1)))
                (br_if $again (i32.lt_u (local.get $i) (i32.const {}))))) (start $start)",
        100_000 + name
    );
    handler(&start, body)
}

/// Whether a run had to start its instance.
async fn starts(version: &Version) -> bool {
    run(version, &message("any", "")).await.usage.fuel > 100_000
}

#[tokio::test]
async fn as_many_instances_are_kept_ready_as_the_replaced_version_kept_and_no_more() {
    let limits = |reuse| Limits { reuse: NonZeroU32::new(reuse).unwrap(), ..Limits::default() };
    let load = async |name, body: &str, reuse| -> Arc<Version> {
        sandbox().load(slow_to_start(name, body), "slow", &limits(reuse)).await.unwrap()
    };
    let replaced = load(1, &answer(""), 1000).await;
    // A run that ends badly leaves no instance behind: each one that is used is gone.
    let (first, second) = (load(2, "unreachable", 1000).await, load(3, "unreachable", 1000).await);
    sandbox().warm(&first, Some(&replaced)).await;
    assert!(starts(&first).await, "nothing was kept, so nothing is");

    assert!(starts(&replaced).await && !starts(&replaced).await, "it keeps one instance");
    sandbox().warm(&second, Some(&replaced)).await;
    assert_eq!((replaced.kept(), second.kept()), (1, 1));
    assert_eq!((starts(&second).await, starts(&second).await), (false, true), "one is ready, and no other");

    // What handles one message an instance keeps none, whatever it replaces.
    let fresh = load(4, "unreachable", 1).await;
    sandbox().warm(&fresh, Some(&replaced)).await;
    assert!(fresh.kept() == 0 && starts(&fresh).await);

    // What the replaced one kept, it gives back.
    replaced.rest();
    let third = load(5, "unreachable", 1000).await;
    until("its instance is gone", Duration::from_secs(60), || replaced.kept() == 0);
    sandbox().warm(&third, Some(&replaced)).await;
    assert!(third.kept() == 0 && starts(&third).await);
}
