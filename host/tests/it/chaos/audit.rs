//! Reads what stands in a broker at the end, through the broker's own port.

use std::time::Duration;

use tidegate::broker::{Broker, DeadLetterQuery, Demand, Settle, Settlement, SubscriptionSpec};

use super::books::Books;

/// Takes every output and lists every dead letter.
pub async fn read(broker: &dyn Broker, stream: Option<&str>, books: &mut Books) {
    let source = broker
        .subscribe(&SubscriptionSpec {
            name: "audit".into(),
            stream: stream.map(str::to_owned),
            subjects: vec!["out.>".into()],
            ack_wait: Duration::from_secs(60),
            max_in_flight: 1000,
            create: true,
        })
        .await
        .unwrap();
    loop {
        let deliveries = source.receive(Demand { messages: 500, bytes: 64 << 20 }).await.unwrap();
        if deliveries.is_empty() {
            break;
        }
        let mut group = Vec::new();
        for delivery in deliveries {
            let body = String::from_utf8(delivery.message.body.to_vec()).unwrap();
            let marker = |name: &str| delivery.message.headers.text(name).unwrap_or_default().to_owned();
            books.made_by.insert(body.clone(), (marker("Ledger-First"), marker("Ledger-Last")));
            *books.outputs.entry(body).or_default() += 1;
            group.push(Settle {
                receipt: delivery.receipt,
                settlement: Settlement::Ack { outputs: Vec::new() },
                lease_ends_at: delivery.lease_ends_at,
            });
        }
        for result in source.settle(group).await {
            result.unwrap();
        }
    }
    let letters = broker.dead_letters();
    let mut query = DeadLetterQuery { limit: 500, ..DeadLetterQuery::default() };
    loop {
        let page = letters.list(&query).await.unwrap();
        for stored in page.letters {
            *books.dead.entry(stored.letter.record.message_id).or_default() += 1;
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => break,
        }
    }
}
