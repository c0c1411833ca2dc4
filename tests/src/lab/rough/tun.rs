//! A TUN device: what the kernel routes to it can be read, what is written to it arrives.

use anyhow::{Context, Result};
use std::fs::File;
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;

nix::ioctl_write_ptr_bad!(
    /// Makes the device `ifr_name` and ties it to the file.
    tun_set_interface,
    libc::TUNSETIFF,
    libc::ifreq
);

/// Makes a device in the calling thread's network namespace. It goes when the file is closed. Reading and writing moves
/// one IP packet each and never blocks.
///
/// # Errors
/// If the kernel has no TUN, the name is taken, or the process lacks CAP_NET_ADMIN.
pub fn create(name: &str) -> Result<File> {
    let file = File::options()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")
        .context("opening /dev/net/tun")?;
    // SAFETY: all bytes zero is a valid `ifreq`.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    assert!(name.len() < request.ifr_name.len(), "interface names end with a zero byte");
    for (to, from) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is a complete `ifreq`, which is what TUNSETIFF reads.
    unsafe { tun_set_interface(file.as_raw_fd(), &request) }
        .with_context(|| format!("making the TUN device {name}"))?;
    Ok(file)
}
