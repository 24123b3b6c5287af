//! What the README shows is what the crate has.

const README: &str = include_str!("../../../README.md");
const FIRST: &str = include_str!("../../../examples/first.rs");

#[test]
fn the_first_lines_are_those_of_the_example() {
    let (_, sample) = README.split_once("```rust\n").expect("there is a sample");
    let (sample, _) = sample.split_once("```").expect("it ends");
    let (_, body) = sample.split_once("fn main").expect("it is a program");
    let mut lines = FIRST.lines().map(str::trim);
    for line in body.lines().skip(1).map(str::trim) {
        assert!(
            lines.any(|candidate| candidate == line),
            "not in examples/first.rs: {line}"
        );
    }
}
