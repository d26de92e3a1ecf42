//! What the host takes for its own, watched while the server runs: addresses are leased, moved and
//! renewed, and none of them may be a peer.

use std::io;
use std::time::Duration;

use ipnet::IpNet;
use tokio::time::{Interval, MissedTickBehavior, interval};

use crate::config::LocalRoutes;
use crate::engine::Control;

/// How often the kernel is asked.
const PERIOD: Duration = Duration::from_secs(2);

/// The kernel's table of local routes, and when it is looked at next.
#[derive(Debug)]
pub(super) struct OwnNetworks {
    routes: LocalRoutes,
    interval: Interval,
    /// Whether the last look failed, which is told once.
    has_failed: bool,
}

impl OwnNetworks {
    /// Opens the table: before the process gives up its rights, and within a runtime.
    ///
    /// # Errors
    /// If the system does not let this process.
    pub(super) fn open() -> io::Result<Self> {
        let mut interval = interval(PERIOD);
        interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Ok(Self {
            routes: LocalRoutes::open()?,
            interval,
            has_failed: false,
        })
    }

    /// Waits for the next look, and says what is there.
    async fn next(&mut self) -> Vec<IpNet> {
        loop {
            self.interval.tick().await;
            match self.routes.read() {
                Ok(networks) => {
                    self.has_failed = false;
                    return networks.into_iter().map(|it| it.network).collect();
                }
                Err(error) if !self.has_failed => {
                    self.has_failed = true;
                    tracing::warn!("cannot read this machine's addresses: {error}");
                }
                Err(_) => {}
            }
        }
    }
}

/// Has the workers know the networks, for ever. A task of its own: a worker that does not answer must
/// not keep signals waiting.
pub(super) async fn follow(mut networks: OwnNetworks, control: Control) {
    loop {
        let networks = networks.next().await;
        if control.set_own_networks(networks).await == Ok(true) {
            tracing::info!("this machine's addresses have changed; none of them is a peer");
        }
    }
}
