//! Records, without what is in them (RFC 6347 §4.1).

/// Bytes of a record's header.
pub(super) const HEADER: usize = 13;

/// That what follows is encrypted.
const CHANGE_CIPHER_SPEC: u8 = 20;

/// That something is wrong, or over.
const ALERT: u8 = 21;

/// Of a handshake.
pub(super) const HANDSHAKE: u8 = 22;

/// What clients say.
pub(super) const APPLICATION_DATA: u8 = 23;

/// The first byte of both bytes of every version of DTLS.
pub(super) const VERSION_MAJOR: u8 = 0xfe;

/// Bytes of the shortest record that is encrypted: all of our suites are AES-GCM, and it has a nonce
/// and a tag (RFC 5288 §3). OpenSSL 3.0 gives a session up for a shorter one, whoever has sent it.
const SEALED_MIN: usize = 8 + 16;

/// Bytes of the longest handshake message of a client. OpenSSL reserves what a part of one promises.
const MESSAGE_MAX: usize = 4096;

/// Bytes of a handshake message's header.
pub(super) const MESSAGE_HEADER: usize = 12;

/// What the records of a datagram say of themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Records {
    /// The type of the first one.
    pub(super) first: u8,
    /// Whether the first one is neither encrypted nor authenticated.
    is_first_clear: bool,
    /// How many are encrypted.
    pub(super) sealed: usize,
    /// Whether all are what comes behind a handshake: data and alerts, encrypted.
    pub(super) is_traffic: bool,
}

impl Records {
    /// Looks at every record of a datagram. None if one of them is not whole, or none that a client
    /// sends: there is no renegotiation, so encrypted ones are of the first epoch.
    pub(super) fn of(datagram: &[u8]) -> Option<Self> {
        let mut records: Option<Self> = None;
        let mut rest = datagram;
        while !rest.is_empty() {
            let (header, behind) = rest.split_at_checked(HEADER)?;
            let content = header[0];
            let epoch = u16::from_be_bytes([header[3], header[4]]);
            let len = usize::from(u16::from_be_bytes([header[11], header[12]]));
            let (fragment, behind) = behind.split_at_checked(len)?;
            let is_clear = epoch == 0;
            let is_sound = match (is_clear, content) {
                (true, CHANGE_CIPHER_SPEC) => len == 1,
                (true, ALERT) => len == 2,
                (true, HANDSHAKE) => are_short(fragment),
                (false, CHANGE_CIPHER_SPEC | ALERT | HANDSHAKE | APPLICATION_DATA) => {
                    epoch == 1 && len >= SEALED_MIN
                }
                _ => false,
            };
            if !is_sound || header[1] != VERSION_MAJOR {
                return None;
            }
            let records = records.get_or_insert(Self {
                first: content,
                is_first_clear: is_clear,
                sealed: 0,
                is_traffic: true,
            });
            records.sealed += usize::from(!is_clear);
            records.is_traffic &= !is_clear && [ALERT, APPLICATION_DATA].contains(&content);
            rest = behind;
        }
        records
    }

    /// Whether the first one is for a handshake, and can be read.
    pub(super) const fn begins_handshake(self) -> bool {
        self.first == HANDSHAKE && self.is_first_clear
    }
}

/// Whether handshake messages, or parts of them, are none that promise much.
fn are_short(mut messages: &[u8]) -> bool {
    while !messages.is_empty() {
        let Some((header, behind)) = messages.split_at_checked(MESSAGE_HEADER) else {
            return false;
        };
        let number = |at: usize| {
            let [high, middle, low] = [at, at + 1, at + 2].map(|at| usize::from(header[at]));
            high << 16 | middle << 8 | low
        };
        let (len, part) = (number(1), number(9));
        match behind.get(part..) {
            Some(rest) if len <= MESSAGE_MAX => messages = rest,
            _ => return false,
        }
    }
    true
}

