//! Certificates: for whom, for how long, and whether clients can verify them.

use super::report::Finding;
use crate::cli::certificates::{EXPIRY_DAYS, days};
use crate::config::Config;
use crate::tls::{Flaw, Pair};

const CERTIFICATES: &str = "tls.certificates";

const REFUSED: &str = "clients refuse it, and have no calls over TLS";

pub(super) fn examine(config: &Config, now_unix_s: i64) -> Vec<Finding> {
    let pairs = config.tls.pairs.iter();
    pairs.flat_map(|pair| of_pair(pair, now_unix_s)).collect()
}

fn of_pair(pair: &Pair, now_unix_s: i64) -> Vec<Finding> {
    let file = pair.files().cert.display();
    let left = pair.days_left(now_unix_s);
    let flaws = pair.flaws(now_unix_s);
    let finding = |flaw: &Flaw| {
        let found = format!("{file} {}", flaw.what());
        let finding = match flaw {
            Flaw::Expired | Flaw::NotYetValid => Finding::fail(CERTIFICATES, found).why(REFUSED),
            Flaw::Refused(_) => Finding::fail(CERTIFICATES, found),
            Flaw::NoNames | Flaw::SelfSigned | Flaw::Curve => Finding::warn(CERTIFICATES, found),
            #[cfg(feature = "dtls")]
            Flaw::NotForDtls => Finding::warn(CERTIFICATES, found),
            Flaw::BrokenChain | Flaw::Alone => Finding::warn(CERTIFICATES, found)
                .why("clients that know only the authority cannot get from it to the certificate"),
        };
        finding.fix(flaw.remedy())
    };
    let mut findings: Vec<Finding> = flaws.iter().map(finding).collect();
    if (0..EXPIRY_DAYS).contains(&left) {
        let found = format!("{file} expires {}", days(left));
        let due = Finding::warn(CERTIFICATES, found)
            .why("renewal is late: most tools renew 30 days before the end")
            .fix("look what keeps it: systemctl status certbot.timer, or the log of your tool");
        findings.push(due);
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CERTIFICATES, description(pair, now_unix_s)));
    }
    findings
}

fn description(pair: &Pair, now_unix_s: i64) -> String {
    let file = pair.files().cert.display();
    let addresses = pair.addresses().iter().map(ToString::to_string);
    let names: Vec<String> = pair.names().iter().cloned().chain(addresses).collect();
    // One alone is a flaw.
    let chain = format!("a chain of {}", pair.chain_len());
    let expires = days(pair.days_left(now_unix_s));
    let (names, algorithm) = (names.join(", "), pair.algorithm());
    format!("{file}: {names}; {algorithm}, {chain}, expires {expires}; the key fits")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use rcgen::{BasicConstraints, IsCa};

    use super::super::machine::testing::{config, expect};
    use super::super::report::Status;
    use super::*;
    use crate::tls::testing::{Authority, DAY_S, Made, NOW_UNIX_S, self_signed_as};

    fn found(made: &Made, now_unix_s: i64) -> Vec<Finding> {
        let mut config = config(&[]);
        config.tls.pairs = vec![made.pair()];
        examine(&config, now_unix_s)
    }

    #[test]
    fn certificates_are_looked_at() {
        assert_eq!(examine(&config(&[]), NOW_UNIX_S), []);
        let authority = Authority::new();
        let made = authority.issue(&["turn.example.org", "203.0.113.10"]);
        let only = |now: i64, status, text: &str| {
            let found = found(&made, now);
            assert_eq!(found.len(), 1, "{found:#?}");
            expect(&found[0], status, text);
        };
        only(
            NOW_UNIX_S,
            Status::Ok,
            "cert.pem: turn.example.org, 203.0.113.10; ECDSA, a chain of 2, expires in 90 days",
        );
        let end = Arc::clone(&made.pair()).not_after_unix_s();
        only(end - EXPIRY_DAYS * DAY_S, Status::Ok, "expires in 21 days");
        only(
            end - 20 * DAY_S,
            Status::Warn,
            "cert.pem expires in 20 days",
        );
        only(end, Status::Warn, "cert.pem expires today");
        only(end + 1, Status::Fail, "has expired");
        only(NOW_UNIX_S - 2 * DAY_S, Status::Fail, "is not valid yet");
        let alone = made.with_chain(&made.split().0);
        let alone = found(&alone, NOW_UNIX_S);
        expect(&alone[0], Status::Warn, "none of those between");
        let by_hand = self_signed_as(IsCa::Ca(BasicConstraints::Unconstrained), &["a.example"]);
        let by_hand = found(&by_hand, NOW_UNIX_S);
        expect(&by_hand[0], Status::Warn, "is self-signed");
        expect(&by_hand[1], Status::Fail, "CA:TRUE");
        assert_eq!(by_hand.len(), 2, "{by_hand:#?}");
    }
}
