#![allow(clippy::unwrap_used, clippy::expect_used)]

use proptest::prelude::*;

use super::*;

type Events = Vec<(String, String)>;

fn drain(reader: &mut Reader, events: &mut Events) -> Result<(), Fault> {
    while let Some(event) = reader.next()? {
        events.push((event.name.to_owned(), event.data.to_owned()));
    }
    Ok(())
}

fn read(pieces: &[&[u8]]) -> Result<Events, Fault> {
    let mut reader = Reader::new();
    let mut events = Vec::new();
    for piece in pieces {
        reader.push(&Bytes::copy_from_slice(piece));
        drain(&mut reader, &mut events)?;
    }
    if let Some(event) = reader.finish()? {
        events.push((event.name.to_owned(), event.data.to_owned()));
    }
    Ok(events)
}

fn one(text: &str) -> Events {
    read(&[text.as_bytes()]).unwrap()
}

fn event(name: &str, data: &str) -> (String, String) {
    (name.to_owned(), data.to_owned())
}

/// Cuts `bytes` at `cuts` (taken modulo the length).
fn cut<'a>(bytes: &'a [u8], cuts: &[usize]) -> Vec<&'a [u8]> {
    let mut places: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    places.sort_unstable();
    let mut pieces = Vec::new();
    let mut from = 0;
    for place in places {
        pieces.push(&bytes[from..place]);
        from = place;
    }
    pieces.push(&bytes[from..]);
    pieces
}

#[test]
fn events_have_a_name_and_data() {
    assert_eq!(one("event: ping\ndata: {}\n\ndata:x\n\n"), [event("ping", "{}"), event("", "x")]);
}

#[test]
fn all_three_line_ends_are_line_ends() {
    for end in ["\n", "\r\n", "\r"] {
        let text = format!("event: a{end}data: 1{end}{end}data: 2{end}{end}");
        assert_eq!(one(&text), [event("a", "1"), event("", "2")], "{end:?}");
    }
}

#[test]
fn a_crlf_split_over_two_pushes_is_one_line_end() {
    assert_eq!(read(&[b"data: 1\r", b"\ndata: 2\r", b"\n\r", b"\n"]).unwrap(), [event("", "1\n2")]);
}

#[test]
fn data_lines_are_joined_and_exactly_one_space_is_removed() {
    assert_eq!(one("data:  a\ndata:b\ndata\ndata: c \n\n"), [event("", " a\nb\n\nc ")]);
}

#[test]
fn comments_and_unknown_fields_are_ignored() {
    assert_eq!(one(": hello\n\nid: 7\nretry: 5\nfoo: bar\ndata: x\n: y\n\n"), [event("", "x")]);
}

#[test]
fn an_event_without_data_is_none_and_its_name_is_forgotten() {
    assert_eq!(one("event: lost\n\ndata: x\n\n"), [event("", "x")]);
    assert_eq!(one("data:\n\n"), [event("", "")]);
}

#[test]
fn one_byte_order_mark_is_removed_also_when_split() {
    assert_eq!(read(&[b"\xEF", b"\xBB", b"\xBFdata: x\n\n"]).unwrap(), [event("", "x")]);
    assert_eq!(read(&[b"\xEF\xBB"]).unwrap(), []);
}

#[test]
fn the_end_gives_an_event_that_lacks_its_blank_line() {
    assert_eq!(one("event: a\ndata: 1"), [event("a", "1")]);
    assert_eq!(one("event: a\ndata: 1\r"), [event("a", "1")]);
    assert_eq!(one("event: a\n"), []);
}

#[test]
fn bytes_that_are_no_utf8_are_a_fault_and_stay_one() {
    let mut reader = Reader::new();
    reader.push(&Bytes::from_static(b"data: \xFF\n\ndata: fine\n\n"));
    assert!(reader.next().is_err());
    reader.push(&Bytes::from_static(b"data: fine\n\n"));
    assert!(reader.next().is_err());
    assert!(reader.finish().is_err());
}

