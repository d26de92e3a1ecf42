//! `turn::Server` under a list of operations: clients, peers, routers, the host and the clock.
//!
//! The input is read as `Setting`, then as one `Operation` after another (`operation`). A ledger
//! of what clients were granted, made of requests and their answers only, says what may be relayed
//! (`ledger`). Messages, host and the operator's lists are those of `tests/sim`.
#![no_main]
#![allow(clippy::unwrap_used, reason = "a failed assertion is a find")]

#[path = "../../../sim/host.rs"]
#[allow(dead_code, reason = "the simulation needs more of it")]
mod host;
mod ledger;
#[path = "../../../sim/world/lists.rs"]
mod lists;
#[path = "../../../sim/message.rs"]
#[allow(dead_code, reason = "likewise")]
mod message;
mod operation;

use arbitrary::Unstructured;
use libfuzzer_sys::fuzz_target;
use turnstone::turn::{Event, IpHeader, Time};
use turnstone::wire::{Class, ClassicRequest, IcmpAttribute, Message, Method};

use host::{Binds, Host, Setup, Socket, relay};
use ledger::{DENIED_RELAYS, Ledger, PORTS, assert_answer, is_authentic};
use lists::Lists;
use operation::{Cast, Operation};

/// Operations of one run: a longer input is cut.
const OPERATIONS_MAX: usize = 200;

fuzz_target!(|input: &[u8]| {
    let mut input = Unstructured::new(input);
    let mut trial = Trial::new(operation::byte(&mut input));
    for _ in 0..OPERATIONS_MAX {
        if input.is_empty() {
            break;
        }
        let operation = Operation::read(&mut input);
        trial.run(operation);
        trial.check();
    }
    trial.wind_down();
});

struct Trial {
    host: Host,
    cast: Cast,
    ledger: Ledger,
    /// Sockets that were ever asked for.
    asked: Vec<Socket>,
    limits: turnstone::turn::Limits,
    lists: Lists,
}

impl Trial {
    fn new(setting: u8) -> Self {
        let nat = turnstone::turn::RelayAddress {
            bound: host::ip("10.0.0.5"),
            advertised: host::ip("203.0.113.10"),
        };
        let relays = match setting % 3 {
            0 => vec![relay("192.0.2.15"), relay("2001:db8::15")],
            1 => vec![nat, relay("2001:db8::15")],
            _ => vec![relay("192.0.2.15")],
        };
        let limits = turnstone::turn::Limits {
            allocations_per_user: 3,
            allocations_total: 5,
            permissions_per_allocation: 3,
            channels_per_allocation: 2,
            ..Default::default()
        };
        let lists = Lists {
            are_written: setting & 0x80 != 0,
        };
        let mut peers = lists.peers();
        if lists.are_written {
            peers.deny.push(DENIED_RELAYS.parse().unwrap());
        }
        let host = Host::new(Setup {
            relays: relays.clone(),
            ports: PORTS,
            limits: limits.clone(),
            clients: lists.clients(),
            peers,
            binds: if setting & 0x40 == 0 {
                Binds::Succeed
            } else {
                Binds::Wait
            },
            classic_stun: setting & 0x10 != 0,
            dont_fragment: setting & 0x20 == 0,
            ..Setup::default()
        });
        Self {
            host,
            cast: Cast::new(),
            ledger: Ledger::new(relays, lists),
            asked: Vec::new(),
            limits,
            lists,
        }
    }

    fn run(&mut self, operation: Operation) {
        match operation {
            Operation::Packet { client, ip, packet } => {
                // Who has no nonce yet asks for one first.
                if let Some(bare) = self.cast.challenge(client, &packet) {
                    self.arrive(client, IpHeader::default(), &bare);
                }
                let bytes = self.cast.bytes(client, packet);
                self.arrive(client, ip, &bytes);
            }
            Operation::Peer {
                socket,
                peer,
                len,
                ip,
            } => self.peer_packet(socket, peer, len, ip),
            Operation::Icmp { socket, peer, icmp } => self.icmp(socket, peer, icmp),
            Operation::Report { which, outcome } => {
                if !self.host.waiting.is_empty() {
                    let which = usize::from(which) % self.host.waiting.len();
                    let socket = self.host.waiting.remove(which).unwrap();
                    self.host.report_on(socket, outcome);
                    self.host.drain(socket.shard);
                }
            }
            Operation::LateReport { which, outcome } => self.late_report(which, outcome),
            Operation::Disconnect { client } => {
                let five_tuple = self.cast.client(client).five_tuple;
                self.host.disconnect(&five_tuple);
                assert!(!self.host.shards[0].has_allocation(&five_tuple));
            }
            Operation::Pass { ms } => self.host.advance_ms(ms),
            Operation::ShutDown => {
                self.host.shut_down();
                assert_eq!(self.host.shards[0].allocations(), 0);
            }
        }
        self.take_events();
        self.take_late_replies();
    }

