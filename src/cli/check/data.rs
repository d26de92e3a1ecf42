//! Application data: Send and Data indications (RFC 8656 §11) and ChannelData (§12).

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::client::{Client, random_id};
use super::failure::Failure;
use crate::wire::{
    AttributeType, ChannelData, ChannelNumber, Class, Message, MessageBuilder, Method,
    TransactionId, decode_xor_address, padded,
};

/// How long a Send indication is repeated before it counts as lost.
const SEND_PATIENCE: Duration = Duration::from_secs(2);

/// Who application data came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    Peer(SocketAddr),
    Channel(ChannelNumber),
}

impl Client<'_> {
    /// Sends data to a peer that needs no channel.
    pub(super) fn send_indication(&mut self, peer: SocketAddr, data: &[u8]) -> Result<(), Failure> {
        let mut buffer = [0; 256];
        let len = MessageBuilder::new(&mut buffer, Class::Indication, Method::Send, random_id())
            .xor_address(AttributeType::XOR_PEER_ADDRESS, peer)
            .attribute(AttributeType::DATA, data)
            .finish()
            .expect("the data is short");
        self.link.send(&buffer[..len])
    }

    /// Sends data on a channel.
    pub(super) fn send_channel_data(
        &mut self,
        number: ChannelNumber,
        data: &[u8],
    ) -> Result<(), Failure> {
        let len = data.len() as u16;
        let mut packet = Vec::with_capacity(ChannelData::HEADER_LEN + padded(data.len()));
        packet.extend(number.get().to_be_bytes());
        packet.extend(len.to_be_bytes());
        packet.extend(data);
        if self.link.is_stream() {
            packet.resize(padded(packet.len()), 0);
        }
        self.link.send(&packet)
    }

    /// The next application data, `None` if there is none until `deadline`.
    pub(super) fn receive_data(
        &mut self,
        deadline: Instant,
    ) -> Result<Option<(Source, Vec<u8>)>, Failure> {
        while let Some(packet) = self.link.receive(deadline)? {
            let data = parse_channel_data(&packet).or_else(|| parse_data_indication(&packet));
            if data.is_some() {
                return Ok(data);
            }
        }
        Ok(None)
    }
}

fn parse_channel_data(packet: &[u8]) -> Option<(Source, Vec<u8>)> {
    let data = ChannelData::parse(packet)?;
    Some((Source::Channel(data.number), packet[data.payload].to_vec()))
}

fn parse_data_indication(packet: &[u8]) -> Option<(Source, Vec<u8>)> {
    let message = Message::parse(packet).ok()?;
    if (message.class(), message.method()) != (Class::Indication, Some(Method::Data)) {
        return None;
    }
    let peer = message.first(AttributeType::XOR_PEER_ADDRESS)?;
    let peer = decode_xor_address(peer, &message.transaction_id()).ok()?;
    let data = message.first(AttributeType::DATA)?.to_vec();
    Some((Source::Peer(peer), data))
}

/// Sends from one allocation to the other until it arrives as a Data indication.
pub(super) fn send_and_receive(
    (sender, sender_address): (&mut Client<'_>, SocketAddr),
    (receiver, receiver_address): (&mut Client<'_>, SocketAddr),
    deadline: Instant,
) -> Result<(), Failure> {
    let TransactionId(tag) = random_id();
    let started = Instant::now();
    let deadline = deadline.min(started + SEND_PATIENCE);
    let mut patience = Duration::from_millis(250);
    while Instant::now() < deadline {
        sender.send_indication(receiver_address, &tag)?;
        let resend = deadline.min(Instant::now() + patience);
        patience *= 2;
        while let Some((source, data)) = receiver.receive_data(resend)? {
            match source {
                Source::Peer(peer) if data == tag && peer == sender_address => return Ok(()),
                Source::Peer(source) if data == tag => {
                    return Err(Failure::WrongSource {
                        source,
                        relayed_address: sender_address,
                    });
                }
                _ => {}
            }
        }
    }
    let waited = started.elapsed().as_secs_f64();
    Err(Failure::DataLost {
        detail: format!("no Data indication within {waited:.1} s"),
    })
}
