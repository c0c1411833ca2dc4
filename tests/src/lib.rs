//! The lab and what stands on it.
