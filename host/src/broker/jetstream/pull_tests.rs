#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use super::*;

fn message(length: usize) -> Message {
    Message {
        subject: "orders.paid".into(),
        reply: Some("$JS.ACK.O.c.1.1.1.1.0".into()),
        payload: bytes::Bytes::new(),
        headers: None,
        status: None,
        description: None,
        length,
    }
}

fn status(request: &Request, code: u16, description: &str) -> Message {
    Message {
        subject: format!("_INBOX.x.{}", request.number).into(),
        reply: None,
        payload: bytes::Bytes::new(),
        headers: None,
        status: Some(StatusCode::from_u16(code).unwrap()),
        description: Some(description.to_owned()),
        length: 0,
    }
}

fn demand(messages: usize, bytes: usize) -> Demand {
    Demand { messages, bytes }
}

#[test]
fn never_more_is_asked_for_than_can_be_taken() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    let first = pulls.next_request(demand(100, 1 << 20), now).unwrap();
    assert_eq!((first.slot, first.batch, first.max_bytes), (0, 100, 1 << 19));
    assert_eq!(pulls.next_request(demand(100, 1 << 20), now), None, "all of it is outstanding");
    for _ in 0..70 {
        pulls.take_in(0, message(100), now);
    }
    assert_eq!(pulls.hand_out(demand(50, 1 << 20)).len(), 50);
    // 30 outstanding, 20 waiting: half of what is wanted is expected, so the next pull is sent for the rest.
    assert_eq!(pulls.next_request(demand(100, 1 << 20), now), None);
    let second = pulls.next_request(demand(120, 1 << 20), now).unwrap();
    assert_eq!((second.slot, second.batch), (1, 70));
    assert_eq!(pulls.next_request(demand(10_000, 1 << 20), now), None, "two pulls are out");
}

#[test]
fn what_is_put_back_comes_again_first_and_in_its_order() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    let request = pulls.next_request(demand(100, 1 << 20), now).unwrap();
    for length in [1, 2, 3, 4] {
        pulls.take_in(request.slot, message(length), now);
    }
    let lengths = |out: &[Arrived]| out.iter().map(|arrived| arrived.message.length).collect::<Vec<_>>();
    let out = pulls.hand_out(demand(3, 1 << 20));
    assert_eq!((lengths(&out), out[0].position.map(|position| position.sequence)), (vec![1, 2, 3], Some(1)));
    pulls.put_back(out);
    assert_eq!(pulls.waiting_bytes, 10);
    assert_eq!(lengths(&pulls.hand_out(demand(9, 1 << 20))), [1, 2, 3, 4]);
    assert_eq!(pulls.waiting_bytes, 0);
}

#[test]
fn limits_of_the_consumer_are_kept() {
    let limits = PullLimits { max_batch: 10, max_bytes: 1000, max_expires: Duration::from_secs(2) };
    let mut pulls = Pulls::new(limits);
    let request = pulls.next_request(demand(100, 1 << 20), Instant::now()).unwrap();
    assert_eq!((request.batch, request.max_bytes, request.expires), (10, 1000, Duration::from_secs(2)));
    assert!(request.heartbeat * 2 <= request.expires);
}

#[test]
fn bytes_bound_what_is_handed_out_but_for_a_single_message() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    for length in [500, 300, 300, 50] {
        pulls.take_in(0, message(length), now);
    }
    let counts: Vec<usize> = (0..4).map(|_| pulls.hand_out(demand(10, 400)).len()).collect();
    assert_eq!(counts, [1, 1, 2, 0]);
}

#[test]
fn a_message_that_is_too_large_is_asked_for_alone() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    let request = pulls.next_request(demand(10, 100), now).unwrap();
    pulls.take_in(0, status(&request, 409, "Message Size Exceeds MaxBytes"), now);
    let alone = pulls.next_request(demand(10, 100), now).unwrap();
    assert_eq!((alone.batch, alone.max_bytes), (1, 0));
    pulls.take_in(alone.slot, message(5000), now);
    assert_eq!(pulls.hand_out(demand(10, 100)).len(), 1);
    let next = pulls.next_request(demand(10, 100), now).unwrap();
    assert_eq!((next.batch, next.max_bytes), (10, 50), "then as before");
}

#[test]
fn bytes_that_are_used_up_are_no_large_message() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    let request = pulls.next_request(demand(10, 1000), now).unwrap();
    pulls.take_in(0, message(400), now);
    pulls.take_in(0, status(&request, 409, "Message Size Exceeds MaxBytes"), now);
    assert_eq!(pulls.hand_out(demand(10, 1000)).len(), 1);
    assert_eq!(pulls.next_request(demand(9, 600), now).unwrap().batch, 9);
}

