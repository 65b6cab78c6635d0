//! Sees every output that is published on a NATS server, those too that the stream has already and drops.

use std::collections::BTreeMap;

use futures_util::StreamExt as _;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::nats::NatsServer;

/// Listens on `out.>` beside the stream. While the server is away it hears nothing.
pub(super) struct Witness {
    enough: oneshot::Sender<()>,
    listening: JoinHandle<BTreeMap<String, Vec<String>>>,
}

impl Witness {
    /// Listens from now on.
    pub(super) fn of(server: &NatsServer, runtime: &Runtime) -> Self {
        let (enough, mut is_enough) = oneshot::channel();
        let mut outputs = runtime.block_on(async {
            let client = server.client().await;
            let outputs = client.subscribe("out.>").await.unwrap();
            there_and_back(&client).await;
            (client, outputs)
        });
        let listening = runtime.spawn(async move {
            let mut seen = BTreeMap::<String, Vec<String>>::new();
            let mut is_over = false;
            while !is_over {
                tokio::select! {
                    biased;
                    Some(message) = outputs.1.next() => {
                        let body = String::from_utf8(message.payload.to_vec()).unwrap();
                        let id = message.headers.as_ref().and_then(|headers| headers.get("Nats-Msg-Id"));
                        seen.entry(body).or_default().push(id.expect("an output has an id").to_string());
                    }
                    over = &mut is_enough => {
                        over.unwrap();
                        is_over = true;
                    }
                }
            }
            seen
        });
        Self { enough, listening }
    }

    /// The ids that each output was published under, by its body; when no more come.
    pub(super) fn seen(self, runtime: &Runtime) -> BTreeMap<String, Vec<String>> {
        self.enough.send(()).unwrap();
        runtime.block_on(self.listening).unwrap()
    }
}

/// What the server was told before on this connection it has heard by then.
async fn there_and_back(client: &async_nats::Client) {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await.unwrap();
    client.publish(inbox, "".into()).await.unwrap();
    echo.next().await.unwrap();
}