    /// A packet reaches the server: nothing but what it calls for happens.
    fn arrive(&mut self, client: u8, ip: IpHeader, bytes: &[u8]) {
        let from = self.cast.client(client);
        let now = self.host.now_ms;
        let before = self.state();
        let sent = self.host.client_packet(from, ip, bytes);
        let message = Message::parse(bytes).ok().filter(|_| bytes[0] < 4);
        let is_request = message.is_some_and(|it| it.class() == Class::Request);
        if let Some(sent) = &sent {
            assert!(message.is_none_or(|it| it.class() == Class::Indication));
            assert!(self.host.replies.is_empty(), "MSG-12");
            self.ledger.assert_may_send(now, &from, bytes, sent);
            assert!(ip.ttl.is_none_or(|ttl| ttl > 1) || from.five_tuple.transport.is_stream());
        }
        if !is_request || !is_authentic(&message.unwrap()) {
            assert_eq!(before, self.state(), "strangers change nothing");
        }
        self.take_events();
        // Sockets are reported on at once or later, and so a packet brings its own reply alone.
        if let Some(reply) = self.host.only_reply() {
            assert_eq!(reply.to, from, "TUP-06, MSG-11");
            assert!(self.lists.serve(from.five_tuple.client.ip()), "ACL-01");
            match message {
                Some(request) if is_request => {
                    assert_answer(&request, &reply);
                    self.cast.learn(client, &reply);
                    self.ledger.grant(now, &from, &request, &reply);
                }
                Some(_) => panic!("only requests are answered"),
                None => {
                    let classic = ClassicRequest::parse(bytes).expect("MSG-12");
                    assert_eq!(reply.bytes[4..20], classic.transaction_id);
                    assert!(!from.five_tuple.transport.is_stream());
                }
            }
        }
        self.cast.sent(client, bytes.to_vec());
    }

    /// What only an authentic request changes: allocations, sockets asked for, and bound ones.
    fn state(&self) -> (usize, Vec<Socket>, Vec<Socket>) {
        (
            self.host.shards[0].allocations(),
            self.host.waiting.iter().copied().collect(),
            self.host.sockets.values().copied().collect(),
        )
    }

    fn socket(&self, which: u8) -> Option<Socket> {
        let count = self.host.sockets.len().max(1);
        self.host
            .sockets
            .values()
            .nth(usize::from(which) % count)
            .copied()
    }

    fn peer_packet(&mut self, socket: u8, peer: operation::Peer, len: usize, ip: IpHeader) {
        let Some(socket) = self.socket(socket) else {
            return;
        };
        let peer = self.cast.peer(peer);
        let payload = vec![len as u8; len];
        let heard = self.host.peer_packet(socket.address, peer, ip, &payload);
        assert!(self.host.replies.is_empty());
        if let Some((client, delivered, ip)) = heard {
            let now = self.host.now_ms;
            assert_eq!(delivered.data(), payload);
            self.ledger
                .assert_may_hear(now, &client, socket.relay, peer, &delivered);
            assert!(!client.five_tuple.transport.is_stream() || ip == IpHeader::default());
        }
    }

    fn icmp(&mut self, socket: u8, peer: operation::Peer, icmp: IcmpAttribute) {
        let Some(socket) = self.socket(socket) else {
            return;
        };
        let peer = self.cast.peer(peer);
        let heard = self.host.icmp(socket.address, peer, icmp);
        assert!(self.host.replies.is_empty());
        if let Some((client, delivered, _)) = heard {
            let now = self.host.now_ms;
            self.ledger
                .assert_may_hear(now, &client, socket.relay, peer, &delivered);
        }
    }

    /// The host reports on a socket whose allocation ended meanwhile.
    fn late_report(&mut self, which: u8, outcome: Result<(), turnstone::turn::RelayFailure>) {
        let is_there = |it: &Socket| {
            let mut views = self.host.shards[0].inspect(self.host.time());
            views.any(|view| view.id() == it.relay.allocation)
        };
        let gone = self.asked.iter().filter(|it| !is_there(it));
        let gone: Vec<Socket> = gone.copied().collect();
        if let Some(socket) = gone.get(usize::from(which) % gone.len().max(1)) {
            let (now, shard) = (self.host.now(), &mut self.host.shards[0]);
            match outcome {
                Ok(()) => shard.handle_relay_bound(now, socket.relay),
                Err(failure) => shard.handle_relay_failed(now, socket.relay, failure),
            }
            self.host.drain(0);
            assert!(self.host.replies.is_empty() && self.host.events.is_empty());
        }
    }

