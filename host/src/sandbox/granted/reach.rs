//! Which addresses a request may be sent to: what a name that is granted may stand for.
//!
//! Whoever owns a name says where it leads, and may say that it leads to the host's own machine or to the service that
//! tells a machine in a cloud its credentials. So a name leads to neither, unless the grant says so itself.
//!
//! Invariant: what is looked at is the address that is connected to, and not the name a second time.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What clouds answer their machines at, outside of the link-local range: Alibaba, Azure, Oracle.
const OF_CLOUDS: [Ipv4Addr; 3] =
    [Ipv4Addr::new(100, 100, 100, 200), Ipv4Addr::new(168, 63, 129, 16), Ipv4Addr::new(192, 0, 0, 192)];
/// The same over IPv6: AWS (the machine's, and that of a pod), Google, Oracle, Scaleway.
const OF_CLOUDS_V6: [Ipv6Addr; 5] = [
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23),
    Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254),
    Ipv6Addr::new(0xfd00, 0xc1, 0, 0, 0, 0, 0xa9fe, 0xa9fe),
    Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42),
];

/// Where the host of a request may be, by its grant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reach {
    /// The grant names the address.
    Address(IpAddr),
    /// The grant names `localhost`, and no other machine answers to that.
    ThisMachine,
    /// The grant has another name: it leads to other machines, and to none that every machine finds at the same address.
    Elsewhere,
}

impl Reach {
    /// Whether a request may be sent to an address.
    pub(super) fn allows(self, address: IpAddr) -> bool {
        match self {
            Self::Address(granted) => granted == address.to_canonical(),
            Self::ThisMachine => address.to_canonical().is_loopback(),
            Self::Elsewhere => is_elsewhere(address),
        }
    }
}

fn is_elsewhere(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => is_elsewhere_v4(address),
        IpAddr::V6(address) => {
            let own = address.is_unspecified()
                || address.is_loopback()
                || address.is_unicast_link_local()
                || address.is_multicast()
                || OF_CLOUDS_V6.contains(&address);
            !own && embedded(address).is_none_or(is_elsewhere_v4)
        }
    }
}

fn is_elsewhere_v4(address: Ipv4Addr) -> bool {
    // All of 0.0.0.0/8 is `this network`, and Linux takes 0.0.0.0 for this machine.
    let [first, ..] = address.octets();
    let own = first == 0
        || address.is_loopback()
        || address.is_link_local()
        || address.is_multicast()
        || address.is_broadcast()
        || OF_CLOUDS.contains(&address);
    !own
}

/// The IPv4 address that a gateway would send on to: of NAT64, 6to4, and the old form of an address that is mapped.
fn embedded(address: Ipv6Addr) -> Option<Ipv4Addr> {
    let of = |high: u16, low: u16| Ipv4Addr::from_bits(u32::from(high) << 16 | u32::from(low));
    match address.segments() {
        [0x64, 0xff9b, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0, 0, high, low] => Some(of(high, low)),
        [0x2002, high, low, ..] => Some(of(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn allows(reach: Reach, address: &str) -> bool {
        reach.allows(address.parse().unwrap())
    }

    #[test]
    fn a_name_leads_to_no_address_that_is_the_same_on_every_machine() {
        let refused = [
            "0.0.0.0",
            "0.1.2.3",
            "127.0.0.1",
            "127.8.9.10",
            "169.254.169.254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "224.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "fe80::1",
            "ff02::1",
            "fd00:ec2::254",
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:c1::a9fe:a9fe",
            "fd00:42::42",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "::127.0.0.1",
            "64:ff9b::169.254.169.254",
            "2002:7f00:1::",
            "2002:a9fe:a9fe::1",
        ];
        for address in refused {
            assert!(!allows(Reach::Elsewhere, address), "{address}");
        }
        // An operator's own network is what most grants are for.
        let allowed =
            ["10.0.0.7", "192.168.1.1", "172.16.0.1", "100.64.0.1", "93.184.216.34", "fd12::7", "2001:db8::1"];
        for address in allowed {
            assert!(allows(Reach::Elsewhere, address), "{address}");
        }
    }

    #[test]
    fn a_grant_that_names_an_address_or_localhost_is_meant_so() {
        let metadata = Reach::Address([169, 254, 169, 254].into());
        assert!(allows(metadata, "169.254.169.254") && allows(metadata, "::ffff:169.254.169.254"));
        assert!(!allows(metadata, "169.254.169.253") && !allows(metadata, "127.0.0.1"));
        for (address, expected) in [("127.0.0.1", true), ("::1", true), ("10.0.0.7", false), ("169.254.169.254", false)]
        {
            assert_eq!(allows(Reach::ThisMachine, address), expected, "{address}");
        }
    }
}
