//! Secrets and passwords that can be guessed. Clients see proofs of them, and may try at home as fast as they can.

/// A secret this short can be found by trying.
const LENGTH_MIN: usize = 16;

/// Distinct characters of a text that counts as random. Of 16 random hexadecimal digits one in a
/// thousand has fewer than 6.
const DISTINCT_MIN: usize = 6;

/// Words of placeholders, this project's own among them.
const PLACEHOLDERS: [&str; 5] = [
    "changeme",
    "change-me",
    "change_me",
    "characters-or-more",
    "your-secret",
];

/// What is wrong with a secret or a password, without quoting it; `None` if nothing is. It goes on
/// after "a secret".
pub(super) fn weakness(secret: &str) -> Option<&'static str> {
    let plain = secret.to_lowercase();
    if secret.len() < LENGTH_MIN {
        Some("is shorter than 16 characters")
    } else if PLACEHOLDERS.iter().any(|word| plain.contains(word)) {
        Some("is the placeholder of an example, which everybody can read")
    } else if is_repetition(secret) || distinct(secret) < DISTINCT_MIN {
        Some("repeats a few characters")
    } else if is_sequence(secret.as_bytes()) {
        Some("follows the alphabet or the numbers")
    } else {
        None
    }
}

fn distinct(text: &str) -> usize {
    let mut seen = [false; 256];
    text.bytes().for_each(|byte| seen[usize::from(byte)] = true);
    seen.iter().filter(|seen| **seen).count()
}

/// Whether the text is a shorter one, several times.
fn is_repetition(text: &str) -> bool {
    let bytes = text.as_bytes();
    (1..=bytes.len() / 2).any(|period| bytes[period..] == bytes[..bytes.len() - period])
}

/// Whether two thirds of the characters are the neighbours of those before them.
fn is_sequence(bytes: &[u8]) -> bool {
    let neighbours = bytes
        .windows(2)
        .filter(|pair| pair[0].abs_diff(pair[1]) <= 1);
    neighbours.count() * 3 >= (bytes.len() - 1) * 2
}

#[cfg(test)]
mod tests {
    use super::*;

    /// PROC-07
    #[test]
    fn what_can_be_guessed_is_weak() {
        for weak in [
            "short",
            "new-secret-of-32-characters-or-more",
            "ChangeMe-please-now",
            "aaaaaaaaaaaaaaaaaaaa",
            "passwordpassword",
            "abcabcabcabcabcabca",
            "0123456789abcdef",
            "zyxwvutsrqponmlkji",
            "0101101011100101010110",
        ] {
            assert!(weakness(weak).is_some(), "{weak}");
        }
    }

    #[test]
    fn random_texts_are_strong() {
        // Made by openssl rand: 16 and 32 hexadecimal digits, 32 bytes in base64; and words.
        for strong in [
            "9f3c07d1b85e42aa",
            "4b1f9c27e86d03a5f2706b9d81ce53a4",
            "Jb0m2xOQf8nq4tW1r7ZcVh6Lk3sPyEuD9aGiXoTzRwM=",
            "north-secret-that-nobody-may-read",
        ] {
            assert_eq!(weakness(strong), None, "{strong}");
        }
    }

    /// Whoever copies the example as it is must be told.
    #[test]
    fn the_secrets_of_the_example_are_weak() {
        let example = include_str!("../../turnserver.toml.example");
        let lines = example.lines().filter(|line| line.contains("secret = ["));
        let secrets: Vec<&str> = lines
            .flat_map(|line| line.split('"').skip(1).step_by(2))
            .collect();
        assert_eq!(secrets.len(), 3, "{secrets:?}");
        for secret in secrets {
            assert!(weakness(secret).is_some(), "{secret}");
        }
    }
}
