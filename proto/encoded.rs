//! A message that is encoded once and sent to many.

use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, skip_field};
use prost::{DecodeError, Message};

use crate::v1::SubscribeEventsResponse;

/// A `SubscribeEventsResponse` in its encoded form: what a server sends. To clone it costs nothing, and to encode it is
/// to copy it. It is for sending only: decoded, it stays empty.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Encoded(Bytes);

impl Encoded {
    /// In bytes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// It has nothing in it, which is a message too.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<SubscribeEventsResponse> for Encoded {
    fn from(response: SubscribeEventsResponse) -> Self {
        Self(response.encode_to_vec().into())
    }
}

/// To read what it holds, decode a `SubscribeEventsResponse`.
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
    fn it_is_the_message_to_who_decodes_it() -> Result<(), DecodeError> {
        for message in [None, Some(Sent::Event(Event::default())), Some(Sent::Bookmark(Bookmark { position: 7 }))] {
            let response = SubscribeEventsResponse { message };
            let encoded = Encoded::from(response.clone()).encode_to_vec();
            assert_eq!(SubscribeEventsResponse::decode(encoded.as_slice())?, response);
        }
        Ok(())
    }
}
