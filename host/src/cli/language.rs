//! The languages that `new` has a template for, and `build` a way to build.

use clap::ValueEnum;

/// A language of handlers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Language {
    Rust,
    Js,
    Python,
    C,
}

impl Language {
    /// The name that people give it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Rust => "Rust",
            Self::Js => "JavaScript",
            Self::Python => "Python",
            Self::C => "C",
        }
    }

    /// The file that tells a project of this language, and no other, by its name.
    pub(super) const fn mark(self) -> &'static str {
        match self {
            Self::Rust => "Cargo.toml",
            Self::Js => "package.json",
            Self::Python => "requirements.txt",
            Self::C => "Makefile",
        }
    }

    /// The program that a build begins with, and how to come by it.
    pub(super) const fn tool(self) -> (&'static str, &'static str) {
        match self {
            Self::Rust => ("cargo", "install Rust 1.95 or later, best with rustup"),
            Self::Js => ("npm", "install Node.js 20 or later with npm (Debian: `apt install nodejs npm`)"),
            Self::Python => ("python3", "install Python 3.10 or later (Debian: `apt install python3 python3-venv`)"),
            Self::C => (
                "make",
                "install make and a clang for wasm (Debian: `apt install make clang-19 lld-19 wasi-libc \
                 libclang-rt-19-dev-wasm32`)",
            ),
        }
    }
}