#[test]
fn an_event_that_never_ends_is_a_fault_in_bounded_memory() {
    let chunk = Bytes::from(vec![b'x'; 1 << 20]);
    let mut reader = Reader::new();
    reader.push(&Bytes::from_static(b"data: "));
    let mut pushed = 0;
    loop {
        reader.push(&chunk);
        pushed += 1;
        if reader.next().is_err() {
            break;
        }
        assert!(pushed <= 32, "no fault after {pushed} MiB");
    }
    assert!(reader.buffer.capacity() == 0);
}

#[test]
fn an_endless_stream_of_comments_and_blanks_takes_no_memory() {
    let mut reader = Reader::new();
    for _ in 0..100_000 {
        reader.push(&Bytes::from_static(b": still here\n\n\r\n: and here\r\n"));
        assert!(reader.next().unwrap().is_none());
    }
    assert!(reader.buffer.capacity() < 4096, "{}", reader.buffer.capacity());
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        Just("data: ".to_owned()),
        Just("data".to_owned()),
        Just("event: message_start".to_owned()),
        Just(": c".to_owned()),
        Just("\n".to_owned()),
        Just("\n\n".to_owned()),
        Just("\r\n".to_owned()),
        Just("\r\n\r\n".to_owned()),
        Just("\r".to_owned()),
        Just("\u{feff}".to_owned()),
        "[a-zä漢😀 :]{0,6}",
    ];
    proptest::collection::vec(piece, 0..40).prop_map(|pieces| pieces.concat().into_bytes())
}

proptest! {
    #[test]
    fn however_the_bytes_are_cut_the_events_are_the_same(
        bytes in streams(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let whole = read(&[&bytes]).unwrap();
        prop_assert_eq!(&read(&cut(&bytes, &cuts)).unwrap(), &whole);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        prop_assert_eq!(&read(&single).unwrap(), &whole);
    }

    #[test]
    fn any_bytes_at_all_are_read_or_refused(
        bytes in proptest::collection::vec(any::<u8>(), 0..300),
        cuts in proptest::collection::vec(any::<usize>(), 0..8),
    ) {
        let whole = read(&[&bytes]);
        let recut = read(&cut(&bytes, &cuts));
        prop_assert_eq!(whole.is_ok(), recut.is_ok());
    }

    #[test]
    fn frames_keep_every_byte_and_give_whole_events_only(
        bytes in streams(),
        cuts in proptest::collection::vec(any::<usize>(), 0..12),
    ) {
        let (mut read, mut frames) = (Reader::new(), Frames::new());
        let mut out = Vec::new();
        for piece in cut(&bytes, &cuts) {
            let piece = Bytes::copy_from_slice(piece);
            read.push(&piece);
            drain(&mut read, &mut Vec::new()).unwrap();
            out.extend_from_slice(&frames.push(piece, read.held()));
            // What was given ends an event: nothing is pending in a reader that got only this.
            let mut reader = Reader::new();
            reader.push(&Bytes::copy_from_slice(&out));
            drain(&mut reader, &mut Vec::new()).unwrap();
            prop_assert!(out.is_empty() || reader.finish().unwrap().is_none());
            prop_assert!(out.is_empty() || matches!(out.last(), Some(b'\n' | b'\r')));
        }
        let mut given = Vec::new();
        let mut reader = Reader::new();
        reader.push(&Bytes::copy_from_slice(&out));
        drain(&mut reader, &mut given).unwrap();
        let mut all = Vec::new();
        let mut reader = Reader::new();
        reader.push(&Bytes::copy_from_slice(&bytes));
        drain(&mut reader, &mut all).unwrap();
        prop_assert_eq!(given, all, "every whole event was given");
        out.extend_from_slice(&frames.finish());
        prop_assert_eq!(out, bytes);
    }
}
