//! Cookies, made for and checked against the segment in the scratch memory.
//!
//! Global functions, as in [`crate::scan`]: the verifier walks each once, both families and both programs share them,
//! and the hash keeps its words on a stack of its own.

use ringsteer_ebpf::{
    cookie::{self, Tuple, Verdict},
    layout::{secret::Secrets, stats::Counter},
};

use crate::{
    clock,
    maps::{self, Scratch},
};

/// What [`cookie_proof`] returns; anything above is the MSS of a valid cookie.
const FOREIGN: u32 = 0;
const EARLY: u32 = 1;
const UNKNOWN: u32 = 2;

/// What the scratch segment's acknowledgement number proves under the current secret or, if `previous` is not 0, under
/// the one before.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cookie_proof(previous: u32) -> u32 {
    let (Some(scratch), Some(secrets)) = (maps::scratch(), maps::secrets()) else { return UNKNOWN };
    // SAFETY: the scratch memory is this CPU's own.
    let scratch = unsafe { &*scratch };
    let segment = &scratch.segment;
    let Some(slot) = cookie::slot_of(segment.acknowledgement, clock::slot()) else { return FOREIGN };
    let key = if previous == 0 { secrets.current() } else { secrets.previous() };
    // The tuple is read behind the last branch before the hash: across one, the compiler would carry it byte by byte.
    match cookie::check_one(key, &tuple(scratch), slot, segment.sequence, segment.acknowledgement) {
        Verdict::Foreign => FOREIGN,
        Verdict::Early => EARLY,
        Verdict::Valid { mss } => mss as u32,
    }
}

/// The cookie for the scratch segment, a SYN, from a client of this MSS class. 0 without a secret: as good a number as
/// any, and valid for nobody.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn cookie_for(class: u32) -> u32 {
    let (Some(scratch), Some(secrets)) = (maps::scratch(), maps::secrets()) else { return 0 };
    // SAFETY: the scratch memory is this CPU's own.
    let scratch = unsafe { &*scratch };
    cookie::make(secrets.current(), &tuple(scratch), clock::slot(), scratch.segment.sequence, class)
}

/// What the acknowledgement number of the segment read last proves (`cookie::check`).
#[inline(always)]
pub fn of_segment() -> Result<Verdict, Counter> {
    let verdict = named(cookie_proof(0))?;
    if verdict.may_be_surpassed() && maps::secrets().is_some_and(Secrets::are_changing) {
        return Ok(verdict.or(named(cookie_proof(1))?));
    }
    Ok(verdict)
}

/// The verdict that a number stands for.
#[inline(always)]
fn named(proof: u32) -> Result<Verdict, Counter> {
    match proof {
        FOREIGN => Ok(Verdict::Foreign),
        EARLY => Ok(Verdict::Early),
        UNKNOWN => Err(Counter::drop_internal),
        mss => Ok(Verdict::Valid { mss: mss as u16 }),
    }
}

/// The connection the scratch segment belongs to.
#[inline(always)]
fn tuple(scratch: &Scratch) -> Tuple {
    let segment = &scratch.segment;
    Tuple {
        client: bytemuck::cast(segment.client),
        server: bytemuck::cast(segment.server),
        client_port: u16::from_be(segment.client_port),
        server_port: u16::from_be(segment.server_port),
    }
}
