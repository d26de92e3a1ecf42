//! Connections from proxies: whose they are, before anything else is looked at.

use super::ending::Ending;
use super::proxy::{Announced, Header, HeaderBytes};
use super::receive::Left;
use crate::engine::worker::Worker;
use crate::turn::Link;

impl Worker {
    /// Bytes from a proxy that has not said for whom it speaks.
    ///
    /// # Errors
    /// If the stream is to end.
    pub(super) fn handle_header(
        &mut self,
        link: Link,
        mut header: HeaderBytes,
        bytes: &mut [u8],
    ) -> Result<(), Left> {
        let read = header.push(bytes)?;
        let Some(connection) = self.streams.connections.get_mut(link) else {
            return Ok(());
        };
        let (announced, len) = match read {
            Header::Undecided => {
                connection.give_header(header);
                return Ok(());
            }
            Header::Whole { announced, len } => (announced, len),
        };
        match announced {
            Some(announced) => self.announce(link, announced)?,
            None => {
                let five_tuple = *connection.five_tuple();
                if self.refuses(five_tuple) {
                    return Err(Ending::ClientRefused.into());
                }
            }
        }
        let mut held = header.into_held();
        let bytes = if held.is_empty() { bytes } else { held.bytes() };
        match &mut bytes[len..] {
            [] => Ok(()),
            rest => self.handle_opened(link, rest),
        }
    }

    /// From here on the connection is that of a client, with all that follows from its address.
    fn announce(&mut self, link: Link, announced: Announced) -> Result<(), Ending> {
        let Some(connection) = self.streams.connections.get_mut(link) else {
            return Ok(());
        };
        let closed = connection.announce(announced)?;
        let five_tuple = *connection.five_tuple();
        let limit = Ending::AddressLimit;
        if let Some(closed) = closed {
            self.streams.endings.count(limit);
            self.log
                .connection_gave_way(announced.client, closed, limit);
        }
        if self.refuses(five_tuple) {
            return Err(Ending::ClientRefused);
        }
        Ok(())
    }
}
