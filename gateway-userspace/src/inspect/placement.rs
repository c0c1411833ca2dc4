//! Where a user belongs: by a ring, and by what really stands in the kernel's maps.

use anyhow::{Context as _, Result};
use ringsteer_ebpf::{layout::ring as image, ring as search};

use super::nodes;
use crate::{
    control::{KernelPlacement, Placement},
    dataplane::readings::Readings,
    ring::{Algorithm, Epoch, Ring, ShortDigest},
};

/// What `ring` says about `user`.
pub fn by_ring(ring: &Ring, user: &str) -> Placement {
    let owner = ring.owner(user.as_bytes());
    Placement {
        ring: ring.name(),
        position: ring.algorithm().hash_key(user.as_bytes()),
        number: owner.number,
        identity: owner.identity.to_string(),
        address: owner.address,
    }
}

/// Searches the kernel's points as its program does.
///
/// # Errors
/// If they are none that can be searched.
pub fn by_kernel(image: &image::Ring, readings: &Readings, user: &str) -> Result<KernelPlacement> {
    let algorithm = algorithm(image)?;
    let position = algorithm.hash_key(user.as_bytes());
    let point = *search::owner(image, position).context("the kernel's ring has no points")?;
    let index = image.points[..image.point_count as usize].partition_point(|other| other.hash < point.hash);
    let node = nodes::one(readings, point.node);
    Ok(KernelPlacement {
        epoch: Epoch(image.epoch),
        digest: ShortDigest::from(image.digest).to_string(),
        algorithm,
        point_count: image.point_count,
        position,
        point_index: index as u32,
        point: point.hash,
        node: point.node,
        address: node.as_ref().and_then(|node| node.address),
        identity: node.map(|node| node.identity),
    })
}

/// Whether kernel and userspace name the same node by the same ring.
pub fn agree(kernel: &KernelPlacement, ours: &Placement) -> bool {
    (kernel.epoch, kernel.node) == (ours.ring.epoch, ours.number.get().into())
        && kernel.digest == ours.ring.digest.short().to_string()
        && kernel.address == Some(ours.address)
}

/// How the kernel's ring hashes.
///
/// # Errors
/// If this version does not know.
pub fn algorithm(image: &image::Ring) -> Result<Algorithm> {
    Algorithm::from_kernel_id(image.algorithm).with_context(|| {
        format!("the kernel's ring is of algorithm {}, which this version does not know", image.algorithm)
    })
}
