//! The console of a host that is not alone.

use super::*;
use crate::chaos::on_jetstream;
use crate::support::nats::NatsServer;

#[test]
fn a_subscription_is_paused_and_resumed_on_all_hosts() {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let server = runtime.block_on(NatsServer::start());
    let hash = TokenHash::of("tidegate_operator");
    let [a, b] = ["a", "b"].map(|name| {
        let more = format!(
            "create = true\n[cluster]\nbroker = \"queue\"\nhost = \"{name}\"\n\
             [http.tokens.operator]\nhash = \"{hash}\"\nrole = \"operate\"\n"
        );
        let mut host = Rig::new(&on_jetstream(&server), Duration::from_secs(30), &more);
        host.start();
        host
    });
    let pause = |host: &Rig| {
        let status = ureq::get(&host.url("/v1/status")).header("authorization", "Bearer tidegate_operator").call();
        let status: serde_json::Value = status.unwrap().body_mut().read_json().unwrap();
        status["subscriptions"][0]["pause"].clone()
    };
    let browser = signed_in(&a, "operator");
    browser.run("location.hash = '#/subscriptions/ledger'");
    browser.sees("What it is");
    browser.press("Pause\u{2026}");
    browser.sees("Hosts (this one is a)");
    browser.choose("dialog select[aria-label='On which hosts']", "all");
    browser.picture("pause-on-all-hosts");
    browser.run("document.querySelector('dialog button[type=submit]').click()");
    browser.sees("Paused on all hosts by operator on a");
    until("the other one holds it", Duration::from_secs(60), || pause(&b)["hosts"] == "all");
    browser.press("Resume");
    until("none is paused any more", Duration::from_secs(60), || pause(&a).is_null() && pause(&b).is_null());
    assert_eq!(browser.complaints(), [] as [String; 0]);
}
