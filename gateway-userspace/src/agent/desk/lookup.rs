//! Where a user belongs: by userspace's ring, and by what really stands in the kernel's maps.

use anyhow::Result;

use crate::{
    agent::shared::Agent,
    control::{KernelPlacement, Lookup},
    inspect::placement::{agree, by_kernel, by_ring},
    ring::Ring,
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
        let placement = |ring: &Option<Ring>| ring.as_ref().map(|ring| by_ring(ring, user));
        let (userspace, previous) = (placement(&in_force.ring), placement(&in_force.previous));
        let agree = matches!((&kernel, &userspace), (Ok(kernel), Some(ours)) if agree(kernel, ours));
        let (kernel, kernel_error) = match kernel {
            Ok(kernel) => (Some(kernel), None),
            Err(error) => (None, Some(format!("{error:#}"))),
        };
        Lookup { user: user.to_owned(), userspace, kernel, kernel_error, previous, agree }
    }

    fn kernel_placement(&self, user: &str) -> Result<KernelPlacement> {
        let ring = self.dataplane.lock().expect("nothing panics with the lock held").maps.ring_in_force()?;
        by_kernel(&ring, &self.readings, user)
    }
}
