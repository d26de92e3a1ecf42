//! Why an attempt failed, in the authority's words, and what the operator can do about it.

use std::error::Error as StdError;
use std::fmt;
use std::time::Duration;

use instant_acme::{Error, Problem};

use super::schedule::Stage;
use super::{ChallengeKind, Settings};
use crate::https::SendError;

/// Characters of an authority's text that are told.
const TOLD_MAX: usize = 500;

/// Characters of the kind of a problem, of which the longest that is known has 23.
const KIND_MAX: usize = 40;

/// Characters of a reason, with what stands around the authority's text.
const WHY_MAX: usize = TOLD_MAX + 500;

/// Characters of a remedy: the names of a whole order may be in it.
const REMEDY_MAX: usize = 1000;

/// Why there is no certificate.
#[derive(Debug)]
pub(super) struct Failure {
    pub(super) stage: Stage,
    /// What happened.
    pub(super) why: String,
    /// What the operator can do.
    pub(super) remedy: String,
    /// How long the authority wants to be left alone.
    pub(super) after: Option<Duration>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}; {}", self.why, self.remedy)
    }
}

impl Failure {
    /// Either text may have parts that are the authority's.
    pub(super) fn new(stage: Stage, why: impl AsRef<str>, remedy: impl AsRef<str>) -> Self {
        Self {
            stage,
            why: cut(why.as_ref(), WHY_MAX),
            remedy: cut(remedy.as_ref(), REMEDY_MAX),
            after: None,
        }
    }

    /// Of what the library tells.
    pub(super) fn of(error: &Error, stage: Stage, settings: &Settings) -> Self {
        match error {
            Error::Api(problem) => Self::of_problem(problem, None, settings),
            Error::Other(other) => {
                let is_unsent = other.downcast_ref::<SendError>().is_some();
                let remedy = match (is_unsent, other.to_string()) {
                    (true, told) if told.contains("certificate") => {
                        "let tls.acme.ca_file name the authorities of the ACME server, or check the \
                         clock"
                            .to_owned()
                    }
                    (true, _) => unreachable_remedy(settings),
                    (false, _) => "look whether tls.acme.directory is an ACME directory".to_owned(),
                };
                Self::new(stage, told(&other.to_string()), remedy)
            }
            Error::Timeout(_) => Self::new(
                stage,
                "the authority did not finish in time",
                "nothing is to be done if it happens once",
            ),
            other => Self::new(
                stage,
                told(&with_causes(other)),
                "look whether tls.acme.directory is an ACME directory",
            ),
        }
    }

    /// Of what an authority tells of a name, or of the order as a whole.
    pub(super) fn of_problem(problem: &Problem, domain: Option<&str>, settings: &Settings) -> Self {
        let mut why = match domain {
            Some(domain) => format!("{domain}: "),
            None => String::new(),
        };
        why += problem.detail.as_deref().unwrap_or("no reason was told");
        let kind = problem.r#type.as_deref().unwrap_or_default();
        let kind = kind
            .strip_prefix("urn:ietf:params:acme:error:")
            .unwrap_or(kind);
        for inner in &problem.subproblems {
            why += "; ";
            why += &inner.to_string();
        }
        let domain = domain.map_or_else(|| settings.domains.join(", "), str::to_owned);
        let remedy = remedy(kind, &domain, settings.challenge);
        Self::new(
            Stage::Ordered,
            format!("{} ({})", told(&why), cut(kind, KIND_MAX)),
            remedy,
        )
    }
}

fn unreachable_remedy(settings: &Settings) -> String {
    let target = settings.target();
    format!(
        "let this server reach {} (DNS, and TCP port {} outgoing), or mend tls.acme.directory",
        target.url.host().unwrap_or_default(),
        target.port()
    )
}

