//! Takes a live TCP connection out of one kernel and puts it into another, by Linux' TCP_REPAIR.
