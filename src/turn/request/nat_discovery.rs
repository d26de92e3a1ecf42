//! Connections that their clients want for NAT discovery alone, by ALPN (RFC 7443 §3).

use super::super::IpHeader;
use super::super::client::Client;
use super::super::reject::Reject;
use super::super::server::Server;
use super::super::time::Now;
use super::Exchange;
use crate::wire::{Class, Message, Method};

impl Server {
    /// A message on such a connection: Binding is answered, and a request that is TURN's gets a 403
    /// before anything else is looked at.
    pub fn handle_nat_discovery(&mut self, now: Now, client: Client, packet: &[u8]) {
        if let Ok(message) = Message::parse(packet)
            && message.class() == Class::Request
            && let Some(
                method @ (Method::Allocate
                | Method::Refresh
                | Method::CreatePermission
                | Method::ChannelBind),
            ) = message.method()
        {
            self.counters.count_request(method);
            if let Err(cause) = self.admit(&client) {
                return self.counters.count(cause);
            }
            let exchange = Exchange {
                now,
                client,
                message: &message,
                method,
                nonce: None,
            };
            return self.refuse(&exchange, None, Reject::NatDiscovery);
        }
        let forward = self.handle_client(now, client, IpHeader::default(), packet);
        debug_assert!(forward.is_none(), "there is no allocation here");
    }
}
