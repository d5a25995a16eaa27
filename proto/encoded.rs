//! A message that is encoded once and sent to many watchers.

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::v1::SubscribeEventsResponse;

/// An encoded `SubscribeEventsResponse`. Cloning it copies no bytes, and encoding it is one copy. It can only be sent: the
/// result of decoding it is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded(Bytes);

impl Encoded {
    /// Returns the length in bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Returns whether the message has no bytes. An empty message is valid.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<SubscribeEventsResponse> for Encoded {
    fn from(response: SubscribeEventsResponse) -> Self {
        Self(response.encode_to_vec().into())
    }
}

/// To read the content, decode the bytes as a `SubscribeEventsResponse`.
impl Message for Encoded {
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
            let encoded = Encoded::from(response.clone()).encode_to_vec();
            assert_eq!(SubscribeEventsResponse::decode(encoded.as_slice())?, response);
        }
        Ok(())
    }
}
