//! nftables transactions over netlink.
