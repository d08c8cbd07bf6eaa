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

/// Clock ticks of a second, in which the system counts processor time.
const TICKS: f64 = 100.0;

/// The peak of this process's resident memory so far, in KiB.
pub(crate) fn peak_kib() -> Outcome<u64> {
    memory_kib("self", Memory::Peak)
}

/// Which figure of a process's resident memory.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Memory {
    Peak,
    Now,
}

/// The resident memory of process `pid`, in KiB.
pub(crate) fn memory_kib(pid: impl std::fmt::Display, which: Memory) -> Outcome<u64> {
    let field = match which {
        Memory::Peak => "VmHWM:",
        Memory::Now => "VmRSS:",
    };
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let found = status.lines().find_map(|line| line.strip_prefix(field));
    let found = found.and_then(|rest| rest.split_whitespace().next());
    Ok(found.ok_or("the system does not tell a process's memory")?.parse()?)
}

/// The processor time of process `pid` so far, in seconds.
pub(crate) fn processor_seconds(pid: u32) -> Outcome<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // Behind the name, which may hold anything but stands in brackets.
    let rest = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || -> Outcome<f64> {
        Ok(fields.next().ok_or("the system does not tell processor time")?.parse()?)
    };
    Ok((ticks()? + ticks()?) / TICKS)
}

/// This process's resident memory now, in KiB.
pub(crate) fn resident_kib() -> Outcome<u64> {
    let status = fs::read_to_string("/proc/self/status")?;
    let now = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let now = now.and_then(|rest| rest.split_whitespace().next());
    Ok(now.ok_or("the system tells no memory")?.parse()?)
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
