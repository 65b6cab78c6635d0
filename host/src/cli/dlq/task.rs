//! `tidegate dlq tasks`, `pause`, `resume` and `cancel`: what the host does with many dead letters, and how far it is.

use std::time::Duration;

use clap::Args;

use super::{Place, reach};
use crate::admin::wire::{CanaryView, TaskView};
use crate::cli::client::Client;
use crate::cli::direct::Reached;
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::say;
use crate::cli::table::{cut, harmless, number, rendered, table};

/// Between two looks at how far a task is: the first soon, as most tasks are over at once.
const FIRST_LOOK: Duration = Duration::from_millis(20);
const LONGEST_LOOK: Duration = Duration::from_secs(1);

/// Whether the end of a task is waited for.
#[derive(Debug, Args)]
pub(super) struct Follow {
    /// Do not wait for the end: the host goes on with it by itself
    #[arg(long, requires = "all")]
    detach: bool,
}

#[derive(Debug, Args)]
pub(super) struct List {
    /// Show this one alone
    #[arg(value_name = "TASK")]
    id: Option<String>,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct One {
    /// The task, as `dlq tasks` shows it
    #[arg(value_name = "TASK")]
    id: String,
    #[command(flatten)]
    place: Place,
}

pub(super) fn list(arguments: &List) -> Ended {
    let reached = reach(&arguments.place)?;
    if let Some(id) = &arguments.id {
        let task = reached.client.task(id)?;
        if arguments.place.json {
            say::json(&task)?
        } else {
            say::data(&whole(&task))?
        }
        return Ok(Exit::Done);
    }
    let tasks = reached.client.tasks()?.tasks;
    if arguments.place.json {
        say::json(&tasks)?;
    } else if tasks.is_empty() {
        say::talk("no tasks over dead letters");
    } else {
        say::data(&listed(&tasks))?;
    }
    Ok(Exit::Done)
}

pub(super) fn pause(arguments: &One) -> Ended {
    change(arguments, Client::pause_task)
}

pub(super) fn resume(arguments: &One) -> Ended {
    change(arguments, Client::resume_task)
}

pub(super) fn cancel(arguments: &One) -> Ended {
    change(arguments, Client::cancel_task)
}

/// Tells a task what to do, and shows how it stands then.
fn change(arguments: &One, to: impl Fn(&Client, &str) -> Result<TaskView, Failure>) -> Ended {
    let reached = reach(&arguments.place)?;
    let task = to(&reached.client, &arguments.id)?;
    if arguments.place.json {
        say::json(&task)?
    } else {
        say::data(&whole(&task))?
    }
    Ok(Exit::Done)
}

/// Waits for the end of a task and tells how far it is meanwhile.
pub(super) fn follow(reached: &Reached, begun: TaskView, follow: &Follow, json: bool) -> Ended {
    let mut task = begun;
    if follow.detach {
        if reached.is_own() {
            let why = "no host runs that would go on with it: start one, or wait for the end without --detach";
            reached.client.cancel_task(&task.id)?;
            return Err(Failure::usage(anyhow::anyhow!(why)));
        }
        if json {
            say::json(&task)?
        } else {
            say::data(&format!("{}\n", task.id))?
        }
        say::talk(
            "it goes on by itself: `tidegate dlq tasks` shows how far it is, `tidegate dlq pause` holds it, `tidegate dlq cancel` \
             ends it",
        );
        return Ok(Exit::Done);
    }
    let (mut wait, mut told) = (FIRST_LOOK, String::new());
    while !task.has_ended() {
        std::thread::sleep(wait);
        wait = (wait * 2).min(LONGEST_LOOK);
        task = reached.client.task(&task.id)?;
        let now = progress(&task);
        // What is over at once needs no progress.
        if wait == LONGEST_LOOK && now != told && !task.has_ended() {
            say::talk(&now);
            told = now;
        }
    }
    if json {
        say::json(&task)?;
    } else {
        for failure in &task.failures {
            say::talk(&format!("{}: {}", failure.id, harmless(&failure.why)));
        }
        if let Some(why) = &task.why {
            say::talk(&format!("aborted: {}", harmless(why)));
        }
        say::data(&summary(&task))?;
    }
    Ok(exit(&task))
}

fn exit(task: &TaskView) -> Exit {
    let left_some = task.failed > 0 || task.held_back > 0;
    match (task.standing.as_str(), left_some, task.done) {
        ("done", false, _) => Exit::Done,
        ("done", true, 1..) => Exit::Partly,
        ("done" | "cancelled" | "aborted", _, 0) => Exit::Failed,
        _ => Exit::Partly,
    }
}

/// What is said of those of which nobody knows what became of them.
const UNKNOWN: &str = "gone when the host came back after a kill: sent back or removed by this task or by others";

/// What is said of those that were passed over for their version.
pub(super) const PASSED_OVER: &str = "passed over: they failed in a version that still runs";

/// What the first ones of a redrive came to.
fn came_of(canary: CanaryView) -> String {
    format!("{} did well, {} failed again", canary.well, canary.badly)
}

fn word(task: &TaskView) -> &'static str {
    if task.action == "discard" { "removed" } else { "sent back" }
}

