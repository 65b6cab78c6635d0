//! The smallest handler: a typed payload in, a greeting out.

use serde::Deserialize;
use tidegate_sdk::{Output, handler, info};

#[derive(Deserialize)]
struct Visitor {
    name: String,
}

#[handler]
fn hello(visitor: Visitor) -> Output {
    info!(name = visitor.name, "somebody came");
    Output::to("greetings").text(format!("Hello, {}!", visitor.name))
}

#[cfg(test)]
mod tests {
    use tidegate_sdk::testing::TestMessage;

    use super::hello;

    #[test]
    fn a_visitor_is_greeted_by_name() {
        let ran = TestMessage::text(r#"{"name":"Ada"}"#).run::<hello>();
        assert_eq!(ran.output().text(), "Hello, Ada!");
        assert_eq!(ran.log_lines(), ["info somebody came name=Ada"]);
    }

    #[test]
    fn a_nameless_visitor_is_rejected() {
        let ran = TestMessage::text("{}").run::<hello>();
        assert_eq!(ran.rejected("invalid-payload"), "missing field `name` at line 1 column 2");
    }
}
