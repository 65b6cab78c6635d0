//! How tasks over dead letters end, as the audit log says it.

use async_trait::async_trait;

use super::Audit;
use crate::tasks::{Act, Ends, Record, Redrive, Standing};

/// The word for it. Who began the task, and who cancelled it, has an entry of their own.
const ENDED: &str = "dead-letter.task.end";

#[async_trait]
impl Ends for Audit {
    async fn ended(&self, task: &Record) {
        self.by_host(ENDED, &told(task)).await;
    }
}

/// What became of it, in a line. Why it ended itself is the host's own words, and holds no payload.
fn told(task: &Record) -> String {
    let Record { id, order, counts, standing, .. } = task;
    let standing = match standing {
        Standing::Running => "goes on".to_owned(),
        Standing::Paused { by } => format!("held by {by}"),
        Standing::Done => "done".to_owned(),
        Standing::Cancelled => "cancelled".to_owned(),
        Standing::Aborted(why) => format!("aborted, as {why}"),
    };
    let did = match &order.act {
        Act::Redrive(Redrive { to: Some(to), .. }) => format!("sent to {to}"),
        Act::Redrive(_) => "sent back".to_owned(),
        Act::Discard => "removed".to_owned(),
    };
    let counted = [
        (counts.held_back, "held back"),
        (counts.passed_over, "passed over"),
        (counts.failed, "could not be"),
        (counts.gone, "gone before"),
    ];
    let rest: String =
        counted.iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!(", {count} {what}")).collect();
    format!("{id} by {}: {} {did}{rest}; {standing}", order.by, counts.done)
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use super::*;
    use crate::broker::DeadLetterFilter;
    use crate::tasks::{Counts, Order};

    #[test]
    fn an_end_is_told_with_what_was_done() {
        let order = Order {
            act: Act::Discard,
            filter: DeadLetterFilter::default(),
            brokers: Vec::new(),
            rate: None,
            by: "ada".to_owned(),
        };
        let mut task = Record::new("01T".to_owned(), order, SystemTime::UNIX_EPOCH, Some(9));
        task.counts = Counts { done: 6, gone: 1, failed: 2, ..Counts::default() };
        task.standing = Standing::Done;
        assert_eq!(told(&task), "01T by ada: 6 removed, 2 could not be, 1 gone before; done");
        task.order.act = Act::Redrive(Redrive::default());
        task.counts = Counts { done: 6, held_back: 3, ..Counts::default() };
        task.standing = Standing::Aborted("2 of the 3 that went first failed again".to_owned());
        assert_eq!(
            told(&task),
            "01T by ada: 6 sent back, 3 held back; aborted, as 2 of the 3 that went first failed again"
        );
        task.order.act = Act::Redrive(Redrive { to: Some("orders.manual".to_owned()), ..Redrive::default() });
        task.standing = Standing::Done;
        assert_eq!(told(&task), "01T by ada: 6 sent to orders.manual, 3 held back; done");
    }
}
