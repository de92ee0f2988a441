//! Channels in the messages of a WebSocket: the first byte (or, in base64, the first digit) of a message names its channel.

use crate::mux::{Connection, Notice, Order, Outgoing, Table};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::{BufMut, Bytes, BytesMut};
use futures::stream::{SplitSink, SplitStream};
use futures::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tokio_tungstenite::tungstenite::{Message, Utf8Bytes};

/// Bytes of the largest message a client may send; kubectl's are 32 KiB.
const MESSAGE_LIMIT_BYTES: usize = 1 << 20;
/// Sent with the number of a channel that gets no more, in `v5.channel.k8s.io`.
const CLOSE_CHANNEL: u8 = 255;
/// A client whose input nobody reads gets no answer to its pings, which stand behind that input; kubectl gives up after 60 s without a pong.
const PONG_EVERY: Duration = Duration::from_secs(15);

type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// How channels are put into messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Codec {
    /// Text messages, base64 behind a digit.
    pub(crate) base64: bool,
    /// Clients may close channels.
    pub(crate) half_close: bool,
}

/// An upgraded connection as a WebSocket.
pub(crate) async fn socket(io: TokioIo<Upgraded>) -> Socket {
    let mut config = WebSocketConfig::default();
    config.max_message_size = Some(MESSAGE_LIMIT_BYTES);
    config.max_frame_size = Some(MESSAGE_LIMIT_BYTES);
    WebSocketStream::from_raw_socket(io, Role::Server, Some(config)).await
}

/// The close that client-go takes for a good end; any other is an error to it, even after the outcome.
pub(crate) fn normal_close() -> Message {
    Message::Close(Some(CloseFrame { code: CloseCode::Normal, reason: Utf8Bytes::default() }))
}

/// Starts serving channels; those that are wanted are to be opened in the table before, so that nothing is missed.
pub(crate) fn serve(socket: Socket, codec: Codec, table: Arc<Table>, outgoing: Outgoing) -> Connection {
    let (sink, stream) = socket.split();
    let reading = tokio::spawn(read(stream, codec, table.clone()));
    let writing = tokio::spawn(write(sink, codec, outgoing));
    Connection { table, tasks: [reading.abort_handle(), writing.abort_handle()] }
}

async fn read(mut stream: SplitStream<Socket>, codec: Codec, table: Arc<Table>) {
    loop {
        // Some clients send text where others send bytes; the Python client does for strings.
        let message = match stream.next().await {
            Some(Ok(Message::Binary(data))) => data,
            Some(Ok(Message::Text(text))) => Bytes::from(text),
            // Reading on flushes the pong that tungstenite has queued for a ping.
            Some(Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_))) => continue,
            Some(Ok(Message::Close(_)) | Err(_)) | None => break,
        };
        match decode(&message, codec) {
            Some(Decoded::Data(channel, data)) => table.deliver(channel, data).await,
            Some(Decoded::Finished(channel)) => table.finished(channel),
            None => {}
        }
    }
    table.end();
}

#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Data(u32, Bytes),
    Finished(u32),
}

/// `None`: nothing that concerns anyone. client-go sends an empty message on each channel it opens.
fn decode(message: &Bytes, codec: Codec) -> Option<Decoded> {
    let (&channel, data) = message.split_first()?;
    if codec.half_close && channel == CLOSE_CHANNEL {
        return Some(Decoded::Finished(u32::from(*data.first()?)));
    }
    let (channel, data) = match codec.base64 {
        true => (channel.checked_sub(b'0')?, STANDARD.decode(data).ok()?.into()),
        false => (channel, message.slice(1..)),
    };
    (!data.is_empty()).then(|| Decoded::Data(u32::from(channel), data))
}

fn encode(channel: u32, data: &[u8], codec: Codec) -> Message {
    // The channels of a command are five, those of forwarded ports at most 254.
    let channel = channel as u8;
    if codec.base64 {
        return Message::text(format!("{}{}", char::from(b'0'.saturating_add(channel)), STANDARD.encode(data)));
    }
    let mut message = BytesMut::with_capacity(data.len() + 1);
    message.put_u8(channel);
    message.put_slice(data);
    Message::Binary(message.freeze())
}

async fn write(mut sink: SplitSink<Socket, Message>, codec: Codec, mut outgoing: Outgoing) {
    let (mut orders, mut notices) = (Vec::new(), Vec::new());
    let gone = outgoing.gone();
    let mut pong = interval_at(Instant::now() + PONG_EVERY, PONG_EVERY);
    pong.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let mut messages = Vec::new();
        tokio::select! {
            biased;
            () = outgoing.next(&mut orders, &mut notices) => {
                if orders.is_empty() && notices.is_empty() {
                    return;
                }
            }
            _ = pong.tick() => messages.push(Message::Pong(Bytes::new())),
        }
        let mut last = notices.drain(..).any(|notice| matches!(notice, Notice::Broken));
        for order in orders.drain(..) {
            match order {
                Order::Data(channel, data) => messages.push(encode(channel, &data, codec)),
                // Servers close no channels, in no version.
                Order::Finish(_) => {}
                Order::Close => {
                    messages.push(normal_close());
                    last = true;
                }
            }
        }
        let writing = async {
            for message in messages {
                sink.feed(message).await?;
            }
            sink.flush().await
        };
        let written = tokio::select! {
            written = writing => written,
            () = gone.cancelled() => return,
        };
        if written.is_err() || last {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_name_their_channel() {
        let binary = Codec { base64: false, half_close: true };
        let base64 = Codec { base64: true, half_close: false };
        let data = |channel, text: &'static str| Some(Decoded::Data(channel, Bytes::from_static(text.as_bytes())));
        for (message, codec, expected) in [
            (&b"\0hello"[..], binary, data(0, "hello")),
            (b"\x04{}", binary, data(4, "{}")),
            (b"\xff\0", binary, Some(Decoded::Finished(0))),
            (b"\xff", binary, None),
            (b"\xff\0", Codec { half_close: false, ..binary }, data(255, "\0")),
            (b"\0", binary, None),
            (b"", binary, None),
            (b"0Zm9vCgo=", base64, data(0, "foo\n\n")),
            (b"4e30=", base64, data(4, "{}")),
            (b"0", base64, None),
            (b"0!", base64, None),
            (b"\0Zm9v", base64, None),
        ] {
            assert_eq!(decode(&Bytes::from_static(message), codec), expected, "{message:?}");
        }
        assert_eq!(encode(1, b"\n", base64), Message::text("1Cg=="));
        assert_eq!(encode(1, b"\n", binary), Message::Binary(Bytes::from_static(b"\x01\n")));
    }
}
