#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use expect_test::expect_file;

use super::*;

/// The whole of what `--help` says, of every verb: a change of the command line shows here.
#[test]
fn the_help_says_what_it_should() {
    let mut text = String::new();
    describe(command().bin_name("tidegate"), &mut text);
    expect_file!["help.txt"].assert_eq(&text);
}

fn describe(mut command: clap::Command, text: &mut String) {
    command.build();
    let name = command.get_bin_name().unwrap_or_default().to_owned();
    *text += &format!("$ {name} --help\n{}\n", command.render_long_help());
    let verbs: Vec<clap::Command> =
        command.get_subcommands().filter(|verb| verb.get_name() != "help").cloned().collect();
    for verb in verbs {
        let full = format!("{name} {}", verb.get_name());
        describe(verb.bin_name(full), text);
    }
}

#[test]
fn the_definition_holds_together() {
    command().debug_assert();
}

#[test]
fn an_error_is_shown_once_with_its_causes() {
    let cause = std::io::Error::other("the disk is on fire");
    let error = anyhow::Error::from(cause).context("opening a.json");
    assert_eq!(shown(&error), "error: opening a.json: the disk is on fire");
    assert_eq!(shown(&anyhow::anyhow!("error: it has its own form\n --> a.toml:1:1")).matches("error:").count(), 1);
}

#[test]
fn a_reader_that_has_gone_is_no_failure() {
    let gone = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
    assert!(is_broken_pipe(&anyhow::Error::from(gone).context("writing to standard output")));
    assert!(!is_broken_pipe(&anyhow::anyhow!("something else")));
}
