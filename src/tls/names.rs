//! The names that a certificate is for, and how well one fits what a client asks for (RFC 9525
//! section 6.3).

/// How a certificate's name fits. The better one is the greater one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fit {
    /// A wildcard in the place of the first label.
    Wildcard,
    /// The name itself.
    Exact,
}

/// How a certificate's name, in lower case, fits a name.
pub(super) fn fit(of_certificate: &str, asked: &str) -> Option<Fit> {
    if of_certificate.eq_ignore_ascii_case(asked) {
        return Some(Fit::Exact);
    }
    let parent = of_certificate.strip_prefix("*.")?;
    let (label, rest) = asked.split_once('.')?;
    (!label.is_empty() && rest.eq_ignore_ascii_case(parent)).then_some(Fit::Wildcard)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// TLS-03
    #[test]
    fn a_wildcard_is_one_label() {
        for (of_certificate, asked, expected) in [
            ("turn.example.org", "turn.example.org", Some(Fit::Exact)),
            ("turn.example.org", "TURN.Example.ORG", Some(Fit::Exact)),
            ("*.example.org", "turn.example.org", Some(Fit::Wildcard)),
            ("*.example.org", "Turn.EXAMPLE.org", Some(Fit::Wildcard)),
            ("*.example.org", "a.b.example.org", None),
            ("*.example.org", "example.org", None),
            ("*.example.org", ".example.org", None),
            ("turn.example.org", "stun.example.org", None),
            ("example.org", "turn.example.org", None),
            ("", "turn.example.org", None),
        ] {
            let found = fit(of_certificate, asked);
            assert_eq!(found, expected, "{of_certificate} for {asked}");
        }
    }
}