    fn take_events(&mut self) {
        while let Some((_, event)) = self.host.events.pop_front() {
            match event {
                Event::AllocationCreated {
                    id,
                    five_tuple,
                    relayed,
                    lifetime_s,
                    ..
                } => {
                    assert!((600..=self.limits.max_lifetime_s).contains(&lifetime_s));
                    self.cast.relayed.extend(relayed.into_iter().flatten());
                    self.ledger.open(id, five_tuple);
                }
                Event::AllocationClosed {
                    id,
                    five_tuple,
                    usage,
                    ..
                } => {
                    self.ledger.close(id, five_tuple, usage);
                }
                Event::RequestRefused { reject, .. } => assert_line(&reject.to_string()),
                Event::PeerRefused { refusal, .. } => assert_line(&refusal.to_string()),
                _ => {}
            }
        }
        for socket in &self.host.waiting {
            if self.asked.last() != Some(socket) && !self.asked.contains(socket) {
                self.asked.push(*socket);
            }
        }
    }

    /// Answers to Allocate requests that waited for their sockets.
    fn take_late_replies(&mut self) {
        for reply in std::mem::take(&mut self.host.replies) {
            assert_eq!(reply.message().method(), Some(Method::Allocate));
            assert!(reply.message().has_integrity());
            assert!(self.cast.has_sent(&reply.to, &reply.id()));
        }
    }

    /// What must hold whenever nothing is going on.
    fn check(&mut self) {
        let (shared, shard) = (&self.host.shared, &self.host.shards[0]);
        let (bound, waiting) = (self.host.sockets.len(), self.host.waiting.len());
        let held = shared.reservations.held();
        assert!(held <= shard.allocations());
        let resting = shared.ports.resting() as usize;
        assert_eq!(
            shared.ports.taken() as usize,
            bound + waiting + held + resting
        );
        assert_eq!(shared.quota.total() as usize, shard.allocations());
        assert!(shard.allocations() <= self.limits.allocations_total as usize);
        let mut addresses: Vec<_> = self
            .host
            .sockets
            .values()
            .chain(&self.host.waiting)
            .map(|it| it.address)
            .collect();
        assert!(addresses.iter().all(|it| PORTS.contains(&it.port())));
        addresses.sort();
        assert!(addresses.windows(2).all(|it| it[0] != it[1]), "ALLOC-20");

        let (now, time) = (self.host.now_ms, Time::from_millis(self.host.now_ms));
        self.ledger.forget_closed(&self.host);
        let mut seen = 0;
        for view in shard.inspect(time) {
            seen += 1;
            let of_user = shared.quota.of_user(view.user());
            let has = shard
                .inspect(time)
                .filter(|it| it.user() == view.user())
                .count();
            assert_eq!(of_user as usize, has);
            assert!(of_user <= self.limits.allocations_per_user);
            assert!(view.permissions() <= self.limits.permissions_per_allocation as usize);
            assert!(view.channels() <= self.limits.channels_per_allocation as usize);
            self.ledger.assert_same(now, &view);
        }
        assert_eq!(seen, shard.allocations());
        assert!(shard.poll_timeout().is_some() || seen == waiting.min(seen));
    }

    /// Everybody leaves. What they left behind goes.
    fn wind_down(mut self) {
        self.host.shut_down();
        self.take_events();
        self.take_late_replies();
        self.check();
        assert!(self.ledger.is_empty(), "every allocation's end is told");
        assert!(self.host.sockets.is_empty() && self.host.waiting.is_empty());
        // Ports rest for a while.
        self.host.advance_s(3_602);
        let (shared, shard) = (&self.host.shared, &self.host.shards[0]);
        assert_eq!((shard.allocations(), shard.poll_timeout()), (0, None));
        assert_eq!((shared.ports.taken(), shared.quota.total()), (0, 0));
        assert_eq!(shared.reservations.held(), 0);
        assert!(self.host.replies.is_empty() && self.host.events.is_empty());
    }
}

/// What goes into a log line is one line.
fn assert_line(text: &str) {
    assert!(!text.is_empty() && !text.contains(|c: char| c.is_control()));
}