#[test]
fn silence_is_noticed_and_heartbeats_are_heard() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    let request = pulls.next_request(demand(10, 100), now).unwrap();
    assert_eq!(pulls.give_up_silent(now + HEARTBEAT), 0);
    pulls.take_in(0, status(&request, 100, "Idle Heartbeat"), now + HEARTBEAT);
    assert_eq!(pulls.give_up_silent(now + HEARTBEAT * 2), 0, "the heartbeat counts");
    assert_eq!(pulls.give_up_silent(now + HEARTBEAT * 3), 1);
    assert!(pulls.next_request(demand(10, 100), now + HEARTBEAT * 3).is_some());
}

#[test]
fn a_status_of_a_pull_that_was_given_up_is_ignored() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    let old = pulls.next_request(demand(10, 100), now).unwrap();
    assert_eq!(pulls.give_up_silent(now + EXPIRES * 2), 1);
    let new = pulls.next_request(demand(10, 100), now).unwrap();
    pulls.take_in(0, status(&old, 409, "Consumer Deleted"), now);
    assert_eq!(pulls.take_trouble(), None);
    pulls.take_in(0, status(&new, 409, "Consumer Deleted"), now);
    assert!(matches!(pulls.take_trouble(), Some(Trouble::Gone(_))));
}

#[test]
fn every_status_has_its_meaning() {
    let rows = [
        (100, "Idle Heartbeat", Meaning::Alive),
        (404, "No Messages", Meaning::Ended),
        (408, "Request Timeout", Meaning::Ended),
        (409, "Batch Completed", Meaning::Ended),
        (409, "Message Size Exceeds MaxBytes", Meaning::Oversize),
        (503, "", Meaning::Trouble(Trouble::NoResponders)),
    ];
    for (code, description, expected) in rows {
        assert_eq!(meaning(StatusCode::from_u16(code).unwrap(), description), expected, "{code} {description}");
    }
    for (code, description) in [(409, "Exceeded MaxWaiting"), (409, "Server Shutdown"), (400, "Bad Request"), (599, "")]
    {
        let found = meaning(StatusCode::from_u16(code).unwrap(), description);
        assert!(matches!(found, Meaning::Trouble(Trouble::Away(_))), "{code} {description}: {found:?}");
    }
}

#[test]
fn what_is_owed_ends_with_the_last_pull_that_is_outstanding() {
    let now = Instant::now();
    let mut pulls = Pulls::new(PullLimits::default());
    assert_eq!(pulls.owed_for(now), Duration::ZERO);
    let first = pulls.next_request(demand(1, 100), now).unwrap();
    assert_eq!(pulls.owed_for(now), EXPIRES + LATE);
    assert_eq!(pulls.owed_for(now + EXPIRES * 2), Duration::ZERO);
    pulls.next_request(demand(10, 1000), now + HEARTBEAT).unwrap();
    assert_eq!(pulls.owed_for(now + HEARTBEAT), EXPIRES + LATE);
    pulls.take_in(1, status(&first, 408, "Request Timeout"), now);
    assert_eq!(pulls.owed_for(now + HEARTBEAT), EXPIRES + LATE, "a status of another pull ends none");
}

#[test]
fn a_word_that_a_pull_is_over_does_not_end_it_before_what_it_overtook() {
    // The story: a consumer with three copies told that a batch was complete before its first message was here, and the
    // host asked for as much again, beyond what it could take.
    let now = Instant::now();
    let over = |request: &Request, description: &str, unsent: &str| {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Nats-Pending-Messages", unsent);
        headers.insert("Nats-Pending-Bytes", "50");
        Message { headers: Some(headers), ..status(request, 409, description) }
    };
    for (description, unsent, rest) in [("Batch Completed", "0", 10), ("Message Size Exceeds MaxBytes", "7", 3)] {
        let mut pulls = Pulls::new(PullLimits::default());
        let request = pulls.next_request(demand(10, 200), now).unwrap();
        pulls.take_in(0, over(&request, description, unsent), now);
        assert!(pulls.are_outstanding() && !pulls.ended_empty, "{description}");
        assert_eq!(
            pulls.next_request(demand(rest, 200), now),
            None,
            "{description}: as much as can be taken is on its way"
        );
        (0..rest).for_each(|_| pulls.take_in(0, message(5), now));
        assert!(!pulls.are_outstanding(), "{description}: all of it is here");
        assert_eq!(pulls.hand_out(demand(10, 200)).len(), rest);
        let next = pulls.next_request(demand(10, 200), now).unwrap();
        assert_eq!(next.batch, 10, "{description}: the message behind it fits, or is asked for anew");
    }
    // One whose rest never comes is given up.
    let mut pulls = Pulls::new(PullLimits::default());
    let request = pulls.next_request(demand(10, 200), now).unwrap();
    pulls.take_in(0, over(&request, "Batch Completed", "0"), now);
    assert_eq!((pulls.give_up_silent(now), pulls.give_up_silent(now + REST_WITHIN)), (0, 1));
    // And one that was sent nothing is over at once.
    let request = pulls.next_request(demand(10, 200), now).unwrap();
    pulls.take_in(0, over(&request, "Message Size Exceeds MaxBytes", "10"), now);
    assert_eq!(pulls.next_request(demand(10, 200), now).unwrap().batch, 1, "a large one is asked for alone");
}
