//! The state of a half-open connection, kept by the client (promise: *a SYN never creates state*).
//!
//! The SYN+ACK's initial sequence number is the cookie; the client brings it back, plus one, in the acknowledgement
//! number of everything it sends until the server has spoken:
//!
//! ```text
//!  31            18 17             5 4    3 2     0
//! +----------------+----------------+------+-------+
//! |  MAC of ISN 14 | MAC of tuple 13| slot |  MSS  |
//! +----------------+----------------+------+-------+
//! ```
//!
//! * **MSS**: the class of the largest segment the client takes, see [`MSS_CLASSES`].
//! * **slot**: when the cookie was made, modulo four; the neighbours of the present slot are valid.
//! * **MAC of the tuple**: keyed hash of addresses, ports and slot.
//! * **MAC of the ISN**: the same, chained with the client's initial sequence number. Only the segment that directly
//!   follows the SYN fits it.
//!
//! Two MACs instead of one, because a segment that *overtook* the first one must not be answered with RST: it fits the
//! first MAC but not the second ([`Verdict::Early`]). Admission asks for both, 27 bits that change every slot.
//!
//! Window scale and SACK do not fit; they ride in the low bits of the timestamp that the client echoes (as Linux does,
//! `cookie_init_timestamp`), see [`Options`]. A client without timestamps gets neither.

use crate::{
    layout::{Address, secret::Secrets},
    siphash::{self, SipKey},
};

/// The segment sizes a cookie can remember, ascending. The class of a client is the largest that is not above its MSS.
/// The first two are the least that the kernel admits a connection with (`bpf_sk_assign_tcp_reqsk`) over IPv4 and over
/// IPv6, and the defaults there (RFC 9293 section 3.7.1).
pub const MSS_CLASSES: [u16; 8] = [536, 1220, 1300, 1360, 1400, 1440, 1460, 8900];

/// log2 of the nanoseconds a slot lasts, unless configured: 2³⁶ ns = 68.7 s.
pub const DEFAULT_SLOT_SHIFT: u8 = 36;

/// The window scale we offer: windows up to 8 MiB.
pub const RCV_WSCALE: u8 = 7;

/// The receive window in a SYN+ACK, in bytes (never scaled there, RFC 7323 section 2.2).
pub const SYN_ACK_WINDOW: u16 = 65_535;

/// A connection as both ends name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tuple {
    /// The client's address.
    pub client: Address,
    /// The virtual address.
    pub server: Address,
    /// The client's port.
    pub client_port: u16,
    /// The service's port.
    pub server_port: u16,
}

/// What a segment's acknowledgement number proves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is the first segment after a SYN that this fleet answered; the client takes segments of this many bytes.
    Valid {
        /// From [`MSS_CLASSES`].
        mss: u16,
    },
    /// It belongs to such a connection but is not its first segment.
    Early,
    /// Nothing.
    Foreign,
}

impl Verdict {
    /// Whether the cookie could prove more under another secret.
    #[inline(always)]
    pub fn may_be_surpassed(self) -> bool {
        !matches!(self, Self::Valid { .. })
    }

    /// Of two verdicts on one segment, under two secrets, the one by which the cookie proves more.
    #[inline(always)]
    pub fn or(self, other: Self) -> Self {
        match (self, other) {
            (Self::Valid { .. }, _) | (_, Self::Foreign) => self,
            _ => other,
        }
    }
}

/// The class of a client's MSS.
#[inline(always)]
pub fn mss_class(mss: u16) -> u32 {
    let mut class = 0;
    let mut candidate = 1;
    while candidate < MSS_CLASSES.len() {
        if MSS_CLASSES[candidate] <= mss {
            class = candidate as u32;
        }
        candidate += 1;
    }
    class
}

#[inline(always)]
fn halves(address: &Address) -> [u64; 2] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p] = *address;
    [u64::from_le_bytes([a, b, c, d, e, f, g, h]), u64::from_le_bytes([i, j, k, l, m, n, o, p])]
}

#[inline(always)]
fn tuple_mac(key: SipKey, tuple: &Tuple, slot: u32) -> u64 {
    let [client_high, client_low] = halves(&tuple.client);
    let [server_high, server_low] = halves(&tuple.server);
    let rest = (slot as u64) << 32 | (tuple.client_port as u64) << 16 | tuple.server_port as u64;
    siphash::hash(key, [client_high, client_low, server_high, server_low, rest])
}

