//! What can go wrong before a handler runs: setting the sandbox up, and loading a module.

use std::time::Duration;

/// Why the sandbox could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum SandboxError {
    /// The engine refused its settings or could not reserve its address space.
    #[error("starting the WebAssembly engine")]
    Engine {
        /// What the engine said.
        source: wasmtime::Error,
    },
    /// The thread that ticks could not be started.
    #[error("starting the sandbox's tick")]
    Ticker {
        /// What the system said.
        source: std::io::Error,
    },
    /// The thread that gives back what nothing runs on could not be started.
    #[error("starting the thread that gives back the memory of replaced versions")]
    Disposer {
        /// What the system said.
        source: std::io::Error,
    },
    /// The threads that compile could not be started.
    #[error("starting the sandbox's compiler threads")]
    Compiler {
        /// What went wrong.
        source: rayon::ThreadPoolBuildError,
    },
}

/// Why a module was not accepted. Each text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The module is larger than the limit.
    #[error("the module has {size} bytes and the limit is {limit}: strip it, or raise `limits.module_size`")]
    TooLarge {
        /// The module's size in bytes.
        size: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The file has no content.
    #[error("the module is empty: give the path of the `.wasm` file that the build wrote")]
    Empty,
    /// The file is text, not binary.
    #[error("this is text, not a WebAssembly binary: build the handler and give its `.wasm` file{}", text_hint(*wat))]
    Text {
        /// Whether it looks like the WebAssembly text format.
        wat: bool,
    },
    /// The file does not begin as WebAssembly does.
    #[error("this is not WebAssembly (it begins with {begins}): give the `.wasm` file that the build wrote")]
    NotWasm {
        /// The first bytes, in hex.
        begins: String,
    },
    /// Native code, which only this host's own compiler may give it.
    #[error(
        "this is compiled code (a `.cwasm`), which is never taken from outside: give the `.wasm` file that it was \
         compiled from"
    )]
    CompiledCode,
    /// A core module without the metadata from which a component could be made.
    #[error(
        "this is a core module without component metadata, so nothing says what it handles: build it for the target \
         wasm32-wasip2 with the Tidegate SDK or with bindings from `wit/`, or add what is missing with \
         `wasm-tools component embed`"
    )]
    CoreModule,
    /// A core module whose metadata does not fit it.
    #[error(
        "no component can be made of this core module: what it imports and exports does not fit its component \
         metadata; build it again with bindings of one version, and without WASI extensions of its own"
    )]
    Wrap {
        /// What the encoder said.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A binary of a WebAssembly version that is not known.
    #[error("this is WebAssembly of an unknown version ({version:#010x}): build it with a current toolchain")]
    UnknownVersion {
        /// The version field.
        version: u32,
    },
    /// The file ends in the middle of a section.
    #[error(
        "the module is cut off: a section that begins at byte {offset} needs {missing} bytes more than the file has; \
         copy or upload it again"
    )]
    Truncated {
        /// Where the section begins.
        offset: usize,
        /// How many bytes are missing.
        missing: u64,
    },
    /// The module is not valid, or uses a proposal that is not enabled.
    #[error(
        "the module is damaged, too complex, or uses a feature that is not enabled: build it again, and compare its sha256"
    )]
    Invalid {
        /// What the compiler said, with the place.
        source: wasmtime::Error,
    },
    /// No export handles messages.
    #[error(
        "the module does not export {accepted}, it exports {exports}: build it against one of these contracts; \
         Tidegate's own is `wit/`, world `message-handler`"
    )]
    MissingExport {
        /// The exports that would be accepted, as a phrase.
        accepted: String,
        /// What it exports, as a phrase.
        exports: String,
    },
    /// The export that handles messages lacks its function.
    #[error("the module's `{export}` has no function `{function}`: build it against the contract's own WIT")]
    MissingFunction {
        /// The name of the export.
        export: &'static str,
        /// The name of the function.
        function: &'static str,
    },
    /// The module handles messages by another version of the contract.
    #[error(
        "the module exports `{export}` and this host calls `{accepted}`: build it against the `wit/` of this host's \
         release, or run it on a host of its own"
    )]
    OtherVersion {
        /// What it exports.
        export: String,
        /// The export that would be accepted.
        accepted: &'static str,
    },
    /// The export that handles messages has another type.
    #[error("the module's `{export}` is not of the type in `wit/`: build it against the same version of the contract")]
    WrongExport {
        /// The name of the export.
        export: &'static str,
        /// How the types differ.
        source: wasmtime::Error,
    },
    /// The module imports something that its handler is not given.
    #[error("the module imports {imports}")]
    UngrantedImport {
        /// What it imports, why that is not there, and what to do about it, as a phrase.
        imports: String,
    },
    /// A granted import has another type or version than this host's.
    #[error("the module's imports do not fit this host: build it with a toolchain for WASI 0.2 and this contract")]
    Link {
        /// How they differ.
        source: wasmtime::Error,
    },
    /// The module starts with more memory than a run may have.
    #[error("the module starts with {needs} bytes of memory and the limit is {limit}: raise `limits.memory`")]
    Memory {
        /// What it starts with.
        needs: u64,
        /// The limit.
        limit: u64,
    },
    /// Compiling took longer than allowed.
    #[error(
        "compiling the module took longer than {} s: try again when the machine has less to do, since compiling gives way to \
         messages; if it takes as long then, make the module smaller (an optimized build, fewer dependencies, split handlers)",
        limit.as_secs()
    )]
    CompileTimeout {
        /// The limit.
        limit: Duration,
    },
    /// No place among those that compile became free.
    #[error(
        "no other module was done compiling for {} s: try again, and remove what takes that long to compile",
        limit.as_secs()
    )]
    CompilerBusy {
        /// How long it was waited for.
        limit: Duration,
    },
    /// Compiling took more memory than allowed.
    #[error(
        "compiling the module took more than {} MiB of memory: make the module smaller (an optimized build, fewer dependencies, \
         split handlers), or raise `[host] compile_memory`",
        limit >> 20
    )]
    CompileMemory {
        /// The limit in bytes.
        limit: u64,
    },
    /// The process that compiled was killed from outside.
    #[error(
        "the process that compiled the module was killed, as the system does where memory runs out: try again when there is \
         more of it, or give the host more"
    )]
    CompilerKilled,
    /// The process that compiled came to an end of its own.
    #[error("the compiler crashed over the module ({how}); this is a bug of the compiler, the host runs on: {said}")]
    CompilerCrash {
        /// How the process ended.
        how: String,
        /// The last that it said.
        said: String,
    },
    /// There is no process that compiles.
    #[error(
        "the process that is to compile the module cannot be started or talked to: see that the host may start its own program"
    )]
    CompilerProcess {
        /// What the system said.
        source: std::io::Error,
    },
    /// The compiler itself failed.
    #[error("the compiler stopped; this is a bug of the host, the module was not accepted")]
    Compiler {
        /// How the task ended.
        source: tokio::task::JoinError,
    },
    /// The sandbox is closing.
    #[error("the sandbox is closing")]
    Stopped,
    /// The engine that the module needs could not be started.
    #[error(transparent)]
    Sandbox(#[from] SandboxError),
}

const fn text_hint(wat: bool) -> &'static str {
    if wat {
        " (the WebAssembly text format is not accepted; `wat2wasm` or `wasm-tools parse` makes a binary)"
    } else {
        ""
    }
}
