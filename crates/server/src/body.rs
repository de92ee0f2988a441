//! Bodies of requests and answers.

use crate::status::Failure;
use bytes::{BufMut, Bytes, BytesMut};
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::{BodyExt, Full, Limited, combinators::UnsyncBoxBody};
use mainstay_store::Object;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

/// The body of every answer.
pub type Body = UnsyncBoxBody<Bytes, std::io::Error>;

/// The body of every request, whatever brought it.
pub(crate) type Incoming = UnsyncBoxBody<Bytes, std::io::Error>;

/// Bytes that a streamed LIST hands to the connection at once.
const CHUNK_BYTES: usize = 128 * 1024;

/// A whole body.
pub(crate) fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).map_err(|never: Infallible| match never {}).boxed_unsync()
}

/// Reads a request's body, at most `limit_bytes` of it.
pub(crate) async fn read(body: Incoming, limit_bytes: usize) -> Result<Bytes, Failure> {
    // A length that is announced needs not be read to be refused.
    if body.size_hint().lower() > limit_bytes as u64 {
        return Err(Failure::too_large(limit_bytes));
    }
    match Limited::new(body, limit_bytes).collect().await {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(Failure::too_large(limit_bytes)),
        Err(error) => Err(Failure::bad_request(format!("the body of the request could not be read: {error}"))),
    }
}

/// A list of stored objects, copied into chunks as the client takes them: the list itself is never whole in memory.
pub(crate) struct ListBody {
    head: Option<Vec<u8>>,
    items: std::vec::IntoIter<Arc<Object>>,
    first: bool,
    remaining_bytes: u64,
}

const TAIL: &[u8] = b"]}\n";

impl ListBody {
    /// `head` ends with `"items":[`.
    pub(crate) fn new(head: Vec<u8>, items: Vec<Arc<Object>>) -> Self {
        let objects: usize = items.iter().map(|item| item.bytes.len()).sum();
        let remaining_bytes = (head.len() + objects + items.len().saturating_sub(1) + TAIL.len()) as u64;
        Self { head: Some(head), items: items.into_iter(), first: true, remaining_bytes }
    }
}

impl http_body::Body for ListBody {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if self.remaining_bytes == 0 {
            return Poll::Ready(None);
        }
        let room = CHUNK_BYTES.min(usize::try_from(self.remaining_bytes).unwrap_or(CHUNK_BYTES));
        let mut chunk = BytesMut::with_capacity(room + 4096);
        if let Some(head) = self.head.take() {
            chunk.put_slice(&head);
        }
        while chunk.len() < CHUNK_BYTES {
            let Some(item) = self.items.next() else {
                chunk.put_slice(TAIL);
                break;
            };
            if !self.first {
                chunk.put_u8(b',');
            }
            self.first = false;
            chunk.put_slice(&item.bytes);
        }
        // The tail comes with the last item's chunk or in one of its own.
        self.remaining_bytes = self.remaining_bytes.saturating_sub(chunk.len() as u64);
        Poll::Ready(Some(Ok(Frame::data(chunk.freeze()))))
    }

    fn is_end_stream(&self) -> bool {
        self.remaining_bytes == 0
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.remaining_bytes)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]
mod tests {
    use super::*;
    use mainstay_store::{Key, Meta};

    fn object(bytes: &str) -> Arc<Object> {
        let key = Key { resource: "pods".into(), namespace: "a".into(), name: "b".into() };
        Arc::new(Object { key, revision: 1, bytes: Bytes::from(bytes.to_owned()), meta: Meta::default() })
    }

    #[tokio::test]
    async fn a_list_is_as_long_as_it_said() {
        let big = format!("{:?}", "x".repeat(CHUNK_BYTES));
        for (items, middle) in [(vec![], String::new()), (vec!["{}"], "{}".into()), (vec!["{}", &big, "1"], format!("{{}},{big},1"))] {
            let body = ListBody::new(b"{\"items\":[".to_vec(), items.into_iter().map(object).collect());
            let said = body.size_hint().exact();
            let bytes = body.collect().await.unwrap().to_bytes();
            assert_eq!(said, Some(bytes.len() as u64));
            assert!(bytes == format!("{{\"items\":[{middle}]}}\n"));
        }
    }
}