#[inline(always)]
fn assemble(key: SipKey, tuple_mac: u64, slot: u32, isn: u32, class: u32) -> u32 {
    let isn_mac = siphash::hash(key, [tuple_mac, (isn as u64) << 32 | class as u64]);
    (isn_mac as u32) << 18 | (tuple_mac as u32 & 0x1fff) << 5 | (slot & 3) << 3 | class
}

/// The cookie for a SYN with the initial sequence number `isn` from a client of this MSS class, made in `slot`.
#[inline(always)]
pub fn make(key: SipKey, tuple: &Tuple, slot: u32, isn: u32, class: u32) -> u32 {
    assemble(key, tuple_mac(key, tuple, slot), slot, isn, class & 7)
}

/// What a segment with these sequence and acknowledgement numbers proves in slot `now`: the most that it proves under
/// either secret. One cookie in 8192 happens to fit the tuple under the secret that it was not made with.
#[inline(always)]
pub fn check(secrets: &Secrets, tuple: &Tuple, now: u32, sequence: u32, acknowledgement: u32) -> Verdict {
    let Some(slot) = slot_of(acknowledgement, now) else { return Verdict::Foreign };
    let prove = |key| check_one(key, tuple, slot, sequence, acknowledgement);
    match prove(secrets.current()) {
        verdict if verdict.may_be_surpassed() && secrets.are_changing() => verdict.or(prove(secrets.previous())),
        verdict => verdict,
    }
}

/// The slot nearest to `now` that the cookie in an acknowledgement number names. `None` if it is not valid any more; two
/// slots away could be either side, and is too far on both.
#[inline(always)]
pub fn slot_of(acknowledgement: u32, now: u32) -> Option<u32> {
    match (acknowledgement.wrapping_sub(1) >> 3).wrapping_sub(now) & 3 {
        0 => Some(now),
        1 => Some(now.wrapping_add(1)),
        3 => Some(now.wrapping_sub(1)),
        _ => None,
    }
}

/// [`check`] under one secret and for one slot.
#[inline(always)]
pub fn check_one(key: SipKey, tuple: &Tuple, slot: u32, sequence: u32, acknowledgement: u32) -> Verdict {
    let cookie = acknowledgement.wrapping_sub(1);
    let mac = tuple_mac(key, tuple, slot);
    if (mac as u32 & 0x1fff) != (cookie >> 5 & 0x1fff) {
        return Verdict::Foreign;
    }
    let class = cookie & 7;
    if assemble(key, mac, slot, sequence.wrapping_sub(1), class) == cookie {
        Verdict::Valid { mss: MSS_CLASSES[class as usize & 7] }
    } else {
        Verdict::Early
    }
}

/// What a client offered in its SYN, as far as it needs to be remembered beyond the cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Its window scale (RFC 7323 section 2), 0 to 14, if it offered one.
    pub window_scale: Option<u8>,
    /// Whether it can do selective acknowledgements (RFC 2018).
    pub sack: bool,
}

/// How a timestamp says "no window scale".
const NO_SCALE: u32 = 0xf;

/// The largest scale there is (RFC 7323 section 2.3); larger offers mean this one.
const MAX_SCALE: u8 = 14;

impl Options {
    /// The timestamp value of a SYN+ACK made at `clock_ms`, with these options in its low five bits.
    #[inline(always)]
    pub fn into_timestamp(self, clock_ms: u32) -> u32 {
        let scale = match self.window_scale {
            Some(scale) if scale <= MAX_SCALE => scale as u32,
            Some(_) => MAX_SCALE as u32,
            None => NO_SCALE,
        };
        (clock_ms & !0x1f) | (self.sack as u32) << 4 | scale
    }

