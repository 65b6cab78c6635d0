//! What a session works with: the handler of a project, its configuration, and the same made fit for a host that a
//! person tries things on.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};

use anyhow::anyhow;

use crate::broker::embedded::Options;
use crate::cli::build::Project;
use crate::cli::exit::Failure;
use crate::cli::new::sample;
use crate::config::{BrokerConfig, Config, HandlerConfig};
use crate::signature::Policy;

/// The folder of a session's data, in the data directory of the project.
const FOLDER: &str = "dev";
/// The word in the place of a wildcard, in the subject of a sample.
const ANY: &str = "new";

/// The handler of a project, and its configuration.
#[derive(Debug, Clone)]
pub(super) struct Setting {
    pub(super) config: Config,
    pub(super) handler: String,
}

/// A message to publish.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) file: PathBuf,
    pub(super) subject: String,
    pub(super) broker: String,
}

impl Setting {
    /// Reads the configuration, and finds the handler: the one that is named, the only one, or the one whose module lies
    /// in the project's folder.
    pub(super) fn read(path: &Path, project: &Project, named: Option<&str>) -> Result<Self, Failure> {
        let config = Config::load(path).map_err(Failure::usage)?;
        let all: Vec<&str> = config.handlers.keys().map(String::as_str).collect();
        let file = path.display();
        let handler = match (named, all.as_slice()) {
            (Some(name), _) if config.handlers.contains_key(name) => name.to_owned(),
            (Some(name), _) => {
                let all = all.join(", ");
                return Err(Failure::not_found(anyhow!("{file} has no handler `{name}`; there is: {all}")));
            }
            (None, []) => return Err(Failure::usage(anyhow!("{file} has no handler"))),
            (None, [only]) => (*only).to_owned(),
            (None, _) => in_folder(&config, project.folder()).ok_or_else(|| {
                Failure::usage(anyhow!("{file} has several handlers: say with --handler which: {}", all.join(", ")))
            })?,
        };
        let setting = Self { config, handler };
        if setting.subscriptions().next().is_none() {
            let broker = setting.config.brokers.keys().next().map_or("local", String::as_str);
            return Err(Failure::usage(anyhow!(
                "{file} has no subscription for handler `{0}`, so it would get no messages; add:\n\n\
                 [subscriptions.{0}]\nbroker = \"{broker}\"\nsubjects = [\"{0}.>\"]\nhandler = \"{0}\"",
                setting.handler
            )));
        }
        Ok(setting)
    }

    /// The settings of the handler.
    pub(super) fn handler_config(&self) -> Option<&HandlerConfig> {
        self.config.handlers.get(&self.handler)
    }

    /// The broker and the subjects of each of its subscriptions.
    pub(super) fn subscriptions(&self) -> impl Iterator<Item = (&str, &[String])> {
        let ours = self.config.subscriptions.values().filter(|subscription| subscription.handler == self.handler);
        ours.map(|subscription| (subscription.broker.as_str(), subscription.spec.subjects.as_slice()))
    }

    /// The message to publish: a file that is named or that `tidegate new` made, on a subject that is named or that the
    /// handler gets.
    pub(super) fn sample(&self, project: &Project, file: Option<&Path>, subject: Option<&str>) -> Option<Sample> {
        let file = file.map_or_else(|| project.folder().join(sample(project.language())), Path::to_owned);
        let (broker, subjects) = self.subscriptions().next()?;
        let subject = subject.map(str::to_owned).or_else(|| subjects.first().map(|filter| concrete(filter)))?;
        file.is_file().then(|| Sample { file, subject, broker: broker.to_owned() })
    }

    /// Where the data of a session is.
    pub(super) fn data(&self) -> PathBuf {
        self.config.host.data_dir.join(FOLDER)
    }

    /// The configuration of a host for this handler alone, that reaches nobody else's messages: its brokers are embedded
    /// queues in the session's own folder, whatever they are in the project's, and it listens on loopback without asking
    /// for tokens. The module comes by a deploy, signed by nobody.
    pub(super) fn own(&self) -> Config {
        let mut own = self.config.clone();
        let data = self.data();
        own.handlers.retain(|name, _| *name == self.handler);
        for handler in own.handlers.values_mut() {
            handler.module = None;
        }
        own.subscriptions.retain(|_, subscription| subscription.handler == self.handler);
        // Whoever works on a handler that fails wants to see it fail.
        own.subscriptions.values_mut().for_each(|subscription| subscription.circuit = None);
        for (name, broker) in &mut own.brokers {
            let path = data.join(name);
            *broker = BrokerConfig::Embedded(match broker {
                BrokerConfig::Embedded(options) => Options { path, ..options.clone() },
                BrokerConfig::JetStream(_) => Options::new(path),
            });
        }
        own.registry.dir = data.join("registry");
        own.host.data_dir = data;
        own.http.tokens.clear();
        if let Some(tls) = &mut own.http.tls {
            tls.client_ca = None;
        }
        own.signatures = Policy::default();
        if !own.http.listen.ip().is_loopback() {
            own.http.listen.set_ip(Ipv4Addr::LOCALHOST.into());
        }
        own
    }
}

