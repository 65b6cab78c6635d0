//! The compiler in a process of its own, from the host's side.

use std::io;
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};

use rustix::process::Signal;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::Command;

use super::COMPILE_VERB;
use super::order::{self, Order};
use crate::sandbox::engine::EngineKind;
use crate::sandbox::error::LoadError;
use crate::sandbox::module::Module;

/// What is kept of what the process says at its end: a panic's message is a line.
const SAID_AT_MOST: u64 = 4 << 10;
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
        let mut answered = Vec::new();
        let mut output = output.take(self.memory);
        let (told, heard, said) = tokio::join!(tell, output.read_to_end(&mut answered), last_words(talk));
        // Not before: it ends when this closes.
        drop(input);
        let status = process.wait().await.map_err(died)?;
        if !status.success() {
            return Err(self.ended(status, &said));
        }
        told.and(heard.map(drop)).and_then(|()| order::hear(answered)).map_err(died)?
    }

    /// Why there is no answer.
    fn ended(&self, status: ExitStatus, said: &str) -> LoadError {
        let signal = status.signal().and_then(Signal::from_named_raw);
        match signal {
            Some(Signal::ABORT) if said.contains(NO_MEMORY) => LoadError::CompileMemory { limit: self.memory },
            // The kernel, when the machine has no memory left; or a person.
            Some(Signal::KILL | Signal::TERM | Signal::INT) => LoadError::CompilerKilled,
            Some(_) | None => LoadError::CompilerCrash { how: status.to_string(), said: said.trim().to_owned() },
        }
    }
}

/// The beginning of what it says. All of it is read, so that it never waits to say more.
async fn last_words(mut talk: impl AsyncRead + Unpin) -> String {
    let mut said = Vec::new();
    // What cannot be read is not said.
    let _ = (&mut talk).take(SAID_AT_MOST).read_to_end(&mut said).await;
    let _ = tokio::io::copy(&mut talk, &mut tokio::io::sink()).await;
    String::from_utf8_lossy(&said).into_owned()
}
