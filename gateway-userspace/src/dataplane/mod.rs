//! The kernel side as userspace sees it; the only place that touches BPF.
//!
//! * [`object`]: the compiled programs, linked to this kernel's function where they call it;
//! * [`kernel_types`]: what that linking looks up in the kernel's BTF;
//! * [`programs`]: loading them, or finding them loaded, with the pinned maps of an earlier run adopted;
//! * [`pins`]: the directory they are pinned in;
//! * [`btf`]: their types, for maps made later;
//! * [`privileges`]: which capabilities all that takes;
//! * [`attach`]: putting them onto interfaces, or a newer version in the place of an older one;
//! * [`maps`]: typed access to the maps;
//! * [`held`]: packets of held connections, and having them arrive once more;
//! * [`moves`]: connections on the move, entry by entry;
//! * [`publish`]: services, nodes, secrets and ring into the maps, in an order that no packet can trip over;
//! * [`element`]: reading a large element of a map;
//! * [`numbers`]: which number a service has;
//! * [`readings`], [`walk`]: reading the maps beside whoever writes them; walking the flow table;
//! * [`inspect`]: what is pinned, for those who only look;
//! * [`ageing`]: which flows have ended.
//!
//! Promise 4, *the data path outlives the agent*, lives here: everything is pinned, a restart adopts what is pinned and
//! replaces programs in place, and only [`attach::uninstall`] takes anything off an interface.

pub mod ageing;
pub mod attach;
mod btf;
mod element;
pub mod held;
pub mod inspect;
pub mod kernel_types;
pub mod maps;
pub mod moves;
pub mod numbers;
pub mod object;
mod pins;
pub mod privileges;
pub mod programs;
pub mod publish;
pub mod readings;
pub mod walk;

pub use pins::mount_bpf_file_system;
pub use programs::{Dataplane, Settings};
