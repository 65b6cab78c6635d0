//! `tidegate profile`: where the fuel of a run goes.

use std::num::NonZeroU64;
use std::time::Duration;

use serde_json::{Value, json};
use tidegate::broker::lease::Lease;
use tidegate::handler::{Call, Effects};
use tidegate::sandbox::limits::Limits;
use tidegate::sandbox::{Profile, Sandbox, SandboxOptions};
use tokio::time::Instant;

use crate::command_line::Desk;
use crate::sandbox::{message, run};
use crate::support::guests::{example, guest};
use crate::support::modules::{answer, handler};

/// A handler that turns ten thousand times in one function and a thousand times in another.
fn hot_and_cold() -> Vec<u8> {
    let turns = |name: &str, count: u32| {
        format!(
            "(func ${name} (local $n i32)
                (local.set $n (i32.const {count}))
                (loop $again
                    (local.set $n (i32.sub (local.get $n) (i32.const 1)))
                    (br_if $again (local.get $n))))"
        )
    };
    let definitions = [turns("hot", 10_000), turns("cold", 1000), "(func $both (call $cold) (call $hot))".to_owned()];
    handler(&definitions.concat(), &answer("(call $both)"))
}

async fn profile(module: Vec<u8>, subject: &str, limits: &Limits, interval: u64) -> (Profile, u64) {
    let options = SandboxOptions { repeatable: true, ..SandboxOptions::default() };
    let version = Sandbox::new(options).unwrap().load(module, "profiled", limits).await.unwrap();
    let message = message(subject, "");
    let plain = run(&version, &message).await;
    let lease = Lease::until(Instant::now() + Duration::from_secs(60));
    let call = Call {
        message: &message,
        subscription: "orders",
        attempt: 2,
        max_attempts: Some(5),
        previous_failure: Some("trap:unreachable: it gave up"),
        lease: &lease,
        effects: Effects::Real,
        keeps_spans: false,
    };
    let profile = version.profile(call, NonZeroU64::new(interval).unwrap()).await.unwrap();
    assert_eq!(profile.run.outcome, plain.outcome, "to look changes nothing");
    (profile, plain.usage.fuel)
}

fn sum(profile: &Profile, name: &str) -> u64 {
    let own = profile.stacks.iter().filter(|(stack, _)| stack.last().is_some_and(|last| &**last == name));
    own.map(|(_, fuel)| fuel).sum()
}

#[tokio::test]
async fn the_fuel_of_all_functions_is_that_of_the_run_and_the_same_each_time() {
    for interval in [1, 7, 1000] {
        let (first, fuel) = profile(hot_and_cold(), "a", &Limits::default(), interval).await;
        let (second, _) = profile(hot_and_cold(), "a", &Limits::default(), interval).await;
        assert_eq!((&first.stacks, first.looks), (&second.stacks, second.looks));
        let all: u64 = first.stacks.iter().map(|(_, fuel)| fuel).sum();
        assert_eq!((all, first.run.usage.fuel), (fuel, fuel), "every {interval}");
        let (hot, cold) = (sum(&first, "hot"), sum(&first, "cold"));
        // Each turn takes the same, and few turns are put down to a neighbour.
        assert!(hot.abs_diff(10 * cold) <= 12 * interval.max(20), "every {interval}: {hot} and {cold}");
        assert!(hot + cold > fuel * 99 / 100, "every {interval}: {:?}", first.stacks);
        let stack = first.stacks.iter().find(|(stack, _)| stack.last().is_some_and(|last| &**last == "hot"));
        let callers: Vec<&str> = stack.unwrap().0.iter().map(|name| &**name).collect();
        assert_eq!(callers.get(callers.len() - 2), Some(&"both"), "{callers:?}");
    }
}