/// How a task ended, on one line.
fn summary(task: &TaskView) -> String {
    let mut text = format!("{} {}", number(task.done), word(task));
    for (count, what) in [
        (task.passed_over, PASSED_OVER),
        (task.held_back, "held back: they came back too often, and --force sends them all the same"),
        (task.failed, "could not be"),
        (task.gone, "gone before"),
        (task.unknown, UNKNOWN),
    ] {
        if count > 0 {
            text += &format!(", {} {what}", number(count));
        }
    }
    text + "\n"
}

fn progress(task: &TaskView) -> String {
    let of = task.total.map(|total| format!(" of {}", number(total))).unwrap_or_default();
    let mut text = format!("{}{of} {}", number(task.done), word(task));
    if let Some(canary) = task.canary.filter(|canary| canary.well + canary.badly < canary.sent) {
        text += &format!("; {} went first: {}", canary.sent, came_of(canary));
    }
    if let Some(why) = &task.waits_for {
        text += &format!("; waits: {}", harmless(why));
    }
    if let Some(by) = &task.paused_by {
        text += &format!("; paused by {}: `tidegate dlq resume {}` lets it go on", harmless(by), task.id);
    }
    text
}

fn listed(tasks: &[TaskView]) -> String {
    let mut rows = table(&["TASK", "ACTION", "STANDING", "DONE", "OF", "NOT DONE", "BY", "BEGUN", "WHY"]);
    for task in tasks {
        let held = task.paused_by.as_ref().map(|by| format!("paused by {by}"));
        let why = task.why.as_deref().or(task.waits_for.as_deref()).or(held.as_deref()).unwrap_or_default();
        rows.add_row(vec![
            task.id.clone(),
            task.action.clone(),
            task.standing.clone(),
            number(task.done),
            task.total.map(number).unwrap_or_default(),
            number(task.failed + task.held_back),
            cut(&task.by, 24),
            task.begun_at.clone(),
            cut(why, 60),
        ]);
    }
    rendered(&rows)
}