    /// The options in an echoed timestamp.
    #[inline(always)]
    pub fn from_timestamp(echo: u32) -> Self {
        let scale = echo & 0xf;
        Self { window_scale: if scale == NO_SCALE { None } else { Some(scale as u8) }, sack: echo & 0x10 != 0 }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn secrets() -> impl Strategy<Value = Secrets> {
        any::<([u64; 2], [u64; 2])>().prop_map(|(current, previous)| Secrets { current, previous })
    }

    fn tuple() -> impl Strategy<Value = Tuple> {
        any::<(Address, Address, u16, u16)>().prop_map(|(client, server, client_port, server_port)| Tuple {
            client,
            server,
            client_port,
            server_port,
        })
    }

    proptest! {
        #[test]
        fn the_first_segment_is_valid_in_its_slot_and_the_neighbours(secrets in secrets(), tuple in tuple(), slot: u32, isn: u32, mss: u16, drift in -1i32..=1, use_previous: bool) {
            let key = if use_previous { secrets.previous() } else { secrets.current() };
            let cookie = make(key, &tuple, slot, isn, mss_class(mss));
            let now = slot.wrapping_add_signed(drift);
            let verdict = check(&secrets, &tuple, now, isn.wrapping_add(1), cookie.wrapping_add(1));
            let Verdict::Valid { mss: remembered } = verdict else { panic!("{verdict:?}") };
            prop_assert!(remembered <= mss.max(536));
        }

        #[test]
        fn a_later_segment_is_early_and_never_valid(secrets in secrets(), tuple in tuple(), slot: u32, isn: u32, ahead in 2u32..65_536) {
            let cookie = make(secrets.current(), &tuple, slot, isn, 3);
            let verdict = check(&secrets, &tuple, slot, isn.wrapping_add(ahead), cookie.wrapping_add(1));
            // 14 bits may collide; the kernel then takes an early segment for the first one, which TCP survives.
            prop_assert_ne!(verdict, Verdict::Foreign);
        }

        #[test]
        fn two_slots_away_is_foreign(secrets in secrets(), tuple in tuple(), slot: u32, isn: u32) {
            let cookie = make(secrets.current(), &tuple, slot, isn, 0);
            prop_assert_eq!(check(&secrets, &tuple, slot.wrapping_add(2), isn.wrapping_add(1), cookie.wrapping_add(1)), Verdict::Foreign);
        }

        #[test]
        fn options_survive_the_timestamp(scale in proptest::option::of(0u8..=14), sack: bool, clock: u32) {
            let options = Options { window_scale: scale, sack };
            let stamp = options.into_timestamp(clock);
            prop_assert_eq!(Options::from_timestamp(stamp), options);
            prop_assert!(clock ^ stamp < 32);
        }
    }

    /// The tuple fits under the new secret by chance: that must not hide what the cookie proves under the old one.
    #[test]
    fn a_chance_fit_under_the_current_secret_hides_nothing() {
        let secrets = Secrets { current: [1, 2], previous: [3, 4] };
        let (slot, isn) = (7, 1000);
        let (tuple, cookie) = (0..=u16::MAX)
            .map(|client_port| Tuple { client: [1; 16], server: [2; 16], client_port, server_port: 4 })
            .map(|tuple| (tuple, make(secrets.previous(), &tuple, slot, isn, 3)))
            .find(|(tuple, cookie)| {
                check_one(secrets.current(), tuple, slot, isn + 1, cookie.wrapping_add(1)) == Verdict::Early
            })
            .expect("one port in 8192 fits");
        let proves = |secrets, sequence| check(secrets, &tuple, slot, sequence, cookie.wrapping_add(1));
        assert_eq!(proves(&secrets, isn + 1), Verdict::Valid { mss: MSS_CLASSES[3] });
        assert_eq!(proves(&secrets, isn + 2), Verdict::Early);
        // The other way round, what fits the present one is not hidden either.
        let swapped = Secrets { current: secrets.previous, previous: secrets.current };
        assert_eq!(proves(&swapped, isn + 1), Verdict::Valid { mss: MSS_CLASSES[3] });
        let gone = Secrets { current: secrets.current, previous: secrets.current };
        assert_eq!(proves(&gone, isn + 1), Verdict::Early);
    }

    #[test]
    fn guessing_is_as_hopeless_as_the_bits_say() {
        let secrets = Secrets { current: [1, 2], previous: [1, 2] };
        let tuple = Tuple { client: [1; 16], server: [2; 16], client_port: 3, server_port: 4 };
        let mut state = 42u32;
        let (mut valid, mut early) = (0, 0);
        for _ in 0..1_000_000 {
            // xorshift32: any fixed sequence of guesses will do.
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            match check(&secrets, &tuple, 7, 1000, state) {
                Verdict::Valid { .. } => valid += 1,
                Verdict::Early => early += 1,
                Verdict::Foreign => {}
            }
        }
        // Three of four slots are live: one guess in 2^27 * 4/3 is valid, one in 8192 * 4/3 merely not answered.
        assert_eq!(valid, 0);
        assert!((50..150).contains(&early), "{early}");
    }
}
