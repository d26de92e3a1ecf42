//! What operators ask of a server that relays meanwhile.

use std::collections::BTreeSet;
use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use turnstone::engine::{Cursor, Filter};
use turnstone::turn::CloseReason;

use crate::harness::{Client, Peer, TestServer};

/// Runs what is asked for on a runtime of its own, as an operator's thread does.
pub(crate) fn ask<T>(question: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(question)
}

/// Looks once whether something is done, and drops it.
pub(crate) async fn look_once<T>(work: impl Future<Output = T>) -> Poll<T> {
    let mut work = pin!(work);
    poll_fn(|context| Poll::Ready(work.as_mut().poll(context))).await
}

fn clients(server: &TestServer, count: usize) -> Vec<Client> {
    let mut clients: Vec<Client> = (0..count).map(|_| Client::udp(server)).collect();
    for client in &mut clients {
        client.allocate();
    }
    clients
}

/// Every allocation is in exactly one page, whichever worker has it and however small the pages.
#[test]
fn pages_have_every_allocation_once() {
    let server = TestServer::with(|setup| setup.workers = 3);
    let clients = clients(&server, 20);
    let control = server.engine.control();
    for limit in [1, 3, 20, 1000] {
        let (mut seen, mut from) = (BTreeSet::new(), Some(Cursor::default()));
        while let Some(cursor) = from {
            let page = ask(control.list(&Filter::default(), cursor, limit)).unwrap();
            assert!(page.records.len() <= limit);
            for record in page.records {
                assert!(seen.insert(record.five_tuple.client), "twice");
            }
            from = page.next;
        }
        let expected: BTreeSet<_> = clients.iter().map(Client::local).collect();
        assert_eq!(seen, expected);
    }
}

/// One allocation in full, with what it has relayed, while it relays.
#[test]
fn an_allocation_in_full() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    let relayed = client.allocate();
    let peer = Peer::new();
    client.bind(0x4000, peer.address());
    client.send_channel(0x4000, b"four");
    peer.expect(b"four", relayed);
    let control = server.engine.control();
    let page = ask(control.list(&Filter::default(), Cursor::default(), 10)).unwrap();
    let [record] = &page.records[..] else {
        panic!("{page:?}");
    };
    let detail = ask(control.show(record.name)).unwrap().unwrap();
    assert_eq!(detail.record.relayed, [Some(relayed), None]);
    assert_eq!(detail.record.usage.bytes_to_peers, 4);
    let [(permitted, permission_s)] = detail.permissions[..] else {
        panic!("{detail:?}");
    };
    assert_eq!(permitted, peer.address().ip());
    assert!((1..=300).contains(&permission_s));
    let [(number, bound, channel_s)] = detail.channels[..] else {
        panic!("{detail:?}");
    };
    assert_eq!((number.get(), bound), (0x4000, peer.address()));
    assert!((301..=600).contains(&channel_s));
    let mut gone = record.name;
    gone.id.generation += 1;
    assert!(ask(control.show(gone)).unwrap().is_none());
    gone.worker = 99;
    assert!(ask(control.show(gone)).unwrap().is_none());
}

/// What the operator ends is over for its client, and nothing else is.
#[test]
fn ended_allocations_are_gone() {
    let server = TestServer::start();
    let mut mine = clients(&server, 3);
    let mut bobs = Client::udp(&server).with_user("bob", "builder");
    bobs.allocate();
    let control = server.engine.control();
    let of_bob = Filter {
        user: Some("bob".into()),
        ..Filter::default()
    };
    let page = ask(control.list(&of_bob, Cursor::default(), 10)).unwrap();
    assert_eq!(page.records.len(), 1);
    let name = page.records[0].name;
    assert!(ask(control.end(name, CloseReason::Ended)).unwrap());
    assert!(!ask(control.end(name, CloseReason::Ended)).unwrap());
    assert_eq!(bobs.try_refresh(None).code(), 437);
    mine.iter_mut().for_each(Client::assert_alive);

    let old = Filter {
        min_age: Duration::from_secs(3600),
        ..Filter::default()
    };
    assert_eq!(ask(control.end_all(&old, CloseReason::Ended)), Ok(0));
    let elsewhere = Filter {
        client: Some("198.51.100.0/24".parse().unwrap()),
        ..Filter::default()
    };
    assert_eq!(ask(control.end_all(&elsewhere, CloseReason::Ended)), Ok(0));
    let all = Filter::default();
    assert_eq!(ask(control.end_all(&all, CloseReason::Ended)), Ok(3));
    assert_eq!(mine[0].try_refresh(None).code(), 437);
    assert_eq!(server.live_ports(), 0);
}

/// ALLOC-24: a server that is drained makes no allocation, and keeps those that there are.
#[test]
fn draining_refuses_new_allocations_alone() {
    let server = TestServer::start();
    let mut old = Client::udp(&server);
    old.allocate();
    let control = server.engine.control();
    ask(control.drain(true)).unwrap();
    let mut new = Client::udp(&server);
    new.challenge();
    assert_eq!(new.try_allocate(|packet| packet).code(), 403);
    old.assert_alive();
    ask(control.drain(false)).unwrap();
    new.allocate();
}

/// Other options count from the answer on, and allocations go on.
#[test]
fn options_are_exchanged_under_live_allocations() {
    let server = TestServer::start();
    let mut old = Client::udp(&server);
    old.allocate();
    let mut setup = crate::harness::Setup::new();
    setup.limits.allocations_per_user = 1;
    let control = server.engine.control();
    ask(control.reconfigure(setup.options())).unwrap();
    old.assert_alive();
    let mut new = Client::udp(&server);
    new.challenge();
    assert_eq!(new.try_allocate(|packet| packet).code(), 486);
}

/// SEC-07: an address that the host gets while the server runs is no peer from then on, whether it
/// is one or the network of one.
#[test]
fn a_new_address_of_the_host_is_no_peer() {
    let server = TestServer::start();
    let mut client = Client::udp(&server);
    client.allocate();
    let peer = "9.9.9.9:5000".parse().unwrap();
    let control = server.engine.control();
    for network in ["9.9.9.9/32", "9.9.9.0/24"] {
        assert_eq!(client.try_permit(&[peer]).code(), 0);
        let networks = vec![network.parse().unwrap()];
        assert_eq!(ask(control.set_own_networks(networks.clone())), Ok(true));
        assert_eq!(ask(control.set_own_networks(networks)), Ok(false));
        assert_eq!(client.try_permit(&[peer]).code(), 403);
        // What the operator decides leaves them in place.
        let options = crate::harness::Setup::new().options();
        ask(control.reconfigure(options)).unwrap();
        assert_eq!(client.try_permit(&[peer]).code(), 403);
        assert_eq!(ask(control.set_own_networks(vec![])), Ok(true));
    }
}
