//! What the host tells the process that compiles, and what it hears: a line of JSON, and bytes. Both ends are of one build, so
//! nothing here has versions.

use std::io::{self, BufRead, Error, Write};

use serde::{Deserialize, Serialize};

use crate::sandbox::engine::EngineKind;
use crate::sandbox::error::LoadError;
use crate::sandbox::module::Form;

/// What is to be compiled. The module's bytes follow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Order {
    /// By which engine's settings.
    pub(super) kind: EngineKind,
    pub(super) form: Form,
    /// How many bytes the module has.
    pub(super) size: usize,
    /// The most memory that may be taken, in bytes.
    pub(super) memory: u64,
}

/// What became of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
enum Answer {
    /// Machine code of so many bytes follows.
    Code(usize),
    /// The compiler refused the module.
    Invalid(String),
    /// The encoder could make no component of it.
    Unwrappable(String),
}

impl Order {
    /// Its line.
    pub(super) fn line(self) -> io::Result<Vec<u8>> {
        line(&self)
    }

    /// Reads the line and the module.
    pub(super) fn read(from: &mut impl BufRead) -> io::Result<(Self, Vec<u8>)> {
        let mut line = String::new();
        from.read_line(&mut line)?;
        let order: Self = serde_json::from_str(&line)?;
        let mut module = vec![0; order.size];
        from.read_exact(&mut module)?;
        Ok((order, module))
    }
}

/// Tells what became of it.
pub(super) fn answer(made: Result<Vec<u8>, LoadError>, to: &mut impl Write) -> io::Result<()> {
    let (answer, code) = match made {
        Ok(code) => (Answer::Code(code.len()), code),
        Err(LoadError::Invalid { source }) => (Answer::Invalid(format!("{source:#}")), Vec::new()),
        Err(LoadError::Wrap { source }) => (Answer::Unwrappable(chain(&*source)), Vec::new()),
        // Nothing else comes of compiling.
        Err(error) => return Err(Error::other(error)),
    };
    to.write_all(&line(&answer)?)?;
    to.write_all(&code)?;
    to.flush()
}

/// What is heard of it: how many bytes of machine code follow the line, or why there are none.
pub(super) fn hear(line: &[u8]) -> io::Result<Result<usize, LoadError>> {
    Ok(match serde_json::from_slice(line)? {
        Answer::Code(size) => Ok(size),
        Answer::Invalid(why) => Err(LoadError::Invalid { source: wasmtime::Error::msg(why) }),
        Answer::Unwrappable(why) => Err(LoadError::Wrap { source: why.into() }),
    })
}

/// An error and its causes, in a line.
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let all = std::iter::successors(Some(error), |error| error.source());
    all.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

fn line(told: &impl Serialize) -> io::Result<Vec<u8>> {
    let mut line = serde_json::to_vec(told)?;
    line.push(b'\n');
    Ok(line)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]
    use super::*;

    fn heard(made: Result<Vec<u8>, LoadError>) -> (Result<usize, LoadError>, Vec<u8>) {
        let mut told = Vec::new();
        answer(made, &mut told).unwrap();
        let code = told.split_off(told.iter().position(|byte| *byte == b'\n').unwrap() + 1);
        (hear(&told).unwrap(), code)
    }

    #[test]
    fn what_is_told_is_heard() {
        let (size, code) = heard(Ok(b"co\nde".to_vec()));
        assert_eq!((size.unwrap(), code.as_slice()), (5, b"co\nde".as_slice()));
        let source = wasmtime::Error::msg("inside").context("at 7");
        let error = heard(Err(LoadError::Invalid { source })).0.unwrap_err();
        assert!(
            matches!(&error, LoadError::Invalid { source } if format!("{source:#}") == "at 7: inside"),
            "{error:?}"
        );
        let error = heard(Err(LoadError::Wrap { source: "no\nsuch function".into() })).0.unwrap_err();
        assert!(matches!(&error, LoadError::Wrap { source } if source.to_string() == "no\nsuch function"), "{error:?}");
    }

    #[test]
    fn an_order_is_read_with_its_module() {
        let order = Order { kind: EngineKind::Unmetered, form: Form::Core, size: 3, memory: 7 };
        let sent = [order.line().unwrap(), b"\0\nx and what follows".to_vec()].concat();
        assert_eq!(Order::read(&mut sent.as_slice()).unwrap(), (order, b"\0\nx".to_vec()));
        assert!(Order::read(&mut &sent[..sent.len() - 18]).is_err(), "the host has gone in the middle");
    }
}
