//! `admit` looks at marked segments for services only, and asks for a socket only where the cookie is right.
//!
//! The kernel's `bpf_sk_assign_tcp_reqsk` refuses packets of a test run: here it is reached, and no further. What comes
//! of it is the subject of `admitted`.

use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

use ringsteer_tests::{
    lab::Family,
    on_each_family,
    packet::{ETHERNET, Flags, Segment, TcpOption},
};

use crate::{
    node::{Admission, ISN, MARK, Node, client, first, frame, request_of, segment_in, server},
    wire::{expects, sends, until},
};

on_each_family!(
    what_is_not_marked_is_not_looked_at,
    what_is_not_for_a_service_is_not_looked_at,
    without_a_listener_it_is_dropped,
    without_a_cookie_it_is_dropped,
    with_a_cookie_the_kernel_is_asked,
    a_socket_that_is_there_gets_its_segment_unmarked,
    an_older_socket_is_closed_with_the_number_it_expects,
    a_number_that_is_near_by_chance_saves_no_older_socket,
    what_follows_the_first_segment_and_fits_the_cookie_by_chance_closes_nothing,
    what_is_malformed_is_dropped,
    a_socket_in_time_wait_is_closed_with_the_number_it_expects,
);

/// The mark of a packet that comes by for the second time.
const SECOND_TRY: u32 = 0x7269_6e67;

/// A node with the virtual addresses.
fn node(family: Family) -> Node {
    let node = Node::among(family, 1);
    node.take_virtual_addresses().unwrap();
    node
}

/// The first segment of a client, marked.
fn marked(from: SocketAddr, cookie: u32) -> Segment {
    marked_from(from, ISN, cookie)
}

/// The same of a client with this initial sequence number.
fn marked_from(from: SocketAddr, isn: u32, cookie: u32) -> Segment {
    Segment { reserved: MARK, ..first(from, isn, cookie, &request_of("u1")) }
}

#[track_caller]
fn assert_closed(node: &mut Node, segment: &Segment) {
    let (outcome, _) = node.admit(&frame(&segment.to_bytes()), 0).unwrap();
    outcome.assert(Admission::Next, &["stale_socket_closed"]);
}

/// Asserts that `admit` lets a frame pass as it is, and counts nothing.
#[track_caller]
fn assert_untouched(node: &mut Node, frame: &[u8]) {
    let (outcome, mark) = node.admit(frame, 7).unwrap();
    outcome.assert(Admission::Next, &[]);
    assert_eq!((outcome.frame.as_slice(), mark), (frame, 7));
}

#[track_caller]
fn assert_dropped(node: &mut Node, segment: &Segment, counter: &'static str) {
    let (outcome, _) = node.admit(&frame(&segment.to_bytes()), 0).unwrap();
    outcome.assert(Admission::Drop, &[counter]);
}

fn what_is_not_marked_is_not_looked_at(family: Family) {
    let mut node = node(family);
    let cookie = node.dial(client(family, 40_000), ISN);
    let whole = first(client(family, 40_000), ISN, cookie, &request_of("u1"));
    // The other reserved bits mean nothing to us.
    for reserved in [0, 1, 2, 4, 7] {
        assert_untouched(&mut node, &frame(&Segment { reserved, ..whole.clone() }.to_bytes()));
    }
}

fn what_is_not_for_a_service_is_not_looked_at(family: Family) {
    let mut node = node(family);
    let segment = marked(client(family, 40_000), 4_711);
    let elsewhere = SocketAddr::new(server(family).ip(), server(family).port() + 1);
    assert_untouched(&mut node, &frame(&Segment { destination: elsewhere, ..segment.clone() }.to_bytes()));
    assert_untouched(&mut node, &frame(&segment.packet().with_extension().to_bytes()));
    let mut datagram = segment.packet();
    datagram.protocol = 17;
    assert_untouched(&mut node, &frame(&datagram.to_bytes()));
    let whole = frame(&segment.to_bytes());
    // The kernel runs no tc program on less than an IP header.
    for length in [0, 1, 19] {
        assert_untouched(&mut node, &whole[..ETHERNET + family.header_length() + length]);
    }
}