/// Has the records of a datagram that are not encrypted go on from a number. OpenSSL counts from its own
/// answer to a hello that no client has said; clients expect the number of theirs (RFC 6347 §4.2.1).
pub(super) fn renumber(datagram: &mut [u8], more: u64) {
    let mut rest = datagram;
    while let [_, _, _, e0, e1, s0, s1, s2, s3, s4, s5, l0, l1, behind @ ..] = rest {
        let len = usize::from(u16::from_be_bytes([*l0, *l1]));
        if [*e0, *e1] == [0, 0] {
            let number = u64::from_be_bytes([0, 0, *s0, *s1, *s2, *s3, *s4, *s5]);
            let [_, _, numbers @ ..] = number.wrapping_add(more).to_be_bytes();
            [*s0, *s1, *s2, *s3, *s4, *s5] = numbers;
        }
        let Some((_, next)) = behind.split_at_mut_checked(len) else {
            return;
        };
        rest = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(content: u8, epoch: u8, len: u8) -> Vec<u8> {
        let header = [content, 0xfe, 0xfd, 0, epoch, 0, 0, 0, 0, 0, 9, 0, len];
        [&header[..], &vec![7; len.into()]].concat()
    }

    /// DTLS-05: at the edge of each bound, also behind a record that is sound.
    #[test]
    fn records_that_no_client_sends_are_not_shown() {
        let sound = record(20, 0, 1);
        for (record, is_sound) in [
            (record(20, 0, 1), true),
            (record(19, 0, 1), false),
            (record(20, 0, 2), false),
            (record(21, 0, 2), true),
            (record(21, 0, 1), false),
            (record(23, 0, 1), false),
            (record(19, 1, 24), false),
            (record(23, 1, 24), true),
            (record(23, 1, 23), false),
            (record(21, 1, 0), false),
            (record(24, 1, 24), false),
            (record(23, 2, 24), false),
            (record(23, 1, 24)[..36].to_vec(), false),
            (record(23, 1, 24)[..12].to_vec(), false),
        ] {
            let behind = [&sound[..], &record].concat();
            assert_eq!(Records::of(&record).is_some(), is_sound, "{record:?}");
            assert_eq!(Records::of(&behind).is_some(), is_sound, "{record:?}");
        }
        assert_eq!(Records::of(&[]), None);
    }

    /// DTLS-05: what is shown to whom is told by all of them.
    #[test]
    fn all_records_count() {
        let of = |records: &[Vec<u8>]| Records::of(&records.concat()).unwrap();
        let (data, alert) = (record(23, 1, 30), record(21, 1, 26));
        let both = of(&[data.clone(), alert]);
        assert_eq!((both.first, both.sealed, both.is_traffic), (23, 2, true));
        for other in [record(20, 0, 1), record(21, 0, 2), record(22, 1, 48)] {
            let mixed = of(&[data.clone(), other]);
            assert!(!mixed.is_traffic && !mixed.begins_handshake());
        }
        assert!(of(&[record(22, 0, 0)]).begins_handshake());
        assert!(!of(&[record(22, 1, 48)]).begins_handshake());
    }

    /// SEC-12: a few bytes must not have OpenSSL reserve many.
    #[test]
    fn a_message_promises_no_more_than_clients_say() {
        let message = |len: u16, part: u8, bytes: u8| {
            let [high, low] = len.to_be_bytes();
            let header = [16, 0, high, low, 0, 2, 0, 0, 0, 0, 0, part];
            [&header[..], &vec![7; bytes.into()]].concat()
        };
        for (messages, expected) in [
            (message(4096, 5, 5), true),
            (message(4097, 5, 5), false),
            (message(9, 6, 5), false),
            ([message(9, 5, 5), message(9, 4, 4)].concat(), true),
            ([message(9, 5, 5), message(5000, 4, 4)].concat(), false),
            ([message(9, 5, 5), vec![1; 11]].concat(), false),
        ] {
            assert_eq!(are_short(&messages), expected, "{messages:?}");
            let header = [
                22,
                0xfe,
                0xfd,
                0,
                0,
                0,
                0,
                0,
                0,
                0,
                1,
                0,
                messages.len() as u8,
            ];
            let datagram = [&header[..], &messages].concat();
            assert_eq!(Records::of(&datagram).is_some(), expected);
        }
    }

    #[test]
    fn records_go_on_from_a_number() {
        let clear = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 255, 0, 2, 8, 8];
        let sealed = [22, 0xfe, 0xfd, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 8];
        let mut datagram = [&clear[..], &sealed, &clear, &clear[..14]].concat();
        renumber(&mut datagram, 2);
        let moved = [22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 1, 1, 0, 2, 8, 8];
        assert_eq!(
            datagram,
            [&moved[..], &sealed, &moved, &moved[..14]].concat()
        );
    }
}
