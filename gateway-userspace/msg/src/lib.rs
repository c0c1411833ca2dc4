//! The small message service: sequence numbers, storage and catch-up behind OpenIM's `msg` interface.
#![forbid(unsafe_code)]
