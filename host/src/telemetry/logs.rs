//! The log: on standard error, as text for people or as one JSON object a line for programs.

use std::io::IsTerminal;

use tracing::field::display;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::{LogConfig, LogFormat, LogThreshold};
use crate::handler::{LogLevel, LogLine};
use crate::telemetry::trace::TraceId;

/// The log was set up already in this process.
#[derive(Debug, thiserror::Error)]
#[error("the log is set up already")]
pub struct AlreadySetUp;

/// Sets the log of this process up. Colours are used on a terminal, unless `NO_COLOR` is set.
///
/// # Errors
/// When it was set up before.
pub fn set_up(config: LogConfig) -> Result<(), AlreadySetUp> {
    let layer = match config.format {
        LogFormat::Text => fmt::layer().with_ansi(has_colours()).with_writer(std::io::stderr).boxed(),
        LogFormat::Json => {
            fmt::layer().json().flatten_event(true).with_current_span(false).with_writer(std::io::stderr).boxed()
        }
    };
    tracing_subscriber::registry().with(layer.with_filter(filter(config.level))).try_init().map_err(|_| AlreadySetUp)
}

/// Sets the log of this process up for a person who sees what happens otherwise: what went wrong, and nothing that a
/// handler logged or a deploy came to.
///
/// # Errors
/// When it was set up before.
pub fn set_up_quietly() -> Result<(), AlreadySetUp> {
    let filter = filter(LogThreshold::Warn)
        .with_target("handler", LevelFilter::OFF)
        .with_target("tidegate::deploy", LevelFilter::ERROR);
    let layer = fmt::layer().with_ansi(has_colours()).with_writer(std::io::stderr);
    tracing_subscriber::registry().with(layer.with_filter(filter)).try_init().map_err(|_| AlreadySetUp)
}

fn has_colours() -> bool {
    std::io::stderr().is_terminal() && std::env::var_os("NO_COLOR").is_none()
}

/// Our own lines from the level on; of what we depend on only what went wrong, unless everything is asked for.
fn filter(level: LogThreshold) -> Targets {
    let ours = match level {
        LogThreshold::Error => LevelFilter::ERROR,
        LogThreshold::Warn => LevelFilter::WARN,
        LogThreshold::Info => LevelFilter::INFO,
        LogThreshold::Debug => LevelFilter::DEBUG,
        LogThreshold::Trace => LevelFilter::TRACE,
    };
    let theirs = if level == LogThreshold::Trace { LevelFilter::TRACE } else { ours.min(LevelFilter::WARN) };
    Targets::new().with_default(theirs).with_target("tidegate", ours).with_target("handler", ours)
}

/// Passes on what a handler logged, at its own level, under the target `handler`.
pub fn pass_on(handler: &str, subscription: &str, message_id: &str, trace: Option<TraceId>, lines: &[LogLine]) {
    for line in lines {
        let LogLine { level, text, fields, at, span: _in_traces } = line;
        let at_ms = u64::try_from(at.as_millis()).unwrap_or(u64::MAX);
        let (text, fields, trace_id) = (one_line(text), shown(fields), trace.map(display));
        // The level of an event is part of its static description, so each has a line of its own.
        macro_rules! event {
            ($macro:ident) => {
                tracing::$macro!(target: "handler", handler, subscription, message_id, trace_id, at_ms, %fields, "{text}")
            };
        }
        match level {
            LogLevel::Trace => event!(trace),
            LogLevel::Debug => event!(debug),
            LogLevel::Info => event!(info),
            LogLevel::Warn => event!(warn),
            LogLevel::Error => event!(error),
        }
    }
}

/// The text with its control characters spelled out, so that a guest cannot forge a line or colour the terminal.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { c.escape_default().to_string() } else { c.to_string() }).collect()
}

/// `name=value` pairs, quoted so that a guest cannot forge a line.
fn shown(fields: &[(String, String)]) -> String {
    fields.iter().map(|(name, value)| format!("{}={value:?}", name.escape_debug())).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use tracing::Level;

    #[test]
    fn dependencies_are_quieter_than_we_are() {
        let info = filter(LogThreshold::Info);
        assert!(info.would_enable("tidegate::settle", &Level::INFO));
        assert!(!info.would_enable("tidegate::settle", &Level::DEBUG));
        assert!(info.would_enable("handler", &Level::INFO));
        assert!(!info.would_enable("async_nats", &Level::INFO));
        assert!(info.would_enable("async_nats", &Level::WARN));
        assert!(!filter(LogThreshold::Error).would_enable("async_nats", &Level::WARN));
        assert!(filter(LogThreshold::Trace).would_enable("async_nats", &Level::TRACE));
    }

    #[test]
    fn a_guest_cannot_forge_a_line() {
        assert_eq!(one_line("a\nINFO \u{1b}[31mß"), "a\\nINFO \\u{1b}[31mß");
        let fields = [("a\nb".to_owned(), "x\ny".to_owned())];
        assert_eq!(shown(&fields), "a\\nb=\"x\\ny\"");
    }
}
