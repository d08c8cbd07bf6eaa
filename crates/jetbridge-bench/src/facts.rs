//! What a figure is worth nothing without: the machine, how busy it was, and the versions.

use std::fs;

use crate::Outcome;

/// The versions that this program was built with are those of the lock file.
const LOCK: &str = include_str!("../../../Cargo.lock");

/// The processors, as in `2 × Intel Xeon`.
pub(crate) fn machine() -> Outcome<String> {
    let cores = std::thread::available_parallelism()?;
    let info = fs::read_to_string("/proc/cpuinfo")?;
    let model = info.lines().find_map(|line| line.strip_prefix("model name")?.split_once(':'));
    Ok(format!("{cores} × {}", model.map_or("unknown processor", |(_, name)| name.trim())))
}

/// The load averages of the last 1, 5 and 15 minutes; the measures are part of it.
pub(crate) fn load() -> Outcome<String> {
    let load = fs::read_to_string("/proc/loadavg")?;
    let averages: Vec<&str> = load.split(' ').take(3).collect();
    Ok(format!("load {}", averages.join(" ")))
}

/// The version of a package that this program was built with.
pub(crate) fn version(package: &str) -> Outcome<&'static str> {
    let (_, rest) = LOCK
        .split_once(&format!("name = \"{package}\"\nversion = \""))
        .ok_or_else(|| format!("{package} is not in the lock file"))?;
    Ok(rest.split('"').next().unwrap_or_default())
}

/// The peak of this process's resident memory so far, in KiB.
pub(crate) fn peak_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let peak = peak.and_then(|rest| rest.split_whitespace().next());
    Ok(peak.ok_or("the system tells no peak of memory")?.parse()?)
}

/// How often the threads of process `pid` were woken so far.
pub(crate) fn wakeups(pid: u32) -> Outcome<u64> {
    let mut sum = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(task?.path().join("status"))?;
        let count = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        sum += count.ok_or("the system counts no wake-ups")?.trim().parse::<u64>()?;
    }
    Ok(sum)
}
