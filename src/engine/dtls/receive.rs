//! What a worker does with the datagrams of DTLS listeners, and with sessions and their ends.

use std::ops::{Range, RangeInclusive};
use std::sync::Arc;

use super::Path;
use super::association::{Association, Step};
use super::hello::{ClientHello, RANDOM_LEN, is_client_hello};
use super::record::{APPLICATION_DATA, Records};
use super::session::Session;
use crate::engine::clock;
use crate::engine::stream::{Ending, Notice};
use crate::engine::udp::sys::{self, HeaderFields};
use crate::engine::worker::Worker;
use crate::turn::{Client, FiveTuple, Link, Now, Time};

/// Sessions that begin in a round. A signature takes a tenth of a millisecond (ECDSA) to one (RSA), and
/// calls are to go on; who has to wait says its hello again in a second.
const BEGUN_PER_ROUND: usize = 4;

/// Datagrams of handshakes that OpenSSL is shown in a round, of which each may cost a key exchange. What is
/// beyond comes again, as what the network loses.
const SHOWN_PER_ROUND: usize = 16;

/// Messages of one datagram that are handled. Clients send one in each.
const MESSAGES_PER_DATAGRAM: usize = 8;

/// Encrypted records that a client may send before its handshake is complete: the end of it and four
/// repetitions come before the deadline.
const PATIENCE: usize = 6;

/// The first bytes of DTLS (RFC 7983 §7).
const FIRST_BYTES: RangeInclusive<u8> = 20..=63;

impl Worker {
    /// A datagram at a listener for DTLS, in a slot of the batch.
    pub(in crate::engine) fn receive_dtls(
        &mut self,
        now: Now,
        slot: usize,
        five_tuple: FiveTuple,
        listener: usize,
    ) {
        let datagram = self.batch.payload(slot);
        let first = datagram.first();
        if !first.is_some_and(|first| FIRST_BYTES.contains(first)) {
            self.dtls.counted.not_dtls += 1;
            return;
        }
        let Some(records) = Records::of(datagram) else {
            self.dtls.counted.malformed += 1;
            return;
        };
        let path = Path {
            client: five_tuple.client,
            server: five_tuple.server,
        };
        let link = match is_client_hello(records, datagram) {
            true => self.hear_hello(now, slot, five_tuple, listener),
            false => {
                let link = self.dtls.sessions.of_records(&path, records);
                self.dtls.counted.no_session += u64::from(link.is_none());
                link
            }
        };
        let Some(link) = link else {
            return;
        };
        if self.has_given_way(link) {
            self.end_session(link, None);
            return;
        }
        if !self.may_show(link, records) {
            return;
        }
        self.dtls.wire.put(self.batch.payload(slot));
        let has_plaintext = self.read_session(now, slot, link);
        if records.first == APPLICATION_DATA && !has_plaintext {
            self.dtls.counted.discarded += 1;
        }
    }

    /// Whether a session had to make room for another.
    fn has_given_way(&mut self, link: Link) -> bool {
        let session = self.dtls.sessions.get_mut(link);
        session.is_some_and(|session| session.notice.is_eviction())
    }

    /// Whether OpenSSL is shown the records of a datagram. In a handshake it keeps what is encrypted until
    /// it can be read, so there are to be few; behind it is shown data and alerts alone, and a client that
    /// has not got the end of the handshake is told again by us.
    fn may_show(&mut self, link: Link, records: Records) -> bool {
        let Some(session) = self.dtls.sessions.get_mut(link) else {
            return false;
        };
        if session.is_established && records.is_traffic {
            return true;
        }
        let wanted = if session.is_established {
            1
        } else {
            records.sealed
        };
        let Some(left) = session.patience.checked_sub(wanted) else {
            self.dtls.counted.discarded += 1;
            return false;
        };
        session.patience = left;
        if !session.is_established && self.dtls.shown >= SHOWN_PER_ROUND {
            self.dtls.counted.busy += 1;
            return false;
        }
        if session.is_established {
            let (five_tuple, listener) = (session.five_tuple(), session.listener);
            let last_flight = std::mem::take(&mut session.last_flight);
            for datagram in &last_flight {
                self.send_datagram(listener, five_tuple, datagram);
            }
            if let Some(session) = self.dtls.sessions.get_mut(link) {
                session.last_flight = last_flight;
            }
            return false;
        }
        self.dtls.shown += 1;
        true
    }

