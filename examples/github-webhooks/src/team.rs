//! Who waits for which event.

/// What becomes of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    /// This team waits for it.
    Team(&'static str),
    /// Known, and nobody waits for it.
    Nobody,
    /// No team has taken it on.
    Unknown,
}

pub(crate) fn route(event: &str) -> Route {
    match event {
        "branch_protection_rule"
        | "commit_comment"
        | "create"
        | "delete"
        | "pull_request"
        | "pull_request_review"
        | "pull_request_review_comment"
        | "pull_request_review_thread"
        | "push" => Route::Team("code"),

        "discussion" | "discussion_comment" | "issue_comment" | "issues" | "label" | "milestone" => {
            Route::Team("planning")
        }

        "check_run" | "check_suite" | "deployment" | "deployment_review" | "deployment_status" | "package"
        | "page_build" | "release" | "status" | "workflow_job" | "workflow_run" => Route::Team("builds"),

        "code_scanning_alert"
        | "dependabot_alert"
        | "deploy_key"
        | "repository_vulnerability_alert"
        | "security_advisory" => Route::Team("security"),

        "github_app_authorization"
        | "installation"
        | "installation_repositories"
        | "member"
        | "membership"
        | "org_block"
        | "organization"
        | "public"
        | "repository"
        | "team"
        | "team_add" => Route::Team("access"),

        "fork" | "ping" | "star" | "watch" => Route::Nobody,

        _ => Route::Unknown,
    }
}
