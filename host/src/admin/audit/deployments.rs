//! What the host does to handlers by itself, as the audit log says it.

use async_trait::async_trait;

use super::Audit;
use crate::deploy::{OnRecord, Own, OwnAct};

#[async_trait]
impl OnRecord for Audit {
    async fn did(&self, acts: &[OwnAct]) {
        let lines: Vec<_> = acts.iter().map(|act| (word(act.what), told(act))).collect();
        self.all_by_host(&lines).await;
    }
}

/// The word for it: a person's, where a person can do the same.
const fn word(what: Own) -> &'static str {
    match what {
        Own::Deployed => "handler.deploy",
        Own::Promoted => "handler.promote",
        Own::Aborted => "handler.abort",
        Own::Ended => "handler.shadow.end",
    }
}

fn told(act: &OwnAct) -> String {
    let OwnAct { what: _, handler, version, why } = act;
    format!("{handler}@{version}: {why}")
}
