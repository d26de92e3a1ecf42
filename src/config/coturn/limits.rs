//! How much, how it is logged, and the process.

use std::ops::RangeInclusive;

use super::check;
use super::draft::{Draft, quoted};
use super::line::Line;
use crate::config::defaults;

/// What `limits.max_lifetime_s` takes.
const MAX_LIFETIME_S: RangeInclusive<u64> = 600..=86_400;

/// Beyond this `limits.allocation_kbit_per_s` is no limit.
const KBIT_PER_S_MAX: u64 = 100_000_000;

/// The lifetimes that RFC 8656 gives channels and permissions.
const FIXED_LIFETIMES: [(&str, &str); 2] =
    [("channel-lifetime", "600"), ("permission-lifetime", "300")];

/// What Debian's package calls coturn's user.
const USER_OF_COTURN: &str = "turnserver";

/// Names of `log-min-level` and the level that they are here.
const LEVELS: [(&str, &str); 6] = [
    ("debug", "debug"),
    ("info", "info"),
    ("warning", "warn"),
    ("warn", "warn"),
    ("error", "error"),
    ("critical", "error"),
];

pub(super) fn translate(draft: &mut Draft<'_>) {
    quota(
        draft,
        "user-quota",
        "limits.allocations_per_user",
        defaults::ALLOCATIONS_PER_USER,
    );
    quota(
        draft,
        "total-quota",
        "limits.allocations_total",
        defaults::ALLOCATIONS_TOTAL,
    );
    bandwidth(draft);
    lifetimes(draft);
    unlimited_before(draft);
    log(draft);
    workers(draft);
    user(draft);
    software(draft);
}

fn quota(draft: &mut Draft<'_>, name: &'static str, key: &'static str, default: u32) {
    let Some((line, number)) = draft.number(name) else {
        return;
    };
    let is_lifted = draft.settings.iter().any(|setting| setting.key == key);
    if number == 0 && is_lifted {
        draft.translated(line, "");
    } else if number == 0 {
        let what = format!(
            "0 is no quota in coturn, and here there always is one: {key} = {default} by default"
        );
        draft.missing(line, what);
    } else if let Err(problem) = check(&format!("{key} = {number}")) {
        draft.refused(line, &problem);
    } else {
        draft.translated(line, "");
        draft.set(key, number.to_string(), &[line]);
    }
}

/// From bytes to bits, which the limit counts with the headers.
fn bandwidth(draft: &mut Draft<'_>) {
    let Some((line, bytes)) = draft.number("max-bps") else {
        return;
    };
    let kbit = bytes.saturating_mul(8).div_ceil(1000);
    if kbit > KBIT_PER_S_MAX {
        draft.translated(line, "so much is no limit");
        draft.set("limits.allocation_kbit_per_s", "0".to_owned(), &[line]);
    } else {
        draft.translated(line, "");
        draft.set("limits.allocation_kbit_per_s", kbit.to_string(), &[line]);
    }
}

fn lifetimes(draft: &mut Draft<'_>) {
    if let Some((line, seconds)) =
        draft.number_or("max-allocate-lifetime", defaults::MAX_LIFETIME_S.into())
    {
        let (low, high) = MAX_LIFETIME_S.into_inner();
        let note = match seconds {
            _ if seconds < low => "600 s are the least that clients get (RFC 8656)",
            _ if seconds > high => "a day is the longest",
            _ => "",
        };
        draft.translated(line, note);
        let kept = seconds.clamp(low, high);
        draft.set("limits.max_lifetime_s", kept.to_string(), &[line]);
    }
    for (name, usual) in FIXED_LIFETIMES {
        if let Some(line) = draft.last(name)
            && (line.value.is_empty() || line.bare() == usual)
        {
            draft.needless(line, format!("it is {usual} s anyway (RFC 8656)"));
        }
    }
}

