//! Programs that only look. None may keep the doctor waiting, or fill its memory.

use std::io::{self, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use super::firewall::Listing;
use super::machine::{Unit, UnitSecrets};

/// How long a program may take.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes that a program may print.
const OUTPUT_MAX: u64 = 16 << 20;

/// Bytes of its complaints that are read.
const COMPLAINT_MAX: u64 = 4096;

/// Where administrators' programs are, which the path of an ordinary user lacks.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// What systemd is asked of the unit.
const PROPERTIES: &str = "--property=LoadState,User,Group,SupplementaryGroups,LimitNOFILE,\
                          AmbientCapabilities,MemoryMax";

const UNIT: &str = "turnstone.service";

/// The credential by which a unit gives the server a secret.
const CREDENTIAL: &str = "static_auth_secret";

/// The variables that do, and those that begin like them.
const VARIABLES: [&str; 2] = [
    "TURNSERVER_AUTH__STATIC_AUTH_SECRET",
    "TURNSERVER_AUTH__USERS",
];

/// Names a configuration, which may be another one than that of the doctor.
const CONFIG: &str = "TURNSERVER_CONFIG=";

/// What a program prints.
pub(super) fn listing(program: &str, arguments: &[&str]) -> Listing {
    within(TIMEOUT, OUTPUT_MAX, program, arguments)
}

fn within(timeout: Duration, output_max: u64, program: &str, arguments: &[&str]) -> Listing {
    let child = Command::new(program)
        .args(arguments)
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let mut child = match child {
        Ok(child) => child,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Listing::Missing,
        Err(error) => return Listing::Failed(error.to_string()),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (sender, read) = mpsc::channel();
    thread::spawn(move || {
        let (mut output, mut complaint) = (vec![], vec![]);
        // What cannot be read is as good as not said.
        let _ = stdout.map(|from| from.take(output_max + 1).read_to_end(&mut output));
        let _ = stderr.map(|from| from.take(COMPLAINT_MAX).read_to_end(&mut complaint));
        // Nobody listens any more if the time is up.
        let _ = sender.send((output, complaint));
    });
    let answer = read.recv_timeout(timeout);
    if answer.is_err() {
        let _ = child.kill();
    }
    let status = child.wait();
    let Ok((output, complaint)) = answer else {
        return Listing::Failed(format!("no answer within {} s", timeout.as_secs()));
    };
    if output.len() as u64 > output_max {
        return Listing::Failed(format!("more than {} MiB", output_max >> 20));
    }
    match status {
        Ok(status) if status.success() => {
            Listing::Text(String::from_utf8_lossy(&output).into_owned())
        }
        Ok(status) => {
            let complaint = String::from_utf8_lossy(&complaint);
            let first = complaint.lines().next().unwrap_or_default().trim();
            Listing::Failed(if first.is_empty() {
                status.to_string()
            } else {
                first.to_owned()
            })
        }
        Err(error) => Listing::Failed(error.to_string()),
    }
}

/// The unit turnstone.service with its drop-ins, as systemd has it.
pub(super) fn unit() -> Option<Unit> {
    let text = match listing("systemctl", &["show", UNIT, PROPERTIES]) {
        Listing::Text(text) => text,
        Listing::Missing | Listing::Failed(_) => return None,
    };
    let mut unit = parse_unit(&text)?;
    // Of credentials show tells nothing.
    unit.secrets = match listing("systemctl", &["cat", UNIT]) {
        Listing::Text(text) => secrets(&text),
        Listing::Missing | Listing::Failed(_) => UnitSecrets {
            perhaps: vec!["systemctl cat fails".to_owned()],
            ..UnitSecrets::default()
        },
    };
    Some(unit)
}

fn parse_unit(text: &str) -> Option<Unit> {
    let property = |name: &str| {
        let lines = text.lines().filter_map(|line| line.split_once('='));
        lines
            .filter(|(key, _)| *key == name)
            .map(|(_, value)| value)
            .next()
    };
    if property("LoadState")? != "loaded" {
        return None;
    }
    let number = |name| property(name).and_then(|text| text.parse().ok());
    let groups = [property("Group"), property("SupplementaryGroups")].into_iter();
    let groups = groups.flatten().flat_map(str::split_ascii_whitespace);
    let capabilities = property("AmbientCapabilities").unwrap_or_default();
    Some(Unit {
        user: property("User").unwrap_or_default().to_owned(),
        groups: groups.map(str::to_owned).collect(),
        secrets: UnitSecrets::default(),
        // "infinity" is no number, and is as much as can be written in one.
        files: number("LimitNOFILE").or_else(|| property("LimitNOFILE").map(|_| u64::MAX)),
        capabilities: capabilities
            .split_ascii_whitespace()
            .map(str::to_lowercase)
            .collect(),
        memory: number("MemoryMax").filter(|bytes| *bytes != u64::MAX),
    })
}

/// What gives the server a secret, in the files of a unit (systemd.syntax(7)) one after the other.
fn secrets(text: &str) -> UnitSecrets {
    let mut secrets = UnitSecrets::default();
    let unfolded = text.replace("\\\n", " ");
    let lines = unfolded
        .lines()
        .filter(|line| !line.trim_start().starts_with(['#', ';']));
    for (key, value) in lines.filter_map(|line| line.split_once('=')) {
        let (key, value) = (key.trim(), value.trim());
        let of_key = format!("{key}=");
        match key {
            // An empty value takes back what was said before.
            _ if value.is_empty() => {
                secrets
                    .given
                    .retain(|setting| !setting.starts_with(&of_key));
                secrets
                    .perhaps
                    .retain(|setting| !setting.starts_with(&of_key));
            }
            "LoadCredential"
            | "LoadCredentialEncrypted"
            | "SetCredential"
            | "SetCredentialEncrypted"
                if value.split(':').next() == Some(CREDENTIAL) =>
            {
                secrets.given.push(format!("{key}={CREDENTIAL}"));
            }
            "Environment" => {
                let given = VARIABLES.iter().filter(|name| value.contains(**name));
                secrets
                    .given
                    .extend(given.map(|name| format!("{of_key}{name}")));
                if value.contains(CONFIG) {
                    secrets.perhaps.push(format!("{of_key}{CONFIG}"));
                }
            }
            "EnvironmentFile" | "ImportCredential" => secrets.perhaps.push(of_key),
            _ => {}
        }
    }
    secrets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_that_answer_fail_hang_and_are_missing() {
        let run = |timeout, max, script| within(timeout, max, "sh", &["-c", script]);
        let soon = TIMEOUT * 4;
        let text = |text: &str| Listing::Text(text.to_owned());
        let failed = |text: &str| Listing::Failed(text.to_owned());
        assert_eq!(run(soon, 3, "printf abc"), text("abc"));
        assert_eq!(run(soon, 2, "printf abc"), failed("more than 0 MiB"));
        assert_eq!(run(soon, 9, "echo no >&2; exit 3"), failed("no"));
        assert_eq!(run(soon, 9, "exit 3"), failed("exit status: 3"));
        let never = run(Duration::from_millis(50), 9, "exec sleep 1000");
        assert_eq!(never, failed("no answer within 0 s"));
        assert_eq!(listing("no-such-program-here", &[]), Listing::Missing);
    }

    /// The unit that the README recommends has its secret by LoadCredential=.
    #[test]
    fn the_units_own_secret_is_found() {
        for text in [
            "# /etc/systemd/system/turnstone.service\n[Service]\nUser=turnstone\n\
             LoadCredential=static_auth_secret:/etc/turnstone/secret\n",
            "LoadCredentialEncrypted = static_auth_secret",
            "SetCredential=static_auth_secret:hush",
            "SetCredentialEncrypted=static_auth_secret: \\\n    hush",
            "Environment=TURNSERVER_REALM=x \\\n  TURNSERVER_AUTH__STATIC_AUTH_SECRET=hush",
            "Environment=\"TURNSERVER_AUTH__USERS=a=hush\"",
        ] {
            let secrets = secrets(text);
            assert_eq!(secrets.given.len(), 1, "{text}");
            assert!(!secrets.given[0].contains("hush"), "{secrets:?}");
        }
        for text in [
            "EnvironmentFile=-/etc/default/turnstone",
            "ImportCredential=static_*",
            "Environment=TURNSERVER_CONFIG=/x",
        ] {
            let secrets = secrets(text);
            let is_perhaps = secrets.given.is_empty() && secrets.perhaps.len() == 1;
            assert!(is_perhaps, "{text}: {secrets:?}");
        }
        for text in [
            "#   LoadCredential=static_auth_secret:/etc/turnstone/secret",
            "LoadCredential=nonce_secret:/x",
            "LoadCredential=static_auth_secret:/x\n# a drop-in\n[Service]\nLoadCredential=",
            "EnvironmentFile=/x\nEnvironmentFile=",
            "Environment=PATH=/x",
        ] {
            assert_eq!(secrets(text), UnitSecrets::default(), "{text}");
        }
        let packaged = include_str!("../../../systemd/turnstone.service");
        assert_eq!(secrets(packaged), UnitSecrets::default());
    }

    /// By a group of the unit its server may read what its user may not.
    #[test]
    fn the_units_groups_are_found() {
        let unit = parse_unit("LoadState=loaded\nGroup=a\nSupplementaryGroups=b c\n").unwrap();
        assert_eq!(unit.groups, ["a", "b", "c"]);
    }

    #[test]
    fn the_unit_as_systemd_shows_it() {
        let text = "LoadState=loaded\nUser=turnstone\nLimitNOFILE=262144\n\
                    AmbientCapabilities=cap_net_bind_service cap_net_admin\nMemoryMax=infinity\n";
        let unit = parse_unit(text).unwrap();
        assert_eq!(
            (unit.user.as_str(), unit.files, unit.memory),
            ("turnstone", Some(262_144), None)
        );
        assert!(unit.has("cap_net_admin") && !unit.has("cap_chown"));
        let text = "LoadState=loaded\nUser=\nLimitNOFILE=infinity\nMemoryMax=1048576\n";
        let unit = parse_unit(text).unwrap();
        assert_eq!((unit.files, unit.memory), (Some(u64::MAX), Some(1_048_576)));
        assert!(unit.has("cap_chown"), "root has everything");
        assert_eq!(parse_unit("LoadState=not-found\nUser=\n"), None);
        assert_eq!(parse_unit(""), None);
    }
}
