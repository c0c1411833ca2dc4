//! Settings, clock, capabilities, files.

use std::{fs, os::unix::fs::MetadataExt as _, path::Path};

use nix::{
    fcntl::AT_FDCWD,
    fcntl::AtFlags,
    unistd::{AccessFlags, faccessat},
};

use crate::{
    dataplane::privileges,
    doctor::{
        facts::{Clock, Fact, Readability, Settings, Unknown},
        subject::PrivateFile,
    },
};

/// The values of these settings, by their paths below `/proc/sys`.
pub fn settings(names: impl IntoIterator<Item = String>) -> Settings {
    let read = |name: &str| {
        let path = Path::new("/proc/sys").join(name);
        let value = fs::read_to_string(&path).map_err(|error| Unknown::file(&path, &error))?;
        Ok(value.trim().to_owned())
    };
    Settings(names.into_iter().map(|name| (name.clone(), read(&name))).collect())
}

/// The IPv6 routes, one a line, flags and interface last.
const IPV6_ROUTES: &str = "/proc/net/ipv6_route";

/// The interfaces with default routes that the kernel took from router advertisements. Not those of a daemon that takes
/// them in the kernel's place.
pub fn learnt_routes() -> Fact<Vec<String>> {
    match fs::read_to_string(IPV6_ROUTES) {
        Ok(routes) => Ok(learnt_on(&routes).map(str::to_owned).collect()),
        // A kernel without IPv6.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(Unknown::file(IPV6_ROUTES, &error)),
    }
}

fn learnt_on(routes: &str) -> impl Iterator<Item = &str> {
    /// RTF_DEFAULT and RTF_ADDRCONF, from the kernel's `linux/ipv6_route.h`: what `rt6_purge_dflt_routers` looks for.
    const LEARNT: u32 = 0x0001_0000 | 0x0004_0000;
    routes.lines().filter_map(|line| {
        let mut from_the_end = line.split_ascii_whitespace().rev();
        let (interface, flags) = (from_the_end.next()?, from_the_end.next()?);
        (u32::from_str_radix(flags, 16).ok()? & LEARNT == LEARNT).then_some(interface)
    })
}

/// The clock. Asking changes nothing, so everybody may.
pub fn clock() -> Fact<Clock> {
    // SAFETY: all-zero is a valid `timex`: no modes, which only asks.
    let mut state: libc::timex = unsafe { std::mem::zeroed() };
    // SAFETY: the kernel fills in the struct.
    let result = unsafe { libc::adjtimex(&raw mut state) };
    if result < 0 {
        return Err(Unknown(format!("cannot ask for the clock's state: {}", std::io::Error::last_os_error())));
    }
    Ok(Clock { synchronised: state.status & libc::STA_UNSYNC == 0, tai_offset_s: state.tai })
}

/// Effective capabilities of a process, `self` for this one.
pub fn capabilities(process: &str) -> Fact<u64> {
    let path = Path::new("/proc").join(process).join("status");
    let status = fs::read_to_string(&path).map_err(|error| Unknown::file(&path, &error))?;
    privileges::effective(&status).ok_or_else(|| Unknown(format!("{} shows no capabilities", path.display())))
}

/// Who can read the file.
pub fn readability(file: &PrivateFile) -> Readability {
    let mode = fs::metadata(&file.path).map(|metadata| metadata.mode());
    Readability {
        path: file.path.clone(),
        what: file.what,
        mode: mode.map_err(|error| Unknown::file(&file.path, &error)),
    }
}

/// Whether this process may create files in a directory.
pub fn is_writable(directory: &Path) -> bool {
    faccessat(AT_FDCWD, directory, AccessFlags::W_OK | AccessFlags::X_OK, AtFlags::AT_EACCESS).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process() {
        capabilities("self").unwrap();
        assert!(capabilities("0").is_err());
        let directory = tempfile::tempdir().unwrap();
        assert!(is_writable(directory.path()) && !is_writable(&directory.path().join("none")));
    }

    #[test]
    fn routes_from_advertisements_are_told_from_others() {
        // As Linux 6.18 shows them: a default route that was learnt, the learnt prefix, a static route, an address.
        let zeros = "0".repeat(32);
        let routes = [("00450003", "eth0"), ("004c0001", "eth0"), ("00000003", "eth1"), ("80200001", "lo")]
            .map(|(flags, interface)| {
                format!("{zeros} 00 {zeros} 00 {zeros} 00000400 00000001 00000000 {flags} {interface:>8}\n")
            })
            .concat();
        assert_eq!(learnt_on(&routes).collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(learnt_on("").count() + learnt_on("\n?\n").count(), 0);
    }

    #[test]
    fn settings_are_there_or_not() {
        let found = settings(["net/ipv4/tcp_syncookies".into(), "net/ipv4/no_such_setting".into()]);
        found.number("net/ipv4/tcp_syncookies").unwrap();
        let unknown = found.get("net/ipv4/no_such_setting").unwrap_err();
        assert!(unknown.0.contains("/proc/sys/net/ipv4/no_such_setting"), "{unknown}");
    }

    #[test]
    fn the_clock_can_be_asked() {
        assert!((0..100).contains(&clock().unwrap().tai_offset_s));
    }
}
