use super::*;
use proptest::prelude::*;

fn read_all(decoder: &mut Decoder, bytes: &[u8]) -> Result<Vec<Frame>, Broken> {
    let mut input = BytesMut::from(bytes);
    let mut frames = Vec::new();
    while let Some(frame) = decoder.next(&mut input)? {
        frames.push(frame);
    }
    Ok(frames)
}

#[test]
fn every_frame_is_read_as_it_was_written() {
    let (mut encoder, mut out) = (Encoder::default(), BytesMut::new());
    encoder.open(1, true, &[("streamtype", "error"), ("port", "80")], &mut out);
    encoder.open(3, false, &[("streamtype", "data"), ("port", "80")], &mut out);
    encoder.reply(2, &mut out);
    data(3, b"hello", false, &mut out);
    data(3, b"", true, &mut out);
    ping(7, &mut out);
    window(3, 5, &mut out);
    reset(3, CANCEL, &mut out);
    go_away(3, 0, &mut out);
    let expected = || {
        vec![
            Frame::Open { id: 1, finished: true, headers: Headers::of(&[("streamtype", "error"), ("port", "80")]) },
            Frame::Open { id: 3, finished: false, headers: Headers::of(&[("streamtype", "data"), ("port", "80")]) },
            Frame::Other,
            Frame::Data { id: 3, data: Bytes::from_static(b"hello") },
            Frame::Finished(3),
            Frame::Ping(7),
            Frame::Other,
            Frame::Reset(3),
            Frame::Other,
        ]
    };
    assert_eq!(read_all(&mut Decoder::new(), &out), Ok(expected()));
    // Byte by byte: the same but for the data, which is handed on as it comes.
    let (mut decoder, mut input, mut frames) = (Decoder::new(), BytesMut::new(), Vec::new());
    for byte in &out {
        input.put_u8(*byte);
        while let Some(frame) = decoder.next(&mut input).unwrap() {
            frames.push(frame);
        }
    }
    let text: Vec<u8> = frames.iter().filter_map(|f| if let Frame::Data { data, .. } = f { Some(data.to_vec()) } else { None }).flatten().collect();
    assert_eq!(text, b"hello");
    frames.retain(|f| !matches!(f, Frame::Data { .. }));
    let mut whole = expected();
    whole.retain(|f| !matches!(f, Frame::Data { .. }));
    assert_eq!(frames, whole);
}

#[test]
fn a_long_data_frame_is_handed_on_in_parts() {
    let mut out = BytesMut::new();
    data(5, &vec![7; 200_000], true, &mut out);
    let frames = read_all(&mut Decoder::new(), &out).unwrap();
    let sizes: Vec<usize> = frames.iter().filter_map(|f| if let Frame::Data { data, .. } = f { Some(data.len()) } else { None }).collect();
    assert_eq!(sizes, [65_536, 65_536, 65_536, 3_392]);
    assert_eq!(frames.last(), Some(&Frame::Finished(5)));
}

#[test]
fn what_is_no_spdy_3_is_refused() {
    for (what, bytes, error) in [
        ("HTTP", &b"GET / HTTP/1.1\r\n\r\n"[..], None),
        ("version 2", &[0x80, 2, 0, 1, 0, 0, 0, 0], Some(Broken::Version(2))),
        ("16 MiB of headers", &[0x80, 3, 0, 1, 0, 0xff, 0xff, 0xff], Some(Broken::Length(1, 0xff_ffff))),
        ("a short SYN_STREAM", &[0x80, 3, 0, 1, 0, 0, 0, 4, 0, 0, 0, 1], Some(Broken::Length(1, 4))),
        ("a short SYN_REPLY", &[0x80, 3, 0, 2, 0, 0, 0, 1, 0], Some(Broken::Length(2, 1))),
        ("a SYN_STREAM without a block", &[0x80, 3, 0, 1, 0, 0, 0, 10, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0], Some(Broken::Headers)),
        ("a long PING", &[0x80, 3, 0, 6, 0, 0, 0, 5, 0, 0, 0, 1, 0], Some(Broken::Length(6, 5))),
        ("data of stream 0", &[0, 0, 0, 0, 0, 0, 0, 1, 9], Some(Broken::Stream)),
        ("a reset of stream 0", &[0x80, 3, 0, 3, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0, 1], Some(Broken::Stream)),
        ("an unknown type", &[0x80, 3, 0, 99, 0, 0, 0, 1, 9], None),
        ("settings", &[0x80, 3, 0, 4, 0, 0, 0, 4, 0, 0, 0, 0], None),
    ] {
        assert_eq!(read_all(&mut Decoder::new(), bytes).err(), error, "{what}");
    }
}

/// Bytes that look like frames more often than chance would have it.
fn hostile() -> impl Strategy<Value = Vec<u8>> {
    let control = (0u16..12, any::<u8>(), proptest::collection::vec(any::<u8>(), 0..64))
        .prop_map(|(kind, flags, body)| { let mut out = BytesMut::new(); control(kind, flags, &body, &mut out); out.to_vec() });
    let open = (any::<u32>(), any::<bool>(), "[a-z]{0,8}", "[ -~]{0,20}").prop_map(|(id, finished, name, value)| {
        let mut out = BytesMut::new();
        Encoder::default().open(id, finished, &[(name.as_str(), value.as_str())], &mut out);
        out.to_vec()
    });
    let payload = (any::<u32>(), proptest::collection::vec(any::<u8>(), 0..300), any::<bool>())
        .prop_map(|(id, bytes, finished)| { let mut out = BytesMut::new(); data(id & 0x7fff_ffff, &bytes, finished, &mut out); out.to_vec() });
    let noise = proptest::collection::vec(any::<u8>(), 0..40);
    proptest::collection::vec(prop_oneof![control, open, payload, noise], 0..12).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn hostile_bytes_never_panic_nor_pile_up(bytes in hostile(), step in 1usize..200) {
        let (mut decoder, mut input) = (Decoder::new(), BytesMut::new());
        'reading: for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(Frame::Data { data, .. })) => prop_assert!(data.len() <= CHUNK_BYTES),
                    Ok(Some(_)) => {}
                    Ok(None) => break,
                    Err(_) => break 'reading,
                }
            }
            prop_assert!(input.len() <= HEAD_BYTES + CONTROL_LIMIT_BYTES + step);
        }
    }

    #[test]
    fn how_the_bytes_are_cut_does_not_matter(bytes in hostile(), step in 1usize..50) {
        let whole = |frames: Vec<Frame>| -> Vec<Frame> {
            let mut joined: Vec<Frame> = Vec::new();
            for frame in frames {
                match (joined.last_mut(), frame) {
                    (Some(Frame::Data { id, data }), Frame::Data { id: same, data: more }) if *id == same => *data = [&data[..], &more[..]].concat().into(),
                    (_, frame) => joined.push(frame),
                }
            }
            joined
        };
        let mut at_once = Vec::new();
        let (mut decoder, mut input) = (Decoder::new(), BytesMut::from(&bytes[..]));
        while let Ok(Some(frame)) = decoder.next(&mut input) { at_once.push(frame); }
        let mut in_parts = Vec::new();
        let (mut decoder, mut input) = (Decoder::new(), BytesMut::new());
        'reading: for piece in bytes.chunks(step) {
            input.extend_from_slice(piece);
            loop {
                match decoder.next(&mut input) {
                    Ok(Some(frame)) => in_parts.push(frame),
                    Ok(None) => break,
                    Err(_) => break 'reading,
                }
            }
        }
        prop_assert_eq!(whole(at_once), whole(in_parts));
    }
}
