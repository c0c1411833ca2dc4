//! OpenIM's protocol, as unmodified clients and pushers speak it. Pure: bytes in, values out.
#![forbid(unsafe_code)]
