//! IPv4 or IPv6: what a test that runs on both is told apart by.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A family of addresses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    #[default]
    V4,
    /// IPv6.
    V6,
}

// === impl Family ===

impl Family {
    /// Both.
    pub const ALL: [Self; 2] = [Self::V4, Self::V6];

    /// The family of an address.
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    /// The address that stands for all of a host's own.
    pub fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => Ipv4Addr::UNSPECIFIED.into(),
            Self::V6 => Ipv6Addr::UNSPECIFIED.into(),
        }
    }

    /// Bits of an address, and so the length of a prefix that holds one host.
    pub fn bits(self) -> u8 {
        match self {
            Self::V4 => 32,
            Self::V6 => 128,
        }
    }

    /// The segment size (MSS) that a kernel offers on a link of the lab, in bytes: 1500 less the fixed headers.
    pub fn segment_max(self) -> u16 {
        match self {
            Self::V4 => 1460,
            Self::V6 => 1440,
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// Makes two tests, `ipv4` and `ipv6`, of each of these functions, in a module of the function's name: a function takes
/// the [`Family`] and gives what a test may give.
#[macro_export]
macro_rules! on_each_family {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            #[test]
            fn ipv4() -> impl ::std::process::Termination {
                super::$test($crate::lab::Family::V4)
            }

            #[test]
            fn ipv6() -> impl ::std::process::Termination {
                super::$test($crate::lab::Family::V6)
            }
        }
    )+};
}

/// Makes four tests of each of these functions, in a module of the function's name: `ipv4` and `ipv6` in the ordinary
/// mode, `accept_ipv4` and `accept_ipv6` in mode "accept". A function takes the [`Family`] and the mode and gives what a
/// test may give.
#[macro_export]
macro_rules! on_each_family_and_in_each_mode {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use ::ringsteer::config::Mode;

            #[test]
            fn ipv4() -> impl ::std::process::Termination {
                super::$test($crate::lab::Family::V4, Mode::LateBinding)
            }

            #[test]
            fn ipv6() -> impl ::std::process::Termination {
                super::$test($crate::lab::Family::V6, Mode::LateBinding)
            }

            #[test]
            fn accept_ipv4() -> impl ::std::process::Termination {
                super::$test($crate::lab::Family::V4, Mode::Accept)
            }

            #[test]
            fn accept_ipv6() -> impl ::std::process::Termination {
                super::$test($crate::lab::Family::V6, Mode::Accept)
            }
        }
    )+};
}

/// Makes four tests of each of these functions, in a module of the function's name: a function takes the [`Family`] of
/// the clients, and so of what is inside the tunnel, and that of the nodes, and so of the tunnel, and gives what a test may give.
#[macro_export]
macro_rules! on_each_mix {
    ($($test:ident),+ $(,)?) => {$(
        mod $test {
            use $crate::lab::Family::{V4, V6};

            #[test]
            fn ipv4_inside_ipv4() -> impl ::std::process::Termination {
                super::$test(V4, V4)
            }

            #[test]
            fn ipv4_inside_ipv6() -> impl ::std::process::Termination {
                super::$test(V4, V6)
            }

            #[test]
            fn ipv6_inside_ipv4() -> impl ::std::process::Termination {
                super::$test(V6, V4)
            }

            #[test]
            fn ipv6_inside_ipv6() -> impl ::std::process::Termination {
                super::$test(V6, V6)
            }
        }
    )+};
}
