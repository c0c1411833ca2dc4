//! What an action takes: stopping a session, taking it out of the kernel, putting it in, going on. Each is one call that
//! ends with the session whole, in one state or the other.

use std::{io, net::TcpStream as StdStream, os::fd::OwnedFd, time::Instant};

use bytes::Bytes;
use ringsteer_handoff::event::Failure;
use ringsteer_tcp_repair::{Error, Fault, put_in, take_out};
use tokio::net::TcpStream;

use super::{
    piece::{Copied, Ends, Load, Packed, Parcel, PieceState, Rest, Silent},
    remains::Remains,
};
use crate::{
    gateway::{
        misplaced::Misplaced,
        moving::{Moving, Sessions},
    },
    ring::NodeAddress,
    session::suspended::Suspended,
};

/// A session that has stopped, with the ends of its connection.
///
/// # Errors
/// If the connection has no ends any more; the session goes on, and will notice.
pub(super) fn at_rest(moving: Moving) -> io::Result<Rest> {
    let Moving { stream, suspended, place } = moving;
    match Ends::of(&stream) {
        Ok(flow) => Ok(Rest { stream, load: Load::Session(Box::new(suspended), place), flow, since: Instant::now() }),
        Err(error) => {
            place.resume(stream, suspended);
            Err(error)
        }
    }
}

/// A session that was not taken out, and goes on unless it is over.
#[derive(Debug)]
pub(super) struct NotTaken {
    /// None if it is over.
    pub(super) rest: Option<Box<Rest>>,
    pub(super) failure: Failure,
}

/// Takes a session out of the kernel, and gives what travels. The socket knows what its client acknowledged first, unless
/// somebody said so. Blocks for some system calls.
pub(super) fn take(rest: Rest, first_ack: Option<u32>) -> Result<(Silent, Vec<u8>), NotTaken> {
    let Rest { stream, load, flow, since } = rest;
    let socket = match stream.into_std() {
        Ok(stream) => OwnedFd::from(stream),
        Err(error) => {
            tracing::warn!("{}: its session is lost, for its socket cannot be had: {error}", flow.client);
            return Err(NotTaken { rest: None, failure: Failure::Over });
        }
    };
    match take_out(socket) {
        Ok((taken, tcp)) => {
            let packed = match &load {
                Load::Session(suspended, _) => Packed::Session(suspended.to_bytes()),
                Load::Newcomer(asked) => Packed::Newcomer(asked.travelling()),
            };
            let first_ack = first_ack.unwrap_or_else(|| taken.first_acknowledged());
            let parcel = Parcel { tcp, first_ack, load: packed };
            let bytes = postcard::to_stdvec(&parcel).expect("a vector takes all bytes, and the types are plain");
            Ok((Silent { to: None, taken, first_ack, load, flow, since }, bytes))
        }
        Err(refused) => {
            tracing::debug!("{}: cannot be moved: {}", flow.client, refused.error);
            let failure = if lasts(&refused.error) { Failure::Never } else { Failure::Again };
            match stream_of(refused.socket) {
                Ok(stream) => Err(NotTaken { rest: Some(Box::new(Rest { stream, load, flow, since })), failure }),
                Err(_) => Err(NotTaken { rest: None, failure: Failure::Over }),
            }
        }
    }
}

/// Whether trying again is of no use. A connection that is closing will be over soon, and its session with it.
fn lasts(error: &Error) -> bool {
    matches!(error, Error::NotTcp | Error::Layered) || error.fault() == Fault::Host
}

/// What stands still goes on here: a session runs, a newcomer waits as before. None if it is lost.
pub(super) fn go_on(stream: TcpStream, load: Load) -> Option<PieceState> {
    match load {
        Load::Session(suspended, place) => {
            let table = place.id()?;
            place.resume(stream, *suspended);
            Some(PieceState::Runs(table))
        }
        Load::Newcomer(asked) => Some(PieceState::Waits(Box::new(Misplaced { stream, asked }))),
    }
}

