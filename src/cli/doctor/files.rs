//! Facts in files of `/proc` and `/sys`, below any root, so that tests can make up a machine.

use std::fs;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use super::machine::{Conntrack, Memory, Rights};

/// Bits of `CapEff` (capabilities(7)).
const NET_BIND_SERVICE: u32 = 10;
const NET_ADMIN: u32 = 12;
const SYS_RESOURCE: u32 = 24;

/// A limit of memory beyond this is none: version 1 of control groups writes the largest number of
/// pages.
const NO_LIMIT: u64 = 1 << 60;

/// The directory that the machine's files are below.
pub(super) struct Root(PathBuf);

impl Root {
    pub(super) fn new(path: impl Into<PathBuf>) -> Self {
        Self(path.into())
    }

    fn text(&self, path: &str) -> Option<String> {
        fs::read_to_string(self.0.join(path)).ok()
    }

    fn number(&self, path: &str) -> Option<u64> {
        self.text(path)?.trim().parse().ok()
    }

    pub(super) fn sysctl(&self, name: &str) -> Option<u64> {
        self.number(&format!("proc/sys/{name}"))
    }

    pub(super) fn release(&self) -> Option<String> {
        Some(self.text("proc/sys/kernel/osrelease")?.trim().to_owned())
    }

    /// `net.ipv4.ip_local_port_range`, two numbers.
    pub(super) fn local_ports(&self) -> Option<RangeInclusive<u16>> {
        let text = self.text("proc/sys/net/ipv4/ip_local_port_range")?;
        let mut ports = text.split_ascii_whitespace().map(str::parse);
        Some(ports.next()?.ok()?..=ports.next()?.ok()?)
    }

    /// `net.ipv4.ip_local_reserved_ports`, as `8080,9000-9100`.
    pub(super) fn reserved_ports(&self) -> Vec<RangeInclusive<u16>> {
        let text = self.text("proc/sys/net/ipv4/ip_local_reserved_ports");
        let range = |text: &str| {
            let (low, high) = text.split_once('-').unwrap_or((text, text));
            Some(low.parse().ok()?..=high.parse().ok()?)
        };
        let text = text.unwrap_or_default();
        text.trim().split(',').filter_map(range).collect()
    }

    pub(super) fn conntrack(&self) -> Option<Conntrack> {
        let number = |name: &str| self.sysctl(&format!("net/netfilter/nf_conntrack_{name}"));
        Some(Conntrack {
            max: number("max")?,
            count: number("count")?,
            udp_timeout_s: number("udp_timeout")?,
            udp_stream_timeout_s: number("udp_timeout_stream")?,
        })
    }