#[tokio::test]
async fn a_run_that_is_stopped_has_its_profile_up_to_there() {
    let limits = Limits { fuel: NonZeroU64::new(1_000_000), ..Limits::default() };
    let (spins, fuel) = profile(guest("behaviours"), "hostile.spin", &limits, 1000).await;
    assert_eq!((spins.run.outcome.code().0, fuel), ("out-of-fuel", 1_000_000));
    let all: u64 = spins.stacks.iter().map(|(_, fuel)| fuel).sum();
    assert_eq!(all, fuel);
    let deep = Limits::default();
    let (deep, _) = profile(guest("behaviours"), "hostile.recurse", &deep, 1).await;
    assert_eq!(deep.run.outcome.code().0, "trap:stack-overflow");
    assert!(deep.stacks.iter().any(|(stack, _)| &*stack[0] == "(further frames)"), "it says where it was cut off");
}

#[test]
fn it_is_told_in_words_and_drawn() {
    let desk = Desk::new();
    std::fs::write(desk.path().join("triage.wasm"), example("github-webhooks")).unwrap();
    desk.write("push.json", r#"{"repository": {"full_name": "octo/site"}, "commits": [{"id": "a\"b"}]}"#);
    let arguments = ["profile", "triage.wasm", "--message", "push.json", "--subject", "github.push"];
    let with = |more: &[&'static str]| [&arguments[..], more].concat();
    let report = desk.json(&with(&["--json", "--out", "flame.svg"]), "", 0);
    let invoked = desk.json(&["invoke", "triage.wasm", "push.json", "--subject", "github.push", "--json"], "", 0);
    assert_eq!(report["fuel"], invoked["usage"]["fuel"], "as without a look");
    let functions = report["functions"].as_array().unwrap();
    let own: u64 = functions.iter().map(|one| one["own"].as_u64().unwrap()).sum();
    assert_eq!(json!(own), report["fuel"]);
    // A component's adapters have no names.
    assert!(report["nameless"].as_u64().unwrap() < own / 100, "{report:#}");
    let inclusive = |part: &str| {
        // What frees the answer behind a call is named after it.
        let is = |name: &str| name.contains(part) && !name.starts_with("cabi_post_");
        let found = functions.iter().find(|one| is(one["name"].as_str().unwrap()));
        found.unwrap_or_else(|| panic!("no {part}: {report:#}"))["inclusive"].as_u64().unwrap()
    };
    assert!(inclusive("tidegate:events/handler@0.1.0#handle") > own / 2, "{report:#}");
    assert!(inclusive("serde_json") > 0, "names are as their authors wrote them");
    let svg = std::fs::read_to_string(desk.path().join("flame.svg")).unwrap();
    assert!(svg.starts_with("<svg ") && svg.contains("serde_json::") && svg.contains("_export_handle_cabi"), "{svg}");
    let told = desk.expect(&with(&["--top", "2", "--out", "flame.folded"]), "", 0);
    assert!(told.contains("where it went") && told.contains("more; --top shows more"), "{told}");
    let folded = std::fs::read_to_string(desk.path().join("flame.folded")).unwrap();
    let all: u64 = folded.lines().map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum();
    assert_eq!(all, own);
}

#[test]
fn what_cannot_be_told_says_why() {
    let desk = Desk::with_handler();
    std::fs::write(desk.path().join("plain.wasm"), handler("", &answer("(loop (nop))"))).unwrap();
    let told = desk.expect(&["profile", "plain.wasm"], "x", 0);
    assert!(told.contains("went into functions without names") && told.contains("strip = \"debuginfo\""), "{told}");
    desk.expect(&["profile"], "x", 2);
    desk.expect(&["profile", "none.wasm"], "x", 1);
    desk.expect(&["profile", "--handler", "other"], "x", 3);
    let trapped = desk.json(&["profile", "--handler", "behave", "--subject", "hostile.unreachable", "--json"], "x", 5);
    assert_eq!(trapped["outcome"], json!("trap:unreachable"));
    assert!(trapped["functions"].as_array().is_some_and(|all| !all.is_empty()), "{trapped:#}");
    // A handler that counts no fuel is given some to count.
    let text = std::fs::read_to_string(desk.path().join("tidegate.toml")).unwrap();
    desk.write("tidegate.toml", &text.replace("[subscriptions", "limits.fuel = \"unmetered\"\n[subscriptions"));
    let counted: Value = desk.json(&["profile", "--handler", "behave", "--subject", "complete", "--json"], "x", 0);
    assert!(counted["fuel"].as_u64().unwrap() > 0, "{counted:#}");
}
