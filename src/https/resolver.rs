//! Names to addresses, without a file.

use std::error::Error;
use std::future::Future;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::ResolveHosts;
use hyper_util::client::legacy::connect::dns::Name;
use tower_service::Service;

/// Resolves names without a file: those of `/etc/hosts` and the servers of `/etc/resolv.conf` are
/// read when it is made.
#[derive(Clone, Default)]
pub(super) struct Resolver(Option<TokioResolver>);

impl Resolver {
    pub(super) fn of_system() -> Result<Self, Box<dyn Error>> {
        let mut builder = TokioResolver::builder_tokio()?;
        let options = builder.options_mut();
        options.use_hosts_file = ResolveHosts::Always;
        // Truncated answers would need TCP, which is closed: have long ones come whole.
        options.edns0 = true;
        Ok(Self(Some(builder.build()?)))
    }
}

type Resolved = Result<std::vec::IntoIter<SocketAddr>, Box<dyn Error + Send + Sync>>;

impl Service<Name> for Resolver {
    type Response = std::vec::IntoIter<SocketAddr>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Resolved> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, name: Name) -> Self::Future {
        let resolver = self.0.clone();
        Box::pin(async move {
            let resolver = resolver.ok_or("there is no resolver")?;
            let found = resolver.lookup_ip(name.as_str()).await?;
            let addresses: Vec<_> = found.iter().map(|ip| SocketAddr::new(ip, 0)).collect();
            Ok(addresses.into_iter())
        })
    }
}
