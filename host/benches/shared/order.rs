//! The order that the benchmarks send, and the parse of it as a native program does it: the same as the guest `order`.

use serde::Deserialize;

#[derive(Deserialize)]
struct Order<'a> {
    id: &'a str,
    customer: &'a str,
    currency: &'a str,
    lines: Vec<Line<'a>>,
    total_cents: u64,
}

#[derive(Deserialize)]
struct Line<'a> {
    sku: &'a str,
    quantity: u32,
    price_cents: u64,
}

/// An order as a shop would send it; what is missing to so many bytes is its note.
pub fn body(size: usize) -> String {
    let order = |note: &str| {
        format!(
            "{{\"id\":\"ord-2026-000017\",\"customer\":\"c-48213\",\"currency\":\"EUR\",\"lines\":[{{\"sku\":\"TEA-GRN-250\",\
             \"quantity\":2,\"price_cents\":895}},{{\"sku\":\"CUP-STONE-WHITE\",\"quantity\":4,\"price_cents\":1250}}],\
             \"total_cents\":6790,\"note\":\"{note}\"}}"
        )
    };
    order(&"x".repeat(size - order("").len()))
}

/// Whether a body is an order whose sum is right.
pub fn parse(body: &[u8]) -> bool {
    let order: Order<'_> = serde_json::from_slice(body).unwrap();
    let named = ![order.id, order.customer, order.currency].contains(&"");
    let sum: u64 = order.lines.iter().map(|line| u64::from(line.quantity) * line.price_cents).sum();
    named && order.lines.iter().all(|line| !line.sku.is_empty()) && sum == order.total_cents
}
