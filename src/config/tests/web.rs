//! `[web]`, and `listen.proxy_protocol_from`.

use super::*;

/// WEB-01
#[test]
fn web_servers_are_read() {
    let config = Trial::new("").load().config;
    assert_eq!((config.web.https, config.web.http), (None, None));
    assert!(config.web.proxy_protocol && config.listen.proxy_protocol_from.is_empty());
    let text = "listen.proxy_protocol_from = [\"10.0.0.0/8\", \"192.0.2.1\", \"2001:db8::1\"]\n\
                web = { https = \"127.0.0.1:8443\", names = [\"WWW.Example.org\"], http = \"[::1]:8080\" }";
    let config = Trial::new(text).load().config;
    let servers: Vec<String> = config.web.servers().map(|it| it.to_string()).collect();
    assert_eq!(servers, ["127.0.0.1:8443", "[::1]:8080"]);
    assert_eq!(config.web.names, ["www.example.org"]);
    assert_eq!(config.web.ports, [8443, 8080]);
    assert_eq!(config.listen.proxy_protocol_from.len(), 3);
}

/// WEB-04
#[test]
fn what_is_no_web_server_is_refused() {
    for (text, expected) in [
        (
            "https = \"localhost:8443\"",
            "web.https: \"localhost:8443\" is not an address",
        ),
        (
            "http = \"127.0.0.1\"",
            "web.http: \"127.0.0.1\" is not an address",
        ),
        ("http = \"0.0.0.0:80\"", "is not an address with a port"),
        ("https = \"127.0.0.1:0\"", "is not an address with a port"),
        (
            "http = \"127.0.0.1:3478\"",
            "web.http: 127.0.0.1:3478 is this server itself, which listens on 0.0.0.0:3478",
        ),
        (
            "names = [\"www.example.org\"]",
            "web.names: is beside no web.https",
        ),
        (
            "https = \"127.0.0.1:1\"\nnames = [\"*.example.org\"]",
            "\"*.example.org\" is not a whole host name",
        ),
        (
            "https = \"127.0.0.1:1\"\nnames = [\"192.0.2.1\"]",
            "is not a whole host name",
        ),
        ("connections = 0", "web.connections: 0 is out of range"),
        (
            "idle_s = 9",
            "web.idle_s: 9 is out of range; write 10 to 86400",
        ),
    ] {
        let errors = Trial::new(&format!("[web]\n{text}\n")).errors();
        assert_eq!(errors.len(), 1, "{errors:#?}");
        assert!(errors[0].contains(expected), "{errors:#?}");
    }
}

/// PROXY-03
#[test]
fn proxies_everywhere_bring_a_warning() {
    let trial = Trial::new("listen.proxy_protocol_from = [\"0.0.0.0/0\", \"10.0.0.0/8\"]");
    let warnings = trial.load().warnings;
    let warnings: Vec<String> = warnings.iter().map(ToString::to_string).collect();
    let expected = "listen.proxy_protocol_from: 0.0.0.0/0 lets everybody say";
    let of_key = warnings
        .iter()
        .filter(|it| it.contains("proxy_protocol_from"));
    let of_key: Vec<_> = of_key.collect();
    assert_eq!(of_key.len(), 1, "{warnings:#?}");
    assert!(of_key[0].contains(expected), "{warnings:#?}");
    let errors = Trial::new("listen.proxy_protocol_from = \"proxy.example.org\"").errors();
    assert!(
        errors[0].contains("listen.proxy_protocol_from"),
        "{errors:#?}"
    );
}
