//! How much memory a compilation may take where nobody says so: no more than half of what there is, for the host runs beside
//! it, and the system ends what goes beyond.

use std::fs;
use std::path::Path;

/// At the most, in bytes. The largest module that we know, 19 MB of Python, takes 400 MiB.
const MOST: u64 = 2 << 30;

/// In bytes, on this machine, in this container.
pub(super) fn by_default() -> u64 {
    let own = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let machine = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = [of_groups(&own, Path::new("/sys/fs/cgroup")), of_machine(&machine)];
    limits.into_iter().flatten().map(|total| total / 2).chain([MOST]).min().unwrap_or(MOST)
}

/// The memory of the machine, in bytes.
fn of_machine(meminfo: &str) -> Option<u64> {
    let line = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kibibytes.checked_mul(1024)
}

/// The lowest limit of the groups that a process is in, one in the other, in bytes. `None`: none has one.
fn of_groups(own: &str, root: &Path) -> Option<u64> {
    // Of version 2, which has one tree: `0::/path`. From inside a container its own group is the root.
    let path = own.lines().find_map(|line| line.strip_prefix("0::/"))?;
    let limit = |group: &Path| fs::read_to_string(root.join(group).join("memory.max")).ok()?.trim().parse().ok();
    Path::new(path).ancestors().filter_map(limit).min()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    #[test]
    fn the_lowest_limit_of_all_groups_counts() {
        let root = tempfile::tempdir().unwrap();
        let inner = root.path().join("system.slice/host.service");
        fs::create_dir_all(&inner).unwrap();
        let own = "0::/system.slice/host.service\n";
        assert_eq!(of_groups(own, root.path()), None);
        fs::write(inner.join("memory.max"), "max\n").unwrap();
        fs::write(root.path().join("system.slice/memory.max"), "1073741824\n").unwrap();
        assert_eq!(of_groups(own, root.path()), Some(1 << 30));
        fs::write(inner.join("memory.max"), "536870912\n").unwrap();
        assert_eq!(of_groups(own, root.path()), Some(512 << 20));
        assert_eq!(of_groups("4:memory:/old\n", root.path()), None);
        fs::write(root.path().join("memory.max"), "1000\n").unwrap();
        assert_eq!(of_groups("0::/\n", root.path()), Some(1000), "in a container");
    }

    #[test]
    fn the_memory_of_the_machine_is_read() {
        assert_eq!(of_machine("MemTotal:       24576 kB\nMemFree:  1 kB\n"), Some(24 << 20));
        assert_eq!(of_machine(""), None);
    }

    #[test]
    fn it_is_something() {
        assert!((1..=MOST).contains(&by_default()));
    }
}
