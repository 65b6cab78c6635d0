//! Three real nats-servers that are one cluster.

use std::time::Duration;

use super::nats::NatsServer;
use super::ports::free_port;

/// How many: the fewest that go on without one.
const SERVERS: usize = 3;

/// The servers of a cluster, each to be killed, stopped and started by itself.
pub(crate) struct NatsCluster {
    pub(crate) servers: Vec<NatsServer>,
}

impl NatsCluster {
    /// Starts the servers, and waits until they have a leader. Each has its name, `a` to `c`, as a tag too, so that a stream
    /// can be placed on it.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// The same with further lines of configuration.
    pub(crate) async fn start_with(extra: &str) -> Self {
        let ports: Vec<u16> = (0..SERVERS).map(|_| free_port()).collect();
        let routes: Vec<String> = ports.iter().map(|port| format!("\"nats://127.0.0.1:{port}\"")).collect();
        let mut servers = Vec::new();
        for (name, port) in ["a", "b", "c"].into_iter().zip(ports) {
            let cluster = format!(
                "server_tags: [\"{name}\"]\n\
                 cluster {{ name: trio, listen: \"127.0.0.1:{port}\", routes: [{}] }}\n{extra}",
                routes.join(", ")
            );
            let mut server = NatsServer::named(name, &cluster);
            server.restart().await;
            servers.push(server);
        }
        let cluster = Self { servers };
        cluster.until_led().await;
        cluster
    }

    /// The addresses of all of them.
    pub(crate) fn urls(&self) -> Vec<String> {
        self.servers.iter().map(NatsServer::url).collect()
    }

    /// Waits until a stream with three copies can be made: there is a leader, and it knows of all of them.
    async fn until_led(&self) {
        let client = self.servers[0].client().await;
        let config = format!(r#"{{"name":"READY","subjects":["ready"],"num_replicas":{SERVERS},"storage":"memory"}}"#);
        let mut pause = tokio::time::interval(Duration::from_millis(50));
        for _ in 0..600 {
            pause.tick().await;
            let Ok(made) = client.request("$JS.API.STREAM.CREATE.READY", config.clone().into()).await else { continue };
            let made: serde_json::Value = serde_json::from_slice(&made.payload).unwrap();
            if made.get("error").is_none() {
                client.request("$JS.API.STREAM.DELETE.READY", "".into()).await.unwrap();
                return;
            }
        }
        panic!("the cluster has no leader of all three");
    }
}
