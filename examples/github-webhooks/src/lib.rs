//! Routes a feed of GitHub webhook deliveries to the teams that wait for them.
//!
//! A delivery comes in on `github.<event>` with GitHub's payload as its body. What a team waits for goes out as a short
//! notice on `routed.<team>`; a failed build goes to `routed.alerts` as well. The rest shows every other way to end:
//!
//! - a ping or a star is skipped: nobody waits for it;
//! - an event that no team has taken on is rejected: somebody should look, and redrive it once there is a team;
//! - an open pull request of which GitHub still works out whether it can be merged is retried.

mod notice;
mod team;

use tidegate_sdk::{Failure, Message, OrFail, Output, handler, info, metrics};

use notice::{Delivery, Notice};
use team::Route;

/// GitHub works out in the background whether a pull request can be merged, in a second or so. From this attempt on the
/// notice goes out without.
const MERGEABLE_PATIENCE: u32 = 3;

#[handler]
fn triage(delivery: Delivery<'_>, message: &Message) -> Result<Vec<Output>, Failure> {
    let event = message.subject().strip_prefix("github.").or_reject("not-a-github-subject")?;
    let team = match team::route(event) {
        Route::Team(team) => team,
        Route::Nobody => return Err(Failure::skip("nobody-waits").detail(event)),
        Route::Unknown => return Err(Failure::reject("unknown-event").detail(format!("no team takes `{event}`"))),
    };
    if event == "pull_request" && delivery.is_settling() && message.attempt() < MERGEABLE_PATIENCE {
        return Err(Failure::retry("mergeable-unknown").detail("GitHub still works out whether it can be merged"));
    }

    let notice = Notice::new(event, message.id(), &delivery);
    let mut outputs = vec![notice.to(team)?];
    if delivery.is_failed_build() {
        outputs.push(notice.to("alerts")?);
    }
    metrics::count("routed", 1, &[("team", team)]);
    info!(event, team, "routed");
    Ok(outputs)
}

#[cfg(test)]
mod tests;