fn without_a_listener_it_is_dropped(family: Family) {
    let mut node = node(family);
    let cookie = node.dial(client(family, 40_000), ISN);
    assert_dropped(&mut node, &marked(client(family, 40_000), cookie), "drop_no_listener");
}

fn without_a_cookie_it_is_dropped(family: Family) {
    let mut node = node(family);
    let _listener = TcpListener::bind(server(family)).unwrap();
    let cookie = node.dial(client(family, 40_000), ISN);
    let good = marked(client(family, 40_000), cookie);
    for (what, segment) in [
        ("no cookie", Segment { acknowledgement: 4_711, ..good.clone() }),
        ("one off", Segment { acknowledgement: good.acknowledgement.wrapping_add(1), ..good.clone() }),
        ("another client's", Segment { source: client(family, 40_001), ..good.clone() }),
        ("one that overtook the first", Segment { sequence: good.sequence.wrapping_add(1_412), ..good.clone() }),
        ("one before the first", Segment { sequence: good.sequence.wrapping_sub(1), ..good.clone() }),
    ] {
        let (outcome, _) = node.admit(&frame(&segment.to_bytes()), 0).unwrap();
        assert_eq!(outcome.counted.keys().collect::<Vec<_>>(), [&"drop_admission_cookie"], "{what}");
        assert_eq!(outcome.action, Admission::Drop, "{what}");
    }
}

fn with_a_cookie_the_kernel_is_asked(family: Family) {
    let mut node = node(family);
    let _listener = TcpListener::bind(server(family)).unwrap();
    let cookie = node.dial(client(family, 40_000), ISN);
    for options in [Vec::new(), vec![TcpOption::Timestamps(1, 2)]] {
        let segment = Segment { options, ..marked(client(family, 40_000), cookie) };
        assert_dropped(&mut node, &segment, "drop_admission_refused");
    }
}

/// Two ends of a connection within the node; the second is the service's.
fn connected(family: Family) -> (TcpListener, TcpStream, TcpStream) {
    let listener = TcpListener::bind(server(family)).unwrap();
    let theirs = TcpStream::connect(server(family)).unwrap();
    let (ours, _) = listener.accept().unwrap();
    (listener, theirs, ours)
}

fn a_socket_that_is_there_gets_its_segment_unmarked(family: Family) {
    let mut node = node(family);
    let (_listener, theirs, _ours) = connected(family);
    let source = theirs.local_addr().unwrap();
    for flags in [Flags::ACK, Flags::ACK | Flags::PSH, Flags::ACK | Flags::FIN] {
        let options = vec![TcpOption::Timestamps(1, 2)];
        let sent = Segment { flags, options, ..marked(source, 4_711) };
        let (outcome, _) = node.admit(&frame(&sent.to_bytes()), 0).unwrap();
        outcome.assert(Admission::Next, &["admitted_before"]);
        // The mark is gone, its checksum is right, and nothing else has changed.
        assert_eq!(outcome.frame, frame(&Segment { reserved: 0, ..sent }.to_bytes()));
    }
}

/// Asserts that a marked segment with a valid cookie becomes a RST that closes the socket which expects `expected`.
fn assert_closes(node: &mut Node, from: SocketAddr, expected: u32) {
    let cookie = node.dial(from, ISN);
    let options = vec![TcpOption::Timestamps(1, 2)];
    let sent = Segment { options, ..marked(from, cookie) };
    let arriving = frame(&sent.to_bytes());
    // One that has been round already does not go round again, nor does it keep its mark.
    let (outcome, mark) = node.admit(&arriving, SECOND_TRY).unwrap();
    outcome.assert(Admission::Drop, &["drop_stale_socket"]);
    assert_eq!(mark, 0);

    let (outcome, mark) = node.admit(&arriving, 0).unwrap();
    outcome.assert(Admission::Next, &["stale_socket_closed"]);
    assert_eq!(mark, 0);
    assert_eq!(outcome.frame[..14], arriving[..14]);
    let expected = Segment { sequence: expected, window: 0, ..Segment::new(from, sent.destination, Flags::RST) };
    assert_eq!(segment_in(&outcome.frame), expected);
}

