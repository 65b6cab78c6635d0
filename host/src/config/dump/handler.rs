//! A handler as it is dumped.

use toml::Value;

use super::{Page, duration, number, path, secret, size, text};
use crate::config::HandlerConfig;
use crate::sandbox::limits::Limits;

/// Writes a handler out.
pub(super) fn handler(page: &mut Page<'_>, name: &str, config: &HandlerConfig) {
    page.section(&["handlers", name]);
    page.line_if("module", config.module.as_deref().map(path));
    page.line_if("golden", config.golden.as_deref().map(path));
    if !config.hosts.is_empty() {
        page.line("hosts", Value::Array(config.hosts.iter().map(|host| text(&host.to_string())).collect()));
    }
    for (output, to) in &config.outputs {
        page.section(&["handlers", name, "outputs", output]);
        page.line("broker", text(&to.broker));
        page.line("subject", text(&to.subject));
    }
    granted(page, name, config);
    let Limits {
        fuel,
        timeout,
        max_run,
        memory,
        outputs,
        output_bytes,
        log_lines,
        log_bytes,
        metric_series,
        host_calls,
        payload,
        module_size,
        reuse,
    } = &config.limits;
    page.section(&["handlers", name, "limits"]);
    page.line("fuel", fuel.map_or_else(|| text("unmetered"), |units| number(units.get())));
    page.line("timeout", duration(*timeout));
    page.line("max_run", duration(*max_run));
    page.line("memory", size(*memory as u64));
    page.line("outputs", number(outputs.get().into()));
    page.line("output_bytes", size(*output_bytes as u64));
    page.line("log_lines", number((*log_lines).into()));
    page.line("log_bytes", size(*log_bytes as u64));
    page.line("metric_series", number((*metric_series).into()));
    page.line("host_calls", number((*host_calls).into()));
    page.line("payload", size(*payload as u64));
    page.line("module_size", size(*module_size as u64));
    page.section(&["handlers", name, "instances"]);
    page.line("reuse", number(reuse.get().into()));
}

fn granted(page: &mut Page<'_>, name: &str, config: &HandlerConfig) {
    if !config.config.is_empty() {
        page.section(&["handlers", name, "config"]);
        for (key, value) in &config.config {
            page.line(key, text(value));
        }
    }
    if !config.secrets.is_empty() {
        page.section(&["handlers", name, "secrets"]);
        for (key, grant) in &config.secrets {
            page.line(key, secret(&grant.source));
        }
    }
    for (bucket, to) in &config.buckets {
        page.section(&["handlers", name, "buckets", bucket]);
        page.line("broker", text(&to.broker));
        page.line("bucket", text(&to.bucket));
        page.line("access", text(to.access.name()));
    }
}