/// The one handler whose module lies in a folder.
fn in_folder(config: &Config, folder: &Path) -> Option<String> {
    let full = |path: &Path| std::path::absolute(path).unwrap_or_default();
    let folder = full(folder);
    let inside =
        |handler: &HandlerConfig| handler.module.as_deref().is_some_and(|path| full(path).starts_with(&folder));
    let mut found = config.handlers.iter().filter(|(_, handler)| inside(handler));
    let (name, _) = found.next()?;
    found.next().is_none().then(|| name.clone())
}

/// A subject that a filter lets through.
fn concrete(filter: &str) -> String {
    let word = |token| if matches!(token, "*" | ">") { ANY } else { token };
    filter.split('.').map(word).collect::<Vec<_>>().join(".")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const TEXT: &str = r#"
        [http]
        listen = "0.0.0.0:7171"
        insecure_plaintext = true
        [http.tokens.ops]
        hash = "sha256:0000000000000000000000000000000000000000000000000000000000000000"
        role = "operate"
        [brokers.nats]
        type = "jetstream"
        servers = ["nats://far.example:4222"]
        [brokers.local]
        type = "embedded"
        max_messages = 7
        [handlers.mine]
        module = "handler.wasm"
        outputs.invoices = { broker = "nats", subject = "invoices" }
        [handlers.other]
        module = "elsewhere/other.wasm"
        [subscriptions.orders]
        broker = "nats"
        subjects = ["orders.*.new.>"]
        handler = "mine"
        [subscriptions.others]
        broker = "nats"
        subjects = ["others"]
        handler = "other"
    "#;

    fn project() -> (tempfile::TempDir, Project) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("Makefile"), "").unwrap();
        std::fs::write(folder.path().join("tidegate.toml"), TEXT).unwrap();
        let project = Project::find(folder.path(), None).unwrap();
        (folder, project)
    }

    fn read(project: &Project, named: Option<&str>) -> Result<Setting, String> {
        let path = project.folder().join("tidegate.toml");
        Setting::read(&path, project, named).map_err(|failure| failure.error.to_string())
    }

    #[test]
    fn a_session_reaches_nobody_elses_messages() {
        let (_folder, project) = project();
        let own = read(&project, Some("mine")).unwrap().own();
        assert_eq!(own.handlers.keys().collect::<Vec<_>>(), ["mine"]);
        assert_eq!(own.subscriptions.keys().collect::<Vec<_>>(), ["orders"]);
        assert!(own.subscriptions.values().all(|subscription| subscription.circuit.is_none()));
        assert!(own.handlers.values().all(|handler| handler.module.is_none()));
        let data = project.folder().join("tidegate-data/dev");
        for (name, broker) in &own.brokers {
            let BrokerConfig::Embedded(options) = broker else { unreachable!("{name} is somebody else's") };
            assert_eq!(options.path, data.join(name));
            assert_eq!(options.max_messages == 7, name == "local", "limits stay");
        }
        assert_eq!((own.host.data_dir, own.registry.dir), (data.clone(), data.join("registry")));
        assert!(own.http.tokens.is_empty() && own.http.listen == "127.0.0.1:7171".parse().unwrap());
    }

    #[test]
    fn the_handler_is_named_or_the_only_one_that_it_can_be() {
        let (folder, project) = project();
        assert!(read(&project, None).unwrap_err().contains("say with --handler which: mine, other"));
        assert!(read(&project, Some("mien")).unwrap_err().contains("there is: mine, other"));
        let text = TEXT.replace("elsewhere/other.wasm", "/elsewhere/other.wasm");
        std::fs::write(folder.path().join("tidegate.toml"), &text).unwrap();
        assert_eq!(read(&project, None).unwrap().handler, "mine");
        std::fs::write(folder.path().join("tidegate.toml"), text.replace("handler = \"mine\"", "handler = \"other\""))
            .unwrap();
        let error = read(&project, None).unwrap_err();
        assert!(error.contains("[subscriptions.mine]\nbroker = \"local\"\nsubjects = [\"mine.>\"]"), "{error}");
    }

    #[test]
    fn a_sample_goes_where_the_handler_gets_it() {
        let (folder, project) = project();
        let setting = read(&project, Some("mine")).unwrap();
        assert_eq!(setting.sample(&project, None, None), None, "there is no such file");
        let file = folder.path().join("order.txt");
        std::fs::write(&file, "7").unwrap();
        let sample = setting.sample(&project, None, None).unwrap();
        assert_eq!(
            (sample.file, sample.subject.as_str(), sample.broker.as_str()),
            (file, "orders.new.new.new", "nats")
        );
        assert_eq!(setting.sample(&project, None, Some("a.b")).unwrap().subject, "a.b");
    }
}
