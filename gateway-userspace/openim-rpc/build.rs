//! Makes clients and servers of the services in `proto/`. The messages that clients speak as well come from
//! ringsteer-openim, as Rust types and as definitions.

/// The messages of `openim.msg` that ringsteer-openim has.
const OPENIM_MSG: &[&str] = &[
    "ConversationSeqs",
    "GetConversationsHasReadAndMaxSeqReq",
    "GetConversationsHasReadAndMaxSeqResp",
    "GetLastMessageReq",
    "GetLastMessageResp",
    "GetSeqMessageReq",
    "GetSeqMessageResp",
    "SendMsgReq",
    "SendMsgResp",
    "Seqs",
];

fn main() -> std::io::Result<()> {
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=../openim/proto");
    let mut builder = tonic_prost_build::configure()
        // The same message is the same bytes, always.
        .btree_map(".")
        .extern_path(".openim.sdkws", "::ringsteer_openim::message::sdkws");
    for name in OPENIM_MSG {
        builder =
            builder.extern_path(format!(".openim.msg.{name}"), format!("::ringsteer_openim::message::msg::{name}"));
    }
    builder.compile_protos(
        &["proto/openim/msg_service.proto", "proto/openim/msggateway.proto", "proto/ringsteer/groups.proto"],
        &["proto", "../openim/proto"],
    )
}