fn whole(task: &TaskView) -> String {
    let mut text = format!("task      {}\naction    {}\nstanding  {}\n", task.id, task.action, task.standing);
    for (label, why) in [("why", &task.why), ("waits", &task.waits_for), ("paused by", &task.paused_by)] {
        if let Some(why) = why {
            text += &format!("{label:<9} {}\n", harmless(why));
        }
    }
    if let Some(to) = &task.to {
        text += &format!("to        {}\n", harmless(to));
    }
    text += &format!("by        {}\nbegun     {}\n", harmless(&task.by), task.begun_at);
    if let Some(at) = &task.ended_at {
        text += &format!("ended     {at}\n");
    }
    let of = task.total.map(|total| format!(" of {}", number(total))).unwrap_or_default();
    text += &format!("done      {}{of}\n", number(task.done));
    text += &format!("gone      {}\nheld back {}\n", number(task.gone), number(task.held_back));
    if task.unknown > 0 {
        text += &format!("unknown   {} {UNKNOWN}\n", number(task.unknown));
    }
    if task.passed_over > 0 {
        text += &format!("version   {} {PASSED_OVER}\n", number(task.passed_over));
    }
    // Of the task itself: what was sent back and failed in its handler again is told by the canary.
    text += &format!("failed    {} could not be {}\n", number(task.failed), word(task));
    if let Some(canary) = task.canary {
        text += &format!("canary    {} went first: {}\n", canary.sent, came_of(canary));
    }
    for failure in &task.failures {
        text += &format!("failure   {} {}\n", harmless(&failure.id), harmless(&failure.why));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn task(standing: &str, done: u64, failed: u64) -> TaskView {
        TaskView {
            id: "01KB".to_owned(),
            action: "redrive".to_owned(),
            to: None,
            by: "ops".to_owned(),
            begun_at: "2026-11-29T03:01:44.871Z".to_owned(),
            ended_at: None,
            standing: standing.to_owned(),
            paused_by: None,
            why: None,
            waits_for: None,
            total: Some(1204),
            done,
            gone: 0,
            unknown: 0,
            held_back: 0,
            passed_over: 0,
            same_version: None,
            failed,
            failures: Vec::new(),
            canary: None,
        }
    }

    #[test]
    fn the_code_says_how_a_task_ended() {
        let rows = [
            ("done", 3, 0, Exit::Done),
            ("done", 0, 0, Exit::Done),
            ("done", 3, 1, Exit::Partly),
            ("done", 0, 1, Exit::Failed),
            ("aborted", 0, 0, Exit::Failed),
            ("aborted", 3, 0, Exit::Partly),
            ("cancelled", 3, 0, Exit::Partly),
        ];
        for (standing, done, failed, expected) in rows {
            assert_eq!(exit(&task(standing, done, failed)), expected, "{standing} {done} {failed}");
        }
    }

    #[test]
    fn how_far_it_is_stands_on_one_line() {
        let canary = Some(CanaryView { sent: 10, well: 3, badly: 1 });
        let waiting = TaskView { canary, waits_for: Some("the queue is full".to_owned()), ..task("running", 10, 0) };
        let expected = "10 of 1,204 sent back; 10 went first: 3 did well, 1 failed again; waits: the queue is full";
        assert_eq!(progress(&waiting), expected);
        assert_eq!(summary(&task("done", 1203, 1)), "1,203 sent back, 1 could not be\n");
        let removed = TaskView { action: "discard".to_owned(), ..task("done", 1, 0) };
        assert_eq!(summary(&removed), "1 removed\n");
        let passed = TaskView { passed_over: 2, ..task("done", 0, 0) };
        assert_eq!(summary(&passed), "0 sent back, 2 passed over: they failed in a version that still runs\n");
        assert_eq!(exit(&passed), Exit::Done, "as it was asked to");
        let killed = TaskView { unknown: 2, ..task("done", 3, 0) };
        assert!(summary(&killed).starts_with("3 sent back, 2 gone when the host came back"), "{}", summary(&killed));
        assert!(whole(&killed).contains("unknown   2 gone when"));
        let aborted = whole(&TaskView { why: Some("1 of the 2 failed again".to_owned()), ..waiting.clone() });
        assert!(aborted.contains("canary    10 went first: 3 did well, 1 failed again"), "{aborted}");
        assert!(aborted.contains("failed    0 could not be sent back"), "none failed to be sent: {aborted}");
        let held = TaskView { paused_by: Some("ops".to_owned()), ..task("paused", 3, 0) };
        assert_eq!(progress(&held), "3 of 1,204 sent back; paused by ops: `tidegate dlq resume 01KB` lets it go on");
        assert!(
            listed(std::slice::from_ref(&held)).contains("paused by ops") && whole(&held).contains("paused by ops")
        );
        assert!(listed(&[waiting]).contains("the queue is full"));
    }
}
