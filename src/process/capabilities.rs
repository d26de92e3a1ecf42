//! Capabilities (capabilities(7)) of the calling thread.

use std::io;

use rustix::thread::{
    CapabilitySet, CapabilitySets, capabilities, capability_is_in_bounding_set,
    clear_ambient_capability_set, remove_capability_from_bounding_set, set_capabilities,
};

/// Numbers that a kernel may give to capabilities.
const NUMBERS: std::ops::Range<u32> = 0..64;

/// Lets no program that this thread executes have capabilities, whoever owns it. Needs
/// `CAP_SETPCAP`; who does not have that has `no_new_privs` for the same purpose.
pub(super) fn empty_bounding_set() {
    for number in NUMBERS {
        let capability = CapabilitySet::from_bits_retain(1 << number);
        // The first number that the kernel does not know ends the list.
        if capability_is_in_bounding_set(capability).is_err() {
            break;
        }
        if remove_capability_from_bounding_set(capability).is_err() {
            break;
        }
    }
}

/// Empties the ambient, effective, permitted and inheritable sets. A thread without capabilities
/// makes no call that a sandbox could forbid.
///
/// # Errors
/// If capabilities are left.
pub(super) fn drop_all() -> io::Result<()> {
    // Before Linux 4.3 there is no such set.
    let _ = clear_ambient_capability_set();
    let none = CapabilitySets {
        effective: CapabilitySet::empty(),
        permitted: CapabilitySet::empty(),
        inheritable: CapabilitySet::empty(),
    };
    if capabilities(None)? == none {
        return Ok(());
    }
    set_capabilities(None, none)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// The sets of the calling thread by name, as the kernel shows them.
    fn sets() -> Vec<(String, u64)> {
        let status = fs::read_to_string("/proc/thread-self/status").unwrap();
        let lines = status.lines().filter_map(|line| line.split_once(":\t"));
        let sets = lines.filter(|(name, _)| name.starts_with("Cap"));
        sets.map(|(name, set)| (name.to_owned(), u64::from_str_radix(set, 16).unwrap()))
            .collect()
    }

    /// PROC-02. A user without capabilities proves the half of it that no call fails.
    #[test]
    fn nothing_is_left() {
        let left = std::thread::spawn(|| {
            let may_empty = capabilities(None)
                .unwrap()
                .effective
                .contains(CapabilitySet::SETPCAP);
            empty_bounding_set();
            drop_all().unwrap();
            drop_all().unwrap();
            let mut sets = sets();
            assert_eq!(sets.len(), 5, "{sets:?}");
            sets.retain(|(name, _)| may_empty || name != "CapBnd");
            sets
        });
        for (name, set) in left.join().unwrap() {
            assert_eq!(set, 0, "{name}");
        }
    }
}
