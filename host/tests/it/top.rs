//! `tidegate top` on a terminal, and where there is none.

use std::process::{Command, Stdio};

use serde_json::Value;

use crate::command_line::{Desk, until};

/// Runs a command on a terminal of its own, presses keys when something has been seen there, and tells what came: all that was
/// written, how it ended, and whether the terminal is set as it was before.
const ON_A_TERMINAL: &str = r#"
import fcntl, json, os, pty, select, signal, struct, sys, termios, time
steps, command = json.loads(sys.argv[1]), sys.argv[2:]
master, slave = pty.openpty()
fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 30, 150, 0, 0))
before = termios.tcgetattr(slave)
child = os.fork()
if child == 0:
    os.setsid()
    fcntl.ioctl(slave, termios.TIOCSCTTY, 0)
    for number in range(3): os.dup2(slave, number)
    os.execvp(command[0], command)
seen, mark, deadline = b"", 0, time.monotonic() + 60
def read():
    global seen
    if time.monotonic() > deadline: sys.exit("waited in vain; it wrote: " + repr(seen))
    if select.select([master], [], [], 0.1)[0]: seen += os.read(master, 65536)
for wanted, keys in steps:
    while seen.find(wanted.encode(), mark) < 0: read()
    mark = len(seen)
    if keys == "SIGTERM": os.kill(child, signal.SIGTERM)
    elif keys.startswith("kill "): os.kill(int(keys[5:]), signal.SIGKILL)
    else: os.write(master, keys.encode())
ended = 0
while ended == 0:
    read()
    ended, status = os.waitpid(child, os.WNOHANG)
while select.select([master], [], [], 0)[0]: seen += os.read(master, 65536)
same = termios.tcgetattr(slave) == before
print(json.dumps({"wrote": seen.decode(), "code": os.waitstatus_to_exitcode(status), "same": same}))
"#;

/// `steps`: when this is seen, these keys are pressed, or somebody is killed.
fn on_a_terminal(desk: &Desk, steps: &[(&str, &str)], arguments: &[&str]) -> Value {
    let steps = serde_json::to_string(steps).unwrap();
    let told = Command::new("python3")
        .args(["-c", ON_A_TERMINAL, &steps, env!("CARGO_BIN_EXE_tidegate")])
        .args(arguments)
        .current_dir(desk.path())
        .env_remove("TIDEGATE_CONFIG")
        .env("XDG_CONFIG_HOME", desk.path())
        .env("TERM", "xterm-256color")
        .stdin(Stdio::null())
        .output()
        .unwrap();
    assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    serde_json::from_slice(&told.stdout).unwrap()
}

#[test]
fn it_is_live_on_a_terminal_and_leaves_it_as_it_was() {
    let desk = Desk::with_handler();
    let _host = desk.host();
    desk.expect(&["publish", "--lines"], &"{\"subject\":\"skip\"}\n".repeat(30), 0);
    let live = ["top", "--interval", "100ms"];
    // By a key, by Ctrl-C, and by whoever ends processes. The table of handlers has no column for subscriptions.
    for last in ["q", "\u{3}", "SIGTERM"] {
        let steps = [("SUBSCRIPTION", "h"), ("HANDLER  STATE", "h"), ("SUBSCRIPTION", last)];
        let told = on_a_terminal(&desk, &steps, &live);
        let wrote = told["wrote"].as_str().unwrap();
        assert_eq!((&told["code"], &told["same"]), (&0.into(), &true.into()), "{last:?}: {wrote}");
        assert!(wrote.starts_with("\u{1b}[?1049h"), "a screen of its own: {wrote}");
        assert!(wrote.ends_with("\u{1b}[?25h\u{1b}[?1049l"), "which is left: {wrote}");
        assert!(wrote.contains("broker local (embedded)  connected  0 dead letters"), "{wrote}");
        assert!(wrote.contains("q ends"), "{wrote}");
    }
}

#[test]
fn a_host_that_goes_is_told_of_and_its_last_figures_stay() {
    let desk = Desk::with_handler();
    let host = desk.host();
    let kill = format!("kill {}", host.0.id());
    let steps = [("SUBSCRIPTION", kill.as_str()), ("it could not be looked at: ", ""), ("SUBSCRIPTION", "q")];
    let told = on_a_terminal(&desk, &steps, &["top", "--interval", "100ms"]);
    assert_eq!((&told["code"], &told["same"]), (&0.into(), &true.into()), "{told}");
}

#[test]
fn one_table_is_printed_where_there_is_no_terminal() {
    let desk = Desk::with_handler();
    desk.expect(&["top"], "", 1);
    let _host = desk.host();
    let lines = "{\"subject\":\"skip\"}\n".repeat(30) + &"{\"subject\":\"reject\"}\n".repeat(3);
    desk.expect(&["publish", "--lines"], &lines, 0);
    until("they are done", || desk.json(&["status", "--json"], "", 0)["status"]["brokers"][0]["dead_letters"] == 3);
    let table = desk.expect(&["top", "--interval", "100ms"], "", 0);
    assert!(table.lines().any(|line| line.starts_with("all ") && line.contains("runs")), "{table}");
    assert!(!table.contains('\u{1b}') && !table.contains("q ends"), "{table}");
    assert_eq!(desk.expect(&["top", "--once", "--by", "handler"], "", 0).matches("behave").count(), 1);
    let figures = desk.json(&["top", "--json", "--interval", "100ms"], "", 0);
    assert_eq!(figures["rows"][0]["name"], "all", "{figures}");
    assert_eq!((&figures["rows"][0]["state"], &figures["total"]["concurrency"]), (&"runs".into(), &16.into()));
    desk.expect(&["top", "--interval", "1ms"], "", 2);
}