    /// The interfaces of default routes.
    pub(super) fn default_interfaces(&self) -> Vec<String> {
        let v4 = self.text("proc/self/net/route").unwrap_or_default();
        let v6 = self.text("proc/self/net/ipv6_route").unwrap_or_default();
        let v4 = v4.lines().filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let is_default = *columns.get(1)? == "00000000" && *columns.get(7)? == "00000000";
            is_default.then(|| columns[0].to_owned())
        });
        let v6 = v6.lines().filter_map(|line| {
            let columns: Vec<&str> = line.split_ascii_whitespace().collect();
            let is_default =
                columns.first()?.bytes().all(|b| b == b'0') && *columns.get(1)? == "00";
            is_default.then(|| columns.last().map(|name| (*name).to_owned()))?
        });
        let mut names: Vec<String> = v4.chain(v6).filter(|name| name != "lo").collect();
        names.sort();
        names.dedup();
        names
    }

    pub(super) fn rights(&self, root: bool) -> Rights {
        let status = self.text("proc/self/status").unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
        let set = line.and_then(|set| u64::from_str_radix(set.trim(), 16).ok());
        let has = |bit: u32| set.unwrap_or(0) & (1 << bit) != 0;
        Rights {
            root,
            low_ports: has(NET_BIND_SERVICE),
            large_buffers: has(NET_ADMIN),
            more_files: has(SYS_RESOURCE),
        }
    }

    /// How many files a process may open now.
    pub(super) fn file_limit(&self, pid: u32) -> Option<u64> {
        let limits = self.text(&format!("proc/{pid}/limits"))?;
        let line = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max open files"))?;
        line.split_ascii_whitespace().next()?.parse().ok()
    }

    pub(super) fn memory(&self) -> Memory {
        let text = self.text("proc/meminfo").unwrap_or_default();
        let total = text.lines().find_map(|line| {
            let kib = line.strip_prefix("MemTotal:")?.trim().strip_suffix(" kB")?;
            kib.parse::<u64>().ok()
        });
        Memory {
            machine: total.map(|kib| kib << 10),
            group: self.group_memory(),
        }
    }

    /// The smallest limit of this process's control group and of those that it is in.
    fn group_memory(&self) -> Option<u64> {
        let groups = self.text("proc/self/cgroup")?;
        let mut least = None;
        for line in groups.lines() {
            let mut parts = line.splitn(3, ':').skip(1);
            let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else {
                continue;
            };
            let (top, file) = if controllers.is_empty() {
                ("sys/fs/cgroup", "memory.max")
            } else if controllers.split(',').any(|name| name == "memory") {
                ("sys/fs/cgroup/memory", "memory.limit_in_bytes")
            } else {
                continue;
            };
            let mut path = path.trim_matches('/');
            loop {
                let limit = self.number(&format!("{top}/{path}/{file}"));
                least = [least, limit].into_iter().flatten().min();
                let Some((parent, _)) = path.rsplit_once('/') else {
                    break;
                };
                path = parent;
            }
            let limit = self.number(&format!("{top}/{file}"));
            least = [least, limit].into_iter().flatten().min();
        }
        least.filter(|limit| *limit < NO_LIMIT)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn machine(files: &[(&str, &str)]) -> (tempfile::TempDir, Root) {
        let directory = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = directory.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let root = Root::new(directory.path());
        (directory, root)
    }

    #[test]
    fn settings_of_the_kernel() {
        let (_directory, root) = machine(&[
            ("proc/sys/net/ipv4/ip_local_port_range", "32768\t60999\n"),
            (
                "proc/sys/net/ipv4/ip_local_reserved_ports",
                "8080,9000-9100\n",
            ),
            ("proc/sys/kernel/osrelease", "6.12.1\n"),
            ("proc/sys/net/core/rmem_max", "212992\n"),
            ("proc/sys/net/netfilter/nf_conntrack_max", "65536\n"),
            ("proc/sys/net/netfilter/nf_conntrack_count", "12\n"),
            ("proc/sys/net/netfilter/nf_conntrack_udp_timeout", "30\n"),
            (
                "proc/sys/net/netfilter/nf_conntrack_udp_timeout_stream",
                "120\n",
            ),
        ]);
        assert_eq!(root.local_ports(), Some(32768..=60999));
        assert_eq!(root.reserved_ports(), [8080..=8080, 9000..=9100]);
        assert_eq!(root.release().as_deref(), Some("6.12.1"));
        assert_eq!(root.sysctl("net/core/rmem_max"), Some(212_992));
        let table = root.conntrack().unwrap();
        assert_eq!((table.max, table.count), (65_536, 12));
        assert_eq!((table.udp_timeout_s, table.udp_stream_timeout_s), (30, 120));
    }

    #[test]
    fn nothing_is_made_up_where_nothing_can_be_read() {
        let (_directory, root) = machine(&[]);
        assert_eq!(root.local_ports(), None);
        assert_eq!(root.reserved_ports(), []);
        assert!(root.conntrack().is_none() && root.default_interfaces().is_empty());
        assert!(!root.rights(false).low_ports);
        assert_eq!(root.file_limit(7), None);
        assert_eq!((root.memory().machine, root.memory().group), (None, None));
    }

    #[test]
    fn default_routes_name_their_interfaces() {
        let zeros = "0".repeat(32);
        let v6 = format!(
            "{zeros} 00 {zeros} 00 fe800000000000000000000000000001 400 1 0 3 eth1\n\
             20010db8000000000000000000000000 40 {zeros} 00 {zeros} 100 1 0 1 eth2\n\
             {zeros} 00 {zeros} 00 {zeros} ffffffff 1 0 200200 lo\n"
        );
        let v4 = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\n\
                  eth0\t00000000\t0102A8C0\t0003\t0\t0\t0\t00000000\t0\n\
                  eth3\t0002A8C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\n";
        let (_directory, root) = machine(&[
            ("proc/self/net/route", v4),
            ("proc/self/net/ipv6_route", &v6),
        ]);
        assert_eq!(root.default_interfaces(), ["eth0", "eth1"]);
    }

    #[test]
    fn rights_and_limits_of_processes() {
        let (_directory, root) = machine(&[
            ("proc/self/status", "Name:\tx\nCapEff:\t0000000000001400\n"),
            (
                "proc/7/limits",
                "Limit  Soft Limit  Hard Limit  Units\nMax open files            1024                 4096                 files\n",
            ),
        ]);
        let rights = root.rights(false);
        assert!(rights.low_ports && rights.large_buffers && !rights.more_files && !rights.root);
        assert_eq!(root.file_limit(7), Some(1024));
    }

    #[test]
    fn the_smallest_control_group_counts() {
        let (_directory, root) = machine(&[
            (
                "proc/meminfo",
                "MemTotal:        1000000 kB\nMemFree: 1 kB\n",
            ),
            ("proc/self/cgroup", "0::/system.slice/turnstone.service\n"),
            (
                "sys/fs/cgroup/system.slice/turnstone.service/memory.max",
                "max\n",
            ),
            ("sys/fs/cgroup/system.slice/memory.max", "536870912\n"),
        ]);
        let memory = root.memory();
        assert_eq!(
            (memory.machine, memory.group),
            (Some(1_024_000_000), Some(536_870_912))
        );
        let (_directory, root) = machine(&[
            ("proc/self/cgroup", "4:cpu,memory:/a/b\n1:cpuset:/\n"),
            (
                "sys/fs/cgroup/memory/a/b/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
            (
                "sys/fs/cgroup/memory/memory.limit_in_bytes",
                "9223372036854771712\n",
            ),
        ]);
        assert_eq!(root.memory().group, None);
        let (_directory, root) = machine(&[
            ("proc/self/cgroup", "4:cpu,memory:/a/b\n"),
            ("sys/fs/cgroup/memory/a/memory.limit_in_bytes", "1048576\n"),
        ]);
        assert_eq!(root.memory().group, Some(1_048_576));
    }
}