    /// A ClientHello, which nothing is kept of unless it has a cookie of ours. Returns the session that
    /// is to have it.
    fn hear_hello(
        &mut self,
        now: Now,
        slot: usize,
        five_tuple: FiveTuple,
        listener: usize,
    ) -> Option<Link> {
        let hello = ClientHello::parse(self.batch.payload(slot));
        let Some(hello) = hello else {
            self.dtls.counted.malformed += 1;
            return None;
        };
        let FiveTuple { client, server, .. } = five_tuple;
        let path = Path { client, server };
        // It is the second message of its handshake, in another record than the first.
        let is_second = hello.message == 1 && hello.sequence > 0;
        if is_second && self.dtls.cookies.verify(now.time, &path, &hello) {
            if let Some(link) = self.dtls.sessions.begun_with(&path, &hello.random) {
                return (self.dtls.sessions.beginning(&path) == Some(link)).then_some(link);
            }
            // The flight behind it is longer than the hello, and a cookie can be said again.
            if !self.server.admits_reply(now.time, client.ip()) {
                return None;
            }
            let begins = (hello.sequence, hello.random);
            return self.begin_session(now, five_tuple, listener, begins);
        }
        if hello.message != 0 {
            self.dtls.counted.malformed += 1;
            return None;
        }
        if self.server.handle_connect(five_tuple).is_err()
            || !self.server.admits_reply(now.time, client.ip())
        {
            return None;
        }
        let cookie = self.dtls.cookies.of(now.time, &path, &hello);
        let reply = hello.verify_request(cookie);
        self.dtls.counted.cookies += 1;
        self.send_datagram(listener, five_tuple, &reply);
        None
    }

    /// Takes a client in whose cookie is right, unless there are too many.
    fn begin_session(
        &mut self,
        now: Now,
        five_tuple: FiveTuple,
        listener: usize,
        (sequence, random): (u64, [u8; RANDOM_LEN]),
    ) -> Option<Link> {
        let context = self.streams.settings.dtls.clone()?;
        if self.dtls.begun >= BEGUN_PER_ROUND {
            self.dtls.counted.busy += 1;
            return None;
        }
        for evicted in self.dtls.sessions.evicted() {
            self.end_session(evicted, None);
        }
        if self.refuses(five_tuple) {
            return None;
        }
        let notice = Arc::new(Notice::default());
        let place = self.admit(five_tuple.client, false, &notice)?;
        let association = Association::new(&context, &self.dtls.wire, sequence, random).ok()?;
        self.dtls.begun += 1;
        let FiveTuple { client, server, .. } = five_tuple;
        let path = Path { client, server };
        if let Some(replaced) = self.dtls.sessions.beginning(&path) {
            self.end_session(replaced, Some(Ending::Replaced));
        }
        Some(self.dtls.sessions.insert(Session {
            association,
            path,
            listener,
            is_established: false,
            patience: PATIENCE,
            last_flight: Vec::new(),
            place,
            notice,
            alone_since: now.time,
        }))
    }

