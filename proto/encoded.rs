//! This module defines a message that the server encodes once and sends to many watchers.

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::v1::SubscribeEventsResponse;

/// An encoded `SubscribeEventsResponse`. Cloning the value copies no bytes, and encoding the value copies the bytes
/// once. The type is only for sending: decoding returns an empty value.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EncodedResponse(Bytes);

impl EncodedResponse {
    /// Returns the length of the encoded message in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns the encoded message.
    pub fn as_bytes(&self) -> &Bytes {
        &self.0
    }

    /// Returns whether the encoded message has no bytes. A message without fields is valid and has no bytes.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Returns the response whose encoding is `bytes`. The function does not check the bytes.
impl From<Bytes> for EncodedResponse {
    fn from(bytes: Bytes) -> Self {
        Self(bytes)
    }
}

impl From<SubscribeEventsResponse> for EncodedResponse {
    fn from(response: SubscribeEventsResponse) -> Self {
        Self(response.encode_to_vec().into())
    }
}

/// Writes the encoded bytes unchanged. To read the content, decode the bytes as a `SubscribeEventsResponse`.
impl Message for EncodedResponse {
    fn encode_raw(&self, to: &mut impl BufMut) {
        to.put_slice(&self.0);
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        from: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        skip_field(wire_type, tag, from, context)
    }

    fn encoded_len(&self) -> usize {
        self.0.len()
    }

    fn clear(&mut self) {
        self.0.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::v1::subscribe_events_response::Message as Sent;
    use crate::v1::{Bookmark, Event};

    #[test]
    fn encoded_bytes_decode_to_the_message() -> Result<(), DecodeError> {
        for message in [None, Some(Sent::Event(Event::default())), Some(Sent::Bookmark(Bookmark { position: 7 }))] {
            let response = SubscribeEventsResponse { message };
            let encoded = EncodedResponse::from(response.clone()).encode_to_vec();
            assert_eq!(SubscribeEventsResponse::decode(encoded.as_slice())?, response);
        }
        Ok(())
    }
}
