//! This module checks the messages that a client sends on a stream of reflection. tonic would end the stream of an
//! invalid message with OK.

use prost::Message;
use prost::bytes::{Bytes, BytesMut};
use tonic_reflection::pb::v1::ServerReflectionRequest;

use super::REFLECTION_BYTES;
use crate::error::Result;
use crate::rpc::calls::PREFIX_BYTES;
use crate::rpc::calls::refusal::unreadable;

/// Checks the request of a stream while the request arrives. The value contains the start of an incomplete message.
#[derive(Default)]
pub struct RequestCheck(BytesMut);

impl RequestCheck {
    /// Checks the messages that end within `bytes`, the next bytes of the request. Fails if the prefix of a message is
    /// invalid, or if a message can't be decoded.
    pub fn add(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.extend_from_slice(bytes);
        while let Some(message) = self.take_message()? {
            // The versions v1 and v1alpha of reflection have the same request.
            ServerReflectionRequest::decode(message).map_err(|cause| unreadable(&cause.to_string()))?;
        }
        Ok(())
    }

    /// Fails if the last message of a complete request is incomplete.
    pub fn end(&self) -> Result<()> {
        match self.0.is_empty() {
            true => Ok(()),
            false => Err(unreadable("the request ends within a message")),
        }
    }

    fn take_message(&mut self) -> Result<Option<Bytes>> {
        let Some([flag, length @ ..]) = self.0.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
        if *flag != 0 {
            return Err(unreadable("the message is marked as compressed"));
        }
        let length = u32::from_be_bytes(*length) as usize;
        if length > REFLECTION_BYTES {
            return Err(unreadable(&format!("the message has {length} bytes, but the maximum is {REFLECTION_BYTES}")));
        }
        if self.0.len() < PREFIX_BYTES + length {
            return Ok(None);
        }
        let message = self.0.split_to(PREFIX_BYTES + length).freeze();
        Ok(Some(message.slice(PREFIX_BYTES..)))
    }
}

#[cfg(test)]
mod tests {
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;

    use super::*;
    use crate::error::Error;

    fn encode(symbol: &str) -> Vec<u8> {
        let message_request = Some(MessageRequest::FileContainingSymbol(symbol.to_owned()));
        let message = ServerReflectionRequest { host: String::new(), message_request }.encode_to_vec();
        let mut bytes = vec![0];
        bytes.extend(u32::try_from(message.len()).unwrap().to_be_bytes());
        bytes.extend(message);
        bytes
    }

    fn check(parts: &[&[u8]]) -> Result<()> {
        let mut check = RequestCheck::default();
        parts.iter().try_for_each(|part| check.add(part))?;
        check.end()
    }

    #[test]
    fn messages_are_valid_however_the_client_splits_them() {
        let bytes = [encode("a"), encode(&"b".repeat(4_000)), encode("")].concat();
        for size in [1, 4, 5, 6, 1_000, bytes.len()] {
            assert_eq!(check(&bytes.chunks(size).collect::<Vec<_>>()), Ok(()), "{size}");
        }
        assert_eq!(check(&[]), Ok(()));
    }

    #[test]
    fn invalid_message_is_refused_wherever_it_is() {
        let valid = encode("a");
        let mut compressed = valid.clone();
        compressed[0] = 1;
        for (bad, cause) in [
            (compressed, "compressed"),
            (vec![0, 0, 0, 0, 1, 0xff], "invalid varint"),
            (vec![0, 0xff, 0xff, 0xff, 0xff], "4294967295 bytes"),
            (encode(&"b".repeat(REFLECTION_BYTES)), "the maximum is 4096"),
            (valid[..valid.len() - 1].to_vec(), "within a message"),
            (vec![0], "within a message"),
        ] {
            let Err(Error::InvalidField { problem, .. }) = check(&[&valid, &bad]) else { panic!("{bad:?} is valid") };
            assert!(problem.contains(cause), "{problem}");
        }
    }
}
