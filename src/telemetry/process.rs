//! What this process takes of its machine.

/// A reading. What the system doesn't tell is `None`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Process {
    /// Memory that is in RAM, in bytes.
    pub resident: Option<u64>,
    /// Open descriptors.
    pub descriptors: Option<u64>,
    /// Threads of the system.
    pub threads: Option<u64>,
    /// Tasks of the runtime that have not ended.
    pub tasks: Option<u64>,
}

// === impl Process ===

impl Process {
    /// As it is now. Only Linux tells more than the tasks (proc(5)).
    pub fn read() -> Process {
        let runtime = tokio::runtime::Handle::try_current().ok();
        let tasks = runtime.and_then(|runtime| u64::try_from(runtime.metrics().num_alive_tasks()).ok());
        let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
        let field = |name: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(name))?;
            line.split_whitespace().next()?.parse::<u64>().ok()
        };
        let open = std::fs::read_dir("/proc/self/fd").ok();
        Process {
            resident: field("VmRSS:").map(|kib| kib << 10),
            // The one through which they are counted is not meant.
            descriptors: open.map(|open| (open.count() as u64).saturating_sub(1)),
            threads: field("Threads:"),
            tasks,
        }
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_reading_follows_what_is_opened_and_spawned() {
        let before = Process::read();
        assert!(before.resident > Some(1 << 20) && before.threads > Some(0), "{before:?}");
        let task = tokio::spawn(std::future::pending::<()>());
        assert_eq!(Process::read().tasks, before.tasks.map(|tasks| tasks + 1));
        task.abort();
    }
}
