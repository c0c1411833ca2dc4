//! OpenIM's protocol, as unmodified clients and pushers speak it. Pure: bytes in, values out.

pub mod request;
