//! `tidegate dlq export` and `import`: dead letters into a file, whole, and in again as they were.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow};
use clap::Args;

use super::filter::Filter;
use super::fixture;
use super::{Place, reach};
use crate::admin::wire::ImportSummary;
use crate::cli::exit::{Ended, Exit, Failure};
use crate::cli::host::HostArguments;
use crate::cli::table::number;
use crate::cli::{direct, say};

/// Bytes of lines that are sent together: a request of some thousand dead letters.
const BATCH_BYTES: usize = 4 << 20;

#[derive(Debug, Args)]
pub(super) struct Export {
    /// The file; without it, standard output. One that is there is left as it is
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// Write each as a case for `tidegate test`, into a file of its own in this folder; one that is there is left as it is
    #[arg(long, value_name = "FOLDER", conflicts_with = "output")]
    as_fixture: Option<PathBuf>,
    /// Those that were sent back too
    #[arg(long)]
    redriven: bool,
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    place: Place,
}

#[derive(Debug, Args)]
pub(super) struct Import {
    /// The file, as `dlq export` wrote it; `-` is standard input
    #[arg(value_name = "FILE")]
    file: PathBuf,
    #[command(flatten)]
    host: HostArguments,
    /// The broker that is to keep them, by its name in the configuration; needed when there are several
    #[arg(long, short, value_name = "NAME")]
    broker: Option<String>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

pub(super) fn export(arguments: &Export) -> Ended {
    let reached = reach(&arguments.place)?;
    let wanted = arguments.filter.wanted(&reached.client, arguments.place.broker.as_deref())?;
    let wanted = wanted.and("include_redriven", arguments.redriven.then_some("true"));
    if let Some(folder) = &arguments.as_fixture {
        return fixture::write(&reached.client, &wanted, folder, arguments.place.json);
    }
    let to = arguments.output.as_deref().map_or_else(|| "standard output".into(), Path::to_string_lossy);
    let mut out: Box<dyn Write> = match &arguments.output {
        Some(path) => {
            let file = File::create_new(path);
            Box::new(BufWriter::new(file.with_context(|| format!("making {}", path.display()))?))
        }
        None => Box::new(std::io::stdout().lock()),
    };
    let exported = reached.client.export_dead_letters(&wanted, |line| Ok(out.write_all(line)?));
    out.flush().with_context(|| format!("writing to {to}"))?;
    let exported = exported?;
    say::talk(&format!("{} written to {to}", number(exported)));
    if exported == 0 {
        arguments.filter.tell_what_is_unknown(&reached.client);
    }
    Ok(Exit::Done)
}

pub(super) fn import(arguments: &Import) -> Ended {
    let reached = direct::reach(&arguments.host, arguments.broker.as_deref())?;
    let broker = match &arguments.broker {
        Some(broker) => broker.clone(),
        None => only_one(reached.client.status()?.brokers.into_iter().map(|broker| broker.name).collect())?,
    };
    let name = arguments.file.display();
    let mut lines: Box<dyn BufRead> = match arguments.file.as_os_str() == "-" {
        true => Box::new(std::io::stdin().lock()),
        false => Box::new(BufReader::new(File::open(&arguments.file).with_context(|| format!("opening {name}"))?)),
    };
    let mut sum = ImportSummary::default();
    let mut batch = Vec::new();
    loop {
        let read = lines.read_until(b'\n', &mut batch).with_context(|| format!("reading {name}"))?;
        if batch.len() >= BATCH_BYTES || (read == 0 && !batch.is_empty()) {
            let stored = reached.client.import_dead_letters(&broker, &batch).map_err(|failure| Failure {
                error: failure.error.context(format!(
                    "{} were stored and {} were there before it ended; it is safe to do it again",
                    number(sum.imported),
                    number(sum.present)
                )),
                ..failure
            })?;
            sum.imported += stored.imported;
            sum.present += stored.present;
            batch.clear();
        }
        if read == 0 {
            break;
        }
    }
    if arguments.json {
        say::json(&sum)?;
    } else {
        let (imported, present) = (number(sum.imported), number(sum.present));
        say::data(&format!("{imported} brought in, {present} were there and are as they were\n"))?;
    }
    Ok(Exit::Done)
}

/// The broker that is meant when none is named.
fn only_one(brokers: Vec<String>) -> Result<String, Failure> {
    match <[String; 1]>::try_from(brokers) {
        Ok([broker]) => Ok(broker),
        Err(brokers) if brokers.is_empty() => {
            Err(Failure::usage(anyhow!("the host has no broker that could keep them")))
        }
        Err(brokers) => {
            let names = brokers.join(", ");
            Err(Failure::usage(anyhow!(
                "the host has several brokers: say with --broker which is to keep them: {names}"
            )))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::only_one;

    #[test]
    fn the_only_broker_need_not_be_named() {
        let told = |names: &[&str]| only_one(names.iter().map(|name| (*name).to_owned()).collect());
        assert_eq!(told(&["main"]).ok().as_deref(), Some("main"));
        let several = told(&["main", "other"]).map_err(|failure| failure.error.to_string());
        assert!(several.is_err_and(|error| error.contains("--broker") && error.contains("main, other")));
        assert!(told(&[]).is_err());
    }
}