    /// Has a session take what is on the wire, and handles what it says. Whether it says anything.
    fn read_session(&mut self, now: Now, slot: usize, link: Link) -> bool {
        let mut messages = 0;
        loop {
            let has_plaintext = messages > 0;
            let Some(session) = self.dtls.sessions.get_mut(link) else {
                return has_plaintext;
            };
            // The first record's plaintext comes to where the record was. What is made of it may have to
            // wait there, so that of others comes elsewhere first.
            let plain = self.batch.payload_room(slot);
            let step = match has_plaintext {
                false => session.association.step(plain),
                true => session.association.step(&mut self.dtls.plain),
            };
            let is_new = !session.is_established && session.association.is_established();
            if is_new {
                session.patience = PATIENCE;
                let (last_flight, association) = (&mut session.last_flight, &session.association);
                self.dtls.wire.written(|datagram| {
                    let mut datagram = datagram.to_vec();
                    association.renumber(&mut datagram);
                    last_flight.push(datagram);
                });
            }
            self.send_wire(link);
            if is_new {
                self.establish_session(link);
            }
            match step {
                Step::Plain(_) if messages == MESSAGES_PER_DATAGRAM => {
                    self.dtls.counted.discarded += 1;
                }
                Step::Plain(len) => {
                    messages += 1;
                    if has_plaintext {
                        self.flush_to_peers();
                        self.batch.payload_room(slot)[..len]
                            .copy_from_slice(&self.dtls.plain[..len]);
                    }
                    self.batch.set_len(slot, len);
                    self.handle_plaintext(now, slot, link);
                }
                Step::Done => return has_plaintext,
                Step::Closed => {
                    self.end_session(link, None);
                    return true;
                }
                Step::Failed(failure) => {
                    self.fail_session(link, &failure);
                    return true;
                }
            }
        }
    }

    /// The handshake of a session is complete.
    fn establish_session(&mut self, link: Link) {
        self.dtls.counted.handshakes += 1;
        if let Some(replaced) = self.dtls.sessions.establish(link) {
            self.end_session(replaced, Some(Ending::Replaced));
        }
    }

    fn fail_session(&mut self, link: Link, failure: &super::Failure) {
        let Some(session) = self.dtls.sessions.get_mut(link) else {
            return;
        };
        let ending = match session.is_established {
            true => Ending::TlsBroken,
            false => {
                self.log.handshake_failed(session.path.client, failure);
                Ending::TlsHandshake
            }
        };
        self.end_session(link, Some(ending));
    }

    /// What a client has said, in a slot of the batch.
    fn handle_plaintext(&mut self, now: Now, slot: usize, link: Link) {
        let Some(session) = self.dtls.sessions.get_mut(link) else {
            return;
        };
        let client = Client {
            five_tuple: session.five_tuple(),
            link,
        };
        // It could not say anything without the end of the handshake.
        session.last_flight = Vec::new();
        if session.association.is_for_nat_discovery() {
            let message = self.batch.payload(slot);
            self.server.handle_nat_discovery(now, client, message);
            self.act(now);
            return;
        }
        self.handle_datagram(now, slot, client);
    }

    /// Encrypts a message in a slot of the batch where it is. Returns the listener that it leaves by, and
    /// its new place.
    pub(in crate::engine) fn seal(
        &mut self,
        client: &Client,
        slot: usize,
        message: Range<usize>,
    ) -> Option<(Link, Range<usize>)> {
        let session = self.dtls.sessions.of_client(client)?;
        self.dtls.wire.clear();
        let bytes = self.batch.slot_mut(slot);
        if !session.association.write(&bytes[message.clone()]) {
            return None;
        }
        let mut sealed = None;
        self.dtls.wire.take_written(|datagram| {
            let range = message.start..message.start + datagram.len();
            if let Some(room) = bytes.get_mut(range.clone()) {
                room.copy_from_slice(datagram);
                sealed = Some(range);
            }
        });
        Some((Link(session.listener as u32), sealed?))
    }

    /// Encrypts and sends one message. Whether it is an answer says how far the client has come.
    pub(in crate::engine) fn send_dtls(
        &mut self,
        client: &Client,
        message: &[u8],
        is_answer: bool,
    ) {
        let has_allocation = is_answer && self.server.has_allocation(&client.five_tuple);
        let session = self.dtls.sessions.of_client(client);
        let sent = session.is_some_and(|session| {
            if is_answer {
                session.set_allocation(has_allocation);
            }
            self.dtls.wire.clear();
            session.association.write(message)
        });
        match sent {
            true => self.send_wire(client.link),
            false => self.count_unsent(1),
        }
    }

