//! The compiler in a process of its own, from the host's side.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::process::Command;

use super::COMPILE_VERB;
use super::order::{self, Order};
use crate::sandbox::engine::EngineKind;
use crate::sandbox::error::LoadError;
use crate::sandbox::module::Module;

/// What is kept of what the process says at its end: a panic's message is a line.
const SAID_AT_MOST: u64 = 4 << 10;
/// The line of an answer, which may have a compiler's error in it.
const LINE_AT_MOST: u64 = 1 << 20;
/// Machine code for a byte of a module: 3 were seen, of Rust and of JavaScript.
const CODE_PER_BYTE: usize = 64;
/// What even the smallest module may become.
const CODE_AT_LEAST: usize = 16 << 20;
/// How a process ends in which Rust panicked.
const PANICKED: i32 = 101;
/// What Rust says when there is no memory. It ends with `SIGABRT` then.
const NO_MEMORY: &str = "memory allocation of";

/// Starts processes that compile.
#[derive(Debug)]
pub(in crate::sandbox) struct Apart {
    program: PathBuf,
    memory: u64,
}

impl Apart {
    pub(super) const fn new(program: PathBuf, memory: u64) -> Self {
        Self { program, memory }
    }

    /// Compiles a module. Dropped, the process is killed.
    pub(super) async fn compile(&self, kind: EngineKind, module: &Module) -> Result<Vec<u8>, LoadError> {
        let died = |source| LoadError::CompilerProcess { source };
        let mut command = Command::new(&self.program);
        // It needs nothing of what the host was started with, and that may hold secrets.
        command.arg0("tidegate").arg(COMPILE_VERB).env_clear().current_dir("/").kill_on_drop(true);
        // Ctrl-C in a terminal is for the host, which drains.
        command.process_group(0);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut process = command.spawn().map_err(died)?;
        let (Some(mut input), Some(output), Some(talk)) =
            (process.stdin.take(), process.stdout.take(), process.stderr.take())
        else {
            return Err(died(io::ErrorKind::BrokenPipe.into()));
        };
        let order = Order { kind, form: module.form, size: module.bytes.len(), memory: self.memory };
        let line = order.line().map_err(died)?;
        let tell = async {
            input.write_all(&line).await?;
            input.write_all(&module.bytes).await
        };
        let most = module.bytes.len().saturating_mul(CODE_PER_BYTE).max(CODE_AT_LEAST);
        let (told, heard, said) = tokio::join!(tell, hear(output, most), last_words(talk));
        // Not before: it ends when this closes.
        drop(input);
        let status = process.wait().await.map_err(died)?;
        match heard {
            // It was not read to its end, and so did not end well.
            Err(error) if error.kind() == io::ErrorKind::FileTooLarge => Err(died(error)),
            _ if !status.success() => Err(self.ended(status, &said)),
            heard => told.and(heard).map_err(died)?,
        }
    }

    /// Why there is no answer.
    fn ended(&self, status: ExitStatus, said: &str) -> LoadError {
        let said = said.trim();
        match (status.signal().and_then(Signal::from_named_raw), status.code()) {
            (Some(Signal::ABORT), _) if said.contains(NO_MEMORY) => LoadError::CompileMemory { limit: self.memory },
            // The kernel, when the machine has no memory left; or a person.
            (Some(Signal::KILL | Signal::TERM | Signal::INT), _) => LoadError::CompilerKilled,
            (Some(_), _) | (None, Some(PANICKED)) => {
                LoadError::CompilerCrash { how: status.to_string(), said: said.to_owned() }
            }
            // What it lacked of the system, it said.
            (None, _) => LoadError::CompilerProcess { source: io::Error::other(format!("{status}: {said}")) },
        }
    }
}

/// Reads the answer. What is longer than it may be is not read, and its writer ends by that.
async fn hear(output: impl AsyncRead + Unpin, most: usize) -> io::Result<Result<Vec<u8>, LoadError>> {
    let mut output = BufReader::new(output);
    let mut line = Vec::new();
    (&mut output).take(LINE_AT_MOST).read_until(b'\n', &mut line).await?;
    let size = match order::hear(&line)? {
        Ok(size) => size,
        Err(error) => return Ok(Err(error)),
    };
    if size > most {
        let why = format!("{size} bytes of machine code are more than the {most} that were expected");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, why));
    }
    let mut code = vec![0; size];
    output.read_exact(&mut code).await?;
    Ok(Ok(code))
}

/// The beginning of what it says. All of it is read, so that it never waits to say more.
async fn last_words(mut talk: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    // What cannot be read is not said.
    let _ = (&mut talk).take(SAID_AT_MOST).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut talk, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}
