//! Makes Rust types of the messages in `proto/`.

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    prost_build::Config::new()
        // Contents are handed on, not looked into: shared bytes make that free.
        .bytes(["."])
        // The same message is the same bytes, always.
        .btree_map(["."])
        // Written by hand, for it keeps fields that it does not know.
        .extern_path(".openim.sdkws.MsgData", "crate::message::sdkws::MsgData")
        .compile_protos(&["proto/openim/sdkws.proto", "proto/openim/msg.proto"], &["proto"])
}