    /// Sends what a session has put on the wire.
    fn send_wire(&mut self, link: Link) {
        let Some(session) = self.dtls.sessions.get_mut(link) else {
            return;
        };
        let five_tuple = session.five_tuple();
        let socket = self.doors.udp(session.listener).map(|it| &it.socket);
        let fields = source(five_tuple);
        let mut unsent = 0;
        self.dtls.wire.take_written(|datagram| {
            session.association.renumber(datagram);
            let sent = socket.map(|it| sys::send_one(it, datagram, five_tuple.client, &fields));
            unsent += u64::from(sent.is_none_or(|sent| sent.is_err()));
        });
        self.count_unsent(unsent);
    }

    fn send_datagram(&mut self, listener: usize, five_tuple: FiveTuple, datagram: &[u8]) {
        let socket = self.doors.udp(listener).map(|it| &it.socket);
        let fields = source(five_tuple);
        let sent = socket.map(|it| sys::send_one(it, datagram, five_tuple.client, &fields));
        self.count_unsent(u64::from(sent.is_none_or(|sent| sent.is_err())));
    }

    /// A look at the clock: handshakes say again what was lost, and what is over ends.
    pub(in crate::engine) fn tick_dtls(&mut self, now: Time) {
        for link in self.dtls.sessions.links() {
            let Some(session) = self.dtls.sessions.get_mut(link) else {
                continue;
            };
            let has_allocation =
                session.is_established && self.server.has_allocation(&session.five_tuple());
            let limits = &self.streams.settings.limits;
            let ending = session.tick(now, has_allocation, limits);
            let has_no_listener = self.doors.udp(session.listener).is_none();
            if session.notice.is_eviction() {
                self.end_session(link, None);
            } else if has_no_listener {
                self.end_session(link, Some(Ending::ListenerClosed));
            } else if ending.is_some() {
                self.end_session(link, ending);
            } else if !session.is_established {
                self.repeat_flight(link);
            }
        }
    }

    /// Has a handshake send again what has not been answered in time: OpenSSL looks at its clock whenever
    /// it is asked to go on.
    fn repeat_flight(&mut self, link: Link) {
        let Some(session) = self.dtls.sessions.get_mut(link) else {
            return;
        };
        self.dtls.wire.clear();
        let step = session.association.step(&mut self.dtls.plain);
        self.send_wire(link);
        if let Step::Failed(failure) = step {
            self.fail_session(link, &failure);
        }
    }

    /// Ends the sessions of a listener that is closed.
    pub(in crate::engine) fn close_dtls(&mut self, listener: usize) {
        for link in self.dtls.sessions.links() {
            let session = self.dtls.sessions.get_mut(link);
            if session.is_some_and(|session| session.listener == listener) {
                self.end_session(link, Some(Ending::ListenerClosed));
            }
        }
    }

    /// Says goodbye to every client.
    pub(in crate::engine) fn shut_down_dtls(&mut self) {
        for link in self.dtls.sessions.links() {
            self.end_session(link, None);
        }
    }

    /// The place of the listener that a client with a session uses.
    pub(in crate::engine) fn dtls_listener(&self, client: &Client) -> Option<usize> {
        self.dtls.sessions.listener_of(client)
    }

    /// A session has ended, by the server's will if there is a reason.
    fn end_session(&mut self, link: Link, ending: Option<Ending>) {
        let Some(session) = self.dtls.sessions.get_mut(link) else {
            return;
        };
        self.dtls.wire.clear();
        session.association.close();
        self.send_wire(link);
        let Some(session) = self.dtls.sessions.remove(link) else {
            return;
        };
        let five_tuple = session.five_tuple();
        match ending {
            Some(ending) => {
                self.streams.endings.count(ending);
                self.log.connection_ended(five_tuple.client, ending);
            }
            None if session.notice.is_eviction() => {}
            None => self.streams.ended_by_client += 1,
        }
        let was_established = session.is_established;
        // Its place is free for others from here on.
        drop(session);
        if was_established {
            let now = clock::now();
            self.server.handle_disconnect(now.time, &five_tuple);
            self.act(now);
            self.write_events();
        }
    }
}

/// Replies come from where the client has sent to.
const fn source(five_tuple: FiveTuple) -> HeaderFields {
    HeaderFields {
        source: Some(five_tuple.server.ip()),
        ttl: None,
        tos: 0,
    }
}
