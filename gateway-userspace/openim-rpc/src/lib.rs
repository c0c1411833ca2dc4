//! OpenIM's gRPC interfaces, as its own services call and offer them.
#![forbid(unsafe_code)]
