//! The host on the embedded queue, killed again and again: a handler's outputs are exactly once.

use std::time::Duration;

use super::rig::Rig;
use super::{Feed, audit, balance, kills};

#[test]
fn killed_under_load_it_loses_nothing_and_does_nothing_twice() {
    let mut rig = Rig::new("type = \"embedded\"", Duration::from_secs(30), "");
    let mut rng = fastrand::Rng::new();
    rig.start();
    let feed = Feed::start(rig.publisher(), "m");
    for _ in 0..kills() {
        feed.go_on_for_a_while(&mut rng);
        rig.kill();
        rig.start();
    }
    let published = feed.finish();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let (books, balance) =
        balance(&mut rig, published, |rig, books| runtime.block_on(audit::read_embedded(rig, books)));
    books.check_extra_runs_after_kills(&balance, kills());
    println!("embedded queue, host killed {} times: {balance:?}", kills());
}