/// What coturn does not limit unless it is told to.
fn unlimited_before(draft: &mut Draft<'_>) {
    let is_set = |key: &str| draft.settings.iter().any(|setting| setting.key == key);
    let (users, kbit) = (
        defaults::ALLOCATIONS_PER_USER,
        defaults::ALLOCATION_KBIT_PER_S,
    );
    let defaults = [
        ("limits.allocations_per_user", users),
        ("limits.allocation_kbit_per_s", kbit),
        ("limits.user_kbit_per_s", defaults::USER_KBIT_PER_S),
        ("limits.allocations_total", defaults::ALLOCATIONS_TOTAL),
        (
            "limits.allocations_per_address",
            defaults::ALLOCATIONS_PER_ADDRESS,
        ),
    ];
    let limits = defaults.into_iter().filter(|(key, _)| !is_set(key));
    let limits: Vec<String> = limits
        .map(|(key, value)| format!("{key} = {value}"))
        .collect();
    draft.note(
        "limits",
        format!(
            "these limits hold although the file says nothing of them: {}. Raise them where many \
             clients share a user's name or an address",
            limits.join(", ")
        ),
    );
}

fn log(draft: &mut Draft<'_>) {
    let mut level = None;
    if let Some(line) = draft.text("log-min-level") {
        let text = line.bare().to_lowercase();
        if let Some((_, known)) = LEVELS.iter().find(|(name, _)| *name == text) {
            draft.translated(line, "");
            level = Some((line, *known));
        } else {
            let what = format!("{:?} is not a level", line.bare());
            draft.invalid(line, what, "write debug, info, warning or error");
        }
    }
    if let Some(line) = draft.switch("Verbose") {
        draft.translated(
            line,
            "it says what becomes of each request, and nothing of packets",
        );
        level = Some((line, "debug"));
    }
    if let Some((line, level)) = level {
        draft.set("log.level", quoted(level), &[line]);
    }
    if let Some(line) = draft.last("log-file")
        && matches!(line.bare(), "stdout" | "-" | "syslog")
    {
        draft.needless(
            line,
            "lines go to standard error, and so to the journal and to syslog",
        );
    }
}

fn workers(draft: &mut Draft<'_>) {
    // coturn counts CPUs to choose its threads, so that the threads win.
    let (threads, cpus) = (draft.number("relay-threads"), draft.number("cpus"));
    if let (Some((threads, _)), Some((cpus, _))) = (threads, cpus) {
        draft.needless(
            cpus,
            format!("line {} has the number of threads", threads.number),
        );
    }
    let Some((line, number)) = threads.or(cpus) else {
        return;
    };
    let workers = number.max(1);
    if let Err(problem) = check(&format!("server.workers = {workers}")) {
        draft.refused(line, &problem);
        return;
    }
    draft.translated(
        line,
        if number == 0 {
            "one worker is the least"
        } else {
            ""
        },
    );
    draft.set("server.workers", workers.to_string(), &[line]);
}

fn user(draft: &mut Draft<'_>) {
    let Some(line) = draft.text("proc-user") else {
        return;
    };
    if line.bare() == USER_OF_COTURN {
        draft.needless(
            line,
            "it is the user of coturn's package: turnstone has one of its own, turnstone",
        );
        return;
    }
    draft.translated(
        line,
        "it matters if root starts the server; the systemd unit does not",
    );
    draft.set("server.user", quoted(line.bare()), &[line]);
}

/// Whether replies name the software. coturn's default has changed, so silence says nothing.
fn software(draft: &mut Draft<'_>) {
    let mut hidden: Vec<&Line<'_>> = Vec::new();
    for name in ["no-software-attribute", "prod"] {
        hidden.extend(draft.switch(name));
    }
    if let Some(line) = draft.last("software-attribute") {
        match line.is_on() {
            Some(false) => hidden.push(line),
            Some(true) => draft.needless(line, "it is the default, without a version"),
            None => draft.not_a_switch(line),
        }
    }
    for line in &hidden {
        draft.translated(line, "");
    }
    if !hidden.is_empty() {
        draft.set("server.software", quoted(""), &hidden);
    }
}
