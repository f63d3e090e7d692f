//! How much memory this process may use.

use std::fs;

/// Bytes of the machine, or of the control group that this process is in when that is less.
pub fn machine_bytes() -> u64 {
    let machine = fs::read_to_string("/proc/meminfo")
        .ok()
        .and_then(|text| {
            let line = text.lines().find(|l| l.starts_with("MemTotal:"))?.split_whitespace().nth(1)?.parse::<u64>().ok()?;
            Some(line * 1024)
        })
        .unwrap_or(8 << 30);
    let limit = |path: &str| fs::read_to_string(path).ok().and_then(|t| t.trim().parse::<u64>().ok());
    let group = limit("/sys/fs/cgroup/memory.max").or_else(|| limit("/sys/fs/cgroup/memory/memory.limit_in_bytes"));
    group.map_or(machine, |g| g.min(machine))
}