/// Takes a silent session up again, in the gateway that had it. None if it is lost.
pub(super) fn revive(silent: Silent) -> Option<PieceState> {
    let Silent { taken, load, flow, .. } = silent;
    let stream = match taken.resume() {
        Ok(socket) => stream_of(socket),
        Err(refused) => Err(io::Error::other(refused.error)),
    };
    match stream {
        Ok(stream) => go_on(stream, load),
        Err(error) => {
            tracing::warn!("{}: its session is lost, for its socket does not go on: {error}", flow.client);
            None
        }
    }
}

/// Gives a silent session up, for it is another node's, by its so manieth move.
pub(super) fn give_up(silent: Silent, to: Option<NodeAddress>, time: u32, remains: &Remains) {
    let Silent { taken, load, flow, .. } = silent;
    match taken.give_up() {
        Ok(given_up) => remains.keep(flow, given_up, Instant::now()),
        // The other node has it as it was. If it had moved on, its client will notice a gap and give up.
        Err(kept) => tracing::warn!("{}: its connection went on while it was held: {}", flow.client, kept.error),
    }
    match load {
        Load::Session(_, place) => {
            // Whoever waits for what was kept hears that the session is not here, and where it is.
            let luggage = match to {
                Some(to) => place.leave_for(to, time),
                None => place.leave(),
            };
            if luggage.farewell.is_some() {
                tracing::info!("{}: was to be ended here, and has moved; the new owner judges anew", flow.client);
            }
        }
        Load::Newcomer(asked) => asked.gone(),
    }
}

/// Makes a copy of what has travelled. Blocks for some system calls.
pub(super) fn make(sessions: &Sessions, remains: &Remains, bytes: &[u8], max_message: usize) -> Option<Copied> {
    let parcel: Parcel = postcard::from_bytes(bytes).inspect_err(|error| warn(&"the parcel", error)).ok()?;
    let client = parcel.tcp.peer;
    let packed = match parcel.load {
        Packed::Session(bytes) => {
            let suspended =
                Suspended::from_bytes(&bytes, max_message).inspect_err(|error| warn(&client, error)).ok()?;
            Err(Box::new(suspended))
        }
        Packed::Newcomer(travelling) => Ok(sessions.arrived(travelling).or_else(|| {
            tracing::warn!("{client}: cannot be let in here, for the service that it came to is not served");
            None
        })?),
    };
    let flow = Ends { client, service: parcel.tcp.local };
    // It may have been here a moment ago.
    remains.remove(flow);
    let put = put_in(&parcel.tcp).inspect_err(|error| warn(&client, error)).ok()?;
    let load = match packed {
        Ok(asked) => Load::Newcomer(asked),
        // Only now: nobody is to wait for a session that cannot come.
        Err(suspended) => {
            let place = sessions.expect(&suspended.user, suspended.card.clone());
            Load::Session(suspended, place)
        }
    };
    Some(Copied { put, first_ack: parcel.first_ack, load, flow })
}

fn warn(what: &dyn std::fmt::Display, error: &dyn std::fmt::Display) {
    tracing::warn!("{what}: its session cannot be taken over: {error}");
}

/// Has a copy go on: it is ours. None if it could not.
pub(super) fn begin(copied: Copied) -> Option<PieceState> {
    let Copied { put, mut load, flow, .. } = copied;
    let live = put.activate().inspect_err(|error| warn(&flow.client, error)).ok()?;
    let stream = stream_of(live.socket).inspect_err(|error| warn(&flow.client, error)).ok()?;
    if let Load::Session(suspended, _) = &mut load
        && !live.unsent.is_empty()
    {
        // What had been written before comes first. To a newcomer nothing was written.
        suspended.core.outgoing = Bytes::from([&live.unsent[..], &suspended.core.outgoing[..]].concat());
    }
    go_on(stream, load)
}

fn stream_of(socket: OwnedFd) -> io::Result<TcpStream> {
    let stream = StdStream::from(socket);
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}
