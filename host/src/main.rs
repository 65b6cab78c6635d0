//! The program `tidegate`. All of it is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    tidegate::cli::main()
}