fn an_older_socket_is_closed_with_the_number_it_expects(family: Family) {
    let mut node = node(family);
    let (_listener, theirs, ours) = connected(family);
    assert_closes(&mut node, theirs.local_addr().unwrap(), expects(&ours));
}

/// The sequence number alone is a little behind what the old socket expects: ports used again by a client that counts on.
/// And the acknowledgement number alone, which takes some looking for: it is as good as random.
fn a_number_that_is_near_by_chance_saves_no_older_socket(family: Family) {
    let mut node = node(family);
    let (_listener, theirs, ours) = connected(family);
    let from = theirs.local_addr().unwrap();
    let (expected, unacknowledged) = (expects(&ours), sends(&ours));
    let near = expected.wrapping_sub(1_000);
    let cookie = node.dial(from, near);
    assert_closed(&mut node, &marked_from(from, near, cookie));
    let (isn, cookie) = (0..100_000)
        .map(|step| expected.wrapping_add(0x4000_0000 + step))
        .map(|isn| (isn, node.dial(from, isn)))
        .find(|(_, cookie)| unacknowledged.wrapping_sub(cookie.wrapping_add(1)) < 1 << 20)
        .expect("one in 4096 cookies is near");
    assert_closed(&mut node, &marked_from(from, isn, cookie));
}

/// A request in two segments, of which the second has a sequence number that the cookie fits as well.
fn what_follows_the_first_segment_and_fits_the_cookie_by_chance_closes_nothing(family: Family) {
    let mut node = node(family);
    let (_listener, theirs, ours) = connected(family);
    let from = theirs.local_addr().unwrap();
    let (expected, unacknowledged) = (expects(&ours), sends(&ours));
    let (isn, cookie) = (0..1 << 19)
        .map(|step| expected.wrapping_add(step).wrapping_sub(1))
        .map(|isn| (isn, node.dial(from, isn)))
        .find(|(_, cookie)| unacknowledged.wrapping_sub(cookie.wrapping_add(1)) < 1 << 20)
        .expect("one in 4096 cookies is near");
    let sent = marked_from(from, isn, cookie);
    let (outcome, _) = node.admit(&frame(&sent.to_bytes()), 0).unwrap();
    outcome.assert(Admission::Next, &["admitted_before"]);
    assert_eq!(outcome.frame, frame(&Segment { reserved: 0, ..sent }.to_bytes()));
}

/// A segment for a service whose header is longer than itself.
fn what_is_malformed_is_dropped(family: Family) {
    let mut node = node(family);
    let _listener = TcpListener::bind(server(family)).unwrap();
    let mut broken = frame(&Segment { payload: Vec::new(), ..marked(client(family, 40_000), 4_711) }.to_bytes());
    broken[ETHERNET + family.header_length() + 12] = 15 << 4 | MARK;
    let (outcome, _) = node.admit(&broken, 0).unwrap();
    outcome.assert(Admission::Drop, &["drop_malformed"]);
}

fn a_socket_in_time_wait_is_closed_with_the_number_it_expects(family: Family) {
    let mut node = node(family);
    let (_listener, theirs, ours) = connected(family);
    let source = theirs.local_addr().unwrap();
    // Who closes first waits. Once the other side has closed too, it expects what comes after that FIN.
    ours.shutdown(Shutdown::Write).unwrap();
    let before_fin = {
        let other = ours.try_clone().unwrap();
        let number = expects(&other);
        nix::sys::socket::setsockopt(&other, nix::sys::socket::sockopt::TcpRepair, &0).unwrap();
        number
    };
    drop(theirs);
    drop(ours);
    let table = if family == Family::V4 { "tcp" } else { "tcp6" };
    // Of the service's end: local port, remote port, state 06.
    let (local, remote) = (format!(":{:04X}", server(family).port()), format!(":{:04X}", source.port()));
    until("the socket waits", || {
        let text = std::fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap();
        text.lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>())
            .any(|row| row.len() > 3 && row[1].ends_with(&local) && row[2].ends_with(&remote) && row[3] == "06")
    });
    assert_closes(&mut node, source, before_fin.wrapping_add(1));
}
