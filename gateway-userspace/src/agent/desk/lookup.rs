//! Where a user belongs: by userspace's ring, and by what really stands in the kernel's maps.

use anyhow::{Context as _, Result};
use ringsteer_ebpf::{layout::node::SHOWN_IDENTITY, ring as search};

use super::flows::unmapped;
use crate::{
    agent::shared::Agent,
    control::{KernelPlacement, Lookup, Placement},
    ring::{Algorithm, Epoch, NodeAddress, Ring, ShortDigest},
};

impl Agent {
    pub(in crate::agent) fn lookup(&self, user: &str) -> Lookup {
        let kernel = self.kernel_placement(user);
        // Read after the kernel's, and again if they are not of one ring: one may have been published in between.
        let (kernel, in_force) = match kernel {
            Ok(kernel) if Some(kernel.epoch) != self.ring_name().map(|name| name.epoch) => {
                let in_force = self.in_force();
                (self.kernel_placement(user), in_force)
            }
            kernel => (kernel, self.in_force()),
        };
        let placement = |ring: &Option<Ring>| ring.as_ref().map(|ring| placement(ring, user));
        let (userspace, previous) = (placement(&in_force.ring), placement(&in_force.previous));
        let agree = match (&kernel, &userspace) {
            (Ok(kernel), Some(ours)) => {
                (kernel.epoch, kernel.node) == (ours.ring.epoch, ours.number.get().into())
                    && kernel.digest == ours.ring.digest.short().to_string()
                    && kernel.address == Some(ours.address)
            }
            _ => false,
        };
        let (kernel, kernel_error) = match kernel {
            Ok(kernel) => (Some(kernel), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Lookup { user: user.to_owned(), userspace, kernel, kernel_error, previous, agree }
    }

    /// Searches the kernel's points as its program does.
    fn kernel_placement(&self, user: &str) -> Result<KernelPlacement> {
        let ring = self.dataplane.lock().expect("nothing panics with the lock held").maps.ring_in_force()?;
        let algorithm = Algorithm::from_kernel_id(ring.algorithm).with_context(|| {
            format!("the kernel's ring is of algorithm {}, which this version does not know", ring.algorithm)
        })?;
        let position = algorithm.hash_key(user.as_bytes());
        let point = *search::owner(&ring, position).context("the kernel's ring has no points")?;
        let index = ring.points[..ring.point_count as usize].partition_point(|other| other.hash < point.hash);
        let node = self.readings.nodes.get(&point.node, 0).ok();
        let identity = node.map(|node| {
            let length = (node.identity_length as usize).min(SHOWN_IDENTITY);
            String::from_utf8_lossy(&node.identity[..length]).into_owned()
        });
        Ok(KernelPlacement {
            epoch: Epoch(ring.epoch),
            digest: ShortDigest::from(ring.digest).to_string(),
            algorithm,
            point_count: ring.point_count,
            position,
            point_index: index as u32,
            point: point.hash,
            node: point.node,
            identity,
            address: node.and_then(|node| NodeAddress::new(unmapped(&node.address)).ok()),
        })
    }
}

/// What `ring` says about `user`.
fn placement(ring: &Ring, user: &str) -> Placement {
    let owner = ring.owner(user.as_bytes());
    Placement {
        ring: ring.name(),
        position: ring.algorithm().hash_key(user.as_bytes()),
        number: owner.number,
        identity: owner.identity.to_string(),
        address: owner.address,
    }
}
