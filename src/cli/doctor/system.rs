//! The clock, the user, and what the kernel can do.

use super::machine::Machine;
use super::report::Finding;
use crate::config::Config;
use crate::process::PREFERRED_USER;

const CLOCK: &str = "system.clock";
const USER: &str = "system.user";
const KERNEL: &str = "system.kernel";
const LANDLOCK: &str = "system.landlock";

pub(super) fn examine(config: &Config, machine: &Machine) -> Vec<Finding> {
    vec![
        clock(machine),
        user(config, machine),
        kernel(machine),
        landlock(machine),
    ]
}

fn clock(machine: &Machine) -> Finding {
    match machine.clock {
        None => Finding::unknown(CLOCK, "the kernel may not be asked about its clock"),
        Some(clock) if clock.synchronised => Finding::ok(
            CLOCK,
            format!("synchronised, at most {} ms wrong", clock.max_error_ms),
        ),
        Some(_) => Finding::warn(
            CLOCK,
            "nobody keeps the clock right, as far as the kernel knows",
        )
        .why(
            "time-limited credentials are compared with it: a clock that is fast refuses good \
                 ones, one that is slow takes old ones",
        )
        .fix("run a service that keeps it, unless the machine's host does")
        .command("timedatectl set-ntp true   # or: apt install chrony"),
    }
}

fn user(config: &Config, machine: &Machine) -> Finding {
    let make = "systemd-sysusers   # with systemd/turnstone.sysusers installed";
    if let (Some(user), false) = (&config.server.user, machine.users.configured) {
        return Finding::fail(USER, format!("server.user: there is no user {user:?}"))
            .why("the server does not start")
            .fix("make the user, or name one that there is");
    }
    if let Some(unit) = &machine.unit {
        if !unit.is_root() {
            return Finding::ok(USER, format!("turnstone.service runs as {:?}", unit.user));
        }
    } else if !machine.rights.root {
        return Finding::ok(USER, "started by this user, the server stays this user");
    }
    match &config.server.user {
        Some(user) => Finding::ok(
            USER,
            format!("started as root, the server becomes {user:?}"),
        ),
        None if machine.users.preferred => Finding::ok(
            USER,
            format!("started as root, the server becomes {PREFERRED_USER:?}"),
        ),
        None => Finding::warn(USER, format!("there is no user {PREFERRED_USER:?}"))
            .why("started as root, the server becomes nobody, as other programs may")
            .fix("make the user, or set server.user")
            .command(make),
    }
}

fn kernel(machine: &Machine) -> Finding {
    let kernel = &machine.kernel;
    let release = kernel.release.as_deref().unwrap_or("of unknown version");
    if !kernel.reuse_port {
        return Finding::fail(KERNEL, format!("Linux {release}: no SO_REUSEPORT"))
            .why("the workers cannot share their ports, so the server does not start")
            .fix("use Linux 3.9 or later, without a filter of this option");
    }
    let has = |has: bool| if has { "yes" } else { "no" };
    // The server does without the two, so they are told and not judged.
    Finding::ok(
        KERNEL,
        format!(
            "Linux {release}; SO_REUSEPORT: yes, UDP GSO: {}, UDP GRO: {}",
            has(kernel.gso),
            has(kernel.gro)
        ),
    )
}

fn landlock(machine: &Machine) -> Finding {
    let kernel = &machine.kernel;
    match &kernel.landlock_lacks {
        None => Finding::ok(LANDLOCK, kernel.landlock.clone()),
        Some(lacks) => Finding::warn(LANDLOCK, format!("not in force: {lacks}"))
            .why("a server that is broken into reaches more than it needs")
            .fix("use a newer kernel; \"landlock\" must be in /sys/kernel/security/lsm"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::machine::testing::{config, expect, well};
    use super::super::machine::{Unit, Users};
    use super::super::report::Status;
    use super::super::timex::Clock;
    use super::*;

    #[test]
    fn a_current_system_is_well() {
        let found = examine(&config(&[]), &well());
        assert!(found.iter().all(|f| f.status == Status::Ok), "{found:#?}");
    }

    #[test]
    fn the_clock_is_kept_or_not_or_unknown() {
        let mut machine = well();
        expect(&clock(&machine), Status::Ok, "at most 12 ms");
        machine.clock = Some(Clock {
            synchronised: false,
            max_error_ms: 16_000,
        });
        expect(&clock(&machine), Status::Warn, "nobody keeps");
        machine.clock = None;
        expect(&clock(&machine), Status::Unknown, "may not be asked");
    }

    #[test]
    fn the_user_is_there() {
        let mut machine = well();
        let named = config(&[("server.user", "relay")]);
        expect(&user(&named, &machine), Status::Ok, "becomes \"relay\"");
        machine.users = Users {
            configured: false,
            preferred: false,
        };
        expect(&user(&named, &machine), Status::Fail, "no user \"relay\"");
        machine.users.configured = true;
        let none = config(&[]);
        expect(
            &user(&none, &machine),
            Status::Warn,
            "no user \"turnstone\"",
        );
        machine.rights.root = false;
        expect(&user(&none, &machine), Status::Ok, "stays this user");
        let mut unit = Unit {
            user: "turnstone".to_owned(),
            ..Unit::default()
        };
        machine.unit = Some(unit.clone());
        expect(&user(&none, &machine), Status::Ok, "runs as \"turnstone\"");
        unit.user = "root".to_owned();
        machine.unit = Some(unit);
        expect(
            &user(&none, &machine),
            Status::Warn,
            "no user \"turnstone\"",
        );
        machine.users.preferred = true;
        expect(&user(&none, &machine), Status::Ok, "becomes \"turnstone\"");
    }

    #[test]
    fn the_kernel_has_what_the_server_needs() {
        let mut machine = well();
        machine.kernel.gro = false;
        expect(&kernel(&machine), Status::Ok, "UDP GSO: yes, UDP GRO: no");
        machine.kernel.reuse_port = false;
        expect(&kernel(&machine), Status::Fail, "no SO_REUSEPORT");
        expect(&landlock(&machine), Status::Ok, "ABI 6");
        machine.kernel.landlock_lacks = Some("Landlock (not enabled at boot)".to_owned());
        expect(&landlock(&machine), Status::Warn, "not enabled at boot");
    }
}
