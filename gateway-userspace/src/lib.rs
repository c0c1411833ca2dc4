//! ringsteer: eBPF/XDP connection steering for websocket messaging fleets.
