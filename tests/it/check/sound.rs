//! turnstone itself.

use std::net::UdpSocket;

use super::{json, run, unfolded};
use crate::harness::{TestServer, own_ipv4};

fn server() -> TestServer {
    TestServer::with(|setup| {
        // Not the address that a client has here. One port for both, which is free: nobody else has
        // the address.
        let free = UdpSocket::bind((own_ipv4(), 0)).unwrap();
        let address = free.local_addr().unwrap();
        setup.udp = vec![address];
        setup.tcp = vec![address];
        setup.secrets = vec!["a secret that only servers know".to_owned()];
    })
}

#[test]
fn everything_works_over_both_transports() {
    let server = server();
    assert_eq!(server.udp(), server.tcp());
    for transport in ["udp", "tcp"] {
        let url = format!("turn:{}?transport={transport}", server.udp());
        let secret = "a secret that only servers know";
        let report = run(&[&url, "--static-auth-secret", secret, "--seconds", "1"]);
        let text = unfolded(&report);
        assert!(report.works(), "{report}");
        assert!(text.contains("ok outside"), "{report}");
        assert!(
            text.contains("relays data both ways, inside and from outside"),
            "{report}"
        );

        let json = json(&report);
        let result = &json["transports"][0];
        let data = &result["data"];
        assert_eq!(
            (&data["sent"], &data["packets_per_s"]),
            (&50.into(), &50.into())
        );
        let rtt = |name: &str| data["round_trip_ms"][name].as_f64().unwrap();
        let rtts = ["min", "median", "p95", "max"].map(rtt);
        assert!(rtts[0] > 0.0 && rtts.is_sorted(), "{rtts:?}");
        assert!(rtt("jitter") >= 0.0);
        assert!(result["clock_ahead_s"].as_i64().unwrap().abs() <= 3);
        assert_eq!(result["relayed_addresses"].as_array().unwrap().len(), 2);
        assert_eq!(server.live_ports(), 0, "{report}");
    }
}

#[test]
fn keys_of_the_json_are_these() {
    let server = server();
    let url = format!("turn:{}?transport=udp", server.udp());
    let report = run(&[
        &url,
        "--user",
        "alice",
        "--password",
        "wonderland",
        "--seconds",
        "1",
    ]);
    let json = json(&report);
    let keys = |value: &serde_json::Value| {
        let object = value.as_object().unwrap();
        Vec::from_iter(object.keys().cloned()).join(" ")
    };
    assert_eq!(keys(&json), "resolve server transports url verdict works");
    let transport = &json["transports"][0];
    assert_eq!(
        keys(transport),
        "causes clock_ahead_between_s clock_ahead_s data mapped_address relayed_addresses steps tls transport verdict \
         warnings works"
    );
    assert_eq!(
        keys(&transport["data"]),
        "lost_back lost_there packet_bytes packets_per_s round_trip_ms sent"
    );
    assert_eq!(
        keys(&transport["data"]["round_trip_ms"]),
        "jitter max median min p95"
    );
    assert_eq!(keys(&transport["steps"][0]), "detail ms result step");
}

#[test]
fn server_that_is_this_machine_is_not_tested_from_outside() {
    let server = TestServer::start();
    let url = format!("turn:{}?transport=udp", server.udp());
    let report = run(&[
        &url,
        "--user",
        "alice",
        "--password",
        "wonderland",
        "--seconds",
        "1",
    ]);
    assert!(report.works(), "{report}");
    let text = unfolded(&report);
    assert!(
        text.contains("skip outside") && text.contains("this machine is the server"),
        "{report}"
    );
    assert!(
        text.contains("ok: relays data both ways ok: works"),
        "{report}"
    );
}

#[test]
fn tcp_does_not_need_udp() {
    let server = TestServer::with(|setup| {
        let address = own_ipv4();
        setup.udp = vec![(own_ipv4(), 0).into()];
        setup.tcp = vec![(address, 0).into()];
    });
    let url = format!("turn:{}?transport=tcp", server.tcp());
    let report = run(&[
        &url,
        "--user",
        "alice",
        "--password",
        "wonderland",
        "--seconds",
        "1",
    ]);
    assert!(report.works(), "{report}");
    let text = unfolded(&report);
    assert!(
        text.contains("skip outside") && text.contains("no UDP between here"),
        "{report}"
    );
}
