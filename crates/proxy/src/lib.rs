//! Service virtual IPs by nftables.
