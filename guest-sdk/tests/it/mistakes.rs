//! What people get wrong is refused by the compiler, in words that say what to write.

#[test]
fn mistakes_are_refused_with_a_helpful_message() {
    trybuild::TestCases::new().compile_fail("tests/compile_fail/*.rs");
}
