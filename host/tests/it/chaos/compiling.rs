//! What compiles is killed, or its host is, in the middle of a deploy.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tidegate::deploy::report::Line;

use super::rig::Rig;
use super::swap::ledger;
use crate::loading::bomb;
use crate::support::until;

/// The process that compiles for the host.
fn compiler(rig: &Rig) -> Option<Pid> {
    let children = std::fs::read_dir(format!("/proc/{}/task", rig.pid().as_raw_nonzero())).ok()?.flatten();
    let children = children.flat_map(|thread| std::fs::read_to_string(thread.path().join("children")));
    let pid = children.flat_map(|line| line.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<_>>());
    pid.filter_map(Pid::from_raw).next()
}

/// Deploys a module that takes long to compile, on a thread, and waits until it is being compiled.
fn deploys_slowly<'a>(
    rig: &'a Rig,
    scope: &'a std::thread::Scope<'a, '_>,
) -> (Pid, std::thread::ScopedJoinHandle<'a, Option<Line>>) {
    let module = bomb();
    let deploys = scope.spawn(move || rig.deploy(&module));
    let mut found = None;
    until("it is being compiled", Duration::from_secs(60), || {
        found = compiler(rig);
        found.is_some()
    });
    (found.unwrap(), deploys)
}

/// Whether a process is there no more, or nobody has asked yet how it ended.
fn is_gone(pid: Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).unwrap_or_default();
    stat.rsplit(')').next().unwrap().trim_start().chars().next().is_none_or(|state| state == 'Z')
}

#[test]
fn a_compiler_that_is_killed_changes_nothing() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    std::thread::scope(|scope| {
        let (pid, deploys) = deploys_slowly(&rig, scope);
        kill_process(pid, Signal::KILL).unwrap();
        let Some(Line::Failed(failed)) = deploys.join().unwrap() else { panic!("it was deployed") };
        assert!(failed.message.contains("the process that compiled the module was killed"), "{failed:?}");
    });
    assert_eq!((rig.handler().active, rig.handler().versions.len()), (Some(1), 1));
    let Some(Line::Done(done)) = rig.deploy(&ledger(2)) else { panic!("the deploy after the kill") };
    assert_eq!(done.version, 2);
}

#[test]
fn a_host_that_is_killed_leaves_no_compiler_behind() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.start();
    let pid = std::thread::scope(|scope| {
        let (pid, deploys) = deploys_slowly(&rig, scope);
        rig.signal(Signal::KILL);
        assert!(deploys.join().unwrap().is_none(), "the host is gone");
        pid
    });
    rig.dead();
    until("what compiled for it is gone", Duration::from_secs(30), || is_gone(pid));
    rig.start();
    assert_eq!(rig.handler().active, Some(1));
}

#[test]
fn what_a_host_compiles_takes_no_more_memory_than_its_configuration_says() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    rig.edit(|text| text.replace("[host]\n", "[host]\ncompile_memory = \"96MiB\"\n"));
    rig.start();
    let Some(Line::Failed(failed)) = rig.deploy(&bomb()) else { panic!("it was deployed") };
    let expected = "compiling the module took more than 96 MiB of memory";
    assert!(failed.message.contains(expected) && failed.message.contains("`[host] compile_memory`"), "{failed:?}");
    assert_eq!(rig.handler().active, Some(1));
}