/// What to do about a problem of this kind (RFC 8555 section 6.7).
fn remedy(kind: &str, domain: &str, challenge: ChallengeKind) -> String {
    let port = challenge.port();
    match kind {
        "dns" => format!(
            "make A or AAAA records of {domain} that lead to this server, and wait until they are \
             known"
        ),
        "connection" | "tls" => format!(
            "open TCP port {port} of {domain} to the Internet (firewall, NAT), and let it lead to \
             this server by every A and AAAA record"
        ),
        "unauthorized" | "incorrectResponse" => format!(
            "it is not this server that answers at port {port} of {domain}: look where its A and \
             AAAA records lead, at the firewall, and whether a proxy is in front"
        ),
        "caa" => format!("let the CAA records of {domain} name this authority, or remove them"),
        "rateLimited" => "wait; for tests use directory = \"letsencrypt-staging\"".to_owned(),
        "rejectedIdentifier" | "unsupportedIdentifier" => {
            "remove the name from tls.acme.domains, or use another authority".to_owned()
        }
        "externalAccountRequired" => {
            "set tls.acme.eab_key_id and tls.acme.eab_key_file to what the authority gave you"
                .to_owned()
        }
        "invalidContact" | "unsupportedContact" => {
            "set tls.acme.email to an address that the authority accepts".to_owned()
        }
        "userActionRequired" => "do what the text says".to_owned(),
        _ => "look for the reason in the text, or ask the authority".to_owned(),
    }
}

/// A foreign text, for one line.
pub(super) fn told(text: &str) -> String {
    cut(text, TOLD_MAX)
}

/// The same of so many characters.
fn cut(text: &str, chars_max: usize) -> String {
    let plain = |c: char| if is_of_line(c) { c } else { ' ' };
    text.chars().map(plain).take(chars_max).collect()
}

/// Whether a character leaves the line as it is: some turn its direction, or end it for some readers.
fn is_of_line(c: char) -> bool {
    !c.is_control() && !matches!(c, '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

fn with_causes(error: &dyn StdError) -> String {
    match error.source() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::settings;
    use super::*;

    fn problem(kind: &str, detail: &str) -> Problem {
        let json =
            format!("{{\"type\":\"urn:ietf:params:acme:error:{kind}\",\"detail\":{detail:?}}}");
        serde_json::from_str(&json).unwrap()
    }

    /// ACME-07
    #[test]
    fn the_reason_is_the_authoritys_and_the_remedy_ours() {
        let settings = settings();
        for (kind, remedy) in [
            ("dns", "make A or AAAA records of turn.example.org"),
            ("connection", "open TCP port 443 of turn.example.org"),
            (
                "unauthorized",
                "it is not this server that answers at port 443",
            ),
            ("caa", "let the CAA records"),
            ("rateLimited", "wait"),
            ("externalAccountRequired", "set tls.acme.eab_key_id"),
            ("unheard-of", "look for the reason"),
        ] {
            let problem = problem(kind, "no\nluck");
            let failure = Failure::of_problem(&problem, Some("turn.example.org"), &settings);
            let expected = format!("turn.example.org: no luck ({kind}); {remedy}");
            let told = failure.to_string();
            assert!(told.starts_with(&expected), "{told}");
            assert_eq!(failure.stage, Stage::Ordered);
        }
    }

    #[test]
    fn an_endless_text_is_cut() {
        let failure = Failure::of_problem(&problem("dns", &"x".repeat(9999)), None, &settings());
        assert!(failure.why.len() < TOLD_MAX + 10);
    }

    /// ACME-07: an authority writes no lines of the log.
    #[test]
    fn a_reason_is_one_line() {
        let line = "\n2026-01-01 ERROR \u{1b}[31mforged\u{202e}";
        let long = format!("{line}{}", "x".repeat(100_000));
        let json = serde_json::json!({ "type": long, "detail": long });
        let problem = serde_json::from_value(json).unwrap();
        let settings = settings();
        let of_name = |name| Failure::of_problem(&problem, name, &settings);
        let dns: Problem = self::problem("dns", "no");
        for failure in [
            of_name(None),
            of_name(Some("turn.example.org")),
            of_name(Some(&long)),
            Failure::of_problem(&dns, Some(&long), &settings),
            Failure::new(Stage::Ordered, &long, &long),
        ] {
            let told = failure.to_string();
            assert!(told.chars().all(is_of_line), "{told}");
            assert!(told.len() < WHY_MAX + REMEDY_MAX + 10, "{}", told.len());
        }
    }

    #[test]
    fn who_is_not_reached_is_told_with_the_port() {
        let error = SendError::TimedOut(Duration::from_secs(30));
        let error = Error::Other(Box::new(error));
        let failure = Failure::of(&error, Stage::Unreached, &settings());
        let told = failure.to_string();
        assert!(
            told.contains("no answer within 30 s; let this server reach ca.example"),
            "{told}"
        );
        assert!(told.contains("TCP port 14000 outgoing"), "{told}");
        assert_eq!(failure.stage, Stage::Unreached);
    }
}
