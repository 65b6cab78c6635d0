//! `tidegate apply`: the changed configuration file onto the host that runs by it.

use std::time::Duration;

use anyhow::anyhow;
use clap::Args;

use super::deploy::changed;
use super::exit::{Ended, Exit, Failure};
use super::host::HostArguments;
use super::{client, say, table};
use crate::apply::report::{Applied, Changes, Step};

#[derive(Debug, Args)]
pub(super) struct Arguments {
    #[command(flatten)]
    host: HostArguments,
    /// Only show what would change
    #[arg(long, conflicts_with = "yes")]
    dry_run: bool,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Print JSON: the changes with --dry-run, else what was applied
    #[arg(long)]
    json: bool,
}

pub(super) fn apply(arguments: &Arguments) -> Ended {
    let client = client::of(&arguments.host)?;
    let changes = client.changes()?;
    if arguments.dry_run {
        if arguments.json {
            say::json(&changes)?;
        } else {
            say::data(&shown(&changes))?;
        }
        return Ok(if changes.needs_restart.is_empty() { Exit::Done } else { Exit::Refused });
    }
    // With JSON the data is what was applied; what will be is talk.
    say::talk(shown(&changes).trim_end());
    if !changes.needs_restart.is_empty() {
        return Ok(Exit::Refused);
    }
    if !changes.changes.is_empty() && !arguments.yes {
        match say::confirmed("These changes are applied to the host.", "apply") {
            Some(true) => {}
            Some(false) => {
                say::talk("nothing was changed");
                return Ok(Exit::Failed);
            }
            None => {
                let error = anyhow!("there is no terminal to ask on; confirm with --yes, or look with --dry-run");
                return Err(Failure::usage(error));
            }
        }
    }
    let applied = client.apply(&changes.digest)?;
    if arguments.json {
        say::json(&applied)?;
    } else if !changes.changes.is_empty() {
        say::data(&told(&applied))?;
    }
    Ok(if applied.troubles.is_empty() { Exit::Done } else { Exit::Partly })
}

fn shown(changes: &Changes) -> String {
    let file = &changes.file;
    let unused: String = changes.unused.iter().map(|one| format!("{}\n", table::harmless(one))).collect();
    if changes.changes.is_empty() {
        return format!("{file} changes nothing against what runs\n{unused}");
    }
    let mut text = format!("{file} changes\n");
    for change in &changes.changes {
        text += &format!("  {}\n", table::harmless(&changed(change)));
    }
    text += &steps(&changes.steps);
    text += &unused;
    if !changes.needs_restart.is_empty() {
        let keys = changes.needs_restart.join(", ");
        text += &format!(
            "a host takes these at its start only: {keys}\nnothing can be applied; restart the host, or put them back\n"
        );
    }
    text
}

fn steps(steps: &[Step]) -> String {
    steps.iter().map(|step| format!("  {}: {}\n", step.what, step.how.name())).collect()
}

fn told(applied: &Applied) -> String {
    let mut text = String::new();
    for one in &applied.deployed {
        text += &format!("{}@{} sha256:{} runs\n", one.handler, one.version, one.digest);
    }
    for trouble in &applied.troubles {
        text += &format!("does not run yet: {}\n", table::harmless(trouble));
    }
    let took = table::duration(Duration::from_secs_f64(applied.ms.max(0.0) / 1e3));
    text + &format!("applied, after {took}\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apply::report::How;
    use crate::deploy::report::Change;

    #[test]
    fn what_changes_is_shown_with_what_becomes_of_it() {
        let change = |what: &str, before: &str, after: &str| Change {
            what: what.to_owned(),
            before: before.to_owned(),
            after: after.to_owned(),
        };
        let changes = Changes {
            file: "tidegate.toml".to_owned(),
            digest: "d".to_owned(),
            changes: vec![
                change("handlers.h.limits.fuel", "5", "6"),
                change("http.listen", "127.0.0.1:1", "127.0.0.1:2"),
                change("subscriptions.new.subjects", "", "[\"a.>\"]"),
            ],
            needs_restart: vec!["http.listen".to_owned()],
            unused: Vec::new(),
            steps: vec![Step { what: "subscription new".to_owned(), how: How::Started }],
        };
        expect_test::expect![[r#"
            tidegate.toml changes
              handlers.h.limits.fuel: 5 -> 6
              http.listen: 127.0.0.1:1 -> 127.0.0.1:2
              subscriptions.new.subjects: + ["a.>"]
              subscription new: started
            a host takes these at its start only: http.listen
            nothing can be applied; restart the host, or put them back
        "#]]
        .assert_eq(&shown(&changes));
        let nothing = Changes { changes: Vec::new(), steps: Vec::new(), needs_restart: Vec::new(), ..changes };
        assert_eq!(shown(&nothing), "tidegate.toml changes nothing against what runs\n");
        let beside = Changes { unused: vec!["handler `h`: the file stays".to_owned()], ..nothing };
        assert_eq!(shown(&beside), "tidegate.toml changes nothing against what runs\nhandler `h`: the file stays\n");
    }
}
